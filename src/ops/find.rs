//! Finding names, or the uses of a chunk, in many snapshots.
//!
//! Snapshots of one machine are mostly alike: a subtree in which nothing was found is not walked
//! again when it comes once more.

use std::collections::HashSet;
use std::sync::Arc;

use super::walk::{Flow, Start, WalkItem, absolute, walk};
use super::{OpsError, lost};
use crate::format::snapshot::Snapshot;
use crate::format::tree::{Entry, EntryKind, Metadata, Ref, Refs};
use crate::id::{ChunkId, PrefixError};
use crate::index::Location;
use crate::progress::{Counter, Progress};
use crate::repo::{Repository, SnapshotRecord};
use crate::source::Pattern;
use crate::tree::TreeReader;
use crate::world::Time;

/// What is looked for: entries that any of the patterns fits, and all of the rest.
#[derive(Debug, Clone, Default)]
pub struct FindOptions {
    /// A name, or with a slash in it a path, as patterns of excludes are; none fits everything.
    pub patterns: Vec<Pattern>,
    /// Files of at least so many bytes.
    pub size_min: Option<u64>,
    /// Files of at most so many bytes.
    pub size_max: Option<u64>,
    /// Last changed at this time or after it.
    pub newer: Option<Time>,
    /// Last changed at this time or before it.
    pub older: Option<Time>,
}

impl FindOptions {
    /// Whether this is looked for.
    pub fn matches(&self, path: &[u8], entry: &Entry) -> bool {
        let parent = &path[..path.len().saturating_sub(entry.name.len() + 1)];
        let fits = |pattern: &Pattern| pattern.matches(parent, &entry.name, entry.is_directory());
        let is_file = matches!(entry.kind, EntryKind::File { .. });
        let mtime = entry.metadata.mtime;
        (self.patterns.is_empty() || self.patterns.iter().any(fits))
            && self.size_min.is_none_or(|size| is_file && entry.size() >= size)
            && self.size_max.is_none_or(|size| is_file && entry.size() <= size)
            && self.newer.is_none_or(|time| mtime >= time)
            && self.older.is_none_or(|time| mtime <= time)
    }
}

/// How much was looked at, and found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FindReport {
    /// Snapshots that were searched.
    pub snapshot_count: u64,
    /// Entries that were looked at.
    pub entry_count: u64,
    /// Entries that were found.
    pub found_count: u64,
}

/// Takes what was found: the snapshot, and the entry with its path.
pub type Each<'a> = &'a mut dyn FnMut(&SnapshotRecord, &WalkItem<'_>) -> Result<(), OpsError>;

/// Gives every entry that is looked for to `each`, of the newest snapshot first. `path` narrows
/// the search to what is below it; snapshots that do not have it are passed over.
pub fn find(
    repository: &Arc<Repository>,
    records: &[SnapshotRecord],
    path: &[u8],
    options: &FindOptions,
    each: Each<'_>,
    progress: &dyn Progress,
) -> Result<FindReport, OpsError> {
    let mut search = Search::new(repository, records, progress);
    for record in newest_first(records) {
        search
            .snapshot(record, path, each, &mut |item| Ok(options.matches(item.path, item.entry)))?;
    }
    Ok(search.report)
}

fn start_hex(start: &[u8]) -> String {
    let mut id = ChunkId::default();
    let (first, _) = id.0.split_at_mut(start.len());
    first.copy_from_slice(start);
    let mut hex = id.to_hex();
    hex.truncate(2 * start.len());
    hex
}

/// The chunk that a prefix of its id names, among all that the index knows.
pub fn chunk_by_prefix(
    repository: &Arc<Repository>,
    prefix: &str,
) -> Result<Result<ChunkId, PrefixError>, OpsError> {
    if let Ok(id) = ChunkId::from_hex(prefix) {
        return Ok(Ok(id));
    }
    let (mut first, mut count) = (None, 0);
    if !prefix.is_empty() {
        repository.refresh_index()?;
        repository.with_index_mut(|index| index.fold())?;
        repository.with_index(|index| {
            index.chunks(&mut |chunk| {
                let start = start_hex(&chunk.start);
                if start.starts_with(prefix) || prefix.starts_with(&start) {
                    first.get_or_insert(chunk.number);
                    count += 1;
                }
            })
        })??;
    }
    let first = first.map(|number| repository.with_index(|index| index.id(number)));
    let first = first.transpose()?.transpose()?;
    Ok(match (first.filter(|id| id.to_hex().starts_with(prefix)), count) {
        (Some(id), 1) => Ok(id),
        (Some(_), count) => Err(PrefixError::Ambiguous { prefix: prefix.into(), count }),
        (None, _) => Err(PrefixError::Unknown(prefix.into())),
    })
}

/// Gives every entry whose content or listing uses a chunk to `each`, of the newest snapshot
/// first; the top, which has no entry, as one named by a slash. Returns where the chunk lies.
pub fn find_chunk(
    repository: &Arc<Repository>,
    records: &[SnapshotRecord],
    id: &ChunkId,
    each: Each<'_>,
    progress: &dyn Progress,
) -> Result<(FindReport, Vec<Location>), OpsError> {
    repository.refresh_index()?;
    let locations = repository.with_index(|index| index.locations(id))??;
    let mut search = Search::new(repository, records, progress);
    let reader = TreeReader::new(repository);
    for record in newest_first(records) {
        let listing = record.snapshot.root.clone();
        if uses(&reader, &listing, id, b"/", progress)? {
            search.report.found_count += 1;
            let kind = EntryKind::Directory { listing };
            let top = Entry { name: b"/".to_vec(), kind, metadata: Metadata::default() };
            each(record, &WalkItem { path: b"/", entry: &top, depth: 0 })?;
        }
        search.snapshot(record, b"", each, &mut |item| match &item.entry.kind {
            EntryKind::File { content: refs, .. } | EntryKind::Directory { listing: refs } => {
                uses(&reader, refs, id, item.path, progress)
            }
            _ => Ok(false),
        })?;
    }
    Ok((search.report, locations))
}

/// Whether the chunk is among those of a stream, or of the lists that name them.
fn uses(
    reader: &TreeReader,
    refs: &Refs,
    id: &ChunkId,
    path: &[u8],
    progress: &dyn Progress,
) -> Result<bool, OpsError> {
    let mut leaves = reader.leaves(refs).with_lists();
    while let Some(leaf) = leaves.next() {
        if progress.cancelled() {
            return Err(OpsError::Cancelled);
        }
        let in_list = leaves.take_lists().contains(id);
        match leaf {
            Ok(Ref::Chunk { id: leaf, .. }) if leaf == *id => return Ok(true),
            // A list that is itself the chunk is found although it cannot be read.
            Err(error) if !in_list => progress.problem(&lost(path, error)?),
            _ => {}
        }
        if in_list {
            return Ok(true);
        }
    }
    Ok(false)
}

fn newest_first(records: &[SnapshotRecord]) -> Vec<&SnapshotRecord> {
    let mut records: Vec<&SnapshotRecord> = records.iter().collect();
    records.sort_by_key(|record| std::cmp::Reverse((record.snapshot.time, record.id)));
    records
}

/// So many subtrees without a match are remembered, 16 bytes each.
const BARREN_MAX: usize = 1 << 20;

/// What a subtree is remembered by: its path, since patterns look at it, and its listing.
type SubtreeHash = [u8; 16];

fn subtree_hash(path: &[u8], listing: &Refs) -> SubtreeHash {
    let mut bytes = Vec::new();
    listing.encode(&mut bytes);
    bytes.extend_from_slice(path);
    let mut hash = SubtreeHash::default();
    hash.copy_from_slice(&blake3::hash(&bytes).as_bytes()[..16]);
    hash
}

/// A directory that the walk is in.
struct Folder {
    depth: usize,
    hash: SubtreeHash,
    found: bool,
}

struct Search<'a> {
    reader: TreeReader,
    barren: HashSet<SubtreeHash>,
    report: FindReport,
    progress: &'a dyn Progress,
}

impl<'a> Search<'a> {
    fn new(
        repository: &Arc<Repository>,
        records: &[SnapshotRecord],
        progress: &'a dyn Progress,
    ) -> Self {
        progress.phase("searching", Counter::Objects, Some(records.len() as u64));
        let reader = TreeReader::new(repository);
        Self { reader, barren: HashSet::new(), report: FindReport::default(), progress }
    }

    fn snapshot(
        &mut self,
        record: &SnapshotRecord,
        path: &[u8],
        each: Each<'_>,
        matches: &mut dyn FnMut(&WalkItem<'_>) -> Result<bool, OpsError>,
    ) -> Result<(), OpsError> {
        self.report.snapshot_count += 1;
        self.progress.add(Counter::Objects, 1);
        let Some(start) = self.start(&record.snapshot, path)? else { return Ok(()) };
        let Self { reader, barren, report, progress } = self;
        let mut folders: Vec<Folder> = Vec::new();
        if let Some(listing) = start.listing() {
            let hash = subtree_hash(&start.path, listing);
            if barren.contains(&hash) {
                return Ok(());
            }
            // The start is above all that is visited, so it is left last.
            folders.push(Folder { depth: 0, hash, found: false });
        }
        let visit = &mut |item: &WalkItem<'_>| {
            report.entry_count += 1;
            progress.add(Counter::Entries, 1);
            leave(&mut folders, item.depth + 1, barren);
            let found = matches(item)?;
            if found {
                report.found_count += 1;
                each(record, item)?;
                if let Some(folder) = folders.last_mut() {
                    folder.found = true;
                }
            }
            if let EntryKind::Directory { listing } = &item.entry.kind {
                let hash = subtree_hash(item.path, listing);
                if barren.contains(&hash) {
                    return Ok(Flow::SkipChildren);
                }
                folders.push(Folder { depth: item.depth + 1, hash, found: false });
            }
            Ok(Flow::Continue)
        };
        walk(reader, &start, visit, *progress)?;
        leave(&mut folders, 0, barren);
        Ok(())
    }

    fn start(&self, snapshot: &Snapshot, path: &[u8]) -> Result<Option<Start>, OpsError> {
        match Start::find(&self.reader, snapshot, path) {
            Ok(start) => Ok(Some(start)),
            Err(OpsError::Path { path, source }) => {
                use crate::tree::TreeError::{NoSuchPath, NotADirectory};
                if !matches!(source, NoSuchPath | NotADirectory) {
                    self.progress.problem(&lost(&absolute(&path), source)?);
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Ends the directories from `depth` on: those without a match need not be walked again.
fn leave(folders: &mut Vec<Folder>, depth: usize, barren: &mut HashSet<SubtreeHash>) {
    while folders.last().is_some_and(|folder| folder.depth >= depth) {
        let Some(folder) = folders.pop() else { return };
        match (folder.found, folders.last_mut()) {
            (true, Some(above)) => above.found = true,
            (true, None) => {}
            (false, _) if barren.len() < BARREN_MAX => _ = barren.insert(folder.hash),
            (false, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{CHUNK, Sample, Tree, noise};
    use super::*;
    use crate::progress::Silent;

    fn options(patterns: &[&str]) -> FindOptions {
        let parse = |text: &&str| Pattern::parse(text.as_bytes()).unwrap();
        FindOptions { patterns: patterns.iter().map(parse).collect(), ..FindOptions::default() }
    }

    /// What is found: number of the snapshot, counted from the newest, and path.
    fn found(
        sample: &Sample,
        records: &[SnapshotRecord],
        options: &FindOptions,
    ) -> (Vec<String>, FindReport) {
        let mut found = Vec::new();
        let each = &mut |record: &SnapshotRecord, item: &WalkItem<'_>| {
            let number = records.iter().rev().position(|r| r.id == record.id).unwrap();
            found.push(format!("{number}:{}", crate::text::escape(item.path)));
            Ok(())
        };
        let progress = Silent::default();
        let report = find(&sample.repository, records, b"", options, each, &progress).unwrap();
        assert!(progress.problems().is_empty());
        assert_eq!(report.found_count, found.len() as u64);
        (found, report)
    }

    fn records(sample: &Sample) -> Vec<SnapshotRecord> {
        let mut tree = Tree::default();
        tree.file(b"/a/b/x.log", b"12345");
        tree.file(b"/a/\xff\n", b"");
        tree.file(b"/c/d/y", &noise(1, 3 * CHUNK)).mtime = Time::from_seconds(50);
        let first = sample.snapshot(&tree, b"");
        tree.file(b"/a/new.log", b"");
        tree.directory(b"/x.log");
        vec![first, sample.snapshot(&tree, b"")]
    }

    #[test]
    fn names_paths_sizes_and_times() {
        let sample = Sample::new(1);
        let records = records(&sample);
        for (patterns, expected) in [
            (&["*.log"][..], &["0:/a/b/x.log", "0:/a/new.log", "0:/x.log", "1:/a/b/x.log"][..]),
            (&["b/*"], &["0:/a/b/x.log", "1:/a/b/x.log"]),
            (&["/x.log"], &["0:/x.log"]),
            (&["*.log/"], &["0:/x.log"]),
            (&["y", "new*"], &["0:/a/new.log", "0:/c/d/y", "1:/c/d/y"]),
            (&["?\n"], &["0:/a/\\xff\\n", "1:/a/\\xff\\n"]),
            (&["nothing"], &[]),
        ] {
            assert_eq!(found(&sample, &records, &options(patterns)).0, expected, "{patterns:?}");
        }
        let large = FindOptions { size_min: Some(5), ..FindOptions::default() };
        assert_eq!(found(&sample, &records[1..], &large).0, ["0:/a/b/x.log", "0:/c/d/y"]);
        let small = FindOptions { size_max: Some(5), ..large };
        assert_eq!(found(&sample, &records[1..], &small).0, ["0:/a/b/x.log"]);
        let time = Some(Time::from_seconds(50));
        let of_then = FindOptions { newer: time, older: time, ..FindOptions::default() };
        assert_eq!(found(&sample, &records[1..], &of_then).0, ["0:/c/d/y"]);
    }

    #[test]
    fn what_had_no_match_is_not_walked_again() {
        let sample = Sample::new(1);
        let records = records(&sample);
        // The newest has nine entries. Of the older one the top is new, /a too; /a/b and /c are
        // known by then.
        let (_, report) = found(&sample, &records, &options(&["nothing"]));
        assert_eq!((report.snapshot_count, report.entry_count), (2, 9 + 4));
        // What is below /c/d is looked at again, since it has a match.
        let (_, report) = found(&sample, &records, &options(&["y"]));
        assert_eq!(report.entry_count, 9 + 6);
    }

    #[test]
    fn below_a_path_where_there_is_one() {
        let sample = Sample::new(1);
        let records = records(&sample);
        let mut count = 0;
        let each = &mut |_: &SnapshotRecord, item: &WalkItem<'_>| {
            assert!(item.path.starts_with(b"/a/"));
            count += 1;
            Ok(())
        };
        let report = find(
            &sample.repository,
            &records,
            b"/a/new.log",
            &FindOptions::default(),
            each,
            &Silent::default(),
        );
        assert_eq!((report.unwrap().snapshot_count, count), (2, 1));
    }

    #[test]
    fn chunks_of_files_and_of_trees() {
        let sample = Sample::new(1);
        let records = records(&sample);
        let uses = |id: &ChunkId| {
            let mut found = Vec::new();
            let each = &mut |record: &SnapshotRecord, item: &WalkItem<'_>| {
                let number = records.iter().rev().position(|r| r.id == record.id).unwrap();
                found.push(format!("{number}:{}", crate::text::escape(item.path)));
                Ok(())
            };
            let progress = Silent::default();
            let (report, locations) =
                find_chunk(&sample.repository, &records, id, each, &progress).unwrap();
            assert_eq!(report.found_count, found.len() as u64);
            (found, locations.len())
        };
        let id = |refs: &Refs| match refs.refs[0] {
            Ref::Chunk { id, .. } => id,
            Ref::Hole { .. } => panic!("a hole"),
        };
        let content = id(&sample.content_of(&records[1], b"/c/d/y"));
        assert_eq!(uses(&content), (vec!["0:/c/d/y".into(), "1:/c/d/y".into()], 1));
        let listing = id(&sample.content_of(&records[1], b"/a"));
        assert_eq!(uses(&listing), (vec!["0:/a".into()], 1));
        assert_eq!(uses(&id(&records[0].snapshot.root)), (vec!["1:/".into()], 1));
        assert_eq!(uses(&ChunkId([7; 32])), (vec![], 0));
        for len in [64, 20] {
            let prefix = &content.to_hex()[..len];
            assert_eq!(chunk_by_prefix(&sample.repository, prefix).unwrap().unwrap(), content);
        }
        let unclear = |prefix| chunk_by_prefix(&sample.repository, prefix).unwrap().is_err();
        assert!(unclear("") && unclear("zz") && unclear("0123456789abcdef"));
    }

    #[test]
    fn damaged_trees_are_told_and_the_rest_is_searched() {
        let sample = Sample::new(1);
        let records = records(&sample);
        let listing = sample.content_of(&records[1], b"/a/b");
        sample.break_chunk(&listing.refs[0]);
        let (progress, mut count) = (Silent::default(), 0);
        let each = &mut |_: &SnapshotRecord, _: &WalkItem<'_>| {
            count += 1;
            Ok(())
        };
        let options = options(&["y"]);
        find(&sample.repository, &records, b"", &options, each, &progress).unwrap();
        assert_eq!((count, progress.problems().len()), (2, 1));
        let problem = &progress.problems()[0];
        assert!(problem.damage && problem.what == b"/a/b", "{problem:?}");
    }
}
