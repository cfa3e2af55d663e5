//! What is planned together and written together.

use std::sync::Arc;

use super::file::FileWork;
use super::links::{First, LinkKey};
use super::report::Action;
use crate::format::tree::Metadata;
use crate::id::ChunkId;
use crate::target::{Folder, Kind};

/// A chunk that a file needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub id: ChunkId,
    /// Number of the file in the window.
    pub file: u32,
    /// Where in the file, bytes.
    pub offset: u64,
    /// Bytes.
    pub len: u32,
}

/// A name that becomes a link to the first one of its group.
#[derive(Debug)]
pub(super) struct LinkWork {
    pub key: LinkKey,
    pub first: First,
    pub folder: Arc<Folder>,
    pub name: Vec<u8>,
    pub kind: Kind,
    pub action: Action,
}

/// A part of the work, bounded in size. Files may go on in the next one.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub files: Vec<Arc<FileWork>>,
    pub wanted: Vec<Wanted>,
    /// Files that have no chunks, or that began in an earlier window and end in this one.
    pub closing: Vec<Arc<FileWork>>,
    /// After the files: the first names are there now.
    pub links: Vec<LinkWork>,
    /// After all else, in this order.
    pub folders: Vec<(Arc<Folder>, Metadata)>,
}

impl Window {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.links.is_empty() && self.folders.is_empty()
    }
}
