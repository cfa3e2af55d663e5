//! Walking what is scanned of a living tree next to the parent snapshot.
//!
//! A directory in which nothing changed is taken from the parent as a whole: as long as every
//! entry is the parent's, nothing is sent on; with the first difference everything so far is.

use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::Run;
use super::batch::Batches;
use super::collect::Item;
use super::links::{Links, Name};
use super::parent::{Before, Trust};
use super::read::ToRead;
use super::scan::{Entered, Step};
use crate::format::snapshot::Statistics;
use crate::format::tree::{Entry, EntryKind, Metadata, Refs};
use crate::ops::OpsError;
use crate::progress::Counter;
use crate::source::{Directory, Kind, Names, Owners, SourceError, Stat};
use crate::tree::TreeReader;
use crate::world::Time;

/// So many unchanged entries are held back before they are sent on.
const HELD_MAX: usize = 16_384;

/// A directory that the walk is in.
struct Level {
    /// Its name; empty for the root.
    name: Vec<u8>,
    /// Length of the path above it.
    above_len: usize,
    metadata: Metadata,
    names: Arc<Names>,
    /// Its entry in the parent snapshot, and the entries below that one.
    before: Option<Box<Entry>>,
    entries: Before,
    /// Entries taken from the parent, while there were no others.
    held: Vec<Item>,
    /// The directory was announced: it differs from the parent's.
    entered: bool,
}

pub(super) struct Walk<'a> {
    run: Run<'a>,
    trust: &'a Trust,
    trees: TreeReader,
    /// The root's listing in the parent snapshot.
    root: Option<Refs>,
    owners: Owners,
    links: Links,
    now: Time,
    statistics: Statistics,
    levels: Vec<Level>,
    /// How many entries they hold back, all together.
    held: usize,
    path: Vec<u8>,
    /// The same for files that are read later: made for the first of a directory.
    shared_path: Option<Arc<[u8]>>,
    /// The directory where the walk is.
    directory: Option<Arc<Directory>>,
    out: Batches,
}

impl<'a> Walk<'a> {
    pub fn new(
        run: Run<'a>,
        trust: &'a Trust,
        trees: TreeReader,
        root: Option<Refs>,
        now: Time,
        out: Batches,
    ) -> Self {
        Self {
            run,
            trust,
            trees,
            root,
            owners: Owners::new(),
            links: Links::default(),
            now,
            statistics: Statistics::default(),
            levels: Vec::new(),
            held: 0,
            path: Vec::new(),
            shared_path: None,
            directory: None,
            out,
        }
    }

    /// Walks until the root is left.
    pub fn run(mut self, steps: Receiver<Vec<Step>>) -> Result<Statistics, OpsError> {
        for step in steps.into_iter().flatten() {
            match step {
                Step::Enter(entered) => self.enter(*entered)?,
                Step::In(directory) => self.directory = Some(directory),
                Step::Entry { number, stat } => self.entry(number, stat)?,
                Step::Leave => self.leave()?,
            }
        }
        self.out.flush()?;
        // A scan that was stopped leaves the root never, and what there is of the tree is no tree.
        match self.levels.is_empty() {
            true => Ok(self.statistics),
            false => Err(OpsError::Cancelled),
        }
    }

    fn level(&mut self) -> &mut Level {
        self.levels.last_mut().expect("the first step enters the root, and leaving it is the last")
    }

    /// What the parent has of a name in the directory where the walk is.
    fn before(&mut self, number: usize) -> Result<Option<Box<Entry>>, OpsError> {
        let trust = self.trust;
        let level = self.level();
        let (before, gone) = level.entries.take(level.names.bytes(number), trust);
        if gone {
            self.differs()?;
        }
        Ok(before)
    }

    /// The directory where the walk is. Its handle is counted by two threads, so that it is asked
    /// for only where something changed.
    fn directory(&self) -> Arc<Directory> {
        self.directory.clone().expect("entries come after their directory")
    }

    /// An entry below which there is nothing to walk.
    fn entry(&mut self, number: usize, stat: Stat) -> Result<(), OpsError> {
        let before = self.before(number)?;
        let unchanged = before.as_ref().and_then(|entry| self.unchanged(&stat, entry));
        let same_content = unchanged.is_some_and(|content| self.trust.has(&self.trees, content));
        let read_again = unchanged.is_some() && !same_content;
        let same_inode = before.as_ref().is_some_and(|entry| same_inode(&stat, entry));
        let special = !matches!(stat.kind, Kind::File | Kind::Directory);
        match before {
            Some(entry) if same_content || (special && same_inode) => {
                self.taken(entry, &stat, same_inode)
            }
            before => self.changed(number, stat, before, read_again),
        }
    }

    /// Takes an entry from the parent.
    fn taken(&mut self, entry: Box<Entry>, stat: &Stat, same_inode: bool) -> Result<(), OpsError> {
        if stat.kind == Kind::File {
            self.statistics.files += 1;
            self.statistics.files_unchanged += 1;
            self.statistics.bytes += entry.size();
            self.run.progress.add(Counter::Bytes, entry.size());
        } else {
            self.statistics.others += 1;
        }
        if same_inode {
            return self.same(Item::Entry(entry));
        }
        let metadata = self.metadata(&self.directory(), &entry.name, stat);
        let Some(metadata) = metadata else { return self.differs() };
        self.send(Item::Entry(Box::new(Entry { metadata, ..*entry })))
    }

    /// An entry that is not as the parent has it.
    fn changed(
        &mut self,
        number: usize,
        stat: Stat,
        before: Option<Box<Entry>>,
        read_again: bool,
    ) -> Result<(), OpsError> {
        let name = self.level().names.bytes(number).to_vec();
        let directory = self.directory();
        let Some(metadata) = self.metadata(&directory, &name, &stat) else {
            return self.differs();
        };
        let kind = match stat.kind {
            Kind::File => {
                let lost = before.is_none() && self.level().entries.lost;
                if read_again || lost {
                    self.trust.reads_again(lost);
                }
                let path = self.shared_path.get_or_insert_with(|| Arc::from(&self.path[..]));
                let parent_path = Arc::clone(path);
                self.run.progress.at(&[&parent_path, &b"/"[..], &name].concat());
                let shared = None;
                let file = ToRead { directory, name, parent_path, stat, metadata, before, shared };
                return self.read(file);
            }
            Kind::Directory => EntryKind::Directory { listing: Refs::default() },
            Kind::Symlink => match directory.read_link(&name) {
                Ok(target) => EntryKind::Symlink { target },
                Err(error) => {
                    self.run.source_problem(&self.path, error);
                    return self.differs();
                }
            },
            Kind::Fifo => EntryKind::Fifo,
            Kind::Socket => EntryKind::Socket,
            Kind::CharDevice => EntryKind::CharDevice { major: stat.major, minor: stat.minor },
            Kind::BlockDevice => EntryKind::BlockDevice { major: stat.major, minor: stat.minor },
        };
        match stat.kind {
            Kind::Directory => self.statistics.directories += 1,
            _ => self.statistics.others += 1,
        }
        self.send(Item::Entry(Box::new(Entry { name, kind, metadata })))
    }

    /// The content that the parent snapshot has of a file, if the file did not change since.
    fn unchanged<'e>(&self, stat: &Stat, before: &'e Entry) -> Option<&'e Refs> {
        let EntryKind::File { content, unstable: false } = &before.kind else { return None };
        let detection = self.run.options.detection;
        let same = stat.kind == Kind::File
            && stat.size == content.len()
            && stat.mtime == before.metadata.mtime
            && (!detection.ctime || stat.ctime == before.metadata.ctime)
            && (!detection.inode || stat.inode == before.metadata.inode);
        same.then_some(content)
    }

    fn metadata(&self, directory: &Directory, name: &[u8], stat: &Stat) -> Option<Metadata> {
        match directory.metadata(name, stat, &self.owners) {
            Ok((metadata, problems)) => Some(self.told(metadata, problems, stat)),
            Err(error) => {
                self.run.source_problem(&self.path, error);
                None
            }
        }
    }

    /// Metadata as it is stored. Without its ctime nothing will be taken for the same inode: not
    /// what may change once more under the same time, nor what could not be read in full.
    fn told(&self, mut metadata: Metadata, problems: Vec<SourceError>, stat: &Stat) -> Metadata {
        let whole = problems.is_empty();
        problems.into_iter().for_each(|problem| self.run.source_problem(&self.path, problem));
        if !(whole && stat.is_settled(self.now)) {
            metadata.ctime = Time::default();
        }
        metadata
    }

    fn enter(&mut self, entered: Entered) -> Result<(), OpsError> {
        let Entered { number, directory, names } = entered;
        let above_len = self.path.len();
        let mut level = Level {
            name: Vec::new(),
            above_len,
            metadata: Metadata::default(),
            names,
            before: None,
            entries: Before::default(),
            held: Vec::new(),
            entered: self.levels.is_empty(),
        };
        if self.levels.is_empty() {
            level.entries = Before::new(&self.trees, self.root.take().as_ref());
        } else {
            let before = self.before(number)?;
            let name = self.level().names.bytes(number).to_vec();
            self.path.push(b'/');
            self.path.extend_from_slice(&name);
            level.name = name;
            level.metadata = self.metadata_of(directory.as_deref(), before.as_deref());
            let listing = before.as_ref().and_then(|entry| match &entry.kind {
                EntryKind::Directory { listing } => Some(listing),
                _ => None,
            });
            level.entries = Before::new(&self.trees, listing);
            // Below what cannot be read nothing is known either.
            level.entries.lost = before.is_none() && self.level().entries.lost;
            level.before = before.filter(|entry| entry.is_directory());
            self.statistics.directories += 1;
        }
        self.shared_path = None;
        self.directory = directory;
        self.levels.push(level);
        Ok(())
    }

    /// The metadata of a directory that is entered.
    fn metadata_of(&self, directory: Option<&Directory>, before: Option<&Entry>) -> Metadata {
        let Some(directory) = directory else {
            return Metadata { mode: 0o755, ..Metadata::default() };
        };
        let stat = directory.own_stat();
        match before {
            Some(entry) if same_inode(stat, entry) => entry.metadata.clone(),
            _ => {
                let (metadata, problems) = directory.own_metadata(&self.owners);
                self.told(metadata, problems, stat)
            }
        }
    }

    /// The directory that was entered last is done.
    fn leave(&mut self) -> Result<(), OpsError> {
        let trust = self.trust;
        // Entries of the parent that are gone now are a difference too.
        let none_gone = self.level().entries.is_at_end(trust);
        let Some(mut level) = self.levels.pop() else { return Ok(()) };
        self.held -= level.held.len();
        self.path.truncate(level.above_len);
        (self.shared_path, self.directory) = (None, None);
        if self.levels.is_empty() {
            return Ok(());
        }
        if !level.entered
            && none_gone
            && let Some(before) = level.before.take_if(|before| self.listing_is_present(before))
        {
            if before.metadata == level.metadata {
                return self.same(Item::Entry(before));
            }
            let metadata = level.metadata;
            return self.send(Item::Entry(Box::new(Entry { metadata, ..*before })));
        }
        self.differs()?;
        if !level.entered {
            self.out.push(Item::Enter)?;
            level.held.into_iter().try_for_each(|item| self.out.push(item))?;
        }
        self.out.push(Item::Leave(level.name, Box::new(level.metadata)))
    }

    fn listing_is_present(&self, directory: &Entry) -> bool {
        match &directory.kind {
            EntryKind::Directory { listing } => self.trust.has(&self.trees, listing),
            _ => false,
        }
    }

    /// An entry that is the parent's: held back while its directory may be the parent's too.
    fn same(&mut self, item: Item) -> Result<(), OpsError> {
        let level = self.level();
        if level.entered || level.before.is_none() {
            return self.send(item);
        }
        level.held.push(item);
        self.held += 1;
        match self.held < HELD_MAX {
            true => Ok(()),
            false => self.differs(),
        }
    }

    /// From here on the directories that the walk is in are not the parent's: they are announced,
    /// with what was held back.
    fn differs(&mut self) -> Result<(), OpsError> {
        let first = self.levels.iter().rposition(|level| level.entered).map_or(0, |at| at + 1);
        for level in self.levels.iter_mut().skip(first) {
            level.entered = true;
            self.out.push(Item::Enter)?;
            std::mem::take(&mut level.held).into_iter().try_for_each(|item| self.out.push(item))?;
        }
        self.held = 0;
        Ok(())
    }

    fn send(&mut self, item: Item) -> Result<(), OpsError> {
        self.differs()?;
        self.out.push(item)
    }

    fn read(&mut self, mut file: ToRead) -> Result<(), OpsError> {
        self.differs()?;
        match self.links.name(&file.stat) {
            Name::Only => {}
            Name::First(shared) => file.shared = Some(shared),
            Name::Another(shared) => {
                file.shared = Some(shared);
                return self.out.late(file);
            }
        }
        self.out.read(file)
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
        // Some were stored without.
        && m.ctime != Time::default()
        && m.mtime == stat.mtime
        && m.inode == stat.inode
        // The links of a directory count what is below it.
        && (kind == Kind::Directory || m.links == stat.links)
        && (m.links == 1 || m.device == stat.device)
}
