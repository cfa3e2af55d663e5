//! Trees that change while they are backed up. Whoever is told that a file is about to be read
//! meddles with it just then, so nothing here depends on who is faster.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use holdall::format::snapshot::Outcome;
use holdall::format::tree::{Entry, EntryKind};
use holdall::ops::backup::{BackupOptions, BackupReport, Input, backup};
use holdall::progress::{Counter, Problem, Progress, Silent};
use holdall::source::Excludes;
use holdall::tree::TreeReader;

use crate::support::repository::TestRepo;

/// What is done to a file when its reading is announced.
type Meddling = Box<dyn FnMut() + Send>;

/// Does something to a path when its reading is announced.
struct Meddler {
    /// Done whenever something was read.
    on_read: Option<Box<dyn Fn() + Send + Sync>>,
    todo: Mutex<BTreeMap<PathBuf, Meddling>>,
    said: Silent,
}

impl Progress for Meddler {
    fn phase(&self, _: &str, _: Counter, _: Option<u64>) {}

    fn add(&self, counter: Counter, _: u64) {
        if let (Counter::Bytes, Some(meddle)) = (counter, &self.on_read) {
            meddle();
        }
    }

    fn at(&self, path: &[u8]) {
        let path = Path::new(OsStr::from_bytes(path));
        if let Some(meddle) = self.todo.lock().unwrap().get_mut(path) {
            meddle();
        }
    }

    fn problem(&self, problem: &Problem) {
        self.said.problem(problem);
    }

    fn note(&self, text: &str) {
        self.said.note(text);
    }

    fn cancelled(&self) -> bool {
        false
    }
}

fn run(repo: &TestRepo, source: &Path, meddle: Vec<(&str, Meddling)>) -> BackupReport {
    let todo = meddle.into_iter().map(|(name, work)| (source.join(name), work)).collect();
    let progress = Meddler { on_read: None, todo: Mutex::new(todo), said: Silent::default() };
    run_with(repo, source, &progress)
}

fn run_with(repo: &TestRepo, source: &Path, progress: &Meddler) -> BackupReport {
    let input = Input::Paths(vec![source.as_os_str().as_bytes().to_vec()]);
    backup(&repo.repository, input, &BackupOptions::default(), progress).unwrap()
}

fn entry(repo: &TestRepo, report: &BackupReport, path: &Path) -> Option<Entry> {
    let parts: Vec<&[u8]> = path.iter().skip(1).map(OsStr::as_bytes).collect();
    let root = &report.record.as_ref().unwrap().snapshot.root;
    TreeReader::new(&repo.repository).find(root, &parts).ok()
}

fn problems(report: &BackupReport) -> Vec<(PathBuf, String)> {
    let problems = &report.record.as_ref().unwrap().snapshot.problems;
    problems.iter().map(|p| (OsStr::from_bytes(&p.path).into(), p.why.clone())).collect()
}

#[test]
fn what_goes_is_said_and_the_rest_is_kept() {
    let (source, repo) = (tempfile::tempdir().unwrap(), TestRepo::memory());
    let path = |name: &str| source.path().join(name);
    for name in ["a", "gone", "z"] {
        fs::write(path(name), name).unwrap();
    }
    let gone = path("gone");
    let report = run(
        &repo,
        source.path(),
        vec![("gone", Box::new(move || fs::remove_file(&gone).unwrap()))],
    );
    assert_eq!(report.record.as_ref().unwrap().snapshot.outcome, Outcome::Partial);
    let said = problems(&report);
    assert!(said.len() == 1 && said[0].0 == path("gone"), "{said:?}");
    assert!(
        entry(&repo, &report, &path("a")).is_some() && entry(&repo, &report, &path("z")).is_some()
    );
    assert!(entry(&repo, &report, &path("gone")).is_none());
}

#[test]
fn a_link_put_in_the_place_of_a_file_pulls_nothing_in() {
    let (source, secret, repo) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), TestRepo::memory());
    let path = |name: &str| source.path().join(name);
    fs::write(secret.path().join("secret"), "somebody else's").unwrap();
    fs::write(path("file"), "mine").unwrap();
    let (file, target) = (path("file"), secret.path().join("secret"));
    let swap = move || {
        fs::remove_file(&file).unwrap();
        symlink(&target, &file).unwrap();
    };
    let report = run(&repo, source.path(), vec![("file", Box::new(swap))]);
    assert!(entry(&repo, &report, &path("file")).is_none());
    assert_eq!(problems(&report).len(), 1);
    assert_eq!(report.statistics.bytes_read, 0);
}

#[test]
fn pipes_put_in_the_place_of_files_do_not_make_it_wait() {
    let (source, repo) = (tempfile::tempdir().unwrap(), TestRepo::memory());
    let file = source.path().join("file");
    fs::write(&file, "mine").unwrap();
    let swap = {
        let file = file.clone();
        move || {
            fs::remove_file(&file).unwrap();
            let kind = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(rustix::fs::CWD, &file, kind, 0o600.into(), 0).unwrap();
        }
    };
    let report = run(&repo, source.path(), vec![("file", Box::new(swap))]);
    assert_eq!(problems(&report).len(), 1);
}

#[test]
fn what_grows_and_shrinks_is_read_as_it_was_opened() {
    let (source, repo) = (tempfile::tempdir().unwrap(), TestRepo::memory());
    let path = |name: &str| source.path().join(name);
    for name in ["grows", "shrinks", "large"] {
        fs::write(path(name), vec![7u8; 100_000]).unwrap();
    }
    fs::write(path("large"), vec![7u8; 6_000_000]).unwrap();
    let change = |name: &str, len: u64| -> Meddling {
        let path = path(name);
        Box::new(move || fs::File::options().write(true).open(&path).unwrap().set_len(len).unwrap())
    };
    let meddle = vec![
        ("grows", change("grows", 300_000)),
        ("shrinks", change("shrinks", 1000)),
        ("large", change("large", 3_000_000)),
    ];
    let report = run(&repo, source.path(), meddle);
    assert_eq!(report.record.as_ref().unwrap().snapshot.outcome, Outcome::Complete);
    for (name, len) in [("grows", 300_000), ("shrinks", 1000), ("large", 3_000_000)] {
        let entry = entry(&repo, &report, &path(name)).unwrap();
        assert_eq!(entry.size(), len, "{name}");
        let live = fs::metadata(path(name)).unwrap().modified().unwrap();
        let live = live.duration_since(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(entry.metadata.mtime.seconds as u64, live.as_secs(), "{name}");
    }
}

#[test]
fn another_name_is_read_when_the_first_one_went_or_the_file_changed() {
    let (source, repo) = (tempfile::tempdir().unwrap(), TestRepo::memory());
    let path = |name: &str| source.path().join(name);
    for (file, others) in [("gone-0", ["gone-1", "gone-2"]), ("new-0", ["new-1", "new-2"])] {
        fs::write(path(file), vec![7u8; 10_000]).unwrap();
        for other in others {
            fs::hard_link(path(file), path(other)).unwrap();
        }
    }
    let (gone, new) = (path("gone-0"), path("new-0"));
    let meddle: Vec<(&str, Meddling)> = vec![
        ("gone-0", Box::new(move || fs::remove_file(&gone).unwrap())),
        // The walk has looked at the last name, and no name of the batch is read yet.
        ("new-2", Box::new(move || fs::write(&new, vec![8u8; 20_000]).unwrap())),
    ];
    let report = run(&repo, source.path(), meddle);
    assert_eq!(problems(&report).len(), 1, "{:?}", problems(&report));
    assert!(entry(&repo, &report, &path("gone-0")).is_none());
    for (name, len) in
        [("gone-1", 10_000), ("gone-2", 10_000), ("new-0", 20_000), ("new-1", 20_000)]
    {
        assert_eq!(entry(&repo, &report, &path(name)).unwrap().size(), len, "{name}");
    }
    let last = entry(&repo, &report, &path("new-2")).unwrap();
    let live = fs::metadata(path("new-2")).unwrap();
    assert_eq!(last.size(), 20_000);
    let modified = (live.mtime(), live.mtime_nsec());
    let stored = last.metadata.mtime;
    assert_eq!((stored.seconds, i64::from(stored.nanoseconds)), modified);
    // Of the file whose first name went once, or twice if the scan had come to the other names
    // before; and by every name of the other.
    let read = report.statistics.bytes_read - 3 * 20_000;
    assert!(read == 10_000 || read == 20_000, "{read}");
}

#[test]
fn a_file_that_never_holds_still_is_said_to() {
    let (source, repo) = (tempfile::tempdir().unwrap(), TestRepo::memory());
    let path = source.path().join("log");
    fs::write(&path, vec![1u8; 3_000_000]).unwrap();
    // Somebody who changes it between any two reads.
    let seconds = std::sync::atomic::AtomicU64::new(1_000_000_000);
    let log = fs::File::options().write(true).open(&path).unwrap();
    let touch = move || {
        let later = seconds.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(later);
        log.set_modified(time).unwrap();
    };
    let said = Silent::default();
    let progress = Meddler { on_read: Some(Box::new(touch)), todo: Mutex::default(), said };
    let report = run_with(&repo, source.path(), &progress);
    let entry = entry(&repo, &report, &path).unwrap();
    assert!(matches!(entry.kind, EntryKind::File { unstable: true, .. }));
    assert!(problems(&report)[0].1.contains("kept changing"), "{:?}", problems(&report));
    // Not taken over unread by the next run.
    repo.world.set_now(holdall::world::Time::from_seconds(4_000_000_000));
    let again = run(&repo, source.path(), vec![]);
    assert_eq!(again.statistics.files_unchanged, 0);
    assert_eq!(again.record.as_ref().unwrap().snapshot.outcome, Outcome::Complete);
}

#[test]
fn pseudo_file_systems_are_left_out_and_said() {
    let repo = TestRepo::memory();
    let progress = Silent::default();
    let mut excludes = Excludes::new();
    // Of the root directory only the mount points.
    for name in fs::read_dir("/").unwrap() {
        let name = name.unwrap().file_name();
        if name != "proc" && name != "sys" {
            excludes.add_pattern(&[b"/", name.as_bytes()].concat()).unwrap();
        }
    }
    let options = BackupOptions { excludes, ..BackupOptions::default() };
    let report =
        backup(&repo.repository, Input::Paths(vec![b"/".to_vec()]), &options, &progress).unwrap();
    let proc = entry(&repo, &report, Path::new("/proc")).unwrap();
    assert_eq!(proc.kind, EntryKind::Directory { listing: Default::default() });
    let notes = progress.notes.lock().unwrap().clone();
    assert!(notes.iter().any(|note| note.contains("/proc") && note.contains("proc")), "{notes:?}");
    assert_eq!(report.statistics.files, 0);
}
