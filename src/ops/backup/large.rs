//! Reading a large file: a stream of blocks, in which chunks, parts of a chunk, or thousands of
//! tiny extents come together.

use crossbeam_channel::Sender;

use super::beside::Beside;
use super::read::{BLOCK_LEN, Block, Piece, ReadFile, Reader, ToRead, adopt, repeat};
use crate::progress::Counter;
use crate::source::{Extent, OpenFile, SourceError};

/// Most pieces of one block.
const PIECES_MAX: usize = 2048;

/// The block that grows.
struct Growing<'r> {
    reader: &'r Reader<'r>,
    out: &'r Sender<Block>,
    buffer: Vec<u8>,
    /// So many bytes are in the buffer,
    filled: usize,
    /// and so many of them are in pieces.
    cut: usize,
    pieces: Vec<Piece>,
}

impl Reader<'_> {
    /// Streams a large file. `None`: nobody listens any more.
    pub fn large(&self, mut file: ToRead, blocks: &Sender<Block>) -> Option<()> {
        let mut bytes_read = 0;
        let mut first = true;
        let mut read = |file: &mut ToRead, last: bool| {
            if !std::mem::take(&mut first) && blocks.send(Block::Again).is_err() {
                return Ok(Some((Vec::new(), false)));
            }
            let open = file.directory.open_file(&file.name, &file.stat)?;
            adopt(file, open.stat());
            let mut beside = self.beside(file.before.as_deref());
            let mut block = Growing::new(self, blocks);
            for extent in open.extents() {
                let extent = extent?;
                if extent.hole {
                    block.pieces.push(Piece::Hole { len: extent.len });
                    continue;
                }
                let count = block.read(&open, &extent, &mut beside)?;
                let Some(count) = count else { break };
                bytes_read += count;
                if count < extent.len {
                    break;
                }
            }
            // Whether somebody listens shows at the end.
            block.hand_on(Vec::new());
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
}

impl<'r> Growing<'r> {
    fn new(reader: &'r Reader<'r>, out: &'r Sender<Block>) -> Self {
        Self { reader, out, buffer: Vec::new(), filled: 0, cut: 0, pieces: Vec::new() }
    }

    /// Reads one extent; says how many bytes there were, or nothing when nobody listens.
    fn read(
        &mut self,
        open: &OpenFile,
        &Extent { offset, len, .. }: &Extent,
        beside: &mut Option<Beside>,
    ) -> Result<Option<u64>, SourceError> {
        let mut done = 0;
        loop {
            let want = usize::try_from(len - done).unwrap_or(BLOCK_LEN).min(BLOCK_LEN);
            if !self.make_room(want) {
                return Ok(None);
            }
            let room = &mut self.buffer[self.filled..self.filled + want];
            let count = open.read_at(offset + done, room)?;
            self.filled += count;
            done += count as u64;
            self.reader.progress.add(Counter::Bytes, count as u64);
            let ended = done == len || count < want;
            self.cut(offset + done, ended, beside);
            if ended {
                return Ok(Some(done));
            }
        }
    }

    /// Cuts what is filled and not cut yet, up to `end` in the file.
    fn cut(&mut self, end: u64, ended: bool, beside: &mut Option<Beside>) {
        let mut start = end - (self.filled - self.cut) as u64;
        let uncut = &self.buffer[self.cut..self.filled];
        self.reader.chunker.cut(uncut, ended, |chunk| {
            let id = self.reader.keys.data_id(chunk);
            let base = beside.as_mut().and_then(|b| b.base(&id, start, chunk.len()));
            let at = self.cut..self.cut + chunk.len();
            (self.cut, start) = (at.end, start + chunk.len() as u64);
            self.pieces.push(Piece::Chunk { id, at, base });
        });
    }

    /// Makes room for so many bytes behind those that are not cut yet. False: nobody listens.
    fn make_room(&mut self, len: usize) -> bool {
        if self.buffer.len() - self.filled >= len && self.pieces.len() < PIECES_MAX {
            return true;
        }
        // What is left over is cut with what comes next.
        let left = &self.buffer[self.cut..self.filled];
        let filled = left.len();
        let mut next = self.reader.buffer(filled + len);
        next[..filled].copy_from_slice(left);
        let listened = self.hand_on(next);
        self.filled = filled;
        listened && !self.reader.progress.cancelled()
    }

    fn hand_on(&mut self, next: Vec<u8>) -> bool {
        let buffer = std::mem::replace(&mut self.buffer, next);
        (self.filled, self.cut) = (0, 0);
        self.out.send(Block::Pieces(buffer, std::mem::take(&mut self.pieces))).is_ok()
    }
}
