use std::cell::RefCell;
use std::os::unix::ffi::OsStringExt;

use proptest::prelude::*;

use super::*;

fn parse(file: &str) -> Result<Settings, SettingsError> {
    Settings::parse(file.as_bytes(), &|name| match name {
        "HOME" => Some("/home/me".into()),
        "N" => Some("4".into()),
        "RAW" => Some(OsString::from_vec(vec![b'r', 0xff])),
        "_long" => Some("x".repeat(FILE_LEN_MAX / 4).into()),
        _ => None,
    })
}

/// Line, column, message and hint of what is wrong.
fn wrong(file: &str) -> (usize, usize, String, String) {
    let error = parse(file).unwrap_err();
    let Place { line, column } = error.place;
    (line, column, error.mistake.to_string(), error.hint().unwrap_or_default())
}

fn placed<T>(value: impl Into<T>, line: usize, column: usize) -> Placed<T> {
    Placed { value: value.into(), place: Place { line, column } }
}

const ALL: &str = r#"# Every name.
repo = "../backups"
key-file = "${HOME}/key"
password-file = 'password'
password-command = "pass show holdall"
cache-dir = "/cache"
threads = 4
limit-upload = "10M"
limit-download = 2048
timezone = "Europe/Berlin"

[backup]
exclude = ["*.tmp", '''
node_modules''',
  "$${x}"]
exclude-file = "excludes"
exclude-caches = true
exclude-larger-than = "1G"
one-file-system = true
compression = 19
"#;

#[test]
fn every_name() {
    let expected = Settings {
        repo: Some(placed("../backups", 2, 8)),
        key_file: Some("/home/me/key".into()),
        password_file: Some("password".into()),
        password_command: Some("pass show holdall".into()),
        cache_dir: Some("/cache".into()),
        threads: Some(4),
        limit_upload: NonZeroU64::new(10 << 20),
        limit_download: NonZeroU64::new(2048),
        timezone: Some(placed("Europe/Berlin", 10, 12)),
        backup: BackupSettings {
            exclude: vec![
                placed("*.tmp", 13, 12),
                placed("node_modules", 13, 21),
                placed("${x}", 15, 3),
            ],
            exclude_file: vec!["excludes".into()],
            exclude_caches: true,
            exclude_larger_than: Some(1 << 30),
            one_file_system: true,
            compression: Some(placed("19", 20, 15)),
        },
    };
    assert_eq!(parse(ALL), Ok(expected));
    // What is suggested is understood, and what is understood is suggested.
    for (table, name) in NAMES {
        assert!(ALL.contains(&format!("\n{name} = ")) || ALL.contains(&format!("\n[{name}]")));
        let file = if table.is_empty() {
            format!("{name} = []")
        } else {
            format!("{table}.{name} = {{}}")
        };
        let error = parse(&file).unwrap_err();
        assert!(matches!(error.mistake, Mistake::Kind { .. }), "{name}: {error}");
    }
}

#[test]
fn nothing_and_other_forms() {
    assert_eq!(parse(""), Ok(Settings::default()));
    assert_eq!(parse("\u{feff}# only a comment\r\n"), Ok(Settings::default()));
    for file in ["backup = { exclude = 'a' }", "backup.exclude = 'a'", "[backup]\r\nexclude='a'"] {
        let exclude = parse(file).unwrap().backup.exclude;
        assert_eq!(exclude.len(), 1, "{file}");
        assert_eq!(exclude[0].value, "a");
    }
    assert_eq!(parse("backup.exclude = []").unwrap().backup.exclude, []);
}

#[test]
fn variables() {
    let raw = |text: &str| parse(&format!("password-command = '{text}'")).unwrap().password_command;
    for (text, expected) in [
        ("${HOME}", "/home/me"),
        ("a${HOME}b${N}", "a/home/meb4"),
        ("$${HOME}", "${HOME}"),
        ("$HOME $ {N} $$ $(x)", "$HOME $ {N} $$ $(x)"),
        ("a$${${N}", "a${4"),
    ] {
        assert_eq!(raw(text).unwrap(), *expected, "{text}");
    }
    // Numbers and switches, too; and a path keeps its bytes.
    let file = "threads = '${N}'\nlimit-upload = '${N}M'\nkey-file = '${RAW}'";
    let settings = parse(file).unwrap();
    assert_eq!((settings.threads, settings.limit_upload), (Some(4), NonZeroU64::new(4 << 20)));
    assert_eq!(settings.key_file.unwrap().into_os_string().into_vec(), [b'r', 0xff]);
    assert!(parse("backup.exclude-caches = 'true'").unwrap().backup.exclude_caches);
    for (text, message) in [
        ("${NOBODY}", "the variable NOBODY is not set, or is empty"),
        ("${}", "after ${ comes no name with a } behind it"),
        ("${N", "after ${ comes no name with a } behind it"),
        ("${1}", "after ${ comes no name with a } behind it"),
        ("${A-b}", "after ${ comes no name with a } behind it"),
    ] {
        let (line, column, said, hint) = wrong(&format!("threads = 1\nrepo = '{text}'"));
        assert_eq!((line, column, said.as_str()), (2, 8, message), "{text}");
        assert!(hint.contains("$${"), "{hint}");
    }
    // Only names that stand in the file are looked up.
    let asked = RefCell::new(Vec::new());
    let lookup = |name: &str| {
        asked.borrow_mut().push(name.to_owned());
        None
    };
    Settings::parse(b"# ${A}\nrepo = '$${B}'\ntimezone = '${C}'", &lookup).unwrap_err();
    assert_eq!(*asked.borrow(), ["C"]);
}

#[test]
fn unknown_names() {
    for (file, line, column, message, hint) in [
        ("\nrepositry = 'x'", 2, 1, "unknown name \"repositry\"", "write repo"),
        ("  reop = 'x'", 1, 3, "unknown name \"reop\"", "write repo"),
        ("repository = 'x'", 1, 1, "unknown name \"repository\"", "write repo"),
        ("key_file = 'x'", 1, 1, "unknown name \"key_file\"", "write key-file"),
        ("exclude = 'x'", 1, 1, "unknown name \"exclude\"", "write exclude in the table [backup]"),
        ("[backups]", 1, 2, "unknown name \"backups\"", "write backup"),
        (
            "[backup]\nthreads = 1",
            2,
            1,
            "unknown name \"threads\" in [backup]",
            "write threads before the first table",
        ),
        ("[backup]\nexclud = 'x'", 2, 1, "unknown name \"exclud\" in [backup]", "write exclude"),
        ("[job.nightly]\n", 1, 2, "unknown name \"job\"", ""),
        ("\"a\\nb\" = 1", 1, 1, "unknown name \"a\\nb\"", ""),
        ("[backup.exclude]\nx = 1", 1, 1, "exclude must be a list of texts", ""),
    ] {
        let expected = (line, column, message.to_owned(), hint.to_owned());
        assert_eq!(wrong(file), expected, "{file}");
    }
}

#[test]
fn a_password_is_not_taken() {
    for (file, line) in [("password = 'x'", 1), ("[backup]\npassword = 5", 2)] {
        let (found, _, message, hint) = wrong(file);
        assert_eq!((found, message.as_str()), (line, "a password is not kept in this file"));
        assert!(hint.contains("password-file") && hint.contains("password-command"), "{hint}");
    }
}

#[test]
fn values_that_are_none() {
    for (file, message) in [
        ("repo = 5", "repo must be a text in quotation marks"),
        ("repo = ''", "repo is empty"),
        ("repo = '~/x'", "~ means nothing here"),
        ("key-file = '~'", "~ means nothing here"),
        ("threads = 0", "threads must be a number from 1 to 256"),
        ("threads = 257", "threads must be a number from 1 to 256"),
        ("threads = -1", "threads must be a number from 1 to 256"),
        ("threads = 1.5", "threads must be a number from 1 to 256"),
        ("timezone = ['x']", "timezone must be the name of a time zone"),
        ("limit-upload = 'fast'", "limit-upload: \"fast\" is not a size such as 500M or 1.5GiB"),
        ("limit-upload = 0", "limit-upload: \"0\" is less than 1 KiB a second"),
        ("limit-download = 1.5", "limit-download must be a size such as 500 or \"10M\""),
        ("backup = 1", "backup must be a table"),
        ("[[backup]]", "backup must be a table"),
        ("backup.exclude = ['a', 5]", "exclude must be a text in quotation marks"),
        ("backup.exclude-caches = 'yes'", "exclude-caches must be true or false"),
        ("backup.one-file-system = 1", "one-file-system must be true or false"),
        ("backup.compression = true", "compression must be a word or a number"),
    ] {
        assert_eq!(wrong(file).2, message, "{file}");
    }
}

#[test]
fn what_is_no_toml() {
    for (file, line, column) in [("a", 1, 2), ("# ü\nrepo = 'x", 2, 10), ("repo = ü", 1, 8)] {
        let (found_line, found_column, message, _) = wrong(file);
        assert_eq!((found_line, found_column), (line, column), "{file}: {message}");
        assert!(message.starts_with("this is not TOML: "), "{message}");
    }
    assert!(wrong("threads = 1\nthreads = 2").2.contains("duplicate"));
    let bad = Settings::parse(b"# \xc3\xbc\n# \xff", &|_| None).unwrap_err();
    assert_eq!((bad.place.line, bad.place.column), (2, 3));
    assert_eq!(bad.mistake, Mistake::NotText);
    // Nested without end.
    assert!(wrong(&format!("repo = {}", "[".repeat(100_000))).2.contains("TOML"));
}

#[test]
fn lengths_are_bounded() {
    let long = "#".repeat(FILE_LEN_MAX);
    parse(&long).unwrap();
    assert_eq!(parse(&(long + "#")).unwrap_err().mistake, Mistake::TooLong);
    let file = |count: usize| format!("backup.exclude = [{}]", "'${_long}',".repeat(count));
    assert_eq!(parse(&file(4)).unwrap().backup.exclude.len(), 4);
    assert_eq!(parse(&file(5)).unwrap_err().mistake, Mistake::TooLong);
}

proptest! {
    #[test]
    fn any_text_gives_settings_or_a_place_in_it(text in r"([a-z.=\[\]{}'$# \n-]|repo|backup|exclude|\$\{N\}|ü){0,24}") {
        if let Err(error) = parse(&text) {
            prop_assert!(error.place.line <= text.matches('\n').count() + 1);
            prop_assert!(error.place.column <= text.chars().count() + 1);
        }
    }
}
