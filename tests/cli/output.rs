use crate::dir::Dir;

#[test]
fn names_are_shown_and_not_obeyed() {
    let dir = Dir::with_repository();
    let name = "bad\x1b]0;owned\x07\u{202e}\u{9b}31m";
    dir.write(&format!("{name}/file"), "x");
    let ran = dir.run(["backup", name, "--tag", "t\x1b[2J", "--host", "h\nost"]).ok();
    for stream in [&ran.stderr, &dir.run(["snapshots"]).ok().stdout] {
        assert!(stream.chars().all(|c| c == '\n' || !c.is_control()), "{stream:?}");
    }
    let shown = dir.run(["snapshots"]).ok().stdout;
    assert!(shown.contains(r"bad\e]0;owned\x07\u{202e}\u{009b}31m"), "{shown}");
    assert!(shown.contains(r"t\e[2J") && shown.contains(r"h\nost"), "{shown}");
    assert_eq!(shown.lines().count(), 2);
    let json = dir.run(["--json", "snapshots"]).ok();
    assert!(json.stdout.chars().all(|c| c == '\n' || (' '..='~').contains(&c)), "{json:?}");
    assert!(json.lines()[0]["paths"][0].as_str().unwrap().ends_with(name));
    dir.run(["backup", "no\x1b[31m"]).fails(1, &[r"no\e[31m"]);
}

#[test]
fn names_that_are_no_text() {
    use std::os::unix::ffi::OsStrExt;
    let dir = Dir::with_repository();
    let path = dir.path("work").join(std::ffi::OsStr::from_bytes(b"a\xff"));
    std::fs::write(&path, "x").unwrap();
    dir.run([std::ffi::OsStr::new("backup"), path.as_os_str()]).ok();
    let shown = dir.run(["snapshots"]).ok().stdout;
    assert!(shown.contains(r"/a\xff"), "{shown}");
    let line = &dir.json(["--json", "snapshots"])[0];
    assert!(line["paths_hex"][0].as_str().unwrap().ends_with("2f61ff"), "{line}");
}

#[test]
fn colours_only_where_they_are_wanted() {
    let dir = Dir::with_repository();
    dir.write("f", "x");
    dir.backup("f");
    let colored = |stream: &str| stream.contains("\x1b[");
    assert!(!colored(&dir.run(["snapshots"]).ok().stdout));
    assert!(colored(&dir.run(["snapshots", "--color", "always"]).ok().stdout));
    assert!(colored(&dir.terminal("$H snapshots", "").ok().stdout));
    assert!(!colored(&dir.terminal("NO_COLOR=1 $H snapshots --no-progress", "").ok().stdout));
    assert!(!colored(&dir.terminal("$H snapshots --color=never --no-progress", "").ok().stdout));
    assert!(!colored(&dir.terminal("TERM=dumb $H snapshots --no-progress", "").ok().stdout));
    assert!(!colored(&dir.terminal("$H --color never --help", "").ok().stdout));
    assert!(colored(&dir.terminal("NO_COLOR= $H snapshots", "").ok().stdout));
}

#[test]
fn quiet_says_nothing() {
    let dir = Dir::with_repository();
    dir.write("f", "x");
    let ran = dir.run(["-q", "backup", "f"]).ok();
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
    let ran = dir.run(["snapshots", "--quiet"]).ok();
    assert_eq!(ran.stderr, "");
    let ran = dir.run(["-q", "backup", "f", "absent"]).code(3);
    assert!(ran.stderr.starts_with("warning: ") && ran.stderr.contains("absent"), "{}", ran.stderr);
    dir.run(["-q", "snapshots", "zz"]).fails(1, &["no snapshot"]);
}

#[test]
fn a_reader_that_goes_ends_it_quietly() {
    let dir = Dir::with_repository();
    dir.write("f", "x");
    dir.backup("f");
    for line in
        ["$H help json | true", "$H snapshots | head -1 >/dev/null", "$H completions bash | true"]
    {
        let ran = dir.shell(&format!("set -o pipefail; {line}")).ok();
        assert!(!ran.stderr.contains("error") && !ran.stderr.contains("panic"), "{}", ran.stderr);
    }
    let ran = dir.shell("$H snapshots >/dev/full").code(1);
    assert!(ran.stderr.contains("standard output: No space left"), "{}", ran.stderr);
}
