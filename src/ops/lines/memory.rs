//! The newest snapshots that were seen, in the state directory: a text file with a line each.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::Head;
use crate::id::{ClientId, SnapshotId};
use crate::ops::memory;

/// So many are remembered.
pub(super) const HEADS_MAX: usize = 65_536;
/// Longest line: two ids of 32 bytes, one of 16, and a number.
const LINE_LEN_MAX: u64 = 64 + 1 + 64 + 1 + 32 + 1 + 20 + 1;

/// What was remembered when it was loaded.
pub(super) struct Memory {
    path: PathBuf,
    heads: BTreeMap<SnapshotId, Head>,
}

impl Memory {
    pub fn load(directory: &Path) -> Self {
        let path = directory.join("heads");
        let heads = read(&path);
        Self { path, heads }
    }

    pub fn heads(&self) -> &BTreeMap<SnapshotId, Head> {
        &self.heads
    }

    /// Remembers these, and what another process remembered since the loading.
    pub fn replace(&self, mut heads: BTreeMap<SnapshotId, Head>) -> io::Result<()> {
        if heads == self.heads {
            return Ok(());
        }
        let now = read(&self.path);
        heads.extend(now.into_iter().filter(|(id, _)| !self.heads.contains_key(id)));
        let lines: String = heads.values().take(HEADS_MAX).map(line).collect();
        memory::replace(&self.path, lines.as_bytes())
    }
}

fn read(path: &Path) -> BTreeMap<SnapshotId, Head> {
    let bytes = memory::read(path, HEADS_MAX as u64 * LINE_LEN_MAX);
    // A line that was damaged is forgotten, and the others hold.
    let heads = bytes.split(|byte| *byte == b'\n').filter_map(parse);
    heads.map(|head| (head.id, head)).collect()
}

fn line(head: &Head) -> String {
    let hash = SnapshotId(head.hash);
    format!("{} {hash} {} {}\n", head.id, head.client, head.number)
}

fn parse(line: &[u8]) -> Option<Head> {
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    Some(Head {
        id: SnapshotId::from_hex(words.next()?).ok()?,
        hash: SnapshotId::from_hex(words.next()?).ok()?.0,
        client: ClientId::from_hex(words.next()?).ok()?,
        number: words.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(n: u8) -> (SnapshotId, Head) {
        let id = SnapshotId([n; 32]);
        (id, Head { id, hash: [n; 32], client: ClientId([n; 16]), number: n.into() })
    }

    #[test]
    fn two_processes_lose_nothing_of_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("not/yet/there");
        Memory::load(&below).replace([head(1)].into()).unwrap();
        let (one, other) = (Memory::load(&below), Memory::load(&below));
        one.replace([head(2)].into()).unwrap();
        other.replace([head(1), head(3)].into()).unwrap();
        let expected: BTreeMap<_, _> = [head(1), head(2), head(3)].into();
        assert_eq!(*Memory::load(&below).heads(), expected);
    }

    #[test]
    fn a_damaged_line_costs_itself() {
        let directory = tempfile::tempdir().unwrap();
        Memory::load(directory.path()).replace([head(1), head(2)].into()).unwrap();
        let path = directory.path().join("heads");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[3] = b'x';
        bytes.extend(b"\xff\nrubbish");
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(*Memory::load(directory.path()).heads(), [head(2)].into());
    }
}
