//! Typed ids: random or keyed-hash byte strings that name everything in a repository.
//!
//! Format: `format-spec/02-primitives.md#ids`.

use std::fmt;

/// A text that is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an id of {bytes} bytes in lower-case hexadecimal")]
pub struct BadId {
    /// What was given.
    pub text: String,
    /// How many bytes the id has.
    pub bytes: usize,
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $len:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// The id's bytes.
            pub fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// Lower-case hexadecimal, `2 * LEN` characters.
            pub fn to_hex(&self) -> String {
                hex(&self.0)
            }

            /// The first eight hexadecimal digits, for people.
            pub fn short(&self) -> String {
                hex(&self.0[..4])
            }

            /// The id that lower-case hexadecimal text stands for.
            pub fn from_hex(text: &str) -> Result<Self, BadId> {
                let mut bytes = [0u8; $len];
                match unhex(text, &mut bytes) {
                    true => Ok(Self(bytes)),
                    false => Err(BadId { text: text.chars().take(80).collect(), bytes: $len }),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.to_hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl From<[u8; $len]> for $name {
            fn from(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }
        }
    };
}

id_type!(
    /// A chunk: keyed BLAKE3 of its plaintext.
    ChunkId, 32
);
id_type!(
    /// A pack: random.
    PackId, 32
);
id_type!(
    /// A session and the snapshot that commits it: random, one name for both.
    SnapshotId, 32
);
id_type!(
    /// An index segment: random.
    SegmentId, 32
);
id_type!(
    /// A note on a snapshot: random.
    NoteId, 32
);
id_type!(
    /// A key slot: random.
    SlotId, 32
);
id_type!(
    /// A repository: random, made at `init`.
    RepositoryId, 32
);
id_type!(
    /// Repositories between which frames can be moved as they are share one: random.
    FamilyId, 32
);
id_type!(
    /// A frame: random; it is the nonce that the frame is sealed with as well.
    FrameId, 24
);
id_type!(
    /// A client's line of snapshots and its machine: random, kept in the state directory.
    ClientId, 16
);

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
    text
}

fn unhex(text: &str, out: &mut [u8]) -> bool {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    if text.len() != out.len() * 2 {
        return false;
    }
    for (pair, byte) in text.as_bytes().chunks_exact(2).zip(out) {
        match (digit(pair[0]), digit(pair[1])) {
            (Some(high), Some(low)) => *byte = high << 4 | low,
            _ => return false,
        }
    }
    true
}

/// Why a prefix does not name one thing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Nothing starts with it.
    #[error("nothing is named {0:?}")]
    Unknown(String),
    /// Several things start with it.
    #[error("{prefix:?} names {count} things; give more digits")]
    Ambiguous {
        /// What was given.
        prefix: String,
        /// How many start with it.
        count: usize,
    },
}

/// The one of `ids` whose hexadecimal form starts with `prefix`.
pub fn by_prefix<T: Copy + fmt::Display>(
    ids: impl IntoIterator<Item = T>,
    prefix: &str,
) -> Result<T, PrefixError> {
    let known = |count| match count {
        0 => PrefixError::Unknown(prefix.into()),
        count => PrefixError::Ambiguous { prefix: prefix.into(), count },
    };
    if prefix.is_empty() {
        return Err(known(0));
    }
    let found: Vec<T> = ids.into_iter().filter(|id| id.to_string().starts_with(prefix)).collect();
    match found.as_slice() {
        [one] => Ok(*one),
        several => Err(known(several.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_there_and_back() {
        let id = ChunkId(std::array::from_fn(|i| i as u8 * 7));
        assert_eq!(ChunkId::from_hex(&id.to_hex()), Ok(id));
        assert_eq!(id.short(), "00070e15");
        for bad in ["", "00", &"g".repeat(64), &"A".repeat(64), &"é".repeat(32)] {
            assert!(ChunkId::from_hex(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn prefixes_name_one_thing_or_say_why_not() {
        let ids = [PackId([0x11; 32]), PackId([0x12; 32]), PackId([0x20; 32])];
        assert_eq!(by_prefix(ids, "2"), Ok(ids[2]));
        assert_eq!(
            by_prefix(ids, "1"),
            Err(PrefixError::Ambiguous { prefix: "1".into(), count: 2 })
        );
        assert_eq!(by_prefix(ids, "3"), Err(PrefixError::Unknown("3".into())));
        assert_eq!(by_prefix(ids, ""), Err(PrefixError::Unknown("".into())));
    }
}
