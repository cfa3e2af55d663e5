//! Runs that are taken back, by themselves or after they were killed.

use std::os::unix::fs::{PermissionsExt, symlink};

use rustix::fs::{CWD, FileType, Mode};

use super::*;
use crate::target::undo::Kept;

/// A place with a little in it.
fn filled() -> Place {
    let place = place();
    std::fs::create_dir(place.path("d")).unwrap();
    for name in ["a", "d/b"] {
        std::fs::write(place.path(name), name).unwrap();
    }
    rustix::fs::mknodat(CWD, place.path("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    place
}

/// The same target as a process sees it that comes later.
fn later(place: &Place) -> Target {
    let options = TargetOptions::default();
    Target::open(&place.path(""), false, options, &RealWorld).unwrap()
}

#[track_caller]
fn undo_all(target: &Target) -> Option<bool> {
    target.undo_unfinished(&mut |error| panic!("{error}: {:?}", error.path())).unwrap()
}

fn problems(target: &Target) -> (Option<bool>, Vec<TargetError>) {
    let mut problems = Vec::new();
    let whole = target.undo_unfinished(&mut |error| problems.push(error)).unwrap();
    (whole, problems)
}

/// Forgets the run without an end, as a kill does.
fn killed(place: Place) -> Place {
    let Place { target, root, directory } = place;
    drop((target, root));
    let options = TargetOptions::default();
    let target = Target::open(&directory.path().join("target"), false, options, &RealWorld);
    let target = target.unwrap();
    Place { root: target.root().clone(), target, directory }
}

fn room(place: &Place) -> PathBuf {
    let names = names(&place.path(""));
    place.path(names.iter().find(|name| name.ends_with("-undo")).unwrap())
}

#[test]
fn what_was_told_and_not_done_costs_nothing() {
    let place = filled();
    place.target.keep().unwrap();
    let kept: &Kept = place.root.shared.kept.get().unwrap();
    let (a, pipe) = (place.root.raw_stat(b"a").unwrap(), place.root.raw_stat(b"pipe").unwrap());
    // Something new was to come where `a` is, once another one, and something at no name.
    kept.note_new(b"a".to_vec(), &pipe.unwrap(), place.root.born(b"pipe")).unwrap();
    kept.note_new(b"a".to_vec(), &a.unwrap(), at(1, 1)).unwrap();
    kept.note_new(b"d/never".to_vec(), &a.unwrap(), place.root.born(b"a")).unwrap();
    let before = lstat(&place.path("pipe")).ino();
    // It was to be replaced, and has both names.
    kept.set_aside(&place.root, b"pipe", true).unwrap();
    assert_eq!(lstat(&place.path("pipe")).nlink(), 2);
    let place = killed(place);
    assert!(matches!(place.target.require_finished(true), Err(TargetError::Unfinished { .. })));
    assert_eq!(undo_all(&place.target), Some(true));
    assert_eq!(names(&place.path("")), ["a", "d", "pipe"]);
    assert_eq!(std::fs::read(place.path("a")).unwrap(), b"a");
    let pipe = lstat(&place.path("pipe"));
    assert_eq!((pipe.ino(), pipe.nlink()), (before, 1));
    assert_eq!(undo_all(&place.target), None);
}

#[test]
fn one_that_is_at_work_is_left_alone() {
    let place = filled();
    place.target.keep().unwrap();
    let other = later(&place);
    assert!(matches!(other.require_finished(true), Err(TargetError::AtWork { .. })));
    assert!(matches!(other.undo_unfinished(&mut |_| {}), Err(TargetError::AtWork { .. })));
    place.target.settle(&mut |error| panic!("{error}")).unwrap();
    other.require_finished(true).unwrap();
    assert_eq!(names(&place.path("")), ["a", "d", "pipe"]);
}

#[test]
fn what_somebody_did_since_then_is_theirs() {
    let place = filled();
    place.target.keep().unwrap();
    let d = place.root.child(b"d").unwrap().unwrap();
    for (folder, name) in [(&place.root, b"a"), (&d, b"b"), (&d, b"c")] {
        whole(folder.write_small(name, b"new", &metadata(0o600)));
    }
    drop(d);
    let place = killed(place);
    // Instead of what was made.
    for name in ["a", "d/c"] {
        std::fs::remove_file(place.path(name)).unwrap();
        std::fs::create_dir(place.path("aside")).unwrap();
        std::fs::rename(place.path("aside"), place.path(name)).unwrap();
    }
    let (whole, problems) = problems(&place.target);
    assert_eq!((whole, problems.len()), (Some(false), 1));
    assert!(matches!(&problems[0], TargetError::InTheWay { path, .. } if path == b"a"));
    assert!(place.path("a").is_dir() && place.path("d/c").is_dir());
    assert_eq!(std::fs::read(place.path("d/b")).unwrap(), b"d/b");
    // What could not be put back waits.
    std::fs::remove_dir(place.path("a")).unwrap();
    assert_eq!(undo_all(&place.target), Some(true));
    assert_eq!(std::fs::read(place.path("a")).unwrap(), b"a");
}

#[test]
fn nothing_is_put_back_through_a_link() {
    let place = filled();
    place.target.keep().unwrap();
    let d = place.root.child(b"d").unwrap().unwrap();
    whole(d.write_small(b"b", b"new", &metadata(0o600)));
    d.unlink(b"b").unwrap();
    whole(d.finish(&metadata(0o700)));
    drop(d);
    let place = killed(place);
    std::fs::rename(place.path("d"), place.path("e")).unwrap();
    symlink(place.outside(""), place.path("d")).unwrap();
    let before = lstat(&place.outside("")).mtime_nsec();
    let (whole, problems) = problems(&place.target);
    assert!(whole == Some(false) && !problems.is_empty());
    place.assert_outside_untouched();
    assert_eq!(lstat(&place.outside("")).mtime_nsec(), before);
    std::fs::remove_file(place.path("d")).unwrap();
    std::fs::rename(place.path("e"), place.path("d")).unwrap();
    assert_eq!(undo_all(&place.target), Some(true));
    assert_eq!(std::fs::read(place.path("d/b")).unwrap(), b"d/b");
}

#[test]
fn only_our_own_private_directory_is_believed() {
    let place = filled();
    place.target.keep().unwrap();
    whole(place.root.write_small(b"a", b"new", &metadata(0o600)));
    let place = killed(place);
    let room = room(&place);
    let allow = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    allow(&room, 0o770);
    assert_eq!(undo_all(&place.target), None);
    allow(&room, 0o700);
    allow(&room.join("journal"), 0o620);
    assert!(place.target.undo_unfinished(&mut |_| {}).is_err());
    allow(&room.join("journal"), 0o600);
    std::fs::hard_link(room.join("journal"), place.path("other")).unwrap();
    assert!(place.target.undo_unfinished(&mut |_| {}).is_err());
    std::fs::remove_file(place.path("other")).unwrap();
    if is_root() {
        let owner = |id| std::os::unix::fs::chown(&room, Some(id), None).unwrap();
        owner(65_534);
        assert_eq!(undo_all(&place.target), None);
        owner(0);
    }
    // Elsewhere, with a link to it.
    std::fs::rename(&room, place.outside("room")).unwrap();
    symlink(place.outside("room"), &room).unwrap();
    assert_eq!(undo_all(&place.target), None);
    std::fs::remove_file(&room).unwrap();
    std::fs::rename(place.outside("room"), &room).unwrap();
    assert_eq!(std::fs::read(place.path("a")).unwrap(), b"new");
    assert_eq!(undo_all(&place.target), Some(true));
    assert_eq!(std::fs::read(place.path("a")).unwrap(), b"a");
}

#[test]
fn what_was_only_to_be_removed_is_removed() {
    let place = filled();
    place.target.keep().unwrap();
    whole(place.root.write_small(b"a", b"new", &metadata(0o600)));
    let place = killed(place);
    // As a run leaves it that came to its end and was killed then.
    std::fs::remove_file(room(&place).join("journal")).unwrap();
    place.target.require_finished(false).unwrap();
    assert!(room(&place).exists());
    place.target.require_finished(true).unwrap();
    assert_eq!(names(&place.path("")), ["a", "d", "pipe"]);
    assert_eq!(std::fs::read(place.path("a")).unwrap(), b"new");
}
