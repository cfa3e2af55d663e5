//! Everything there is, in one go and in small steps.

use super::*;

fn all_kinds(place: &Place) {
    fill(place);
    if is_root() {
        std::os::unix::fs::lchown(place.source("a/file-1"), Some(1234), Some(4321)).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            place.source("device"),
            rustix::fs::FileType::CharacterDevice,
            rustix::fs::Mode::from_raw_mode(0o600),
            rustix::fs::makedev(1, 3),
        )
        .unwrap();
    }
}

#[test]
fn all_kinds_come_back_and_a_second_run_has_nothing_to_do() {
    let place = Place::new();
    all_kinds(&place);
    let record = place.backup();
    let said = place.restore_foretold(&record, || place.options());
    said.assert_whole();
    assert_same_tree(&place.source(""), &place.target(""));
    let report = said.report;
    assert_eq!(report.created.directories, 4);
    assert_eq!(report.created.files, 5 + 60 + 4 + 3 + 1);
    assert_eq!(report.replaced, report.unchanged);
    assert!(said.changes.iter().all(|(_, action, _)| *action == Action::Created));
    for (name, max) in [("sparse", 1 << 20), ("hole", 0)] {
        let blocks = fs::metadata(place.target(name)).unwrap().blocks();
        assert!(blocks * 512 <= max, "{name}: {blocks}");
    }
    for overwrite in [Overwrite::IfChanged, Overwrite::Always, Overwrite::Never] {
        let options = || RestoreOptions { overwrite, ..place.options() };
        let said = place.restore_foretold(&record, options);
        said.assert_whole();
        assert_eq!(said.report.unchanged, report.created, "{overwrite:?}");
        assert_eq!(said.report.bytes_written, 0);
        let links = 2 * 20_000;
        assert_eq!(said.report.bytes_unchanged, report.bytes_written + links);
    }
    assert_same_tree(&place.source(""), &place.target(""));
}

#[test]
fn files_span_windows() {
    for (chunks, files) in [(1, 1), (3, 2), (7, 100), (1000, 1)] {
        let place = Place::new();
        all_kinds(&place);
        let record = place.backup();
        let options =
            || RestoreOptions { ahead: Ahead { chunks, files }, verify: true, ..place.options() };
        let said = place.restore_foretold(&record, options);
        said.assert_whole();
        assert_eq!(said.report.verified, 5 + 60 + 4 + 1 + 1);
        assert_same_tree(&place.source(""), &place.target(""));
    }
}

#[test]
fn from_a_directory_as_init_makes_it() {
    let mut place = Place::new();
    let storage = place.directory.path().join("repository");
    place.repo = TestRepo::local(&storage);
    all_kinds(&place);
    let record = place.backup();
    place.restore(&record, place.options()).assert_whole();
    assert_same_tree(&place.source(""), &place.target(""));
}

#[test]
fn what_is_read_again_must_be_what_was_written() {
    let place = Place::new();
    fs::write(place.source("large"), noise(1, 100_000)).unwrap();
    fs::write(place.source("small"), "small").unwrap();
    let record = place.backup();
    // Somebody changes a file between writing and reading.
    let tell = |change: &Change<'_>| {
        let file = fs::OpenOptions::new().write(true).open(place.target("large"));
        if change.path == b"large" {
            file.unwrap().write_all_at(b"x", 77_000).unwrap();
        }
    };
    let silent = Silent::default();
    let options = RestoreOptions { verify: true, on_change: Some(&tell), ..place.options() };
    let report = restore(&place.repo.repository, &record, &options, &silent).unwrap();
    assert_eq!((report.verified, report.problems, report.damage), (1, 1, 0));
    assert_eq!(silent.problems()[0].what, b"large");
}

#[test]
fn zeros_become_holes_when_asked_for() {
    let place = Place::new();
    let mut bytes = noise(3, 500_000);
    bytes[70_001..390_000].fill(0);
    bytes[499_000..].fill(0);
    fs::write(place.source("partly"), &bytes).unwrap();
    fs::write(place.source("zeros"), vec![0; 400_000]).unwrap();
    fs::write(place.source("short"), vec![0; 5000]).unwrap();
    fs::write(place.source("tail"), [noise(4, 5000), vec![0; 4096]].concat()).unwrap();
    let record = place.backup();
    let sparse = || RestoreOptions { sparse: true, ..place.options() };
    place.restore_foretold(&record, sparse).assert_whole();
    assert_same_tree(&place.source(""), &place.target(""));
    let blocks = |name| fs::metadata(place.target(name)).unwrap().blocks() * 512;
    assert_eq!((blocks("zeros"), blocks("short")), (0, 0));
    assert!(blocks("partly") < 210_000, "{}", blocks("partly"));
}
