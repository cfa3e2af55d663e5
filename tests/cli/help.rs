use crate::dir::Dir;

#[test]
fn without_a_command_help_is_shown() {
    let dir = Dir::new();
    let ran = dir.run([""; 0]).code(2);
    assert!(ran.stderr.contains("Usage: holdall"), "{}", ran.stderr);
    let ran = dir.run(["--help"]).ok();
    assert!(ran.stdout.contains("Usage: holdall") && ran.stderr.is_empty());
    assert!(dir.run(["--version"]).ok().stdout.starts_with("holdall "));
    dir.run(["frobnicate"]).code(2);
    dir.run(["snapshots", "--frobnicate"]).code(2);
}

#[test]
fn guides_and_help_of_commands() {
    let dir = Dir::new();
    let overview = dir.run(["help"]).ok().stdout;
    for guide in
        ["start", "snapshots", "patterns", "times", "keys", "environment", "exit-codes", "json"]
    {
        assert!(overview.contains(&format!("\n  {guide} ")), "{guide}");
        let text = dir.run(["help", guide]).ok().stdout;
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{guide}");
        assert!(text.lines().count() > 10 && text.ends_with('\n'), "{guide}");
    }
    assert!(dir.run(["help", "init"]).ok().stdout.contains("--chunk-size"));
    assert!(dir.run(["help", "key", "add"]).ok().stdout.contains("--new-key-file"));
    dir.run(["help", "nothing"]).fails(2, &["no guide and no command \"nothing\""]);
}

#[test]
fn shells_and_manual_pages() {
    let dir = Dir::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(dir.run(["completions", shell]).ok().stdout.contains("snapshots"), "{shell}");
    }
    assert!(dir.run(["man"]).ok().stdout.contains(".TH holdall"));
    dir.run(["man", "--directory", "pages"]).ok();
    assert!(dir.work("pages/holdall-backup.1").exists());
}
