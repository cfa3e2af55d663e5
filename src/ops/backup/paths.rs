//! The asked-for paths as one tree: what lies between the root and them is kept too, so that a
//! snapshot shows absolute paths.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::source::{SourceError, Start, open_start};

/// A directory on the way to what was asked for, or what was asked for itself.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// In byte order of names.
    pub children: BTreeMap<Vec<u8>, Node>,
    /// Set where a path was asked for. What is below it is taken whole.
    pub start: Option<Start>,
}

/// The tree, and the paths that could not be opened, each with the reason.
pub(super) fn tree(paths: &[Vec<u8>]) -> (Node, Vec<SourceError>) {
    let mut root = Node::default();
    let mut failed = Vec::new();
    for path in paths {
        let start = open_start(Path::new(OsStr::from_bytes(path)));
        // One that is not there fails here: the directories above it, which the snapshot shows
        // as well, must not pass for what was asked for.
        let there = start.and_then(|start| match start.parent.stat(&start.name) {
            Ok(_) => Ok(start),
            Err(error) => {
                let above = start.path.strip_suffix(start.name.as_slice());
                Err(error.below(above.unwrap_or(b"/")))
            }
        });
        match there {
            Ok(start) => insert(&mut root, start),
            Err(error) => failed.push(error),
        }
    }
    (root, failed)
}

/// Why a path that was asked for could not be opened: nobody says that it ever was there.
pub(super) fn why(error: &SourceError) -> String {
    match error {
        SourceError::Vanished { .. } => "there is nothing of that name".into(),
        error => error.to_string(),
    }
}

fn insert(root: &mut Node, start: Start) {
    let path = start.path.clone();
    let mut node = root;
    for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        if node.start.is_some() {
            return;
        }
        node = node.children.entry(part.to_vec()).or_default();
    }
    node.children.clear();
    node.start = Some(start);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_within_another_is_taken_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| {
            let path = directory.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            path.into_os_string().into_encoded_bytes()
        };
        let absent = [path("a"), b"/absent".to_vec()].concat();
        let paths = [
            path("a/b"),
            path("a"),
            path("c"),
            path("c/d/e"),
            b"/no/such".to_vec(),
            absent.clone(),
        ];
        let (root, failed) = tree(&paths);
        let failed: Vec<&[u8]> = failed.iter().map(|error| error.path()).collect();
        assert_eq!(failed, [b"/no/such", absent.as_slice()]);
        let mut node = &root;
        for part in directory.path().components().skip(1) {
            assert!(node.start.is_none());
            node = &node.children[part.as_os_str().as_bytes()];
        }
        assert_eq!(node.children.len(), 2);
        assert!(node.children.values().all(|n| n.start.is_some() && n.children.is_empty()));
    }
}
