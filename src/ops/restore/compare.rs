//! Content that is there, compared with the content that the snapshot has.

use std::io;

use super::report::Run;
use crate::format::tree::{Ref, Refs};
use crate::limits;
use crate::target::ExistingFile;
use crate::tree::TreeError;

/// What holes are compared with at a time, bytes.
const STEP: usize = 256 << 10;

/// Why content cannot be compared.
#[derive(Debug, thiserror::Error)]
pub(super) enum CompareError {
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// An existing file as it is compared.
pub(super) struct Comparison<'a> {
    run: &'a Run<'a>,
    file: &'a ExistingFile,
    /// Its length before anything was changed: what is behind it differs, zeros or not.
    len: u64,
    buffer: Vec<u8>,
}

impl<'a> Comparison<'a> {
    pub fn new(run: &'a Run<'a>, file: &'a ExistingFile) -> Self {
        Self { run, file, len: file.len(), buffer: Vec::new() }
    }

    /// Whether the whole content is this one.
    pub fn is_same(&mut self, content: &Refs) -> Result<bool, CompareError> {
        if self.len != content.len() {
            return Ok(false);
        }
        let mut offset = 0;
        for leaf in self.run.trees.leaves(content) {
            let leaf = leaf?;
            if self.run.stopped() || self.differing(offset, &leaf)? != 0 {
                return Ok(false);
            }
            offset += leaf.len();
        }
        Ok(true)
    }

    /// How many bytes of this run of the content must be written: of a chunk all or none, of a
    /// hole those steps in which there is anything.
    pub fn differing(&mut self, offset: u64, leaf: &Ref) -> io::Result<u64> {
        let mut bytes = 0;
        self.each_difference(offset, leaf, &mut |_, len| {
            bytes += len as u64;
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Calls `each` with offset and length of what must be written.
    pub fn each_difference(
        &mut self,
        offset: u64,
        leaf: &Ref,
        each: &mut dyn FnMut(u64, usize) -> io::Result<()>,
    ) -> io::Result<()> {
        let end = offset.saturating_add(leaf.len());
        match leaf {
            Ref::Chunk { id, len } => {
                let len = usize::try_from(*len).unwrap_or(usize::MAX);
                // A chunk that cannot be is found out when it is to be read.
                let possible = end <= self.len && len <= limits::CHUNK_LEN_MAX;
                let same = possible && {
                    let keys = self.run.repository.keys();
                    let bytes = self.read(offset, len)?;
                    bytes.len() == len && keys.data_id(bytes) == *id
                };
                if !same {
                    each(offset, len)?;
                }
            }
            Ref::Hole { .. } => {
                let (mut at, end) = (offset, end.min(self.len));
                while at < end {
                    let step = usize::try_from(end - at).unwrap_or(STEP).min(STEP);
                    if self.read(at, step)?.iter().any(|byte| *byte != 0) {
                        each(at, step)?;
                    }
                    at += step as u64;
                }
            }
        }
        Ok(())
    }

    fn read(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        if self.buffer.len() < len {
            self.buffer.resize(len, 0);
        }
        let Some(buffer) = self.buffer.get_mut(..len) else { return Ok(&[]) };
        let count = self.file.read_at(offset, buffer)?;
        Ok(buffer.get(..count).unwrap_or_default())
    }
}
