//! What seems damaged while a prune removes things may only be gone (R2): it is told when nothing
//! was removed since the look began, and looked at again otherwise.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::OpsError;
use super::CheckReport;
use crate::format::epoch::EpochStep;
use crate::id::PackId;
use crate::progress::{Counter, Problem, Progress};
use crate::repo::{EpochState, Repository};

/// Looks that may be in vain; the one after them tells whatever it sees.
const LOOKS_MAX: usize = 4;

/// How far prunes have come. While this stays as it is no pack and no segment goes.
#[derive(PartialEq, Eq)]
struct Standing {
    epochs: BTreeMap<u64, Vec<EpochStep>>,
    /// Packs that are sentenced and still there.
    dead: usize,
}

fn standing(repository: &Repository) -> Result<Standing, OpsError> {
    let epochs = repository.list_epochs()?;
    let mut dead = Vec::new();
    if let Some(epoch) = repository.highest_epoch()?
        && let EpochState::Sweeping(plan, sweep) = epoch.state
    {
        dead = plan.dead(&sweep);
    }
    let dead = match dead.is_empty() {
        true => 0,
        false => {
            let is_dead = |id: &PackId| dead.binary_search(id).is_ok();
            repository.list_packs()?.iter().filter(|(id, _)| is_dead(id)).count()
        }
    };
    Ok(Standing { epochs, dead })
}

/// Looks, again while what it finds may come from a prune at work. `work` may ask at any time
/// whether nothing was removed yet.
pub(super) fn look(
    repository: &Repository,
    progress: &dyn Progress,
    work: impl Fn(&dyn Progress, &dyn Fn() -> bool) -> Result<CheckReport, OpsError>,
) -> Result<CheckReport, OpsError> {
    for _ in 0..LOOKS_MAX {
        let began = standing(repository)?;
        let steady = Steady { repository, progress, began, in_vain: AtomicBool::new(false) };
        let report = work(&steady, &|| steady.is_so_still())?;
        if report.is_whole() || steady.is_so_still() {
            return Ok(report);
        }
        progress.note("a prune has removed something meanwhile: looking again");
    }
    work(progress, &|| true)
}

/// Passes on what is told, problems only while nothing was removed.
struct Steady<'a> {
    repository: &'a Repository,
    progress: &'a dyn Progress,
    began: Standing,
    in_vain: AtomicBool,
}

impl Steady<'_> {
    fn is_so_still(&self) -> bool {
        // A storage that does not answer does not make a problem less true.
        if standing(self.repository).is_ok_and(|now| now != self.began) {
            self.in_vain.store(true, Ordering::Relaxed);
        }
        !self.in_vain.load(Ordering::Relaxed)
    }
}

impl Progress for Steady<'_> {
    fn phase(&self, name: &str, counter: Counter, total: Option<u64>) {
        self.progress.phase(name, counter, total);
    }

    fn add(&self, counter: Counter, amount: u64) {
        self.progress.add(counter, amount);
    }

    fn at(&self, path: &[u8]) {
        self.progress.at(path);
    }

    fn problem(&self, problem: &Problem) {
        if self.is_so_still() {
            self.progress.problem(problem);
        }
    }

    fn note(&self, text: &str) {
        self.progress.note(text);
    }

    fn cancelled(&self) -> bool {
        self.progress.cancelled()
    }
}
