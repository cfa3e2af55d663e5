//! Walking a stored tree from front to back: the one walk that listing, finding, dumping and
//! counting share. However many entries there are, what is kept in memory is a chunk of entries
//! for each of the deepest directories, and a name for each above them.

use super::{OpsError, lost};
use crate::format::snapshot::Snapshot;
use crate::format::tree::{Entry, EntryKind, Refs};
use crate::limits;
use crate::progress::{Problem, Progress};
use crate::tree::{Entries, TreeError, TreeReader};

/// So many directories of a path are read at once; those above are read again on the way back.
pub(super) const OPEN_MAX: usize = 64;

/// Where a walk begins: what SNAPSHOT or SNAPSHOT:PATH names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Its absolute path, raw, without a slash at the end: empty for the top.
    pub path: Vec<u8>,
    /// What it is; `None` for the top, which has no entry of its own.
    pub entry: Option<Entry>,
    root: Refs,
}

impl Start {
    /// Finds a path in a snapshot. Slashes at the ends and doubled ones do not matter.
    pub fn find(reader: &TreeReader, snapshot: &Snapshot, path: &[u8]) -> Result<Self, OpsError> {
        let parts: Vec<&[u8]> = path
            .split(|byte| *byte == b'/')
            .filter(|part| !part.is_empty() && *part != b".")
            .collect();
        let root = snapshot.root.clone();
        if parts.is_empty() {
            return Ok(Self { path: Vec::new(), entry: None, root });
        }
        let entry = reader.find(&root, &parts);
        let entry = entry.map_err(|source| OpsError::Path { path: path.to_vec(), source })?;
        let path = parts.iter().flat_map(|part| [b"/", *part]).collect::<Vec<_>>().concat();
        Ok(Self { path, entry: Some(entry), root })
    }

    /// What is in the top, if that is the start.
    pub(super) fn root_listing(&self) -> Option<Refs> {
        self.entry.is_none().then(|| self.root.clone())
    }

    /// What is in it; `None` if it is no directory.
    pub fn listing(&self) -> Option<&Refs> {
        match &self.entry {
            None => Some(&self.root),
            Some(Entry { kind: EntryKind::Directory { listing }, .. }) => Some(listing),
            Some(_) => None,
        }
    }
}

/// An entry that the walk comes to.
#[derive(Debug, Clone, Copy)]
pub struct WalkItem<'a> {
    /// Its absolute path, raw.
    pub path: &'a [u8],
    /// Itself.
    pub entry: &'a Entry,
    /// Directories between the start and it.
    pub depth: usize,
}

/// How the walk goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// To what comes next.
    Continue,
    /// Past what is in this directory.
    SkipChildren,
    /// Not at all.
    Stop,
}

/// Visits everything below a directory in byte order of names, each directory before what is in
/// it; or the start alone, if it is none. What is damaged is told and passed over.
pub fn walk(
    reader: &TreeReader,
    start: &Start,
    visit: &mut dyn FnMut(&WalkItem<'_>) -> Result<Flow, OpsError>,
    progress: &dyn Progress,
) -> Result<(), OpsError> {
    let Some(listing) = start.listing() else {
        if let Some(entry) = &start.entry {
            visit(&WalkItem { path: &start.path, entry, depth: 0 })?;
        }
        return Ok(());
    };
    let mut path = start.path.clone();
    let mut levels = vec![(path.len(), Cursor::new(listing.clone()))];
    while let Some((path_len, cursor)) = levels.last_mut() {
        if progress.cancelled() {
            return Err(OpsError::Cancelled);
        }
        path.truncate(*path_len);
        let entry = match cursor.next(reader) {
            None => {
                levels.pop();
                continue;
            }
            Some(Err(error)) => {
                progress.problem(&lost(&absolute(&path), error)?);
                continue;
            }
            Some(Ok(entry)) => entry,
        };
        path.push(b'/');
        path.extend_from_slice(&entry.name);
        let depth = levels.len() - 1;
        match visit(&WalkItem { path: &path, entry: &entry, depth })? {
            Flow::Stop => return Ok(()),
            Flow::SkipChildren => continue,
            Flow::Continue => {}
        }
        let EntryKind::Directory { listing } = entry.kind else { continue };
        if levels.len() >= limits::TREE_DEPTH_MAX {
            progress.problem(&too_deep(&path));
            continue;
        }
        levels.push((path.len(), Cursor::new(listing)));
        if let Some((_, above)) = levels.len().checked_sub(OPEN_MAX + 1).map(|at| &mut levels[at]) {
            above.park();
        }
    }
    Ok(())
}

pub(super) fn too_deep(path: &[u8]) -> Problem {
    Problem::damage(path, "directories are nested deeper than the format allows")
}

/// A directory's path as it is shown: the top's is a slash.
pub(super) fn absolute(path: &[u8]) -> Vec<u8> {
    match path {
        b"" => b"/".to_vec(),
        path => path.to_vec(),
    }
}

/// A place in a listing, which can be put aside without what was read ahead.
#[derive(Debug)]
pub(super) struct Cursor {
    listing: Refs,
    entries: Option<Entries>,
    /// The name that was given last; empty before the first.
    last: Vec<u8>,
    /// Damaged parts told so far, and how many of them will be met once more.
    told: u64,
    told_again: u64,
}

impl Cursor {
    pub fn new(listing: Refs) -> Self {
        Self { listing, entries: None, last: Vec::new(), told: 0, told_again: 0 }
    }

    /// The next entry, or damage that lies before it.
    pub fn next(&mut self, reader: &TreeReader) -> Option<Result<Entry, TreeError>> {
        if self.entries.is_none() {
            self.told_again = self.told;
        }
        let entries = self.entries.get_or_insert_with(|| reader.entries(&self.listing));
        loop {
            match entries.next()? {
                // Names grow, so these are met only by one who reads again after `park`.
                Ok(entry) if entry.name <= self.last => {}
                Ok(entry) => {
                    self.last.clone_from(&entry.name);
                    return Some(Ok(entry));
                }
                Err(_) if self.told_again > 0 => self.told_again -= 1,
                Err(error) => {
                    self.told += 1;
                    return Some(Err(error));
                }
            }
        }
    }

    /// Frees what was read ahead; it is read again when it is needed.
    pub fn park(&mut self) {
        self.entries = None;
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Sample, Tree};
    use super::*;
    use crate::progress::Silent;

    fn paths(sample: &Sample, start: &Start, progress: &Silent) -> Vec<String> {
        let mut paths = Vec::new();
        let visit = &mut |item: &WalkItem<'_>| {
            let name_len = item.entry.name.len();
            assert_eq!(item.path[item.path.len() - name_len..], item.entry.name);
            paths.push(crate::text::escape(item.path));
            Ok(Flow::Continue)
        };
        walk(&sample.trees(), start, visit, progress).unwrap();
        paths
    }

    fn tree() -> Tree {
        let mut tree = Tree::default();
        for path in [&b"/b/x/1"[..], b"/b/y", b"/b\xff/\x1b[31m", b"/c", b"/b.d/z"] {
            tree.file(path, b"content");
        }
        tree.directory(b"/empty");
        tree
    }

    #[test]
    fn everything_in_order_or_what_is_below_a_path() {
        let sample = Sample::new(1);
        let snapshot = sample.snapshot(&tree(), b"").snapshot;
        let progress = Silent::default();
        let below = |path: &[u8]| {
            let start = Start::find(&sample.trees(), &snapshot, path).unwrap();
            paths(&sample, &start, &progress)
        };
        let all = [
            "/b",
            "/b/x",
            "/b/x/1",
            "/b/y",
            "/b.d",
            "/b.d/z",
            "/b\\xff",
            "/b\\xff/\\e[31m",
            "/c",
            "/empty",
        ];
        assert_eq!(below(b""), all);
        assert_eq!(below(b"/"), all);
        assert_eq!(below(b"//b/./x/"), ["/b/x/1"]);
        assert_eq!(below(b"b/y"), ["/b/y"]);
        assert_eq!(below(b"/empty"), Vec::<String>::new());
        for bad in [&b"/nothing"[..], b"/b/..", b"/c/d"] {
            let found = Start::find(&sample.trees(), &snapshot, bad);
            assert!(matches!(found, Err(OpsError::Path { path, .. }) if path == bad));
        }
        assert!(progress.problems().is_empty());
    }

    #[test]
    fn the_visitor_steers_and_cancelling_ends_it() {
        let sample = Sample::new(1);
        let snapshot = sample.snapshot(&tree(), b"").snapshot;
        let start = Start::find(&sample.trees(), &snapshot, b"").unwrap();
        let mut seen = Vec::new();
        let mut visit = |item: &WalkItem<'_>| {
            seen.push((crate::text::escape(item.path), item.depth));
            Ok(match item.path {
                b"/b" => Flow::SkipChildren,
                b"/b.d/z" => Flow::Stop,
                _ => Flow::Continue,
            })
        };
        let progress = Silent::default();
        walk(&sample.trees(), &start, &mut visit, &progress).unwrap();
        assert_eq!(seen, [("/b".into(), 0), ("/b.d".into(), 0), ("/b.d/z".into(), 1)]);
        progress.cancel.store(true, std::sync::atomic::Ordering::Relaxed);
        let visit = &mut |_: &WalkItem<'_>| Ok(Flow::Continue);
        let ended = walk(&sample.trees(), &start, visit, &progress);
        assert!(matches!(ended, Err(OpsError::Cancelled)));
    }

    #[test]
    fn deep_trees_are_walked_and_come_back_to_where_they_were() {
        const DEPTH: usize = 5_000;
        let sample = Sample::new(1);
        let snapshot = sample.deep(DEPTH);
        let start = Start::find(&sample.trees(), &snapshot.snapshot, b"").unwrap();
        let (mut directories, mut before, mut after, mut deepest) = (0, 0, 0, 0);
        let visit = &mut |item: &WalkItem<'_>| {
            match item.entry.name.as_slice() {
                b"a" => before += 1,
                b"d" => directories += 1,
                b"z" => after += 1,
                name => panic!("{name:?}"),
            }
            deepest = deepest.max(item.depth);
            Ok(Flow::Continue)
        };
        walk(&sample.trees(), &start, visit, &Silent::default()).unwrap();
        assert_eq!((directories, before, after, deepest), (DEPTH, DEPTH, DEPTH, DEPTH - 1));
    }

    #[test]
    fn what_is_damaged_is_told_once_and_everything_else_comes() {
        let sample = Sample::new(1);
        let mut tree = Tree::default();
        // Long enough for several chunks of entries, each with a deep part behind it.
        let deep = b"/0".repeat(OPEN_MAX + 10);
        for n in 0..2_000 {
            tree.file(format!("/many/file-{n:05}").as_bytes(), b"");
        }
        tree.file(&[&b"/many/file-99999"[..], &deep, b"/end"].concat(), b"");
        let record = sample.snapshot(&tree, b"");
        let start = Start::find(&sample.trees(), &record.snapshot, b"").unwrap();
        let all = paths(&sample, &start, &Silent::default());
        let many = Start::find(&sample.trees(), &record.snapshot, b"/many").unwrap();
        let chunks = many.listing().unwrap().refs.clone();
        assert!(chunks.len() > 2, "{}", chunks.len());
        sample.break_chunk(&chunks[1]);
        let progress = Silent::default();
        let rest = paths(&sample, &start, &progress);
        let problems = progress.problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].damage && problems[0].what == b"/many");
        assert!(rest.len() < all.len() && rest.len() > 1_000, "{} {}", rest.len(), all.len());
        assert!(rest.iter().all(|path| all.contains(path)));
        assert_eq!(rest.last(), all.last());
    }
}
