//! A pass over all chunks of several runs, in the order of their ids.

use super::run::{ChunkRow, Run};
use super::sort::Row;
use super::{Chunk, IndexError};

type Rows<'a> = Box<dyn Iterator<Item = Result<Vec<Row>, IndexError>> + 'a>;

/// The rows of one run.
struct Stream<'a> {
    more: Rows<'a>,
    rows: Vec<Row>,
    at: usize,
    first_chunk: u64,
    first_pack: u32,
}

impl Stream<'_> {
    fn peek(&mut self) -> Result<Option<&Row>, IndexError> {
        while self.at >= self.rows.len() {
            match self.more.next().transpose()? {
                Some(rows) => (self.rows, self.at) = (rows, 0),
                None => return Ok(None),
            }
        }
        Ok(self.rows.get(self.at))
    }
}

/// Every chunk of all runs once, in order. Its number is that of its first copy in the first run
/// that has it.
pub(super) fn each_chunk(runs: &[Run], each: &mut dyn FnMut(&Chunk)) -> Result<(), IndexError> {
    let mut streams = Vec::new();
    let (mut first_chunk, mut first_pack) = (0, 0);
    for run in runs {
        let more: Rows<'_> = Box::new(run.chunk_rows()?);
        streams.push(Stream { more, rows: Vec::new(), at: 0, first_chunk, first_pack });
        first_chunk += run.chunk_count();
        first_pack += run.pack_count();
    }
    // One for all of them: there may be a hundred million.
    let mut chunk = Chunk { start: Default::default(), number: 0, len: 0, packs: Vec::new() };
    loop {
        let mut least = None;
        for stream in &mut streams {
            if let Some(row) = stream.peek()? {
                let start = ChunkRow::of(row).start;
                least = Some(least.map_or(start, |least| start.min(least)));
            }
        }
        let Some(start) = least else { return Ok(()) };
        chunk.packs.clear();
        for stream in &mut streams {
            while let Some(row) = stream.peek()?.map(ChunkRow::of).filter(|row| row.start == start)
            {
                if chunk.packs.is_empty() {
                    chunk.number = stream.first_chunk + u64::from(row.position);
                    (chunk.start, chunk.len) = (start, row.len);
                }
                chunk.packs.push((stream.first_pack + row.pack, row.frame));
                stream.at += 1;
            }
        }
        each(&chunk);
    }
}
