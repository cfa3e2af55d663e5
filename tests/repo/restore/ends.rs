//! Runs that end early, and runs with few rights.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use holdall::progress::{Counter, Problem, Progress};

use super::*;

/// Names the directory to the test that runs again elsewhere.
const PLACE: &str = "HOLDALL_TEST_PLACE";

fn temporaries(root: &Path) -> usize {
    tree(root).keys().filter(|path| path.windows(8).any(|part| part == b".holdall")).count()
}

/// Cancels after so many bytes.
pub(super) struct Impatient {
    pub(super) left: AtomicU64,
}

impl Progress for Impatient {
    fn phase(&self, _: &str, _: Counter, _: Option<u64>) {}
    fn add(&self, counter: Counter, amount: u64) {
        if counter == Counter::Bytes {
            let left = self.left.load(Ordering::Relaxed).saturating_sub(amount);
            self.left.store(left, Ordering::Relaxed);
        }
    }
    fn at(&self, _: &[u8]) {}
    fn problem(&self, _: &Problem) {}
    fn note(&self, _: &str) {}
    fn cancelled(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }
}

#[test]
fn a_cancelled_run_leaves_nothing_half_done() {
    let place = Place::new();
    fill(&place);
    let record = place.backup();
    for left in [0, 1, 30_000, 300_000, 500_000, 700_000] {
        for ahead in [Ahead::default(), Ahead { chunks: 5, files: 3 }] {
            let _ = fs::remove_dir_all(place.target(""));
            fs::create_dir_all(place.target("a")).unwrap();
            fs::write(place.target("a/file-4"), "old").unwrap();
            let progress = Impatient { left: left.into() };
            let options = RestoreOptions { ahead, ..place.options() };
            let ended = restore(&place.repo.repository, &record, &options, &progress);
            assert!(matches!(ended, Err(OpsError::Cancelled)), "{left}");
            assert_eq!(temporaries(&place.target("")), 0, "{left}");
            // Whatever is there is whole.
            let source = tree(&place.source(""));
            for (path, seen) in tree(&place.target("")) {
                let old = seen.content == b"old";
                assert!(old || seen.content == source[&path].content, "{path:?}");
            }
        }
    }
    place.restore(&record, place.options()).assert_whole();
    assert_same_tree(&place.source(""), &place.target(""));
}

/// Runs a test once more with another program in front of it; false if that cannot be.
pub(super) fn again(test: &str, place: &Path, program: &str, args: &[&str]) -> bool {
    let output = Command::new(program)
        .args(args)
        .arg(place.join("tests"))
        .args(["--exact", test, "--nocapture"])
        .current_dir("/")
        .env(PLACE, place)
        .env("TMPDIR", place)
        .output();
    let said = match output {
        Ok(output) => [output.stdout, output.stderr].concat(),
        Err(error) => error.to_string().into_bytes(),
    };
    let said = String::from_utf8_lossy(&said);
    let passed = said.contains("test result: ok. 1 passed");
    assert!(passed || !said.contains("running "), "{said}");
    passed
}

/// A directory with a copy of this program that everybody may run.
pub(super) fn place_for_all() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    set_mode(directory.path(), 0o777);
    let program = directory.path().join("tests");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    set_mode(&program, 0o755);
    directory
}

/// Runs `check` with a small tmpfs, in a mount namespace of its own.
pub(super) fn on_a_small_disk(name: &str, check: impl Fn(&Path)) {
    if let Some(place) = std::env::var_os(PLACE) {
        return check(&Path::new(&place).join("small"));
    }
    let directory = place_for_all();
    fs::create_dir(directory.path().join("small")).unwrap();
    let script = r#"mount -t tmpfs -o size=1m tmpfs "$HOLDALL_TEST_PLACE/small" && exec "$@""#;
    let ways = [&["--mount", "--user", "--map-root-user"][..], &["--mount"]];
    let done = ways.iter().any(|way| {
        let args = [way, &["sh", "-c", script, "sh"][..]].concat();
        again(name, directory.path(), "unshare", &args)
    });
    if !done {
        cannot("mounting a tmpfs");
    }
}

#[test]
fn what_is_mounted_over_an_empty_folder_is_not_the_snapshots() {
    let name = "restore::ends::what_is_mounted_over_an_empty_folder_is_not_the_snapshots";
    on_a_small_disk(name, |small| {
        let place = Place::new();
        let (source, target) = (place.source(""), small.parent().unwrap());
        fs::create_dir(source.join("small")).unwrap();
        let record = place.backup();
        fs::write(small.join("mine"), "mine").unwrap();
        // All else there but the program and what the test itself needs.
        let options = || RestoreOptions {
            target: target.to_owned(),
            include: patterns(&["small"]),
            delete: true,
            ..place.options()
        };
        let said = place.restore(&record, options());
        said.assert_whole();
        assert_eq!(said.report.deleted, 0);
        assert!(small.join("mine").exists());
    });
}

#[test]
fn a_full_disk_ends_the_run() {
    on_a_small_disk("restore::ends::a_full_disk_ends_the_run", on_a_full_disk);
}

fn on_a_full_disk(small: &Path) {
    let place = Place::new();
    fs::write(place.source("a"), "fits").unwrap();
    for number in 0..6 {
        fs::write(place.source(&format!("b{number}")), noise(number, 300_000)).unwrap();
    }
    for number in 0..300 {
        fs::write(place.source(&format!("c{number}")), noise(number, 4000)).unwrap();
    }
    let record = place.backup();
    let options = || RestoreOptions { target: small.to_owned(), ..place.options() };
    let Err(ended) = run(&place.repo.repository, &record, options()) else { panic!("it fits") };
    let text = ended.to_string();
    assert!(matches!(ended, OpsError::TargetFull { .. }), "{text}");
    assert!(text.starts_with("the target is full: ") && text.contains("No space"), "{text}");
    assert_eq!(temporaries(small), 0);
    let source = tree(&place.source(""));
    for (path, seen) in tree(small) {
        assert!(seen.content == source[&path].content, "{path:?}");
    }
}

#[test]
fn without_root_all_but_owners_and_devices_comes() {
    let name = "restore::ends::without_root_all_but_owners_and_devices_comes";
    if !is_root() {
        return unprivileged();
    }
    let directory = place_for_all();
    let args = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    if !again(name, directory.path(), "setpriv", &args) {
        cannot("setpriv");
    }
}

fn unprivileged() {
    let place = Place::new();
    fs::create_dir_all(place.source("d/read-only")).unwrap();
    for name in ["f", "d/f", "d/read-only/f"] {
        fs::write(place.source(name), noise(name.len() as u64, 50_000)).unwrap();
    }
    set_mode(&place.source("d/f"), 0o444);
    set_mode(&place.source("d/read-only"), 0o555);
    let record = place.backup();
    place.restore_foretold(&record, || place.options()).assert_whole();
    assert_same_tree(&place.source(""), &place.target(""));
    // Into folders that may not be written in.
    for name in ["d/f", "d/read-only/f"] {
        set_mode(&place.target(name), 0o600);
        fs::write(place.target(name), "changed").unwrap();
    }
    set_mode(&place.target("d/read-only"), 0o755);
    fs::remove_file(place.target("d/read-only/f")).unwrap();
    fs::write(place.target("d/read-only/mine"), "mine").unwrap();
    set_mode(&place.target("d/read-only"), 0o555);
    let delete = || RestoreOptions { delete: true, ..place.options() };
    let said = place.restore_foretold(&record, delete);
    said.assert_whole();
    assert_eq!(said.report.deleted, 1);
    assert_same_tree(&place.source(""), &place.target(""));
    // Only something below is selected, in a folder that may not be written in.
    set_mode(&place.target("d/read-only"), 0o755);
    fs::remove_file(place.target("d/read-only/f")).unwrap();
    set_mode(&place.target("d/read-only"), 0o555);
    let below = || RestoreOptions { include: patterns(&["read-only/f"]), ..place.options() };
    place.restore_foretold(&record, below).assert_whole();
    assert_same_tree(&place.source(""), &place.target(""));
    // So that the directory can be removed by its owner.
    for root in [place.source(""), place.target("")] {
        set_mode(&root.join("d/read-only"), 0o755);
    }
}
