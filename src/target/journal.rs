//! The undo journal: what a run has changed in a target, told before each change.
//!
//! Records follow each other in one file that only grows. Each has its length on both sides, so
//! that the file is read from its end without holding it in memory, and a checksum, so that the
//! half record of a run that was killed is seen and left out. The file belongs to one run of one
//! program on one machine, so its layout is no part of the format of repositories.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use crate::format::codec::{Put, Take};
use crate::format::tree::{Metadata, Xattr, name_is_allowed};
use crate::format::{FormatError, Result};
use crate::limits;
use crate::world::Time;

/// Longest record, bytes: a long path and many attributes.
const RECORD_LEN_MAX: usize = 16 << 20;
/// The length, four bytes, and the checksum stand before a record; the length again behind it.
const CHECKSUM_LEN: usize = 8;
const HEAD_LEN: u64 = 4 + CHECKSUM_LEN as u64;
const FRAME_LEN: u64 = HEAD_LEN + 4;

/// One thing that a run is about to change, and what is needed to take it back. Paths are raw and
/// relative to the target; no component of them is `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UndoRecord {
    /// What had the name gets this number in the private directory.
    Aside {
        /// Where it was.
        path: Vec<u8>,
        /// Its name now.
        number: u64,
    },
    /// Something new gets the name.
    Made {
        /// Where.
        path: Vec<u8>,
        /// The new one's file system.
        device: u64,
        /// The new one's inode.
        inode: u64,
        /// When that was made, for numbers of inodes are given again; zero where nobody knows.
        born: Time,
    },
    /// The metadata of something changes; a folder's also by what is made in it.
    Metadata {
        /// Where; empty for the target itself.
        path: Vec<u8>,
        /// As it was; with the device and the inode.
        metadata: Metadata,
    },
    /// A private directory is made on another file system.
    Room {
        /// The folder that it is made in.
        path: Vec<u8>,
    },
}

impl UndoRecord {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let begin = |out: &mut Vec<u8>, kind, path: &[u8]| {
            out.put_u8(kind);
            out.put_bytes(path);
        };
        match self {
            Self::Aside { path, number } => {
                begin(&mut out, 0, path);
                out.put_varint(*number);
            }
            Self::Made { path, device, inode, born } => {
                begin(&mut out, 1, path);
                out.put_varint(*device);
                out.put_varint(*inode);
                out.put_time(*born);
            }
            Self::Metadata { path, metadata } => {
                begin(&mut out, 2, path);
                encode_metadata(&mut out, metadata);
            }
            Self::Room { path } => begin(&mut out, 3, path),
        }
        out
    }

    /// From bytes that anybody may have written.
    ///
    /// # Errors
    /// When they are no record, or one with a path that leads elsewhere.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut take = Take::new(bytes);
        let kind = take.u8("kind of a record")?;
        let path = take.bytes(RECORD_LEN_MAX, "path")?.to_vec();
        if !path.is_empty() && !path.split(|byte| *byte == b'/').all(name_is_allowed) {
            return Err(FormatError::Bad("path"));
        }
        let record = match kind {
            0 => Self::Aside { path, number: take.varint("number")? },
            1 => {
                let device = take.varint("device")?;
                let inode = take.varint("inode")?;
                Self::Made { path, device, inode, born: take.time("time")? }
            }
            2 => Self::Metadata { path, metadata: decode_metadata(&mut take)? },
            3 => Self::Room { path },
            _ => return Err(FormatError::Bad("kind of a record")),
        };
        take.finish("record")?;
        Ok(record)
    }
}

fn encode_metadata(out: &mut Vec<u8>, metadata: &Metadata) {
    for number in [metadata.mode, metadata.uid, metadata.gid] {
        out.put_u32(number);
    }
    out.put_time(metadata.mtime);
    out.put_varint(metadata.device);
    out.put_varint(metadata.inode);
    out.put_varint(metadata.xattrs.len() as u64);
    for xattr in &metadata.xattrs {
        out.put_bytes(&xattr.name);
        out.put_bytes(&xattr.value);
    }
}

fn decode_metadata(take: &mut Take<'_>) -> Result<Metadata> {
    let mut metadata = Metadata {
        mode: take.u32("mode")?,
        uid: take.u32("owner")?,
        gid: take.u32("group")?,
        mtime: take.time("time")?,
        device: take.varint("device")?,
        inode: take.varint("inode")?,
        ..Metadata::default()
    };
    if metadata.mode & !0o7777 != 0 {
        return Err(FormatError::Bad("mode"));
    }
    for _ in 0..take.count(limits::XATTRS_MAX, "attributes")? {
        let name = take.bytes(limits::XATTR_NAME_LEN_MAX, "attribute's name")?.to_vec();
        let value = take.bytes(limits::XATTR_VALUE_LEN_MAX, "attribute's value")?.to_vec();
        metadata.xattrs.push(Xattr { name, value });
    }
    Ok(metadata)
}

fn checksum(record: &[u8]) -> [u8; CHECKSUM_LEN] {
    let hash = blake3::hash(record);
    hash.as_bytes().first_chunk().copied().unwrap_or_default()
}

/// The file.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    /// Where the last whole record ends.
    end: Mutex<u64>,
}

impl Journal {
    /// Finds the end of what is there. What follows on a record that is not whole was never
    /// acted on: each change waits until its record is written.
    pub fn open(file: File) -> io::Result<Self> {
        let mut reader = BufReader::new(&file);
        let mut end = 0;
        while let Some(record) = read_record(&mut reader)? {
            end += FRAME_LEN + record.len() as u64;
        }
        Ok(Self { file, end: Mutex::new(end) })
    }

    pub fn append(&self, record: &UndoRecord) -> io::Result<()> {
        let record = record.encode();
        let len = u32::try_from(record.len()).ok().filter(|_| record.len() <= RECORD_LEN_MAX);
        let len = len.ok_or(ErrorKind::FileTooLarge)?.to_le_bytes();
        let framed = [&len[..], &checksum(&record), &record, &len].concat();
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        self.file.write_all_at(&framed, *end)?;
        *end += framed.len() as u64;
        Ok(())
    }

    /// The record that ends at `end`, and where it begins. Without `end` the last one; `None` in
    /// front of the first.
    pub fn before(&self, end: Option<u64>) -> io::Result<Option<(UndoRecord, u64)>> {
        let end = end.unwrap_or(*self.end.lock().unwrap_or_else(PoisonError::into_inner));
        if end == 0 {
            return Ok(None);
        }
        let mut len = [0; 4];
        let tail = end.checked_sub(4).ok_or(ErrorKind::InvalidData)?;
        self.file.read_exact_at(&mut len, tail)?;
        let frame_len = FRAME_LEN + u64::from(u32::from_le_bytes(len));
        let begin = end.checked_sub(frame_len).ok_or(ErrorKind::InvalidData)?;
        let mut framed = vec![0; frame_len.min(FRAME_LEN + RECORD_LEN_MAX as u64) as usize];
        self.file.read_exact_at(&mut framed, begin)?;
        let record = read_record(&mut framed.as_slice())?.ok_or(ErrorKind::InvalidData)?;
        let record =
            UndoRecord::decode(&record).map_err(|e| io::Error::new(ErrorKind::InvalidData, e))?;
        Ok(Some((record, begin)))
    }
}

/// The next record as bytes; `None` at the end, or when it is not whole.
fn read_record(reader: &mut dyn Read) -> io::Result<Option<Vec<u8>>> {
    let mut part = |len: usize| -> io::Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; len];
        match reader.read_exact(&mut bytes) {
            Ok(()) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    };
    let Some(head) = part(HEAD_LEN as usize)? else { return Ok(None) };
    let Some((len, sum)) = head.split_first_chunk() else { return Ok(None) };
    let record_len = u32::from_le_bytes(*len) as usize;
    if record_len > RECORD_LEN_MAX {
        return Ok(None);
    }
    let (Some(record), Some(tail)) = (part(record_len)?, part(4)?) else { return Ok(None) };
    Ok((checksum(&record) == *sum && tail == len).then_some(record))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<UndoRecord> {
        let xattrs = vec![Xattr { name: b"user.a".to_vec(), value: b"\0\xff".to_vec() }];
        let born = Time { seconds: -1, nanoseconds: 999_999_999 };
        let metadata = Metadata { mode: 0o2755, uid: 7, inode: 1 << 40, xattrs, ..<_>::default() };
        vec![
            UndoRecord::Metadata { path: Vec::new(), metadata },
            UndoRecord::Aside { path: b"a/\xff".to_vec(), number: 3 },
            UndoRecord::Made { path: b"a/b".to_vec(), device: u64::MAX, inode: 5, born },
            UndoRecord::Room { path: b"mnt".to_vec() },
        ]
    }

    fn backwards(journal: &Journal) -> Vec<UndoRecord> {
        let (mut all, mut end) = (Vec::new(), None);
        while let Some((record, begin)) = journal.before(end).unwrap() {
            all.push(record);
            end = Some(begin);
        }
        all.reverse();
        all
    }

    #[test]
    fn a_journal_that_breaks_off_anywhere_keeps_its_whole_records() {
        let file = tempfile::tempfile().unwrap();
        let journal = Journal::open(file.try_clone().unwrap()).unwrap();
        let mut ends = vec![0];
        for record in samples() {
            journal.append(&record).unwrap();
            ends.push(file.metadata().unwrap().len());
        }
        assert_eq!(backwards(&journal), samples());
        for len in (0..=ends[4]).rev() {
            file.set_len(len).unwrap();
            // Every opening reads from the front.
            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
            let journal = Journal::open(File::open(path).unwrap()).unwrap();
            let whole = ends.iter().filter(|end| **end <= len).count() - 1;
            assert_eq!(backwards(&journal), &samples()[..whole], "{len}");
        }
    }

    #[test]
    fn what_follows_on_a_damaged_record_is_left_out() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || Journal::open(file.reopen().unwrap()).unwrap();
        let journal = open();
        let mut begins = vec![0];
        for record in samples() {
            journal.append(&record).unwrap();
            begins.push(file.as_file().metadata().unwrap().len());
        }
        for at in 0..begins[4] {
            let mut byte = [0];
            file.as_file().read_exact_at(&mut byte, at).unwrap();
            file.as_file().write_all_at(&[byte[0] ^ 1], at).unwrap();
            let before = begins.iter().filter(|begin| **begin <= at).count() - 1;
            assert_eq!(backwards(&open()), &samples()[..before], "{at}");
            file.as_file().write_all_at(&byte, at).unwrap();
        }
    }

    #[test]
    fn no_path_leads_out_of_the_target() {
        for path in ["..", "a/../b", "/a", "a//b", "a/", ".", "a/."] {
            let record = UndoRecord::Aside { path: path.into(), number: 0 };
            assert_eq!(UndoRecord::decode(&record.encode()), Err(FormatError::Bad("path")));
        }
        for record in samples() {
            assert_eq!(UndoRecord::decode(&record.encode()).as_ref(), Ok(&record));
        }
    }
}
