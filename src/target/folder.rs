//! Folders of the target, and what is made in them besides files with content.

use std::fs::File;
use std::sync::{Arc, Mutex, OnceLock};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::difference::{Kind, links};
use super::handles::{Identity, Slot, open_folder};
use super::metadata::{Finishing, Handle};
use super::{Result, Shared, TargetError, xattrs};
use crate::format::tree::{Entry, EntryKind, Metadata, name_is_allowed};

/// How many folders are opened with one call when a closed one is needed again, and how long the
/// path of that call gets at most: the kernel takes less than 4096 bytes.
const STEP_FOLDERS_MAX: usize = 64;
const STEP_LEN_MAX: usize = 3_800;

const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";
const ACCESS_ACL: &[u8] = b"system.posix_acl_access";

/// A folder of the target. Its handle is closed when too many are open, and opened again through
/// the folders above it: a tree of any depth needs few handles.
#[derive(Debug)]
pub struct Folder {
    pub(super) shared: Arc<Shared>,
    parent: Option<Arc<Folder>>,
    name: Vec<u8>,
    identity: Identity,
    /// Made by this run: it was empty, and nobody else writes there.
    pub(super) made: bool,
    slot: Arc<Slot>,
    default_acl: OnceLock<bool>,
    /// What it was like is in the undo journal.
    pub(super) noted: Mutex<bool>,
}

impl Folder {
    pub(super) fn root(shared: Arc<Shared>, file: File) -> std::io::Result<Arc<Self>> {
        let identity = Identity::of(&rustix::fs::fstat(&file)?);
        Ok(Arc::new(Self {
            shared,
            parent: None,
            name: Vec::new(),
            identity,
            made: false,
            slot: Slot::kept(file),
            default_acl: OnceLock::new(),
            noted: Mutex::default(),
        }))
    }

    /// Its path, relative to the target; raw, and empty for the target itself.
    pub fn path(&self) -> Vec<u8> {
        let mut names = Vec::new();
        let mut folder = self;
        while let Some(parent) = &folder.parent {
            names.push(folder.name.as_slice());
            folder = parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// The path of a name in it.
    pub fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let mut path = self.path();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        path
    }

    pub(super) fn identity(&self) -> Identity {
        self.identity
    }

    /// The uppermost folder that lies in the same file system as this one.
    pub(super) fn top_of_device(&self) -> &Self {
        let mut top = self;
        while let Some(parent) = &top.parent
            && parent.identity.device == self.identity.device
        {
            top = parent;
        }
        top
    }

    /// Whether this run made it: everything missing in it is known to be missing.
    pub fn is_new(&self) -> bool {
        self.made
    }

    pub(super) fn error(&self, operation: &'static str, name: &[u8], errno: Errno) -> TargetError {
        TargetError::io(operation, self.path_of(name), errno.into())
    }

    pub(super) fn check_name(&self, name: &[u8]) -> Result<()> {
        match name_is_allowed(name) {
            true => Ok(()),
            false => Err(TargetError::Name { path: self.path_of(name) }),
        }
    }

    /// Its handle, opened again if it was closed.
    pub(super) fn handle(&self) -> Result<Arc<File>> {
        let mut closed = Vec::new();
        let mut folder = self;
        let mut handle = loop {
            if let Some(handle) = folder.slot.get() {
                break handle;
            }
            closed.push(folder);
            match &folder.parent {
                Some(parent) => folder = parent,
                // The root's slot is never emptied.
                None => return Err(self.error("open", b"", Errno::BADF)),
            }
        };
        // Some way down with each call; what is opened on the way helps the folders beside.
        while !closed.is_empty() {
            let (mut names, mut len, mut last) = (Vec::new(), 0, folder);
            while let Some(next) = closed.pop() {
                len += next.name.len() + 1;
                if !names.is_empty() && (names.len() >= STEP_FOLDERS_MAX || len > STEP_LEN_MAX) {
                    closed.push(next);
                    break;
                }
                names.push(next.name.as_slice());
                last = next;
            }
            handle = last.open_again(&handle, &names)?;
        }
        Ok(handle)
    }

    fn open_again(&self, base: &File, names: &[&[u8]]) -> Result<Arc<File>> {
        let opened = open_folder(base, names, false, &self.shared.stepwise).and_then(|file| {
            let identity = Identity::of(&rustix::fs::fstat(&file)?);
            Ok((file, identity))
        });
        match opened {
            Ok((file, identity)) if identity == self.identity => {
                Ok(self.shared.folders.fill(&self.slot, file))
            }
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                Err(TargetError::Exchanged { path: self.path() })
            }
            Err(errno) => Err(TargetError::io("open", self.path(), errno.into())),
        }
    }

    /// The folder of this name; `None` if nothing has the name. A link to a folder is in the way.
    pub fn child(self: &Arc<Self>, name: &[u8]) -> Result<Option<Arc<Self>>> {
        self.open_child(name, false, false)
    }

    pub(super) fn open_child(
        self: &Arc<Self>,
        name: &[u8],
        made: bool,
        same_mount: bool,
    ) -> Result<Option<Arc<Self>>> {
        self.check_name(name)?;
        let handle = self.handle()?;
        let file = match open_folder(&handle, &[name], same_mount, &self.shared.stepwise) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(self.in_the_way(name)),
            Err(Errno::XDEV) => return Err(TargetError::Mounted { path: self.path_of(name) }),
            Err(errno) => return Err(self.error("open", name, errno)),
        };
        let stat = rustix::fs::fstat(&file).map_err(|errno| self.error("stat", name, errno))?;
        let identity = Identity::of(&stat);
        if same_mount && identity.device != self.identity.device {
            return Err(TargetError::Mounted { path: self.path_of(name) });
        }
        let child = Arc::new(Self {
            shared: self.shared.clone(),
            parent: Some(self.clone()),
            name: name.to_vec(),
            identity,
            made,
            slot: Arc::default(),
            default_acl: OnceLock::new(),
            noted: Mutex::default(),
        });
        self.shared.folders.fill(&child.slot, file);
        Ok(Some(child))
    }

    /// The folder of this name, made (private, until it is finished) if nothing has the name.
    /// Anything else there is removed if `replace` says so, else it is in the way.
    pub fn make_child(self: &Arc<Self>, name: &[u8], replace: bool) -> Result<Arc<Self>> {
        self.check_name(name)?;
        // Each turn but the first follows on a removal; somebody else may make it again at once.
        for _ in 0..8 {
            match self.make_directory(name)? {
                true => {
                    if let Some(child) = self.open_child(name, true, false)? {
                        child.drop_inherited_acl(self.has_default_acl()?)?;
                        return Ok(child);
                    }
                }
                false => match self.child(name) {
                    Ok(Some(child)) => return Ok(child),
                    Ok(None) => {}
                    Err(TargetError::InTheWay { .. }) if replace => self.unlink(name)?,
                    Err(error) => return Err(error),
                },
            }
        }
        Err(TargetError::Exchanged { path: self.path_of(name) })
    }

    /// False if something has the name.
    fn make_directory(self: &Arc<Self>, name: &[u8]) -> Result<bool> {
        let handle = self.handle()?;
        let failed = |errno| self.error("create the directory", name, errno);
        if self.keeping().is_none() {
            return match rustix::fs::mkdirat(&*handle, name, Mode::RWXU) {
                Ok(()) => Ok(true),
                Err(Errno::EXIST) => Ok(false),
                Err(errno) => Err(failed(errno)),
            };
        }
        // Which one it is must be known before it has the name.
        if self.raw_stat(name)?.is_some() {
            return Ok(false);
        }
        let temporary = self.temporary_name()?;
        rustix::fs::mkdirat(&*handle, &temporary, Mode::RWXU).map_err(failed)?;
        let renamed = self.rename(&temporary, name);
        if renamed.is_err() {
            let _ = self.remove_directory(&temporary);
        }
        renamed.map(|()| true)
    }

    /// Lets its owner, if that is us, write in it until it is finished; needed before anything in
    /// an existing read-only folder is replaced.
    pub fn make_writable(&self) -> Result<()> {
        let handle = self.handle()?;
        let stat = rustix::fs::fstat(&*handle).map_err(|errno| self.error("stat", b"", errno))?;
        if self.shared.is_root || stat.st_mode & 0o700 == 0o700 {
            return Ok(());
        }
        self.note()?;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777 | 0o700);
        rustix::fs::fchmod(&*handle, mode)
            .map_err(|e| TargetError::io("make it writable", self.path(), e.into()))
    }

    /// Gives the folder its metadata, when all in it is done. Returned is what could not be set.
    pub fn finish(&self, metadata: &Metadata) -> Result<Vec<TargetError>> {
        self.note()?;
        let handle = self.handle()?;
        let handle = Handle::Open(&handle);
        Finishing { folder: self, name: None, handle, existing: !self.made }.apply(metadata)
    }

    /// What this folder gives to whatever is made in it. Asked once.
    pub(super) fn has_default_acl(&self) -> Result<bool> {
        if self.made || !self.shared.options.xattrs {
            return Ok(false);
        }
        if let Some(has) = self.default_acl.get() {
            return Ok(*has);
        }
        let handle = self.handle()?;
        let has = xattrs::get(&Handle::Open(&handle), DEFAULT_ACL).is_ok();
        Ok(*self.default_acl.get_or_init(|| has))
    }

    fn drop_inherited_acl(&self, inherited: bool) -> Result<()> {
        if inherited {
            let handle = self.handle()?;
            for name in [DEFAULT_ACL, ACCESS_ACL] {
                xattrs::remove(&Handle::Open(&handle), name)
                    .map_err(|errno| self.error("remove the inherited ACL", b"", errno))?;
            }
        }
        Ok(())
    }

    /// Creates what has no content of its own: a symbolic link, a named pipe, a socket, a device.
    /// Whatever has the name is replaced, unless it is a directory. Returned is what of the
    /// metadata could not be set.
    pub fn create(
        &self,
        name: &[u8],
        kind: &EntryKind,
        metadata: &Metadata,
    ) -> Result<Vec<TargetError>> {
        self.check_name(name)?;
        let temporary = self.temporary_name()?;
        self.create_special(&temporary, name, kind)?;
        let done = self.finish_special(&temporary, name, kind, metadata).and_then(|problems| {
            self.rename(&temporary, name)?;
            Ok(problems)
        });
        if done.is_err() {
            self.discard(&temporary);
        }
        done
    }

    fn create_special(&self, temporary: &[u8], name: &[u8], kind: &EntryKind) -> Result<()> {
        let handle = self.handle()?;
        let make = |file_type, device| {
            rustix::fs::mknodat(&*handle, temporary, file_type, Mode::RUSR | Mode::WUSR, device)
        };
        let device = |file_type, major: u32, minor: u32| {
            // What the kernel keeps of a device number: 12 and 20 bits.
            match major < 1 << 12 && minor < 1 << 20 {
                true => make(file_type, rustix::fs::makedev(major, minor)),
                false => Err(Errno::INVAL),
            }
        };
        let made = match kind {
            EntryKind::Symlink { target } => {
                return rustix::fs::symlinkat(target.as_slice(), &*handle, temporary)
                    .map_err(|errno| self.error("create the link", name, errno));
            }
            EntryKind::Fifo => make(FileType::Fifo, 0),
            EntryKind::Socket => make(FileType::Socket, 0),
            EntryKind::CharDevice { major, minor } => {
                device(FileType::CharacterDevice, *major, *minor)
            }
            EntryKind::BlockDevice { major, minor } => {
                device(FileType::BlockDevice, *major, *minor)
            }
            EntryKind::File { .. } | EntryKind::Directory { .. } => Err(Errno::INVAL),
        };
        made.map_err(|errno| TargetError::NotCreatable {
            path: self.path_of(name),
            kind: Kind::of(kind),
            source: errno.into(),
        })
    }

    fn finish_special(
        &self,
        temporary: &[u8],
        name: &[u8],
        kind: &EntryKind,
        metadata: &Metadata,
    ) -> Result<Vec<TargetError>> {
        let place = self.open_place(temporary, name, Kind::of(kind))?;
        let existing = self.has_default_acl()?;
        let handle = Handle::Place(&place);
        Finishing { folder: self, name: Some(name), handle, existing }.apply(metadata)
    }

    /// Sets the metadata of what is there, of the entry's kind, and has no other name. Returned
    /// is what could not be set.
    pub fn set_metadata(&self, name: &[u8], entry: &Entry) -> Result<Vec<TargetError>> {
        self.check_name(name)?;
        let place = self.open_place(name, name, Kind::of(&entry.kind))?;
        let handle = Handle::Place(&place);
        if let Some(kept) = self.keeping() {
            kept.note(self.path_of(name), &handle)?;
        }
        Finishing { folder: self, name: Some(name), handle, existing: true }.apply(&entry.metadata)
    }

    /// Opens something as a place. A name that got here from elsewhere is seen by its kind, or by
    /// its having another name as well: changing it would change what lies outside.
    pub(super) fn open_place(&self, stands_as: &[u8], name: &[u8], kind: Kind) -> Result<File> {
        let handle = self.handle()?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&*handle, stands_as, flags, Mode::empty());
        let place = opened.map_err(|errno| self.error("open", name, errno))?;
        let stat = rustix::fs::fstat(&place).map_err(|errno| self.error("stat", name, errno))?;
        let links = links(&stat);
        if Kind::of_mode(stat.st_mode) != kind {
            return Err(TargetError::Exchanged { path: self.path_of(name) });
        }
        if kind != Kind::Directory && links > 1 {
            return Err(TargetError::Linked { path: self.path_of(name), links });
        }
        Ok(place.into())
    }

    /// Makes `name` another name of the file that is `from_name` in `from`. Whatever has the name
    /// is replaced, unless it is a directory. False if it is that file already.
    pub fn link(&self, from: &Folder, from_name: &[u8], name: &[u8]) -> Result<bool> {
        self.check_name(name)?;
        from.check_name(from_name)?;
        let (from_handle, handle) = (from.handle()?, self.handle()?);
        let link = |name: &[u8]| {
            rustix::fs::linkat(&*from_handle, from_name, &*handle, name, AtFlags::empty())
        };
        // What can be undone is told before it is done, and goes the other way.
        match self.keeping() {
            Some(_) => {}
            None => match link(name) {
                Ok(()) => return Ok(true),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(self.error("link", name, errno)),
            },
        }
        let identity = |stat: Option<Stat>| stat.as_ref().map(Identity::of);
        let original = identity(from.raw_stat(from_name)?);
        if original.is_some() && original == identity(self.raw_stat(name)?) {
            return Ok(false);
        }
        let temporary = self.temporary_name()?;
        link(&temporary).map_err(|errno| self.error("link", name, errno))?;
        let renamed = self.rename(&temporary, name);
        // Also when it went well: a rename between two names of one inode does nothing.
        self.discard(&temporary);
        renamed.map(|()| true)
    }

    pub(super) fn rename(&self, temporary: &[u8], name: &[u8]) -> Result<()> {
        let handle = self.handle()?;
        self.keep_replaced(temporary, name)?;
        match rustix::fs::renameat(&*handle, temporary, &*handle, name) {
            Ok(()) => Ok(()),
            Err(Errno::ISDIR | Errno::EXIST | Errno::NOTEMPTY) => Err(self.in_the_way(name)),
            Err(errno) => Err(self.error("rename", name, errno)),
        }
    }

    /// Removes a temporary name; if that fails there is nothing more to be done.
    pub(super) fn discard(&self, temporary: &[u8]) {
        if let Ok(handle) = self.handle() {
            let _ = rustix::fs::unlinkat(&*handle, temporary, AtFlags::empty());
        }
    }

    pub(super) fn in_the_way(&self, name: &[u8]) -> TargetError {
        match self.raw_stat(name) {
            Ok(Some(stat)) => TargetError::InTheWay {
                path: self.path_of(name),
                kind: Kind::of_mode(stat.st_mode),
            },
            Ok(None) => TargetError::Exchanged { path: self.path_of(name) },
            Err(error) => error,
        }
    }

    pub(super) fn raw_stat(&self, name: &[u8]) -> Result<Option<Stat>> {
        self.check_name(name)?;
        match rustix::fs::statat(&*self.handle()?, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error("stat", name, errno)),
        }
    }

    pub(super) fn read_link(&self, name: &[u8]) -> Result<Vec<u8>> {
        match rustix::fs::readlinkat(&*self.handle()?, name, Vec::new()) {
            Ok(target) => Ok(target.into_bytes()),
            Err(errno) => Err(self.error("read the link", name, errno)),
        }
    }
}

impl Drop for Folder {
    /// Lets the chain of folders go one by one: a tree may be deeper than the stack allows.
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(folder) = next {
            next = Arc::into_inner(folder).and_then(|mut folder| folder.parent.take());
        }
    }
}

#[cfg(test)]
impl Folder {
    /// A folder that claims to lie in this one and is never opened.
    pub(super) fn under_itself(self: &Arc<Self>) -> Arc<Self> {
        Arc::new(Self {
            shared: self.shared.clone(),
            parent: Some(self.clone()),
            name: self.name.clone(),
            identity: self.identity,
            made: false,
            slot: Arc::default(),
            default_acl: OnceLock::new(),
            noted: Mutex::default(),
        })
    }
}
