use std::fs;

use crate::dir::{Dir, fields};

fn damage(dir: &Dir) -> String {
    dir.write("d/a", "content of a file");
    let id = dir.backup("d");
    let packs = dir.files(&dir.repository().join("packs"));
    // The pack of contents has its bytes in the first frame; the greatest is as good as any.
    for (path, mut bytes) in packs {
        bytes[40] ^= 1;
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
    }
    id
}

#[test]
fn a_whole_repository() {
    let dir = Dir::with_repository();
    dir.write("d/a", "content of a file");
    dir.backup("d");
    let ran = dir.run(["check"]).ok();
    assert!(ran.stdout.contains("checked 1 snapshot: "), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("no damage was found\n"), "{}", ran.stdout);
    let ran = dir.run(["check", "latest", "--read-data"]).ok();
    assert!(ran.stdout.contains("read 2 packs"), "{}", ran.stdout);
    let lines = dir.json(["--json", "check", "--read-data-subset", "50%"]);
    assert_eq!(
        fields(&lines[0]),
        [
            "bytes_read",
            "chunks",
            "chunks_damaged",
            "damaged",
            "packs",
            "packs_read",
            "packs_unknown",
            "snapshots",
            "touched",
            "type",
            "whole"
        ]
    );
    let lines = dir.json(["--json", "check", "--read-data", "--max-age", "1d"]);
    assert_eq!(lines[0]["packs_read"], 0);
    let verified = dir.json(["--json", "snapshots"]);
    assert!(verified[0]["verified"].is_string());
    let listed = dir.run(["snapshots"]).ok().stdout;
    assert!(!listed.contains("  -  "), "{listed}");
    dir.write("d/a", "another content");
    dir.backup("d");
    assert!(dir.json(["--json", "snapshots"])[1]["verified"].is_null());
    let listed = dir.run(["snapshots"]).ok().stdout;
    assert!(listed.contains("  -  "), "{listed}");
}

#[test]
fn damage_is_named() {
    let dir = Dir::with_repository();
    let id = damage(&dir);
    let ran = dir.run(["check", "--read-data"]).code(4);
    assert!(ran.stderr.contains("warning: damaged: packs/"), "{}", ran.stderr);
    let place = format!("damaged in snapshot {}: /", &id[..8]);
    assert!(ran.stdout.contains(&place), "{}", ran.stdout);
    assert!(ran.stdout.contains("\ndamage: "), "{}", ran.stdout);
    let lines = dir.run(["--json", "check", "--read-data"]).code(4).lines();
    let touched = lines.iter().find(|line| line["type"] == "touched").unwrap();
    assert_eq!(fields(touched), ["path", "snapshot", "type"]);
    let last = lines.last().unwrap();
    assert_eq!((&last["whole"], &last["type"]), (&false.into(), &"check".into()));
    assert_eq!(fields(&last["damaged"][0]), ["object", "why"]);
}

#[test]
fn what_is_asked_for_makes_sense() {
    let dir = Dir::with_repository();
    for bad in ["0%", "101%", "0/3", "4/3", "much", "0"] {
        dir.run(["check", "--read-data-subset", bad]).code(2);
    }
    dir.run(["check", "--max-age", "3d"]).fails(2, &["--read-data"]);
    dir.run(["check", "--read-data", "--max-age", "3x"]).fails(2, &["3x"]);
    dir.run(["check", "zz"]).fails(1, &["no snapshot \"zz\""]);
    dir.run(["check", "--host", "nobody"]).fails(1, &["no snapshot that fits"]);
}
