//! Restore: a snapshot, or a part of it, becomes files again.
//!
//! Two parts work in step. The *walk* goes through the snapshot, makes folders, compares with
//! what is there and collects the chunks that files need into a window; the *writing* of the
//! window before goes on meanwhile: chunks in the order in which they lie in packs, every frame
//! read and opened once, whichever files want its chunks. So memory is that of two windows.
//!
//! A dry run is the same walk with nothing behind it, so it says what a run would do.

mod bases;
mod compare;
mod content;
mod decide;
mod delete;
mod file;
mod filter;
mod links;
mod plan;
mod report;
mod rollback;
mod walk;
mod window;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use super::OpsError;
use crate::format::tree::{Entry, EntryKind, Metadata, Refs};
use crate::progress::{Counter, Progress};
use crate::repo::{Repository, SnapshotRecord};
use crate::source::Pattern;
use crate::target::{Target, TargetError, TargetOptions};
use crate::tree::{TreeError, TreeReader};

pub use report::{Action, Change, Counts, RestoreReport};
pub use rollback::undo;

use filter::Filter;
use plan::Plan;
use report::Run;
use walk::Walk;

/// What becomes of what is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// It becomes what the snapshot has. Files of the same length are read and compared.
    Always,
    /// The same, but a file of the same length and time is taken to have the same content.
    #[default]
    IfChanged,
    /// Only where the snapshot has a newer one.
    IfNewer,
    /// It stays as it is.
    Never,
}

/// How much is planned ahead of the writing: one window. The default is right; tests take less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// Chunks.
    pub chunks: usize,
    /// Files, and of folders and links as many each.
    pub files: usize,
}

impl Default for Ahead {
    fn default() -> Self {
        Self { chunks: 1 << 16, files: 1 << 13 }
    }
}

/// How to restore.
#[derive(Default)]
pub struct RestoreOptions<'a> {
    /// Only this path of the snapshot: a directory's content, or one file, comes directly into
    /// the target. Without it the absolute paths are rebuilt below the target.
    pub path: Option<Vec<u8>>,
    /// The absolute path is rebuilt below the target with `path` as well: with `/` as target,
    /// everything comes where it was.
    pub rebuild: bool,
    /// Where to; made where it is missing.
    pub target: PathBuf,
    /// Only what matches one of these, and all that is below it. Of the patterns that match the
    /// last one decides; they are compared with paths of the snapshot.
    pub include: Vec<Pattern>,
    /// Neither what matches these nor anything below it.
    pub exclude: Vec<Pattern>,
    /// Change nothing; say what would be changed.
    pub dry_run: bool,
    /// What becomes of what is there already.
    pub overwrite: Overwrite,
    /// Remove what the snapshot does not have, in folders that it has whole and that the filters
    /// select; and a directory that is in the way of something else.
    pub delete: bool,
    /// Read what was written once more and compare.
    pub verify: bool,
    /// Return only when all of it would survive a power cut. With `rollback` always: what was
    /// there before goes after that.
    pub sync: bool,
    /// Leave out pages of zeros.
    pub sparse: bool,
    /// Change existing files where they stand, and only where they differ.
    pub in_place: bool,
    /// All or nothing: if anything does not come, put the target back to what it was before.
    /// Then no file is changed in place: nothing of it would be left to be put back.
    pub rollback: bool,
    /// What of the metadata is restored.
    pub metadata: TargetOptions,
    /// Told of every path, when its fate is sealed; in any order, from any thread.
    pub on_change: Option<&'a (dyn Fn(&Change<'_>) + Sync)>,
    /// How much is planned ahead.
    pub ahead: Ahead,
}

/// What is restored: the content of a directory, or one thing that is none.
enum Start {
    /// With the directory's own metadata, where its contents go into the target.
    Listing(Refs, Option<Box<Metadata>>),
    One(Box<Entry>),
}

/// Restores a snapshot, or a part of it.
///
/// # Errors
/// When the target cannot be used, or is full; when the repository cannot be reached; when the
/// run was cancelled. A single file that cannot be restored is a problem, and no error: what had
/// its name is untouched, and everything else comes; or nothing does, with `rollback`.
pub fn restore(
    repository: &Arc<Repository>,
    record: &SnapshotRecord,
    options: &RestoreOptions<'_>,
    progress: &dyn Progress,
) -> Result<RestoreReport, OpsError> {
    repository.refresh_index()?;
    let trees = TreeReader::new(repository);
    let parts = parts(options.path.as_deref().unwrap_or_default());
    let start = find(&trees, &record.snapshot.root, &parts, options)?;
    let target = open_target(repository, options)?;
    let whole = parts.is_empty() && options.include.is_empty() && options.exclude.is_empty();
    let total = whole.then_some(record.snapshot.statistics.bytes);
    let phase = if options.dry_run { "comparing" } else { "restoring" };
    progress.phase(phase, Counter::Bytes, total);
    let run = Run::new(repository, record, options, trees, progress);
    let outcome = work(&run, target.as_ref(), start, &parts);
    let owners_refused = target.as_ref().is_some_and(Target::owners_refused);
    let ended = run.end(outcome, owners_refused);
    let Some(target) = target.filter(|_| !options.dry_run) else { return ended };
    let ended = ended.and_then(|report| {
        if options.sync || options.rollback {
            progress.phase("storing", Counter::Bytes, None);
            target.sync().map_err(|source| refused(&options.target, source))?;
        }
        Ok(report)
    });
    match options.rollback {
        true => rollback::end(&target, ended, progress),
        false => ended,
    }
}

/// The target cannot be used.
fn refused(target: &Path, source: TargetError) -> OpsError {
    OpsError::Target { path: target.as_os_str().as_encoded_bytes().to_vec(), source }
}

fn parts(path: &[u8]) -> Vec<&[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect()
}

fn find(
    trees: &TreeReader,
    root: &Refs,
    parts: &[&[u8]],
    options: &RestoreOptions<'_>,
) -> Result<Start, TreeError> {
    if parts.is_empty() {
        return Ok(Start::Listing(root.clone(), None));
    }
    // Looked up also when the walk begins at the root: a path that is not there is an error.
    let entry = trees.find(root, parts)?;
    Ok(match entry.kind {
        _ if options.rebuild => Start::Listing(root.clone(), None),
        EntryKind::Directory { listing } => Start::Listing(listing, Some(Box::new(entry.metadata))),
        _ => Start::One(Box::new(entry)),
    })
}

/// The target; `None` when it is missing and nothing is to be changed.
fn open_target(
    repository: &Repository,
    options: &RestoreOptions<'_>,
) -> Result<Option<Target>, OpsError> {
    let create = !options.dry_run;
    let opened = Target::open(&options.target, create, options.metadata, repository.world());
    let prepared = opened.and_then(|target| {
        target.require_finished(create)?;
        if options.rollback && create {
            target.keep()?;
        }
        Ok(target)
    });
    match prepared {
        Ok(target) => Ok(Some(target)),
        Err(TargetError::Io { source, .. })
            if options.dry_run && source.kind() == std::io::ErrorKind::NotFound =>
        {
            Ok(None)
        }
        Err(source) => Err(refused(&options.target, source)),
    }
}

fn work(
    run: &Run<'_>,
    target: Option<&Target>,
    start: Start,
    parts: &[&[u8]],
) -> Result<(), OpsError> {
    let filter = Filter::new(run.options, parts);
    let root = target.map(|target| target.root().clone());
    let Some(target) = target.filter(|_| !run.options.dry_run) else {
        let plan = Plan::new(run, None);
        return Walk::new(run, filter, plan, root, start, parts).walk();
    };
    let metadata = own_metadata(run, target, &filter, &start)?;
    std::thread::scope(|scope| {
        // Without room: while one window is written the next one is collected, and no third.
        let (sender, windows) = sync_channel(0);
        let writing = scope.spawn(|| {
            let outcome = content::write_windows(run, target, windows);
            if outcome.is_err() {
                run.stop();
            }
            outcome
        });
        let plan = Plan::new(run, Some(sender));
        let walked = Walk::new(run, filter, plan, root, start, parts).walk();
        if walked.is_err() {
            run.stop();
        }
        let written = writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // A walk that could not hand over its window ended because of the writing.
        written.and(walked)
    })?;
    if let Some(metadata) = metadata {
        match target.root().finish(&metadata) {
            Ok(troubles) => troubles.into_iter().for_each(|trouble| run.trouble(trouble)),
            Err(trouble) => run.trouble(trouble),
        }
    }
    Ok(())
}

/// What the target itself becomes like: the folder whose contents go into it, where the target
/// was empty or is to hold nothing else. Another one is the person's own.
fn own_metadata(
    run: &Run<'_>,
    target: &Target,
    filter: &Filter<'_>,
    start: &Start,
) -> Result<Option<Metadata>, OpsError> {
    let Start::Listing(_, Some(metadata)) = start else { return Ok(None) };
    let names = target.root().extra_names(&|_| false);
    let is_empty = names.is_ok_and(|names| names.is_empty());
    let becomes = filter.takes_start() && (is_empty || run.options.delete);
    Ok(becomes.then(|| Metadata::clone(metadata)))
}
