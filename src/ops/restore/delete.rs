//! What stands in the target and is not in the snapshot.
//!
//! Nothing is removed on a guess: only in folders that the snapshot has as a whole, whose listing
//! could be read, and that the filters select; never what the backup could not read, and never
//! in a file system that was mounted where the backup saw an empty folder.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::decide::make_writable;
use super::filter::Filter;
use super::report::{Action, Change, Run};
use crate::format::tree::Refs;
use crate::ops::OpsError;
use crate::target::{Folder, Kind, TargetError};

/// Folders deep into which is looked for what the filters leave out; deeper, all is kept.
const DEPTH_MAX: usize = 4_096;

/// A folder that is done but for what the snapshot does not have.
pub(super) struct Extras<'a> {
    pub run: &'a Run<'a>,
    pub filter: &'a Filter<'a>,
    pub folder: &'a Arc<Folder>,
    /// What the snapshot has in it.
    pub listing: &'a Refs,
    /// Its path in the snapshot, and in the target.
    pub inside: &'a [u8],
    pub below: &'a [u8],
    /// It is where another file system is mounted.
    pub mounted: bool,
}

/// Whether the snapshot has everything that was in this directory: it was asked for, or lies in
/// what was asked for. Of the directories above only the way is there.
fn is_whole(paths: &[Vec<u8>], inside: &[u8]) -> bool {
    paths.iter().any(|path| is_at_or_below(inside, path))
}

fn is_at_or_below(path: &[u8], above: &[u8]) -> bool {
    let above = above.strip_suffix(b"/").unwrap_or(above);
    path.strip_prefix(above).is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
}

impl Extras<'_> {
    /// Removes them, or says what would be removed.
    pub fn remove(&self) -> Result<(), OpsError> {
        let snapshot = &self.run.record.snapshot;
        // Where not every problem of the backup is known by name, anything may be one.
        let known = snapshot.problem_count <= snapshot.problems.len() as u64;
        if !is_whole(&snapshot.paths, self.inside)
            || !known
            || self.mounted && self.listing.is_empty()
        {
            return Ok(());
        }
        // Hashes are enough: two that are equal by chance save a file.
        let hasher = RandomState::new();
        let mut kept = HashSet::new();
        for entry in self.run.trees.entries(self.listing) {
            match entry {
                Ok(entry) => kept.insert(hasher.hash_one(entry.name.as_slice())),
                // It was said when it was walked.
                Err(_) => return Ok(()),
            };
        }
        let extra = self.folder.extra_names(&|name| kept.contains(&hasher.hash_one(name)));
        match extra {
            Ok(names) => {
                for name in names {
                    if self.run.stopped() {
                        return Err(OpsError::Cancelled);
                    }
                    if let Err(error) = self.remove_one(&name) {
                        self.run.trouble(error);
                    }
                }
            }
            Err(error) => self.run.trouble(error),
        }
        Ok(())
    }

    fn remove_one(&self, name: &[u8]) -> Result<(), TargetError> {
        let Some(found) = self.folder.stat(name)? else { return Ok(()) };
        let path = [self.inside, b"/", name].concat();
        let is_directory = found.kind == Kind::Directory;
        let unread =
            |problem: &[u8]| is_at_or_below(problem, &path) || is_at_or_below(&path, problem);
        if self.filter.leaves_out(self.inside, name, is_directory)
            || self.run.record.snapshot.problems.iter().any(|problem| unread(&problem.path))
            || is_directory && self.holds_left_out(&path, name)?
        {
            return Ok(());
        }
        if !self.run.options.dry_run {
            make_writable(self.folder)?;
            let mut stuck = false;
            self.folder.remove_tree(name, &mut |error| {
                stuck = true;
                self.run.trouble(error);
            })?;
            if stuck {
                return Ok(());
            }
        }
        let mut below = self.below.to_vec();
        if !below.is_empty() {
            below.push(b'/');
        }
        below.extend_from_slice(name);
        let change = Change { path: &below, kind: found.kind, action: Action::Deleted, bytes: 0 };
        self.run.done(change, 0);
        Ok(())
    }

    /// Whether anything in a directory is left out by the filters: then it stays.
    fn holds_left_out(&self, path: &[u8], name: &[u8]) -> Result<bool, TargetError> {
        if !self.filter.leaves_anything_out() {
            return Ok(false);
        }
        let Some(top) = self.folder.child(name)? else { return Ok(false) };
        let mut pending = vec![(top, path.to_vec(), 0)];
        while let Some((folder, path, depth)) = pending.pop() {
            if depth >= DEPTH_MAX {
                return Ok(true);
            }
            for name in folder.extra_names(&|_| false)? {
                let found = folder.stat(&name)?;
                let is_directory = found.is_some_and(|found| found.kind == Kind::Directory);
                if self.filter.leaves_out(&path, &name, is_directory) {
                    return Ok(true);
                }
                if is_directory && let Some(child) = folder.child(&name)? {
                    pending.push((child, [&path, &b"/"[..], &name].concat(), depth + 1));
                }
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_is_there_as_a_whole() {
        let paths = [b"/home/u".to_vec(), b"/srv/".to_vec()];
        for whole in ["/home/u", "/home/u/docs", "/srv", "/srv/x"] {
            assert!(is_whole(&paths, whole.as_bytes()), "{whole}");
        }
        for not in ["", "/home", "/home/ux", "/home/v", "/", "/srvx"] {
            assert!(!is_whole(&paths, not.as_bytes()), "{not}");
        }
        assert!(is_whole(&[b"/".to_vec()], b"") && is_whole(&[b"/".to_vec()], b"/any"));
    }
}
