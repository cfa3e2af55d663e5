//! Writing stored files to a stream: one file's content, or a folder as a tar or zip archive.
//!
//! One thread walks and reads, another writes, a short queue between them: decompression and
//! writing overlap, and memory stays bounded.

mod links;
mod tar;
#[cfg(test)]
mod tests;
mod zip;

use std::io::Write;
use std::sync::Arc;

use crossbeam_channel::{Sender, bounded};

use super::OpsError;
use super::content::{ContentReader, ContentWriter, Piece, write_content};
use super::walk::{Flow, Start, WalkItem, walk};
use crate::format::snapshot::Snapshot;
use crate::format::tree::{Entry, EntryKind};
use crate::progress::{Counter, Progress};
use crate::repo::Repository;
use crate::text::{escape, plural};
use crate::tree::TreeError;
use links::Links;

/// What a folder is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// POSIX pax: any name, exact times, owners, hard links, devices and extended attributes.
    Tar,
    /// Files, directories and symbolic links, with permissions and whole seconds.
    Zip,
}

impl ArchiveFormat {
    fn takes(self, kind: &EntryKind) -> bool {
        match kind {
            EntryKind::File { .. } | EntryKind::Directory { .. } | EntryKind::Symlink { .. } => {
                true
            }
            EntryKind::Socket => false,
            EntryKind::Fifo | EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. } => {
                self == Self::Tar
            }
        }
    }
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DumpReport {
    /// Entries in the archive; 1 for a file's content.
    pub entry_count: u64,
    /// Bytes of file contents, holes included.
    pub bytes: u64,
    /// Of these, bytes that are zeros because what was there is damaged.
    pub lost_bytes: u64,
    /// Entries that the archive cannot hold.
    pub left_out_count: u64,
}

/// Writes the content of the file that SNAPSHOT:PATH names.
pub fn dump_file(
    repository: &Arc<Repository>,
    snapshot: &Snapshot,
    path: &[u8],
    output: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<DumpReport, OpsError> {
    let reader = ContentReader::new(repository);
    let start = Start::find(reader.trees(), snapshot, path)?;
    let Some(Entry { kind: EntryKind::File { content, .. }, .. }) = &start.entry else {
        return Err(OpsError::Path { path: path.to_vec(), source: TreeError::NotAFile });
    };
    progress.phase("writing", Counter::Bytes, Some(content.len()));
    let lost_bytes = write_content(&reader, content, &start.path, output, progress)?;
    output.flush().map_err(OpsError::Output)?;
    Ok(DumpReport { entry_count: 1, bytes: content.len(), lost_bytes, left_out_count: 0 })
}

/// Writes what is below SNAPSHOT:PATH as an archive, with names relative to it. A path that names
/// no directory becomes an archive with that one entry.
///
/// Lengths stand before the contents, so damage in a file cannot shorten it: it becomes zeros,
/// and a problem of the file's path.
pub fn dump_folder(
    repository: &Arc<Repository>,
    snapshot: &Snapshot,
    path: &[u8],
    format: ArchiveFormat,
    output: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<DumpReport, OpsError> {
    let reader = ContentReader::new(repository);
    let start = Start::find(reader.trees(), snapshot, path)?;
    progress.phase("writing", Counter::Bytes, None);
    let report = match format {
        ArchiveFormat::Tar => transfer(&reader, &start, format, tar::Tar::new(output), progress),
        ArchiveFormat::Zip => transfer(&reader, &start, format, zip::Zip::new(output), progress),
    }?;
    output.flush().map_err(OpsError::Output)?;
    Ok(report)
}

/// An archive that is being written.
trait Archive {
    /// Begins an entry. `false`: it cannot be held, and nothing was written.
    fn begin(&mut self, name: &[u8], entry: &Entry, link: Option<&[u8]>) -> Result<bool, OpsError>;
    /// Where the content of the entry goes: exactly as many bytes as the entry says.
    fn content(&mut self) -> &mut dyn Write;
    /// Ends the entry after its content.
    fn end(&mut self) -> Result<(), OpsError>;
    /// Ends the archive. Without it, what was written shall not look whole.
    fn finish(&mut self, progress: &dyn Progress) -> Result<(), OpsError>;
}

/// What the reading thread comes upon, in order.
enum Event {
    /// An entry with its absolute path, its name in the archive, and the name of which it is
    /// another, if it is.
    Entry { path: Vec<u8>, name: Vec<u8>, entry: Box<Entry>, link: Option<Vec<u8>> },
    /// A piece of the content of the last entry.
    Piece(Piece),
    /// Something that the archive cannot hold.
    LeftOut(Vec<u8>),
}

fn transfer<A: Archive>(
    reader: &ContentReader,
    start: &Start,
    format: ArchiveFormat,
    mut archive: A,
    progress: &dyn Progress,
) -> Result<DumpReport, OpsError> {
    let mut writing = Writing { report: DumpReport::default(), open: None, left_out: None };
    std::thread::scope(|scope| {
        let (send, receive) = bounded(reader.ahead());
        let read = move || {
            if let Err(error) = read(reader, start, format, &send, progress) {
                // A closed channel means that the writing has ended, which knows why.
                let _ = send.send(Err(error));
            }
        };
        std::thread::Builder::new()
            .name("read".into())
            .spawn_scoped(scope, read)
            .expect("the system starts one more thread");
        receive.into_iter().try_for_each(|event| writing.take(event?, &mut archive, progress))
    })?;
    writing.close(&mut archive, progress)?;
    archive.finish(progress)?;
    if let Some(path) = writing.left_out {
        let entries = plural(writing.report.left_out_count, "entry was", "entries were");
        progress.note(&format!(
            "{entries} left out, which this kind of archive cannot hold: {} is the first",
            escape(&path)
        ));
    }
    Ok(writing.report)
}

/// Walks and reads, until the receiver is gone.
fn read(
    reader: &ContentReader,
    start: &Start,
    format: ArchiveFormat,
    events: &Sender<Result<Event, OpsError>>,
    progress: &dyn Progress,
) -> Result<(), OpsError> {
    // The receiver has ended: whatever this thread says now is not heard.
    let send = |event| events.send(Ok(event)).map_err(|_| OpsError::Cancelled);
    let mut links = Links::default();
    // Names begin after the directory, or are the last part of the path of a single entry.
    let name_start = match &start.entry {
        Some(entry) if !entry.is_directory() => start.path.len() - entry.name.len(),
        _ => start.path.len() + 1,
    };
    let visit = &mut |item: &WalkItem<'_>| {
        let path = item.path.to_vec();
        if !format.takes(&item.entry.kind) {
            send(Event::LeftOut(path))?;
            return Ok(Flow::Continue);
        }
        let name = item.path.get(name_start..).unwrap_or_default().to_vec();
        let link = match format {
            ArchiveFormat::Tar => links.earlier_name(&name, item.entry),
            ArchiveFormat::Zip => None,
        };
        let is_link = link.is_some();
        send(Event::Entry { path, name, entry: Box::new(item.entry.clone()), link })?;
        if let (EntryKind::File { content, .. }, false) = (&item.entry.kind, is_link) {
            for piece in reader.pieces(content, item.path) {
                send(Event::Piece(piece?))?;
            }
        }
        Ok(Flow::Continue)
    };
    walk(reader.trees(), start, visit, progress)
}

struct Writing {
    report: DumpReport,
    /// The content of the entry that was begun; those that cannot be held have none.
    open: Option<ContentWriter>,
    left_out: Option<Vec<u8>>,
}

impl Writing {
    fn take(
        &mut self,
        event: Event,
        archive: &mut dyn Archive,
        progress: &dyn Progress,
    ) -> Result<(), OpsError> {
        match event {
            Event::Entry { path, name, entry, link } => {
                self.close(archive, progress)?;
                progress.at(&path);
                progress.add(Counter::Entries, 1);
                if archive.begin(&name, &entry, link.as_deref())? {
                    self.report.entry_count += 1;
                    self.open = Some(ContentWriter::new(&path));
                } else {
                    self.leave_out(path);
                }
            }
            Event::Piece(piece) => {
                if let Some(content) = &mut self.open {
                    self.report.bytes += piece.len();
                    content.write(piece, archive.content(), progress)?;
                }
            }
            Event::LeftOut(path) => self.leave_out(path),
        }
        Ok(())
    }

    fn leave_out(&mut self, path: Vec<u8>) {
        self.report.left_out_count += 1;
        self.left_out.get_or_insert(path);
    }

    fn close(
        &mut self,
        archive: &mut dyn Archive,
        progress: &dyn Progress,
    ) -> Result<(), OpsError> {
        if let Some(content) = self.open.take() {
            self.report.lost_bytes += content.finish(progress);
            archive.end()?;
        }
        Ok(())
    }
}
