//! Open files: content, holes, and whether it stayed the same.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Advice, SeekFrom, fadvise, seek};
use rustix::io::{Errno, pread};

use super::directory::handle_stat;
use super::{Result, SourceError, Stat};

/// From this length on the system is told that a file is read from front to back; for shorter
/// ones the call costs more than it gives.
const LARGE_LEN: u64 = 1 << 20;

/// A regular file, open for reading. Several threads may read it at once.
#[derive(Debug)]
pub struct OpenFile {
    handle: OwnedFd,
    stat: Stat,
    name: Vec<u8>,
}

/// A run of a file: bytes, or nothing but zeros that take no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins.
    pub offset: u64,
    /// Its length, bytes; not 0.
    pub len: u64,
    /// Whether it is a hole.
    pub hole: bool,
}

/// What became of a file since it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Unchanged,
    /// It is longer.
    Grown,
    /// It is shorter.
    Shrunk,
    /// It is as long, and its times differ.
    Touched,
}

impl OpenFile {
    pub(super) fn new(handle: OwnedFd, stat: Stat, name: &[u8]) -> Self {
        if stat.size >= LARGE_LEN {
            // Advice: where it is refused, reading is only slower.
            let _ = fadvise(&handle, 0, None, Advice::Sequential);
        }
        Self { handle, stat, name: name.to_vec() }
    }

    /// What the file was like when it was opened. Reading keeps to this length.
    pub fn stat(&self) -> &Stat {
        &self.stat
    }

    /// Fills the buffer from `offset` on, up to the length that the file had when it was opened.
    /// Fewer bytes than that says that the file is shorter now; what it has grown by is not read.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let left = self.stat.size.saturating_sub(offset);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..wanted).filter(|rest| !rest.is_empty()) {
            match pread(&self.handle, rest, offset.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(SourceError::from_errno(&self.name, errno)),
            }
        }
        Ok(filled)
    }

    /// The runs of the file in order, from 0 to its length at opening without a gap. Holes are
    /// looked for only where fewer blocks are taken than the length needs.
    pub fn extents(&self) -> Extents<'_> {
        let sparse = self.stat.allocated < self.stat.size;
        Extents { file: self, offset: 0, sparse }
    }

    /// What became of the file since `before`.
    pub fn change(&self, before: &Stat) -> Result<Change> {
        let now = handle_stat(self.handle.as_fd(), &self.name)?;
        Ok(match now.size.cmp(&before.size) {
            std::cmp::Ordering::Greater => Change::Grown,
            std::cmp::Ordering::Less => Change::Shrunk,
            _ if now.mtime != before.mtime || now.ctime != before.ctime => Change::Touched,
            _ => Change::Unchanged,
        })
    }

    /// Whether size and times are still those of `before`.
    pub fn unchanged(&self, before: &Stat) -> Result<bool> {
        Ok(self.change(before)? == Change::Unchanged)
    }
}

/// The runs of a file, one after the other: a file may have more holes than fit in memory.
#[derive(Debug)]
pub struct Extents<'a> {
    file: &'a OpenFile,
    offset: u64,
    sparse: bool,
}

impl Extents<'_> {
    /// Where the next run of data, or the next hole, begins; `None` where the system cannot say.
    fn seek(&self, from: SeekFrom) -> Result<Option<u64>> {
        match seek(&self.file.handle, from) {
            Ok(found) => Ok(Some(found.min(self.file.stat.size))),
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => Ok(Some(self.file.stat.size)),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(SourceError::from_errno(&self.file.name, errno)),
        }
    }

    fn end(&mut self) -> Result<(u64, bool)> {
        let size = self.file.stat.size;
        if !self.sparse {
            return Ok((size, false));
        }
        let found = match self.seek(SeekFrom::Data(self.offset))? {
            Some(data) if data > self.offset => return Ok((data, true)),
            Some(_) => self.seek(SeekFrom::Hole(self.offset))?,
            None => None,
        };
        // A file that changes meanwhile may answer anything: the rest is read then.
        match found.filter(|hole| *hole > self.offset) {
            Some(hole) => Ok((hole, false)),
            None => {
                self.sparse = false;
                Ok((size, false))
            }
        }
    }
}

impl Iterator for Extents<'_> {
    type Item = Result<Extent>;

    fn next(&mut self) -> Option<Self::Item> {
        let size = self.file.stat.size;
        if self.offset >= size {
            return None;
        }
        match self.end() {
            Ok((end, hole)) => {
                let extent = Extent { offset: self.offset, len: end - self.offset, hole };
                self.offset = end;
                Some(Ok(extent))
            }
            Err(error) => {
                self.offset = size;
                Some(Err(error))
            }
        }
    }
}
