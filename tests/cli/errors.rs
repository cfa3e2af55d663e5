use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::dir::{Dir, fields};

#[test]
fn no_repository() {
    let dir = Dir::new();
    dir.run(["snapshots"]).fails(10, &["there is no repository at", "holdall init"]);
    dir.run(["snapshots", "--repo", "nowhere"]).fails(10, &["nowhere"]);
    fs::create_dir(dir.work("empty")).unwrap();
    dir.run(["snapshots", "-r", "empty"]).fails(10, &["empty"]);
    dir.write("file", "x");
    dir.run(["snapshots", "-r", "file"]).fails(10, &["file"]);
    dir.cmd(["snapshots"]).env("HOLDALL_REPO", "elsewhere").run().fails(10, &["elsewhere"]);
    // An option counts more than the environment, wherever it stands; nothing is not a name.
    dir.run(["-q", "init"]).ok();
    let repository = dir.repository();
    let with = |variable: &str, args: &[&str]| dir.cmd(args).env("HOLDALL_REPO", variable).run();
    with("elsewhere", &["snapshots", "-r", repository.to_str().unwrap()]).ok();
    with("elsewhere", &["-r", repository.to_str().unwrap(), "snapshots"]).ok();
    with("", &["snapshots"]).ok();
    let url = format!("file://{}", repository.display());
    dir.run(["snapshots", "-r", &url]).ok();
}

#[test]
fn what_is_no_repository_or_a_newer_one() {
    let dir = Dir::with_repository();
    let config = dir.repository().join("config");
    let good = fs::read(&config).unwrap();
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        fs::remove_file(&config).unwrap();
        fs::write(&config, bytes).unwrap();
        dir.run(["snapshots"])
    };
    // It is there twice, and the copy is as good.
    let ran = with(&|bytes| bytes[0] = b'X').ok();
    assert!(ran.stderr.contains("warning: config: "), "{}", ran.stderr);
    fs::remove_file(dir.repository().join("copies/config")).unwrap();
    with(&|bytes| bytes[0] = b'X').fails(10, &["is not a holdall repository"]);
    with(&|bytes| bytes[8] = 99).fails(1, &["newer", "use a newer holdall"]);
    with(&|bytes| bytes.truncate(20)).fails(4, &["configuration"]);
    let last = good.len() - 1;
    with(&|bytes| bytes[last] ^= 1).fails(4, &["config is damaged", "(repository "]);
    with(&|_| ()).ok();
}

#[test]
fn a_damaged_object_is_named() {
    let dir = Dir::with_repository();
    dir.write("f", "x");
    let id = dir.backup("f");
    dir.backup("f");
    let path = dir.repository().join(format!("snapshots/{id}"));
    let mut bytes = fs::read(&path).unwrap();
    bytes[60] ^= 1;
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    // The rest is shown, and the exit code says so.
    let ran = dir.run(["snapshots"]).code(4);
    assert!(ran.stderr.contains(&format!("warning: damaged: snapshots/{id}")), "{}", ran.stderr);
    assert_eq!(ran.stdout.lines().count(), 2);
    let lines = dir.run(["--json", "snapshots"]).code(4).lines();
    assert_eq!(fields(&lines[0]), ["damage", "type", "what", "why"]);
    assert_eq!(lines[0]["type"], "problem");
}

#[test]
fn wrong_secrets() {
    let dir = Dir::with_repository();
    dir.run(["snapshots", "--key-file", "absent"])
        .fails(12, &["cannot read the key file", "absent"]);
    dir.write("bad", "no key");
    dir.run(["snapshots", "--key-file", "bad"]).fails(12, &["no key file of holdall"]);
    fs::write(dir.key_file(), format!("holdall-key-1-{}\n", "0".repeat(64))).unwrap();
    dir.run(["snapshots"]).fails(12, &["wrong password or key", "holdall help"]);
    fs::remove_file(dir.key_file()).unwrap();
    dir.run(["snapshots"]).fails(12, &["no password is given"]);
    dir.run(["snapshots", "--password-file", "absent"]).fails(12, &["password file", "absent"]);
}

#[test]
fn errors_as_json() {
    let dir = Dir::new();
    for (args, code) in [
        (&["--json", "snapshots"][..], 10),
        (&["snapshots", "--json", "--frobnicate"], 2),
        (&["--json", "backup"], 2),
        (&["help", "nothing", "--json"], 2),
    ] {
        let ran = dir.run(args).code(code);
        assert_eq!(ran.stdout, "");
        let error: Value = serde_json::from_str(&ran.stderr).unwrap();
        assert_eq!(fields(&error), ["error"]);
        assert_eq!(fields(&error["error"]), ["code", "hint", "message", "object"]);
        assert_eq!(error["error"]["code"], code);
    }
    // What comes after `--` is no option of ours.
    let ran = dir.run(["backup", "--frobnicate", "--", "--json"]).code(2);
    assert!(ran.stderr.starts_with("error: "), "{}", ran.stderr);
}

#[test]
fn a_store_that_cannot_be_written() {
    // Root may write everywhere but into a file system that is not writable at all.
    let dir = Dir::with_repository();
    dir.run(["init", "--repo", "/proc/holdall"]).fails(1, &["/proc/holdall"]);
    dir.write("f", "x");
    let sessions = dir.repository().join("sessions");
    fs::write(&sessions, "in the way").unwrap();
    let ran = dir.run(["backup", "f"]).code(1);
    assert!(
        ran.stderr.contains("sessions/") && ran.stderr.contains("(repository "),
        "{}",
        ran.stderr
    );
    fs::remove_file(&sessions).unwrap();
    if rustix::process::geteuid().is_root() {
        return;
    }
    fs::set_permissions(dir.repository(), fs::Permissions::from_mode(0o500)).unwrap();
    dir.run(["backup", "f"]).fails(1, &["Permission denied", "check who owns it"]);
    fs::set_permissions(dir.repository(), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn an_index_that_has_no_place() {
    let dir = Dir::with_repository();
    dir.write("f", "x");
    dir.write("cache", "a file");
    let ran = dir.run(["backup", "f", "--cache-dir", "cache"]);
    ran.fails(1, &["local index", "--cache-dir"]);
}
