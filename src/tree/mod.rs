//! Stored trees: written, read, walked. Format: `format-spec/09-tree.md`.

mod build;
mod read;

pub use build::{ListingBuilder, RefsBuilder};
pub use read::{Entries, Leaves, TreeReader};

use crate::format::FormatError;
use crate::format::frame::ChunkKind;
use crate::id::{ChunkId, FrameId};
use crate::repo::{RepoError, Session};

/// What can be wrong with a stored tree.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A chunk of it is missing, damaged, or cannot be stored.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// A chunk of it does not decode.
    #[error("tree chunk {}: {source}", .id.short())]
    Format {
        /// Which.
        id: ChunkId,
        /// Why.
        source: FormatError,
    },
    /// There is no such path.
    #[error("there is no such path in the snapshot")]
    NoSuchPath,
    /// A part of the path but the last is no directory.
    #[error("a part of the path is no directory")]
    NotADirectory,
    /// Only a file has content.
    #[error("it is no regular file")]
    NotAFile,
}

/// Where chunks go: a session, or nowhere for a dry run.
pub trait ChunkSink {
    /// Takes a chunk of file contents; its id is known already.
    fn add_data(&mut self, id: ChunkId, plain: &[u8]) -> Result<bool, RepoError>;
    /// The same for one that is like what the frame `base` has.
    fn add_data_like(
        &mut self,
        id: ChunkId,
        plain: &[u8],
        base: FrameId,
    ) -> Result<bool, RepoError>;
    /// Takes a chunk of a tree and names it.
    fn add_tree(&mut self, plain: &[u8]) -> Result<ChunkId, RepoError>;
}

impl ChunkSink for Session {
    fn add_data(&mut self, id: ChunkId, plain: &[u8]) -> Result<bool, RepoError> {
        self.add(ChunkKind::Data, id, plain)
    }

    fn add_data_like(
        &mut self,
        id: ChunkId,
        plain: &[u8],
        base: FrameId,
    ) -> Result<bool, RepoError> {
        self.add_like(id, plain, base)
    }

    fn add_tree(&mut self, plain: &[u8]) -> Result<ChunkId, RepoError> {
        let id = self.repository().keys().tree_id(plain);
        self.add(ChunkKind::Tree, id, plain)?;
        Ok(id)
    }
}

#[cfg(test)]
mod tests;
