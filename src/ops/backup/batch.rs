//! What the walk comes upon goes on in batches: past the reading threads where something of it is
//! to be read, to the collecting thread otherwise.

use std::sync::Arc;

use crossbeam_channel::{Sender, bounded};

use super::collect::{Item, Work};
use super::large::Segments;
use super::read::{Job, LARGE_LEN, ToRead};
use crate::ops::OpsError;

/// A batch is handed on with so many items, so many bytes to be read, or files in so many
/// directories: each of these is open until the batch was collected, and some ten wait.
const ITEMS_MAX: usize = 256;
const BYTES_MAX: u64 = 512 << 10;
const HANDLES_MAX: usize = 32;
/// Blocks of a large file that wait.
const BLOCKS_WAITING: usize = 1;

/// The batch that grows.
pub(super) struct Batches {
    items: Vec<Item>,
    bytes: u64,
    to_read: bool,
    handles: usize,
    jobs: Sender<Job>,
    segments: Segments,
    work: Sender<Work>,
}

/// The collecting thread has stopped; it knows why.
fn stopped<T>(_: T) -> OpsError {
    OpsError::Cancelled
}

impl Batches {
    pub fn new(jobs: Sender<Job>, segments: Segments, work: Sender<Work>) -> Self {
        Self { items: Vec::new(), bytes: 0, to_read: false, handles: 0, jobs, segments, work }
    }

    /// Something that needs no reading.
    pub fn push(&mut self, item: Item) -> Result<(), OpsError> {
        self.items.push(item);
        let full =
            self.items.len() >= ITEMS_MAX || self.bytes >= BYTES_MAX || self.handles >= HANDLES_MAX;
        if full { self.flush() } else { Ok(()) }
    }

    /// A file to be read.
    pub fn read(&mut self, file: ToRead) -> Result<(), OpsError> {
        if file.stat.size >= LARGE_LEN {
            self.flush()?;
            let (job, work) = large(file, self.segments.clone());
            self.jobs.send(job).map_err(stopped)?;
            return self.work.send(work).map_err(stopped);
        }
        self.bytes += file.stat.size;
        self.to_read = true;
        self.file(Item::Read, file)
    }

    /// Another name of a file that came before.
    pub fn late(&mut self, file: ToRead) -> Result<(), OpsError> {
        self.file(Item::Late, file)
    }

    fn file(&mut self, item: fn(Box<ToRead>) -> Item, file: ToRead) -> Result<(), OpsError> {
        let last = self.items.iter().rev().find_map(|item| match item {
            Item::Read(file) | Item::Late(file) => Some(&file.directory),
            _ => None,
        });
        if last.is_none_or(|last| !Arc::ptr_eq(last, &file.directory)) {
            self.handles += 1;
        }
        self.push(item(Box::new(file)))
    }

    /// Hands on what there is.
    pub fn flush(&mut self) -> Result<(), OpsError> {
        let items = std::mem::take(&mut self.items);
        (self.bytes, self.handles) = (0, 0);
        if !std::mem::take(&mut self.to_read) {
            return self.work.send(Work::Items(items)).map_err(stopped);
        }
        let (done, done_in) = bounded(1);
        self.jobs.send(Job::Batch(items, done)).map_err(stopped)?;
        self.work.send(Work::Batch(done_in)).map_err(stopped)
    }
}

/// A channel for the blocks of a large file.
pub(super) fn large(file: ToRead, segments: Segments) -> (Job, Work) {
    let (blocks, blocks_in) = bounded(BLOCKS_WAITING);
    (Job::Large(Box::new(file), blocks, segments), Work::Large(blocks_in))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tree::Metadata;
    use crate::source::Directory;

    #[test]
    fn a_batch_keeps_few_directories_open() {
        let place = tempfile::tempdir().unwrap();
        let (jobs, jobs_in) = crossbeam_channel::unbounded();
        let (work, _work_in) = crossbeam_channel::unbounded();
        let mut batches = Batches::new(jobs, crossbeam_channel::unbounded(), work);
        for _ in 0..100 {
            let directory = Arc::new(Directory::open_path(place.path()).unwrap());
            for number in 0..4 {
                let stat = crate::source::Stat { size: 1, ..*directory.own_stat() };
                let file = ToRead {
                    directory: Arc::clone(&directory),
                    name: b"name".to_vec(),
                    parent_path: Arc::from(&b"/"[..]),
                    stat,
                    metadata: Metadata::default(),
                    before: None,
                    shared: None,
                };
                match number {
                    0 => batches.late(file).unwrap(),
                    _ => batches.read(file).unwrap(),
                }
            }
        }
        batches.flush().unwrap();
        let mut files = 0;
        for job in jobs_in.try_iter() {
            let Job::Batch(items, _) = job else { panic!("none of them is large") };
            files += items.len();
            let mut directories: Vec<_> = items
                .iter()
                .map(|item| match item {
                    Item::Read(file) | Item::Late(file) => Arc::as_ptr(&file.directory),
                    other => panic!("{other:?}"),
                })
                .collect();
            directories.dedup();
            assert!(directories.len() <= HANDLES_MAX, "{}", directories.len());
        }
        assert_eq!(files, 400);
    }
}
