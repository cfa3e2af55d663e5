//! Walking a living tree in byte order of names, next to the parent snapshot's.
//!
//! A directory in which nothing changed is taken from the parent as a whole: as long as every
//! entry is the parent's, nothing is sent on; with the first difference everything so far is.

use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::Sender;

use super::collect::{self, Item, Work};
use super::links::{Links, Name};
use super::parent::{Before, Trust};
use super::paths::Node;
use super::read::{Job, LARGE_LEN, ToRead};
use super::{BackupOptions, Problems};
use crate::format::snapshot::Statistics;
use crate::format::tree::{Entry, EntryKind, Metadata, Refs};
use crate::ops::OpsError;
use crate::progress::{Counter, Problem, Progress};
use crate::repo::{Repository, SnapshotRecord};
use crate::source::{
    CACHE_TAG, Chain, Directory, Kind, Names, Owners, SourceError, Start, Stat, Verdict,
    pseudo_file_system,
};
use crate::tree::TreeReader;
use crate::world::Time;

/// A batch is handed on with so many items, or so many bytes to be read.
const BATCH_ITEMS: usize = 256;
const BATCH_BYTES: u64 = 512 << 10;
/// So many unchanged entries of a directory are held back before they are sent on.
const HELD_MAX: usize = 4096;

/// A directory that the walk is in.
struct Level {
    name: Vec<u8>,
    metadata: Metadata,
    /// Its path, for files that are read later.
    path: Arc<[u8]>,
    names: Names,
    next: usize,
    only_tag: bool,
    /// Its entry in the parent snapshot, and the entries below that one.
    before: Option<Box<Entry>>,
    entries: Before,
    /// Entries taken from the parent, while there were no others.
    held: Vec<Item>,
    /// The directory was announced: it differs from the parent's.
    entered: bool,
}

pub(super) struct Walk<'a> {
    options: &'a BackupOptions,
    parent: Option<SnapshotRecord>,
    trust: &'a Trust,
    trees: TreeReader,
    owners: Owners,
    links: Links,
    now: Time,
    statistics: Statistics,
    problems: &'a Mutex<Problems>,
    progress: &'a dyn Progress,
    levels: Vec<Level>,
    items: Vec<Item>,
    bytes: u64,
    to_read: bool,
    jobs: Sender<Job>,
    work: Sender<Work>,
}

/// The collecting thread has stopped; it knows why.
fn stopped<T>(_: T) -> OpsError {
    OpsError::Cancelled
}

impl<'a> Walk<'a> {
    #[expect(clippy::too_many_arguments, reason = "called once; a struct would say it all twice")]
    pub fn new(
        repository: &'a Repository,
        trees: TreeReader,
        options: &'a BackupOptions,
        parent: Option<SnapshotRecord>,
        trust: &'a Trust,
        problems: &'a Mutex<Problems>,
        progress: &'a dyn Progress,
        jobs: Sender<Job>,
        work: Sender<Work>,
    ) -> Self {
        Self {
            options,
            parent,
            trust,
            trees,
            owners: Owners::new(),
            links: Links::default(),
            now: repository.world().now(),
            statistics: Statistics::default(),
            problems,
            progress,
            levels: Vec::new(),
            items: Vec::new(),
            bytes: 0,
            to_read: false,
            jobs,
            work,
        }
    }

    /// Walks everything that was asked for.
    pub fn run(mut self, root: Node) -> Result<Statistics, OpsError> {
        let before = self.parent.take().map(|parent| parent.snapshot.root);
        match root.start {
            Some(start) => self.top(start, before)?,
            None => self.node(root, b"", before)?,
        }
        self.flush()?;
        Ok(self.statistics)
    }

    fn problem(&self, problem: Problem) {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        problems.add(self.progress, problem);
    }

    fn source_problem(&self, parent: &[u8], error: SourceError) {
        let error = error.below(parent);
        self.problem(Problem::at(error.path(), &error));
    }

    fn before(&self, listing: Option<&Refs>) -> Before {
        Before::new(&self.trees, listing)
    }

    /// Directories between the root and what was asked for.
    fn node(&mut self, node: Node, path: &[u8], listing: Option<Refs>) -> Result<(), OpsError> {
        let mut entries = self.before(listing.as_ref());
        for (name, child) in node.children {
            let (before, _) = entries.take(&name, self.trust);
            if let Some(start) = child.start {
                self.start(start, before)?;
                continue;
            }
            let path = [path, b"/", &name].concat();
            let below = before.and_then(|entry| match entry.kind {
                EntryKind::Directory { listing } => Some(listing),
                _ => None,
            });
            self.send(Item::Enter)?;
            self.node(child, &path, below)?;
            let metadata = self.way(&path);
            self.statistics.directories += 1;
            self.send(Item::Leave(name, Box::new(metadata)))?;
        }
        Ok(())
    }

    /// Metadata of a directory on the way, which may be reached through a link.
    fn way(&self, path: &[u8]) -> Metadata {
        use std::os::unix::ffi::OsStrExt;
        let path = std::path::Path::new(std::ffi::OsStr::from_bytes(path));
        let metadata = Directory::open_path(path).and_then(|directory| {
            let stat = *directory.own_stat();
            directory.metadata(b".", &stat, &self.owners)
        });
        // It was opened a moment ago; if it is gone now, what is below it will say so.
        metadata.map_or_else(|_| Metadata { mode: 0o755, ..Metadata::default() }, |(m, _)| m)
    }

    /// The root directory itself: its entries are the snapshot's topmost.
    fn top(&mut self, start: Start, listing: Option<Refs>) -> Result<(), OpsError> {
        let stat = *start.parent.own_stat();
        let names = match start.parent.names() {
            Ok(names) => names,
            Err(error) => {
                self.source_problem(b"/", error);
                return Ok(());
            }
        };
        let mut chain = Chain::new(start.parent, b"/".to_vec());
        let mut entries = self.before(listing.as_ref());
        for name in names.iter() {
            let (before, _) = entries.take(name.bytes, self.trust);
            self.entry(&mut chain, name.bytes, before, stat.device)?;
            self.descend(&mut chain, stat.device)?;
        }
        Ok(())
    }

    /// Something that was asked for.
    fn start(&mut self, start: Start, before: Option<Box<Entry>>) -> Result<(), OpsError> {
        let parent_path = match start.path.iter().rposition(|byte| *byte == b'/') {
            Some(0) | None => b"/".to_vec(),
            Some(at) => start.path[..at].to_vec(),
        };
        let device = start.parent.stat(&start.name).map_or(0, |stat| stat.device);
        let mut chain = Chain::new(start.parent, parent_path);
        self.entry(&mut chain, &start.name, before, device)?;
        self.descend(&mut chain, device)
    }

    /// Walks until the directory that was entered last, if any, is done.
    fn descend(&mut self, chain: &mut Chain, device: u64) -> Result<(), OpsError> {
        while let Some(level) = self.levels.last_mut() {
            let Some(name) = level.names.get(level.next).map(|name| name.bytes.to_vec()) else {
                self.leave(chain)?;
                continue;
            };
            level.next += 1;
            if level.only_tag && name != CACHE_TAG {
                continue;
            }
            let (before, gone) = level.entries.take(&name, self.trust);
            if gone {
                self.differs()?;
            }
            self.entry(chain, &name, before, device)?;
        }
        Ok(())
    }

    /// Deals with one name of the directory where the chain is.
    fn entry(
        &mut self,
        chain: &mut Chain,
        name: &[u8],
        before: Option<Box<Entry>>,
        device: u64,
    ) -> Result<(), OpsError> {
        if self.progress.cancelled() {
            return Err(OpsError::Cancelled);
        }
        let found = chain.directory().and_then(|d| d.stat(name).map(|stat| (d, stat)));
        let (directory, stat) = match found {
            Ok(found) => found,
            Err(error) => {
                self.source_problem(chain.path(), error);
                return self.differs();
            }
        };
        let empty = match self.options.excludes.verdict(chain.path(), name, &stat, device) {
            // What the parent has and this snapshot shall not have is a difference.
            Verdict::Skip(_) if before.is_some() => return self.differs(),
            Verdict::Skip(_) => return Ok(()),
            Verdict::TakeEmpty(_) => true,
            Verdict::Take => false,
        };
        self.progress.add(Counter::Entries, 1);
        if stat.is_directory() {
            return self.enter(chain, &directory, name, &stat, before, empty);
        }
        self.leaf(chain, directory, name, stat, before)
    }

    /// A file, or anything else that is no directory.
    fn leaf(
        &mut self,
        chain: &Chain,
        directory: Arc<Directory>,
        name: &[u8],
        stat: Stat,
        before: Option<Box<Entry>>,
    ) -> Result<(), OpsError> {
        let is_file = stat.kind == Kind::File;
        let known = before.is_some();
        let unchanged = before.as_ref().and_then(|entry| self.unchanged(&stat, entry));
        let same_content = unchanged.is_some_and(|content| self.trust.has(&self.trees, content));
        let read_again = unchanged.is_some() && !same_content;
        let lost = !known && self.levels.last().is_some_and(|level| level.entries.lost);
        let same_inode = before.as_ref().is_some_and(|entry| same_inode(&stat, entry));
        let is_taken = same_content || (!is_file && same_inode);
        if is_taken && let Some(entry) = before {
            if is_file {
                self.statistics.files += 1;
                self.statistics.files_unchanged += 1;
                self.statistics.bytes += entry.size();
                self.progress.add(Counter::Bytes, entry.size());
            } else {
                self.statistics.others += 1;
            }
            if same_inode {
                return self.same(Item::Entry(entry));
            }
            let metadata = self.metadata(&directory, chain.path(), name, &stat);
            let Some(metadata) = metadata else { return self.differs() };
            return self.send(Item::Entry(Box::new(Entry { metadata, ..*entry })));
        }
        let Some(metadata) = self.metadata(&directory, chain.path(), name, &stat) else {
            return self.differs();
        };
        if is_file {
            if read_again || lost {
                self.trust.reads_again(lost);
            }
            self.progress.at(&chain.path_of(name));
            let parent_path = match self.levels.last() {
                Some(level) => level.path.clone(),
                None => Arc::from(chain.path()),
            };
            let (name, shared) = (name.to_vec(), None);
            let file = ToRead { directory, name, parent_path, stat, metadata, before, shared };
            return self.read(file);
        }
        let kind = match stat.kind {
            Kind::Symlink => match directory.read_link(name) {
                Ok(target) => EntryKind::Symlink { target },
                Err(error) => {
                    self.source_problem(chain.path(), error);
                    return self.differs();
                }
            },
            Kind::Fifo => EntryKind::Fifo,
            Kind::Socket => EntryKind::Socket,
            Kind::CharDevice => EntryKind::CharDevice { major: stat.major, minor: stat.minor },
            Kind::BlockDevice => EntryKind::BlockDevice { major: stat.major, minor: stat.minor },
            Kind::File | Kind::Directory => unreachable!("dealt with before"),
        };
        self.statistics.others += 1;
        self.send(Item::Entry(Box::new(Entry { name: name.to_vec(), kind, metadata })))
    }

    /// The content that the parent snapshot has of a file, if the file did not change since.
    fn unchanged<'e>(&self, stat: &Stat, before: &'e Entry) -> Option<&'e Refs> {
        let EntryKind::File { content, unstable: false } = &before.kind else { return None };
        let detection = self.options.detection;
        let same = stat.kind == Kind::File
            && stat.size == content.len()
            && stat.mtime == before.metadata.mtime
            && (!detection.ctime || stat.ctime == before.metadata.ctime)
            && (!detection.inode || stat.inode == before.metadata.inode);
        same.then_some(content)
    }

    fn metadata(
        &self,
        directory: &Directory,
        parent_path: &[u8],
        name: &[u8],
        stat: &Stat,
    ) -> Option<Metadata> {
        match directory.metadata(name, stat, &self.owners) {
            Ok((mut metadata, problems)) => {
                for problem in problems {
                    self.source_problem(parent_path, problem);
                }
                if !stat.is_settled(self.now) && stat.kind != Kind::File {
                    metadata.ctime = Time::default();
                }
                Some(metadata)
            }
            Err(error) => {
                self.source_problem(parent_path, error);
                None
            }
        }
    }

    /// Goes into a directory; one that cannot be opened is kept empty, and said so.
    fn enter(
        &mut self,
        chain: &mut Chain,
        parent: &Directory,
        name: &[u8],
        stat: &Stat,
        before: Option<Box<Entry>>,
        empty: bool,
    ) -> Result<(), OpsError> {
        let Some(metadata) = self.metadata(parent, chain.path(), name, stat) else {
            return self.differs();
        };
        self.statistics.directories += 1;
        let bare = Entry {
            name: name.to_vec(),
            kind: EntryKind::Directory { listing: Refs::default() },
            metadata,
        };
        if empty {
            return self.send(Item::Entry(Box::new(bare)));
        }
        let crossing = parent.own_stat().device != stat.device;
        let directory = match chain.enter(name, stat) {
            Ok(directory) => directory,
            Err(error) => {
                self.source_problem(chain.path(), error);
                return self.send(Item::Entry(Box::new(bare)));
            }
        };
        if crossing && let Ok(Some(kind)) = pseudo_file_system(&directory) {
            let path = crate::text::escape(chain.path());
            self.progress.note(&format!("{path}: left out what is in it, a {kind} file system"));
            chain.leave();
            return self.send(Item::Entry(Box::new(bare)));
        }
        let names = directory.names().unwrap_or_else(|error| {
            self.source_problem(chain.path(), error);
            Names::default()
        });
        if names.unusable() > 0 {
            let why = format!("{} names in it cannot be stored", names.unusable());
            self.problem(Problem::at(chain.path(), why));
        }
        let listing = before.as_ref().and_then(|entry| match &entry.kind {
            EntryKind::Directory { listing } => Some(listing),
            _ => None,
        });
        let mut entries = self.before(listing);
        // Below what cannot be read nothing is known either.
        entries.lost =
            before.is_none() && self.levels.last().is_some_and(|above| above.entries.lost);
        self.levels.push(Level {
            name: bare.name,
            metadata: bare.metadata,
            path: Arc::from(chain.path()),
            only_tag: self.options.excludes.keeps_only_tag(&directory, &names),
            names,
            next: 0,
            before: before.filter(|entry| entry.is_directory()),
            entries,
            held: Vec::new(),
            entered: false,
        });
        Ok(())
    }

    /// The directory that was entered last is done.
    fn leave(&mut self, chain: &mut Chain) -> Result<(), OpsError> {
        chain.leave();
        let Some(mut level) = self.levels.pop() else { return Ok(()) };
        // Entries of the parent that are gone now are a difference too.
        let none_gone = level.entries.is_at_end(self.trust);
        if !level.entered
            && none_gone
            && let Some(before) = level.before.take()
        {
            if before.metadata == level.metadata && self.listing_is_present(&before) {
                return self.same(Item::Entry(before));
            }
            if self.listing_is_present(&before) {
                let metadata = level.metadata;
                return self.send(Item::Entry(Box::new(Entry { metadata, ..*before })));
            }
        }
        self.differs()?;
        if !level.entered {
            self.batch(Item::Enter)?;
            for item in level.held {
                self.batch(item)?;
            }
        }
        self.batch(Item::Leave(level.name, Box::new(level.metadata)))
    }

    fn listing_is_present(&self, directory: &Entry) -> bool {
        match &directory.kind {
            EntryKind::Directory { listing } => self.trust.has(&self.trees, listing),
            _ => false,
        }
    }

    /// An entry that is the parent's: held back while its directory may be the parent's too.
    fn same(&mut self, item: Item) -> Result<(), OpsError> {
        match self.levels.last_mut() {
            Some(level) if !level.entered && level.before.is_some() => {
                level.held.push(item);
                match level.held.len() < HELD_MAX {
                    true => Ok(()),
                    false => self.differs(),
                }
            }
            _ => self.send(item),
        }
    }

    /// From here on the directories that the walk is in are not the parent's: they are announced,
    /// with what was held back.
    fn differs(&mut self) -> Result<(), OpsError> {
        let first = self.levels.iter().rposition(|level| level.entered).map_or(0, |at| at + 1);
        for number in first..self.levels.len() {
            let Some(level) = self.levels.get_mut(number) else { break };
            level.entered = true;
            let held = std::mem::take(&mut level.held);
            self.batch(Item::Enter)?;
            for item in held {
                self.batch(item)?;
            }
        }
        Ok(())
    }

    fn send(&mut self, item: Item) -> Result<(), OpsError> {
        self.differs()?;
        self.batch(item)
    }

    fn read(&mut self, mut file: ToRead) -> Result<(), OpsError> {
        self.differs()?;
        match self.links.name(&file.stat) {
            Name::Only => {}
            Name::First(shared) => file.shared = Some(shared),
            Name::Another(shared) => {
                file.shared = Some(shared);
                return self.batch(Item::Late(Box::new(file)));
            }
        }
        if file.stat.size >= LARGE_LEN {
            self.flush()?;
            let (job, work) = collect::large(file);
            self.jobs.send(job).map_err(stopped)?;
            return self.work.send(work).map_err(stopped);
        }
        self.bytes += file.stat.size;
        self.to_read = true;
        self.batch(Item::Read(Box::new(file)))
    }

    fn batch(&mut self, item: Item) -> Result<(), OpsError> {
        self.items.push(item);
        match self.items.len() >= BATCH_ITEMS || self.bytes >= BATCH_BYTES {
            true => self.flush(),
            false => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), OpsError> {
        let items = std::mem::take(&mut self.items);
        self.bytes = 0;
        if !std::mem::take(&mut self.to_read) {
            return self.work.send(Work::Items(items)).map_err(stopped);
        }
        let (job, work) = collect::batch(items);
        self.jobs.send(job).map_err(stopped)?;
        self.work.send(work).map_err(stopped)
    }
}

/// Whether an entry is the same inode in the same state, so that all of its metadata is the same.
fn same_inode(stat: &Stat, before: &Entry) -> bool {
    let kind = match &before.kind {
        EntryKind::File { .. } => Kind::File,
        EntryKind::Directory { .. } => Kind::Directory,
        EntryKind::Symlink { .. } => Kind::Symlink,
        EntryKind::Fifo => Kind::Fifo,
        EntryKind::Socket => Kind::Socket,
        EntryKind::CharDevice { .. } => Kind::CharDevice,
        EntryKind::BlockDevice { .. } => Kind::BlockDevice,
    };
    let m = &before.metadata;
    kind == stat.kind
        && m.ctime == stat.ctime
        && m.mtime == stat.mtime
        && m.inode == stat.inode
        && m.links == stat.links
        && (stat.links == 1 || m.device == stat.device)
}
