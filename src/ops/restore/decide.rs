//! What is to become of something that is no directory, by what stands in its place.

use std::sync::Arc;

use super::Overwrite;
use super::compare::Comparison;
use super::links::{LinkKey, key_of};
use super::report::{Action, Run};
use crate::format::tree::{Entry, EntryKind, Refs};
use crate::target::{Difference, ExistingFile, Folder, Found, Kind, TargetError};
use crate::world::Time;

/// Something of the snapshot that is no directory, and where it goes.
pub(super) struct Candidate {
    /// `None` in a dry run whose folder is not there.
    pub folder: Option<Arc<Folder>>,
    /// Relative to the target.
    pub path: Vec<u8>,
    pub entry: Entry,
}

impl Candidate {
    pub fn key(&self) -> Option<LinkKey> {
        key_of(&self.entry)
    }

    pub fn kind(&self) -> Kind {
        Kind::of(&self.entry.kind)
    }

    pub fn content(&self) -> Option<&Refs> {
        match &self.entry.kind {
            EntryKind::File { content, .. } => Some(content),
            _ => None,
        }
    }

    /// What stands there; nothing in a folder that this run made.
    pub fn found(&self) -> Result<Option<Found>, TargetError> {
        match &self.folder {
            Some(folder) if !folder.is_new() => folder.stat(&self.entry.name),
            _ => Ok(None),
        }
    }
}

/// What to do with a candidate.
pub(super) enum Decision {
    /// The policy leaves it alone.
    Keep,
    Same,
    Metadata,
    Write(Action),
    /// A directory is in the way: it is removed, then as with the others.
    Clear,
    /// Its content must be read to know.
    Compare(Difference),
}

/// Whether a policy lets something be changed that is there.
pub(super) fn allows(policy: Overwrite, wanted: Time, found: Time) -> bool {
    match policy {
        Overwrite::Always | Overwrite::IfChanged => true,
        Overwrite::IfNewer => wanted > found,
        Overwrite::Never => false,
    }
}

/// Before anything is made, replaced or removed in a folder that was there.
pub(super) fn make_writable(folder: &Folder) -> Result<(), TargetError> {
    match folder.is_new() {
        true => Ok(()),
        false => folder.make_writable(),
    }
}

/// What to do with something that is no directory.
pub(super) fn decide(run: &Run<'_>, candidate: &Candidate) -> Result<Decision, TargetError> {
    let entry = &candidate.entry;
    let Some(folder) = candidate.folder.as_ref().filter(|folder| !folder.is_new()) else {
        return Ok(Decision::Write(Action::Created));
    };
    let policy = run.options.overwrite;
    let difference = folder.difference(&entry.name, entry)?;
    match difference {
        Difference::Absent => return Ok(Decision::Write(Action::Created)),
        Difference::Same if policy != Overwrite::Always => return Ok(Decision::Same),
        _ => {}
    }
    let Some(found) = candidate.found()? else {
        return Ok(Decision::Write(Action::Created));
    };
    if !allows(policy, entry.metadata.mtime, found.mtime) {
        return Ok(Decision::Keep);
    }
    let is_file = found.kind == Kind::File && candidate.content().is_some();
    let same_size = is_file && found.size == entry.size() && found.size > 0;
    Ok(match difference {
        Difference::Content if run.options.in_place && same_size => Decision::Compare(difference),
        _ if policy == Overwrite::Always && same_size => Decision::Compare(difference),
        Difference::Same => Decision::Same,
        Difference::Metadata(_) => Decision::Metadata,
        Difference::OtherKind(Kind::Directory) => {
            require_delete(run, candidate)?;
            Decision::Clear
        }
        _ => Decision::Write(Action::Replaced),
    })
}

/// A directory gives way to something else only where things may be removed.
pub(super) fn require_delete(run: &Run<'_>, candidate: &Candidate) -> Result<(), TargetError> {
    match run.options.delete {
        true => Ok(()),
        false => Err(TargetError::InTheWay { path: candidate.path.clone(), kind: Kind::Directory }),
    }
}

/// Whether a file has the content of its entry. What cannot be read, here or there, differs: the
/// writing will meet the same and say so.
pub(super) fn has_same_content(run: &Run<'_>, candidate: &Candidate) -> bool {
    let (Some(folder), Some(content)) = (&candidate.folder, candidate.content()) else {
        return false;
    };
    let existing = folder.existing_file(&candidate.entry.name);
    existing.is_ok_and(|file| Comparison::new(run, &file).is_same(content).unwrap_or(false))
}

/// A file that stands there under one name only.
pub(super) fn standing_file(
    folder: &Folder,
    name: &[u8],
) -> Result<Option<ExistingFile>, TargetError> {
    match folder.stat(name)? {
        Some(found) if found.kind == Kind::File && found.links == 1 => {
            folder.existing_file(name).map(Some)
        }
        _ => Ok(None),
    }
}
