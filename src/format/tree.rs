//! Directories, entries and lists of chunks. Format: `format-spec/09-tree.md`.

use std::sync::Arc;

use super::codec::{Put, Take};
use super::{FormatError, Result};
use crate::id::ChunkId;
use crate::limits;
use crate::world::Time;

/// First byte of a chunk that holds entries.
pub const ENTRIES_TAG: u8 = b'E';
/// First byte of a chunk that holds references.
pub const REFS_TAG: u8 = b'R';

/// One run of a stream: a chunk, or nothing but zeros that are not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ref {
    /// `len` bytes of the stream are in this chunk, or below it.
    Chunk {
        /// The chunk.
        id: ChunkId,
        /// Bytes of the stream that it stands for.
        len: u64,
    },
    /// A hole of `len` bytes.
    Hole {
        /// Its length, bytes.
        len: u64,
    },
}

impl Ref {
    /// Bytes of the stream that this stands for.
    pub fn len(&self) -> u64 {
        match self {
            Self::Chunk { len, .. } | Self::Hole { len } => *len,
        }
    }

    /// Whether it stands for nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A stream (a file's content, or a directory's encoded entries) as a list of references.
/// At depth 0 they name chunks of the stream itself, at depth n chunks that hold lists of
/// depth n - 1.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct Refs {
    /// Levels of lists between here and the stream.
    pub depth: u8,
    /// In the order of the stream.
    pub refs: Vec<Ref>,
}

impl Refs {
    /// Length of the whole stream, bytes.
    pub fn len(&self) -> u64 {
        self.refs.iter().map(Ref::len).fold(0, u64::saturating_add)
    }

    /// Whether the stream is empty.
    pub fn is_empty(&self) -> bool {
        self.refs.iter().all(Ref::is_empty)
    }

    /// Appends the encoded form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(self.depth);
        out.put_varint(self.refs.len() as u64);
        for item in &self.refs {
            match item {
                Ref::Chunk { id, len } => {
                    out.put_varint(len << 1);
                    out.extend_from_slice(id.as_bytes());
                }
                Ref::Hole { len } => out.put_varint(len << 1 | 1),
            }
        }
    }

    /// Takes one off the front.
    pub fn decode(take: &mut Take<'_>) -> Result<Self> {
        let depth = take.u8("depth of a list")?;
        if depth > limits::REFS_DEPTH_MAX {
            return Err(FormatError::TooLarge {
                what: "depth of a list",
                found: depth.into(),
                limit: limits::REFS_DEPTH_MAX.into(),
            });
        }
        let count = take.count(limits::REFS_MAX, "length of a list")?;
        // At least one byte each is there, or the decoding fails before the list has grown.
        let mut refs = Vec::with_capacity(count.min(take.rest().len()));
        let mut total = 0u64;
        for _ in 0..count {
            let word = take.varint("reference")?;
            let len = word >> 1;
            total = total.saturating_add(len);
            if len == 0 || total > limits::CONTENT_LEN_MAX {
                return Err(FormatError::Bad("length of a reference"));
            }
            refs.push(match word & 1 {
                0 => Ref::Chunk { id: ChunkId(take.array("reference")?), len },
                _ => Ref::Hole { len },
            });
        }
        Ok(Self { depth, refs })
    }

    /// A chunk that holds this list.
    pub fn encode_chunk(&self) -> Vec<u8> {
        let mut out = vec![REFS_TAG];
        self.encode(&mut out);
        out
    }

    /// The list that a chunk holds; it must have this depth, and stand for so many bytes.
    pub fn decode_chunk(bytes: &[u8], depth: u8, len: u64) -> Result<Self> {
        let mut take = Take::new(bytes);
        if take.u8("list chunk")? != REFS_TAG {
            return Err(FormatError::Magic("list chunk"));
        }
        let refs = Self::decode(&mut take)?;
        take.finish("list chunk")?;
        if refs.depth != depth {
            return Err(FormatError::Bad("depth of a list"));
        }
        match refs.len() == len {
            true => Ok(refs),
            false => Err(FormatError::Bad("length of a list")),
        }
    }
}

/// An extended attribute: name and value, raw (ACLs and capabilities are such attributes).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Xattr {
    /// Its full name ("user.comment").
    pub name: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// What there is about an entry besides its name and content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Permission, set-id and sticky bits: the low twelve of `st_mode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Name of the owner where the backup ran; empty where it had none.
    pub user: Arc<[u8]>,
    /// Name of the group where the backup ran; empty where it had none.
    pub group: Arc<[u8]>,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of the inode: to recognise what is unchanged; not restored.
    pub ctime: Time,
    /// To recognise what is unchanged, and hard links; not restored.
    pub inode: u64,
    /// Number of names of the inode; 1 for directories.
    pub links: u64,
    /// The file system's device number; 0 unless `links > 1`, when it tells groups of names apart.
    pub device: u64,
    /// In byte order of their names.
    pub xattrs: Vec<Xattr>,
}

impl Default for Metadata {
    fn default() -> Self {
        Self {
            mode: 0o600,
            uid: 0,
            gid: 0,
            user: Arc::from(&b""[..]),
            group: Arc::from(&b""[..]),
            mtime: Time::default(),
            ctime: Time::default(),
            inode: 0,
            links: 1,
            device: 0,
            xattrs: Vec::new(),
        }
    }
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Its bytes.
        content: Refs,
        /// It changed while it was read, again and again: the content may mix several states.
        unstable: bool,
    },
    /// A directory.
    Directory {
        /// The stream of its entries, without holes.
        listing: Refs,
    },
    /// A symbolic link.
    Symlink {
        /// What it points to, raw.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Any bytes but `/` and NUL; neither empty nor `.` nor `..`.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// The rest.
    pub metadata: Metadata,
}

/// Whether a directory may contain this name.
pub fn name_is_allowed(name: &[u8]) -> bool {
    !name.is_empty()
        && name != b"."
        && name != b".."
        && name.len() <= limits::NAME_LEN_MAX
        && !name.contains(&b'/')
        && !name.contains(&0)
}

const UNSTABLE: u64 = 1;

impl Entry {
    /// Length of the content if it is a file, else 0; bytes.
    pub fn size(&self) -> u64 {
        match &self.kind {
            EntryKind::File { content, .. } => content.len(),
            _ => 0,
        }
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, EntryKind::Directory { .. })
    }

    /// Appends the encoded form, preceded by its length.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut body = Vec::with_capacity(160 + self.name.len());
        self.encode_body(&mut body);
        out.put_bytes(&body);
    }

    fn encode_body(&self, out: &mut Vec<u8>) {
        let m = &self.metadata;
        out.put_bytes(&self.name);
        out.put_u8(self.kind_number());
        out.put_varint(match self.kind {
            EntryKind::File { unstable: true, .. } => UNSTABLE,
            _ => 0,
        });
        out.put_varint(m.mode.into());
        out.put_varint(m.uid.into());
        out.put_varint(m.gid.into());
        out.put_bytes(&m.user);
        out.put_bytes(&m.group);
        out.put_time(m.mtime);
        out.put_time(m.ctime);
        out.put_varint(m.inode);
        out.put_varint(m.links);
        if m.links > 1 {
            out.put_varint(m.device);
        }
        out.put_varint(m.xattrs.len() as u64);
        for xattr in &m.xattrs {
            out.put_bytes(&xattr.name);
            out.put_bytes(&xattr.value);
        }
        match &self.kind {
            EntryKind::File { content: refs, .. } | EntryKind::Directory { listing: refs } => {
                refs.encode(out);
            }
            EntryKind::Symlink { target } => out.put_bytes(target),
            EntryKind::Fifo | EntryKind::Socket => {}
            EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
                out.put_varint((*major).into());
                out.put_varint((*minor).into());
            }
        }
    }

    fn kind_number(&self) -> u8 {
        match self.kind {
            EntryKind::File { .. } => 1,
            EntryKind::Directory { .. } => 2,
            EntryKind::Symlink { .. } => 3,
            EntryKind::Fifo => 4,
            EntryKind::Socket => 5,
            EntryKind::CharDevice { .. } => 6,
            EntryKind::BlockDevice { .. } => 7,
        }
    }

    /// Takes the one behind `last` off the front. Bytes of the entry after the fields known here
    /// are passed over.
    fn decode(take: &mut Take<'_>, last: Option<&Self>) -> Result<Self> {
        let mut take = Take::new(take.bytes(limits::ENTRY_LEN_MAX, "entry")?);
        let name = take.bytes(limits::NAME_LEN_MAX, "name")?.to_vec();
        if !name_is_allowed(&name) {
            return Err(FormatError::Bad("name"));
        }
        let kind = take.u8("kind of entry")?;
        let flags = take.varint("flags of an entry")?;
        let metadata = decode_metadata(&mut take, last.map(|entry| &entry.metadata))?;
        let kind = match kind {
            1 => EntryKind::File {
                content: Refs::decode(&mut take)?,
                unstable: flags & UNSTABLE != 0,
            },
            2 => {
                let listing = Refs::decode(&mut take)?;
                if listing.refs.iter().any(|r| matches!(r, Ref::Hole { .. })) {
                    return Err(FormatError::Bad("listing"));
                }
                EntryKind::Directory { listing }
            }
            3 => {
                let target = take.bytes(limits::SYMLINK_LEN_MAX, "link target")?.to_vec();
                if target.is_empty() || target.contains(&0) {
                    return Err(FormatError::Bad("link target"));
                }
                EntryKind::Symlink { target }
            }
            4 => EntryKind::Fifo,
            5 => EntryKind::Socket,
            6 | 7 => {
                let major = take.varint32("device number")?;
                let minor = take.varint32("device number")?;
                match kind {
                    6 => EntryKind::CharDevice { major, minor },
                    _ => EntryKind::BlockDevice { major, minor },
                }
            }
            other => {
                let found = other.into();
                return Err(FormatError::Newer { what: "kind of entry", found, known: 7 });
            }
        };
        Ok(Self { name, kind, metadata })
    }
}

fn decode_metadata(take: &mut Take<'_>, last: Option<&Metadata>) -> Result<Metadata> {
    // Most entries of a directory have the same owner, whose name need not be there many times.
    let shared = |name: &[u8], last: Option<&Arc<[u8]>>| match last {
        Some(last) if **last == *name => Arc::clone(last),
        _ => Arc::from(name),
    };
    let mode = take.bounded(0o7777, "mode")? as u32;
    let uid = take.varint32("owner")?;
    let gid = take.varint32("group")?;
    let user = take.bytes(limits::OWNER_LEN_MAX, "owner's name")?;
    let user = shared(user, last.map(|m| &m.user));
    let group = take.bytes(limits::OWNER_LEN_MAX, "group's name")?;
    let group = shared(group, last.map(|m| &m.group));
    let mtime = take.time("mtime")?;
    let ctime = take.time("ctime")?;
    let inode = take.varint("inode")?;
    let links = take.varint("links")?;
    let device = if links > 1 { take.varint("device")? } else { 0 };
    let count = take.count(limits::XATTRS_MAX, "number of attributes")?;
    let mut xattrs: Vec<Xattr> = Vec::with_capacity(count.min(take.rest().len()));
    for _ in 0..count {
        let name = take.bytes(limits::XATTR_NAME_LEN_MAX, "attribute's name")?.to_vec();
        let value = take.bytes(limits::XATTR_VALUE_LEN_MAX, "attribute's value")?.to_vec();
        if name.is_empty() || name.contains(&0) || xattrs.last().is_some_and(|x| x.name >= name) {
            return Err(FormatError::Bad("attribute's name"));
        }
        xattrs.push(Xattr { name, value });
    }
    Ok(Metadata { mode, uid, gid, user, group, mtime, ctime, inode, links, device, xattrs })
}

/// A chunk of entries that begins after `previous` (byte order of names, none twice).
pub fn decode_entries(bytes: &[u8], previous: Option<&[u8]>) -> Result<Vec<Entry>> {
    let mut take = Take::new(bytes);
    if take.u8("entry chunk")? != ENTRIES_TAG {
        return Err(FormatError::Magic("entry chunk"));
    }
    let mut entries: Vec<Entry> = Vec::new();
    while !take.is_empty() {
        let entry = Entry::decode(&mut take, entries.last())?;
        let before = entries.last().map(|e| e.name.as_slice()).or(previous);
        if before.is_some_and(|before| before >= entry.name.as_slice()) {
            return Err(FormatError::Bad("order of names"));
        }
        entries.push(entry);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &[u8], kind: EntryKind) -> Entry {
        let xattrs = vec![Xattr { name: b"user.a".to_vec(), value: vec![0, 1] }];
        let mtime = Time { seconds: -5, nanoseconds: 7 };
        let metadata = Metadata { links: 2, device: 77, mtime, xattrs, ..Metadata::default() };
        Entry { name: name.to_vec(), kind, metadata }
    }

    fn all_kinds() -> Vec<Entry> {
        let id = ChunkId([7; 32]);
        let content =
            Refs { depth: 1, refs: vec![Ref::Chunk { id, len: 1 << 40 }, Ref::Hole { len: 4096 }] };
        let listing = Refs { depth: 0, refs: vec![Ref::Chunk { id, len: 9 }] };
        vec![
            entry(b"a", EntryKind::File { content, unstable: true }),
            entry(b"b\xff", EntryKind::Directory { listing }),
            entry(b"c\n", EntryKind::Symlink { target: b"../\xfe".to_vec() }),
            entry(b"d", EntryKind::Fifo),
            entry(b"e", EntryKind::Socket),
            entry(b"f", EntryKind::CharDevice { major: 1, minor: 3 }),
            entry(b"g", EntryKind::BlockDevice { major: 8, minor: 1 << 20 }),
        ]
    }

    fn chunk(entries: &[Entry]) -> Vec<u8> {
        let mut bytes = vec![ENTRIES_TAG];
        entries.iter().for_each(|e| e.encode(&mut bytes));
        bytes
    }

    #[test]
    fn entries_there_and_back() {
        let entries = all_kinds();
        assert_eq!(decode_entries(&chunk(&entries), None), Ok(entries));
    }

    #[test]
    fn every_truncation_is_refused_or_ends_between_entries() {
        let bytes = chunk(&all_kinds());
        let whole = (0..bytes.len()).filter(|n| decode_entries(&bytes[..*n], None).is_ok()).count();
        assert_eq!(whole, all_kinds().len());
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in [&b""[..], b".", b"..", b"a/b", b"a\0", &[b'a'; limits::NAME_LEN_MAX + 1]] {
            let bytes = chunk(&[entry(name, EntryKind::Fifo)]);
            assert!(decode_entries(&bytes, None).is_err(), "{name:?}");
        }
    }

    #[test]
    fn targets_that_no_link_can_have_are_refused() {
        for target in [b"".to_vec(), b"a\0b".to_vec(), vec![b'a'; limits::SYMLINK_LEN_MAX + 1]] {
            let bytes = chunk(&[entry(b"a", EntryKind::Symlink { target })]);
            assert!(decode_entries(&bytes, None).is_err());
        }
    }

    #[test]
    fn order_is_strict_also_across_chunks() {
        let (a, b) = (entry(b"a", EntryKind::Fifo), entry(b"b", EntryKind::Fifo));
        assert!(decode_entries(&chunk(&[b.clone(), a.clone()]), None).is_err());
        assert!(decode_entries(&chunk(&[a.clone(), a.clone()]), None).is_err());
        assert!(decode_entries(&chunk(&[a.clone(), b]), Some(b"a")).is_err());
        assert!(decode_entries(&chunk(&[a]), Some(b"Z")).is_ok());
    }
}
