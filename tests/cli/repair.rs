use std::fs;

use crate::dir::{Dir, fields, text};

/// Flips a byte of every pack, far enough in to be in a frame.
fn damage(dir: &Dir) {
    for (path, mut bytes) in dir.files(&dir.repository().join("packs")) {
        bytes[140] ^= 1;
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
    }
}

fn with_parity() -> (Dir, String) {
    let dir = Dir::new();
    dir.run(["-q", "init", "--parity", "3"]).ok();
    dir.write("d/a", "content of a file");
    let id = dir.backup("d");
    (dir, id)
}

#[test]
fn nothing_to_do() {
    let (dir, _) = with_parity();
    let ran = dir.run(["repair"]).ok();
    assert_eq!(ran.stdout, "no damage was found\n");
    assert!(ran.stderr.contains("--read-data"), "{}", ran.stderr);
    let lines = dir.json(["--json", "repair", "--read-data"]);
    let expected = [
        "chunks_in_mirror",
        "chunks_lost",
        "damage",
        "damaged",
        "type",
        "uncounted",
        "unnamed",
        "without_parity",
    ];
    assert_eq!(fields(&lines[0]), expected);
    assert_eq!(lines.len(), 1);
}

#[test]
fn the_plan_is_shown_and_done_only_with_leave() {
    let (dir, _) = with_parity();
    damage(&dir);
    let before = dir.files(&dir.repository());
    let ran = dir.run(["repair", "--read-data"]).code(4);
    assert!(ran.stdout.contains("    its parity brings all of it back\n"), "{}", ran.stdout);
    assert!(ran.stderr.contains("nothing was changed; with --yes it is done"), "{}", ran.stderr);
    let ran = dir.terminal("$H repair --read-data", "n\n");
    assert_eq!(ran.code, Some(4), "{}", ran.stdout);
    assert!(ran.stdout.contains("do this? [y/N]"), "{}", ran.stdout);
    let lines = dir.run(["--json", "repair", "--read-data"]).code(4).lines();
    let plan = lines.last().unwrap();
    assert_eq!(fields(&plan["damaged"][0]), ["from", "object", "why"]);
    assert_eq!(
        (text(&plan["damaged"][0]["from"]).as_str(), &plan["damage"]),
        ("parity", &true.into())
    );
    assert!(dir.files(&dir.repository()) == before, "a plan changes nothing");
    let ran = dir.terminal("$H repair --read-data", "y\n");
    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
    assert!(ran.stdout.contains(": mended from its parity\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("nothing that is known is damaged now"), "{}", ran.stdout);
    dir.run(["check", "--read-data"]).ok();
    let log = fs::read_to_string(dir.path("state/holdall/repair.log")).unwrap();
    assert_eq!(log.lines().count(), 2, "{log}");
    assert!(log.lines().all(|line| line.ends_with(": mended from its parity")), "{log}");
}

#[test]
fn what_is_lost_is_said_and_dropped_when_asked_for() {
    let dir = Dir::with_repository();
    dir.write("d/a", "content of a file");
    let id = dir.backup("d");
    let mut packs = dir.files(&dir.repository().join("packs"));
    // The contents: kind 1 stands in the eleventh byte.
    packs.retain(|(_, bytes)| bytes[10] == 1);
    fs::remove_file(&packs[0].0).unwrap();
    let place = format!("lost in snapshot {}: {}\n", &id[..8], dir.work("d/a").display());
    let ran = dir.run(["repair", "--yes"]).code(4);
    assert!(ran.stdout.contains("    something of it is nowhere else\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains(&place), "{}", ran.stdout);
    assert!(ran.stderr.contains("the next backup stores the lost files again"), "{}", ran.stderr);
    assert!(ran.stdout.ends_with("some of the damage is left\n"), "{}", ran.stdout);
    let lines = dir.run(["--json", "repair", "--yes", "--drop-lost"]).ok().lines();
    let mend = lines.iter().find(|line| line["type"] == "mend").unwrap();
    assert_eq!(fields(mend), ["how", "object", "snapshot", "type"]);
    assert_eq!(text(&mend["how"]), "rewritten");
    assert_eq!(fields(lines.last().unwrap()), ["damage", "mended", "open_epoch", "type"]);
    dir.run(["check", "--read-data"]).ok();
    dir.run(["prune"]).ok();
    let snapshots = dir.json(["--json", "snapshots"]);
    assert_eq!(text(&snapshots[0]["outcome"]), "partial");
    assert_eq!(text(&snapshots[0]["original"]), id);
}

#[test]
fn the_next_backup_brings_back_what_the_source_has() {
    let dir = Dir::with_repository();
    dir.write("d/a", "content of a file");
    dir.backup("d");
    damage(&dir);
    dir.run(["repair", "--read-data", "--yes"]).code(4);
    dir.backup("d");
    // The old snapshot's tree is still damaged, or is as the new one's: either way the file is back.
    let out = format!("latest:{}", dir.work("d").display());
    dir.run(["restore", &out, "-t", "out"]).ok();
    assert_eq!(fs::read(dir.work("out/a")).unwrap(), b"content of a file");
}

#[test]
fn a_mirror_helps_if_it_is_of_the_family() {
    let dir = Dir::with_repository();
    dir.write("d/a", "content of a file");
    dir.backup("d");
    let own = dir.repository();
    let own = own.to_str().unwrap();
    dir.write("password", "correct horse battery");
    dir.run(["-q", "init", "--repo", "mirror", "--like", own, "--password-file", "password"]).ok();
    dir.run(["copy", "--to", "mirror", "--to-password-file", "password"]).ok();
    dir.run(["-q", "init", "--repo", "stranger"]).ok();
    fs::remove_dir_all(dir.repository().join("packs")).unwrap();
    let ran = dir.run(["repair", "--from", "stranger"]);
    ran.fails(2, &["the repository at stranger is of another family", "holdall copy"]);
    dir.run(["repair", "--from", own]).fails(2, &["the repository that is to be repaired"]);
    dir.run(["repair", "--from", "mirror"]).fails(12, &["mirror"]);
    dir.run(["repair", "--from", "absent"]).fails(10, &["absent"]);
    dir.run(["repair", "--from-key-file", "x"]).code(2);
    let from = ["repair", "--from", "mirror", "--from-password-file", "password"];
    let ran = dir.run(from).code(4);
    assert!(
        ran.stdout.contains("    the other repository has what cannot be read\n"),
        "{}",
        ran.stdout
    );
    let ran = dir.run(from.iter().chain(&["--yes"])).ok();
    assert!(ran.stdout.contains(": fetched from the other repository\n"), "{}", ran.stdout);
    dir.run(["check", "--read-data"]).ok();
}

#[test]
fn parity_later() {
    let dir = Dir::with_repository();
    dir.write("d/a", "content of a file");
    dir.backup("d");
    let ran = dir.run(["repair", "--add-parity", "5"]).ok();
    assert!(ran.stdout.contains("2 packs without parity\n"), "{}", ran.stdout);
    assert!(!dir.repository().join("parity").exists());
    dir.run(["repair", "--add-parity", "5", "-y"]).ok();
    assert_eq!(dir.files(&dir.repository().join("parity")).len(), 2);
    let ran = dir.run(["init", "--parity", "51", "--repo", "x"]).code(2);
    assert!(ran.stderr.contains("0 to 50 percent are possible"), "{}", ran.stderr);
}
