//! The walk through the snapshot: which entries there are, and the folders that they go into.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use super::decide::{Candidate, allows, make_writable};
use super::delete::Extras;
use super::filter::{Filter, Verdict};
use super::plan::Plan;
use super::report::{Action, Change, Run};
use super::{Overwrite, Start};
use crate::format::tree::{Entry, EntryKind, Refs};
use crate::limits;
use crate::ops::OpsError;
use crate::target::{Difference, Folder, Kind, TargetError};
use crate::tree::{Entries, TreeError};

/// So many levels keep the entries that they have read ahead; those above read them again.
const LEVELS_KEPT: usize = 64;

/// Where the entries of a level come from.
enum Listing {
    Stored(Box<Entries>),
    /// The start is one thing that is no directory.
    One(Option<Box<Entry>>),
    /// To be read again.
    Dropped,
}

/// Where they go.
#[derive(Clone)]
enum Place {
    /// Not known yet, for nothing was selected there so far.
    Waiting,
    There(Arc<Folder>),
    /// It would be made, but this is a dry run.
    Imagined,
    /// It cannot be made, and that was said.
    Blocked,
}

/// A directory of the snapshot that is being walked.
struct Level {
    /// `None` for the start.
    entry: Option<Box<Entry>>,
    listing: Refs,
    entries: Listing,
    /// Entries, and damaged parts, that came from there.
    yielded: usize,
    /// A part of its listing could not be read.
    damaged: bool,
    /// It is selected itself, and so is all below it.
    taken: bool,
    place: Place,
    /// It gets its metadata in the end.
    finish: bool,
    device: Option<u64>,
    /// Lengths of the two paths without it.
    inside_len: usize,
    below_len: usize,
}

/// A walk through a snapshot, by depth.
pub(super) struct Walk<'a> {
    run: &'a Run<'a>,
    filter: Filter<'a>,
    plan: Plan<'a>,
    levels: Vec<Level>,
    /// Levels whose place is known; the others are on top of them.
    opened: usize,
    /// The path in the snapshot, absolute; empty for its root.
    inside: Vec<u8>,
    /// The path in the target, relative.
    below: Vec<u8>,
}

impl<'a> Walk<'a> {
    pub fn new(
        run: &'a Run<'a>,
        filter: Filter<'a>,
        plan: Plan<'a>,
        root: Option<Arc<Folder>>,
        start: Start,
        parts: &[&[u8]],
    ) -> Self {
        let mut inside = Vec::new();
        let above = match (run.options.rebuild, &start) {
            (true, _) => 0,
            (false, Start::Listing(..)) => parts.len(),
            (false, Start::One(_)) => parts.len().saturating_sub(1),
        };
        for part in parts.iter().take(above) {
            inside.push(b'/');
            inside.extend_from_slice(part);
        }
        let (listing, entries) = match start {
            Start::Listing(listing, _) => {
                let entries = run.trees.entries(&listing);
                (listing, Listing::Stored(Box::new(entries)))
            }
            Start::One(entry) => (Refs::default(), Listing::One(Some(entry))),
        };
        let place = root.map_or(Place::Imagined, Place::There);
        let device = std::fs::metadata(&run.options.target).ok().map(|found| found.dev());
        let top = Level {
            entry: None,
            // One file is not all that its directory had.
            taken: filter.takes_start() && matches!(entries, Listing::Stored(_)),
            listing,
            entries,
            yielded: 0,
            damaged: false,
            place,
            finish: false,
            device,
            inside_len: 0,
            below_len: 0,
        };
        Self { run, filter, plan, levels: vec![top], opened: 1, inside, below: Vec::new() }
    }

    /// To the end of the snapshot.
    pub fn walk(mut self) -> Result<(), OpsError> {
        while let Some(level) = self.levels.last_mut() {
            if self.run.stopped() {
                return Err(OpsError::Cancelled);
            }
            match next_entry(self.run, level) {
                None => self.leave()?,
                Some(Ok(entry)) => self.visit(entry)?,
                Some(Err(error)) => {
                    level.damaged = true;
                    self.run.tree_damage(&self.below, error)?;
                }
            }
        }
        self.plan.end()
    }

    fn visit(&mut self, entry: Entry) -> Result<(), OpsError> {
        let taken = self.levels.last().is_some_and(|level| level.taken);
        let depth = self.levels.len() - 1;
        let is_directory = entry.is_directory();
        let verdict = self.filter.verdict(depth, &self.inside, taken, &entry.name, is_directory);
        if verdict == Verdict::Skip {
            return Ok(());
        }
        if is_directory {
            return self.enter(entry, verdict == Verdict::Take);
        }
        let mut path = self.below.clone();
        join(&mut path, &entry.name);
        self.run.progress.at(&path);
        let folder = match self.open_levels()? {
            Place::There(folder) => Some(folder),
            Place::Imagined => None,
            Place::Waiting | Place::Blocked => return Ok(()),
        };
        self.plan.push(Candidate { folder, path, entry })
    }

    fn enter(&mut self, entry: Entry, taken: bool) -> Result<(), OpsError> {
        let EntryKind::Directory { listing } = &entry.kind else { return Ok(()) };
        let listing = listing.clone();
        let (inside_len, below_len) = (self.inside.len(), self.below.len());
        self.inside.push(b'/');
        self.inside.extend_from_slice(&entry.name);
        join(&mut self.below, &entry.name);
        if self.levels.len() >= limits::TREE_DEPTH_MAX {
            self.run.damage(&self.below, "directories lie deeper in each other than they can");
            self.inside.truncate(inside_len);
            self.below.truncate(below_len);
            return Ok(());
        }
        let entries = Listing::Stored(Box::new(self.run.trees.entries(&listing)));
        self.levels.push(Level {
            entry: Some(Box::new(entry)),
            listing,
            entries,
            yielded: 0,
            damaged: false,
            taken,
            place: Place::Waiting,
            finish: false,
            device: None,
            inside_len,
            below_len,
        });
        let above = self.levels.len().checked_sub(LEVELS_KEPT + 1);
        if let Some(level) = above.and_then(|above| self.levels.get_mut(above))
            && matches!(level.entries, Listing::Stored(_))
        {
            level.entries = Listing::Dropped;
        }
        if taken {
            self.run.progress.at(&self.below);
            self.open_levels()?;
        }
        Ok(())
    }

    /// Opens or makes the folders down to the last level, as far as that was not done yet.
    fn open_levels(&mut self) -> Result<Place, OpsError> {
        while self.opened < self.levels.len() {
            let above = self.levels.get(self.opened - 1).map(|level| level.place.clone());
            let end = self.levels.get(self.opened + 1).map(|next| next.below_len);
            let path = self.below.get(..end.unwrap_or(self.below.len())).unwrap_or_default();
            if let Some(level) = self.levels.get_mut(self.opened) {
                level.place = match above {
                    Some(Place::There(parent)) => open_level(self.run, &parent, level, path),
                    Some(Place::Imagined) => {
                        directory_done(self.run, path, Action::Created);
                        Place::Imagined
                    }
                    _ => Place::Blocked,
                };
            }
            self.opened += 1;
        }
        Ok(self.levels.last().map_or(Place::Blocked, |level| level.place.clone()))
    }

    /// All of a directory was visited.
    fn leave(&mut self) -> Result<(), OpsError> {
        let above = self.levels.len().checked_sub(2).and_then(|above| self.levels.get(above));
        let device_above = above.and_then(|level| level.device);
        let Some(level) = self.levels.pop() else { return Ok(()) };
        self.opened = self.opened.min(self.levels.len());
        if let Place::There(folder) = &level.place {
            let delete = self.run.options.delete && level.taken && !level.damaged;
            if delete && !folder.is_new() {
                let extras = Extras {
                    run: self.run,
                    filter: &self.filter,
                    folder,
                    listing: &level.listing,
                    inside: &self.inside,
                    below: &self.below,
                    mounted: level.device != device_above && level.entry.is_some(),
                };
                extras.remove()?;
            }
            if let Some(entry) = level.entry.filter(|_| level.finish && !self.plan.is_dry()) {
                self.plan.finish_folder(folder.clone(), entry.metadata)?;
            }
        }
        self.inside.truncate(level.inside_len);
        self.below.truncate(level.below_len);
        Ok(())
    }
}

fn join(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

fn next_entry(run: &Run<'_>, level: &mut Level) -> Option<Result<Entry, TreeError>> {
    if matches!(level.entries, Listing::Dropped) {
        let mut entries = run.trees.entries(&level.listing);
        for _ in 0..level.yielded {
            entries.next()?.ok();
        }
        level.entries = Listing::Stored(Box::new(entries));
    }
    let next = match &mut level.entries {
        Listing::Stored(entries) => entries.next(),
        Listing::One(entry) => entry.take().map(|entry| Ok(*entry)),
        Listing::Dropped => None,
    };
    level.yielded += usize::from(next.is_some());
    next
}

fn directory_done(run: &Run<'_>, path: &[u8], action: Action) {
    run.done(Change { path, kind: Kind::Directory, action, bytes: 0 }, 0);
}

/// Opens or makes the folder of a level in the folder above it.
fn open_level(run: &Run<'_>, parent: &Arc<Folder>, level: &mut Level, path: &[u8]) -> Place {
    match try_open_level(run, parent, level, path) {
        Ok(place) => place,
        Err(error) => {
            run.trouble(error);
            Place::Blocked
        }
    }
}

fn try_open_level(
    run: &Run<'_>,
    parent: &Arc<Folder>,
    level: &mut Level,
    path: &[u8],
) -> Result<Place, TargetError> {
    let Some(entry) = &level.entry else { return Ok(Place::Blocked) };
    let difference = match parent.is_new() {
        true => Difference::Absent,
        false => parent.difference(&entry.name, entry)?,
    };
    let (mut allowed, mut unwritable) = (true, false);
    if difference != Difference::Absent
        && let Some(found) = parent.stat(&entry.name)?
    {
        level.device = Some(found.device);
        allowed = allows(run.options.overwrite, entry.metadata.mtime, found.mtime);
        unwritable = found.mode & 0o700 != 0o700;
    }
    let action = match difference {
        Difference::Absent => Action::Created,
        Difference::OtherKind(kind) if !allowed => {
            return Err(TargetError::InTheWay { path: path.to_vec(), kind });
        }
        Difference::OtherKind(_) => Action::Replaced,
        Difference::Metadata(_) | Difference::Content if level.taken && allowed => Action::Metadata,
        _ => Action::Unchanged,
    };
    let made = matches!(action, Action::Created | Action::Replaced);
    // A folder that must be made writable on the way gets back what the snapshot says.
    let changed = run.options.overwrite != Overwrite::Never && level.taken && allowed;
    level.finish = made || changed || unwritable;
    let place = match (made, run.options.dry_run) {
        (true, true) => Place::Imagined,
        (true, false) => {
            make_writable(parent)?;
            Place::There(parent.make_child(&entry.name, action == Action::Replaced)?)
        }
        (false, _) => {
            let gone = || TargetError::Exchanged { path: path.to_vec() };
            Place::There(parent.child(&entry.name)?.ok_or_else(gone)?)
        }
    };
    if made || level.taken {
        directory_done(run, path, action);
    }
    Ok(place)
}
