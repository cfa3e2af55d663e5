//! Collecting, in the order of the walk: new chunks go to the session, lists and listings are
//! built from what comes.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crossbeam_channel::{Receiver, bounded, unbounded};

use super::batch::{self, Batches};
use super::parent::Trust;
use super::read::{Block, Piece, ReadFile, Reader, ToRead};
use super::scan::Scan;
use super::walk::Walk;
use super::{BackupOptions, Input, Problems, Run, paths, stream};
use crate::chunker::Chunker;
use crate::format::snapshot::Statistics;
use crate::format::tree::{Entry, EntryKind, Metadata, Ref, Refs};
use crate::id::{ChunkId, FrameId};
use crate::ops::OpsError;
use crate::progress::{Counter, Problem, Progress};
use crate::repo::{RepoError, Repository, SnapshotRecord};
use crate::tree::{ChunkSink, ListingBuilder, RefsBuilder, TreeReader};
use crate::world::Time;

/// What the walk comes upon, in order.
#[derive(Debug)]
pub(super) enum Item {
    /// What follows is in a directory.
    Enter,
    /// That directory ends; its name and the rest of its entry.
    Leave(Vec<u8>, Box<Metadata>),
    /// An entry that needs no reading.
    Entry(Box<Entry>),
    /// A file to be read.
    Read(Box<ToRead>),
    /// A file that was read.
    File(Box<ReadFile>),
    /// Another name of a file that came before, or a file that grew large meanwhile.
    Late(Box<ToRead>),
}

/// Work for the collecting thread, in the order of the walk.
pub(super) enum Work {
    /// Nothing of it needs reading.
    Items(Vec<Item>),
    /// Comes from a reading thread, with the buffer that the pieces lie in.
    Batch(Receiver<(Vec<u8>, Vec<Item>)>),
    /// A large file, as a reading thread gets on with it.
    Large(Receiver<Block>),
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Collected {
    pub root: Refs,
    pub statistics: Statistics,
    pub problems: Problems,
}

/// Builds the snapshot's tree.
pub(super) struct Collector<'a> {
    reader: &'a Reader<'a>,
    now: Time,
    levels: Vec<ListingBuilder>,
    statistics: Statistics,
    run: Run<'a>,
}

/// So many batches of steps wait for the walking thread.
const STEPS_WAITING: usize = 4;
/// So many pieces of work wait for the collecting thread.
const WORK_WAITING: usize = 6;
/// Scanning deep trees needs no deep stack, but the asked-for paths are a recursive tree.
const SCAN_STACK: usize = 16 << 20;

/// Reads the input and stores it.
pub(super) fn collect(
    repository: &Arc<Repository>,
    sink: &mut dyn ChunkSink,
    input: &mut Input,
    options: &BackupOptions,
    parent: Option<SnapshotRecord>,
    trust: &Trust,
    progress: &dyn Progress,
) -> Result<Collected, OpsError> {
    let keys = repository.keys();
    let gear = keys.gear_table().map_err(RepoError::from)?;
    let chunker = Chunker::new(gear, repository.config().chunker);
    let threads = repository.environment().threads.max(1);
    let trees = TreeReader::new(repository);
    let reader = Reader::new(&chunker, keys, progress, (trees.clone(), trust), threads);
    let problems = Mutex::new(Problems::default());
    let run = Run { options, problems: &problems, progress };
    let mut collector = Collector {
        reader: &reader,
        now: repository.world().now(),
        levels: vec![ListingBuilder::default()],
        statistics: Statistics::default(),
        run,
    };
    let root = parent.map(|parent| parent.snapshot.root);
    let paths = match input {
        Input::Stream(stream) => {
            let root = root.unwrap_or_default();
            // What cannot be read of the parent is no help, and no harm.
            let before = trees.child(&root, &stream.name).ok().flatten();
            return stream::read(collector, sink, stream, before, &reader);
        }
        Input::Paths(paths) => paths,
    };
    let (tree, failed) = paths::tree(paths);
    if failed.len() == paths.len() {
        let first = failed.into_iter().next();
        return Err(OpsError::Source {
            path: first.as_ref().map(|e| e.path().to_vec()).unwrap_or_default(),
            why: first.map_or_else(|| "no path was given".into(), |e| paths::why(&e)),
        });
    }
    for error in failed {
        run.problem(Problem::at(error.path(), paths::why(&error)));
    }
    let (steps, steps_in) = bounded(STEPS_WAITING);
    let (jobs, jobs_in) = bounded(threads);
    let (work, work_in) = bounded(WORK_WAITING);
    // Each file has a few of them on their way.
    let (segments, segments_in) = unbounded();
    let scan = Scan::new(run, steps);
    let now = collector.now;
    let batches = Batches::new(jobs, (segments, segments_in.clone()), work);
    let walk = Walk::new(run, trust, trees, root, now, batches);
    let walked = std::thread::scope(|scope| {
        for _ in 0..threads {
            let (reader, jobs_in, segments_in) = (&reader, jobs_in.clone(), segments_in.clone());
            scope.spawn(move || reader.work(&jobs_in, &segments_in));
        }
        drop(jobs_in);
        let thread = |name: &str| std::thread::Builder::new().name(name.into());
        let scanner = thread("scan")
            .stack_size(SCAN_STACK)
            .spawn_scoped(scope, move || scan.run(tree))
            .expect("the system starts one more thread");
        let walker = thread("walk")
            .spawn_scoped(scope, move || walk.run(steps_in))
            .expect("the system starts one more thread");
        // Whatever happens, a receiver goes before its sender is waited for, which then stops.
        let collected = collector.take_all(work_in, sink);
        let walked = walker.join().unwrap_or(Err(OpsError::Cancelled));
        let scanned = scanner.join().unwrap_or(Err(OpsError::Cancelled));
        collected.and(scanned).and(walked)
    })?;
    let mut collected = collector.finish(sink)?;
    let read = collected.statistics;
    collected.statistics = Statistics {
        files: walked.files + read.files,
        files_new: read.files_new,
        files_changed: read.files_changed,
        files_unchanged: walked.files_unchanged + read.files_unchanged,
        bytes: walked.bytes + read.bytes,
        bytes_read: read.bytes_read,
        ..walked
    };
    if walked.files + read.files + walked.directories + walked.others == 0 {
        let first = collected.problems.first.into_iter().next();
        let (path, why) = first.map(|p| (p.path, p.why)).unwrap_or_default();
        return Err(OpsError::Source { path, why });
    }
    Ok(collected)
}

impl Collector<'_> {
    pub fn now(&self) -> Time {
        self.now
    }

    fn take_all(&mut self, work: Receiver<Work>, sink: &mut dyn ChunkSink) -> Result<(), OpsError> {
        work.into_iter().try_for_each(|work| self.take(work, sink))
    }

    fn take(&mut self, work: Work, sink: &mut dyn ChunkSink) -> Result<(), OpsError> {
        match work {
            Work::Items(items) => self.items(items, &[], sink),
            // The reading thread always answers, unless it panicked.
            Work::Batch(done) => {
                let (buffer, items) = done.recv().map_err(|_| OpsError::Cancelled)?;
                self.items(items, &buffer, sink)?;
                self.reader.give_back(buffer);
                Ok(())
            }
            Work::Large(blocks) => self.large(&blocks, sink),
        }
    }

    fn items(
        &mut self,
        items: Vec<Item>,
        buffer: &[u8],
        sink: &mut dyn ChunkSink,
    ) -> Result<(), OpsError> {
        for item in items {
            match item {
                Item::Enter => self.levels.push(ListingBuilder::default()),
                Item::Leave(name, metadata) => {
                    let listing = self.levels.pop().unwrap_or_default().finish(sink)?;
                    let kind = EntryKind::Directory { listing };
                    self.push(&Entry { name, kind, metadata: *metadata }, sink)?;
                }
                Item::Entry(entry) => self.push(&entry, sink)?,
                Item::File(mut file) => {
                    let mut refs = RefsBuilder::default();
                    if let Ok(pieces) = &mut file.content {
                        add(std::mem::take(pieces), buffer, &mut refs, sink)?;
                    }
                    self.file(*file, refs, sink)?;
                }
                Item::Late(file) => self.late(*file, sink)?,
                Item::Read(file) => unreachable!("{:?} went past the readers", file.name),
            }
        }
        Ok(())
    }

    fn large(
        &mut self,
        blocks: &Receiver<Block>,
        sink: &mut dyn ChunkSink,
    ) -> Result<(), OpsError> {
        let mut refs = RefsBuilder::default();
        for block in blocks {
            match block {
                Block::Pieces(buffer, pieces) => {
                    add(pieces, &buffer, &mut refs, sink)?;
                    self.reader.give_back(buffer);
                }
                Block::Again => refs = RefsBuilder::default(),
                Block::End(file) => return self.file(*file, refs, sink),
            }
        }
        // Without an end the reader was told to stop.
        Err(OpsError::Cancelled)
    }

    fn file(
        &mut self,
        read: ReadFile,
        refs: RefsBuilder,
        sink: &mut dyn ChunkSink,
    ) -> Result<(), OpsError> {
        self.statistics.bytes_read += read.bytes_read;
        let path = || [&read.file.parent_path[..], b"/", &read.file.name].concat();
        if let Err(error) = read.content {
            self.run.problem(Problem::at(error.path(), &error));
            return Ok(());
        }
        if read.unstable {
            let why = "it kept changing while it was read; the snapshot has a mixed state";
            self.run.problem(Problem::at(path(), why));
        }
        let content = refs.finish(sink)?;
        if let Some(shared) = read.file.shared.as_ref().filter(|_| !read.unstable) {
            // The first of the names that were read stays.
            let _ = shared.set((read.file.stat, content.clone()));
        }
        self.content(read.file, content, read.unstable, sink)
    }

    /// A file that no reading thread has read: another name of one that was, unless what came of
    /// that one is not known or not true any more.
    fn late(&mut self, file: ToRead, sink: &mut dyn ChunkSink) -> Result<(), OpsError> {
        let first = file.shared.as_deref().and_then(OnceLock::get);
        if let Some((_, content)) = first.filter(|(stat, _)| *stat == file.stat) {
            let content = content.clone();
            self.reader.progress.add(Counter::Bytes, content.len());
            return self.content(file, content, false, sink);
        }
        let reader = self.reader;
        std::thread::scope(|scope| {
            let (job, work) = batch::large(file, unbounded());
            scope.spawn(|| reader.job(job));
            self.take(work, sink)
        })
    }

    fn content(
        &mut self,
        file: ToRead,
        content: Refs,
        unstable: bool,
        sink: &mut dyn ChunkSink,
    ) -> Result<(), OpsError> {
        self.statistics.files += 1;
        self.statistics.bytes += content.len();
        let kind = EntryKind::File { content, unstable };
        // One that was read because nobody could tell may well be what it was.
        match file.before {
            None => self.statistics.files_new += 1,
            Some(before) if before.kind == kind => self.statistics.files_unchanged += 1,
            Some(_) => self.statistics.files_changed += 1,
        }
        let mut metadata = file.metadata;
        if !file.stat.is_settled(self.now) {
            metadata.ctime = Time::default();
        }
        self.push(&Entry { name: file.name, kind, metadata }, sink)
    }

    fn push(&mut self, entry: &Entry, sink: &mut dyn ChunkSink) -> Result<(), OpsError> {
        match self.levels.last_mut() {
            Some(listing) => Ok(listing.push(entry, sink)?),
            None => unreachable!("the walk leaves only what it entered"),
        }
    }

    /// The tree of a snapshot with a single file.
    pub fn single(
        mut self,
        entry: Entry,
        bytes_read: u64,
        sink: &mut dyn ChunkSink,
    ) -> Result<Collected, OpsError> {
        self.statistics.files = 1;
        self.statistics.files_new = 1;
        self.statistics.bytes = entry.size();
        self.statistics.bytes_read = bytes_read;
        self.push(&entry, sink)?;
        self.finish(sink)
    }

    fn finish(mut self, sink: &mut dyn ChunkSink) -> Result<Collected, OpsError> {
        let root = self.levels.pop().unwrap_or_default().finish(sink)?;
        let mut problems = self.run.problems.lock().unwrap_or_else(PoisonError::into_inner);
        let problems = std::mem::take(&mut *problems);
        Ok(Collected { root, statistics: self.statistics, problems })
    }
}

fn add(
    pieces: Vec<Piece>,
    buffer: &[u8],
    refs: &mut RefsBuilder,
    sink: &mut dyn ChunkSink,
) -> Result<(), OpsError> {
    for piece in pieces {
        match piece {
            Piece::Hole { len } => refs.push(Ref::Hole { len }, sink)?,
            Piece::Chunk { id, at, base } => {
                let chunk = buffer.get(at).unwrap_or_default();
                match base {
                    None => sink.add_data(id, chunk)?,
                    Some(base) => sink.add_data_like(id, chunk, base)?,
                };
                refs.push(Ref::Chunk { id, len: chunk.len() as u64 }, sink)?;
            }
        }
    }
    Ok(())
}

/// So many new chunks are remembered by a dry run. Those that come again later than that are
/// counted again: a dry run estimates, in bounded memory.
const SEEN_MAX: usize = 500_000;

/// Takes chunks, counts what would be new, and stores nothing.
pub struct DrySink {
    repository: Arc<Repository>,
    seen: HashSet<ChunkId>,
    bytes_new: u64,
}

impl DrySink {
    /// Looks at what this repository has.
    pub fn new(repository: &Arc<Repository>) -> Self {
        Self { repository: repository.clone(), seen: HashSet::new(), bytes_new: 0 }
    }

    /// Plain bytes of chunks that the repository does not have.
    pub fn bytes_new(&self) -> u64 {
        self.bytes_new
    }

    fn count(&mut self, id: ChunkId, plain: &[u8]) -> Result<bool, RepoError> {
        let known = self.repository.with_index(|index| index.any_location(&id, |_| true))??;
        if self.seen.len() >= SEEN_MAX {
            self.seen.clear();
        }
        let new = !known && self.seen.insert(id);
        if new {
            self.bytes_new += plain.len() as u64;
        }
        Ok(new)
    }
}

impl ChunkSink for DrySink {
    fn add_data(&mut self, id: ChunkId, plain: &[u8]) -> Result<bool, RepoError> {
        self.count(id, plain)
    }

    fn add_data_like(&mut self, id: ChunkId, plain: &[u8], _: FrameId) -> Result<bool, RepoError> {
        self.count(id, plain)
    }

    fn add_tree(&mut self, plain: &[u8]) -> Result<ChunkId, RepoError> {
        let id = self.repository.keys().tree_id(plain);
        self.count(id, plain)?;
        Ok(id)
    }
}
