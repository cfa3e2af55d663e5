//! What the storage loses or takes back is seen.

use std::fs;
use std::path::Path;

use crate::dir::{Dir, Ran, fields, text};

fn three(dir: &Dir) -> Vec<String> {
    (0..3)
        .map(|n| {
            dir.write("d/f", format!("content {n}"));
            dir.backup("d")
        })
        .collect()
}

fn lose(dir: &Dir, id: &str, kinds: &[&str]) {
    for kind in kinds {
        fs::remove_file(dir.repository().join(kind).join(id)).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => _ = fs::copy(entry.path(), to.join(entry.file_name())).unwrap(),
        }
    }
}

/// Every command that shall say that this one is missing does, until it is forgotten.
#[track_caller]
fn is_missed(dir: &Dir, id: &str) {
    let short = &id[..8];
    let says = |ran: &Ran| ran.stderr.contains(&format!("warning: snapshot {short}"));
    let listed = dir.run(["snapshots"]).ok();
    assert!(says(&listed), "{}", listed.stderr);
    assert!(listed.stderr.contains(&format!("`holdall forget {short}`")), "{}", listed.stderr);
    dir.write("d/f", format!("content without {id}"));
    let backed_up = dir.run(["backup", "d"]).ok();
    assert!(says(&backed_up), "{}", backed_up.stderr);
    let last = dir.json(["--json", "backup", "d"]).pop().unwrap();
    let alarm = &last["alarms"][0];
    assert_eq!(fields(alarm), ["name", "snapshot", "why"]);
    assert_eq!((text(&alarm["name"]), text(&alarm["snapshot"])), (short.into(), id.into()));
    let checked = dir.run(["check"]).code(4);
    assert!(checked.stderr.contains(&format!("damaged: snapshots/{id}")), "{}", checked.stderr);
    let acknowledged = dir.run(["forget", short]).ok();
    assert!(acknowledged.stdout.contains(short), "{}", acknowledged.stdout);
    nothing_is_missed(dir);
}

#[track_caller]
fn nothing_is_missed(dir: &Dir) {
    let ran = dir.run(["snapshots"]).ok();
    assert!(!ran.stderr.contains("warning"), "{}", ran.stderr);
    let last = dir.json(["--json", "backup", "d"]).pop().unwrap();
    assert_eq!(last["alarms"].as_array().unwrap().len(), 0);
    dir.run(["check"]).ok();
}

#[test]
fn a_lost_snapshot_is_missed() {
    for kinds in [&["snapshots"][..], &["sessions"], &["snapshots", "sessions"]] {
        for n in 0..3 {
            let dir = Dir::with_repository();
            let ids = three(&dir);
            lose(&dir, &ids[n], kinds);
            is_missed(&dir, &ids[n]);
            let left = dir.files(&dir.repository().join("snapshots"));
            assert!(left.iter().all(|(path, _)| !path.ends_with(&ids[n])), "it is tidied away");
        }
    }
}

#[test]
fn an_older_copy_of_the_repository_is_noticed() {
    let dir = Dir::with_repository();
    let ids = three(&dir);
    let old = dir.path("old");
    copy(&dir.repository(), &old);
    dir.write("d/f", "something new");
    let newest = dir.backup("d");
    fs::remove_dir_all(dir.repository()).unwrap();
    fs::rename(&old, dir.repository()).unwrap();
    // The cache is no witness.
    fs::remove_dir_all(dir.path("cache")).unwrap();
    is_missed(&dir, &newest);
    assert!(dir.run(["snapshots"]).ok().stdout.contains(&ids[2][..8]));
}

#[test]
fn without_memory_the_chain_still_tells() {
    for (n, names) in [(0, true), (1, true), (2, false)] {
        let dir = Dir::with_repository();
        let ids = three(&dir);
        lose(&dir, &ids[n], &["snapshots", "sessions"]);
        fs::remove_dir_all(dir.path("state")).unwrap();
        let ran = dir.run(["snapshots"]).ok();
        assert_eq!(ran.stderr.contains(&ids[n][..8]), names, "{}", ran.stderr);
        dir.run(["check"]).code(if names { 4 } else { 0 });
    }
    // The one that tells its name is forgotten: the number is missing, and can be acknowledged.
    let dir = Dir::with_repository();
    let ids = three(&dir);
    lose(&dir, &ids[0], &["snapshots", "sessions"]);
    dir.run(["forget", &ids[1]]).ok();
    fs::remove_dir_all(dir.path("state")).unwrap();
    let ran = dir.run(["snapshots"]).ok();
    assert!(ran.stderr.contains("warning: number 1 of the snapshots of client "), "{}", ran.stderr);
    let (_, name) = ran.stderr.split_once("`holdall forget ").unwrap();
    let (name, _) = name.split_once('`').unwrap();
    dir.run(["check"]).code(4);
    dir.run(["forget", "--dry-run", name]).ok();
    dir.run(["check"]).code(4);
    let last = dir.json(["--json", "forget", name]).pop().unwrap();
    assert_eq!(last["acknowledged"][0], name);
    nothing_is_missed(&dir);
    dir.run(["forget", name]).fails(1, &["no snapshot"]);
}

#[test]
fn forgetting_raises_no_alarm() {
    let dir = Dir::with_repository();
    let ids = three(&dir);
    dir.run(["forget", &ids[1]]).ok();
    nothing_is_missed(&dir);
    dir.run(["forget", &ids[2], &ids[0]]).ok();
    nothing_is_missed(&dir);
    dir.run(["forget", "--keep-last", "1", "--prune"]).ok();
    nothing_is_missed(&dir);
    // From another machine, which has a client of its own.
    let id = dir.backup("d");
    let there = |args: &[&str]| dir.cmd(args).env("XDG_STATE_HOME", dir.path("there")).run().ok();
    there(&["backup", "d"]);
    there(&["forget", &id]);
    nothing_is_missed(&dir);
    assert!(!there(&["snapshots"]).stderr.contains("warning"));
}

#[test]
fn clocks_do_not_matter() {
    let dir = Dir::with_repository();
    dir.write("d/f", "x");
    for time in ["2030-01-01T00:00:00Z", "1999-01-01T00:00:00Z", "2020-01-01T00:00:00Z"] {
        dir.run(["backup", "d", "--time", time]).ok();
        nothing_is_missed(&dir);
    }
    let newest = dir.run(["--json", "backup", "d", "--time", "1990-01-01T00:00:00Z"]).ok().lines();
    let newest = text(&newest.last().unwrap()["snapshot"]["id"]);
    lose(&dir, &newest, &["snapshots", "sessions"]);
    is_missed(&dir, &newest);
}

#[test]
fn a_copy_in_another_repository_is_in_no_line() {
    let dir = Dir::with_repository();
    let ids = three(&dir);
    let other = dir.path("other").into_os_string().into_string().unwrap();
    dir.run(["-q", "init", "--repo", &other]).ok();
    dir.run(["copy", "--to", &other, &ids[1]]).ok();
    for _ in 0..2 {
        let last = dir.json(["--repo", &other, "--json", "backup", "d"]).pop().unwrap();
        assert_eq!(last["alarms"].as_array().unwrap().len(), 0, "{last}");
    }
    dir.run(["--repo", &other, "check"]).ok();
    nothing_is_missed(&dir);
}
