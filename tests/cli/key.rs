use crate::dir::{Dir, fields, text};

fn slots(dir: &Dir) -> Vec<(String, String)> {
    let slots = dir.json(["key", "list", "--json"]);
    let slot = |slot: &serde_json::Value| (text(&slot["kind"]), text(&slot["id"]));
    slots.iter().map(slot).collect()
}

#[test]
fn list_shows_each_slot() {
    let dir = Dir::with_repository();
    let ran = dir.run(["key", "list"]).ok();
    assert!(ran.stdout.lines().next().unwrap().starts_with("ID        Kind"));
    assert_eq!(ran.stdout.lines().count(), 2);
    let lines = dir.json(["key", "list", "--json"]);
    assert_eq!(fields(&lines[0]), ["created", "host", "id", "kind", "label", "type"]);
}

#[test]
fn slots_are_added_and_removed_but_never_the_last() {
    let dir = Dir::with_repository();
    let first = slots(&dir)[0].1.clone();
    dir.run(["key", "remove", &first]).fails(1, &["only key slot", "key add"]);
    dir.write("new", "a new and long password");
    let ran = dir.run(["key", "add", "--new-password-file", "new", "--label", "\x1b[2Jlap"]).ok();
    assert!(!ran.stderr.contains("long password"));
    dir.run(["key", "add", "--new-key-file", "second.key"]).ok();
    dir.run(["key", "add"]).fails(12, &["no terminal"]);
    assert_eq!(slots(&dir).len(), 3);
    let shown = dir.run(["key", "list"]).ok().stdout;
    assert!(shown.contains(r"\e[2Jlap") && !shown.contains('\x1b'), "{shown}");
    let ran = dir.run(["key", "remove", &first[..12]]).ok();
    assert!(ran.stderr.contains("a copy of it made before still opens"), "{}", ran.stderr);
    dir.run(["snapshots"]).fails(12, &[]);
    dir.run(["snapshots", "--key-file", "second.key"]).ok();
    dir.run(["snapshots", "--password-file", "new"]).ok();
    let remove = |id: &str| dir.run(["key", "remove", id, "--key-file", "second.key"]);
    remove("").fails(1, &["nothing has an id"]);
    remove("zz").fails(1, &["nothing has an id that begins with \"zz\""]);
}

#[test]
fn a_recovery_code_opens_like_a_password() {
    let dir = Dir::with_repository();
    let code = dir.run(["-q", "key", "recovery"]).ok().stdout;
    assert_eq!(code.len(), 40, "{code}");
    std::fs::remove_file(dir.key_file()).unwrap();
    dir.cmd(["snapshots"]).env("HOLDALL_PASSWORD", code.trim().to_lowercase()).run().ok();
    let typed = format!("{}\n", code.trim().replace('-', ""));
    dir.terminal("$H snapshots", &typed).ok();
    let wrong = code.trim().replace(&code[..1], if &code[..1] == "7" { "8" } else { "7" });
    dir.cmd(["snapshots"]).env("HOLDALL_PASSWORD", wrong).run().fails(12, &[]);
    let mut cmd = dir.cmd(["key", "recovery", "--json"]);
    cmd = cmd.env("HOLDALL_PASSWORD", code.trim());
    let lines = cmd.run().ok().lines();
    assert_eq!(fields(&lines[0]), ["code", "id", "type"]);
}

#[test]
fn a_password_is_changed() {
    let dir = Dir::new();
    dir.write("old", "the old password");
    dir.write("new", "the new password");
    dir.run(["-q", "init", "--password-file", "old"]).ok();
    let passwd = ["key", "passwd", "--password-file", "old", "--new-password-file", "new"];
    dir.run(passwd).ok();
    dir.run(["snapshots", "--password-file", "old"]).fails(12, &["wrong password"]);
    dir.run(["snapshots", "--password-file", "new"]).ok();
    dir.write("short", "123");
    let short = ["key", "passwd", "--password-file", "new", "--new-password-file", "short"];
    assert!(dir.run(short).ok().stderr.contains("only 3 characters"));
    dir.write("empty", "\n");
    let empty = ["key", "passwd", "--password-file", "short", "--new-password-file", "empty"];
    dir.run(empty).fails(12, &["it is empty"]);
    let dir = Dir::with_repository();
    dir.run(["key", "passwd", "--new-password-file", "x"]).fails(1, &["no password opens"]);
}

#[test]
fn a_password_command_sees_no_password_and_is_not_repeated() {
    let dir = Dir::new();
    dir.write("password", "correct horse battery");
    dir.run(["-q", "init", "--password-file", "password"]).ok();
    let with = |command: &str| {
        let cmd = dir.cmd(["snapshots", "--password-command", command]);
        cmd.env("HOLDALL_PASSWORD", "correct horse battery").run()
    };
    with("test -z \"$HOLDALL_PASSWORD\" && cat password").ok();
    let ran = with("echo TOP-SECRET >/dev/null; exit 7").fails(12, &["exit status: 7"]);
    assert!(!ran.stderr.contains("TOP-SECRET"));
    with("true").fails(12, &["printed nothing"]);
}
