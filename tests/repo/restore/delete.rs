//! What the snapshot does not have.

use super::*;

#[test]
fn extra_names_go_only_where_they_may() {
    let place = Place::new();
    fill(&place);
    let record = place.backup();
    place.restore(&record, place.options()).assert_whole();
    let mine = |name: &str| {
        fs::create_dir_all(place.target(name).parent().unwrap()).unwrap();
        fs::write(place.target(name), "mine").unwrap();
    };
    let spoil = || {
        for name in ["mine", "a/mine.txt", "a/deep/new/er/mine", "a/deep/keep/x.keep", "empty/m"] {
            mine(name);
        }
        symlink(place.source(""), place.target("a/link-outside")).unwrap();
    };
    spoil();
    // Not asked for: nothing goes.
    let said = place.restore_foretold(&record, || place.options());
    assert_eq!(said.report.deleted, 0);
    assert!(place.target("a/deep/new/er/mine").exists());

    let filtered = || RestoreOptions {
        delete: true,
        include: patterns(&["/**/a"]),
        exclude: patterns(&["*.txt", "*.keep"]),
        ..place.options()
    };
    let said = place.restore_foretold(&record, filtered);
    said.assert_whole();
    assert_eq!(said.paths(Action::Deleted), ["a/deep/new", "a/link-outside"]);
    for kept in ["mine", "a/mine.txt", "a/deep/keep/x.keep", "empty/m"] {
        assert!(place.target(kept).exists(), "{kept}");
    }

    let all = || RestoreOptions { delete: true, ..place.options() };
    let said = place.restore_foretold(&record, all);
    said.assert_whole();
    assert_eq!(said.paths(Action::Deleted), ["a/deep/keep", "a/mine.txt", "empty/m", "mine"]);
    assert_same_tree(&place.source(""), &place.target(""));
}

#[test]
fn folders_above_what_was_backed_up_lose_nothing() {
    let place = Place::new();
    fs::write(place.source("f"), "f").unwrap();
    let record = place.backup();
    let options = || RestoreOptions { path: None, delete: true, ..place.options() };
    place.restore(&record, options()).assert_whole();
    let below = place.source("").strip_prefix("/").unwrap().to_path_buf();
    let restored = place.target("").join(&below);
    let above = restored.parent().unwrap();
    fs::write(above.join("beside"), "mine").unwrap();
    fs::write(place.target("top"), "mine").unwrap();
    fs::write(restored.join("extra"), "mine").unwrap();
    let said = place.restore_foretold(&record, options);
    said.assert_whole();
    assert_eq!(said.report.deleted, 1);
    assert!(above.join("beside").exists() && place.target("top").exists());
    assert!(!restored.join("extra").exists());
    // A part of the snapshot that is above what was backed up is no whole either.
    let parent = Some(raw(place.directory.path()));
    fs::write(place.target("beside"), "mine").unwrap();
    let above = || RestoreOptions { path: parent.clone(), ..options() };
    let said = place.restore_foretold(&record, above);
    assert_eq!(said.report.deleted, 0);
}

#[test]
fn what_the_backup_could_not_read_stays() {
    let place = Place::new();
    fs::create_dir(place.source("d")).unwrap();
    fs::write(place.source("d/f"), "f").unwrap();
    let mut record = place.backup();
    place.restore(&record, place.options()).assert_whole();
    fs::create_dir(place.target("d/unread")).unwrap();
    fs::write(place.target("d/unread/x"), "mine").unwrap();
    fs::write(place.target("d/extra"), "mine").unwrap();
    let problem = holdall::format::snapshot::SnapshotProblem {
        path: raw(&place.source("d/unread/x")),
        why: "permission denied".into(),
    };
    record.snapshot.problems = vec![problem];
    record.snapshot.problem_count = 2;
    let delete = || RestoreOptions { delete: true, ..place.options() };
    // One is not named: it may be anything.
    assert_eq!(place.restore_foretold(&record, delete).report.deleted, 0);
    record.snapshot.problem_count = 1;
    let said = place.restore_foretold(&record, delete);
    assert_eq!(said.paths(Action::Deleted), ["d/extra"]);
    assert!(place.target("d/unread/x").exists());
}
