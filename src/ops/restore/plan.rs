//! What becomes of each file and other thing, and the windows in which that is collected.

use std::sync::mpsc::SyncSender;
use std::sync::{Arc, OnceLock};

use super::Overwrite;
use super::compare::{CompareError, Comparison};
use super::content::each_in_parallel;
use super::file::{FileParts, FileWork};
use super::links::{First, LinkKey, Links, key_of, standing};
use super::report::{Action, Change, Run};
use super::window::{LinkWork, Wanted, Window};
use crate::format::tree::{Entry, EntryKind, Metadata, Ref, Refs};
use crate::limits;
use crate::ops::OpsError;
use crate::target::{Difference, ExistingFile, Folder, Found, Kind, NewFile, TargetError};
use crate::world::Time;

/// Files that are compared at a time, by all threads.
const COMPARED_MAX: usize = 512;

/// Something of the snapshot that is no directory, and where it goes.
pub(super) struct Candidate {
    /// `None` in a dry run whose folder is not there.
    pub folder: Option<Arc<Folder>>,
    /// Relative to the target.
    pub path: Vec<u8>,
    pub entry: Entry,
}

impl Candidate {
    fn key(&self) -> Option<LinkKey> {
        key_of(&self.entry.metadata)
    }

    fn kind(&self) -> Kind {
        Kind::of(&self.entry.kind)
    }

    fn content(&self) -> Option<&Refs> {
        match &self.entry.kind {
            EntryKind::File { content, .. } => Some(content),
            _ => None,
        }
    }

    /// What stands there; nothing in a folder that this run made.
    fn found(&self) -> Result<Option<Found>, TargetError> {
        match &self.folder {
            Some(folder) if !folder.is_new() => folder.stat(&self.entry.name),
            _ => Ok(None),
        }
    }
}

/// What to do with a candidate.
enum Decision {
    /// The policy leaves it alone.
    Keep,
    Same,
    Metadata,
    Write(Action),
    /// A directory is in the way: it is removed, then as with the others.
    Clear,
    /// Its content must be read to know.
    Compare(Difference),
}

/// What waits for its turn behind files that are compared.
enum Item {
    Compare(Candidate, Difference),
    Link(Candidate, LinkKey),
    Finish(Arc<Folder>, Box<Metadata>),
}

/// Decides, and collects what is to be done.
pub(super) struct Plan<'a> {
    run: &'a Run<'a>,
    links: Links,
    queue: Vec<Item>,
    compared: usize,
    window: Window,
    /// `None` in a dry run.
    windows: Option<SyncSender<Window>>,
}

impl<'a> Plan<'a> {
    pub fn new(run: &'a Run<'a>, windows: Option<SyncSender<Window>>) -> Self {
        let links = Links::new(&run.repository.environment().cache);
        Self { run, links, queue: Vec::new(), compared: 0, window: Window::default(), windows }
    }

    pub fn is_dry(&self) -> bool {
        self.windows.is_none()
    }

    /// Takes what is no directory.
    pub fn push(&mut self, candidate: Candidate) -> Result<(), OpsError> {
        if let Some(key) = candidate.key()
            && !self.links.is_first(key, candidate.entry.metadata.links)?
        {
            return self.submit(Item::Link(candidate, key));
        }
        match decide(self.run, &candidate) {
            Ok(Decision::Compare(difference)) => self.submit(Item::Compare(candidate, difference)),
            Ok(decision) => self.carry_out(candidate, decision),
            Err(error) => {
                self.refuse(&candidate, error);
                Ok(())
            }
        }
    }

    /// A folder gets its metadata when everything that was pushed before is done.
    pub fn finish_folder(
        &mut self,
        folder: Arc<Folder>,
        metadata: Metadata,
    ) -> Result<(), OpsError> {
        self.submit(Item::Finish(folder, Box::new(metadata)))
    }

    /// Nothing more comes.
    pub fn end(mut self) -> Result<(), OpsError> {
        self.work_off()?;
        self.seal()
    }

    fn submit(&mut self, item: Item) -> Result<(), OpsError> {
        let compare = matches!(item, Item::Compare(..));
        if self.queue.is_empty() && !compare {
            return self.handle(item, false);
        }
        self.queue.push(item);
        self.compared += usize::from(compare);
        match self.compared >= COMPARED_MAX || self.queue.len() >= self.run.options.ahead.files {
            true => self.work_off(),
            false => Ok(()),
        }
    }

    /// Compares what waits for it, with all threads, and then handles all in its order.
    fn work_off(&mut self) -> Result<(), OpsError> {
        let items = std::mem::take(&mut self.queue);
        self.compared = 0;
        let to_compare = |item: &Item| match item {
            Item::Compare(candidate, _) => has_same_content(self.run, candidate),
            _ => false,
        };
        let same: Vec<OnceLock<bool>> = items.iter().map(|_| OnceLock::new()).collect();
        let pairs: Vec<_> = items.iter().zip(&same).collect();
        each_in_parallel(self.run.threads(), &pairs, |(item, same)| {
            let _ = same.set(to_compare(item));
        });
        for (item, same) in items.into_iter().zip(same) {
            if self.run.stopped() {
                return Err(OpsError::Cancelled);
            }
            self.handle(item, same.into_inner().unwrap_or(false))?;
        }
        Ok(())
    }

    fn handle(&mut self, item: Item, same: bool) -> Result<(), OpsError> {
        match item {
            Item::Compare(candidate, difference) => {
                self.carry_out_compared(candidate, difference, same)
            }
            Item::Link(candidate, key) => self.link(candidate, key),
            Item::Finish(folder, metadata) => {
                self.window.folders.push((folder, *metadata));
                self.seal_if_full()
            }
        }
    }

    fn carry_out_compared(
        &mut self,
        candidate: Candidate,
        difference: Difference,
        same: bool,
    ) -> Result<(), OpsError> {
        let decision = match (same, difference) {
            (false, _) => Decision::Write(Action::Replaced),
            (true, Difference::Same) => Decision::Same,
            // One with several names is never changed, only replaced.
            (true, Difference::Content)
                if candidate.found().is_ok_and(|found| found.is_some_and(|f| f.links > 1)) =>
            {
                Decision::Write(Action::Replaced)
            }
            (true, _) => Decision::Metadata,
        };
        self.carry_out(candidate, decision)
    }

    fn carry_out(&mut self, candidate: Candidate, decision: Decision) -> Result<(), OpsError> {
        match decision {
            // Other names do not become links to what is perhaps another file.
            Decision::Keep => {}
            Decision::Same | Decision::Metadata => self.settle(&candidate, true)?,
            Decision::Write(_) | Decision::Clear => self.settle(&candidate, false)?,
            Decision::Compare(difference) => {
                let same = has_same_content(self.run, &candidate);
                return self.carry_out_compared(candidate, difference, same);
            }
        }
        match decision {
            Decision::Keep | Decision::Same => self.unchanged(&candidate, Action::Unchanged),
            Decision::Metadata => {
                let set = match (&candidate.folder, self.is_dry()) {
                    (Some(folder), false) => {
                        folder.set_metadata(&candidate.entry.name, &candidate.entry)
                    }
                    _ => Ok(Vec::new()),
                };
                match set {
                    Ok(problems) => {
                        self.run.troubles(problems);
                        self.unchanged(&candidate, Action::Metadata);
                    }
                    Err(error) => self.run.trouble(error),
                }
            }
            Decision::Write(action) => return self.write(candidate, action),
            Decision::Clear => match self.clear(&candidate) {
                Ok(()) => return self.write(candidate, Action::Replaced),
                Err(error) => self.refuse(&candidate, error),
            },
            Decision::Compare(_) => {}
        }
        Ok(())
    }

    fn unchanged(&self, candidate: &Candidate, action: Action) {
        let change = Change { path: &candidate.path, kind: candidate.kind(), action, bytes: 0 };
        self.run.done(change, candidate.entry.size());
    }

    /// It cannot come because of the target.
    fn refuse(&self, candidate: &Candidate, error: TargetError) {
        self.run.broke(candidate.key(), false);
        self.run.trouble(error);
    }

    /// Other names of it become links to it.
    fn settle(&mut self, candidate: &Candidate, stays: bool) -> Result<(), OpsError> {
        let Some(key) = candidate.key() else { return Ok(()) };
        let found = if stays { candidate.found().ok().flatten() } else { None };
        let (folder, path) = (candidate.folder.clone(), candidate.path.clone());
        let first = First { folder, path, standing: found.as_ref().map(standing) };
        Ok(self.links.settle(key, first)?)
    }

    /// Removes a directory that is in the way.
    fn clear(&self, candidate: &Candidate) -> Result<(), TargetError> {
        if let (Some(folder), false) = (&candidate.folder, self.is_dry()) {
            make_writable(folder)?;
            folder.remove_tree(&candidate.entry.name, &mut |error| self.run.trouble(error))?;
        }
        Ok(())
    }

    fn write(&mut self, candidate: Candidate, action: Action) -> Result<(), OpsError> {
        let is_file = candidate.content().is_some();
        let done = |bytes| {
            let kind = candidate.kind();
            self.run.done(Change { path: &candidate.path, kind, action, bytes }, 0);
        };
        let folder = match (&candidate.folder, self.is_dry()) {
            (Some(folder), false) => folder.clone(),
            _ if is_file => {
                let bytes = planned_bytes(self.run, &candidate)?;
                done(bytes);
                return Ok(());
            }
            _ => {
                done(0);
                return Ok(());
            }
        };
        let entry = &candidate.entry;
        if let Err(error) = make_writable(&folder) {
            self.refuse(&candidate, error);
            return Ok(());
        }
        if is_file {
            return self.feed(candidate, folder, action);
        }
        match folder.create(&entry.name, &entry.kind, &entry.metadata) {
            Ok(problems) => {
                self.run.troubles(problems);
                done(0);
            }
            Err(error) => self.refuse(&candidate, error),
        }
        Ok(())
    }

    /// Puts a file with all of its chunks into the window, and further windows as they fill.
    fn feed(
        &mut self,
        candidate: Candidate,
        folder: Arc<Folder>,
        action: Action,
    ) -> Result<(), OpsError> {
        let (run, key) = (self.run, candidate.key());
        let EntryKind::File { content, .. } = candidate.entry.kind else { return Ok(()) };
        let (name, metadata) = (candidate.entry.name, candidate.entry.metadata);
        let (existing, in_place) = match in_place(run, &folder, &name, &metadata, &content) {
            Ok(Some((existing, file))) => (Some(existing), Some(file)),
            Ok(None) => (None, None),
            Err(error) => {
                run.broke(key, false);
                run.trouble(error);
                return Ok(());
            }
        };
        let leaves = run.trees.leaves(&content);
        let parts = FileParts { folder, name, metadata, content, key, action, in_place };
        let file = Arc::new(FileWork::new(parts, run.options.verify));
        let mut comparison = existing.as_ref().map(|existing| Comparison::new(run, existing));
        let (mut offset, mut chunks, mut split) = (0, 0, false);
        let mut whole = existing.is_none();
        self.window.files.push(file.clone());
        for leaf in leaves {
            if run.stopped() {
                return Err(OpsError::Cancelled);
            }
            let leaf = match leaf {
                Ok(leaf) => leaf,
                Err(error) => {
                    run.tree_damage(&candidate.path, error)?;
                    file.fail_said(run);
                    return Ok(());
                }
            };
            let at = offset;
            offset += leaf.len();
            let differs = match &mut comparison {
                Some(comparison) => prepare_in_place(run, &file, comparison, at, &leaf),
                None => true,
            };
            match leaf {
                Ref::Chunk { id, len } if differs => {
                    let Some(len) = chunk_len(len) else {
                        file.fail_damaged(run, "a chunk of it is longer than chunks can be");
                        return Ok(());
                    };
                    if self.window.wanted.len() >= run.options.ahead.chunks {
                        (whole, split) = (false, true);
                        self.seal()?;
                        self.window.files.push(file.clone());
                    }
                    file.expect_chunk();
                    chunks += 1;
                    // Windows hold far fewer files than that.
                    let number = u32::try_from(self.window.files.len() - 1).unwrap_or(u32::MAX);
                    self.window.wanted.push(Wanted { id, file: number, offset: at, len });
                }
                Ref::Chunk { .. } => {}
                Ref::Hole { .. } => whole = false,
            }
        }
        if whole {
            file.set_small(chunks);
        }
        match split || chunks == 0 {
            true => self.window.closing.push(file),
            false => file.know_all(),
        }
        self.seal_if_full()
    }

    /// A name of a file that has another name before.
    fn link(&mut self, candidate: Candidate, key: LinkKey) -> Result<(), OpsError> {
        let Some(first) = self.links.first(key)? else {
            return match decide(self.run, &candidate) {
                Ok(decision) => self.carry_out(candidate, decision),
                Err(error) => {
                    self.refuse(&candidate, error);
                    Ok(())
                }
            };
        };
        let action = match self.link_action(&candidate, &first) {
            Ok(Some(action)) => action,
            Ok(None) => {
                self.unchanged(&candidate, Action::Unchanged);
                return Ok(());
            }
            Err(error) => {
                self.run.trouble(error);
                return Ok(());
            }
        };
        let (name, kind) = (candidate.entry.name, Kind::of(&candidate.entry.kind));
        match candidate.folder.filter(|_| self.windows.is_some()) {
            Some(folder) => {
                self.window.links.push(LinkWork { key, first, folder, name, kind, action });
                self.seal_if_full()
            }
            None => {
                self.run.done(Change { path: &candidate.path, kind, action, bytes: 0 }, 0);
                Ok(())
            }
        }
    }

    /// What becomes of a later name; `None` if nothing does.
    fn link_action(
        &self,
        candidate: &Candidate,
        first: &First,
    ) -> Result<Option<Action>, TargetError> {
        let Some(found) = candidate.found()? else {
            if let (Some(folder), false) = (&candidate.folder, self.is_dry()) {
                make_writable(folder)?;
            }
            return Ok(Some(Action::Created));
        };
        let policy = self.run.options.overwrite;
        let is_it = first.standing == Some(standing(&found));
        if is_it || !allows(policy, candidate.entry.metadata.mtime, found.mtime) {
            return Ok(None);
        }
        if found.kind == Kind::Directory {
            require_delete(self.run, candidate)?;
            self.clear(candidate)?;
        } else if let (Some(folder), false) = (&candidate.folder, self.is_dry()) {
            make_writable(folder)?;
        }
        Ok(Some(Action::Replaced))
    }

    fn seal_if_full(&mut self) -> Result<(), OpsError> {
        let (window, ahead) = (&self.window, self.run.options.ahead);
        let most = window.files.len().max(window.links.len()).max(window.folders.len());
        match most >= ahead.files || window.wanted.len() >= ahead.chunks {
            true => self.seal(),
            false => Ok(()),
        }
    }

    /// Hands the window over; waits until the one before is written.
    fn seal(&mut self) -> Result<(), OpsError> {
        let window = std::mem::take(&mut self.window);
        match &self.windows {
            Some(windows) if !window.is_empty() => {
                windows.send(window).map_err(|_| OpsError::Cancelled)
            }
            _ => Ok(()),
        }
    }
}

/// Whether a policy lets something be changed that is there.
pub(super) fn allows(policy: Overwrite, wanted: Time, found: Time) -> bool {
    match policy {
        Overwrite::Always | Overwrite::IfChanged => true,
        Overwrite::IfNewer => wanted > found,
        Overwrite::Never => false,
    }
}

/// Before anything is made, replaced or removed in a folder that was there.
pub(super) fn make_writable(folder: &Folder) -> Result<(), TargetError> {
    match folder.is_new() {
        true => Ok(()),
        false => folder.make_writable(),
    }
}

fn chunk_len(len: u64) -> Option<u32> {
    u32::try_from(len).ok().filter(|len| *len as usize <= limits::CHUNK_LEN_MAX)
}

fn decide(run: &Run<'_>, candidate: &Candidate) -> Result<Decision, TargetError> {
    let entry = &candidate.entry;
    let Some(folder) = candidate.folder.as_ref().filter(|folder| !folder.is_new()) else {
        return Ok(Decision::Write(Action::Created));
    };
    let policy = run.options.overwrite;
    let difference = folder.difference(&entry.name, entry)?;
    match difference {
        Difference::Absent => return Ok(Decision::Write(Action::Created)),
        Difference::Same if policy != Overwrite::Always => return Ok(Decision::Same),
        _ => {}
    }
    let Some(found) = candidate.found()? else {
        return Ok(Decision::Write(Action::Created));
    };
    if !allows(policy, entry.metadata.mtime, found.mtime) {
        return Ok(Decision::Keep);
    }
    let is_file = found.kind == Kind::File && candidate.content().is_some();
    let same_size = is_file && found.size == entry.size() && found.size > 0;
    Ok(match difference {
        Difference::Content if run.options.in_place && same_size => Decision::Compare(difference),
        _ if policy == Overwrite::Always && same_size => Decision::Compare(difference),
        Difference::Same => Decision::Same,
        Difference::Metadata(_) => Decision::Metadata,
        Difference::OtherKind(Kind::Directory) => {
            require_delete(run, candidate)?;
            Decision::Clear
        }
        _ => Decision::Write(Action::Replaced),
    })
}

/// A directory gives way to something else only where things may be removed.
fn require_delete(run: &Run<'_>, candidate: &Candidate) -> Result<(), TargetError> {
    match run.options.delete {
        true => Ok(()),
        false => Err(TargetError::InTheWay { path: candidate.path.clone(), kind: Kind::Directory }),
    }
}

/// Whether a file has the content of its entry. What cannot be read, here or there, differs: the
/// writing will meet the same and say so.
fn has_same_content(run: &Run<'_>, candidate: &Candidate) -> bool {
    let (Some(folder), Some(content)) = (&candidate.folder, candidate.content()) else {
        return false;
    };
    let existing = folder.existing_file(&candidate.entry.name);
    existing.is_ok_and(|file| Comparison::new(run, &file).is_same(content).unwrap_or(false))
}

/// Opens a file that is changed where it stands, if it is one; and once more, to read it.
fn in_place(
    run: &Run<'_>,
    folder: &Arc<Folder>,
    name: &[u8],
    metadata: &Metadata,
    content: &Refs,
) -> Result<Option<(ExistingFile, NewFile)>, TargetError> {
    if !run.options.in_place || folder.is_new() {
        return Ok(None);
    }
    let Some(existing) = standing_file(folder, name)? else { return Ok(None) };
    match folder.open_in_place(name, metadata) {
        Ok(file) => {
            file.set_len(content.len())?;
            Ok(Some((existing, file)))
        }
        Err(TargetError::Linked { .. } | TargetError::InTheWay { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A file that stands there under one name only.
fn standing_file(folder: &Folder, name: &[u8]) -> Result<Option<ExistingFile>, TargetError> {
    match folder.stat(name)? {
        Some(found) if found.kind == Kind::File && found.links == 1 => {
            folder.existing_file(name).map(Some)
        }
        _ => Ok(None),
    }
}

/// What a run would write of a file's content, bytes.
fn planned_bytes(run: &Run<'_>, candidate: &Candidate) -> Result<u64, OpsError> {
    let Some(content) = candidate.content() else { return Ok(0) };
    let existing = match &candidate.folder {
        Some(folder) if run.options.in_place => standing_file(folder, &candidate.entry.name),
        _ => Ok(None),
    };
    let Ok(Some(existing)) = existing else { return Ok(content.len()) };
    let mut comparison = Comparison::new(run, &existing);
    let (mut offset, mut bytes) = (0, 0);
    let mut count = || -> Result<(), CompareError> {
        for leaf in run.trees.leaves(content) {
            let leaf = leaf?;
            bytes += comparison.differing(offset, &leaf)?;
            offset += leaf.len();
        }
        Ok(())
    };
    match count() {
        Ok(()) | Err(CompareError::Io(_)) => {}
        Err(CompareError::Tree(error)) => run.tree_damage(&candidate.path, error)?,
    }
    Ok(bytes)
}

/// In place: what differs is counted, and holes are made of zeros. Whether a chunk must be read.
fn prepare_in_place(
    run: &Run<'_>,
    file: &FileWork,
    comparison: &mut Comparison<'_>,
    offset: u64,
    leaf: &Ref,
) -> bool {
    let zeros = matches!(leaf, Ref::Hole { .. });
    let mut differs = false;
    let compared = comparison.each_difference(offset, leaf, &mut |at, len| {
        differs = true;
        file.expect_bytes(len as u64);
        if zeros {
            file.write(run, at, &vec![0; len]);
        }
        Ok(())
    });
    // What cannot be read is written.
    differs || compared.is_err()
}
