use crate::dir::{Dir, fields, text};

#[test]
fn the_first_minute() {
    let dir = Dir::new();
    dir.write("docs/a", "first");
    let ran = dir.run(["backup", "docs"]).ok();
    assert_eq!(ran.stdout, "");
    for part in [
        dir.repository().to_str().unwrap(),
        dir.key_file().to_str().unwrap(),
        "both are needed",
        "holdall key recovery",
        "same file system",
        "1 file, 5 B: 1 new, 0 changed, 0 unchanged",
        "restore with: holdall restore ",
        " --target DIR",
    ] {
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
    }
    assert!(!ran.stderr.contains("recovery code, too"), "no terminal, no code");
    dir.write("docs/b", "second");
    let ran = dir.run(["backup", "docs"]).ok();
    assert!(!ran.stderr.contains("created") && !ran.stderr.contains("warning"), "{}", ran.stderr);
    // What was changed a moment ago is read once more, so this is no count of changes.
    assert!(ran.stderr.contains("2 files, 11 B: 1 new, "), "{}", ran.stderr);
    assert_eq!(dir.json(["--json", "snapshots"]).len(), 2);
}

#[test]
fn the_recovery_code_is_shown_on_a_terminal_only() {
    let dir = Dir::new();
    dir.write("docs/a", "first");
    let ran = dir.terminal("$H backup docs", "").ok();
    let shown = ran.stdout.lines().find(|line| line.trim().len() == 39).unwrap_or_default();
    assert_eq!(shown.matches('-').count(), 7, "{}", ran.stdout);
    std::fs::remove_file(dir.key_file()).unwrap();
    dir.cmd(["snapshots"]).env("HOLDALL_PASSWORD", shown.trim()).run().ok();
    let dir = Dir::new();
    dir.write("docs/a", "first");
    let ran = dir.terminal("$H --json backup docs", "").ok();
    assert!(!ran.stdout.contains("code below"));
    let lines = ran.lines();
    let warnings = lines.iter().filter(|line| line["type"] == "warning");
    assert_eq!(warnings.filter(|line| text(&line["message"]).contains("recovery")).count(), 1);
    assert_eq!(dir.json(["--json", "key", "list"]).len(), 1);
}

#[test]
fn a_named_repository_is_never_made() {
    let dir = Dir::new();
    dir.write("f", "x");
    dir.run(["backup", "f", "--repo", "absent"]).fails(10, &["absent"]);
    dir.cmd(["backup", "f"]).env("HOLDALL_REPO", "absent").run().fails(10, &["absent"]);
    assert!(!dir.work("absent").exists());
    dir.run(["backup", "mistyped"]).fails(1, &["mistyped", "No such file"]);
    dir.run(["backup", "--dry-run", "f"]).fails(10, &["no repository"]);
    dir.run(["backup"]).fails(2, &["nothing is named"]);
    assert!(!dir.repository().exists() && !dir.key_file().exists());
}

#[test]
fn missing_paths() {
    let dir = Dir::with_repository();
    dir.write("f", "x");
    let ran = dir.run(["backup", "f", "absent"]).code(3);
    assert!(ran.stderr.contains(&format!("warning: {}: ", dir.work("absent").display())));
    assert!(ran.stderr.contains("the snapshot is partial: 1 problem"), "{}", ran.stderr);
    let snapshots = dir.run(["snapshots"]).ok().stdout;
    assert!(snapshots.contains("partial"), "{snapshots}");
    dir.run(["backup", "absent"]).fails(1, &["absent", "no snapshot was stored"]);
    let lines = dir.run(["--json", "backup", "f", "absent"]).code(3).lines();
    assert!(lines.iter().any(|line| line["type"] == "problem"));
    assert_eq!(lines.last().unwrap()["problem_count"], 1);
}

#[test]
fn the_shape_of_json() {
    let dir = Dir::with_repository();
    dir.write("f", "x");
    let ran = dir.run(["--json", "backup", "f"]).ok();
    assert_eq!(ran.stderr, "");
    let lines = ran.lines();
    assert_eq!(
        fields(lines.last().unwrap()),
        [
            "alarms",
            "dry_run",
            "files_read_again",
            "parent",
            "problem_count",
            "repository_created",
            "snapshot",
            "statistics",
            "type"
        ]
    );
    let lines = dir.json(["--json", "backup", "--dry-run", "f"]);
    assert!(lines.last().unwrap()["snapshot"].is_null());
    assert_eq!(dir.json(["--json", "snapshots"]).len(), 1);
}

#[test]
fn what_is_said_of_it() {
    let dir = Dir::with_repository();
    dir.write("f", "x");
    let about = ["--tag", "a,b", "--tag", "c", "--description", "why", "--host", "other"];
    let args = [&["-q", "backup", "f", "--time", "2026-07-01 12:00"], &about[..]].concat();
    dir.run([&args[..], &["--timezone", "Europe/Berlin"]].concat()).ok();
    let line = &dir.json(["--json", "snapshots"])[0];
    assert_eq!(line["tags"], serde_json::json!(["a", "b", "c"]));
    assert_eq!((text(&line["description"]), text(&line["host"])), ("why".into(), "other".into()));
    assert_eq!(text(&line["time"]), "2026-07-01T10:00:00+00:00");
    dir.run(["backup", "f", "--time", "noon"]).fails(2, &["\"noon\""]);
}

#[test]
fn parents() {
    let dir = Dir::with_repository();
    dir.write("f", "x");
    let first = dir.backup("f");
    dir.write("g", "y");
    dir.backup("g");
    let last = |args: &[&str]| {
        let lines = dir.json([&["--json", "backup", "f"], args].concat());
        lines.last().unwrap()["parent"].as_str().map(str::to_owned)
    };
    assert_eq!(last(&["--dry-run"]).as_ref(), Some(&first));
    assert_eq!(last(&["--force"]), None);
    assert_eq!(last(&["--parent", &first[..10]]), Some(first));
    dir.run(["backup", "f", "--parent", "zz"]).fails(1, &["no snapshot \"zz\""]);
    dir.run(["backup", "f", "--parent", "zz", "--force"]).code(2);
}

#[test]
fn what_is_left_out() {
    let dir = Dir::with_repository();
    dir.write("d/keep", "12345");
    dir.write("d/a.tmp", "1");
    dir.write("d/big", [0; 2000]);
    dir.write("d/cache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n");
    dir.write("d/cache/x", "1");
    dir.write("patterns", "# comment\n*.tmp\n");
    let files = |args: &[&str]| {
        let lines = dir.json([&["--json", "backup", "-n", "d"], args].concat());
        lines.last().unwrap()["statistics"]["files"].as_u64().unwrap()
    };
    assert_eq!(files(&[]), 5);
    assert_eq!(files(&["-e", "*.tmp"]), 4);
    assert_eq!(files(&["--exclude-file", "patterns", "-e", "!a.tmp"]), 5);
    assert_eq!(files(&["--exclude-file", "patterns", "--exclude-caches"]), 3);
    assert_eq!(files(&["--exclude-larger-than", "1.5k"]), 4);
    dir.run(["backup", "d", "-e", "[a"]).fails(2, &["\"[a\"", "help patterns"]);
    dir.run(["backup", "d", "--exclude-file", "absent"]).fails(1, &["absent"]);
    dir.run(["backup", "d", "--exclude-larger-than", "much"]).code(2);
}

#[test]
fn its_own_repository_and_cache_are_left_out() {
    let dir = Dir::new();
    dir.write("docs/a", "first");
    let everything = dir.path("");
    dir.run(["-q", "backup", everything.to_str().unwrap()]).ok();
    let lines = dir.json(["--json", "backup", "--force", everything.to_str().unwrap()]);
    // The file, the key and the client's name; nothing of what is in the repository or the cache.
    assert_eq!(lines.last().unwrap()["statistics"]["files"], 3);
}

#[test]
fn lists_of_paths() {
    let dir = Dir::with_repository();
    dir.write("a b", "1");
    dir.write("c\nd", "22");
    dir.write("lines", "a b\n\n");
    dir.write("nul", b"c\nd\0a b\0");
    let bytes = |cmd: crate::dir::Cmd| {
        let lines = cmd.run().ok().lines();
        lines.last().unwrap()["statistics"]["bytes"].as_u64().unwrap()
    };
    let list = |list: &str| dir.cmd(["--json", "backup", "-n", "--files-from", list]);
    assert_eq!(bytes(list("lines")), 1);
    assert_eq!(bytes(list("nul")), 3);
    assert_eq!(bytes(list("-").stdin("a b")), 1);
    list("absent").run().code(1);
}

#[test]
fn streams() {
    let dir = Dir::with_repository();
    let lines =
        dir.cmd(["--json", "backup", "--stdin", "dump.sql"]).stdin("12345").run().ok().lines();
    let snapshot = &lines.last().unwrap()["snapshot"];
    assert_eq!(snapshot["paths"][0], "/dump.sql");
    assert_eq!(snapshot["statistics"]["bytes"], 5);
    let command = |args: &[&str]| dir.cmd([&["--json", "backup"], args].concat());
    let lines = command(&["--command", "--", "printf", "%s", "--json"]).run().ok().lines();
    let snapshot = &lines.last().unwrap()["snapshot"];
    assert_eq!(
        (&snapshot["paths"][0], &snapshot["statistics"]["bytes"]),
        (&"/printf".into(), &6.into())
    );
    let ran = dir.run(["backup", "--stdin", "x", "--command", "--", "sh", "-c", "echo 1; exit 9"]);
    ran.fails(1, &["sh failed: exit status: 9", "no snapshot was stored"]);
    dir.run(["backup", "--command", "--", "/no/such"]).fails(1, &["cannot run /no/such"]);
    dir.run(["backup", "--command"]).code(2);
    dir.run(["backup", "f", "--", "words"]).code(2);
    assert_eq!(dir.json(["--json", "snapshots"]).len(), 2);
    let secret = ["--stdin", "x", "--command", "--", "sh", "-c", "printf %s \"$HOLDALL_PASSWORD\""];
    let lines = command(&secret).env("HOLDALL_PASSWORD", "secret").run().ok().lines();
    assert_eq!(lines.last().unwrap()["statistics"]["bytes"], 0);
}

#[test]
fn verify_reads_back_what_was_stored() {
    let dir = Dir::new();
    dir.write("tree/file", vec![7; 100_000]);
    dir.run(["-q", "backup", "tree", "--verify"]).ok();
    let pack = dir.files(&dir.repository().join("packs")).remove(0).0;
    let mut bytes = std::fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&pack, bytes).unwrap();
    let ran = dir.run(["-q", "backup", "tree", "--verify"]);
    assert_eq!(ran.code, Some(4), "{}", ran.stderr);
}

#[test]
fn a_path_of_a_thousand_levels() {
    let dir = Dir::with_repository();
    // Longer than any path that the system takes at once.
    let make = "for n in $(seq 1000); do mkdir a-name-of-a-level; cd -P a-name-of-a-level; done";
    dir.shell(&format!("mkdir deep && cd deep && {make} && echo bottom > file")).ok();
    let first = dir.backup("deep");
    dir.shell("mv deep/a-name-of-a-level deep/renamed").ok();
    dir.backup("deep");
    let deep = format!("latest:{}", dir.work("deep").display());
    dir.run(["restore", &deep, "--target", "back"]).ok();
    let seen =
        |of: &str| dir.shell(&format!("find {of} -mindepth 1 -printf '%d %f %m %s %T@ '")).ok();
    assert_eq!(seen("back").stdout, seen("deep").stdout);
    assert_eq!(seen("deep").stdout.matches("a-name-of-a-level").count(), 999);
    let listed = dir.run(["ls", "latest"]).ok().stdout;
    assert!(listed.lines().count() > 1_000 && listed.contains("a-name-of-a-level/file"));
    let changed = dir.run(["diff", &first, "latest"]).ok().stdout;
    assert!(changed.contains("deep/renamed"), "{changed}");
    dir.run(["forget", &first]).ok();
    dir.run(["prune"]).ok();
    dir.run(["check", "--read-data"]).ok();
    dir.shell("rm -r deep back").ok();
}
