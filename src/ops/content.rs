//! The bytes of stored files, in order; the next frames are opened while the last bytes are used.

use std::io::Write;
use std::sync::Arc;

use crossbeam_channel::bounded;

use super::{OpsError, lost};
use crate::format::FormatError;
use crate::format::frame::ChunkKind;
use crate::format::tree::{Ref, Refs};
use crate::progress::{Counter, Problem, Progress};
use crate::repo::{ChunkReader, Found, Repository};
use crate::tree::{Leaves, TreeError, TreeReader};

/// Opened frames of file contents that are kept, bytes.
const KEPT: usize = 16 << 20;
/// Frames that pieces read ahead may keep in memory, bytes.
const AHEAD: usize = 16 << 20;
/// Zeros are written in blocks of this length.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A run of a file's bytes.
#[derive(Debug)]
pub enum Piece {
    /// These.
    Chunk(Found),
    /// So many zeros that are not stored.
    Hole(u64),
    /// So many bytes that cannot be read.
    Lost {
        /// How many.
        len: u64,
        /// Why.
        problem: Problem,
    },
}

impl Piece {
    /// Bytes of the file that it stands for.
    pub fn len(&self) -> u64 {
        match self {
            Self::Chunk(found) => found.bytes().len() as u64,
            Self::Hole(len) | Self::Lost { len, .. } => *len,
        }
    }

    /// Whether it stands for nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Reads contents of files of one repository.
#[derive(Debug)]
pub struct ContentReader {
    trees: TreeReader,
    chunks: ChunkReader,
    ahead: usize,
}

impl ContentReader {
    /// For any file of the repository.
    pub fn new(repository: &Arc<Repository>) -> Self {
        let config = repository.config();
        // A piece keeps the whole frame that it lies in.
        let frame = config.frame_size.max(config.chunker.max_size).max(1) as usize;
        Self {
            trees: TreeReader::new(repository),
            chunks: ChunkReader::new(repository, KEPT),
            ahead: (AHEAD / frame).clamp(2, 64),
        }
    }

    /// What the lists and directories around the files are read with.
    pub fn trees(&self) -> &TreeReader {
        &self.trees
    }

    /// The repository that is read.
    pub fn repository(&self) -> &Arc<Repository> {
        self.chunks.repository()
    }

    /// How many pieces may wait for their use.
    pub(super) fn ahead(&self) -> usize {
        self.ahead
    }

    /// Reads one chunk of file contents, which must be as long as its reference says.
    pub fn chunk(&self, leaf: &Ref) -> Result<Piece, TreeError> {
        let (id, len) = match leaf {
            Ref::Hole { len } => return Ok(Piece::Hole(*len)),
            Ref::Chunk { id, len } => (id, *len),
        };
        let found = self.chunks.read(ChunkKind::Data, id).map_err(TreeError::from)?;
        match found.bytes().len() as u64 == len {
            true => Ok(Piece::Chunk(found)),
            false => {
                let source = FormatError::Bad("length of a chunk");
                Err(TreeError::Format { id: *id, source })
            }
        }
    }

    /// The pieces of a content, read when they are asked for. They are together as long as the
    /// content, whatever is damaged; `path` is what problems are told of.
    pub fn pieces<'a>(&'a self, content: &Refs, path: &'a [u8]) -> Pieces<'a> {
        Pieces { reader: self, leaves: self.trees.leaves(content), path }
    }

    /// Gives the pieces of a content to `each`, while others are read by a second thread.
    pub fn read(
        &self,
        content: &Refs,
        path: &[u8],
        each: &mut dyn FnMut(Piece) -> Result<(), OpsError>,
    ) -> Result<(), OpsError> {
        let mut pieces = self.pieces(content, path);
        if content.depth == 0 && content.refs.len() < 2 {
            return pieces.try_for_each(|piece| each(piece?));
        }
        std::thread::scope(|scope| {
            let (send, receive) = bounded(self.ahead);
            let reading = move || {
                // A closed channel means that nobody wants more.
                let _ = pieces.try_for_each(|piece| send.send(piece));
            };
            std::thread::Builder::new()
                .name("read".into())
                .spawn_scoped(scope, reading)
                .expect("the system starts one more thread");
            receive.into_iter().try_for_each(|piece| each(piece?))
        })
    }
}

/// The pieces of a content in order.
#[derive(Debug)]
pub struct Pieces<'a> {
    reader: &'a ContentReader,
    leaves: Leaves,
    path: &'a [u8],
}

impl Iterator for Pieces<'_> {
    type Item = Result<Piece, OpsError>;

    fn next(&mut self) -> Option<Self::Item> {
        let before = self.leaves.position();
        let piece = self.leaves.next()?.and_then(|leaf| self.reader.chunk(&leaf));
        Some(piece.or_else(|error| {
            let len = self.leaves.position() - before;
            Ok(Piece::Lost { len, problem: lost(self.path, error)? })
        }))
    }
}

/// Writes the bytes of a file, with zeros in the place of holes and of what is damaged. Says how
/// many bytes were damaged; that is told as one problem of the path.
pub fn write_content(
    reader: &ContentReader,
    content: &Refs,
    path: &[u8],
    output: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<u64, OpsError> {
    let mut writer = ContentWriter::new(path);
    reader.read(content, path, &mut |piece| writer.write(piece, output, progress))?;
    Ok(writer.finish(progress))
}

/// Puts pieces into an output.
#[derive(Debug)]
pub(super) struct ContentWriter {
    path: Vec<u8>,
    lost: u64,
    problem: Option<Problem>,
}

impl ContentWriter {
    pub fn new(path: &[u8]) -> Self {
        Self { path: path.to_vec(), lost: 0, problem: None }
    }

    pub fn write(
        &mut self,
        piece: Piece,
        output: &mut dyn Write,
        progress: &dyn Progress,
    ) -> Result<(), OpsError> {
        if progress.cancelled() {
            return Err(OpsError::Cancelled);
        }
        let len = piece.len();
        match piece {
            Piece::Chunk(found) => output.write_all(found.bytes()).map_err(OpsError::Output)?,
            Piece::Hole(len) => write_zeros(len, output, progress)?,
            Piece::Lost { len, problem } => {
                self.lost += len;
                self.problem.get_or_insert(problem);
                write_zeros(len, output, progress)?;
            }
        }
        progress.add(Counter::Bytes, len);
        Ok(())
    }

    /// Tells what was damaged, and how much of it there was.
    pub fn finish(self, progress: &dyn Progress) -> u64 {
        if let Some(problem) = self.problem {
            let bytes = crate::text::plural(self.lost, "byte is", "bytes are");
            let why = format!("{bytes} zeros instead of what was there: {}", problem.why);
            progress.problem(&Problem { what: self.path, why, damage: problem.damage });
        }
        self.lost
    }
}

fn write_zeros(
    mut len: u64,
    output: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<(), OpsError> {
    while len > 0 {
        if progress.cancelled() {
            return Err(OpsError::Cancelled);
        }
        let block = usize::try_from(len).map_or(ZEROS.len(), |len| len.min(ZEROS.len()));
        output.write_all(&ZEROS[..block]).map_err(OpsError::Output)?;
        len -= block as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::sample::{CHUNK, Sample, Tree, noise};
    use super::*;
    use crate::progress::Silent;

    fn written(sample: &Sample, content: &Refs, progress: &Silent) -> (Vec<u8>, u64) {
        let mut bytes = Vec::new();
        let reader = ContentReader::new(&sample.repository);
        let lost = write_content(&reader, content, b"/f", &mut bytes, progress).unwrap();
        (bytes, lost)
    }

    #[test]
    fn contents_come_back_with_their_holes() {
        let sample = Sample::new(1);
        let mut content = noise(1, 10 * CHUNK);
        content.extend(vec![0; 5 * CHUNK]);
        content.extend(noise(2, CHUNK / 2));
        for bytes in [&content[..], b"", b"x", &content[..CHUNK], &[0; CHUNK]] {
            let mut tree = Tree::default();
            tree.file(b"/f", bytes);
            let record = sample.snapshot(&tree, b"");
            let progress = Silent::default();
            let refs = sample.content_of(&record, b"/f");
            assert!(written(&sample, &refs, &progress) == (bytes.to_vec(), 0));
            assert_eq!(progress.count(Counter::Bytes), bytes.len() as u64);
            assert!(progress.problems().is_empty());
        }
    }

    #[test]
    fn damage_is_zeros_in_its_place_and_told_once() {
        let sample = Sample::new(1);
        // Long enough for lists of lists.
        let content = noise(1, 100 * CHUNK);
        let mut tree = Tree::default();
        tree.file(b"/f", &content);
        let record = sample.snapshot(&tree, b"");
        let refs = sample.content_of(&record, b"/f");
        assert_eq!(refs.depth, 1);
        let leaves: Vec<Ref> = sample.trees().leaves(&refs).map(Result::unwrap).collect();
        sample.break_chunk(&leaves[3]);
        sample.break_chunk(&leaves[7]);
        let progress = Silent::default();
        let mut expected = content.clone();
        expected[3 * CHUNK..4 * CHUNK].fill(0);
        expected[7 * CHUNK..8 * CHUNK].fill(0);
        assert!(written(&sample, &refs, &progress) == (expected, 2 * CHUNK as u64));
        let problems = progress.problems();
        assert!(problems.len() == 1 && problems[0].damage && problems[0].what == b"/f");
        assert!(problems[0].why.starts_with("32,768 bytes are zeros"), "{}", problems[0].why);
    }

    #[test]
    fn after_a_damaged_list_everything_is_in_its_place() {
        let sample = Sample::new(1);
        let content = noise(1, 2_000 * CHUNK);
        let mut tree = Tree::default();
        tree.file(b"/f", &content);
        let record = sample.snapshot(&tree, b"");
        let refs = sample.content_of(&record, b"/f");
        assert!(refs.refs.len() > 2);
        let before = refs.refs[0].len() as usize;
        let len = refs.refs[1].len() as usize;
        sample.break_chunk(&refs.refs[1]);
        let mut expected = content;
        expected[before..before + len].fill(0);
        let (bytes, lost) = written(&sample, &refs, &Silent::default());
        assert!(bytes == expected);
        assert_eq!(lost, len as u64);
    }

    #[test]
    fn who_takes_no_more_ends_it() {
        let sample = Sample::new(1);
        let mut tree = Tree::default();
        tree.file(b"/f", &noise(1, 300 * CHUNK));
        let record = sample.snapshot(&tree, b"");
        let refs = sample.content_of(&record, b"/f");
        let reader = ContentReader::new(&sample.repository);
        let mut short = [0u8; CHUNK + 1];
        let ended = write_content(&reader, &refs, b"/f", &mut &mut short[..], &Silent::default());
        assert!(matches!(ended, Err(OpsError::Output(_))));
    }
}
