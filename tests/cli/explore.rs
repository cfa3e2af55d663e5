//! ls, find, diff, stats, dump.

use std::fs;

use serde_json::Value;

use crate::dir::{Dir, fields, text};

/// Two snapshots of `d`; gives their ids.
fn two(dir: &Dir) -> (String, String) {
    dir.write("d/same", "same");
    dir.write("d/sub/gone", "gone");
    dir.write("d/other", "before");
    std::os::unix::fs::symlink("same", dir.work("d/link")).unwrap();
    let first = dir.backup("d");
    fs::remove_file(dir.work("d/sub/gone")).unwrap();
    dir.write("d/other", "afterwards");
    dir.write("d/new\x1b[2J", "new");
    (first, dir.backup("d"))
}

fn of(dir: &Dir, id: &str) -> String {
    format!("{id}:{}", dir.work("d").display())
}

#[test]
fn ls_shows_what_is_there() {
    let dir = Dir::with_repository();
    let (first, second) = two(&dir);
    let shown = dir.run(["ls", &of(&dir, &first)]).ok();
    let d = dir.work("d").display().to_string();
    let expected: String = ["link -> same", "other", "same", "sub", "sub/gone"]
        .iter()
        .map(|name| format!("{d}/{name}\n"))
        .collect();
    assert_eq!(shown.stdout, expected);
    assert_eq!(shown.stderr, "5 entries, 14 B\n");
    assert_eq!(dir.run(["ls", "-1", &of(&dir, &first)]).ok().stdout.lines().count(), 4);
    let long = dir.run(["ls", "-l", &format!("{first}:{d}/same")]).ok().stdout;
    assert!(long.starts_with("-rw-r--r--") && long.trim_end().ends_with("/d/same"), "{long}");
    let ran = dir.run(["ls", "latest"]).ok();
    assert!(ran.stderr.contains(&format!("latest is snapshot {}", &second[..8])), "{}", ran.stderr);
    assert!(ran.stdout.contains(r"new\e[2J") && !ran.stdout.contains('\x1b'));
    dir.run(["ls", &format!("{first}:/absent")]).fails(1, &["/absent", "no such path"]);
    dir.run(["ls", &format!("{first}:{d}/same/x")]).fails(1, &["is no directory"]);
    let lines = dir.json(["--json", "ls", &of(&dir, &first)]);
    assert_eq!(
        fields(&lines[0]),
        [
            "gid", "group", "kind", "links", "mode", "mtime", "path", "size", "target", "type",
            "uid", "unstable", "user"
        ]
    );
    assert_eq!(fields(lines.last().unwrap()), ["bytes", "entries", "snapshot", "type"]);
    let head = dir.shell("set -o pipefail; $H ls latest | head -1").ok();
    assert!(!head.stderr.contains("error"), "{}", head.stderr);
}

#[test]
fn find_looks_into_all_of_them() {
    let dir = Dir::with_repository();
    let (first, second) = two(&dir);
    let found = |args: &[&str]| {
        let lines = dir.json([&["--json", "find"], args].concat());
        let found = lines.iter().filter(|line| line["type"] == "found");
        found.map(|line| text(&line["snapshot"])).collect::<Vec<_>>()
    };
    assert_eq!(found(&["same"]), [second.clone(), first.clone()]);
    assert_eq!(found(&["gone"]), std::slice::from_ref(&first));
    assert_eq!(found(&["gone", "-s", "latest"]), [""; 0]);
    assert_eq!(found(&["--larger-than", "10"]), std::slice::from_ref(&second));
    assert_eq!(found(&["*", "--newer", "2200-01-01"]), [""; 0]);
    let below = dir.work("d/sub").display().to_string();
    assert_eq!(found(&["*", "--below", &below]), [first]);
    dir.run(["find"]).code(2);
    dir.run(["find", "[a"]).fails(2, &["help patterns"]);
    dir.run(["find", "--chunk", "zz"]).fails(1, &["\"zz\""]);
    let lines = dir.json(["--json", "find", "absent"]);
    assert_eq!(fields(&lines[0]), ["entries", "found", "snapshots", "type"]);
    let shown = dir.run(["find", "new*"]).ok();
    assert!(shown.stdout.starts_with(&second[..8]) && shown.stdout.contains(r"new\e[2J"));
    assert_eq!(shown.stderr, "1 entry found in 2 snapshots\n");
}

#[test]
fn diff_shows_what_changed() {
    let dir = Dir::with_repository();
    let (first, second) = two(&dir);
    let shown = dir.run(["diff", &of(&dir, &first), &of(&dir, &second)]).ok();
    let d = dir.work("d").display().to_string();
    let expected = format!("+ {d}/new\\e[2J\nM {d}/other\n- {d}/sub/gone\n");
    assert_eq!(shown.stdout, expected);
    assert!(shown.stderr.contains("new: 1 file"), "{}", shown.stderr);
    let lines = dir.json(["--json", "diff", &first, &second]);
    assert_eq!(
        fields(&lines[0]),
        [
            "change",
            "content",
            "kind",
            "kind_before",
            "mode",
            "mtime",
            "owner",
            "path",
            "size",
            "size_before",
            "type",
            "xattrs"
        ]
    );
    assert_eq!(
        fields(lines.last().unwrap()),
        [
            "added",
            "after",
            "before",
            "changed",
            "changed_bytes_before",
            "metadata_only",
            "removed",
            "type",
            "unknown"
        ]
    );
    let with = dir.run(["diff", "--metadata", &first, &second]).ok().stdout;
    assert!(with.contains(&format!("U {d}/sub/")), "{with}");
    assert_eq!(dir.run(["diff", "-q", &first, &first]).ok().stdout, "");
}

#[test]
fn stats_add_up() {
    let dir = Dir::with_repository();
    let (first, _) = two(&dir);
    let shown = dir.run(["stats"]).ok().stdout;
    assert!(shown.starts_with("snapshots               2\n"), "{shown}");
    let all = &dir.json(["--json", "stats"])[0];
    assert_eq!(
        fields(all),
        [
            "compression_ratio",
            "data_bytes",
            "data_chunks",
            "data_packs",
            "dedup_ratio",
            "frames",
            "others",
            "restore_bytes",
            "segments",
            "snapshot_objects",
            "snapshots",
            "stored_bytes",
            "tree_bytes",
            "tree_chunks",
            "tree_packs",
            "type",
            "unknown_packs"
        ]
    );
    let stored: u64 = dir.files(&dir.repository()).iter().map(|(_, f)| f.len() as u64).sum();
    assert_eq!(all["stored_bytes"], stored);
    let one = &dir.json(["--json", "stats", &of(&dir, &first)])[0];
    assert_eq!(
        fields(one),
        [
            "bytes",
            "chunks",
            "directories",
            "files",
            "hole_bytes",
            "others",
            "snapshot",
            "type",
            "unique_bytes"
        ]
    );
    assert_eq!((&one["files"], &one["bytes"]), (&Value::from(3), &Value::from(14)));
}

#[test]
fn dump_writes_a_file_or_an_archive() {
    let dir = Dir::with_repository();
    let (first, _) = two(&dir);
    let d = of(&dir, &first);
    assert_eq!(dir.run(["dump", &format!("{d}/other")]).ok().stdout, "before");
    let listed = dir.shell(&format!("set -o pipefail; $H dump {d} | tar -t")).ok().stdout;
    assert!(listed.contains("sub/gone"), "{listed}");
    dir.run(["dump", "-a", "zip", "-o", "d.zip", &d]).ok();
    assert!(fs::read(dir.work("d.zip")).unwrap().starts_with(b"PK"));
    dir.run(["dump", "-o", "d.zip", &d]).fails(1, &["d.zip", "File exists"]);
    dir.run(["dump", &format!("{d}/link")]).fails(1, &["no regular file"]);
    let ran = dir.terminal(&format!("$H dump {d}"), "").code(2);
    assert!(ran.stdout.contains("nothing for a terminal"), "{}", ran.stdout);
    // Programs get the bytes alone on stdout, and the report beside them.
    let ran = dir.run(["--json", "dump", &format!("{d}/other")]).ok();
    assert_eq!(ran.stdout, "before");
    let report: Value = serde_json::from_str(&ran.stderr).unwrap();
    let expected = ["bytes", "entries", "left_out", "lost_bytes", "snapshot", "type"];
    assert_eq!(fields(&report), expected);
    // A reader that goes away has not got what was asked for.
    dir.write("d/long", vec![b'x'; 1 << 20]);
    let id = dir.backup("d");
    let line = format!("set -o pipefail; $H dump -q {}/long | head -c 1", of(&dir, &id));
    let ran = dir.shell(&line).code(1);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("x", ""));
}

#[test]
fn a_snapshot_is_compared_with_what_is_there_now() {
    let dir = Dir::new();
    dir.write("tree/kept", "kept");
    dir.write("tree/changed", "before");
    dir.write("tree/gone", "gone");
    dir.backup("tree");
    assert_eq!(dir.run(["-q", "diff", "latest"]).ok().stdout, "");
    dir.write("tree/changed", "after!");
    dir.write("tree/new", "new");
    dir.write("tree/left-out", "x");
    std::fs::remove_file(dir.work("tree/gone")).unwrap();
    let ran = dir.run(["-q", "diff", "latest", "--exclude", "left-out"]).ok();
    let signs: Vec<(&str, bool)> = ran
        .stdout
        .lines()
        .map(|line| (&line[..1], ["changed", "gone", "new"].iter().any(|name| line.contains(name))))
        .collect();
    assert_eq!(signs, [("M", true), ("-", true), ("+", true)], "{}", ran.stdout);
}
