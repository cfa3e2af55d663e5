//! Several names of one file within what is dumped.

use std::collections::HashMap;

use crate::format::tree::{Entry, EntryKind, Metadata};

/// Room for the first names of files, bytes. Beyond it a further name is written as a file again:
/// the same content, only no longer the same file.
const BYTES_MAX: usize = 64 << 20;
/// What a name takes besides its own bytes.
const NAME_OVERHEAD: usize = 96;

/// Device, inode, and a hash of the content: names may have been read at different times, and
/// then be different files.
type File = (u64, u64, [u8; 16]);

/// First names of files that have more.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// With the number of names that are still to come.
    first: HashMap<File, (u64, Box<[u8]>)>,
    bytes: usize,
}

impl Links {
    /// The earlier name of the same file, if there was one.
    pub fn earlier_name(&mut self, name: &[u8], entry: &Entry) -> Option<Vec<u8>> {
        let metadata = &entry.metadata;
        if metadata.links < 2 || entry.is_directory() {
            return None;
        }
        let file = (metadata.device, metadata.inode, content_hash(&entry.kind));
        if let Some((left, first)) = self.first.get_mut(&file) {
            let earlier = first.to_vec();
            *left -= 1;
            if *left == 0 {
                self.bytes -= first.len() + NAME_OVERHEAD;
                self.first.remove(&file);
            }
            return Some(earlier);
        }
        let bytes = self.bytes + name.len() + NAME_OVERHEAD;
        if bytes <= BYTES_MAX {
            self.bytes = bytes;
            self.first.insert(file, (metadata.links - 1, name.into()));
        }
        None
    }
}

fn content_hash(kind: &EntryKind) -> [u8; 16] {
    let bare = Entry { name: Vec::new(), kind: kind.clone(), metadata: Metadata::default() };
    let mut bytes = Vec::new();
    bare.encode(&mut bytes);
    let mut hash = [0; 16];
    hash.copy_from_slice(&blake3::hash(&bytes).as_bytes()[..16]);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(inode: u64, links: u64, target: &[u8]) -> Entry {
        let kind = EntryKind::Symlink { target: target.to_vec() };
        let metadata = Metadata { device: 1, inode, links, ..Metadata::default() };
        Entry { name: b"x".to_vec(), kind, metadata }
    }

    #[test]
    fn names_of_one_file_and_no_others() {
        let mut links = Links::default();
        assert_eq!(links.earlier_name(b"single", &entry(1, 1, b"a")), None);
        assert_eq!(links.earlier_name(b"first", &entry(2, 3, b"a")), None);
        assert_eq!(links.earlier_name(b"other", &entry(3, 2, b"a")), None);
        assert_eq!(links.earlier_name(b"changed", &entry(2, 3, b"b")), None);
        assert_eq!(links.earlier_name(b"second", &entry(2, 3, b"a")), Some(b"first".to_vec()));
        assert_eq!(links.earlier_name(b"third", &entry(2, 3, b"a")), Some(b"first".to_vec()));
        // All its names have come, so it takes no room any more.
        assert_eq!(links.first.len(), 2);
        assert_eq!(links.bytes, 2 * NAME_OVERHEAD + b"other".len() + b"changed".len());
    }

    #[test]
    fn room_is_bounded() {
        let mut links = Links { bytes: BYTES_MAX - NAME_OVERHEAD - 1, ..Links::default() };
        assert_eq!(links.earlier_name(b"too long", &entry(1, 2, b"a")), None);
        assert_eq!(links.earlier_name(b"again", &entry(1, 2, b"a")), None);
        assert_eq!(links.earlier_name(b"x", &entry(2, 2, b"a")), None);
        assert_eq!(links.earlier_name(b"y", &entry(2, 2, b"a")), Some(b"x".to_vec()));
    }
}
