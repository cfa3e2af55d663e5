use crate::dir::{Dir, fields, text};

#[test]
fn snapshots_are_copied_once() {
    let dir = Dir::with_repository();
    dir.write("d/a", "first");
    dir.backup("d");
    dir.write("d/b", "second");
    dir.run(["-q", "backup", "d", "--tag", "x"]).ok();
    dir.run(["-q", "init", "--repo", "other"]).ok();
    let lines = dir.json(["--json", "copy", "--to", "other", "--tag", "x"]);
    let expected =
        ["bytes_new", "bytes_read", "bytes_stored", "copied", "problem_count", "skipped", "type"];
    assert_eq!(fields(&lines[0]), expected);
    assert_eq!(fields(&lines[0]["copied"][0]), ["copy", "original"]);
    let ran = dir.run(["copy", "--to", "other"]).ok();
    assert!(ran.stderr.contains("1 snapshot copied to other"), "{}", ran.stderr);
    assert!(ran.stderr.contains("1 there already"), "{}", ran.stderr);
    let copies = dir.json(["--json", "snapshots", "--repo", "other"]);
    assert!(copies.iter().all(|copy| text(&copy["original"]).len() == 64));
    dir.run(["check", "--read-data", "--repo", "other"]).ok();
    let restored = format!("latest:{}", dir.work("d").display());
    dir.run(["restore", &restored, "-t", "out", "--repo", "other"]).ok();
    assert_eq!(dir.files(&dir.work("out")).len(), 2);
}

#[test]
fn the_other_repository_has_secrets_of_its_own() {
    let dir = Dir::with_repository();
    dir.write("f", "x");
    dir.backup("f");
    dir.write("password", "correct horse battery");
    dir.run(["-q", "init", "--repo", "other", "--password-file", "password"]).ok();
    dir.run(["copy", "--to", "other"]).fails(12, &["other"]);
    dir.run(["copy", "--to", "other", "--to-password-file", "password"]).ok();
    dir.run(["copy", "--to", "absent"]).fails(10, &["absent"]);
    let same = dir.repository();
    dir.run(["copy", "--to", same.to_str().unwrap()]).fails(2, &["the same repository"]);
    dir.run(["copy"]).code(2);
}
