//! The chunks of a file go into the window; in place, only those that differ.

use std::sync::Arc;

use super::Plan;
use crate::format::tree::{EntryKind, Metadata, Ref, Refs};
use crate::id::ChunkId;
use crate::limits;
use crate::ops::OpsError;
use crate::ops::restore::compare::{CompareError, Comparison};
use crate::ops::restore::decide::{Candidate, standing_file};
use crate::ops::restore::file::{FileParts, FileWork};
use crate::ops::restore::report::{Action, Run};
use crate::ops::restore::window::Wanted;
use crate::target::{ExistingFile, Folder, NewFile, TargetError};

impl Plan<'_> {
    /// Puts a file with all of its chunks into the window, and further windows as they fill.
    pub(super) fn feed(
        &mut self,
        candidate: Candidate,
        folder: Arc<Folder>,
        action: Action,
    ) -> Result<(), OpsError> {
        let (run, key) = (self.run, candidate.key());
        let EntryKind::File { content, .. } = candidate.entry.kind else { return Ok(()) };
        let (name, metadata) = (candidate.entry.name, candidate.entry.metadata);
        let (existing, in_place) = match in_place(run, &folder, &name, &metadata, &content) {
            Ok(Some((existing, file))) => (Some(existing), Some(file)),
            Ok(None) => (None, None),
            Err(error) => {
                run.broke(key, false);
                run.trouble(error);
                return Ok(());
            }
        };
        let leaves = run.trees.leaves(&content);
        let parts = FileParts { folder, name, metadata, content, key, action, in_place };
        let file = Arc::new(FileWork::new(parts, run.options.verify));
        let mut comparison = existing.as_ref().map(|existing| Comparison::new(run, existing));
        self.window.files.push(file.clone());
        let (mut offset, mut chunks, mut split) = (0, 0, false);
        // In place, what is the same is no chunk to be written, so the chunks are not all of it.
        let mut whole = existing.is_none();
        for leaf in leaves {
            if run.stopped() {
                return Err(OpsError::Cancelled);
            }
            let leaf = match leaf {
                Ok(leaf) => leaf,
                Err(error) => {
                    run.tree_damage(&candidate.path, error)?;
                    file.fail_said(run);
                    return Ok(());
                }
            };
            let differs = match &mut comparison {
                Some(comparison) => prepare_in_place(run, &file, comparison, offset, &leaf),
                None => true,
            };
            match leaf {
                Ref::Chunk { id, len } if differs => {
                    let Some(len) = chunk_len(len) else {
                        file.fail_damaged(run, "a chunk of it is longer than chunks can be");
                        return Ok(());
                    };
                    split |= self.want(&file, id, offset, len)?;
                    chunks += 1;
                }
                Ref::Chunk { .. } => {}
                Ref::Hole { .. } => whole = false,
            }
            offset += leaf.len();
        }
        if whole && !split {
            file.set_small(chunks);
        }
        match split || chunks == 0 {
            true => self.window.closing.push(file),
            false => file.know_all(),
        }
        self.seal_if_full()
    }

    /// Puts a chunk of the file that came last into the window; whether that had to be a new one.
    fn want(
        &mut self,
        file: &Arc<FileWork>,
        id: ChunkId,
        offset: u64,
        len: u32,
    ) -> Result<bool, OpsError> {
        let full = self.window.wanted.len() >= self.run.options.ahead.chunks;
        if full {
            self.seal()?;
            self.window.files.push(file.clone());
        }
        file.expect_chunk();
        // Windows hold far fewer files than that.
        let number = u32::try_from(self.window.files.len() - 1).unwrap_or(u32::MAX);
        self.window.wanted.push(Wanted { id, file: number, offset, len });
        Ok(full)
    }
}

fn chunk_len(len: u64) -> Option<u32> {
    u32::try_from(len).ok().filter(|len| *len as usize <= limits::CHUNK_LEN_MAX)
}

/// Opens a file that is changed where it stands, if it is one; and once more, to read it.
fn in_place(
    run: &Run<'_>,
    folder: &Arc<Folder>,
    name: &[u8],
    metadata: &Metadata,
    content: &Refs,
) -> Result<Option<(ExistingFile, NewFile)>, TargetError> {
    if !run.options.in_place || run.options.rollback || folder.is_new() {
        return Ok(None);
    }
    let Some(existing) = standing_file(folder, name)? else { return Ok(None) };
    match folder.open_in_place(name, metadata) {
        Ok(file) => {
            file.set_len(content.len())?;
            Ok(Some((existing, file)))
        }
        Err(TargetError::Linked { .. } | TargetError::InTheWay { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a run would write of a file's content, bytes.
pub(super) fn planned_bytes(run: &Run<'_>, candidate: &Candidate) -> Result<u64, OpsError> {
    let Some(content) = candidate.content() else { return Ok(0) };
    let existing = match &candidate.folder {
        Some(folder) if run.options.in_place => standing_file(folder, &candidate.entry.name),
        _ => Ok(None),
    };
    let Ok(Some(existing)) = existing else { return Ok(content.len()) };
    let mut comparison = Comparison::new(run, &existing);
    let (mut offset, mut bytes) = (0, 0);
    let mut count = || -> Result<(), CompareError> {
        for leaf in run.trees.leaves(content) {
            let leaf = leaf?;
            bytes += comparison.differing(offset, &leaf)?;
            offset += leaf.len();
        }
        Ok(())
    };
    match count() {
        Ok(()) | Err(CompareError::Io(_)) => {}
        Err(CompareError::Tree(error)) => run.tree_damage(&candidate.path, error)?,
    }
    Ok(bytes)
}

/// In place: what differs is counted, and holes are made of zeros. Whether a chunk must be read.
fn prepare_in_place(
    run: &Run<'_>,
    file: &FileWork,
    comparison: &mut Comparison<'_>,
    offset: u64,
    leaf: &Ref,
) -> bool {
    let zeros = matches!(leaf, Ref::Hole { .. });
    let mut differs = false;
    let compared = comparison.each_difference(offset, leaf, &mut |at, len| {
        differs = true;
        file.expect_bytes(len as u64);
        if zeros {
            file.write(run, at, &vec![0; len]);
        }
        Ok(())
    });
    // What cannot be read is written.
    differs || compared.is_err()
}
