//! All or nothing: the end of a restore that can be taken back.

use std::path::Path;

use super::{RestoreReport, refused};
use crate::ops::OpsError;
use crate::progress::{Counter, Progress};
use crate::target::{Target, TargetOptions};
use crate::world::World;

/// Lets go of what the target was before, or puts it back if anything did not come.
pub(super) fn end(
    target: &Target,
    ended: Result<RestoreReport, OpsError>,
    progress: &dyn Progress,
) -> Result<RestoreReport, OpsError> {
    let mut problems = 0;
    let mut problem = |error: crate::target::TargetError| {
        problems += 1;
        progress.problem(&error.to_problem());
    };
    if let Ok(report) = &ended
        && report.problems == 0
        && report.damage == 0
    {
        if let Err(error) = target.settle(&mut problem) {
            problem(error);
        }
        return Ok(RestoreReport { problems, ..*report });
    }
    progress.phase("putting back", Counter::Entries, None);
    let whole = target.undo(&mut problem).unwrap_or_else(|error| {
        problem(error);
        false
    });
    match ended {
        Ok(report) => {
            Ok(RestoreReport { problems: report.problems + problems, rolled_back: whole, ..report })
        }
        Err(source) => Err(OpsError::RolledBack { whole, source: Box::new(source) }),
    }
}

/// Puts back what a restore has changed in a directory that was to be all or nothing and was cut
/// off. What cannot be put back is told to `progress`. Whether all of it is put back; `None` if
/// there was no such restore.
///
/// # Errors
/// When the target cannot be used, or the restore is still at work.
pub fn undo(
    target: &Path,
    world: &dyn World,
    progress: &dyn Progress,
) -> Result<Option<bool>, OpsError> {
    progress.phase("putting back", Counter::Entries, None);
    let opened = Target::open(target, false, TargetOptions::default(), world);
    let undone = opened
        .and_then(|opened| opened.undo_unfinished(&mut |e| progress.problem(&e.to_problem())));
    undone.map_err(|source| refused(target, source))
}
