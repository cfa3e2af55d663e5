//! Somebody who puts links in the place of folders and files while they are written and read.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use holdall::ops::backup::{BackupOptions, Input, backup};
use rustix::fs::{Mode, OFlags, RenameFlags, ResolveFlags, renameat_with};

use super::*;

/// Each run is another chance to be caught.
const RUNS: usize = 25;
const SWAPS_MIN: u64 = 2_000;

/// What is exchanged for links: folders, what is in them, and files.
const SWAPPED: [&str; 5] = ["d", "d/e", "d/e/g", "d/f", "d/e/g/f"];

/// Puts links to `aim` in the place of what is below `root`, and takes them away, again and again
/// until `work` was done often enough.
fn while_swapping(place: &Path, root: &str, aim: &str, mut work: impl FnMut(usize)) {
    let (end, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
    let handle = |name: &str| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(place.join(name), flags, Mode::empty()).unwrap()
    };
    fs::create_dir(place.join("links")).unwrap();
    let (root, links) = (handle(root), handle("links"));
    for (number, name) in SWAPPED.iter().enumerate() {
        let link = place.join("links").join(number.to_string());
        symlink(place.join(aim).join(name), link).unwrap();
    }
    // The swapper itself must not go through the links: it would stir up what is outside.
    let swap = |number: usize, name: &str| {
        let (above, name) = name.rsplit_once('/').unwrap_or((".", name));
        let (flags, never) = (OFlags::PATH | OFlags::CLOEXEC, ResolveFlags::NO_SYMLINKS);
        let folder = rustix::fs::openat2(&root, above, flags, Mode::empty(), never)?;
        renameat_with(&folder, name, &links, number.to_string(), RenameFlags::EXCHANGE)
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !end.load(Ordering::Relaxed) {
                for (number, name) in SWAPPED.iter().enumerate() {
                    swaps.fetch_add(u64::from(swap(number, name).is_ok()), Ordering::Relaxed);
                }
            }
        });
        // The other thread ends also when this one panics.
        let stop = Stop(&end);
        let mut runs = 0;
        while runs < RUNS || swaps.load(Ordering::Relaxed) < SWAPS_MIN {
            work(runs);
            runs += 1;
        }
        drop(stop);
    });
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A path, when its inode was changed, its mode, its content.
type State = (PathBuf, (i64, i64), u32, Vec<u8>);

/// All that could tell of a change: `ctime` cannot be set by anyone.
fn state(root: &Path) -> Vec<State> {
    let (mut all, mut waiting) = (Vec::new(), vec![root.to_owned()]);
    while let Some(path) = waiting.pop() {
        let about = fs::symlink_metadata(&path).unwrap();
        let content = if about.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        if about.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        all.push((path, (about.ctime(), about.ctime_nsec()), about.mode(), content));
    }
    all.sort();
    all
}

/// The same names everywhere, so that a way that leads elsewhere finds what it looks for.
fn fill(root: &Path, content: &str) {
    fs::create_dir_all(root.join("d/e/g")).unwrap();
    for name in ["d/f", "d/e/f", "d/e/g/f", "d/e/g/h"] {
        fs::write(root.join(name), format!("{content} {name}")).unwrap();
    }
}

#[test]
fn nothing_outside_is_touched_by_a_restore() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    fill(&path("outside"), "mine");
    let mut hostile = Hostile::new();
    let mut inside: Vec<Entry> = Vec::new();
    for (depth, name) in ["g", "e", "d"].into_iter().enumerate() {
        let mut entries: Vec<Entry> =
            inside.drain(..).chain([hostile.file(b"f", &[depth as u8; 5_000])]).collect();
        entries.extend((0..20).map(|n| hostile.file(format!("n{n}").as_bytes(), &[n; 100])));
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let mut directory = hostile.directory(name.as_bytes(), &entries);
        directory.metadata.mode = 0o700;
        inside = vec![directory];
    }
    let record = hostile.commit(&inside);
    let repo = hostile.finish();
    let target = path("target");
    fill(&target, "old");
    let before = state(&path("outside"));
    while_swapping(place.path(), "target", "outside", |run| {
        let options = RestoreOptions {
            target: target.clone(),
            overwrite: holdall::ops::restore::Overwrite::Always,
            delete: run % 2 == 1,
            verify: run % 3 == 1,
            in_place: run % 5 == 1,
            rollback: run % 5 == 2,
            ..RestoreOptions::default()
        };
        // It may fail, or end up anywhere that was once in the target; that is all.
        let _ = restore(&repo.repository, &record, &options, &Silent::default());
        assert!(state(&path("outside")) == before, "something outside was changed");
        if run % 7 == 6 {
            let _ =
                holdall::ops::restore::undo(&target, repo.repository.world(), &Silent::default());
            let _ = fs::create_dir_all(target.join("d/e/g"));
        }
    });
    assert!(state(&path("outside")) == before, "something outside was changed");
}

#[test]
fn nothing_outside_is_read_by_a_backup() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    fill(&path("source"), "ours");
    fill(&path("secret"), "somebody else's");
    let repo = TestRepo::memory();
    let secrets: Vec<_> = state(&path("secret"))
        .into_iter()
        .filter(|(.., content)| !content.is_empty())
        .map(|(.., content)| repo.repository.keys().data_id(&content))
        .collect();
    assert_eq!(secrets.len(), 4);
    while_swapping(place.path(), "source", "secret", |_| {
        let input = Input::Paths(vec![path("source").as_os_str().as_encoded_bytes().to_vec()]);
        let _ = backup(&repo.repository, input, &BackupOptions::default(), &Silent::default());
        repo.repository.refresh_index().unwrap();
        for id in &secrets {
            let found = repo.repository.with_index(|index| index.locations(id)).unwrap().unwrap();
            assert!(found.is_empty(), "what is not in the source was stored");
        }
    });
    // The test would see it.
    let input = Input::Paths(vec![path("secret").as_os_str().as_encoded_bytes().to_vec()]);
    backup(&repo.repository, input, &BackupOptions::default(), &Silent::default()).unwrap();
    for id in &secrets {
        let found = repo.repository.with_index(|index| index.locations(id)).unwrap().unwrap();
        assert_eq!(found.len(), 1);
    }
}
