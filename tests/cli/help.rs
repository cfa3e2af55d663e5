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
    for guide in [
        "start",
        "snapshots",
        "patterns",
        "times",
        "keys",
        "repair",
        "environment",
        "config",
        "exit-codes",
        "json",
    ] {
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

#[test]
fn the_help_that_everybody_sees() {
    let dir = Dir::new();
    insta::assert_snapshot!(dir.run(["-h"]).ok().stdout, @r###"
    Back up files and directories, and bring them back

    Usage: holdall [OPTIONS] <COMMAND>

    Commands:
      init         Create a repository
      backup       Store a new snapshot of files and directories
      snapshots    List snapshots
      ls           List what is in a snapshot
      find         Find names, or what uses a chunk, in all snapshots
      diff         Show what differs between two snapshots, or one and the live tree
      dump         Write a file, or a directory as an archive, to standard output
      restore      Restore files from a snapshot
      stats        Show how much is stored, or how much one snapshot holds
      check        Check that the repository is whole
      repair       Mend what is damaged, after saying what would be done
      forget       Forget snapshots, by policy or by id
      prune        Remove what no snapshot needs
      copy         Copy snapshots into another repository
      tag          Change tags and descriptions of snapshots
      pin          Pin snapshots, so that no policy forgets them
      key          List, add and remove what opens the repository, and change its keys
      completions  Print completions for a shell
      man          Print the manual page, or write one for each command
      help         Show a guide, or the help of a command

    Options:
      -h, --help     Print help (see more with '--help')
      -V, --version  Print version

    Global options:
      -r, --repo <URL>  Directory of the repository [env: HOLDALL_REPO]
          --json        Answer in JSON (`holdall help json`)
      -q, --quiet       Say nothing but answers and warnings
      -v, --verbose...  Say more

    `holdall help` lists guides; `holdall help COMMAND` tells more of a command.
    "###);
}

/// Every `type` that the code tells is described, and the names of the fields with it.
#[test]
fn the_guide_to_json_is_complete() {
    let dir = Dir::new();
    let guide = dir.run(["help", "json"]).ok().stdout;
    let words: Vec<&str> =
        guide.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty()).collect();
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli");
    let mut types = 0;
    for (path, content) in dir.files(&source) {
        let content = String::from_utf8(content).unwrap();
        for (_, after) in
            content.match_indices("r#type: \"").map(|(at, key)| (at, &content[at + key.len()..]))
        {
            let name = after.split('"').next().unwrap();
            assert!(words.contains(&name), "type {name} of {}", path.display());
            types += 1;
        }
        // Fields of what is serialized: lines `name: Type,` of structs named Json….
        for body in content.split("struct Json").skip(1) {
            let body = body.split("\n}").next().unwrap();
            let lines = body.lines().skip(1).map(str::trim).filter(|line| !line.starts_with('#'));
            for name in lines.filter_map(|line| line.split_once(':')).map(|(name, _)| name) {
                let name = name.trim_start_matches("pub ").trim_start_matches("r#");
                let name = name.strip_suffix("_hex").unwrap_or(name);
                let is_plain = name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
                let is_told = !["entry", "error", "type"].contains(&name);
                if is_plain && is_told {
                    assert!(words.contains(&name), "field {name} of {}", path.display());
                }
            }
        }
    }
    assert!(types > 20, "{types}");
}
