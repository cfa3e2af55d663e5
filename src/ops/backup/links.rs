//! Files with several names: one name is read, the others share what came of it.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use crate::format::tree::Refs;
use crate::source::{Identity, Stat};

/// So many files are remembered while names of them are still to come, about a kilobyte each at
/// most. Of more than that every name is read again, which costs time and nothing else.
const FILES_MAX: usize = 8_192;

/// The content that a name was read to have, and what the file was like then. Empty until then,
/// and for ever when the reading failed.
pub(super) type Shared = Arc<OnceLock<(Stat, Refs)>>;

/// A name of a file.
pub(super) enum Name {
    /// The only one, as far as can be remembered.
    Only,
    /// The first one that the walk comes upon.
    First(Shared),
    /// One of the others.
    Another(Shared),
}

/// Files of which names are still to come.
#[derive(Default)]
pub(super) struct Links {
    files: HashMap<Identity, (u64, Shared)>,
}

impl Links {
    /// Counts a name of the file that `stat` describes.
    pub fn name(&mut self, stat: &Stat) -> Name {
        if stat.links <= 1 {
            return Name::Only;
        }
        let identity = stat.identity();
        if let Some((left, shared)) = self.files.get_mut(&identity) {
            *left -= 1;
            let shared = shared.clone();
            if *left == 0 {
                self.files.remove(&identity);
            }
            return Name::Another(shared);
        }
        if self.files.len() >= FILES_MAX {
            return Name::Only;
        }
        let shared = Shared::default();
        self.files.insert(identity, (stat.links - 1, shared.clone()));
        Name::First(shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Kind;
    use crate::world::Time;

    fn stat(inode: u64, links: u64) -> Stat {
        let time = Time::default();
        Stat {
            kind: Kind::File,
            size: 0,
            allocated: 0,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: time,
            ctime: time,
            inode,
            device: 1,
            links,
            major: 0,
            minor: 0,
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_and_goes_with_the_last_name() {
        let mut links = Links::default();
        assert!(matches!(links.name(&stat(1, 1)), Name::Only));
        for inode in 0..FILES_MAX as u64 {
            assert!(matches!(links.name(&stat(inode, 3)), Name::First(_)));
        }
        assert!(matches!(links.name(&stat(1 << 40, 2)), Name::Only));
        assert!(matches!(links.name(&stat(5, 3)), Name::Another(_)));
        assert!(matches!(links.name(&stat(1 << 40, 2)), Name::Only));
        assert!(matches!(links.name(&stat(5, 3)), Name::Another(_)));
        assert!(matches!(links.name(&stat(1 << 40, 2)), Name::First(_)));
    }
}
