//! Reading: files become chunks with their ids. Small files come many at a time in one buffer,
//! large ones in segments (`large.rs`).

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, select_biased};

use super::beside::Beside;
use super::collect::Item;
use super::large::{SEGMENT_LEN, Segment, Segments};
use super::links::Shared;
use super::parent::Trust;
use crate::chunker::Chunker;
use crate::crypto::KeyRing;
use crate::format::tree::{Entry, Metadata};
use crate::id::{ChunkId, FrameId};
use crate::progress::{Counter, Progress};
use crate::source::{Directory, SourceError, Stat};
use crate::tree::TreeReader;

/// A file that changes while it is read is read again so often.
const READS_MAX: usize = 3;
/// Files from this length on are read on their own.
pub(super) const LARGE_LEN: u64 = 256 << 10;
/// Room for a batch of small files.
const BUFFER_LEN: usize = 768 << 10;

/// So many buffers of a kind are kept for each thread.
const BUFFERS_MAX: usize = 4;

/// A part of a file, in a buffer or not stored at all.
#[derive(Debug, Clone)]
pub(super) enum Piece {
    /// A chunk.
    Chunk {
        /// Its id.
        id: ChunkId,
        /// Where it is in the buffer.
        at: Range<usize>,
        /// The frame that it is likely to resemble.
        base: Option<FrameId>,
    },
    /// A hole.
    Hole {
        /// Its length, bytes.
        len: u64,
    },
}

/// A file to be read.
#[derive(Debug)]
pub(super) struct ToRead {
    /// The directory that it is in.
    pub directory: Arc<Directory>,
    /// Its name there.
    pub name: Vec<u8>,
    /// The directory's path, for messages.
    pub parent_path: Arc<[u8]>,
    /// What it was like when the walk came by.
    pub stat: Stat,
    /// What its entry will say.
    pub metadata: Metadata,
    /// What the parent has there.
    pub before: Option<Box<Entry>>,
    /// What it shares with its other names.
    pub shared: Option<Shared>,
}

/// What was read of a small file.
#[derive(Debug)]
pub(super) struct ReadFile {
    /// The file.
    pub file: ToRead,
    /// Its pieces, or why there are none.
    pub content: Result<Vec<Piece>, SourceError>,
    /// It changed while it was read, every time.
    pub unstable: bool,
    /// Bytes that were read, all attempts together.
    pub bytes_read: u64,
}

/// A step in the reading of a large file.
#[derive(Debug)]
pub(super) enum Block {
    /// The next pieces.
    Pieces(Vec<u8>, Vec<Piece>),
    /// The file changed: what came so far does not count.
    Again,
    /// The end, with what the entry will say.
    End(Box<ReadFile>),
}

/// Something for a reading thread.
pub(super) enum Job {
    /// Items in the order of the walk; those that are files to be read are read.
    Batch(Vec<Item>, Sender<(Vec<u8>, Vec<Item>)>),
    /// One large file, in segments that go this way.
    Large(Box<ToRead>, Sender<Block>, Segments),
}

/// What reading threads share.
pub(super) struct Reader<'a> {
    pub chunker: &'a Chunker,
    pub keys: &'a KeyRing,
    pub progress: &'a dyn Progress,
    /// What the parent has is read with this.
    trees: TreeReader,
    trust: &'a Trust,
    /// How many read.
    pub threads: usize,
    /// Buffers that were collected, to be filled again: new memory for every one costs more than
    /// some files' reading. Those for batches, and those for segments.
    used: [Mutex<Vec<Vec<u8>>>; 2],
}

impl<'a> Reader<'a> {
    /// With so many threads; they keep a few buffers each.
    pub fn new(
        chunker: &'a Chunker,
        keys: &'a KeyRing,
        progress: &'a dyn Progress,
        (trees, trust): (TreeReader, &'a Trust),
        threads: usize,
    ) -> Self {
        Self { chunker, keys, progress, trees, trust, threads, used: Default::default() }
    }

    /// What a new version of a large file is compared with.
    pub fn beside(&self, before: Option<&Entry>) -> Option<Beside> {
        self.trust.beside(&self.trees, before, self.chunker.avg_size())
    }

    /// The length of a buffer for a segment.
    fn segment_len(&self) -> usize {
        self.chunker.max_size() + SEGMENT_LEN
    }

    /// A buffer of at least `len` bytes, with anything in it. The one that was used last is still
    /// in the processor's cache.
    fn buffer(&self, len: usize) -> Vec<u8> {
        let used = lock(&self.used[0]).pop().filter(|buffer| buffer.len() >= len);
        used.unwrap_or_else(|| vec![0; len.max(BUFFER_LEN)])
    }

    /// The same for a segment.
    pub fn segment_buffer(&self) -> Vec<u8> {
        lock(&self.used[1]).pop().unwrap_or_else(|| vec![0; self.segment_len()])
    }

    /// Takes back a buffer that nobody needs any more.
    pub fn give_back(&self, buffer: Vec<u8>) {
        let of_segment = buffer.len() == self.segment_len();
        let mut used = lock(&self.used[usize::from(of_segment)]);
        if used.len() < BUFFERS_MAX * self.threads && (of_segment || buffer.len() >= BUFFER_LEN) {
            used.push(buffer);
        }
    }

    /// Works until there are no more jobs, nor segments of files that others have begun.
    pub fn work(&self, jobs: &Receiver<Job>, segments: &Receiver<Segment>) {
        loop {
            select_biased! {
                recv(segments) -> segment => match segment {
                    Ok(segment) => self.segment(segment),
                    Err(_) => break,
                },
                recv(jobs) -> job => match job {
                    Ok(job) => self.job(job),
                    Err(_) => break,
                },
            }
        }
        // One of them has ended.
        jobs.iter().for_each(|job| self.job(job));
        segments.iter().for_each(|segment| self.segment(segment));
    }

    /// Does one job.
    pub fn job(&self, job: Job) {
        match job {
            Job::Batch(items, done) => {
                let mut buffer = self.buffer(expected_len(&items));
                let mut filled = 0;
                let items = items.into_iter().map(|item| match item {
                    Item::Read(file) => self.small(*file, &mut buffer, &mut filled),
                    other => other,
                });
                let items = items.collect();
                // Nobody waits any more when the run was ended.
                let _ = done.send((buffer, items));
            }
            Job::Large(file, blocks, segments) => _ = self.large(*file, &blocks, &segments),
        }
    }

    /// Reads a small file into the buffer, from `filled` on. One that is no small file any more
    /// is left to be streamed.
    fn small(&self, mut file: ToRead, buffer: &mut Vec<u8>, filled: &mut usize) -> Item {
        let start = *filled;
        let mut bytes_read = 0;
        let mut grown = false;
        let mut read = |file: &mut ToRead, last: bool| {
            *filled = start;
            let open = file.directory.open_file(&file.name, &file.stat)?;
            grown = open.stat().size >= LARGE_LEN;
            if grown {
                return Ok(Some((Vec::new(), false)));
            }
            adopt(file, open.stat());
            let mut pieces = Vec::new();
            for extent in open.extents() {
                let extent = extent?;
                if extent.hole {
                    pieces.push(Piece::Hole { len: extent.len });
                    continue;
                }
                // A small file's length fits; what it grows by from now on is not read.
                let (from, end) = (*filled, *filled + usize::try_from(extent.len).unwrap_or(0));
                if buffer.len() < end {
                    buffer.resize(end, 0);
                }
                let count = open.read_at(extent.offset, &mut buffer[from..end])?;
                *filled += count;
                bytes_read += count as u64;
                self.progress.add(Counter::Bytes, count as u64);
                self.cut(&buffer[..*filled], from, true, &mut pieces);
            }
            let settled = open.unchanged(open.stat())?;
            Ok(match settled || last {
                true => Some((pieces, !settled)),
                false => None,
            })
        };
        let result = repeat(&mut file, &mut read);
        let (content, unstable) = match result {
            Ok((pieces, unstable)) => (Ok(pieces), unstable),
            Err(error) => (Err(error.below(&file.parent_path)), false),
        };
        match grown {
            true => Item::Late(Box::new(file)),
            false => Item::File(Box::new(ReadFile { file, content, unstable, bytes_read })),
        }
    }

    /// Cuts what is in the buffer from `from` on; returns how far.
    pub fn cut(&self, buffer: &[u8], from: usize, ended: bool, pieces: &mut Vec<Piece>) -> usize {
        let mut at = from;
        self.chunker.cut(&buffer[from..], ended, |chunk| {
            let end = at + chunk.len();
            pieces.push(Piece::Chunk { id: self.keys.data_id(chunk), at: at..end, base: None });
            at = end;
        });
        at
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How much room the files of a batch need, unless they grow.
fn expected_len(items: &[Item]) -> usize {
    let len = |item: &Item| match item {
        Item::Read(file) => usize::try_from(file.stat.size).unwrap_or(0),
        _ => 0,
    };
    items.iter().map(len).sum()
}

/// The entry shall say what was read, not what was seen before.
pub(super) fn adopt(file: &mut ToRead, stat: &Stat) {
    file.stat = *stat;
    let metadata = &mut file.metadata;
    metadata.mode = stat.mode;
    metadata.mtime = stat.mtime;
    metadata.ctime = stat.ctime;
    metadata.inode = stat.inode;
    metadata.links = stat.links;
    metadata.device = if stat.links > 1 { stat.device } else { 0 };
}

pub(super) type Reading = Result<Option<(Vec<Piece>, bool)>, SourceError>;

/// Reads until the file held still, a few times at most.
pub(super) fn repeat(
    file: &mut ToRead,
    read: &mut dyn FnMut(&mut ToRead, bool) -> Reading,
) -> Result<(Vec<Piece>, bool), SourceError> {
    for _ in 1..READS_MAX {
        if let Some(done) = read(file, false)? {
            return Ok(done);
        }
    }
    Ok(read(file, true)?.unwrap_or_default())
}
