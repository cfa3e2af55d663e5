//! Frames in, packs out; packs in, frames out. Format: `format-spec/07-pack.md`.

mod builder;
mod frame;
mod parity;
mod reader;
mod spare;

pub use builder::{FinishedPack, PackBuilder};
pub use frame::{FrameOpener, FrameSealer, OpenedFrame, PlainFrame, SealedFrame, is_outdated};
pub use parity::{check_parity, make_parity, mend_pack};
pub use reader::{read_frame, read_frames, read_trailer, scan_frames};

use crate::compress::CompressError;
use crate::crypto::CryptoError;
use crate::format::FormatError;
use crate::id::FrameId;
use crate::object::ObjectError;
use crate::storage::StorageError;

/// What can be wrong with a pack or a frame.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// Its bytes are not well formed.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// It was changed, or its key is not at hand.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// Its trailer does not open.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// Its content does not decompress.
    #[error(transparent)]
    Compress(#[from] CompressError),
    /// The storage did not give it, or not take it.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What was sealed does not open to what it was made from: the memory or the processor errs.
    #[error("a frame does not open to what was sealed; this machine's memory may be faulty")]
    Verify,
    /// Another frame lies where this one should.
    #[error("another frame lies in the place of frame {}", .0.short())]
    Misplaced(FrameId),
    /// A delta frame without its base.
    #[error("frame {} needs a base that was not given", .0.short())]
    NoBase(FrameId),
    /// More of the pack is lost than its parity brings back.
    #[error("{lost} parts of it are lost, and its parity brings back {spare}")]
    BeyondParity {
        /// Shards of the pack that are lost.
        lost: usize,
        /// Shards of parity that are good.
        spare: usize,
    },
}

impl PackError {
    /// Whether a pack may well be whole, and is only not understood here.
    pub fn is_unknown(&self) -> bool {
        match self {
            Self::Format(error) => ObjectError::from(error.clone()).is_unknown(),
            Self::Crypto(error) => ObjectError::from(error.clone()).is_unknown(),
            Self::Object(error) => error.is_unknown(),
            _ => false,
        }
    }
}
