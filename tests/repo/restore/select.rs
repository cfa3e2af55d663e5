//! A part of a snapshot.

use super::*;

fn names(root: &Path) -> Vec<String> {
    tree(root).keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
}

fn simple() -> (Place, SnapshotRecord) {
    let place = Place::new();
    for name in ["docs/a.txt", "docs/b.tmp", "docs/sub/c.txt", "other/d.txt", "other/e"] {
        fs::create_dir_all(place.source(name).parent().unwrap()).unwrap();
        fs::write(place.source(name), name).unwrap();
    }
    set_mode(&place.source("docs"), 0o750);
    let record = place.backup();
    (place, record)
}

#[test]
fn patterns_select() {
    let (place, record) = simple();
    let cases: [(&[&str], &[&str], &[&str]); 5] = [
        (&["docs"], &[], &["docs", "docs/a.txt", "docs/b.tmp", "docs/sub", "docs/sub/c.txt"]),
        (
            &["*.txt"],
            &[],
            &["docs", "docs/a.txt", "docs/sub", "docs/sub/c.txt", "other", "other/d.txt"],
        ),
        (&["docs"], &["*.tmp", "sub/"], &["docs", "docs/a.txt"]),
        (&[], &["docs", "*.txt", "!d.txt"], &["other", "other/d.txt", "other/e"]),
        (&["nothing"], &[], &[]),
    ];
    for (include, exclude, expected) in cases {
        let _ = fs::remove_dir_all(place.target(""));
        let options = || RestoreOptions {
            include: patterns(include),
            exclude: patterns(exclude),
            ..place.options()
        };
        place.restore_foretold(&record, options).assert_whole();
        assert_eq!(names(&place.target("")), expected, "{include:?} {exclude:?}");
        // Also a directory that is only on the way has its metadata.
        if let Ok(found) = fs::metadata(place.target("docs")) {
            assert_eq!(found.mode() & 0o7777, 0o750);
        }
    }
}

#[test]
fn without_a_path_or_when_asked_paths_are_rebuilt() {
    let (place, record) = simple();
    let source = raw(&place.source(""));
    let below = OsStr::from_bytes(source.strip_prefix(b"/").unwrap());
    let whole = RestoreOptions { path: None, ..place.options() };
    place.restore(&record, whole).assert_whole();
    assert_same_tree(&place.source(""), &place.target("").join(below));
    fs::remove_dir_all(place.target("")).unwrap();

    let path = Some(raw(&place.source("docs/sub")));
    let rebuilt = || RestoreOptions { path: path.clone(), rebuild: true, ..place.options() };
    place.restore_foretold(&record, rebuilt).assert_whole();
    assert_eq!(names(&place.target("").join(below)), ["docs", "docs/sub", "docs/sub/c.txt"]);
    assert_same_tree(&place.source("docs/sub"), &place.target("").join(below).join("docs/sub"));
}

#[test]
fn one_file_comes_under_its_name() {
    let (place, record) = simple();
    let path = Some(raw(&place.source("docs/a.txt")));
    let options = || RestoreOptions { path: path.clone(), delete: true, ..place.options() };
    fs::create_dir(place.target("")).unwrap();
    fs::write(place.target("mine"), "mine").unwrap();
    place.restore_foretold(&record, options).assert_whole();
    assert_eq!(names(&place.target("")), ["a.txt", "mine"]);

    for (missing, name) in [("docs/x", "x"), ("docs/a.txt/b", "b")] {
        let options = RestoreOptions { path: Some(raw(&place.source(missing))), ..place.options() };
        let refused = run(&place.repo.repository, &record, options);
        assert!(matches!(refused, Err(OpsError::Tree(_))), "{name}");
    }
}

#[test]
fn the_first_selected_name_of_a_group_gets_the_content() {
    let place = Place::new();
    fs::create_dir(place.source("d")).unwrap();
    fs::write(place.source("a"), "content").unwrap();
    fs::hard_link(place.source("a"), place.source("d/b")).unwrap();
    fs::hard_link(place.source("a"), place.source("d/c")).unwrap();
    let record = place.backup();
    let options = || RestoreOptions { exclude: patterns(&["a"]), ..place.options() };
    let said = place.restore_foretold(&record, options);
    said.assert_whole();
    assert_eq!(said.report.bytes_written, 7);
    let found = |name| fs::metadata(place.target(name)).unwrap();
    assert_eq!((found("d/b").ino(), found("d/b").nlink()), (found("d/c").ino(), 2));
    assert_eq!(fs::read(place.target("d/c")).unwrap(), b"content");
}
