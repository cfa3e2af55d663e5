//! Listing what a snapshot has: one level below a path, or all of it.

use std::sync::Arc;

use super::OpsError;
use super::walk::{Flow, Start, WalkItem, walk};
use crate::format::snapshot::Snapshot;
use crate::progress::Progress;
use crate::repo::Repository;
use crate::tree::TreeReader;

/// What was listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LsReport {
    /// Entries.
    pub entry_count: u64,
    /// Bytes of the files among them, holes included.
    pub bytes: u64,
}

/// Gives the entries of SNAPSHOT:PATH to `each` as they are read, in byte order of names. A path
/// that names no directory is its own only entry.
pub fn ls(
    repository: &Arc<Repository>,
    snapshot: &Snapshot,
    path: &[u8],
    recursive: bool,
    each: &mut dyn FnMut(&WalkItem<'_>) -> Result<(), OpsError>,
    progress: &dyn Progress,
) -> Result<LsReport, OpsError> {
    let reader = TreeReader::new(repository);
    let start = Start::find(&reader, snapshot, path)?;
    let mut report = LsReport::default();
    let visit = &mut |item: &WalkItem<'_>| {
        report.entry_count += 1;
        report.bytes = report.bytes.saturating_add(item.entry.size());
        each(item)?;
        Ok(if recursive { Flow::Continue } else { Flow::SkipChildren })
    };
    walk(&reader, &start, visit, progress)?;
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Sample, Tree};
    use super::*;
    use crate::progress::Silent;

    #[test]
    fn one_level_or_all() {
        let sample = Sample::new(1);
        let mut tree = Tree::default();
        tree.file(b"/a/b/c", b"123");
        tree.file(b"/a/\xff", b"4567");
        tree.file(b"/z", b"");
        let snapshot = sample.snapshot(&tree, b"").snapshot;
        let listed = |path: &[u8], recursive| {
            let mut paths = Vec::new();
            let each = &mut |item: &WalkItem<'_>| {
                paths.push(crate::text::escape(item.path));
                Ok(())
            };
            let progress = Silent::default();
            let report =
                ls(&sample.repository, &snapshot, path, recursive, each, &progress).unwrap();
            assert_eq!(report.entry_count, paths.len() as u64);
            (paths.join(" "), report.bytes)
        };
        assert_eq!(listed(b"/", false), ("/a /z".into(), 0));
        assert_eq!(listed(b"/a", false), ("/a/b /a/\\xff".into(), 4));
        assert_eq!(listed(b"/", true), ("/a /a/b /a/b/c /a/\\xff /z".into(), 7));
        assert_eq!(listed(b"/a/b/c", false), ("/a/b/c".into(), 3));
    }

    #[test]
    fn who_wants_no_more_ends_it() {
        let sample = Sample::new(1);
        let snapshot = sample.deep(10).snapshot;
        let mut count = 0;
        let each = &mut |_: &WalkItem<'_>| {
            count += 1;
            if count == 5 { Err(OpsError::Cancelled) } else { Ok(()) }
        };
        let ended = ls(&sample.repository, &snapshot, b"", true, each, &Silent::default());
        assert!(matches!(ended, Err(OpsError::Cancelled)) && count == 5);
    }
}
