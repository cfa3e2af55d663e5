use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::dir::{Dir, fields, text};

#[test]
fn a_key_file_is_made_for_its_owner_only() {
    let dir = Dir::new();
    let ran = dir.run(["init"]).ok();
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.contains(dir.repository().to_str().unwrap()), "{}", ran.stderr);
    assert!(ran.stderr.contains(dir.key_file().to_str().unwrap()), "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("warning: ").count(), 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("holdall key recovery"));
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(dir.key_file()), 0o600);
    assert_eq!(mode(dir.repository()), 0o700);
    dir.run(["snapshots"]).ok();
    assert_eq!(mode(dir.path("state/holdall/client")), 0o600);
    dir.run(["init"]).fails(1, &["there is a repository already", "--repo"]);
    assert!(!ran.stderr.contains("holdall-key-1-"));
}

#[test]
fn password_and_key_file_are_separate_slots() {
    let dir = Dir::new();
    dir.write("password", "correct horse battery\n");
    dir.run(["-q", "init", "--password-file", "password", "--key-file", "my.key"]).ok();
    assert!(!dir.key_file().exists());
    let snapshots = |args: &[&str]| dir.cmd([&["snapshots"], args].concat());
    snapshots(&[]).run().fails(12, &["no password is given"]);
    snapshots(&["--key-file", "my.key"]).run().ok();
    snapshots(&["--password-file", "password"]).run().ok();
    snapshots(&["--password-command", "cat password"]).run().ok();
    snapshots(&[]).env("HOLDALL_PASSWORD", "correct horse battery").run().ok();
    snapshots(&[]).env("HOLDALL_PASSWORD", "wrong").run().fails(12, &["wrong password"]);
    snapshots(&[]).env("HOLDALL_PASSWORD_FILE", "password").run().ok();
    snapshots(&[]).env("HOLDALL_KEY_FILE", "my.key").run().ok();
    // A key file that does not fit leaves the password to be tried.
    dir.run(["-q", "init", "--repo", "other"]).ok();
    snapshots(&["--password-file", "password"]).run().ok();
    let slots = dir.json(["key", "list", "--json", "--key-file", "my.key"]);
    let mut kinds: Vec<String> = slots.iter().map(|slot| text(&slot["kind"])).collect();
    kinds.sort();
    assert_eq!(kinds, ["key file", "password"]);
}

#[test]
fn passwords_come_from_a_terminal() {
    let dir = Dir::new();
    let typed = "correct horse battery\n";
    dir.terminal("$H init --password", &format!("{typed}{typed}")).ok();
    assert!(!dir.key_file().exists());
    dir.run(["snapshots"]).fails(12, &[]);
    let ran = dir.terminal("$H snapshots", &format!("wrong\n{typed}")).ok();
    assert!(ran.stdout.contains("that opens nothing here"), "{}", ran.stdout);
    let ran = dir.terminal("$H snapshots", "1\n2\n3\n").code(12);
    assert!(ran.stdout.contains("wrong password"), "{}", ran.stdout);
    dir.run(["init", "--password", "--repo", "other"]).fails(12, &["--password-file"]);
    let ran = dir.terminal("$H init --password --repo third", "one of them\nother\n").code(12);
    assert!(ran.stdout.contains("differ"), "{}", ran.stdout);
}

#[test]
fn json_tells_what_was_made() {
    let dir = Dir::new();
    let ran = dir.run(["--json", "init", "--chunk-size", "128KiB", "--compression", "best"]).ok();
    let lines = ran.lines();
    assert_eq!(
        fields(&lines[0]),
        ["family", "has_password", "key_file", "key_file_is_new", "location", "repository", "type"]
    );
    assert_eq!(lines[0]["type"], "created");
    assert_eq!(lines[1]["type"], "warning");
    assert_eq!(lines.len(), 2);
    assert_eq!(ran.stderr, "");
    let like = dir.repository();
    let relative =
        dir.json(["--json", "init", "--repo", "other", "--like", like.to_str().unwrap()]);
    assert_eq!(relative[0]["family"], lines[0]["family"]);
    assert_ne!(relative[0]["repository"], lines[0]["repository"]);
    assert_eq!(relative[0]["key_file_is_new"], false);
}

#[test]
fn sizes_and_levels_that_are_none_are_refused() {
    let dir = Dir::new();
    for bad in [
        ["--chunk-size", "100KiB"],
        ["--chunk-size", "8GiB"],
        ["--chunk-size", "1KiB"],
        ["--pack-size", "1"],
        ["--compression", "23"],
        ["--compression", "much"],
    ] {
        dir.run([&["init"], &bad[..]].concat()).code(2);
    }
    assert!(!dir.repository().exists() && !dir.key_file().exists());
    dir.run(["-q", "init", "--compression", "-5"]).ok();
}

#[test]
fn a_probe_says_what_the_store_guarantees() {
    let dir = Dir::new();
    let lines = dir.json(["--json", "init", "--probe"]);
    assert_eq!(
        fields(&lines[0]),
        [
            "forgets_what_was_deleted",
            "lists_what_was_written",
            "location",
            "reads_what_was_written",
            "refuses_one_of_two_puts",
            "refuses_second_put",
            "repository_is_there",
            "type"
        ]
    );
    assert_eq!(lines[0]["repository_is_there"], false);
    assert_eq!(lines[1]["type"], "created");
    let ran = dir.run(["init", "--probe"]).ok();
    assert_eq!(ran.stdout.matches("yes").count(), 5, "{}", ran.stdout);
    assert!(ran.stderr.contains("nothing was created"));
}

#[test]
fn an_occupied_place_and_a_foreign_one_are_left_alone() {
    let dir = Dir::new();
    dir.write("full/file", "x");
    dir.run(["init", "--repo", "full"]).fails(1, &["full is not empty"]);
    assert_eq!(dir.files(&dir.work("full")).len(), 1);
    dir.run(["init", "--repo", "s3://bucket/prefix"]).fails(2, &["\"s3\"", "directory"]);
    dir.run(["init", "--repo", "file:///proc/nothing/x"]).fails(1, &["/proc/nothing/x"]);
}
