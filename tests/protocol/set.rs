//! A small set of numbers: packs, sessions, frames or chunks.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Sub, SubAssign};

/// Up to sixteen members, so that a state stays small and is hashed fast.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Set(u16);

impl Set {
    /// Nothing.
    pub const EMPTY: Set = Set(0);

    /// The set of these members.
    pub const fn of(members: &[usize]) -> Set {
        let mut bits = 0;
        let mut at = 0;
        while at < members.len() {
            bits |= 1 << members[at];
            at += 1;
        }
        Set(bits)
    }

    /// The members from `first` up to, not including, `end`.
    pub const fn range(first: usize, end: usize) -> Set {
        Set(((1u32 << end) - (1u32 << first)) as u16)
    }

    /// Whether `member` is in it.
    pub const fn has(self, member: usize) -> bool {
        self.0 & (1 << member) != 0
    }

    /// Whether it has no member.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether every member is in `other` too.
    pub const fn within(self, other: Set) -> bool {
        self.0 & !other.0 == 0
    }

    /// Whether some member is in `other` too.
    pub const fn meets(self, other: Set) -> bool {
        self.0 & other.0 != 0
    }

    /// The members that `keep` picks.
    pub fn filter(self, keep: impl Fn(usize) -> bool) -> Set {
        self.iter()
            .filter(|&member| keep(member))
            .fold(Set::EMPTY, |set, member| set | Set::of(&[member]))
    }

    /// The members in ascending order; descending by `rev`.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = usize> {
        (0..16).filter(move |&member| self.has(member))
    }
}

impl BitOr for Set {
    type Output = Set;
    fn bitor(self, other: Set) -> Set {
        Set(self.0 | other.0)
    }
}

impl BitAnd for Set {
    type Output = Set;
    fn bitand(self, other: Set) -> Set {
        Set(self.0 & other.0)
    }
}

impl Sub for Set {
    type Output = Set;
    fn sub(self, other: Set) -> Set {
        Set(self.0 & !other.0)
    }
}

impl BitOrAssign for Set {
    fn bitor_assign(&mut self, other: Set) {
        self.0 |= other.0;
    }
}

impl SubAssign for Set {
    fn sub_assign(&mut self, other: Set) {
        self.0 &= !other.0;
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("{")?;
        for (place, member) in self.iter().enumerate() {
            write!(out, "{}{member}", if place == 0 { "" } else { " " })?;
        }
        out.write_str("}")
    }
}
