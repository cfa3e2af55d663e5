use std::time::{Duration, Instant};

use crate::dir::{Dir, fields, text};

fn some(dir: &Dir) {
    dir.write("a/file", [7; 5000]);
    dir.write("b/file", [8; 90]);
    for (time, host, tags, path) in [
        ("2026-01-01 10:00", "one", "x,y", "a"),
        ("2026-01-02 10:00", "two", "x", "a"),
        ("2026-01-03 10:00", "one", "", "b"),
        ("2026-01-04 10:00Z", "one", "y", "a"),
    ] {
        let about = ["--time", time, "--host", host, "--tag", tags];
        dir.run([&["-q", "backup", path], &about[..]].concat()).ok();
    }
}

fn days(dir: &Dir, args: &[&str]) -> Vec<String> {
    let lines = dir.json([&["--json", "snapshots"], args].concat());
    let snapshots = lines.iter().filter(|line| line["type"] == "snapshot");
    snapshots.map(|line| text(&line["time"])[8..10].to_owned()).collect()
}

#[test]
fn the_table_shows_what_matters() {
    let dir = Dir::with_repository();
    some(&dir);
    let ran = dir.run(["snapshots"]).ok();
    let hidden = |line: &str| line.get(8..).unwrap().to_owned();
    let lines: Vec<String> = ran.stdout.lines().map(hidden).collect();
    let (a, b) = (dir.work("a"), dir.work("b"));
    assert_eq!(
        lines[0].trim(),
        "Time                       Host  Tags     Size  Outcome   Verified  Paths"
    );
    assert_eq!(
        lines[1],
        format!(
            "  2026-01-01 10:00:00+00:00  one   x,y   4.9 KiB  complete  -         {}",
            a.display()
        )
    );
    assert_eq!(
        lines[3],
        format!(
            "  2026-01-03 10:00:00+00:00  one            90 B  complete  -         {}",
            b.display()
        )
    );
    assert_eq!(ran.stderr, "4 snapshots\n");
    let tokyo = dir.run(["snapshots", "--timezone", "Asia/Tokyo", "latest"]).ok().stdout;
    assert!(tokyo.contains("2026-01-04 19:00:00+09:00"), "{tokyo}");
    dir.run(["snapshots", "--timezone", "Nowhere/Else"]).fails(2, &["Nowhere/Else"]);
}

#[test]
fn filters_and_order() {
    let dir = Dir::with_repository();
    some(&dir);
    assert_eq!(days(&dir, &[]), ["01", "02", "03", "04"]);
    assert_eq!(days(&dir, &["--host", "one"]), ["01", "03", "04"]);
    assert_eq!(days(&dir, &["--host", "one", "--host", "two"]).len(), 4);
    assert_eq!(days(&dir, &["--tag", "x,y"]), ["01"]);
    assert_eq!(days(&dir, &["--tag", "x", "--tag", "y"]), ["01", "02", "04"]);
    assert_eq!(days(&dir, &["--path", "b"]), ["03"]);
    assert_eq!(days(&dir, &["--path", "./a/../b/"]), ["03"]);
    assert_eq!(days(&dir, &["--latest", "2"]), ["03", "04"]);
    assert_eq!(days(&dir, &["--group-by", "host", "--latest", "1"]), ["04", "02"]);
    assert_eq!(days(&dir, &["--sort", "size", "--host", "one"]), ["03", "01", "04"]);
    assert_eq!(days(&dir, &["--after", "2026-01-03"]), ["03", "04"]);
    assert_eq!(days(&dir, &["--before", "2026-01-03T10:00:00Z"]), ["01", "02"]);
    assert_eq!(days(&dir, &["--kind", "scheduled"]).len(), 0);
    assert_eq!(days(&dir, &["latest~1"]), ["03"]);
    assert_eq!(days(&dir, &["latest", "--host", "two"]), ["02"]);
    dir.run(["snapshots", "--after", "soon"]).fails(2, &["\"soon\""]);
    dir.run(["snapshots", "--group-by", "colour"]).code(2);
}

#[test]
fn names_that_mean_none_or_several() {
    let dir = Dir::with_repository();
    some(&dir);
    dir.run(["snapshots", "latest~4"]).fails(1, &["only 4 fit", "holdall snapshots"]);
    dir.run(["snapshots", "zz\x1b[m"]).fails(1, &["\"zz\\e[m\""]);
    // Seventeen snapshots cannot all begin with digits of their own.
    (0..13).for_each(|_| drop(dir.run(["-q", "backup", "b"]).ok()));
    let ids = dir.json(["--json", "snapshots"]);
    let mut firsts: Vec<String> = ids.iter().map(|line| text(&line["id"])[..1].into()).collect();
    firsts.sort();
    let twice = firsts.windows(2).find(|pair| pair[0] == pair[1]).unwrap()[0].clone();
    dir.run(["snapshots", &twice]).fails(1, &["give more digits"]);
}

#[test]
fn the_shape_of_json() {
    let dir = Dir::with_repository();
    some(&dir);
    let lines = dir.json(["--json", "snapshots", "latest", "--group-by", "host,paths,tags,job"]);
    assert_eq!(fields(&lines[0]), ["host", "job", "paths", "snapshots", "tags", "type"]);
    assert_eq!(
        fields(&lines[1]),
        [
            "description",
            "expires",
            "host",
            "id",
            "job",
            "kind",
            "original",
            "outcome",
            "parent",
            "paths",
            "pinned",
            "problem_count",
            "program",
            "statistics",
            "tags",
            "time",
            "type",
            "user",
            "verified"
        ]
    );
    assert_eq!(
        fields(&lines[1]["statistics"]),
        [
            "bytes",
            "bytes_new",
            "bytes_read",
            "bytes_stored",
            "directories",
            "duration_ms",
            "files",
            "files_changed",
            "files_new",
            "files_unchanged",
            "others"
        ]
    );
}

#[test]
fn a_thousand_are_listed_at_once() {
    let dir = Dir::with_repository();
    dir.write("f", "x");
    // Objects of snapshots are made by the real thing once, and then by the library.
    many(&dir, 1_000);
    let began = Instant::now();
    let ran = dir.run(["snapshots"]).ok();
    let took = began.elapsed();
    assert_eq!(ran.stdout.lines().count(), 1_001);
    assert!(took < Duration::from_secs(1), "{took:?}");
}

fn many(dir: &Dir, count: usize) {
    use holdall::crypto::{KeyFile, Secret};
    use holdall::format::session::Purpose;
    use holdall::format::snapshot::Snapshot;
    use holdall::repo::{Environment, Repository, Session};
    use holdall::storage::LocalStorage;
    use std::sync::Arc;
    let key = KeyFile::from_text(&std::fs::read_to_string(dir.key_file()).unwrap()).unwrap();
    let environment = Environment {
        cache: dir.path("cache/holdall"),
        state: dir.path("state/holdall/repositories"),
        client: holdall::id::ClientId([1; 16]),
        host: "host".into(),
        user: "user".into(),
        process: 1,
        threads: 1,
    };
    let storage = Arc::new(LocalStorage::open(&dir.repository()).unwrap());
    let world = Arc::new(holdall::world::RealWorld);
    let secrets = [Secret::KeyFile(key)];
    let repository = Arc::new(Repository::open(storage, world, environment, &secrets).unwrap());
    for _ in 0..count {
        let session = Session::begin(&repository, Purpose::Backup, None).unwrap();
        session.commit(Snapshot::default()).unwrap();
    }
}
