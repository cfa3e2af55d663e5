//! Nothing outside is written, followed, changed or removed.

use std::os::unix::fs::symlink;

use super::*;

#[test]
fn names_that_lead_elsewhere_are_refused_everywhere() {
    let place = place();
    let root = &place.root;
    let m = metadata(0o600);
    let entry = entry(b"x", file_kind(0), &m);
    for name in [&b""[..], b".", b"..", b"a/b", b"/etc", b"../outside/precious", b"a\0"] {
        let refused = [
            root.child(name).map(drop),
            root.make_child(name, true).map(drop),
            root.stat(name).map(drop),
            root.difference(name, &entry).map(drop),
            root.new_file(name).map(drop),
            root.write_small(name, b"x", &m).map(drop),
            root.open_in_place(name, &m).map(drop),
            root.existing_file(name).map(drop),
            root.create(name, &EntryKind::Fifo, &m).map(drop),
            root.set_metadata(name, &entry).map(drop),
            root.link(root, b"x", name).map(drop),
            root.link(root, name, b"x").map(drop),
            root.unlink(name),
            root.remove_tree(name, &mut |_| ()).map(drop),
        ];
        for (number, done) in refused.into_iter().enumerate() {
            assert!(matches!(done, Err(TargetError::Name { .. })), "{number}: {name:?} {done:?}");
        }
    }
    assert!(names(&place.path("")).is_empty());
    place.assert_outside_untouched();
}

#[test]
fn a_link_in_the_place_of_a_folder_is_never_followed() {
    for stepwise in [false, true] {
        let place = place();
        place.root.shared.stepwise.store(stepwise, Ordering::Relaxed);
        symlink(place.outside(""), place.path("d")).unwrap();
        let in_the_way = |done: Result<()>| {
            assert!(
                matches!(done, Err(TargetError::InTheWay { kind: Kind::Symlink, .. })),
                "{done:?}"
            );
        };
        in_the_way(place.root.child(b"d").map(drop));
        in_the_way(place.root.make_child(b"d", false).map(drop));
        in_the_way(place.target.folder(&[b"d", b"precious"]).map(drop));
        let folder = place.root.make_child(b"d", true).unwrap();
        whole(folder.write_small(b"precious", b"ours", &metadata(0o600)));
        assert!(lstat(&place.path("d")).is_dir());
        place.assert_outside_untouched();
    }
}

#[test]
fn no_link_on_a_longer_way_is_followed_not_even_inside() {
    let place = place();
    std::fs::create_dir_all(place.path("real/inner")).unwrap();
    std::fs::create_dir(place.outside("inner")).unwrap();
    symlink(place.outside(""), place.path("absolute")).unwrap();
    symlink("../outside", place.path("up")).unwrap();
    symlink("real", place.path("inside")).unwrap();
    symlink("inner", place.path("real/last")).unwrap();
    let base = place.root.handle().unwrap();
    for stepwise in [false, true] {
        let open = |names: &[&[u8]]| {
            handles::open_folder(&base, names, false, &AtomicBool::new(stepwise)).map(drop)
        };
        open(&[b"real", b"inner"]).unwrap();
        for link in [&b"absolute"[..], b"up", b"inside"] {
            assert!(open(&[link, b"inner"]).is_err(), "{link:?} {stepwise}");
        }
        assert!(open(&[b"real", b"last"]).is_err());
    }
}

#[test]
fn a_link_swapped_in_after_opening_is_never_followed() {
    for stepwise in [false, true] {
        for closed in [false, true] {
            let place = place();
            place.root.shared.stepwise.store(stepwise, Ordering::Relaxed);
            let folder = place.root.make_child(b"d", false).unwrap();
            let deeper = folder.make_child(b"e", false).unwrap();
            let file = folder.new_file(b"f").unwrap();
            std::fs::rename(place.path("d"), place.path("moved")).unwrap();
            symlink(place.outside(""), place.path("d")).unwrap();
            if closed {
                place.close_all();
            }
            let done = [
                file.write_at(0, b"content"),
                file.finish(&metadata(0o600)).map(drop),
                folder.write_small(b"precious", b"bad", &metadata(0o600)).map(drop),
                folder.make_child(b"new", true).map(drop),
                folder.finish(&metadata(0o777)).map(drop),
                deeper.write_small(b"g", b"bad", &metadata(0o600)).map(drop),
                folder.remove_tree(b"precious", &mut |_| ()).map(drop),
            ];
            for (number, done) in done.into_iter().enumerate() {
                match closed {
                    // The name leads elsewhere now.
                    true => assert!(
                        matches!(done, Err(TargetError::Exchanged { .. })),
                        "{number} {done:?}"
                    ),
                    // The handle leads where it did.
                    false => done.unwrap(),
                }
            }
            if !closed {
                assert_eq!(names(&place.path("moved")), ["e", "f", "new"]);
                assert_eq!(std::fs::read(place.path("moved/f")).unwrap(), b"content");
            }
            place.assert_outside_untouched();
            assert_ne!(lstat(&place.outside("")).mode() & 0o777, 0o777);
        }
    }
}

#[test]
fn another_folder_swapped_in_is_seen() {
    let place = place();
    let folder = place.root.make_child(b"d", false).unwrap();
    std::fs::rename(place.path("d"), place.path("moved")).unwrap();
    std::fs::rename(place.outside(""), place.path("d")).unwrap();
    place.close_all();
    let done = folder.write_small(b"precious", b"bad", &metadata(0o600));
    assert!(matches!(done, Err(TargetError::Exchanged { .. })), "{done:?}");
    assert_eq!(std::fs::read(place.path("d/precious")).unwrap(), b"precious");
}

#[test]
fn a_temporary_file_that_is_exchanged_is_not_written() {
    let swaps: [fn(&Place, &Path); 3] = [
        |place, temporary| symlink(place.outside("precious"), temporary).unwrap(),
        |place, temporary| std::fs::hard_link(place.outside("precious"), temporary).unwrap(),
        |_, temporary| {
            let mode = rustix::fs::Mode::RWXU;
            rustix::fs::mkfifoat(rustix::fs::CWD, temporary, mode).unwrap();
        },
    ];
    for swap in swaps {
        let place = place();
        let file = place.root.new_file(b"f").unwrap();
        let temporary = place.path(&names(&place.path(""))[0]);
        std::fs::remove_file(&temporary).unwrap();
        swap(&place, &temporary);
        place.close_all();
        let done = file.write_at(0, b"bad");
        assert!(matches!(done, Err(TargetError::Exchanged { .. })), "{done:?}");
        assert!(file.finish(&metadata(0o777)).is_err());
        place.assert_outside_untouched();
        assert!(names(&place.path("")).is_empty());
    }
}

#[test]
fn files_with_other_names_are_replaced_never_changed() {
    let place = place();
    std::fs::hard_link(place.outside("precious"), place.path("f")).unwrap();
    let before = lstat(&place.outside("precious"));
    // Also when the snapshot knows of as many names: which they are it does not know.
    let mut wanted = Metadata { links: 2, ..metadata(0o777) };
    wanted.mtime = at(before.mtime(), before.mtime_nsec() as u32);
    let entry = entry(b"f", file_kind(8), &wanted);
    assert_eq!(place.root.difference(b"f", &entry).unwrap(), Difference::Content);
    let linked = |done: Result<()>| {
        assert!(matches!(done, Err(TargetError::Linked { links: 2, .. })), "{done:?}");
    };
    linked(place.root.open_in_place(b"f", &wanted).map(drop));
    linked(place.root.set_metadata(b"f", &entry).map(drop));
    let after = lstat(&place.outside("precious"));
    assert_eq!((after.mode(), after.ctime_nsec()), (before.mode(), before.ctime_nsec()));

    whole(place.root.write_small(b"f", b"replaced", &wanted));
    assert_eq!(std::fs::read(place.path("f")).unwrap(), b"replaced");
    place.assert_outside_untouched();
    assert_eq!(lstat(&place.outside("precious")).mode(), before.mode());
}

#[test]
fn links_in_the_place_of_files_are_replaced_never_followed() {
    let place = place();
    let before = lstat(&place.outside("precious"));
    let m = metadata(0o777);
    for name in ["a", "b", "c", "d"] {
        symlink(place.outside("precious"), place.path(name)).unwrap();
    }
    let file = entry(b"a", file_kind(8), &m);
    let other = place.root.difference(b"a", &file).unwrap();
    assert_eq!(other, Difference::OtherKind(Kind::Symlink));
    assert!(place.root.open_in_place(b"a", &m).is_err());
    assert!(place.root.existing_file(b"a").is_err());
    assert!(place.root.set_metadata(b"a", &file).is_err());
    // As an entry of its own kind, the link itself is changed.
    let link = entry(b"d", EntryKind::Symlink { target: b"x".to_vec() }, &m);
    whole(place.root.set_metadata(b"d", &link));
    assert_metadata(&place.path("d"), &m);

    whole(place.root.write_small(b"a", b"ours", &m));
    whole(place.root.new_file(b"b").unwrap().finish(&m));
    whole(place.root.create(b"c", &EntryKind::Fifo, &m));
    for name in ["a", "b", "c"] {
        assert!(!lstat(&place.path(name)).is_symlink());
    }
    place.assert_outside_untouched();
    let after = lstat(&place.outside("precious"));
    assert_eq!((after.mode(), after.mtime()), (before.mode(), before.mtime()));
}

#[test]
fn the_target_may_be_reached_through_links_and_must_exist_unless_made() {
    let place = place();
    symlink(place.path(""), place.outside("way")).unwrap();
    let through =
        Target::open(&place.outside("way"), false, TargetOptions::default(), &RealWorld).unwrap();
    whole(through.root().write_small(b"f", b"x", &metadata(0o600)));
    assert_eq!(names(&place.path("")), ["f"]);
    through.sync().unwrap();
    let missing = place.path("missing/deep");
    let open = |create| Target::open(&missing, create, TargetOptions::default(), &RealWorld);
    assert_eq!(open(false).unwrap_err().io_kind(), Some(std::io::ErrorKind::NotFound));
    open(true).unwrap();
    assert_eq!(lstat(&missing).mode() & 0o777, 0o700);
    let file = Target::open(&place.path("f"), true, TargetOptions::default(), &RealWorld);
    assert!(file.is_err());
}
