use crate::dir::{Dir, text};

fn tags(dir: &Dir) -> Vec<String> {
    let lines = dir.json(["--json", "snapshots"]);
    let list = |line: &serde_json::Value| {
        let tags: Vec<String> = line["tags"].as_array().unwrap().iter().map(text).collect();
        tags.join(",")
    };
    lines.iter().map(list).collect()
}

#[test]
fn tags_change_and_ids_do_not() {
    let dir = Dir::with_repository();
    dir.write("f", "x");
    dir.run(["-q", "backup", "f", "--tag", "a,b"]).ok();
    let id = dir.backup("f");
    dir.run(["tag", &id[..8], "--add", "c", "--add", "d,c"]).ok();
    assert_eq!(tags(&dir), ["a,b", "c,d"]);
    dir.run(["tag", "--tag", "a", "--remove", "b,zz"]).ok();
    assert_eq!(tags(&dir), ["a", "c,d"]);
    let lines = dir.json(["--json", "tag", "latest", "--set", "e", "--description", "why"]);
    assert_eq!((text(&lines[0]["id"]), text(&lines[0]["description"])), (id, "why".into()));
    assert_eq!(tags(&dir), ["a", "e"]);
    dir.run(["tag", "latest", "--set", ""]).ok();
    assert_eq!(tags(&dir), ["a", ""]);
}

#[test]
fn what_says_nothing_changes_nothing() {
    let dir = Dir::with_repository();
    dir.run(["tag", "--add", "x"]).fails(2, &["no snapshot is named"]);
    dir.run(["tag", "latest"]).fails(2, &["nothing is to be changed"]);
    dir.run(["tag", "latest", "--add", "x"]).fails(1, &["no snapshot \"latest\""]);
    dir.run(["tag", "latest", "--add", "x", "--set", "y"]).code(2);
}

#[test]
fn pins() {
    let dir = Dir::with_repository();
    dir.write("f", "x");
    dir.backup("f");
    let last = || dir.json(["--json", "snapshots"])[0].clone();
    let ran = dir.run(["pin", "latest"]).ok();
    assert!(ran.stderr.contains("pinned"), "{}", ran.stderr);
    assert_eq!(last()["pinned"], true);
    assert!(dir.run(["snapshots"]).ok().stdout.contains("(pinned)"));
    dir.run(["pin", "latest"]).ok();
    dir.run(["pin", "latest", "--off"]).ok();
    dir.run(["pin", "latest", "--expires", "2027-01-01"]).ok();
    assert_eq!(
        (&last()["pinned"], text(&last()["expires"])),
        (&false.into(), "2027-01-01T00:00:00+00:00".into())
    );
    dir.run(["pin", "latest", "--never-expires"]).ok();
    assert!(last()["expires"].is_null());
    dir.run(["pin"]).fails(2, &["no snapshot is named"]);
    dir.run(["pin", "latest", "--off", "--never-expires"]).code(2);
}
