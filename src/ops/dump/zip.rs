//! Zip, written front to back: lengths and checksums stand behind the contents.

use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;

use ::zip::result::ZipError;
use ::zip::write::{FullFileOptions, StreamWriter};
use ::zip::{CompressionMethod, DateTime, ZipWriter};
use jiff::tz::TimeZone;

use super::{Archive, OpsError};
use crate::calendar::to_timestamp;
use crate::format::tree::{Entry, EntryKind};
use crate::progress::Progress;
use crate::text::{escape, plural};
use crate::world::Time;

/// The list at a zip's end is in memory until then: so many bytes of it, which is about a quarter
/// of a million names.
const LIST_BYTES_MAX: u64 = 128 << 20;
/// What a name takes besides its own bytes.
const NAME_OVERHEAD: u64 = 448;
/// Longest name: it shares 64 KiB with other fields.
const NAME_LEN_MAX: usize = 65_000;
/// Extra field with a time in seconds since 1970.
const EXTENDED_TIMESTAMP: u16 = 0x5455;
/// From this length on contents need wider fields; compression may add a little.
const LARGE_LEN: u64 = 0xff00_0000;

/// Numbers of file types in `st_mode`.
const FILE: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;

/// Passes bytes on until it is shut. The crate ends an archive when it is dropped: one that was
/// left in the middle must not look whole.
struct Gate<'a> {
    output: &'a mut dyn Write,
    shut: Rc<Cell<bool>>,
}

impl Write for Gate<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.shut.get() {
            true => Ok(bytes.len()),
            false => self.output.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self.shut.get() {
            true => Ok(()),
            false => self.output.flush(),
        }
    }
}

pub(super) struct Zip<'a> {
    writer: Option<ZipWriter<StreamWriter<Gate<'a>>>>,
    /// Takes contents when there is no archive any more.
    nowhere: std::io::Sink,
    shut: Rc<Cell<bool>>,
    list_bytes: u64,
    escaped_count: u64,
}

impl Drop for Zip<'_> {
    fn drop(&mut self) {
        self.shut.set(true);
    }
}

fn output(error: ZipError) -> OpsError {
    OpsError::Output(match error {
        ZipError::Io(error) => error,
        error => std::io::Error::other(error),
    })
}

impl<'a> Zip<'a> {
    pub fn new(output: &'a mut dyn Write) -> Self {
        let shut = Rc::new(Cell::new(false));
        let gate = Gate { output, shut: shut.clone() };
        Self {
            writer: Some(ZipWriter::new_stream(gate)),
            nowhere: std::io::sink(),
            shut,
            list_bytes: 0,
            escaped_count: 0,
        }
    }
}

impl Archive for Zip<'_> {
    fn begin(&mut self, name: &[u8], entry: &Entry, _: Option<&[u8]>) -> Result<bool, OpsError> {
        let (name, escaped) = name_of(name);
        if name.len() > NAME_LEN_MAX {
            return Ok(false);
        }
        self.list_bytes += name.len() as u64 + NAME_OVERHEAD;
        if self.list_bytes > LIST_BYTES_MAX {
            let limit = LIST_BYTES_MAX / (NAME_OVERHEAD + 64);
            return Err(OpsError::Limit { what: "the number of names in a zip", limit });
        }
        let Some(writer) = &mut self.writer else { return Ok(false) };
        self.escaped_count += u64::from(escaped);
        let options = options(entry.metadata.mtime)?;
        let mode = entry.metadata.mode & 0o7777;
        match &entry.kind {
            EntryKind::Directory { .. } => {
                let options = options.external_attributes((DIRECTORY | mode) << 16);
                writer.add_directory(format!("{name}/"), options).map_err(output)?;
            }
            EntryKind::Symlink { target } => {
                let options = options
                    .compression_method(CompressionMethod::Stored)
                    .external_attributes((SYMLINK | 0o777) << 16);
                writer.start_file(name, options).map_err(output)?;
                writer.write_all(target).map_err(OpsError::Output)?;
            }
            EntryKind::File { content, .. } => {
                let options = options
                    .compression_method(CompressionMethod::Deflated)
                    .large_file(content.len() >= LARGE_LEN)
                    .external_attributes((FILE | mode) << 16);
                writer.start_file(name, options).map_err(output)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn content(&mut self) -> &mut dyn Write {
        match &mut self.writer {
            Some(writer) => writer,
            None => &mut self.nowhere,
        }
    }

    fn end(&mut self) -> Result<(), OpsError> {
        Ok(())
    }

    fn finish(&mut self, progress: &dyn Progress) -> Result<(), OpsError> {
        if let Some(writer) = self.writer.take() {
            writer.finish().map_err(output)?;
        }
        if self.escaped_count > 0 {
            let names = plural(self.escaped_count, "name is", "names are");
            progress
                .note(&format!("{names} written with backslashes, since a zip holds only text"));
        }
        Ok(())
    }
}

/// The name as text. Those with backslashes are escaped as well, so that no two become one.
fn name_of(name: &[u8]) -> (String, bool) {
    match std::str::from_utf8(name) {
        Ok(text) if !text.contains('\\') => (text.to_owned(), false),
        _ => (escape(name), true),
    }
}

/// With the time as MS-DOS has it (here in UTC: a zip knows no zone), and exactly in a field that
/// unzip prefers.
fn options(mtime: Time) -> Result<FullFileOptions<'static, 'static>, OpsError> {
    let civil = to_timestamp(mtime).to_zoned(TimeZone::UTC).datetime();
    let number = |number: i8| u8::try_from(number).unwrap_or(0);
    let date = DateTime::from_date_and_time(
        u16::try_from(civil.year()).unwrap_or(0),
        number(civil.month()),
        number(civil.day()),
        number(civil.hour()),
        number(civil.minute()),
        number(civil.second()),
    );
    // MS-DOS begins in 1980.
    let mut options = FullFileOptions::default().last_modified_time(date.unwrap_or_default());
    if let Ok(seconds) = i32::try_from(mtime.seconds) {
        let field = [&[1][..], &seconds.to_le_bytes()].concat();
        options.add_extra_field(EXTENDED_TIMESTAMP, field, false).map_err(output)?;
    }
    Ok(options)
}
