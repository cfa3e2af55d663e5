//! Tar in the pax format of POSIX: a ustar header for each entry, and before it a header of
//! records for what does not fit there. Names and attributes are written raw.

use std::io::Write;

use ::tar::{EntryType, Header};

use super::{Archive, OpsError};
use crate::format::tree::{Entry, EntryKind};
use crate::progress::Progress;
use crate::world::Time;

const BLOCK_LEN: usize = 512;
/// Longest name and link target in a ustar header.
const NAME_LEN_MAX: usize = 100;
/// Longest name of an owner in one; a zero comes after it.
const OWNER_LEN_MAX: usize = 31;
/// First user or group that seven octal digits do not hold.
const ID_END: u32 = 1 << 21;
/// First length or time that eleven octal digits do not hold.
const NUMBER_END: u64 = 1 << 33;

pub(super) struct Tar<'a> {
    output: &'a mut dyn Write,
    /// Bytes written so far, for the padding of contents.
    len: u64,
}

impl<'a> Tar<'a> {
    pub fn new(output: &'a mut dyn Write) -> Self {
        Self { output, len: 0 }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), OpsError> {
        self.write_all(bytes).map_err(OpsError::Output)
    }

    fn pad(&mut self) -> Result<(), OpsError> {
        let over = (self.len % BLOCK_LEN as u64) as usize;
        match over {
            0 => Ok(()),
            over => self.put(&[0; BLOCK_LEN][over..]),
        }
    }
}

impl Write for Tar<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.output.write(bytes)?;
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.output.flush()
    }
}

impl Archive for Tar<'_> {
    fn begin(&mut self, name: &[u8], entry: &Entry, link: Option<&[u8]>) -> Result<bool, OpsError> {
        let mut name = name.to_vec();
        if entry.is_directory() {
            name.push(b'/');
        }
        let (header, records) = headers(&name, entry, link);
        if !records.is_empty() {
            let mut before = Header::new_ustar();
            put_name(&mut before, &[b"PaxHeaders/", entry.name.as_slice()].concat());
            before.set_entry_type(EntryType::XHeader);
            before.set_mode(0o644);
            before.set_uid(0);
            before.set_gid(0);
            before.set_size(records.len() as u64);
            before.set_cksum();
            self.put(before.as_bytes())?;
            self.put(&records)?;
            self.pad()?;
        }
        self.put(header.as_bytes())?;
        Ok(true)
    }

    fn content(&mut self) -> &mut dyn Write {
        self
    }

    fn end(&mut self) -> Result<(), OpsError> {
        self.pad()
    }

    fn finish(&mut self, _: &dyn Progress) -> Result<(), OpsError> {
        self.put(&[0; 2 * BLOCK_LEN])
    }
}

/// The header of an entry, and the records that go before it.
fn headers(name: &[u8], entry: &Entry, link: Option<&[u8]>) -> (Header, Vec<u8>) {
    let metadata = &entry.metadata;
    let mut header = Header::new_ustar();
    let mut records = Vec::new();
    if !put_name(&mut header, name) {
        record(&mut records, b"path", name);
    }
    let (entry_type, target) = match (&entry.kind, link) {
        (_, Some(link)) => (EntryType::Link, link),
        (EntryKind::Symlink { target }, None) => (EntryType::Symlink, target.as_slice()),
        (EntryKind::File { .. } | EntryKind::Socket, None) => (EntryType::Regular, &b""[..]),
        (EntryKind::Directory { .. }, None) => (EntryType::Directory, &b""[..]),
        (EntryKind::Fifo, None) => (EntryType::Fifo, &b""[..]),
        (EntryKind::CharDevice { .. }, None) => (EntryType::Char, &b""[..]),
        (EntryKind::BlockDevice { .. }, None) => (EntryType::Block, &b""[..]),
    };
    header.set_entry_type(entry_type);
    if !put_bytes(&mut header.as_old_mut().linkname, target, NAME_LEN_MAX) {
        record(&mut records, b"linkpath", target);
    }
    header.set_mode(metadata.mode & 0o7777);
    header.set_uid(metadata.uid.into());
    header.set_gid(metadata.gid.into());
    for (key, id) in [(b"uid", metadata.uid), (b"gid", metadata.gid)] {
        if id >= ID_END {
            record(&mut records, key, id.to_string().as_bytes());
        }
    }
    let size = if link.is_some() { 0 } else { entry.size() };
    header.set_size(size);
    if size >= NUMBER_END {
        record(&mut records, b"size", size.to_string().as_bytes());
    }
    put_time(&mut header, &mut records, metadata.mtime);
    if let Some(ustar) = header.as_ustar_mut() {
        if !put_bytes(&mut ustar.uname, &metadata.user, OWNER_LEN_MAX) {
            record(&mut records, b"uname", &metadata.user);
        }
        if !put_bytes(&mut ustar.gname, &metadata.group, OWNER_LEN_MAX) {
            record(&mut records, b"gname", &metadata.group);
        }
        if let EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } =
            entry.kind
        {
            put_device(&mut ustar.dev_major, major);
            put_device(&mut ustar.dev_minor, minor);
        }
    }
    if link.is_none() {
        for xattr in &metadata.xattrs {
            record(&mut records, &xattr_key(&xattr.name), &xattr.value);
        }
    }
    header.set_cksum();
    (header, records)
}

/// `false`: the name does not fit and was cut.
fn put_name(header: &mut Header, name: &[u8]) -> bool {
    put_bytes(&mut header.as_old_mut().name, name, NAME_LEN_MAX)
}

fn put_bytes(field: &mut [u8], bytes: &[u8], len_max: usize) -> bool {
    field.iter_mut().zip(bytes.iter().take(len_max)).for_each(|(to, from)| *to = *from);
    bytes.len() <= len_max
}

fn put_time(header: &mut Header, records: &mut Vec<u8>, time: Time) {
    let seconds = u64::try_from(time.seconds).unwrap_or(0);
    header.set_mtime(seconds.min(NUMBER_END - 1));
    if time.nanoseconds > 0 || time.seconds < 0 || seconds >= NUMBER_END {
        record(records, b"mtime", decimal(time).as_bytes());
    }
}

/// Seconds as a decimal number. Nanoseconds count forward also before 1970.
fn decimal(time: Time) -> String {
    match (time.seconds, time.nanoseconds) {
        (seconds, 0) => seconds.to_string(),
        (seconds @ ..0, nanoseconds) => {
            let rest = 1_000_000_000u32.saturating_sub(nanoseconds);
            format!("-{}.{rest:09}", (seconds + 1).unsigned_abs())
        }
        (seconds, nanoseconds) => format!("{seconds}.{nanoseconds:09}"),
    }
}

/// Seven octal digits, or binary where these are too few, as other numbers in tar are.
fn put_device(field: &mut [u8; 8], number: u32) {
    if number < ID_END {
        field.copy_from_slice(format!("{number:07o}\0").as_bytes());
    } else {
        let [a, b, c, d] = number.to_be_bytes();
        *field = [0x80, 0, 0, 0, a, b, c, d];
    }
}

/// An attribute's name as a record's key, in which "=" would end it.
fn xattr_key(name: &[u8]) -> Vec<u8> {
    let mut key = b"SCHILY.xattr.".to_vec();
    for byte in name {
        match byte {
            b'%' => key.extend_from_slice(b"%25"),
            b'=' => key.extend_from_slice(b"%3D"),
            byte => key.push(*byte),
        }
    }
    key
}

/// Appends "length key=value\n", in which the length counts itself.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    records.extend_from_slice(format!("{len} ").as_bytes());
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_records_count_themselves() {
        for len in 0..1_200 {
            let mut records = Vec::new();
            record(&mut records, b"path", &vec![b'x'; len]);
            let digits = records.iter().position(|byte| *byte == b' ').unwrap();
            let said: usize = std::str::from_utf8(&records[..digits]).unwrap().parse().unwrap();
            assert_eq!(said, records.len());
        }
    }

    #[test]
    fn times_before_1970_count_forward() {
        let time = |seconds, nanoseconds| decimal(Time { seconds, nanoseconds });
        assert_eq!(time(5, 7), "5.000000007");
        assert_eq!(time(-5, 0), "-5");
        assert_eq!(time(-5, 7), "-4.999999993");
        assert_eq!(time(-1, 999_999_999), "-0.000000001");
        assert_eq!(time(i64::MIN, 1), "-9223372036854775807.999999999");
    }
}
