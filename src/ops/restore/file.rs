//! A file on its way into the target, written by any of the threads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::compare::Comparison;
use super::links::LinkKey;
use super::report::{Action, Change, Run};
use crate::format::tree::{Metadata, Refs};
use crate::progress::Counter;
use crate::target::{Folder, Kind, NewFile, TargetError};

/// Zeros are left out by pages.
const PAGE: usize = 4096;

#[derive(Debug)]
enum State {
    /// Nothing was written yet.
    Waiting,
    Open(NewFile),
    /// It is in its place, or it failed and that was said.
    Over,
}

/// A file that gets content.
#[derive(Debug)]
pub(super) struct FileWork {
    folder: Arc<Folder>,
    name: Vec<u8>,
    metadata: Metadata,
    len: u64,
    /// Only where it is read again afterwards.
    content: Option<Refs>,
    key: Option<LinkKey>,
    action: Action,
    in_place: bool,
    /// Bytes that are written.
    bytes: AtomicU64,
    /// Chunks that are still to be written, and one more until all of them are known.
    pending: AtomicU64,
    /// The number of its chunks, if all are in one window and it has no holes; else 0.
    small: AtomicU64,
    state: RwLock<State>,
}

/// What a file is made of.
pub(super) struct FileParts {
    pub folder: Arc<Folder>,
    pub name: Vec<u8>,
    pub metadata: Metadata,
    pub content: Refs,
    pub key: Option<LinkKey>,
    pub action: Action,
    /// The existing file, if it is changed where it stands.
    pub in_place: Option<NewFile>,
}

impl FileWork {
    pub fn new(parts: FileParts, verify: bool) -> Self {
        let len = parts.content.len();
        let in_place = parts.in_place.is_some();
        let bytes = if in_place { 0 } else { len };
        Self {
            in_place,
            folder: parts.folder,
            name: parts.name,
            metadata: parts.metadata,
            len,
            content: verify.then_some(parts.content),
            key: parts.key,
            action: parts.action,
            bytes: AtomicU64::new(bytes),
            pending: AtomicU64::new(1),
            small: AtomicU64::new(0),
            state: RwLock::new(parts.in_place.map_or(State::Waiting, State::Open)),
        }
    }

    fn path(&self) -> Vec<u8> {
        self.folder.path_of(&self.name)
    }

    /// One more chunk is on its way.
    pub fn expect_chunk(&self) {
        self.pending.fetch_add(1, Ordering::Relaxed);
    }

    /// All chunks are known, and none of them is written yet.
    pub fn know_all(&self) {
        self.pending.fetch_sub(1, Ordering::Relaxed);
    }

    /// In place, these bytes are written.
    pub fn expect_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// All of its chunks are in one window and make up all of it.
    pub fn set_small(&self, chunks: u64) {
        self.small.store(chunks, Ordering::Relaxed);
    }

    /// Whether so many of its chunks are all that there is to it.
    pub fn is_all(&self, chunks: usize) -> bool {
        self.small.load(Ordering::Relaxed) == chunks as u64 && chunks > 0
    }

    /// Whether nothing more is to be done for it: it failed, or is there.
    pub fn is_over(&self) -> bool {
        matches!(*self.state.read().unwrap_or_else(PoisonError::into_inner), State::Over)
    }

    fn take_state(&self) -> State {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *state, State::Over)
    }

    /// It cannot come because of the repository. What had its name is untouched.
    pub fn fail_damaged(&self, run: &Run<'_>, why: impl std::fmt::Display) {
        if !matches!(self.take_state(), State::Over) {
            run.broke(self.key, true);
            run.damage(&self.path(), why);
        }
    }

    /// It cannot come, and that was said.
    pub fn fail_said(&self, run: &Run<'_>) {
        if !matches!(self.take_state(), State::Over) {
            run.broke(self.key, true);
        }
    }

    fn fail(&self, run: &Run<'_>, error: TargetError) {
        if !matches!(self.take_state(), State::Over) {
            run.broke(self.key, false);
            run.trouble(error);
        }
    }

    /// Writes a part of it.
    pub fn write(&self, run: &Run<'_>, offset: u64, bytes: &[u8]) {
        let written = match self.write_now(run, offset, bytes) {
            Some(written) => written,
            None => self.begin().and_then(|()| {
                // Nobody sets it back to waiting.
                self.write_now(run, offset, bytes).unwrap_or(Ok(()))
            }),
        };
        match written {
            Ok(()) => run.progress.add(Counter::Bytes, bytes.len() as u64),
            Err(error) => self.fail(run, error),
        }
    }

    /// `None` if it must be begun first.
    fn write_now(
        &self,
        run: &Run<'_>,
        offset: u64,
        bytes: &[u8],
    ) -> Option<Result<(), TargetError>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            State::Waiting => None,
            State::Over => Some(Ok(())),
            State::Open(file) => Some(match run.options.sparse && !self.in_place {
                true => write_sparse(file, offset, bytes),
                false => file.write_at(offset, bytes),
            }),
        }
    }

    fn begin(&self) -> Result<(), TargetError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Waiting) {
            let file = self.folder.new_file(&self.name)?;
            file.set_len(self.len)?;
            *state = State::Open(file);
        }
        Ok(())
    }

    /// So many of its chunks are written; or all are known, which counts as one.
    pub fn finish_chunks(&self, run: &Run<'_>, chunks: u64) {
        if self.pending.fetch_sub(chunks, Ordering::AcqRel) == chunks {
            self.finish(run);
        }
    }

    fn finish(&self, run: &Run<'_>) {
        let finished = match self.take_state() {
            State::Over => return,
            State::Open(file) => file.finish(&self.metadata),
            State::Waiting if self.len == 0 => {
                self.folder.write_small(&self.name, b"", &self.metadata)
            }
            State::Waiting => self.folder.new_file(&self.name).and_then(|file| {
                file.set_len(self.len)?;
                file.finish(&self.metadata)
            }),
        };
        self.end(run, finished);
    }

    /// Writes all of it in one go.
    pub fn write_whole(&self, run: &Run<'_>, content: &[u8]) {
        if run.options.sparse && content.chunks(PAGE).any(is_zero) {
            self.write(run, 0, content);
            return self.finish(run);
        }
        if matches!(self.take_state(), State::Over) {
            return;
        }
        let written = self.folder.write_small(&self.name, content, &self.metadata);
        if written.is_ok() {
            run.progress.add(Counter::Bytes, self.len);
        }
        self.end(run, written);
    }

    fn end(&self, run: &Run<'_>, finished: Result<Vec<TargetError>, TargetError>) {
        match finished {
            Ok(problems) => {
                run.troubles(problems);
                let (path, bytes) = (self.path(), self.bytes.load(Ordering::Relaxed));
                let change = Change { path: &path, kind: Kind::File, action: self.action, bytes };
                run.done(change, 0);
                if let Some(content) = &self.content {
                    self.verify(run, content);
                }
            }
            Err(error) => {
                run.broke(self.key, false);
                run.trouble(error);
            }
        }
    }

    fn verify(&self, run: &Run<'_>, content: &Refs) {
        let outcome = match self.folder.existing_file(&self.name) {
            Ok(file) => Comparison::new(run, &file).is_same(content),
            Err(error) => return run.trouble(error),
        };
        match outcome {
            Ok(true) => run.verified(),
            Ok(false) if run.stopped() => {}
            Ok(false) => run.wrong(&self.path(), "what was written reads back as something else"),
            Err(error) => run.wrong(&self.path(), format_args!("read it again: {error}")),
        }
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Writes what is not zeros, by pages of the file.
fn write_sparse(file: &NewFile, offset: u64, bytes: &[u8]) -> Result<(), TargetError> {
    let first = (PAGE as u64 - offset % PAGE as u64) as usize;
    let mut rest = bytes;
    let (mut at, mut page) = (offset, first);
    // What is to be written together: its offset and its bytes, up to where `rest` begins.
    let (mut start, mut pending) = (offset, bytes);
    while !rest.is_empty() {
        let (this, after) = rest.split_at(page.min(rest.len()));
        if is_zero(this) {
            let len = pending.len() - rest.len();
            write_some(file, start, pending.get(..len).unwrap_or_default())?;
            start = at + this.len() as u64;
            pending = after;
        }
        at += this.len() as u64;
        (rest, page) = (after, PAGE);
    }
    write_some(file, start, pending)
}

fn write_some(file: &NewFile, offset: u64, bytes: &[u8]) -> Result<(), TargetError> {
    match bytes.is_empty() {
        true => Ok(()),
        false => file.write_at(offset, bytes),
    }
}
