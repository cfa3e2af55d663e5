//! The names of one directory, sorted, in little memory.

use std::fmt;
use std::mem::MaybeUninit;

use rustix::fd::BorrowedFd;
use rustix::fs::{RawDir, SeekFrom, seek};
use rustix::io::Errno;

use super::Kind;
use crate::format::tree::name_is_allowed;

/// Bytes asked from the system at once.
const BUFFER_LEN: usize = 32 << 10;

/// A span is `start << 17 | len << 4 | kind`: names of up to 4,096 bytes in up to 128 TiB, in the
/// eight bytes that a million names can afford.
const KIND_BITS: u32 = 4;
const LEN_BITS: u32 = 13;

/// The names of a directory in byte order, none twice, without `.` and `..`.
#[derive(Default)]
pub struct Names {
    bytes: Vec<u8>,
    spans: Vec<u64>,
    unusable: u64,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name<'a> {
    /// The name, raw.
    pub bytes: &'a [u8],
    /// What it stood for when it was listed, if the file system says so: a hint, no more.
    pub kind: Option<Kind>,
}

impl Names {
    /// Reads a directory from its beginning, whatever was read of the handle before.
    pub(super) fn read(directory: BorrowedFd<'_>) -> Result<Self, Errno> {
        seek(directory, SeekFrom::Start(0))?;
        let mut buffer = [MaybeUninit::uninit(); BUFFER_LEN];
        let mut raw = RawDir::new(directory, &mut buffer);
        let mut names = Self::default();
        while let Some(entry) = raw.next() {
            match entry {
                Ok(entry) => names.push(entry.file_name().to_bytes(), entry.file_type()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        names.sort();
        Ok(names)
    }

    /// These names, of which nothing else is known.
    pub fn of<'a>(names: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut these = Self::default();
        names.for_each(|name| these.push(name, rustix::fs::FileType::Unknown));
        these.sort();
        these
    }

    fn push(&mut self, name: &[u8], kind: rustix::fs::FileType) {
        if name == b"." || name == b".." {
            return;
        }
        if !name_is_allowed(name) {
            self.unusable += 1;
            return;
        }
        let kind = Kind::from_type(kind).map_or(0, |kind| kind as u64 + 1);
        let start = self.bytes.len() as u64;
        self.spans.push(start << (LEN_BITS + KIND_BITS) | (name.len() as u64) << KIND_BITS | kind);
        self.bytes.extend_from_slice(name);
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        self.spans.sort_unstable_by(|a, b| slice(bytes, *a).cmp(slice(bytes, *b)));
        // Some file systems list a name twice when the directory changes meanwhile.
        self.spans.dedup_by(|a, b| slice(bytes, *a) == slice(bytes, *b));
        if self.bytes.len() > BUFFER_LEN {
            self.bytes.shrink_to_fit();
            self.spans.shrink_to_fit();
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The name with this number, counted from 0.
    pub fn get(&self, number: usize) -> Option<Name<'_>> {
        self.spans.get(number).map(|span| self.name(*span))
    }

    /// The bytes of the name with this number; empty if there is none.
    pub fn bytes(&self, number: usize) -> &[u8] {
        self.get(number).map_or(b"", |name| name.bytes)
    }

    /// All of them in byte order.
    pub fn iter(&self) -> impl Iterator<Item = Name<'_>> {
        self.spans.iter().map(|span| self.name(*span))
    }

    /// Whether this one is among them.
    pub fn contains(&self, name: &[u8]) -> bool {
        self.spans.binary_search_by(|span| slice(&self.bytes, *span).cmp(name)).is_ok()
    }

    /// How many entries have names that the format cannot hold, and are not among these.
    pub fn unusable(&self) -> u64 {
        self.unusable
    }

    fn name(&self, span: u64) -> Name<'_> {
        const KINDS: [Kind; 7] = [
            Kind::File,
            Kind::Directory,
            Kind::Symlink,
            Kind::Fifo,
            Kind::Socket,
            Kind::CharDevice,
            Kind::BlockDevice,
        ];
        let kind = (span & ((1 << KIND_BITS) - 1)).checked_sub(1);
        let kind = kind.and_then(|number| KINDS.get(number as usize)).copied();
        Name { bytes: slice(&self.bytes, span), kind }
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(|name| name.bytes.escape_ascii().to_string()))
            .finish()
    }
}

/// The bytes that a span made by `Names::push` stands for.
fn slice(bytes: &[u8], span: u64) -> &[u8] {
    let start = (span >> (LEN_BITS + KIND_BITS)) as usize;
    let len = (span >> KIND_BITS) as usize & ((1 << LEN_BITS) - 1);
    &bytes[start..start + len]
}
