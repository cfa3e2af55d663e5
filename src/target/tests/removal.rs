//! What `--delete` removes, and what it leaves alone.

use std::os::unix::fs::symlink;
use std::process::Command;

use super::*;

#[test]
fn extra_names_are_those_that_are_not_kept() {
    let place = place();
    for name in ["a", "b", "c", "d"] {
        std::fs::write(place.path(name), "").unwrap();
    }
    let kept = [&b"b"[..], b"d", b"e"];
    let extra = place.root.extra_names(&|name| kept.binary_search(&name).is_ok()).unwrap();
    assert_eq!(extra, [b"a", b"c"]);
}

#[test]
fn a_tree_is_removed_without_following_links_out_of_it() {
    let place = place();
    std::fs::create_dir_all(place.path("d/e/f")).unwrap();
    symlink(place.outside(""), place.path("d/link")).unwrap();
    symlink(place.outside("precious"), place.path("d/e/file-link")).unwrap();
    std::fs::hard_link(place.outside("precious"), place.path("d/e/hard")).unwrap();
    for number in 0..300 {
        std::fs::write(place.path(&format!("d/e/{number}")), "").unwrap();
    }
    symlink(place.outside(""), place.path("top-link")).unwrap();
    let mut fail = |e: TargetError| panic!("{e}");
    assert_eq!(place.root.remove_tree(b"d", &mut fail).unwrap(), 306);
    assert_eq!(place.root.remove_tree(b"top-link", &mut fail).unwrap(), 1);
    assert_eq!(place.root.remove_tree(b"not there", &mut fail).unwrap(), 0);
    assert!(names(&place.path("")).is_empty());
    place.assert_outside_untouched();
}

struct Mount(PathBuf);

impl Mount {
    fn new(at: PathBuf, arguments: &[&str]) -> Option<Self> {
        let done = Command::new("mount").args(arguments).arg(&at).output();
        done.is_ok_and(|output| output.status.success()).then_some(Self(at))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_removal_does_not_cross_into_another_mount() {
    let place = place();
    let outside = place.outside("").to_str().unwrap().to_owned();
    // The second has the same device number as the target.
    for (stepwise, arguments) in [
        (false, vec!["-t", "tmpfs", "tmpfs"]),
        (true, vec!["-t", "tmpfs", "tmpfs"]),
        (false, vec!["--bind", outside.as_str()]),
    ] {
        place.root.shared.stepwise.store(stepwise, Ordering::Relaxed);
        std::fs::create_dir_all(place.path("d/mounted")).unwrap();
        std::fs::create_dir_all(place.path("d/z")).unwrap();
        let Some(mount) = Mount::new(place.path("d/mounted"), &arguments) else {
            return cannot("mounting");
        };
        if arguments[0] == "-t" {
            std::fs::write(place.path("d/mounted/f"), "").unwrap();
        }
        let before = names(&place.path("d/mounted"));
        assert_eq!(before.len(), 1);
        let mut problems = Vec::new();
        let removed = place.root.remove_tree(b"d", &mut |e| problems.push(e)).unwrap();
        assert_eq!(removed, 1);
        assert!(
            matches!(problems.as_slice(), [TargetError::Mounted { path }] if path == b"d/mounted"),
            "{problems:?}"
        );
        let top = place.root.child(b"d").unwrap().unwrap();
        let refused = top.remove_tree(b"mounted", &mut |e| panic!("{e}"));
        assert!(matches!(refused, Err(TargetError::Mounted { .. })));
        assert_eq!(names(&place.path("d/mounted")), before);
        drop(mount);
    }
    place.assert_outside_untouched();
}

#[test]
fn what_cannot_be_removed_is_said_once_and_the_rest_goes() {
    let place = place();
    std::fs::create_dir_all(place.path("d/e")).unwrap();
    for name in ["d/e/fixed", "d/e/loose", "d/loose"] {
        std::fs::write(place.path(name), "").unwrap();
    }
    let flag = |sign: &str| {
        let done = Command::new("chattr").arg(sign).arg(place.path("d/e/fixed")).output();
        done.is_ok_and(|output| output.status.success())
    };
    if !flag("+i") {
        return cannot("setting the immutable flag");
    }
    let mut problems = Vec::new();
    let removed = place.root.remove_tree(b"d", &mut |e| problems.push(e));
    assert!(flag("-i"));
    assert_eq!(removed.unwrap(), 2);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].path(), b"d/e/fixed");
    assert_eq!(problems[0].io_kind(), Some(std::io::ErrorKind::PermissionDenied));
    assert_eq!(names(&place.path("d/e")), ["fixed"]);
}
