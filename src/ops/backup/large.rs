//! Reading a large file: in segments, by all threads that have nothing else to do. Each cuts its
//! segment as if a chunk began there; one of them puts the segments together and cuts once more
//! from where the segment before has ended, until a cut of both is the same. From there on all
//! cuts are, as where a chunk ends depends on nothing that stands before it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

use super::beside::Beside;
use super::read::{Block, Piece, ReadFile, Reader, ToRead, adopt, repeat};
use crate::progress::Counter;
use crate::source::{OpenFile, SourceError};

/// Read at once of a large file, bytes: many chunks, of which few are cut twice.
pub(super) const SEGMENT_LEN: usize = 1 << 20;
/// Read in one go, bytes: it is cut and named while it is in the processor's cache.
const STEP_LEN: usize = 128 << 10;
/// Extents and holes of a segment: a file may have nothing but tiny ones.
const SPANS_MAX: usize = 1024;

/// A part of a file for any reading thread.
pub(super) struct Segment {
    open: Arc<OpenFile>,
    spans: Vec<Span>,
    done: Sender<Result<Cut, SourceError>>,
}

/// Both ends of the way to the threads that read segments.
pub(super) type Segments = (Sender<Segment>, Receiver<Segment>);

/// A stretch of a file.
#[derive(Debug, Clone, Copy)]
enum Span {
    Hole {
        len: u64,
    },
    /// Data, up to the end of its extent unless it goes on in the next segment.
    Data {
        offset: u64,
        len: usize,
        goes_on: bool,
    },
}

/// A segment that was read, and cut by itself.
struct Cut {
    /// The data stand behind room for what the segment before has left over.
    buffer: Vec<u8>,
    pieces: Vec<Piece>,
    /// Where the first extent ends in the buffer.
    first_end: usize,
    /// What is not cut, as the extent goes on.
    rest: Range<usize>,
    /// Whether it does.
    goes_on: bool,
    /// Bytes that were read.
    count: u64,
    /// The file has ended earlier than it did.
    short: bool,
}

impl Reader<'_> {
    /// Streams a large file. `None`: nobody listens any more.
    pub fn large(
        &self,
        mut file: ToRead,
        blocks: &Sender<Block>,
        segments: &Segments,
    ) -> Option<()> {
        let mut bytes_read = 0;
        let mut first = true;
        let mut read = |file: &mut ToRead, last: bool| {
            if !std::mem::take(&mut first) && blocks.send(Block::Again).is_err() {
                return Ok(Some((Vec::new(), false)));
            }
            let open = Arc::new(file.directory.open_file(&file.name, &file.stat)?);
            adopt(file, open.stat());
            let beside = self.beside(file.before.as_deref());
            let mut joining = Joining { reader: self, beside, position: 0, left: Vec::new() };
            bytes_read +=
                self.read_segments(&open, segments, |cut| joining.hand_on(cut, blocks))?;
            let settled = open.unchanged(open.stat())?;
            Ok(match settled || last {
                true => Some((Vec::new(), !settled)),
                false => None,
            })
        };
        let (content, unstable) = match repeat(&mut file, &mut read) {
            Ok((pieces, unstable)) => (Ok(pieces), unstable),
            Err(error) => (Err(error.below(&file.parent_path)), false),
        };
        let end = ReadFile { file, content, unstable, bytes_read };
        blocks.send(Block::End(Box::new(end))).ok()
    }

    /// Has all of a file read, some segments ahead, and gives them on in their order until one is
    /// not wanted. Returns how many bytes were read.
    fn read_segments(
        &self,
        open: &Arc<OpenFile>,
        (segments, segments_in): &Segments,
        mut take: impl FnMut(Cut) -> bool,
    ) -> Result<u64, SourceError> {
        let mut spans = spans(open);
        let mut waiting = VecDeque::new();
        let mut bytes_read = 0;
        loop {
            while waiting.len() <= self.threads {
                let Some(spans) = spans.next() else { break };
                let (done, done_in) = bounded(1);
                // Who reads holds the other end, too.
                let _ = segments.send(Segment { open: open.clone(), spans: spans?, done });
                waiting.push_back(done_in);
            }
            let Some(next) = waiting.pop_front() else { break };
            let cut = loop {
                match next.try_recv() {
                    Err(TryRecvError::Empty) => match segments_in.try_recv() {
                        Ok(segment) => self.segment(segment),
                        Err(_) => break next.recv().ok(),
                    },
                    done => break done.ok(),
                }
            };
            // Whoever had it has panicked, which ends the run.
            let Some(cut) = cut else { break };
            let cut = cut?;
            bytes_read += cut.count;
            let short = cut.short;
            if !take(cut) || short || self.progress.cancelled() {
                break;
            }
        }
        Ok(bytes_read)
    }

    /// Reads a segment and cuts it.
    pub fn segment(&self, Segment { open, spans, done }: Segment) {
        let mut buffer = self.segment_buffer();
        // Perhaps nobody waits any more.
        let _ = done
            .send(self.cut_segment(&open, &spans, &mut buffer).map(|cut| Cut { buffer, ..cut }));
    }

    fn cut_segment(
        &self,
        open: &OpenFile,
        spans: &[Span],
        buffer: &mut [u8],
    ) -> Result<Cut, SourceError> {
        let mut filled = self.chunker.max_size();
        let mut cut = Cut {
            buffer: Vec::new(),
            pieces: Vec::new(),
            first_end: 0,
            rest: 0..0,
            goes_on: false,
            count: 0,
            short: false,
        };
        for span in spans {
            let (offset, len, goes_on) = match *span {
                Span::Hole { len } => {
                    cut.pieces.push(Piece::Hole { len });
                    continue;
                }
                Span::Data { offset, len, goes_on } => (offset, len, goes_on),
            };
            let (start, end) = (filled, filled + len);
            cut.rest = start..start;
            while filled < end && !cut.short {
                let step = STEP_LEN.min(end - filled);
                let at = offset + (filled - start) as u64;
                let count = open.read_at(at, &mut buffer[filled..filled + step])?;
                filled += count;
                self.progress.add(Counter::Bytes, count as u64);
                cut.count += count as u64;
                cut.short = count < step;
                cut.goes_on = (goes_on || filled < end) && !cut.short;
                let from = cut.rest.start;
                let done = self.cut(&buffer[..filled], from, !cut.goes_on, &mut cut.pieces);
                cut.rest = done..filled;
            }
            if cut.first_end == 0 {
                cut.first_end = filled;
            }
            if cut.short {
                break;
            }
        }
        Ok(cut)
    }
}

/// The stretches of a file, some at a time.
fn spans(open: &OpenFile) -> impl Iterator<Item = Result<Vec<Span>, SourceError>> {
    let mut extents = open.extents();
    let mut left = None;
    std::iter::from_fn(move || {
        let (mut spans, mut room) = (Vec::new(), SEGMENT_LEN);
        while room > 0 && spans.len() < SPANS_MAX {
            let mut extent = match left.take().map(Ok).or_else(|| extents.next()) {
                Some(Ok(extent)) => extent,
                Some(Err(error)) => return Some(Err(error)),
                None if spans.is_empty() => return None,
                None => break,
            };
            if extent.hole {
                spans.push(Span::Hole { len: extent.len });
                continue;
            }
            let len = usize::try_from(extent.len).unwrap_or(room).min(room);
            let goes_on = len as u64 != extent.len;
            spans.push(Span::Data { offset: extent.offset, len, goes_on });
            room -= len;
            if goes_on {
                extent.offset += len as u64;
                extent.len -= len as u64;
                left = Some(extent);
            }
        }
        Some(Ok(spans))
    })
}

/// Puts segments together.
struct Joining<'r> {
    reader: &'r Reader<'r>,
    beside: Option<Beside>,
    /// Where in the file the next piece begins.
    position: u64,
    /// What is not cut of the extent that goes on.
    left: Vec<u8>,
}

impl Joining<'_> {
    /// The next segment. False: nobody listens any more.
    fn hand_on(&mut self, mut cut: Cut, blocks: &Sender<Block>) -> bool {
        if !self.left.is_empty() {
            self.join(&mut cut);
        }
        self.left.clear();
        if cut.goes_on {
            self.left.extend_from_slice(&cut.buffer[cut.rest.clone()]);
        }
        for piece in &mut cut.pieces {
            match piece {
                Piece::Hole { len } => self.position += *len,
                Piece::Chunk { id, at, base } => {
                    let beside = self.beside.as_mut();
                    *base = beside.and_then(|beside| beside.base(id, self.position, at.len()));
                    self.position += at.len() as u64;
                }
            }
        }
        blocks.send(Block::Pieces(cut.buffer, cut.pieces)).is_ok()
    }

    /// Cuts the first extent of the segment from where the one before has ended.
    fn join(&self, cut: &mut Cut) {
        let Reader { chunker, keys, .. } = self.reader;
        let begin = chunker.max_size() - self.left.len();
        cut.buffer[begin..chunker.max_size()].copy_from_slice(&self.left);
        let own = std::mem::take(&mut cut.pieces);
        let is_only = cut.rest.end == cut.first_end;
        let goes_on = cut.goes_on && is_only;
        let mut own = own.into_iter().peekable();
        let mut at = begin;
        loop {
            while own
                .next_if(|piece| matches!(piece, Piece::Chunk { at: own, .. } if own.start < at))
                .is_some()
            {}
            let meets = match own.peek() {
                Some(Piece::Chunk { at: own, .. }) => own.start == at,
                _ => is_only && cut.rest.start == at,
            };
            if meets || at == cut.first_end {
                break;
            }
            let bytes = &cut.buffer[at..cut.first_end];
            let Some(len) = chunker.first(bytes, !goes_on) else {
                cut.rest = at..cut.first_end;
                own.by_ref().for_each(drop);
                break;
            };
            let id = keys.data_id(&bytes[..len]);
            cut.pieces.push(Piece::Chunk { id, at: at..at + len, base: None });
            at += len;
        }
        cut.pieces.extend(own);
    }
}
