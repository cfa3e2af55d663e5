//! All or nothing: what a run replaces and removes is kept until the run is over, and put back if
//! it does not come to a good end.
//!
//! What goes out of use is moved into a private directory of the same file system (its content is
//! not touched, and needs no room), what is made and what changes is written into a journal
//! there, each before it is done. So a run can be taken back that was killed at any moment, and
//! taking it back needs no room either. A power cut is another matter: the journal is not synced
//! with each record, for that would cost more than the restore itself; what was replaced is
//! nevertheless in the private directory, under its number.
//!
//! Nothing in the target is believed. A private directory and its journal count only if they are
//! ours and nobody else may write there; paths are followed name by name and through no link;
//! what is removed is compared with what was made.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, Stat, StatxFlags};
use rustix::io::Errno;

use super::difference::{Kind, links, mtime};
use super::handles::Identity;
use super::journal::{Journal, UndoRecord};
use super::metadata::{Finishing, Handle};
use super::{Folder, Result, Target, TargetError, xattrs};
use crate::format::tree::{Metadata, Xattr};
use crate::world::Time;

/// A private directory is called like the temporary files of its run, with this behind it.
const PREFIX: &[u8] = b".holdall-";
const SUFFIX: &[u8] = b"-undo";
const RUN_LEN: usize = 8;
/// A temporary name: the prefix, the run, and this much more.
const COUNT_LEN: usize = 16;
const JOURNAL: &[u8] = b"journal";

/// By the device number: the folder that has a private directory, and that directory.
type Rooms = HashMap<u64, (Arc<Folder>, Arc<Folder>)>;

/// What one run keeps.
#[derive(Debug)]
pub(super) struct Kept {
    /// The same directory as the run's target, but here nothing is kept of what changes.
    plain: Target,
    /// The name of its private directories.
    name: Vec<u8>,
    journal: Journal,
    rooms: Mutex<Rooms>,
    count: AtomicU64,
}

fn is_room(name: &[u8]) -> bool {
    let run = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
    run.is_some_and(|run| run.len() == RUN_LEN && run.iter().all(u8::is_ascii_hexdigit))
}

/// Whether we own something, and nobody else may write there.
fn is_private(stat: &Stat) -> bool {
    stat.st_uid == rustix::process::geteuid().as_raw() && stat.st_mode & 0o077 == 0
}

fn split(path: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let mut names: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let name = names.pop().unwrap_or_default();
    (names, name)
}

/// All metadata that a restore may change.
fn metadata_of(handle: &Handle<'_>) -> rustix::io::Result<Metadata> {
    let stat = rustix::fs::fstat(handle.file())?;
    let names = match xattrs::list(handle) {
        Err(Errno::NOTSUP) => Vec::new(),
        names => names?,
    };
    let mut xattrs = Vec::new();
    for name in names {
        match xattrs::get(handle, &name) {
            Ok(value) => xattrs.push(Xattr { name, value }),
            Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(errno) => return Err(errno),
        }
    }
    let Identity { device, inode } = Identity::of(&stat);
    Ok(Metadata {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: mtime(&stat),
        device,
        inode,
        xattrs,
        ..Metadata::default()
    })
}

impl Kept {
    /// Keeps from now on what changes in the target.
    pub fn begin(plain: Target) -> Result<Self> {
        let root = plain.root().clone();
        let name = [root.shared.temporary_prefix().as_bytes(), SUFFIX].concat();
        let failed = |source| TargetError::io("keep what is there", name.clone(), source);
        let before = metadata_of(&Handle::Open(&*root.handle()?)).map_err(|e| failed(e.into()))?;
        let room = make_room(&root, &name)?;
        let mtime = before.mtime;
        Self::fill(plain, &name, room, before).inspect_err(|_| {
            // Nothing is in it yet.
            let _ = remove_room(&root, &name, &mut |_| {});
            let _ = root.handle().map(|handle| Handle::Open(&handle).set_mtime(mtime));
        })
    }

    fn fill(plain: Target, name: &[u8], room: Arc<Folder>, before: Metadata) -> Result<Self> {
        let failed = |source| TargetError::io("keep what is there", name.to_vec(), source);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = rustix::fs::openat(&*room.handle()?, JOURNAL, flags | OFlags::CLOEXEC, mode);
        let file = File::from(file.map_err(|e| failed(e.into()))?);
        let lock = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
        lock.map_err(|e| failed(e.into()))?;
        let journal = Journal::open(file).map_err(failed)?;
        let root = plain.root().clone();
        let kept = Self::new(plain, name.to_vec(), journal);
        kept.append(&UndoRecord::Metadata { path: Vec::new(), metadata: before })?;
        kept.rooms().insert(root.identity().device, (root, room));
        Ok(kept)
    }

    fn new(plain: Target, name: Vec<u8>, journal: Journal) -> Self {
        Self { plain, name, journal, rooms: Mutex::default(), count: AtomicU64::new(0) }
    }

    /// What a run left that was killed, if there was one. With `clear`, what others left that had
    /// come to their end is removed on the way.
    pub fn find(plain: Target, clear: bool) -> Result<Option<Self>> {
        let root = plain.root().clone();
        let mut names = Vec::new();
        root.each_name(&mut |name, _| {
            if is_room(name) {
                names.push(name.to_vec());
            }
        })?;
        for name in names {
            let Some(room) = open_room(&root, &name)? else { continue };
            let failed = |e: io::Error| TargetError::io("read the journal", name.clone(), e);
            let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = match rustix::fs::openat(&*room.handle()?, JOURNAL, flags, Mode::empty()) {
                Ok(file) => File::from(file),
                Err(Errno::NOENT) if clear => {
                    remove_room(&root, &name, &mut |_| {})?;
                    continue;
                }
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(failed(errno.into())),
            };
            let stat = rustix::fs::fstat(&file).map_err(|e| failed(e.into()))?;
            let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            if !is_file || !is_private(&stat) || links(&stat) != 1 {
                return Err(failed(io::ErrorKind::InvalidData.into()));
            }
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Err(TargetError::AtWork { path: name }),
                Err(errno) => return Err(failed(errno.into())),
            }
            let journal = Journal::open(file).map_err(failed)?;
            let kept = Self::new(plain, name, journal);
            kept.rooms().insert(root.identity().device, (root, room));
            return Ok(Some(kept));
        }
        Ok(None)
    }

    pub fn name(&self) -> &[u8] {
        &self.name
    }

    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, record: &UndoRecord) -> Result<()> {
        let written = self.journal.append(record);
        written.map_err(|e| TargetError::io("write the journal", self.name.clone(), e))
    }

    /// Notes the metadata of something that is there, before it changes.
    pub fn note(&self, path: Vec<u8>, handle: &Handle<'_>) -> Result<()> {
        let metadata = metadata_of(handle)
            .map_err(|e| TargetError::io("read the metadata", path.clone(), e.into()))?;
        self.append(&UndoRecord::Metadata { path, metadata })
    }

    /// Notes something new, before it gets its name.
    pub fn note_new(&self, path: Vec<u8>, new: &Stat, born: Time) -> Result<()> {
        let Identity { device, inode } = Identity::of(new);
        self.append(&UndoRecord::Made { path, device, inode, born })
    }

    /// Moves what has the name into the private directory. What is about to be replaced keeps its
    /// name as well where that can be, so that the name is never missing.
    pub fn set_aside(&self, folder: &Folder, name: &[u8], replaced: bool) -> Result<()> {
        let room = self.room(folder)?;
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let to_name = number.to_string();
        self.append(&UndoRecord::Aside { path: folder.path_of(name), number })?;
        let (from, to) = (folder.handle()?, room.handle()?);
        if replaced && rustix::fs::linkat(&*from, name, &*to, &to_name, AtFlags::empty()).is_ok() {
            return Ok(());
        }
        rustix::fs::renameat(&*from, name, &*to, &to_name)
            .map_err(|errno| folder.error("keep", name, errno))
    }

    /// The private directory of a folder's file system, made where it is missing. It is in the
    /// uppermost folder that has the same one.
    fn room(&self, folder: &Folder) -> Result<Arc<Folder>> {
        let mut rooms = self.rooms();
        let device = folder.identity().device;
        if let Some((_, room)) = rooms.get(&device) {
            return Ok(room.clone());
        }
        let path = folder.top_of_device().path();
        let top = self.folder(&path)?;
        let top = top.ok_or_else(|| TargetError::Exchanged { path: path.clone() })?;
        let room = match open_room(&top, &self.name)? {
            Some(room) => room,
            None => {
                self.note(path.clone(), &Handle::Open(&*top.handle()?))?;
                self.append(&UndoRecord::Room { path })?;
                make_room(&top, &self.name)?
            }
        };
        rooms.insert(device, (top, room.clone()));
        Ok(room)
    }

    fn folder(&self, path: &[u8]) -> Result<Option<Arc<Folder>>> {
        let names: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|n| !n.is_empty()).collect();
        self.plain.folder(&names)
    }

    /// The run came to a good end: what was kept goes.
    pub fn settle(&self, problem: &mut dyn FnMut(TargetError)) -> Result<()> {
        let rooms: Vec<_> = self.rooms().values().cloned().collect();
        let Some((_, own)) = self.rooms().get(&self.plain.root().identity().device).cloned() else {
            return Ok(());
        };
        // Without its journal it is only something to be removed, whatever happens now.
        own.unlink(JOURNAL)?;
        let synced = rustix::fs::fsync(&*own.handle()?);
        synced.map_err(|errno| own.error("sync", b"", errno))?;
        for (top, _) in rooms {
            remove_room(&top, &self.name, problem)?;
        }
        Ok(())
    }

    /// Puts everything back, the last change first. What cannot be put back is told to `problem`
    /// and is kept: true if there is no such thing.
    pub fn undo(&self, problem: &mut dyn FnMut(TargetError)) -> Result<bool> {
        let (mut whole, mut end) = (true, None);
        let failed = |e| TargetError::io("read the journal", self.name.clone(), e);
        while let Some((record, begin)) = self.journal.before(end).map_err(failed)? {
            if let Err(error) = self.undo_one(&record) {
                whole = false;
                problem(error);
            }
            end = Some(begin);
        }
        if whole {
            self.plain.sync()?;
            self.settle(problem)?;
        }
        Ok(whole)
    }

    fn undo_one(&self, record: &UndoRecord) -> Result<()> {
        match record {
            UndoRecord::Metadata { path, metadata } => self.undo_metadata(path, metadata),
            UndoRecord::Room { path } => {
                let Some(folder) = self.folder(path)? else { return Ok(()) };
                folder.make_writable()?;
                folder.remove_directory(&self.name)
            }
            UndoRecord::Made { path, device, inode, born } => {
                let new = Identity { device: *device, inode: *inode };
                self.undo_made(path, new, *born)
            }
            UndoRecord::Aside { path, number } => self.undo_aside(path, *number),
        }
    }

    fn undo_metadata(&self, path: &[u8], metadata: &Metadata) -> Result<()> {
        let before = Identity { device: metadata.device, inode: metadata.inode };
        let (names, name) = split(path);
        let folder = match name.is_empty() {
            true => Some(self.plain.root().clone()),
            false => self.plain.folder(&names)?,
        };
        let Some(folder) = folder else { return Ok(()) };
        let found = match name.is_empty() {
            true => None,
            false => match folder.raw_stat(name)? {
                Some(found) if Identity::of(&found) == before => Some(found),
                // It is another one now, which is not ours to change.
                _ => return Ok(()),
            },
        };
        let problems = match found.map(|found| Kind::of_mode(found.st_mode)) {
            None => self.finish_folder(&folder, metadata)?,
            Some(Kind::Directory) => match folder.child(name)? {
                Some(child) => self.finish_folder(&child, metadata)?,
                None => return Ok(()),
            },
            Some(kind) => {
                let place = folder.open_place(name, name, kind)?;
                let handle = Handle::Place(&place);
                Finishing { folder: &folder, name: Some(name), handle, existing: true }
                    .apply(metadata)?
            }
        };
        problems.into_iter().next().map_or(Ok(()), Err)
    }

    /// A folder in which everything is undone: without what the run had not finished.
    fn finish_folder(&self, folder: &Arc<Folder>, metadata: &Metadata) -> Result<Vec<TargetError>> {
        let run = self.name.strip_suffix(SUFFIX).unwrap_or(&self.name);
        let mut unfinished = Vec::new();
        folder.each_name(&mut |name, _| {
            let count = name.strip_prefix(run).unwrap_or_default();
            if count.len() == COUNT_LEN && count.iter().all(u8::is_ascii_hexdigit) {
                unfinished.push(name.to_vec());
            }
        })?;
        if !unfinished.is_empty() {
            folder.make_writable()?;
        }
        let mut problems = Vec::new();
        for name in unfinished {
            folder.remove_tree(&name, &mut |error| problems.push(error))?;
        }
        problems.extend(folder.finish(metadata)?);
        Ok(problems)
    }

    fn undo_made(&self, path: &[u8], new: Identity, born: Time) -> Result<()> {
        let (names, name) = split(path);
        let Some(folder) = self.plain.folder(&names)? else { return Ok(()) };
        match folder.raw_stat(name)? {
            Some(found) if Identity::of(&found) == new && folder.born(name) == born => {}
            // It was not made after all, or somebody has put something else there.
            _ => return Ok(()),
        }
        folder.make_writable()?;
        let mut stuck = None;
        folder.remove_tree(name, &mut |error| stuck = Some(error))?;
        stuck.map_or(Ok(()), Err)
    }

    fn undo_aside(&self, path: &[u8], number: u64) -> Result<()> {
        let (names, name) = split(path);
        let gone = || TargetError::Exchanged { path: path.to_vec() };
        let folder = self.plain.folder(&names)?.ok_or_else(gone)?;
        let room = self.room(&folder)?;
        let kept_name = number.to_string().into_bytes();
        let Some(kept) = room.raw_stat(&kept_name)? else { return Ok(()) };
        match folder.raw_stat(name)? {
            // It never went: another name of it was made, and that goes.
            Some(found) if Identity::of(&found) == Identity::of(&kept) => {
                return room.unlink(&kept_name);
            }
            Some(_) => return Err(folder.in_the_way(name)),
            None => {}
        }
        folder.make_writable()?;
        rustix::fs::renameat(&*room.handle()?, kept_name, &*folder.handle()?, name)
            .map_err(|errno| folder.error("put back", name, errno))
    }
}

impl Folder {
    /// What keeps what is there, if this run can be undone. In a folder that the run has made
    /// nothing is kept: it is removed whole.
    pub(super) fn keeping(&self) -> Option<&Kept> {
        self.shared.kept.get().filter(|_| !self.made)
    }

    /// Before anything changes in the folder or about it, once.
    pub(super) fn note(&self) -> Result<()> {
        let Some(kept) = self.keeping() else { return Ok(()) };
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if !*noted {
            kept.note(self.path(), &Handle::Open(&*self.handle()?))?;
            *noted = true;
        }
        Ok(())
    }

    /// A name for something that is not finished.
    pub(super) fn temporary_name(&self) -> Result<Vec<u8>> {
        self.note()?;
        Ok(self.shared.temporary_name())
    }

    /// Moves a name, with all below it, to what is kept: how many things that were.
    pub(super) fn remove_kept(self: &Arc<Self>, name: &[u8]) -> Result<u64> {
        let (Some(kept), Some(stat)) = (self.keeping(), self.raw_stat(name)?) else { return Ok(0) };
        self.note()?;
        // A directory that goes to another one must itself be writable.
        if Kind::of_mode(stat.st_mode) == Kind::Directory
            && let Some(child) = self.open_child(name, false, true)?
        {
            child.make_writable()?;
        }
        kept.set_aside(self, name, false)?;
        Ok(1)
    }

    /// Before what has the temporary name gets the other one: what stands there is kept.
    pub(super) fn keep_replaced(&self, temporary: &[u8], name: &[u8]) -> Result<()> {
        let Some(kept) = self.keeping() else { return Ok(()) };
        let gone = || TargetError::Exchanged { path: self.path_of(name) };
        let new = self.raw_stat(temporary)?.ok_or_else(gone)?;
        match self.raw_stat(name)?.map(|old| Kind::of_mode(old.st_mode)) {
            Some(Kind::Directory) => return Err(self.in_the_way(name)),
            Some(_) => kept.set_aside(self, name, true)?,
            None => {}
        }
        kept.note_new(self.path_of(name), &new, self.born(temporary))
    }

    /// When something was made; zero where nobody knows.
    pub(super) fn born(&self, name: &[u8]) -> Time {
        let (flags, wanted) = (AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BTIME);
        let found = self.handle().ok().map(|at| rustix::fs::statx(&*at, name, flags, wanted));
        match found {
            Some(Ok(found)) if found.stx_mask & wanted.bits() != 0 => {
                let time = found.stx_btime;
                Time { seconds: time.tv_sec, nanoseconds: time.tv_nsec }
            }
            _ => Time::default(),
        }
    }
}

/// Makes a private directory. An ACL that it inherits gives nobody more than its mode does.
fn make_room(folder: &Arc<Folder>, name: &[u8]) -> Result<Arc<Folder>> {
    let made = rustix::fs::mkdirat(&*folder.handle()?, name, Mode::RWXU);
    made.map_err(|errno| folder.error("create the private directory", name, errno))?;
    open_room(folder, name)?.ok_or_else(|| TargetError::Exchanged { path: folder.path_of(name) })
}

/// Opens a private directory; what anybody else may have made is none.
fn open_room(folder: &Arc<Folder>, name: &[u8]) -> Result<Option<Arc<Folder>>> {
    let stat = folder.raw_stat(name)?;
    let is_ours = |stat: &Stat| is_private(stat) && Kind::of_mode(stat.st_mode) == Kind::Directory;
    match stat.filter(is_ours) {
        Some(stat) => {
            let room = folder.child(name)?;
            Ok(room.filter(|room| room.identity() == Identity::of(&stat)))
        }
        None => Ok(None),
    }
}

/// Removes a private directory, which leaves no trace in its folder's time.
fn remove_room(
    folder: &Arc<Folder>,
    name: &[u8],
    problem: &mut dyn FnMut(TargetError),
) -> Result<()> {
    let handle = folder.handle()?;
    let failed = |errno| folder.error("remove", name, errno);
    let before = mtime(&rustix::fs::fstat(&*handle).map_err(failed)?);
    folder.remove_tree(name, problem)?;
    Handle::Open(&handle).set_mtime(before).map_err(failed)
}
