//! The rules of the house, held by a test: floors, what may print, lengths, citations, leftovers.
//!
//! Every check is a function of files, so that each is also run on a bad sample and must find it.
//! The files of this test hold such samples and are exempt from the checks that they would trip.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its own house has failed")]

use std::fs;
use std::path::{Path, PathBuf};

use checks::*;

#[path = "tidy/checks.rs"]
mod checks;
#[path = "tidy/rust.rs"]
mod rust;

/// What `.gitignore` names, and git's own.
const NOT_OURS: &[&str] =
    &["target", ".git", "fuzz/target", "fuzz/artifacts", "fuzz/corpus", "fuzz/seeds"];

fn house() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file of the repository.
fn all_files() -> Vec<File> {
    let mut files = Vec::new();
    let mut waiting = vec![house()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let relative = path.strip_prefix(house()).unwrap().to_string_lossy().into_owned();
            let meta = fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() && !NOT_OURS.contains(&relative.as_str()) {
                waiting.push(path);
            } else if meta.is_file() && relative != ".git" {
                files.extend(read_text(&path).map(|text| File::new(&relative, &text)));
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn read_text(path: &Path) -> Option<String> {
    String::from_utf8(fs::read(path).unwrap()).ok()
}

fn assert_clean(findings: Findings) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

/// The check finds exactly these things, in this order.
fn assert_red(findings: Findings, expected: &[&str]) {
    let alike = findings.len() == expected.len()
        && findings.iter().zip(expected).all(|(found, part)| found.contains(part));
    assert!(alike, "found {findings:#?}, expected {expected:#?}");
}

const SAMPLE_LIB: &str = "//! | floor | room | what |\n//! |---|---|---|\n//! | 0 | `id` | x |\n\
    //! | 1 | `pack` | x |\n//! | 1 | `index` | x |\n//! | 2 | `cli` | x |\n\
    pub mod id;\npub mod pack;\npub mod index;\npub mod cli;\n";

#[test]
fn rooms_use_lower_floors_only() {
    let table = floor_table(&File::new("src/lib.rs", SAMPLE_LIB));
    assert_eq!(table.len(), 4);
    for (path, text, expected) in [
        ("src/pack/mod.rs", "use crate::{id::{A, B}, pack, index::C};", &["1: `index` is not"][..]),
        ("src/pack/a.rs", "fn f() {\n let x = crate::cli::X; }", &["2: `cli` is not below"]),
        ("src/id.rs", "use crate::nobody;\nuse crate::{self};", &["`nobody`", "`self`"]),
        ("src/id.rs", "use crate as house;", &["`crate` is no room"]),
        ("src/id.rs", "use holdall::pack;", &["`pack` is not below"]),
        ("src/main.rs", "fn main() { holdall::cli::run(); holdall::id::run(); }", &["`id`"]),
        ("src/id.rs", "use super::pack;", &["`pack` is not below"]),
        ("src/id.rs", "use super::*;", &["`` is no room"]),
        ("src/pack/mod.rs", "mod tests {\n use super::super::cli; }", &["2: `cli` is not below"]),
        ("src/pack/a.rs", "use super::super::{id, index};", &["`index` is not below"]),
        ("src/pack/a/b.rs", "mod x {} mod t { use super::super::super::super::cli; }", &["`cli`"]),
        ("src/pack/a/mod.rs", "mod t { use super::super::index; } use super::{self, cli};", &[]),
        ("src/pack/mod.rs", "mod tests { use super::*; use super::index; }", &[]),
        ("src/pack/a.rs", "use super::b; pub(crate) struct A; macro!($crate::id::X);", &[]),
        ("src/cli/a.rs", "use crate::{\n  id,\n  index,\n};", &[]),
        ("src/id.rs", "/// [`crate::cli`]\nconst A: &str = \"crate::cli\";", &[]),
    ] {
        assert_red(floor_findings(&table, &File::new(path, text)), expected);
    }
    let files = all_files();
    let lib = files.iter().find(|f| f.path == "src/lib.rs").unwrap();
    let table = floor_table(lib);
    let rust = files.iter().filter(|f| f.is_rust_in(&["src"]));
    assert_clean(rust.flat_map(|f| floor_findings(&table, f)).collect());
}

#[test]
fn the_table_of_floors_is_the_house() {
    let mut sample: Vec<File> = ["src/id.rs", "src/pack/mod.rs", "src/pack/a.rs", "src/cli/mod.rs"]
        .iter()
        .map(|path| File::new(path, ""))
        .collect();
    assert_red(table_findings(&sample), &["lib.rs is missing"]);
    sample.push(File::new("src/lib.rs", SAMPLE_LIB));
    assert_red(table_findings(&sample), &["`index` has a file or"]);
    sample.push(File::new("src/index.rs", ""));
    assert_red(table_findings(&sample), &[]);
    sample.push(File::new("src/more.rs", ""));
    assert_red(table_findings(&sample), &["`more` has a file or"]);
    sample.pop();
    let higher = SAMPLE_LIB.replace("pub mod pack;", "").replace("| 1 | `pack`", "| 2 | `pack`");
    sample.retain(|f| f.path != "src/lib.rs");
    sample.push(File::new("src/lib.rs", &higher));
    assert_red(table_findings(&sample), &["`pack` has a mod line or", "not cli alone"]);
    assert_clean(table_findings(&all_files()));
}

#[test]
fn each_file_says_only_what_it_may() {
    for (path, text, expected) in [
        ("src/id.rs", "fn f() { unsafe { g() } }", &["`unsafe`"][..]),
        ("src/cli/mod.rs", "async fn f() { g().await }", &["`async`", "`.await`"]),
        ("src/id.rs", "fn f() { println!(\"\"); eprint!(\"\") }", &["`println!`", "`eprint!`"]),
        ("src/id.rs", "use std::env;\nfn f() { env::var(\"A\") }", &["`std::env`", "2: `env::`"]),
        ("src/id.rs", "fn f() { std::process::exit(1) }", &["`process::exit`"]),
        ("src/id.rs", "fn f() { std::io::stdout().lock() }", &["`io::stdout`"]),
        ("src/cli/a.rs", "fn f() { dbg!(SystemTime::now()) }", &["`dbg!`", "`SystemTime::now`"]),
        ("src/cli/a.rs", "fn f() { println!(\"\"); std::env::args(); process::exit(1) }", &[]),
        ("src/main.rs", "fn main() { std::process::exit(1) }", &[]),
        ("src/world.rs", "fn now() { SystemTime::now() }", &[]),
        (
            "src/id/tests.rs",
            "fn f() { std::env::args(); SystemTime::now(); unsafe {} }",
            &["unsafe"],
        ),
        ("src/id.rs", "// unsafe\n#![deny(unsafe_code)]\nconst A: &str = env!(\"B\");", &[]),
        ("src/id.rs", "const A: &str = r#\"println!(\"{}\") /* \"#; /* /* dbg! */ async */", &[]),
        ("src/id.rs", "fn f<'a>(a: &'a u8) { ('\"', '\\'', 'é', b'\\\\', \"\\\"dbg!\") }", &[]),
        ("src/id.rs", "const A: [char; 2] = ['\"', '\\u{22}']; fn f() { dbg!(1) }", &["`dbg!`"]),
    ] {
        assert_red(word_findings(&File::new(path, text)), expected);
    }
    let files = all_files();
    let rust = files.iter().filter(|f| f.is_rust_in(&["src"]));
    assert_clean(rust.flat_map(word_findings).collect());
}

#[test]
fn nothing_is_left_over() {
    for (text, expected) in [
        ("// TODO: later", &["TODO"][..]),
        ("/* FIXME */", &["FIXME"]),
        ("#[ignore = \"slow\"]\nfn f() {}", &["#[ignore"]),
        ("fn f() { std::thread::sleep(d); }", &["thread::sleep", "sleep("]),
        ("fn f() { sleep(d); nanosleep(d) }", &["sleep(", "sleep("]),
        ("// a sleep( in words, an #[ignore]\nconst TODOS: u8 = 1;", &[]),
    ] {
        assert_red(leftover_findings(&File::new("tests/a.rs", text)), expected);
    }
    let files = all_files();
    let rust = files.iter().filter(|f| f.is_rust_in(&["src", "tests", "fuzz", "benches"]));
    assert_clean(rust.flat_map(leftover_findings).collect());
}

#[test]
fn no_path_is_that_of_one_machine() {
    for (text, expected) in [
        ("see /work/notes", &["1: /work"][..]),
        ("\n\"/work\"", &["2: /work"]),
        ("`/root/.cargo/bin`", &["/root/.cargo"]),
        ("~/work/x, a/work/x, /workspace, https://a/work", &[]),
    ] {
        assert_red(machine_findings(&File::new("README.md", text)), expected);
    }
    let files = all_files();
    assert_clean(
        files
            .iter()
            .filter(|f| !f.path.starts_with(THIS_CHECK))
            .flat_map(machine_findings)
            .collect(),
    );
}

#[test]
fn files_and_functions_are_short() {
    let long =
        |lines| format!("trait T {{ fn a(x: [u8; 2]); }}\nfn b() {{{}}}", "\n".repeat(lines));
    let file = |lines| File::new("src/id.rs", &long(lines));
    assert_red(length_findings(&file(FUNCTION_LINES_MAX - 1)), &[]);
    assert_red(length_findings(&file(FUNCTION_LINES_MAX)), &["2: `b` has 101 lines"]);
    let lines = |count| File::new("src/id.rs", &"// x\n".repeat(count));
    assert_red(length_findings(&lines(FILE_LINES_MAX)), &[]);
    assert_red(length_findings(&lines(FILE_LINES_MAX + 1)), &["601 lines"]);

    let files = all_files();
    let rust = || files.iter().filter(|f| f.is_rust_in(&["src"]));
    let longest = rust().max_by_key(|f| f.text.lines().count()).unwrap();
    println!("longest file: {}, {} lines", longest.path, longest.text.lines().count());
    let all = rust().flat_map(|f| functions(f).into_iter().map(move |found| (f, found)));
    let (file, (at, name, lines)) = all.max_by_key(|(_, (_, _, lines))| *lines).unwrap();
    println!("longest function: {}", file.finding(at, format!("`{name}`, {lines} lines")));
    assert_clean(rust().flat_map(length_findings).collect());
}

#[test]
fn citations_of_the_format_resolve() {
    let chapter = "# Packs\n## The `trailer`, again\n```\n# no heading\n```\n<a id=\"here\"></a>\n";
    let sample = |code: &str, chapter: Option<&str>| {
        let mut files = vec![File::new("src/pack.rs", code)];
        files.extend(chapter.map(|text| File::new("format-spec/07-pack.md", text)));
        citation_findings(&files)
    };
    let cites = "// `format-spec/07-pack.md`.\n";
    for (code, expected) in [
        ("// format-spec/07-pack.md#the-trailer-again and format-spec/07-pack.md#here.", &[][..]),
        ("// format-spec/07-pack.md#no-heading", &["1: format-spec/07-pack.md has no heading"]),
        ("// format-spec/08-index.md", &["format-spec/08-index.md does not exist"]),
        ("// chapters of format-spec/", &[]),
    ] {
        assert_red(sample(&format!("{code}\n{cites}"), Some(chapter)), expected);
    }
    assert_red(sample("", Some(chapter)), &["07-pack.md: no file in src cites it"]);
    assert_red(sample("// format-spec/08-index.md", None), &[]);
    assert_clean(citation_findings(&all_files()));
}

#[test]
fn no_file_is_dead() {
    let sample = |extra: &[(&str, &str)]| {
        let files = [
            ("Cargo.toml", "[[test]]\npath = \"tests/repo/main.rs\"\n"),
            ("fuzz/Cargo.toml", "path = \"fuzz_targets/tree.rs\"\n"),
            ("src/lib.rs", "pub mod id;\npub mod pack;\nmod here { fn f() {} }\n"),
            ("src/id.rs", "#[cfg(test)]\nmod tests;"),
            ("src/id/tests.rs", ""),
            ("src/pack/mod.rs", "mod read;\n// mod write;"),
            ("src/pack/read.rs", ""),
            ("tests/repo/main.rs", "#[path = \"../support/mod.rs\"]\nmod support;\n"),
            ("tests/support/mod.rs", "mod store;"),
            ("tests/support/store.rs", ""),
            ("fuzz/fuzz_targets/tree.rs", ""),
            ("benches/plain.rs", ""),
        ];
        let all = files.iter().chain(extra).map(|(path, text)| File::new(path, text));
        dead_files(&all.collect::<Vec<_>>())
    };
    assert_red(sample(&[]), &[]);
    assert_red(sample(&[("src/pack/write.rs", "")]), &["src/pack/write.rs"]);
    assert_red(sample(&[("tests/other.rs", "")]), &["tests/other.rs"]);
    assert_red(sample(&[("src/here.rs", "")]), &["src/here.rs"]);
    assert_clean(dead_files(&all_files()));
}

#[test]
fn the_top_of_the_repository_holds_what_it_should() {
    assert_red(top_level_findings(["src", ".ci", "notes.txt"]), &["notes.txt"]);
    let names: Vec<String> = fs::read_dir(house())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !NOT_OURS.contains(&name.as_str()))
        .collect();
    assert_clean(top_level_findings(names.iter().map(String::as_str)));
}

#[test]
fn the_guards_of_the_table_stand_where_it_says() {
    let table = fs::read_to_string(house().join("tests/guards.toml")).unwrap();
    let table = toml_edit::Document::parse(table).unwrap();
    let guards = table["guard"].as_array_of_tables().unwrap();
    assert!(guards.len() > 80);
    let files = all_files();
    for guard in guards {
        let text = |name: &str| guard[name].as_str().unwrap();
        let code = fs::read_to_string(house().join(text("file"))).unwrap();
        assert_eq!(code.matches(text("on")).count(), 1, "{}", text("guard"));
        assert_ne!(text("on"), text("off"));
        // The end of the filter begins the name of a test, or of a room of them.
        let name = text("test").rsplit([' ', ':']).find(|part| !part.is_empty()).unwrap();
        let (test, room) = (format!("fn {name}"), format!("mod {name}"));
        let is_there = |file: &File| file.text.contains(&test) || file.text.contains(&room);
        assert!(files.iter().any(is_there), "{}: no test is called {name}", text("guard"));
    }
}
