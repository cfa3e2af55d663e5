//! Backups of living trees.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use holdall::format::frame::ChunkKind;
use holdall::format::pack::pack_of_key;
use holdall::format::session::Purpose;
use holdall::format::snapshot::Outcome;
use holdall::format::tree::{Entry, EntryKind, Ref, Refs};
use holdall::ops::OpsError;
use holdall::ops::backup::{BackupOptions, BackupReport, Input, Parent, Stream, backup};
use holdall::pack::read_trailer;
use holdall::progress::Silent;
use holdall::repo::{ChunkReader, CreateOptions, Repository, Session};
use holdall::source::Excludes;
use holdall::storage::MemoryStorage;
use holdall::tree::TreeReader;

use crate::support::repository::TestRepo;
use crate::support::snapshots::snapshot;
use crate::support::storages::keys;

fn run(repository: &Arc<Repository>, paths: &[&Path]) -> BackupReport {
    run_with(repository, paths, &BackupOptions::default()).unwrap()
}

fn run_with(
    repository: &Arc<Repository>,
    paths: &[&Path],
    options: &BackupOptions,
) -> Result<BackupReport, OpsError> {
    let paths = paths.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect();
    backup(repository, Input::Paths(paths), options, &Silent::default())
}

/// Everything in a snapshot, by path.
fn entries(repository: &Arc<Repository>, report: &BackupReport) -> BTreeMap<Vec<u8>, Entry> {
    fn collect(
        trees: &TreeReader,
        listing: &Refs,
        path: &[u8],
        all: &mut BTreeMap<Vec<u8>, Entry>,
    ) {
        for entry in trees.entries(listing) {
            let entry = entry.unwrap();
            let path = [path, b"/", &entry.name].concat();
            if let EntryKind::Directory { listing } = &entry.kind {
                collect(trees, listing, &path, all);
            }
            assert!(all.insert(path, entry).is_none());
        }
    }
    let mut all = BTreeMap::new();
    let root = &report.record.as_ref().unwrap().snapshot.root;
    collect(&TreeReader::new(repository), root, b"", &mut all);
    all
}

fn content(repository: &Arc<Repository>, entry: &Entry) -> Vec<u8> {
    let EntryKind::File { content, .. } = &entry.kind else { panic!("{entry:?} is no file") };
    let chunks = ChunkReader::new(repository, 1 << 20);
    let mut bytes = Vec::new();
    for leaf in TreeReader::new(repository).leaves(content) {
        match leaf.unwrap() {
            Ref::Hole { len } => bytes.resize(bytes.len() + len as usize, 0),
            Ref::Chunk { id, .. } => {
                bytes.extend_from_slice(chunks.read(ChunkKind::Data, &id).unwrap().bytes());
            }
        }
    }
    bytes
}

fn at<'a>(all: &'a BTreeMap<Vec<u8>, Entry>, path: &Path) -> &'a Entry {
    all.get(path.as_os_str().as_bytes()).unwrap_or_else(|| panic!("{path:?} is missing"))
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    use holdall::world::{SeededWorld, Time, World};
    let mut bytes = vec![0; len];
    SeededWorld::new(seed, Time::default()).random(&mut bytes);
    bytes
}

/// What the directories above the source may add: others write to them while a test runs.
const TOP: u64 = 2_000;

/// Makes the tree look old, so that its files count as settled.
fn settle(repo: &TestRepo) {
    repo.world.set_now(holdall::world::Time::from_seconds(4_000_000_000));
}

#[test]
fn contents_of_all_sizes_and_kinds_come_back() {
    let (source, repo) = (tempfile::tempdir().unwrap(), TestRepo::memory());
    let path = |name: &str| source.path().join(name);
    fs::create_dir_all(path("a/deep/er")).unwrap();
    for (number, len) in [0, 1, 4095, 4096, 100_000, 1 << 20, 5_000_000].into_iter().enumerate() {
        fs::write(path(&format!("a/file-{number}")), noise(number as u64, len)).unwrap();
    }
    for number in 0..600 {
        fs::write(path(&format!("a/deep/er/small-{number}")), format!("{number}")).unwrap();
    }
    let sparse = fs::File::create(path("sparse")).unwrap();
    sparse.set_len(10 << 20).unwrap();
    sparse.write_all_at(b"in the middle", 5 << 20).unwrap();
    symlink("nowhere", path("link")).unwrap();
    fs::write(source.path().join(std::ffi::OsStr::from_bytes(b"odd\xff\n")), "odd").unwrap();
    let report = run(&repo.repository, &[source.path()]);
    assert_eq!(report.record.as_ref().unwrap().snapshot.outcome, Outcome::Complete);
    let all = entries(&repo.repository, &report);
    assert_eq!(report.statistics.files, 609);
    for (found, entry) in all.iter().filter(|(_, e)| matches!(e.kind, EntryKind::File { .. })) {
        let live = fs::read(std::ffi::OsStr::from_bytes(found)).unwrap();
        assert!(content(&repo.repository, entry) == live, "{found:?}");
    }
    let EntryKind::File { content, .. } = &at(&all, &path("sparse")).kind else { panic!() };
    assert!(content.refs.iter().filter(|r| matches!(r, Ref::Hole { .. })).count() == 2);
    let target = EntryKind::Symlink { target: b"nowhere".to_vec() };
    assert_eq!(at(&all, &path("link")).kind, target);
    let stat = fs::metadata(path("a/deep")).unwrap();
    assert_eq!(at(&all, &path("a/deep")).metadata.mtime.seconds, stat.mtime());
}

#[test]
fn a_file_with_several_names_is_read_once() {
    let (source, repo) = (tempfile::tempdir().unwrap(), TestRepo::memory());
    let path = |name: &str| source.path().join(name);
    fs::create_dir(path("below")).unwrap();
    for (name, len) in [("large", 3_000_000), ("small", 5_000), ("empty", 0)] {
        fs::write(path(name), noise(len, len as usize)).unwrap();
        for other in ["0", "1", "z"] {
            fs::hard_link(path(name), path(&format!("{name}-{other}"))).unwrap();
        }
        fs::hard_link(path(name), path(&format!("below/{name}"))).unwrap();
    }
    settle(&repo);
    let report = run(&repo.repository, &[source.path()]);
    assert_eq!(report.statistics.bytes_read, 3_005_000);
    assert_eq!(report.statistics.bytes, 5 * 3_005_000);
    assert_eq!(report.statistics.files, 15);
    let all = entries(&repo.repository, &report);
    for (found, entry) in all.iter().filter(|(_, e)| matches!(e.kind, EntryKind::File { .. })) {
        let live = Path::new(std::ffi::OsStr::from_bytes(found));
        assert!(content(&repo.repository, entry) == fs::read(live).unwrap(), "{live:?}");
        assert_eq!(entry.metadata.links, 5);
    }
    let again = run(&repo.reopen(), &[source.path()]);
    assert_eq!((again.statistics.files_unchanged, again.statistics.bytes_read), (15, 0));
    // One more name gives all of them another ctime.
    fs::hard_link(path("large"), path("below/another")).unwrap();
    let third = run(&repo.reopen(), &[source.path()]);
    assert_eq!(third.statistics.files_unchanged, 15);
    assert_eq!(third.statistics.bytes_read, 3_000_000);
    assert!(third.statistics.bytes_new < TOP, "{}", third.statistics.bytes_new);
}

#[test]
fn the_second_run_reads_and_stores_only_what_changed() {
    let (source, repo) = (tempfile::tempdir().unwrap(), TestRepo::memory());
    let path = |name: &str| source.path().join(name);
    for directory in ["same", "other/below", "empty"] {
        fs::create_dir_all(path(directory)).unwrap();
    }
    for number in 0..200 {
        fs::write(path(&format!("same/{number}")), noise(number, 3000)).unwrap();
        fs::write(path(&format!("other/below/{number}")), noise(1000 + number, 3000)).unwrap();
    }
    settle(&repo);
    let first = run(&repo.repository, &[source.path()]);
    let again = run(&repo.reopen(), &[source.path()]);
    assert_eq!(again.parent, first.record.as_ref().map(|record| record.id));
    assert_eq!(again.statistics.files_unchanged, 400);
    assert_eq!(again.statistics.bytes_read, 0);
    assert!(again.statistics.bytes_new < TOP, "{}", again.statistics.bytes_new);
    assert_eq!(again.statistics.files, first.statistics.files);
    assert_eq!(again.statistics.directories, first.statistics.directories);
    assert_eq!(again.statistics.bytes, first.statistics.bytes);
    let source_of = |report| at(&entries(&repo.repository, report), source.path()).clone();
    assert_eq!(source_of(&again), source_of(&first));
    fs::write(path("other/below/7"), "changed").unwrap();
    fs::remove_file(path("other/below/8")).unwrap();
    fs::write(path("empty/new"), "new").unwrap();
    let third = run(&repo.reopen(), &[source.path()]);
    let counts = third.statistics;
    assert_eq!((counts.files_new, counts.files_changed, counts.files_unchanged), (1, 1, 398));
    assert_eq!(counts.bytes_read, 10);
    let all = entries(&repo.repository, &third);
    assert!(!all.contains_key(path("other/below/8").as_os_str().as_bytes()));
    assert_eq!(content(&repo.repository, at(&all, &path("other/below/7"))), b"changed");
    assert_eq!(content(&repo.repository, at(&all, &path("same/7"))), noise(7, 3000));
}

#[test]
fn what_was_removed_or_excluded_since_is_gone_wherever_it_was() {
    for removed in ["a", "m", "z"] {
        for exclude in [false, true] {
            let (source, repo) = (tempfile::tempdir().unwrap(), TestRepo::memory());
            for name in ["a", "b", "m", "x", "z"] {
                fs::write(source.path().join(name), name).unwrap();
            }
            settle(&repo);
            run(&repo.repository, &[source.path()]);
            let mut options = BackupOptions::default();
            match exclude {
                true => options.excludes.add_pattern(removed.as_bytes()).unwrap(),
                false => fs::remove_file(source.path().join(removed)).unwrap(),
            }
            let second = run_with(&repo.repository, &[source.path()], &options).unwrap();
            let all = entries(&repo.repository, &second);
            for name in ["a", "b", "m", "x", "z"] {
                let there = all.contains_key(source.path().join(name).as_os_str().as_bytes());
                assert_eq!(there, name != removed, "{name} of {removed}, {exclude}");
            }
            assert_eq!(second.statistics.files_unchanged, 4);
        }
    }
}

#[test]
fn a_file_that_changed_a_moment_ago_is_read_again() {
    let (source, repo) = (tempfile::tempdir().unwrap(), TestRepo::memory());
    fs::write(source.path().join("file"), "one").unwrap();
    let stat = fs::metadata(source.path().join("file")).unwrap();
    repo.world.set_now(holdall::world::Time::from_seconds(stat.ctime()));
    run(&repo.repository, &[source.path()]);
    let second = run(&repo.repository, &[source.path()]);
    assert_eq!((second.statistics.files_unchanged, second.statistics.bytes_read), (1, 3));
    fs::write(source.path().join("file"), "two").unwrap();
    let third = run(&repo.repository, &[source.path()]);
    assert_eq!((third.statistics.files_changed, third.statistics.bytes_read), (1, 3));
}

#[test]
fn a_change_that_keeps_size_and_mtime_is_seen_by_ctime() {
    let (source, repo) = (tempfile::tempdir().unwrap(), TestRepo::memory());
    let path = source.path().join("file");
    fs::write(&path, "one").unwrap();
    let mtime = fs::metadata(&path).unwrap().modified().unwrap();
    settle(&repo);
    run(&repo.repository, &[source.path()]);
    fs::write(&path, "two").unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(mtime).unwrap();
    let second = run(&repo.repository, &[source.path()]);
    assert_eq!(content(&repo.repository, at(&entries(&repo.repository, &second), &path)), b"two");
}

#[test]
fn excludes_several_paths_and_what_lies_between() {
    let (source, repo) = (tempfile::tempdir().unwrap(), TestRepo::memory());
    let path = |name: &str| source.path().join(name);
    for directory in ["a/keep", "a/skip", "b", "not-asked-for"] {
        fs::create_dir_all(path(directory)).unwrap();
        fs::write(path(directory).join("file"), directory).unwrap();
    }
    fs::set_permissions(source.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let mut excludes = Excludes::new();
    excludes.add_pattern(b"skip").unwrap();
    let options = BackupOptions { excludes, ..BackupOptions::default() };
    let (a, b) = (path("a"), path("b"));
    let report = run_with(&repo.repository, &[&b, &a], &options).unwrap();
    let all = entries(&repo.repository, &report);
    let has = |name: &str| all.contains_key(path(name).as_os_str().as_bytes());
    assert!(has("a/keep/file") && has("b/file") && has("a"));
    assert!(!has("a/skip") && !has("not-asked-for"));
    assert_eq!(at(&all, source.path()).metadata.mode, 0o711);
    // The order of paths does not hide the parent, and dry runs leave nothing behind.
    let before = crate::support::storages::keys(&*repo.storage, "");
    let dry = BackupOptions { dry_run: true, ..BackupOptions::default() };
    let report = run_with(&repo.repository, &[&path("not-asked-for")], &dry).unwrap();
    assert!(report.record.is_none() && report.statistics.bytes_new > 0);
    assert_eq!(crate::support::storages::keys(&*repo.storage, ""), before);
}

#[test]
fn missing_paths_make_it_partial_or_fail() {
    let (source, repo) = (tempfile::tempdir().unwrap(), TestRepo::memory());
    fs::write(source.path().join("file"), "x").unwrap();
    let missing = Path::new("/no/such/path");
    let report = run(&repo.repository, &[source.path(), missing]);
    let snapshot = &report.record.as_ref().unwrap().snapshot;
    assert_eq!(snapshot.outcome, Outcome::Partial);
    assert_eq!(snapshot.problems[0].path, b"/no/such/path");
    let before = crate::support::storages::keys(&*repo.storage, "");
    let error = run_with(&repo.repository, &[missing], &BackupOptions::default()).unwrap_err();
    assert!(matches!(error, OpsError::Source { .. }), "{error}");
    assert_eq!(crate::support::storages::keys(&*repo.storage, ""), before, "nothing is left");
}

#[test]
fn streams_become_a_file_unless_their_command_fails() {
    let repo = TestRepo::memory();
    let bytes = noise(1, 3_000_000);
    let stream = |finish: Result<(), String>| {
        let reader = Box::new(std::io::Cursor::new(bytes.clone()));
        let finish: holdall::ops::backup::Finish = Box::new(|| finish);
        Input::Stream(Stream { name: b"dump.sql".to_vec(), reader, finish: Some(finish) })
    };
    let options = BackupOptions::default();
    let report = backup(&repo.repository, stream(Ok(())), &options, &Silent::default()).unwrap();
    let all = entries(&repo.repository, &report);
    assert_eq!(content(&repo.repository, at(&all, Path::new("/dump.sql"))), bytes);
    let failed =
        backup(&repo.repository, stream(Err("exit 1".into())), &options, &Silent::default());
    assert!(matches!(failed, Err(OpsError::Source { .. })));
    assert_eq!(repo.repository.counted().unwrap().len(), 1);
}

#[test]
fn thousands_of_levels_and_a_hundred_thousand_names() {
    let (source, repo) = (tempfile::tempdir().unwrap(), TestRepo::memory());
    for number in 0..20_000 {
        fs::write(source.path().join(format!("{number}")), "").unwrap();
    }
    let mut directory = rustix::fs::open(
        source.path(),
        rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::RDONLY,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    for _ in 0..3000 {
        rustix::fs::mkdirat(&directory, "deep", rustix::fs::Mode::RWXU).unwrap();
        directory = rustix::fs::openat(
            &directory,
            "deep",
            rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::RDONLY,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
    }
    settle(&repo);
    let report = run(&repo.repository, &[source.path()]);
    assert_eq!((report.statistics.files, report.problem_count), (20_000, 0));
    assert!(report.statistics.directories > 3000);
    let again = run(&repo.repository, &[source.path()]);
    assert!(again.statistics.bytes_new < TOP, "{}", again.statistics.bytes_new);
    assert_eq!(again.statistics.directories, report.statistics.directories);
    // The standard library removes a tree by paths, which are too long here.
    let removed = std::process::Command::new("rm").arg("-rf").arg(source.path()).status();
    assert!(removed.unwrap().success());
}

#[test]
fn a_cancelled_run_leaves_no_session_and_what_it_stored_is_used() {
    let (source, repo) = (tempfile::tempdir().unwrap(), TestRepo::memory());
    fs::write(source.path().join("file"), noise(1, 500_000)).unwrap();
    let progress = Silent::default();
    progress.cancel.store(true, std::sync::atomic::Ordering::Relaxed);
    let paths = vec![source.path().as_os_str().as_bytes().to_vec()];
    let options = BackupOptions { parent: Parent::None, ..BackupOptions::default() };
    let result = backup(&repo.repository, Input::Paths(paths), &options, &progress);
    assert!(matches!(result, Err(OpsError::Cancelled)));
    assert!(repo.repository.list_sessions().unwrap().is_empty());
    run(&repo.repository, &[source.path()]);
}

/// One random change to a tree; `number` decides which.
fn edit(root: &Path, random: &mut impl FnMut(u64) -> u64) {
    let directory = match random(3) {
        0 => root.to_path_buf(),
        n => root.join(format!("d{}", random(3))).join(if n == 1 { "" } else { "below" }),
    };
    fs::create_dir_all(&directory).unwrap();
    let name = directory.join(format!("f{}", random(9)));
    let other = directory.join(format!("f{}", random(9)));
    match random(7) {
        0..3 => fs::write(&name, noise(random(1000), random(20_000) as usize)).unwrap(),
        // What is not there cannot be removed, renamed or changed, and that is fine here.
        3 => _ = fs::remove_file(&name),
        4 => _ = fs::rename(&name, &other),
        5 => {
            _ = fs::set_permissions(
                &name,
                fs::Permissions::from_mode(0o600 + random(2) as u32 * 0o40),
            )
        }
        _ => _ = fs::remove_dir_all(root.join(format!("d{}", random(3))).join("below")),
    }
}

/// Names, modes and contents of a live tree, by path.
fn live(path: &Path, all: &mut BTreeMap<Vec<u8>, (u32, Option<Vec<u8>>)>) {
    let stat = fs::symlink_metadata(path).unwrap();
    let content = stat.is_file().then(|| fs::read(path).unwrap());
    all.insert(path.as_os_str().as_bytes().to_vec(), (stat.mode() & 0o7777, content));
    if stat.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| live(&entry.unwrap().path(), all));
    }
}

#[test]
fn after_any_edits_an_incremental_snapshot_is_the_live_tree() {
    for seed in 0..6u64 {
        let (source, repo) = (tempfile::tempdir().unwrap(), TestRepo::memory());
        let mut state = seed;
        let mut random = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        settle(&repo);
        for round in 0..12 {
            (0..1 + random(6)).for_each(|_| edit(source.path(), &mut random));
            let report = run(&repo.repository, &[source.path()]);
            let mut expected = BTreeMap::new();
            live(source.path(), &mut expected);
            let all = entries(&repo.repository, &report);
            let stored: BTreeMap<_, _> = all
                .iter()
                .filter(|(path, _)| path.starts_with(source.path().as_os_str().as_bytes()))
                .map(|(path, entry)| {
                    let is_file = matches!(entry.kind, EntryKind::File { .. });
                    let bytes = is_file.then(|| content(&repo.repository, entry));
                    (path.clone(), (entry.metadata.mode, bytes))
                })
                .collect();
            assert!(stored == expected, "seed {seed}, round {round}");
        }
    }
}

#[test]
fn more_than_a_snapshot_or_a_note_holds_is_refused_before_anything_is_stored() {
    let (source, repo) = (tempfile::tempdir().unwrap(), TestRepo::memory());
    let before = crate::support::storages::keys(&*repo.storage, "");
    let tags = vec!["t".to_owned(); holdall::limits::LIST_MAX + 1];
    let description = "d".repeat(holdall::limits::TEXT_LEN_MAX + 1);
    for options in [
        BackupOptions { tags: tags.clone(), ..BackupOptions::default() },
        BackupOptions { description, ..BackupOptions::default() },
    ] {
        let refused = run_with(&repo.repository, &[source.path()], &options).unwrap_err();
        assert!(refused.to_string().contains("over the limit"), "{refused}");
    }
    assert_eq!(crate::support::storages::keys(&*repo.storage, ""), before);
    let record = run(&repo.repository, &[source.path()]).record.unwrap();
    let before = crate::support::storages::keys(&*repo.storage, "");
    repo.repository.annotate(&record, |note| note.tags = tags).unwrap_err();
    assert_eq!(crate::support::storages::keys(&*repo.storage, ""), before);
}

#[test]
fn an_unchanged_directory_keeps_its_attributes_and_a_changed_one_shows_them() {
    use rustix::fs::{XattrFlags, lsetxattr};
    let (source, repo) = (tempfile::tempdir().unwrap(), TestRepo::memory());
    let path = |name: &str| source.path().join(name);
    for directory in ["same", "other", "bits"] {
        fs::create_dir(path(directory)).unwrap();
        fs::write(path(&format!("{directory}/file")), directory).unwrap();
        lsetxattr(path(directory), "user.a", b"1", XattrFlags::empty()).unwrap();
    }
    settle(&repo);
    run(&repo.repository, &[source.path()]);
    // Neither changes a time that people see, nor anything below.
    lsetxattr(path("other"), "user.a", b"2", XattrFlags::empty()).unwrap();
    fs::set_permissions(path("bits"), fs::Permissions::from_mode(0o700)).unwrap();
    let report = run(&repo.reopen(), &[source.path()]);
    assert_eq!(report.statistics.files_unchanged, 3);
    let all = entries(&repo.repository, &report);
    let of = |name: &str| {
        let metadata = &at(&all, &path(name)).metadata;
        let value = metadata.xattrs.iter().find(|x| x.name == b"user.a").unwrap().value.clone();
        (metadata.mode, value)
    };
    assert_eq!(of("same").1, b"1");
    assert_eq!(of("other").1, b"2");
    assert_eq!(of("bits"), (0o700, b"1".to_vec()));
}

#[test]
fn a_directory_that_changed_a_moment_ago_is_looked_at_again() {
    let (source, repo) = (tempfile::tempdir().unwrap(), TestRepo::memory());
    fs::create_dir(source.path().join("directory")).unwrap();
    // Now, for the repository: the time of the directory's last change may still be given again.
    let stat = fs::metadata(source.path().join("directory")).unwrap();
    repo.world.set_now(holdall::world::Time::from_seconds(stat.ctime()));
    let report = run(&repo.repository, &[source.path()]);
    let all = entries(&repo.repository, &report);
    let stored = &at(&all, &source.path().join("directory")).metadata;
    assert_eq!(stored.ctime, holdall::world::Time::default());
}

/// However little room they take once they are compressed: what a pack holds is kept in memory
/// until it is stored, and its trailer has a greatest length.
#[test]
fn a_pack_takes_a_bounded_number_of_chunks() {
    let storage = Arc::new(MemoryStorage::new());
    let repo = TestRepo::create(storage.clone(), &CreateOptions::default(), 1);
    let mut session = Session::begin(&repo.repository, Purpose::Backup, None).unwrap();
    let count = 150_000u64;
    for number in 0..count {
        let plain = number.to_le_bytes();
        let id = repo.repository.keys().data_id(&plain);
        session.add(ChunkKind::Data, id, &plain).unwrap();
    }
    session.commit(snapshot(Refs::default())).unwrap();
    let mut chunks = Vec::new();
    for key in keys(&*storage, "packs/") {
        let id = pack_of_key(&key).unwrap();
        let info = read_trailer(&*storage, repo.repository.sealer(), &id).unwrap();
        chunks.push(info.trailer.frames.iter().map(|frame| frame.chunks.len() as u64).sum::<u64>());
    }
    assert_eq!(chunks.iter().sum::<u64>(), count);
    assert!(chunks.iter().all(|chunks| *chunks < 2 * 65_536), "{chunks:?}");
}
