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
    assert_eq!(fields(&lines[0]), ["created", "current", "host", "id", "kind", "label", "type"]);
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
    assert!(
        ran.stderr.contains("a copy of it made before still opens the repository"),
        "{}",
        ran.stderr
    );
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

#[test]
fn an_object_that_is_no_slot_is_named_and_can_be_removed() {
    let dir = Dir::with_repository();
    dir.write("new", "a new and long password");
    dir.run(["key", "add", "--new-password-file", "new"]).ok();
    let name = "ab".repeat(32);
    std::fs::write(dir.repository().join("keys").join(&name), "no slot").unwrap();
    let ran = dir.run(["key", "list"]).ok();
    assert_eq!(ran.stdout.lines().count(), 3);
    assert!(ran.stderr.contains(&format!("keys/{name} is no slot")), "{}", ran.stderr);
    let lines = dir.json(["key", "list", "--json"]);
    let strange = lines.iter().find(|line| line["type"] == "strange_slot").unwrap();
    assert_eq!(fields(strange), ["id", "problem", "type"]);
    let ran = dir.run(["check"]);
    assert!(ran.code == Some(4) && ran.stderr.contains(&name), "{ran:?}");
    dir.run(["key", "rotate"]).fails(4, &[&name]);
    dir.write("newer", "a newer and long password");
    dir.run(["key", "passwd", "--new-password-file", "newer"]).ok();
    let ran = dir.run(["key", "remove", "abab"]).ok();
    assert!(ran.stderr.contains("was no slot of this repository"), "{}", ran.stderr);
    assert_eq!(slots(&dir).len(), 2);
    dir.run(["check"]).ok();
}

#[test]
fn keys_are_rotated_without_anybody_s_password() {
    let dir = Dir::with_repository();
    dir.write("password", "correct horse battery");
    dir.run(["key", "add", "--new-password-file", "password"]).ok();
    dir.write("files/a", "some content");
    dir.backup("files");
    let before = slots(&dir);
    let ran = dir.run(["key", "rotate"]).ok();
    assert!(ran.stderr.contains("2 slots have new keys"), "{}", ran.stderr);
    assert_eq!(slots(&dir), before);
    let lines = dir.json(["key", "list", "--json"]);
    assert!(lines.iter().all(|line| line["current"] == true), "{lines:?}");
    dir.write("files/b", "other content");
    dir.backup("files");
    let lines = dir.json(["key", "rotate", "--now", "--json"]);
    assert_eq!(fields(&lines[0]), ["slots", "type"]);
    assert!(lines[1]["bytes_repacked"].as_u64().unwrap() > 0, "{lines:?}");
    dir.run(["check", "--read-data"]).ok();
    std::fs::remove_file(dir.key_file()).unwrap();
    dir.run(["restore", "latest", "--target", "out", "--password-file", "password"]).ok();
}

#[test]
fn an_option_counts_more_than_the_environment() {
    let dir = Dir::new();
    dir.write("password", "correct horse battery");
    dir.write("other", "something else entirely");
    dir.run(["-q", "init", "--password-file", "password"]).ok();
    let run = |option: [&str; 2], variable: &str, value: &str| {
        let cmd = dir.cmd(["snapshots", option[0], option[1]]);
        cmd.env(variable, value).run().ok();
    };
    run(["--password-command", "cat password"], "HOLDALL_PASSWORD_FILE", "other");
    run(["--password-command", "cat password"], "HOLDALL_PASSWORD_COMMAND", "cat other");
    run(["--password-file", "password"], "HOLDALL_PASSWORD_COMMAND", "cat other");
    run(["--password-file", "password"], "HOLDALL_PASSWORD", "something else entirely");
}

/// Whatever is said, and however it ends, and in the process's own limits.
#[test]
fn no_command_says_the_password() {
    let dir = Dir::new();
    let password = "Xq9-unmistakable-Zw7";
    dir.write("files/a", "some content");
    dir.write("password", password);
    dir.write("new", "Yp8-unmistakable-Vv6");
    dir.run(["-q", "init", "--password-file", "password"]).ok();
    let commands: [&[&str]; 16] = [
        &["backup", "files"],
        &["backup", "--stdin-from-command", "--", "sh", "-c", "env"],
        &["snapshots"],
        &["ls", "latest"],
        &["find", "a"],
        &["diff", "latest", "latest"],
        &["dump", "latest", "nowhere"],
        &["restore", "latest", "--target", "out"],
        &["stats"],
        &["check", "--read-data"],
        &["forget", "--keep-last", "1", "--prune"],
        &["key", "list"],
        &["key", "rotate", "--now"],
        &["key", "recovery"],
        &["key", "add", "--new-password-file", "new"],
        &["nonsense"],
    ];
    for command in commands {
        for (wrong, json) in [("", &[][..]), ("", &["--json"][..]), ("-wrong", &[][..])] {
            let given = format!("{password}{wrong}");
            {
                let args = command.iter().chain(&["-v", "-v"]).chain(json);
                // What stands behind `--` is another program's.
                let args =
                    args.clone().filter(|arg| !command.contains(&"--") || !arg.starts_with("-v"));
                let ran = dir.cmd(args.collect::<Vec<_>>()).env("HOLDALL_PASSWORD", &given).run();
                let said = ran.stdout + &ran.stderr;
                assert!(!said.contains("unmistakable"), "{command:?}: {said}");
            }
        }
    }
}

#[test]
fn nothing_of_it_is_left_in_a_core_file() {
    let dir = Dir::new();
    dir.write("password", "correct horse battery");
    dir.run(["-q", "init", "--password-file", "password"]).ok();
    let command = "grep -q 'Max core file size  *0  *0 ' /proc/$PPID/limits && cat password";
    dir.run(["snapshots", "--password-command", command]).ok();
}

#[test]
fn a_wrong_password_is_one_clear_line() {
    let dir = Dir::new();
    dir.write("password", "correct horse battery");
    dir.run(["-q", "init", "--password-file", "password"]).ok();
    let ran = dir.cmd(["snapshots"]).env("HOLDALL_PASSWORD", "wrong").run().fails(12, &["wrong"]);
    assert_eq!((ran.stdout.as_str(), ran.stderr.lines().count()), ("", 1), "{}", ran.stderr);
}
