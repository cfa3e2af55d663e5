//! Content: out of order, from several threads, sparse, in place.

use super::*;

#[test]
fn many_files_at_once_in_any_order_with_few_handles() {
    let place = place();
    let files: Vec<NewFile> = (0..600)
        .map(|number: u32| place.root.new_file(number.to_string().as_bytes()).unwrap())
        .collect();
    std::thread::scope(|scope| {
        for part in [2u64, 0, 3, 1] {
            let files = &files;
            scope.spawn(move || {
                for (number, file) in files.iter().enumerate() {
                    file.write_at(part * 4, format!("{:04}", number as u64 * part).as_bytes())
                        .unwrap();
                }
            });
        }
    });
    assert!(place.root.shared.files.len() <= OPEN_FILES_MAX);
    for file in files {
        whole(file.finish(&metadata(0o600)));
    }
    assert_eq!(names(&place.path("")).len(), 600);
    for number in [0, 1, 299, 599] {
        let content = std::fs::read_to_string(place.path(&number.to_string())).unwrap();
        let wanted = format!("0000{:04}{:04}{:04}", number, number * 2, number * 3);
        assert_eq!(content, wanted);
    }
}

#[test]
fn holes_stay_holes() {
    let place = place();
    let file = place.root.new_file(b"sparse").unwrap();
    file.set_len(1 << 40).unwrap();
    file.write_at(1 << 39, b"middle").unwrap();
    whole(file.finish(&metadata(0o600)));
    let found = lstat(&place.path("sparse"));
    assert_eq!(found.len(), 1 << 40);
    assert!(found.blocks() * 512 < 1 << 20, "{} blocks", found.blocks());
    let mut bytes = [1; 8];
    let file = place.root.existing_file(b"sparse").unwrap();
    assert_eq!(file.read_at((1 << 39) - 1, &mut bytes).unwrap(), 8);
    assert_eq!(&bytes, b"\0middle\0");
    assert_eq!(file.read_at((1 << 40) - 2, &mut bytes).unwrap(), 2);
}

#[test]
fn the_old_file_stands_until_the_new_one_is_finished() {
    let place = place();
    std::fs::write(place.path("f"), "old").unwrap();
    std::fs::set_permissions(place.path("f"), std::fs::Permissions::from_mode(0o444)).unwrap();
    let file = place.root.new_file(b"f").unwrap();
    file.write_at(0, b"new").unwrap();
    assert_eq!(std::fs::read(place.path("f")).unwrap(), b"old");
    // Its own temporary file is nothing that --delete removes; one of another run is.
    std::fs::write(place.path(".holdall-0123456789abcdef01234567"), "left behind").unwrap();
    let extra = place.root.extra_names(&|name| name == b"f").unwrap();
    assert_eq!(extra, [b".holdall-0123456789abcdef01234567"]);
    std::fs::remove_file(place.path(".holdall-0123456789abcdef01234567")).unwrap();

    drop(file);
    assert_eq!(names(&place.path("")), ["f"]);
    assert_eq!(std::fs::read(place.path("f")).unwrap(), b"old");

    let file = place.root.new_file(b"f").unwrap();
    file.write_at(0, b"new").unwrap();
    whole(file.finish(&metadata(0o444)));
    assert_eq!(names(&place.path("")), ["f"]);
    assert_eq!(std::fs::read(place.path("f")).unwrap(), b"new");
    whole(place.root.write_small(b"f", b"newer", &metadata(0o400)));
    assert_eq!(std::fs::read(place.path("f")).unwrap(), b"newer");
    assert_metadata(&place.path("f"), &metadata(0o400));
}

#[test]
fn a_directory_in_the_way_is_said_and_nothing_is_left_behind() {
    let place = place();
    for name in ["empty", "full/child"] {
        std::fs::create_dir_all(place.path(name)).unwrap();
    }
    whole(place.root.write_small(b"source", b"", &metadata(0o600)));
    let in_the_way = |done: Result<()>| {
        assert!(
            matches!(done, Err(TargetError::InTheWay { kind: Kind::Directory, .. })),
            "{done:?}"
        );
    };
    for name in [&b"empty"[..], b"full"] {
        in_the_way(place.root.new_file(name).unwrap().finish(&metadata(0o600)).map(drop));
        in_the_way(place.root.write_small(name, b"x", &metadata(0o600)).map(drop));
        in_the_way(place.root.create(name, &EntryKind::Fifo, &metadata(0o600)).map(drop));
        in_the_way(place.root.link(&place.root, b"source", name).map(drop));
        in_the_way(place.root.unlink(name));
        in_the_way(place.root.open_in_place(name, &metadata(0o600)).map(drop));
    }
    assert_eq!(names(&place.path("")), ["empty", "full", "source"]);
    assert_eq!(names(&place.path("full")), ["child"]);
}

#[test]
fn in_a_folder_made_by_this_run_a_name_may_be_taken_nevertheless() {
    let place = place();
    let folder = place.root.make_child(b"d", false).unwrap();
    assert!(folder.is_new() && !place.root.make_child(b"d", false).unwrap().is_new());
    std::fs::write(place.path("d/f"), "somebody else's").unwrap();
    std::os::unix::fs::symlink(place.outside("precious"), place.path("d/l")).unwrap();
    whole(folder.write_small(b"f", b"ours", &metadata(0o600)));
    whole(folder.write_small(b"l", b"ours", &metadata(0o600)));
    assert_eq!(std::fs::read(place.path("d/f")).unwrap(), b"ours");
    assert!(lstat(&place.path("d/l")).is_file());
    place.assert_outside_untouched();
}

#[test]
fn in_place_only_what_is_written_changes() {
    let place = place();
    std::fs::write(place.path("f"), "0123456789").unwrap();
    std::fs::set_permissions(place.path("f"), std::fs::Permissions::from_mode(0o666)).unwrap();
    let inode = lstat(&place.path("f")).ino();
    let file = place.root.open_in_place(b"f", &metadata(0o640)).unwrap();
    // Whoever may not read the new content may not from now on.
    assert_eq!(lstat(&place.path("f")).mode() & 0o7777, 0o640);
    place.close_all();
    file.write_at(3, b"abc").unwrap();
    file.set_len(8).unwrap();
    let mut bytes = [0; 10];
    assert_eq!(file.read_at(0, &mut bytes).unwrap(), 8);
    assert_eq!(&bytes[..8], b"012abc67");
    whole(file.finish(&metadata(0o640)));
    assert_eq!(std::fs::read(place.path("f")).unwrap(), b"012abc67");
    assert_eq!(lstat(&place.path("f")).ino(), inode);
    assert_metadata(&place.path("f"), &metadata(0o640));
    // Let go unfinished, it stays.
    drop(place.root.open_in_place(b"f", &metadata(0o640)).unwrap());
    assert_eq!(names(&place.path("")), ["f"]);
}

use std::os::unix::fs::PermissionsExt;
