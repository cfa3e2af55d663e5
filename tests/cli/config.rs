//! The file of settings: where it is looked for, what it changes, how its mistakes are told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::Value;

use crate::dir::{Dir, Ran, fields, text};

/// Writes the file at its usual place.
fn settings(dir: &Dir, content: &str) -> PathBuf {
    let path = dir.path("config/holdall/config.toml");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path
}

#[test]
fn an_option_counts_more_than_the_environment_and_that_more_than_the_file() {
    let dir = Dir::new();
    dir.run(["-q", "init"]).ok();
    settings(&dir, "repo = 'of-file'\ntimezone = 'Asia/Tokyo'");
    // A relative path starts at the directory of the file.
    let of_file = dir.path("config/holdall/of-file");
    dir.run(["snapshots"]).fails(10, &[of_file.to_str().unwrap()]);
    let cmd = |args: &[&str]| dir.cmd(args).env("HOLDALL_REPO", "of-environment").run();
    cmd(&["snapshots"]).fails(10, &["at of-environment;"]);
    cmd(&["snapshots", "-r", "of-option"]).fails(10, &["at of-option;"]);
    let repository = dir.repository();
    let repository = repository.to_str().unwrap();
    dir.run(["-r", repository, "backup", "-q", "--time", "2026-11-20 12:00", "."]).ok();
    let zone_of = |args: &[&str]| {
        let all = [&["-r", repository, "--json", "snapshots"], args].concat();
        text(&dir.json(all)[0]["time"])
    };
    assert!(zone_of(&[]).starts_with("2026-11-20T12:00:00+09:00"), "{}", zone_of(&[]));
    assert!(zone_of(&["--timezone", "UTC"]).starts_with("2026-11-20T03:00:00"));
}

#[test]
fn which_file() {
    let dir = Dir::new();
    settings(&dir, "repo = '/of/usual'");
    dir.write("a/one.toml", "repo = 'of-option'");
    dir.write("two.toml", "repo = 'of-environment'");
    let cmd = |args: &[&str]| dir.cmd(args).env("HOLDALL_CONFIG", "two.toml").run();
    cmd(&["snapshots", "--config", "a/one.toml"]).fails(10, &["at a/of-option;"]);
    cmd(&["snapshots"]).fails(10, &["at of-environment;"]);
    dir.run(["snapshots"]).fails(10, &["at /of/usual;"]);
    dir.run(["snapshots", "--config", "/dev/null"])
        .fails(10, &[dir.repository().to_str().unwrap()]);
    // One that is named must be there.
    dir.run(["snapshots", "--config", "absent"]).fails(2, &["absent", "--config"]);
    dir.cmd(["snapshots"]).env("HOLDALL_CONFIG", "absent").run().fails(2, &["absent"]);
    dir.run(["snapshots", "--config", "."]).fails(1, &["cannot read the settings in ."]);
}

#[test]
fn a_repository_of_the_file_is_never_made_by_backup() {
    let dir = Dir::new();
    dir.write("f", "x");
    settings(&dir, "repo = '../../disk'");
    dir.run(["backup", "f"]).fails(10, &["there is no repository at", "disk"]);
    assert!(!dir.path("disk").exists() && !dir.key_file().exists());
    dir.run(["-q", "init"]).ok();
    assert!(dir.path("disk/config").exists());
    let said = dir.run(["backup", "f"]).ok().stderr;
    assert!(said.contains(" --target DIR") && !said.contains("--repo"), "{said}");
    // The next command finds it without help only where the file is found without help.
    let file = dir.path("config/holdall/config.toml");
    let said = dir.run(["backup", "f", "--config", file.to_str().unwrap()]).ok().stderr;
    assert!(said.contains("--repo "), "{said}");
}

#[test]
fn mistakes_have_a_place_and_a_hint() {
    let dir = Dir::with_repository();
    let file = settings(&dir, "threads = 2\n\n  reop = 'x'\n");
    let shown = file.to_str().unwrap();
    insta::assert_snapshot!(
        dir.run(["snapshots"]).code(2).stderr.replace(shown, "FILE"),
        @r#"error: FILE, line 3, column 3: unknown name "reop"; write repo"#
    );
    let ran = dir.run(["snapshots", "--json"]).code(2);
    assert_eq!(ran.stdout, "");
    let error: Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!(fields(&error["error"]), ["code", "hint", "message", "object"]);
    assert_eq!(error["error"]["code"], 2);
    assert_eq!(error["error"]["hint"], "write repo");
    assert_eq!(text(&error["error"]["object"]), shown);
    assert!(text(&error["error"]["message"]).contains("line 3, column 3"));
    for (content, parts) in [
        ("what = 1", &["line 1, column 1", "\"what\"", "`holdall help config`"][..]),
        ("exclude = []", &["write exclude in the table [backup]"]),
        ("a\n", &["line 1, column 2", "this is not TOML"]),
        ("password = 'secret'", &["a password is not kept in this file", "password-command"]),
        ("repo = '${NOBODY}'", &["line 1, column 8", "NOBODY", "$${"]),
        ("repo = '${HOLDALL_PASSWORD}'", &["HOLDALL_PASSWORD is not set"]),
        ("threads = 0", &["line 1, column 11", "from 1 to 256"]),
        ("repo = 'gopher://x'", &["line 1, column 8", "\"gopher\"", "give a directory"]),
        ("timezone = 'Mars'", &["line 1, column 12", "no time zone \"Mars\"", "Europe/Berlin"]),
        ("limit-upload = '0'", &["line 1, column 16", "less than 1 KiB a second"]),
    ] {
        settings(&dir, content);
        let ran = dir.cmd(["snapshots"]).env("HOLDALL_PASSWORD", "hush").run();
        let ran = ran.fails(2, &[&[shown], parts].concat());
        assert!(!ran.stderr.contains("hush") && !ran.stderr.contains("secret"), "{}", ran.stderr);
    }
    // These are found when they are used, and nothing is done then.
    for (content, parts) in [
        ("[backup]\nexclude = ['a', '[']", &["line 2, column 17", "help patterns"][..]),
        ("[backup]\ncompression = 'more'", &["line 2, column 15", "none, fast, default, best"]),
    ] {
        settings(&dir, content);
        dir.run(["backup", "."]).fails(2, parts);
    }
    // What tells how to mend it does not need it.
    settings(&dir, "[");
    dir.run(["help", "config"]).ok();
    dir.run(["completions", "bash"]).ok();
    dir.run(["man"]).ok();
}

#[test]
fn what_is_left_out() {
    let dir = Dir::with_repository();
    for name in ["a.tmp", "b.log", "c", "keep.tmp"] {
        dir.write(&format!("d/{name}"), name);
    }
    dir.write("d/large", [7; 3000]);
    let file = settings(
        &dir,
        "[backup]\nexclude = ['*.tmp']\nexclude-file = 'excludes'\nexclude-larger-than = '2K'\n\
         compression = 'best'",
    );
    fs::write(file.with_file_name("excludes"), "*.log\n").unwrap();
    let stored = |args: &[&str]| -> Vec<String> {
        dir.run([&["-q", "backup", "d"], args].concat()).ok();
        let lines = dir.json(["--json", "ls", "latest"]);
        let files = lines.iter().filter(|line| line["kind"] == "file");
        let names = files.map(|line| text(&line["path"]));
        names.map(|path| path.rsplit('/').next().unwrap().to_owned()).collect()
    };
    assert_eq!(stored(&[]), ["c"]);
    assert_eq!(stored(&["--config", "/dev/null"]).len(), 5);
    // What is given now counts more.
    assert_eq!(stored(&["--exclude", "!keep.tmp", "--exclude", "c"]), ["keep.tmp"]);
    assert_eq!(stored(&["--exclude-larger-than", "1M"]), ["c", "large"]);
    // The live tree is looked at with the same eyes.
    let ran = dir.run(["diff", "latest", "--live"]);
    assert!(!ran.stdout.contains("a.tmp"), "{}", ran.stdout);
}

#[test]
fn places_and_secrets() {
    let dir = Dir::new();
    dir.write("password", "correct horse battery");
    dir.run(["-q", "init", "-r", "repository", "--password-file", "password"]).ok();
    let snapshots = || dir.cmd(["snapshots"]);
    let with = |more: &str| {
        let place = "${HOME}/../work";
        let file = settings(&dir, &format!("repo = '{place}/repository'\n{more}"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        file
    };
    fs::create_dir(dir.path("home")).unwrap();
    with("password-file = '../../work/password'\ncache-dir = 'index'");
    snapshots().run().ok();
    dir.run(["-q", "backup", "password"]).ok();
    assert!(dir.path("config/holdall/index").exists() && !dir.path("cache").exists());
    // Any password that is told of otherwise is used instead.
    let wrong = &["wrong password"];
    snapshots().env("HOLDALL_PASSWORD", "other").run().fails(12, wrong);
    snapshots().env("HOLDALL_PASSWORD_COMMAND", "echo other").run().fails(12, wrong);
    dir.run(["snapshots", "--password-command", "echo other"]).fails(12, wrong);
    let warned = |ran: Ran| ran.ok().stderr.contains("can be read by others; run `chmod 600`");
    let file = with("password-command = 'cat password'");
    assert!(!warned(snapshots().run()));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(warned(snapshots().run()));
    assert!(!warned(dir.run(["snapshots", "--password-file", "password"])));
    with("key-file = 'absent'");
    snapshots().run().fails(12, &["cannot read the key file", "config/holdall/absent"]);
}

#[test]
fn the_example_of_the_guide_is_understood() {
    let dir = Dir::with_repository();
    let guide = dir.run(["help", "config"]).ok().stdout;
    let indented = guide.lines().filter_map(|line| line.strip_prefix("    "));
    let example: Vec<&str> = indented.take_while(|line| !line.starts_with("before")).collect();
    assert!(example.len() > 8, "{example:?}");
    settings(&dir, &example.join("\n"));
    dir.run(["snapshots"]).fails(10, &["/mnt/disk/backups"]);
}
