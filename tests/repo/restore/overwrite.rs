//! What is there already.

use super::*;

const POLICIES: [Overwrite; 4] =
    [Overwrite::Always, Overwrite::IfChanged, Overwrite::IfNewer, Overwrite::Never];

/// A source with ten files, and a target that has them in other states.
fn drifted() -> (Place, SnapshotRecord) {
    let place = Place::new();
    fs::create_dir(place.source("d")).unwrap();
    for name in ["same", "touched", "silent", "older", "newer", "mode", "shorter", "d/gone"] {
        fs::write(place.source(name), noise(name.len() as u64, 60_000)).unwrap();
        set_mtime(&place.source(name), 1_500_000_000);
    }
    symlink("here", place.source("link")).unwrap();
    let record = place.backup();
    place.restore(&record, place.options()).assert_whole();
    let change = |name: &str, at: u64, seconds: u64| {
        let file = fs::OpenOptions::new().write(true).open(place.target(name)).unwrap();
        file.write_all_at(b"changed", at).unwrap();
        set_mtime(&place.target(name), seconds);
    };
    set_mtime(&place.target("touched"), 1_600_000_000);
    change("silent", 30_000, 1_500_000_000);
    change("older", 0, 1_400_000_000);
    change("newer", 0, 1_600_000_000);
    set_mode(&place.target("mode"), 0o640);
    set_mode(&place.target("d"), 0o700);
    fs::write(place.target("shorter"), "short").unwrap();
    fs::remove_file(place.target("d/gone")).unwrap();
    fs::remove_file(place.target("link")).unwrap();
    symlink("there", place.target("link")).unwrap();
    (place, record)
}

#[test]
fn policies_say_what_is_overwritten() {
    let expected: [(&[&str], &[&str]); 4] = [
        (&["link", "newer", "older", "shorter", "silent"], &["d", "mode", "touched"]),
        (&["link", "newer", "older", "shorter", "touched"], &["d", "mode"]),
        (&["older"], &[]),
        (&[], &[]),
    ];
    for (overwrite, (replaced, metadata)) in POLICIES.into_iter().zip(expected) {
        let (place, record) = drifted();
        let options = || RestoreOptions { overwrite, verify: true, ..place.options() };
        let said = place.restore_foretold(&record, options);
        said.assert_whole();
        assert_eq!(said.paths(Action::Created), ["d/gone"], "{overwrite:?}");
        assert_eq!(said.paths(Action::Replaced), replaced, "{overwrite:?}");
        assert_eq!(said.paths(Action::Metadata), metadata, "{overwrite:?}");
        assert_eq!(said.changes.len(), 10);
        let files = replaced.iter().filter(|name| **name != "link").count() + 1;
        assert_eq!(said.report.bytes_written, files as u64 * 60_000);
        match overwrite {
            Overwrite::Always => assert_same_tree(&place.source(""), &place.target("")),
            Overwrite::IfChanged => {
                assert_ne!(fs::read(place.target("silent")).unwrap(), noise(6, 60_000));
                fs::copy(place.source("silent"), place.target("silent")).unwrap();
                set_mtime(&place.target("silent"), 1_500_000_000);
                assert_same_tree(&place.source(""), &place.target(""));
            }
            Overwrite::IfNewer | Overwrite::Never => {
                assert_eq!(fs::read(place.target("shorter")).unwrap(), b"short");
                assert_eq!(fs::read_link(place.target("link")).unwrap(), Path::new("there"));
                assert_eq!(fs::metadata(place.target("mode")).unwrap().mode() & 0o777, 0o640);
            }
        }
    }
}

#[test]
fn in_place_only_what_differs_is_written() {
    for overwrite in [Overwrite::Always, Overwrite::IfChanged] {
        let place = Place::new();
        let disk = noise(7, 800_000);
        fs::write(place.source("disk"), &disk).unwrap();
        let sparse = fs::File::create(place.source("sparse")).unwrap();
        sparse.set_len(2 << 20).unwrap();
        sparse.write_all_at(&noise(8, 9000), 1 << 20).unwrap();
        for name in ["touched", "longer", "outside"] {
            fs::write(place.source(name), noise(name.len() as u64, 90_000)).unwrap();
        }
        let record = place.backup();
        place.restore(&record, place.options()).assert_whole();
        assert_same_tree(&place.source(""), &place.target(""));
        let inode = |name| fs::metadata(place.target(name)).unwrap().ino();
        let before = ["disk", "sparse", "touched", "longer"].map(inode);
        let write = |name: &str, at: u64, bytes: &[u8]| {
            let file = fs::OpenOptions::new().write(true).open(place.target(name)).unwrap();
            file.write_all_at(bytes, at).unwrap();
        };
        write("disk", 400_000, b"changed");
        write("sparse", 5000, b"not a hole");
        write("sparse", (1 << 20) + 5000, b"other");
        set_mtime(&place.target("touched"), 1_600_000_000);
        write("longer", 90_000, &[7; 5000]);
        let outside = place.directory.path().join("outside");
        fs::hard_link(place.target("outside"), &outside).unwrap();
        write("outside", 0, b"precious");
        set_mode(&place.target("outside"), 0o600);

        let options =
            || RestoreOptions { overwrite, in_place: true, verify: true, ..place.options() };
        let said = place.restore_foretold(&record, options);
        said.assert_whole();
        assert_same_tree(&place.source(""), &place.target(""));
        assert_eq!(["disk", "sparse", "touched", "longer"].map(inode), before);
        assert_eq!(said.paths(Action::Metadata), ["touched"]);
        assert_eq!(said.paths(Action::Replaced), ["disk", "longer", "outside", "sparse"]);
        let bytes = |name: &[u8]| said.changes.iter().find(|c| c.0 == name).unwrap().2;
        assert!((1..=64 << 10).contains(&bytes(b"disk")), "{}", bytes(b"disk"));
        assert_eq!((bytes(b"outside"), bytes(b"longer")), (90_000, 0));
        // What has another name elsewhere was replaced, not changed.
        assert_eq!(&fs::read(&outside).unwrap()[..8], b"precious");
        assert_eq!(fs::metadata(&outside).unwrap().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_file_with_a_name_outside_is_replaced_and_never_written_through() {
    let place = Place::new();
    fs::write(place.source("f"), noise(1, 40_000)).unwrap();
    let record = place.backup();
    fs::create_dir(place.target("")).unwrap();
    let outside = place.directory.path().join("outside");
    fs::write(&outside, "precious").unwrap();
    fs::hard_link(&outside, place.target("f")).unwrap();
    for overwrite in [Overwrite::Always, Overwrite::IfChanged] {
        let options = || RestoreOptions { overwrite, ..place.options() };
        place.restore_foretold(&record, options).assert_whole();
        assert_same_tree(&place.source(""), &place.target(""));
        assert_eq!(fs::read(&outside).unwrap(), b"precious");
        // The same content and time, another mode: of a file that is also outside.
        fs::remove_file(&outside).unwrap();
        fs::hard_link(place.target("f"), &outside).unwrap();
        set_mode(&outside, 0o600);
        place.restore_foretold(&record, options).assert_whole();
        assert_same_tree(&place.source(""), &place.target(""));
        assert_eq!(fs::metadata(&outside).unwrap().mode() & 0o777, 0o600);
        fs::write(&outside, "precious").unwrap();
        fs::remove_file(place.target("f")).unwrap();
        fs::hard_link(&outside, place.target("f")).unwrap();
    }
}

#[test]
fn other_kinds_give_way_but_a_directory_only_where_things_may_be_removed() {
    let place = Place::new();
    fs::create_dir_all(place.source("was-file/below")).unwrap();
    fs::write(place.source("was-file/below/f"), "f").unwrap();
    fs::create_dir_all(place.source("was-link")).unwrap();
    fs::write(place.source("was-link/precious"), "of the snapshot").unwrap();
    fs::write(place.source("was-directory"), "file").unwrap();
    symlink("x", place.source("was-directory-2")).unwrap();
    fs::write(place.source("z"), "z").unwrap();
    let record = place.backup();
    let outside = place.directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "precious").unwrap();
    fs::create_dir_all(place.target("was-directory/deep")).unwrap();
    fs::write(place.target("was-directory/deep/mine"), "mine").unwrap();
    fs::create_dir_all(place.target("was-directory-2")).unwrap();
    fs::write(place.target("was-file"), "mine").unwrap();
    symlink(&outside, place.target("was-link")).unwrap();

    let never = || RestoreOptions { overwrite: Overwrite::Never, ..place.options() };
    let said = place.restore_foretold(&record, never);
    let blocked: Vec<_> = said.problems.iter().map(|problem| &problem.what[..]).collect();
    assert_eq!(blocked, [&b"was-file"[..], b"was-link"]);
    assert_eq!(fs::read(place.target("was-file")).unwrap(), b"mine");
    assert_eq!(said.paths(Action::Created), ["z"]);

    let said = place.restore_foretold(&record, || place.options());
    let blocked: Vec<_> = said.problems.iter().map(|problem| &problem.what[..]).collect();
    assert_eq!(blocked, [&b"was-directory"[..], b"was-directory-2"]);
    assert_eq!(said.report.problems, 2);
    assert_eq!(fs::read(place.target("was-directory/deep/mine")).unwrap(), b"mine");
    assert!(!fs::symlink_metadata(place.target("was-link")).unwrap().is_symlink());
    assert_eq!(said.paths(Action::Replaced), ["was-file", "was-link"]);

    let delete = || RestoreOptions { delete: true, ..place.options() };
    let said = place.restore_foretold(&record, delete);
    said.assert_whole();
    assert_eq!(said.paths(Action::Replaced), ["was-directory", "was-directory-2"]);
    assert_same_tree(&place.source(""), &place.target(""));
    assert_eq!(fs::read(outside.join("precious")).unwrap(), b"precious");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn hard_links_are_mended() {
    let place = Place::new();
    fill(&place);
    let record = place.backup();
    place.restore(&record, place.options()).assert_whole();
    // A name that is a file of its own, one that is gone, one that is something else.
    let names = ["linked-0", "a/deep/linked-1", "linked-2"];
    for (broken, kept) in [(0, 1), (1, 2), (2, 0)] {
        let (broken, kept) = (place.target(names[broken]), place.target(names[kept]));
        let content = fs::read(&kept).unwrap();
        let spoil: [&dyn Fn(); 3] =
            [&|| fs::write(&broken, &content).unwrap(), &|| {}, &|| symlink("x", &broken).unwrap()];
        for spoil in spoil {
            fs::remove_file(&broken).unwrap();
            spoil();
            for overwrite in [Overwrite::Always, Overwrite::IfChanged] {
                let options = || RestoreOptions { overwrite, ..place.options() };
                place.restore_foretold(&record, options).assert_whole();
                assert_same_tree(&place.source(""), &place.target(""));
            }
        }
    }
    // What the policy leaves alone is another file, and gets no names of the snapshot's.
    fs::write(place.target("a/deep/linked-1"), "another").unwrap();
    fs::remove_file(place.target("linked-2")).unwrap();
    let never = || RestoreOptions { overwrite: Overwrite::Never, ..place.options() };
    place.restore_foretold(&record, never).assert_whole();
    assert_eq!(fs::read(place.target("linked-0")).unwrap(), b"another");
    assert_eq!(fs::read(place.target("linked-2")).unwrap(), noise(5, 20_000));
}
