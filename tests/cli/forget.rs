//! forget and prune.

use crate::dir::{Dir, fields, text};

/// Four snapshots of four days, each with a file that no other has.
fn four(dir: &Dir) -> Vec<String> {
    let one = |day: u8| {
        dir.write("d/file", vec![day; 100_000 + usize::from(day)]);
        let time = format!("2026-01-0{day} 10:00");
        let lines = dir.json(["--json", "backup", "d", "--time", &time]);
        text(&lines.last().unwrap()["snapshot"]["id"])
    };
    (1..=4).map(one).collect()
}

fn left(dir: &Dir) -> Vec<String> {
    dir.json(["--json", "snapshots"]).iter().map(|line| text(&line["id"])).collect()
}

#[test]
fn nothing_goes_without_being_asked() {
    let dir = Dir::with_repository();
    let ids = four(&dir);
    dir.run(["forget"]).fails(2, &["neither snapshots are named", "--dry-run"]);
    dir.run(["forget", "--prune"]).fails(2, &["neither"]);
    dir.run(["forget", "--keep-last", "0"]).fails(2, &["keeps nothing"]);
    dir.run(["forget", "--host", "vm"]).fails(2, &["neither"]);
    dir.run(["forget", "--keep-last", "some"]).code(2);
    dir.run(["forget", "--keep-within", "3x"]).code(2);
    dir.run(["forget", "zz"]).fails(1, &["no snapshot \"zz\""]);
    dir.run(["forget", &ids[0], "zz"]).fails(1, &["no snapshot \"zz\""]);
    assert_eq!(left(&dir), ids);
}

#[test]
fn a_dry_run_gives_reasons() {
    let dir = Dir::with_repository();
    let ids = four(&dir);
    let args =
        ["forget", "--keep-last", "1", "--keep-daily", "2", "-n", "--timezone", "Asia/Tokyo"];
    let ran = dir.run(args).ok();
    for part in [
        "days begin at midnight in Asia/Tokyo",
        &format!("keep    {}  2026-01-04 19:00:00+09:00  the newest; ", &ids[3][..8]),
        &format!("keep    {}  2026-01-03 19:00:00+09:00  newest of the day 2026", &ids[2][..8]),
        &format!("forget  {}  2026-01-01 19:00:00+09:00  no rule keeps it", &ids[0][..8]),
        "2 snapshots would be forgotten, 2 kept",
    ] {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    assert_eq!(left(&dir), ids);
    let lines = dir.json(["--json", "forget", "--keep-last", "1", "-n"]);
    assert_eq!(
        fields(&lines[0]),
        ["host", "job", "keep", "paths", "reasons", "snapshot", "tags", "time", "type"]
    );
    assert_eq!(
        fields(lines.last().unwrap()),
        ["acknowledged", "dry_run", "forgotten", "kept", "named", "timezone", "type"]
    );
}

#[test]
fn by_policy_or_by_name() {
    let dir = Dir::with_repository();
    let ids = four(&dir);
    dir.run(["pin", &ids[0]]).ok();
    dir.run(["forget", "--keep-last", "2"]).ok();
    assert_eq!(left(&dir), [ids[0].clone(), ids[2].clone(), ids[3].clone()]);
    let ran = dir.run(["forget", &ids[0][..10], "latest"]).ok();
    assert!(ran.stdout.contains("2 snapshots forgotten, 1 kept"), "{}", ran.stdout);
    assert_eq!(left(&dir), [ids[2].clone()]);
    dir.run(["forget", "--keep-tag", "none"]).ok();
    assert_eq!(left(&dir), [ids[2].clone()], "the last good one stays");
    dir.run(["forget", "latest"]).ok();
    assert_eq!(left(&dir), [""; 0]);
}

#[test]
fn a_damaged_snapshot_goes_by_its_id() {
    let dir = Dir::with_repository();
    let ids = four(&dir);
    let path = dir.repository().join(format!("snapshots/{}", ids[1]));
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "damaged").unwrap();
    dir.run(["snapshots"]).code(4);
    dir.run(["forget", &ids[1][..12]]).code(4);
    dir.run(["snapshots"]).ok();
    assert_eq!(left(&dir).len(), 3);
}

#[test]
fn prune_frees_what_nobody_needs() {
    let dir = Dir::with_repository();
    let ids = four(&dir);
    let size = || -> usize { dir.files(&dir.repository()).iter().map(|(_, f)| f.len()).sum() };
    assert!(dir.run(["prune"]).ok().stderr.contains("nothing is to be removed"));
    dir.run(["forget", &ids[0], &ids[1]]).ok();
    let before = size();
    let plan = dir.run(["prune", "-n"]).ok().stdout;
    assert!(plan.contains("would be freed"), "{plan}");
    assert_eq!(size(), before);
    let ran = dir.run(["prune"]).ok();
    assert!(ran.stderr.contains(" freed: "), "{}", ran.stderr);
    assert!(size() < before);
    let lines = dir.json(["--json", "prune"]);
    assert_eq!(
        fields(&lines[0]),
        [
            "bytes_held_back",
            "bytes_repacked",
            "dry_run",
            "fenced",
            "figures",
            "open_epoch",
            "removed",
            "rescued",
            "type",
            "undecided"
        ]
    );
    assert_eq!(
        fields(&lines[0]["figures"]),
        [
            "bytes_to_copy",
            "bytes_to_free",
            "bytes_unused_left",
            "kept",
            "repacked",
            "snapshots",
            "spared",
            "total",
            "unused"
        ]
    );
    let ran = dir.run(["forget", "--keep-last", "1", "--prune"]).ok();
    assert!(ran.stderr.contains(" freed: "), "{}", ran.stderr);
    dir.run(["check", "--read-data"]).ok();
    dir.run(["restore", "latest", "-t", "out"]).ok();
    for bad in ["101%", "-1%", "much"] {
        dir.run(["prune", &format!("--max-unused={bad}")]).code(2);
    }
    dir.run(["prune", "--max-unused", "unlimited", "--fence-older-than", "2d"]).ok();
}

#[test]
fn a_repository_that_lacks_something_is_not_pruned() {
    let dir = Dir::with_repository();
    four(&dir);
    for (path, _) in dir.files(&dir.repository().join("packs")) {
        std::fs::remove_file(path).unwrap();
    }
    dir.run(["prune"]).fails(4, &["missing or damaged", "nothing was removed"]);
}
