//! Restores into real directories.

mod damage;
mod delete;
mod ends;
mod overwrite;
mod rollback;
mod select;
mod stored;
mod whole;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use holdall::ops::OpsError;
use holdall::ops::backup::{BackupOptions, Input, Parent, backup};
use holdall::ops::restore::{
    Action, Ahead, Change, Overwrite, RestoreOptions, RestoreReport, restore,
};
use holdall::progress::Silent;
use holdall::repo::{Repository, SnapshotRecord};
use holdall::source::Pattern;
use holdall::world::{SeededWorld, Time, World};

use crate::support::repository::TestRepo;

/// A source, a repository, and a place for targets.
struct Place {
    directory: tempfile::TempDir,
    repo: TestRepo,
}

/// What a run said: the report, the changes in order of paths, the problems.
struct Said {
    report: RestoreReport,
    changes: Vec<(Vec<u8>, Action, u64)>,
    problems: Vec<holdall::progress::Problem>,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("source")).unwrap();
        Self { directory, repo: TestRepo::memory() }
    }

    fn source(&self, below: &str) -> PathBuf {
        self.directory.path().join("source").join(below)
    }

    fn target(&self, below: &str) -> PathBuf {
        self.directory.path().join("target").join(below)
    }

    /// Options that put the source's content into the target.
    fn options(&self) -> RestoreOptions<'static> {
        RestoreOptions {
            path: Some(raw(&self.directory.path().join("source"))),
            target: self.directory.path().join("target"),
            ..RestoreOptions::default()
        }
    }

    fn backup(&self) -> SnapshotRecord {
        self.backup_with(&BackupOptions::default())
    }

    fn backup_with(&self, options: &BackupOptions) -> SnapshotRecord {
        let input = Input::Paths(vec![raw(&self.directory.path().join("source"))]);
        let report = backup(&self.repo.repository, input, options, &Silent::default()).unwrap();
        report.record.unwrap()
    }

    fn restore(&self, record: &SnapshotRecord, options: RestoreOptions<'_>) -> Said {
        run(&self.repo.repository, record, options).unwrap()
    }

    /// As a dry run first, which must change nothing and say the same.
    fn restore_foretold(
        &self,
        record: &SnapshotRecord,
        options: impl Fn() -> RestoreOptions<'static>,
    ) -> Said {
        let before = tree(&self.target(""));
        let dry = self.restore(record, RestoreOptions { dry_run: true, ..options() });
        assert!(tree(&self.target("")) == before, "a dry run changed something");
        let done = self.restore(record, options());
        assert_eq!(dry.changes, done.changes);
        let foretold = RestoreReport { owners_refused: done.report.owners_refused, ..dry.report };
        assert_eq!(foretold, RestoreReport { verified: 0, ..done.report });
        assert_eq!(dry.problems, done.problems);
        done
    }
}

fn run(
    repository: &Arc<Repository>,
    record: &SnapshotRecord,
    options: RestoreOptions<'_>,
) -> Result<Said, OpsError> {
    let changes = Mutex::new(Vec::new());
    let tell = |change: &Change<'_>| {
        changes.lock().unwrap().push((change.path.to_vec(), change.action, change.bytes));
    };
    let silent = Silent::default();
    let options = RestoreOptions { on_change: Some(&tell), ..options };
    let report = restore(repository, record, &options, &silent)?;
    let mut changes = changes.into_inner().unwrap();
    changes.sort();
    Ok(Said { report, changes, problems: silent.problems() })
}

impl Said {
    /// The paths that this became of.
    fn paths(&self, action: Action) -> Vec<String> {
        let paths = self.changes.iter().filter(|(_, a, _)| *a == action);
        paths.map(|(path, ..)| String::from_utf8_lossy(path).into_owned()).collect()
    }

    #[track_caller]
    fn assert_whole(&self) {
        assert!(self.problems.is_empty(), "{:?}", self.problems);
        assert_eq!((self.report.problems, self.report.damage), (0, 0));
    }
}

fn raw(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|text| Pattern::parse(text.as_bytes()).unwrap()).collect()
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    SeededWorld::new(seed, Time::default()).random(&mut bytes);
    bytes
}

/// What can be seen of something, but for what no restore can bring back.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    device: u64,
    links: u64,
    content: Vec<u8>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The first name of the same inode.
    first: Vec<u8>,
}

/// Everything below a directory, by path; empty if it is not there.
fn tree(root: &Path) -> BTreeMap<Vec<u8>, Seen> {
    let mut all = BTreeMap::new();
    let mut firsts = BTreeMap::new();
    let mut pending = vec![(root.to_path_buf(), Vec::new())];
    while let Some((directory, path)) = pending.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        for name in names {
            let mut path = path.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name.as_bytes());
            let full = directory.join(&name);
            let seen = seen(&full, &path, &mut firsts);
            if seen.mode & 0o170000 == 0o040000 {
                pending.push((full, path.clone()));
            }
            all.insert(path, seen);
        }
    }
    // In order of paths the first name of a group is the same everywhere.
    let mut first_names = BTreeMap::new();
    for (path, seen) in &mut all {
        let first: &Vec<u8> = first_names.entry(seen.first.clone()).or_insert(path.clone());
        seen.first = first.clone();
    }
    all
}

fn seen(path: &Path, below: &[u8], firsts: &mut BTreeMap<u64, Vec<u8>>) -> Seen {
    let stat = fs::symlink_metadata(path).unwrap();
    let content = match stat.file_type() {
        kind if kind.is_file() => fs::read(path).unwrap_or_default(),
        kind if kind.is_symlink() => raw(&fs::read_link(path).unwrap()),
        _ => Vec::new(),
    };
    let directory = stat.is_dir();
    Seen {
        mode: stat.mode(),
        owner: (stat.uid(), stat.gid()),
        mtime: (stat.mtime(), stat.mtime_nsec()),
        device: stat.rdev(),
        links: if directory { 1 } else { stat.nlink() },
        content,
        xattrs: xattrs(path),
        first: firsts.entry(stat.ino()).or_insert(below.to_vec()).clone(),
    }
}

fn xattrs(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut names = vec![0; 65_536];
    let len = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    let mut all: Vec<_> = names[..len]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 65_536];
            let len = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap_or(0);
            value.truncate(len);
            (name.to_vec(), value)
        })
        .collect();
    all.sort();
    all
}

#[track_caller]
fn assert_same_tree(a: &Path, b: &Path) {
    let (a, b) = (tree(a), tree(b));
    let name = |path: &Vec<u8>| String::from_utf8_lossy(path).into_owned();
    assert_eq!(a.keys().map(name).collect::<Vec<_>>(), b.keys().map(name).collect::<Vec<_>>());
    for (path, left) in &a {
        let right = &b[path];
        assert!(left.content == right.content, "content of {}", name(path));
        let rest = |seen: &Seen| Seen { content: Vec::new(), ..seen.clone() };
        assert_eq!(rest(left), rest(right), "{}", name(path));
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What the machine refuses is said by name, and is no excuse where everything must run.
fn cannot(what: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{what} is not possible here");
    eprintln!("not tested, for it is not possible here: {what}");
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn set_mtime(path: &Path, seconds: u64) {
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(seconds, 123_456_789);
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

/// Something of every kind, some of it in several chunks and frames.
fn fill(place: &Place) {
    let path = |name: &str| place.source(name);
    fs::create_dir_all(path("a/deep/er")).unwrap();
    fs::create_dir_all(path("empty")).unwrap();
    for (number, len) in [0, 1, 4096, 50_000, 300_000].into_iter().enumerate() {
        fs::write(path(&format!("a/file-{number}")), noise(number as u64, len)).unwrap();
    }
    for number in 0..60 {
        fs::write(path(&format!("a/deep/er/small-{number}")), format!("{number}")).unwrap();
    }
    fs::write(path("same-again"), noise(4, 300_000)).unwrap();
    fs::write(path("zeros"), vec![0; 200_000]).unwrap();
    let sparse = fs::File::create(path("sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    sparse.write_all_at(&noise(9, 70_000), 1 << 20).unwrap();
    fs::File::create(path("hole")).unwrap().set_len(1 << 20).unwrap();
    symlink("nowhere", path("link")).unwrap();
    fs::write(path("linked-0"), noise(5, 20_000)).unwrap();
    fs::hard_link(path("linked-0"), path("a/deep/linked-1")).unwrap();
    fs::hard_link(path("linked-0"), path("linked-2")).unwrap();
    fs::write(place.source("").join(OsStr::from_bytes(b"odd\xff\n")), "odd").unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o640),
        0,
    )
    .unwrap();
    let value = rustix::fs::XattrFlags::empty();
    let _ = rustix::fs::setxattr(path("a/file-1"), "user.holdall", b"value\0", value);
    set_mode(&path("a/file-2"), 0o4751);
    set_mode(&path("a/file-3"), 0o000);
    set_mtime(&path("linked-0"), 1_000_000_000);
    set_mtime(&path("a/deep"), 1_100_000_000);
    set_mode(&path("a/deep"), 0o1777);
}
