use std::fs;

use crate::dir::{Dir, fields, text};

fn sample(dir: &Dir) -> String {
    dir.write("d/a", "first");
    dir.write("d/sub/b", "second");
    dir.backup("d")
}

#[test]
fn everything_or_a_part_of_it() {
    let dir = Dir::with_repository();
    let id = sample(&dir);
    let d = dir.work("d");
    let ran = dir.run(["restore", "latest", "--target", "all"]).ok();
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.contains(&format!("latest is snapshot {}", &id[..8])), "{}", ran.stderr);
    assert!(ran.stderr.contains("2 files created, 0 replaced"), "{}", ran.stderr);
    let below = dir.work("all").join(d.strip_prefix("/").unwrap());
    assert_eq!(fs::read_to_string(below.join("sub/b")).unwrap(), "second");
    dir.run(["restore", &format!("{id}:{}/sub", d.display()), "-t", "part"]).ok();
    assert_eq!(fs::read_to_string(dir.work("part/b")).unwrap(), "second");
    dir.run(["restore", &id, "-t", "some", "--include", "a"]).ok();
    assert_eq!(dir.files(&dir.work("some")).len(), 1);
    fs::write(d.join("a"), "changed").unwrap();
    dir.run(["-q", "restore", &id, "--original"]).ok();
    assert_eq!(fs::read_to_string(d.join("a")).unwrap(), "first");
}

#[test]
fn a_dry_run_says_what_would_change() {
    let dir = Dir::with_repository();
    let id = sample(&dir);
    let source = format!("{id}:{}", dir.work("d").display());
    dir.run(["restore", &source, "-t", "out"]).ok();
    fs::write(dir.work("out/a"), "something else").unwrap();
    fs::write(dir.work("out/sub/more\x1b[m"), "").unwrap();
    let ran = dir.run(["restore", &source, "-t", "out", "-n", "--delete"]).ok();
    let mut lines: Vec<&str> = ran.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, [r"- sub/more\e[m", "M a", "U sub/"]);
    assert!(ran.stderr.contains("nothing was changed"), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(dir.work("out/a")).unwrap(), "something else");
    let lines = dir.json(["--json", "restore", &source, "-t", "out", "-n", "--delete"]);
    assert_eq!(fields(&lines[0]), ["action", "bytes", "kind", "path", "type"]);
    let report = lines.last().unwrap();
    assert_eq!(
        fields(report),
        [
            "bytes_unchanged",
            "bytes_written",
            "created",
            "damage",
            "deleted",
            "dry_run",
            "metadata",
            "owners_refused",
            "problems",
            "replaced",
            "rolled_back",
            "snapshot",
            "type",
            "unchanged",
            "verified"
        ]
    );
    assert_eq!((&report["deleted"], &report["bytes_written"]), (&1.into(), &5.into()));
    dir.run(["restore", &source, "-t", "out", "--delete", "--verify"]).ok();
    assert!(!dir.work("out/sub/more\x1b[m").exists());
}

#[test]
fn overwriting_is_a_choice() {
    let dir = Dir::with_repository();
    let id = sample(&dir);
    let source = format!("{id}:{}", dir.work("d").display());
    dir.write("out/a", "mine");
    dir.run(["restore", &source, "-t", "out", "--overwrite", "never"]).ok();
    assert_eq!(fs::read_to_string(dir.work("out/a")).unwrap(), "mine");
    dir.run(["restore", &source, "-t", "out", "--overwrite", "if-newer"]).ok();
    assert_eq!(fs::read_to_string(dir.work("out/a")).unwrap(), "mine");
    dir.run(["restore", &source, "-t", "out", "--overwrite", "sometimes"]).code(2);
    dir.run(["restore", &source, "-t", "out", "--safety-snapshot"]).ok();
    assert_eq!(fs::read_to_string(dir.work("out/a")).unwrap(), "first");
    let safety = dir.json(["--json", "snapshots", "--kind", "safety"]);
    assert_eq!(safety.len(), 1);
    let saved = format!("{}:{}", text(&safety[0]["id"]), dir.work("out/a").display());
    assert_eq!(dir.run(["dump", &saved]).ok().stdout, "mine");
}

#[test]
fn what_cannot_be_done_is_said() {
    let dir = Dir::with_repository();
    let id = sample(&dir);
    dir.run(["restore", &id]).code(2);
    dir.run(["restore", &id, "-t", "x", "--original"]).code(2);
    dir.run(["restore", "zz", "-t", "x"]).fails(1, &["no snapshot \"zz\""]);
    dir.run(["restore", &format!("{id}:/absent"), "-t", "x"]).fails(1, &["/absent"]);
    dir.write("file", "x");
    dir.run(["restore", &id, "-t", "file"]).fails(1, &["the target file", "--target"]);
    dir.run(["restore", &id, "-t", "x", "-i", "[a"]).fails(2, &["help patterns"]);
    // A directory in the way of a file stays, unless told otherwise.
    let source = format!("{id}:{}", dir.work("d").display());
    dir.write("out/a/in-the-way", "x");
    let ran = dir.run(["restore", &source, "-t", "out"]).code(3);
    assert!(ran.stderr.contains("not everything was restored: 1 problem"), "{}", ran.stderr);
    assert!(dir.work("out/a/in-the-way").exists() && dir.work("out/sub/b").exists());
}

#[test]
fn damage_costs_only_what_it_touches() {
    let dir = Dir::with_repository();
    let id = sample(&dir);
    for (path, mut bytes) in dir.files(&dir.repository().join("packs")) {
        // Packs of trees stay; that of the contents is the only one with these names in no tree.
        if bytes.len() > 1 && is_of_contents(&dir, &path) {
            bytes[40] ^= 1;
            fs::remove_file(&path).unwrap();
            fs::write(&path, bytes).unwrap();
        }
    }
    let ran = dir.run(["restore", &id, "-t", "out"]).code(4);
    assert!(ran.stderr.contains("warning: damaged: "), "{}", ran.stderr);
    assert!(ran.stderr.contains("the repository is damaged"), "{}", ran.stderr);
}

/// Whether files, and not trees, need this pack: without it the listing is still there.
fn is_of_contents(dir: &Dir, path: &std::path::Path) -> bool {
    let aside = dir.path("aside");
    fs::rename(path, &aside).unwrap();
    let listed = dir.run(["ls", "latest"]);
    fs::rename(&aside, path).unwrap();
    listed.code == Some(0)
}
