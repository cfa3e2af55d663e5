//! Every kind of entry, created and compared with what `lstat` sees.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;

use super::*;

#[test]
fn every_kind_is_created_compared_and_replaced() {
    let place = place();
    let mut wanted = metadata(0o640);
    if is_root() {
        (wanted.uid, wanted.gid) = (4_000_000_000, 12);
    }
    let mut kinds = vec![
        EntryKind::Symlink { target: b"../outside/\xff".to_vec() },
        EntryKind::Fifo,
        EntryKind::Socket,
    ];
    if is_root() {
        kinds.push(EntryKind::CharDevice { major: 1, minor: 3 });
        kinds.push(EntryKind::BlockDevice { major: 4095, minor: (1 << 20) - 1 });
    } else {
        cannot("making devices");
    }
    for in_the_way in [false, true] {
        for (number, kind) in kinds.iter().enumerate() {
            let name = number.to_string();
            let entry = entry(name.as_bytes(), kind.clone(), &wanted);
            if in_the_way {
                std::fs::remove_file(place.path(&name)).unwrap();
                std::fs::write(place.path(&name), "in the way").unwrap();
                let other = place.root.difference(name.as_bytes(), &entry).unwrap();
                assert_eq!(other, Difference::OtherKind(Kind::File));
            } else {
                let absent = place.root.difference(name.as_bytes(), &entry).unwrap();
                assert_eq!(absent, Difference::Absent);
            }
            whole(place.root.create(name.as_bytes(), kind, &wanted));
            assert_metadata(&place.path(&name), &wanted);
            let same = place.root.difference(name.as_bytes(), &entry).unwrap();
            assert_eq!(same, Difference::Same, "{kind:?}");
        }
    }
    let target = std::fs::read_link(place.path("0")).unwrap();
    assert_eq!(target.as_os_str().as_bytes(), b"../outside/\xff");
    assert!(lstat(&place.path("1")).file_type().is_fifo());
    assert!(lstat(&place.path("2")).file_type().is_socket());
    if is_root() {
        assert!(lstat(&place.path("3")).file_type().is_char_device());
        assert_eq!(lstat(&place.path("3")).rdev(), rustix::fs::makedev(1, 3));
        assert!(lstat(&place.path("4")).file_type().is_block_device());
        assert_eq!(lstat(&place.path("4")).rdev(), rustix::fs::makedev(4095, (1 << 20) - 1));
    }
    assert_eq!(names(&place.path("")).len(), kinds.len());
}

#[test]
fn other_links_and_devices_are_other_content() {
    let place = place();
    let m = metadata(0o600);
    whole(place.root.create(b"l", &EntryKind::Symlink { target: b"a".to_vec() }, &m));
    let elsewhere = entry(b"l", EntryKind::Symlink { target: b"b".to_vec() }, &m);
    assert_eq!(place.root.difference(b"l", &elsewhere).unwrap(), Difference::Content);
    if is_root() {
        whole(place.root.create(b"d", &EntryKind::CharDevice { major: 1, minor: 3 }, &m));
        let other = entry(b"d", EntryKind::CharDevice { major: 1, minor: 5 }, &m);
        assert_eq!(place.root.difference(b"d", &other).unwrap(), Difference::Content);
    }
}

#[test]
fn a_device_number_that_the_kernel_would_cut_is_refused() {
    let place = place();
    for (major, minor) in [(1 << 12, 0), (1, 1 << 20), (u32::MAX, u32::MAX)] {
        let kind = EntryKind::CharDevice { major, minor };
        let refused = place.root.create(b"d", &kind, &metadata(0o600)).unwrap_err();
        assert!(matches!(refused, TargetError::NotCreatable { kind: Kind::CharDevice, .. }));
    }
    assert!(names(&place.path("")).is_empty());
}

#[test]
fn files_and_directories_are_not_created_without_content() {
    let place = place();
    for kind in [file_kind(1), directory_kind()] {
        let refused = place.root.create(b"x", &kind, &metadata(0o600));
        assert!(matches!(refused, Err(TargetError::NotCreatable { .. })));
    }
}

#[test]
fn names_of_any_bytes_up_to_255() {
    let place = place();
    let long = [b'n'; 255];
    for name in [&b"\xff\xfe"[..], b"a\nb", b"\x1b[31m", b" ", b"...", &long] {
        whole(place.root.write_small(name, name, &metadata(0o600)));
        let path = place.path("").join(std::ffi::OsStr::from_bytes(name));
        assert_eq!(std::fs::read(path).unwrap(), name);
        let folder = [b"d", &name[..name.len().min(254)]].concat();
        whole(place.root.make_child(&folder, false).unwrap().finish(&metadata(0o700)));
    }
    let too_long = place.root.write_small(&[b'n'; 256], b"", &metadata(0o600)).unwrap_err();
    assert_eq!(too_long.io_kind(), Some(std::io::ErrorKind::InvalidFilename));
}

#[test]
fn hard_links_are_made_once() {
    let place = place();
    let folder = place.root.make_child(b"d", false).unwrap();
    whole(place.root.write_small(b"a", b"one", &metadata(0o600)));
    whole(folder.write_small(b"b", b"in the way", &metadata(0o600)));
    assert!(folder.link(&place.root, b"a", b"b").unwrap());
    assert!(folder.link(&place.root, b"a", b"c").unwrap());
    assert!(!folder.link(&place.root, b"a", b"b").unwrap());
    assert_eq!(lstat(&place.path("d/b")).ino(), lstat(&place.path("a")).ino());
    assert_eq!(lstat(&place.path("a")).nlink(), 3);
    assert_eq!(names(&place.path("d")), ["b", "c"]);
    // A link to a link is a link to the link itself.
    whole(place.root.create(b"s", &EntryKind::Symlink { target: b"a".to_vec() }, &metadata(0)));
    assert!(place.root.link(&place.root, b"s", b"t").unwrap());
    assert!(lstat(&place.path("t")).is_symlink());
}

#[test]
fn three_thousand_levels_with_few_handles() {
    for (depth, stepwise) in [(3_000, false), (1_000, true)] {
        let place = place();
        place.root.shared.stepwise.store(stepwise, Ordering::Relaxed);
        let mut folders = vec![place.root.clone()];
        for _ in 0..depth {
            let child = folders.last().unwrap().make_child(b"depth", false).unwrap();
            folders.push(child);
            assert!(place.root.shared.folders.len() <= OPEN_FOLDERS_MAX);
        }
        let deepest = folders.last().unwrap();
        assert_eq!(deepest.path().len(), depth * 6 - 1);
        whole(deepest.write_small(b"file", b"deep", &metadata(0o600)));
        // Up again, as the metadata of directories is set: each handle was closed meanwhile.
        for folder in folders.drain(..).rev().take(depth) {
            whole(folder.finish(&metadata(0o750)));
        }
        assert!(place.root.shared.folders.len() <= OPEN_FOLDERS_MAX);
        let walked = vec![&b"depth"[..]; depth];
        let deepest = place.target.folder(&walked).unwrap().unwrap();
        assert_eq!(deepest.existing_file(b"file").unwrap().len(), 4);
        let removed = place.root.remove_tree(b"depth", &mut |e| panic!("{e}")).unwrap();
        assert_eq!(removed, depth as u64 + 1);
        assert!(names(&place.path("")).is_empty());
    }
}

#[test]
fn long_names_on_a_long_way_are_opened_again() {
    let place = place();
    let mut folder = place.root.clone();
    for _ in 0..40 {
        folder = folder.make_child(&[b'n'; 255], false).unwrap();
    }
    place.close_all();
    whole(folder.write_small(b"file", b"deep", &metadata(0o600)));
}

#[test]
fn a_chain_of_folders_deeper_than_the_stack_is_let_go() {
    let place = place();
    let mut folder = place.root.make_child(b"a", false).unwrap();
    // Not on disk, only the chain: what is let go at the end of a very deep tree.
    for _ in 0..crate::limits::TREE_DEPTH_MAX {
        folder = folder.under_itself();
    }
    drop(folder);
}
