//! Files and their content.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::difference::{Kind, links};
use super::handles::{Identity, Slot};
use super::metadata::{Finishing, Handle};
use super::{Folder, Result, TargetError};
use crate::format::tree::Metadata;

/// What a file is opened with that is there already. Not blocking: somebody may have put a named
/// pipe in its place.
const EXISTING: OFlags =
    OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
const NEW: OFlags = EXISTING.union(OFlags::RDWR).union(OFlags::CREATE).union(OFlags::EXCL);

/// A file being written, from any thread and in any order. Thousands may be on their way: their
/// handles are closed and opened again as needed.
///
/// It has a temporary name and mode 0600 until [`NewFile::finish`] puts it in its place. If it is
/// let go before, it vanishes, and what had the name is untouched. (A file opened by
/// [`Folder::open_in_place`] is written where it stands, and stays as far as it got.)
#[derive(Debug)]
pub struct NewFile {
    folder: Arc<Folder>,
    name: Vec<u8>,
    /// `None` if it is written in place, or finished.
    temporary: Option<Vec<u8>>,
    existing: bool,
    identity: Identity,
    slot: Arc<Slot>,
}

impl Folder {
    /// Begins a file that will replace whatever has the name, unless that is a directory.
    pub fn new_file(self: &Arc<Self>, name: &[u8]) -> Result<NewFile> {
        self.check_name(name)?;
        let existing = self.has_default_acl()?;
        let (temporary, file) = self.create_temporary(name)?;
        let mut new = NewFile {
            folder: self.clone(),
            name: name.to_vec(),
            temporary: Some(temporary),
            existing,
            identity: Identity { device: 0, inode: 0 },
            slot: Arc::default(),
        };
        let stat = rustix::fs::fstat(&file).map_err(|errno| self.error("stat", name, errno))?;
        new.identity = Identity::of(&stat);
        self.shared.files.fill(&new.slot, file);
        Ok(new)
    }

    fn create_temporary(&self, name: &[u8]) -> Result<(Vec<u8>, File)> {
        loop {
            let temporary = self.temporary_name()?;
            let handle = self.handle()?;
            match rustix::fs::openat(&*handle, temporary.as_slice(), NEW, Mode::RUSR | Mode::WUSR) {
                Ok(file) => return Ok((temporary, file.into())),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(self.error("create", name, errno)),
            }
        }
    }

    /// Writes a whole small file, replacing whatever has the name unless it is a directory.
    /// Returned is what of the metadata could not be set.
    pub fn write_small(
        &self,
        name: &[u8],
        content: &[u8],
        metadata: &Metadata,
    ) -> Result<Vec<TargetError>> {
        self.check_name(name)?;
        if self.is_new() {
            // Nothing was here when we made the folder, so the final name is most likely free.
            let handle = self.handle()?;
            match rustix::fs::openat(&*handle, name, NEW, Mode::RUSR | Mode::WUSR) {
                Ok(file) => {
                    let done = self.fill_small(&file.into(), name, content, metadata);
                    if done.is_err() {
                        self.discard(name);
                    }
                    return done;
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(self.error("create", name, errno)),
            }
        }
        let (temporary, file) = self.create_temporary(name)?;
        let done = self.fill_small(&file, name, content, metadata).and_then(|problems| {
            self.rename(&temporary, name)?;
            Ok(problems)
        });
        if done.is_err() {
            self.discard(&temporary);
        }
        done
    }

    fn fill_small(
        &self,
        file: &File,
        name: &[u8],
        content: &[u8],
        metadata: &Metadata,
    ) -> Result<Vec<TargetError>> {
        file.write_all_at(content, 0)
            .map_err(|e| TargetError::io("write", self.path_of(name), e))?;
        let existing = self.has_default_acl()?;
        let handle = Handle::Open(file);
        Finishing { folder: self, name: Some(name), handle, existing }.apply(metadata)
    }

    /// Opens an existing file to change it where it stands. One with other names is refused
    /// (`Linked`): they may lie outside the target. Who may not read what the snapshot has loses
    /// the right at once, and so do set-id bits.
    pub fn open_in_place(self: &Arc<Self>, name: &[u8], metadata: &Metadata) -> Result<NewFile> {
        let file = self.open_file(name, OFlags::RDWR)?;
        let stat = rustix::fs::fstat(&file).map_err(|errno| self.error("stat", name, errno))?;
        let links = links(&stat);
        if links > 1 {
            return Err(TargetError::Linked { path: self.path_of(name), links });
        }
        let handle = Handle::Open(&file);
        let finishing = Finishing { folder: self, name: Some(name), handle, existing: true };
        let mut problems = Vec::new();
        finishing.apply_owner(metadata, &stat, &mut problems);
        if let Some(problem) = problems.pop() {
            return Err(problem);
        }
        let mode = stat.st_mode & metadata.mode & 0o777 | 0o600;
        if mode != stat.st_mode & 0o7777 {
            finishing
                .handle
                .set_mode(mode)
                .map_err(|errno| self.error("set the mode", name, errno))?;
        }
        let slot = Arc::default();
        self.shared.files.fill(&slot, file);
        Ok(NewFile {
            folder: self.clone(),
            name: name.to_vec(),
            temporary: None,
            existing: true,
            identity: Identity::of(&stat),
            slot,
        })
    }

    /// Opens an existing file to compare its content.
    pub fn existing_file(&self, name: &[u8]) -> Result<ExistingFile> {
        let file = self.open_file(name, OFlags::RDONLY)?;
        let metadata = file.metadata();
        let len = metadata.map_err(|e| TargetError::io("stat", self.path_of(name), e))?.len();
        Ok(ExistingFile { file, len })
    }

    fn open_file(&self, name: &[u8], access: OFlags) -> Result<File> {
        // Looked at first, for opening a device may already do something.
        match self.raw_stat(name)? {
            Some(stat) if Kind::of_mode(stat.st_mode) == Kind::File => {}
            Some(_) => return Err(self.in_the_way(name)),
            None => return Err(self.error("open", name, Errno::NOENT)),
        }
        let handle = self.handle()?;
        let opened = rustix::fs::openat(&*handle, name, EXISTING | access, Mode::empty());
        let file = File::from(opened.map_err(|errno| self.error("open", name, errno))?);
        let stat = rustix::fs::fstat(&file).map_err(|errno| self.error("stat", name, errno))?;
        match Kind::of_mode(stat.st_mode) {
            Kind::File => Ok(file),
            _ => Err(TargetError::Exchanged { path: self.path_of(name) }),
        }
    }
}

impl NewFile {
    /// Its path, relative to the target; raw.
    pub fn path(&self) -> Vec<u8> {
        self.folder.path_of(&self.name)
    }

    fn error(&self, operation: &'static str, source: std::io::Error) -> TargetError {
        TargetError::io(operation, self.path(), source)
    }

    fn handle(&self) -> Result<Arc<File>> {
        if let Some(file) = self.slot.get() {
            return Ok(file);
        }
        let name = self.temporary.as_ref().unwrap_or(&self.name);
        let folder = self.folder.handle()?;
        let opened =
            rustix::fs::openat(&*folder, name.as_slice(), EXISTING | OFlags::RDWR, Mode::empty());
        let file = match opened {
            Ok(file) => File::from(file),
            Err(Errno::NOENT | Errno::LOOP | Errno::ISDIR | Errno::NXIO) => {
                return Err(TargetError::Exchanged { path: self.path() });
            }
            Err(errno) => return Err(self.error("open", errno.into())),
        };
        let stat = rustix::fs::fstat(&file).map_err(|errno| self.error("stat", errno.into()))?;
        match Identity::of(&stat) == self.identity {
            true => Ok(self.folder.shared.files.fill(&self.slot, file)),
            false => Err(TargetError::Exchanged { path: self.path() }),
        }
    }

    /// Sets the length; what is never written reads as zeros and takes no room.
    pub fn set_len(&self, len: u64) -> Result<()> {
        self.handle()?.set_len(len).map_err(|e| self.error("set the length", e))
    }

    /// Writes all of `bytes` at this offset.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.handle()?.write_all_at(bytes, offset).map_err(|e| self.error("write", e))
    }

    /// Reads at this offset until `bytes` is full or the file ends: how many bytes. For a file
    /// written in place, to see what differs.
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<usize> {
        let file = self.handle()?;
        read_at(&file, offset, bytes).map_err(|e| self.error("read", e))
    }

    /// Gives it its metadata and puts it in its place. If that fails, what had the name is
    /// untouched. Returned is what of the metadata could not be set.
    pub fn finish(mut self, metadata: &Metadata) -> Result<Vec<TargetError>> {
        let file = self.handle()?;
        let problems = Finishing {
            folder: &self.folder,
            name: Some(&self.name),
            handle: Handle::Open(&file),
            existing: self.existing,
        }
        .apply(metadata)?;
        if let Some(temporary) = &self.temporary {
            self.folder.rename(temporary, &self.name)?;
            self.temporary = None;
        }
        Ok(problems)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            self.folder.discard(temporary);
        }
    }
}

/// An existing file of the target, opened to compare its content.
#[derive(Debug)]
pub struct ExistingFile {
    file: File,
    len: u64,
}

impl ExistingFile {
    /// Its length when it was opened, bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it had no content.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reads at this offset until `bytes` is full or the file ends: how many bytes.
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> std::io::Result<usize> {
        read_at(&self.file, offset, bytes)
    }
}

fn read_at(file: &File, offset: u64, bytes: &mut [u8]) -> std::io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset.saturating_add(done as u64)) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}
