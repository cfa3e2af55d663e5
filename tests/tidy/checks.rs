//! The checks: each is a function of files and gives what it found, line by line.

use std::collections::{BTreeMap, BTreeSet};

use crate::rust::{braces, code_of, first_names, is_name, name_at, words};

/// Where these checks and their bad samples are.
pub const THIS_CHECK: &str = "tests/tidy";
pub const FILE_LINES_MAX: usize = 600;
pub const FUNCTION_LINES_MAX: usize = 100;
/// The file that may hold the one `unsafe` block.
pub const UNSAFE_ALLOWED: &[&str] = &["src/main.rs"];
pub const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "src",
    "format-spec",
    "tests",
    "fuzz",
    "benches",
    "README.md",
    "LICENSE",
    "clippy.toml",
    "rustfmt.toml",
];

pub type Findings = Vec<String>;

pub struct File {
    /// Relative to the repository, with `/`.
    pub path: String,
    pub text: String,
    /// The text with what comments and literals say blanked out; the same lines.
    pub code: String,
}

impl File {
    pub fn new(path: &str, text: &str) -> Self {
        let code = if path.ends_with(".rs") { code_of(text) } else { String::new() };
        Self { path: path.into(), text: text.into(), code }
    }

    pub fn is_rust_in(&self, directories: &[&str]) -> bool {
        let inside = |d: &&str| self.path.strip_prefix(*d).is_some_and(|p| p.starts_with('/'));
        self.path.ends_with(".rs")
            && !self.path.starts_with(THIS_CHECK)
            && directories.iter().any(inside)
    }

    /// The room that the file belongs to: `src/room.rs` or `src/room/…`.
    pub fn room(&self) -> Option<&str> {
        let path = self.path.strip_prefix("src/")?;
        let room = path.split('/').next()?.trim_end_matches(".rs");
        (!matches!(room, "lib" | "main")).then_some(room)
    }

    pub fn is_edge(&self) -> bool {
        self.path == "src/main.rs" || self.room() == Some("cli")
    }

    pub fn finding(&self, offset: usize, what: impl std::fmt::Display) -> String {
        let line = self.text.as_bytes()[..offset].iter().filter(|b| **b == b'\n').count() + 1;
        format!("{}:{line}: {what}", self.path)
    }
}

// Floors.

/// The rows `| floor | room | …` of the documentation of `lib.rs`.
pub fn floor_table(lib: &File) -> BTreeMap<String, u32> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix("//! |")?.split('|').map(str::trim);
        let floor = cells.next()?.parse().ok()?;
        Some((cells.next()?.trim_matches('`').to_owned(), floor))
    };
    lib.text.lines().filter_map(row).collect()
}

/// The table names exactly the rooms that there are, and `cli` alone is at the top.
pub fn table_findings(files: &[File]) -> Findings {
    let Some(lib) = files.iter().find(|f| f.path == "src/lib.rs") else {
        return vec!["src/lib.rs is missing".into()];
    };
    let table = floor_table(lib);
    let in_table: BTreeSet<&str> = table.keys().map(String::as_str).collect();
    let on_disk: BTreeSet<&str> = files.iter().filter_map(File::room).collect();
    let modules: BTreeSet<&str> = module_names(lib).into_iter().map(|(_, name)| name).collect();
    let mut findings = Findings::new();
    for (what, rooms) in [("a file", on_disk), ("a mod line", modules)] {
        let lonely = rooms.symmetric_difference(&in_table);
        findings.extend(lonely.map(|room| format!("`{room}` has {what} or a floor, not both")));
    }
    let top = table.values().max();
    let at_top: Vec<_> = table.iter().filter(|(_, f)| Some(*f) == top).map(|(r, _)| r).collect();
    if at_top != ["cli"] {
        findings.push(format!("at the top stands {at_top:?}, not cli alone"));
    }
    findings
}

/// Every path from the root of the crate leads to a lower floor or stays in its room.
pub fn floor_findings(table: &BTreeMap<String, u32>, file: &File) -> Findings {
    let mut findings = Findings::new();
    let mut to = |at: usize, name: &str| match (file.room(), table.get(name)) {
        (_, None) => findings.push(file.finding(at, format!("`{name}` is no room"))),
        (Some(room), Some(_)) if room == name => {}
        (Some(room), Some(floor)) if table.get(room).is_some_and(|own| floor < own) => {}
        (None, Some(_)) if name == "cli" => {}
        _ => findings.push(file.finding(at, format!("`{name}` is not below"))),
    };
    for root in ["crate", "holdall"] {
        for at in words(&file.code, root) {
            let rest = &file.code[at + root.len()..];
            match rest.strip_prefix("::") {
                Some(rest) => first_names(rest).into_iter().for_each(|name| to(at, name)),
                // `pub(crate)` leads nowhere; `use crate as …` could lead anywhere.
                None if rest.starts_with(')') || root == "holdall" => {}
                None => to(at, root),
            }
        }
    }
    for (at, supers) in super_paths(&file.code) {
        let (levels, rest) = supers;
        // With as many steps up as it has floors below the root, a path starts at the root.
        if levels >= depth_at(file, at) {
            first_names(rest).into_iter().for_each(|name| to(at, name));
        }
    }
    findings
}

/// Every path that begins with `super::`: how many of them it has, and what follows.
fn super_paths(code: &str) -> Vec<(usize, (usize, &str))> {
    let path = |at: usize| {
        let mut levels = 0;
        let mut rest = &code[at..];
        while let Some(after) = rest.strip_prefix("super::") {
            (levels, rest) = (levels + 1, after);
        }
        (at, (levels, rest))
    };
    let begins = |at: &usize| !code[..*at].ends_with("super::");
    words(code, "super::").filter(begins).map(path).collect()
}

/// How many modules enclose a place in a file, the file's own included.
fn depth_at(file: &File, at: usize) -> usize {
    let below = file.path.trim_start_matches("src/").trim_end_matches("/mod.rs");
    let own = if file.room().is_some() { below.split('/').count() } else { 0 };
    let encloses = |start: &usize| {
        let rest = &file.code[*start..];
        let name = rest.strip_prefix("mod ").map_or("", name_at);
        let body = rest[(4 + name.len()).min(rest.len())..].trim_start();
        let open = *start + rest.len() - body.len();
        body.starts_with('{') && braces(body).is_some_and(|b| (open..open + b.len()).contains(&at))
    };
    own + words(&file.code, "mod").take_while(|start| *start < at).filter(encloses).count()
}

// Words.

/// What only some files may say, and why the others must not.
pub fn word_findings(file: &File) -> Findings {
    const EDGE: &str = "only `cli` and main print, read the environment or end the process";
    const WORLD: &str = "time and randomness come in through `world`";
    // A test in a file of its own may run itself once more, and look at the real clock.
    let test = file.path.ends_with("/tests.rs") || file.path.contains("/tests/");
    let edge = file.is_edge() || test;
    let world = file.path == "src/world.rs" || test;
    let rules: [(&[&str], bool, &str); 5] = [
        (&["unsafe"], UNSAFE_ALLOWED.contains(&file.path.as_str()), "no unsafe code"),
        (&["async", ".await"], false, "the work is done by plain threads"),
        (&["dbg!"], false, "a leftover"),
        (
            &[
                "println!",
                "eprintln!",
                "print!",
                "eprint!",
                "io::stdout",
                "io::stderr",
                "std::env",
                "env::",
                "process::exit",
                "process::abort",
                "TimeZone::system",
            ],
            edge,
            EDGE,
        ),
        (&["SystemTime::now", "Timestamp::now", "Zoned::now", "getrandom::"], world, WORLD),
    ];
    let mut findings = Findings::new();
    for (needles, _, why) in rules.iter().filter(|(_, allowed, _)| !allowed) {
        for needle in *needles {
            let found = words(&file.code, needle);
            findings.extend(found.map(|at| file.finding(at, format!("`{needle}`: {why}"))));
        }
    }
    findings
}

/// What is not finished, not run, or waits for time to pass.
pub fn leftover_findings(file: &File) -> Findings {
    let mut findings = Findings::new();
    for needle in ["TODO", "FIXME"] {
        findings.extend(words(&file.text, needle).map(|at| file.finding(at, needle)));
    }
    for needle in ["#[ignore", "thread::sleep", "sleep("] {
        findings.extend(file.code.match_indices(needle).map(|(at, _)| file.finding(at, needle)));
    }
    findings
}

/// Paths that exist on one developer's machine only.
pub fn machine_findings(file: &File) -> Findings {
    let bytes = file.text.as_bytes();
    let begins = |at: &usize| {
        let inside = |b: &u8| is_name(*b) || b"./~$}-".contains(b);
        *at == 0 || !inside(&bytes[*at - 1])
    };
    let mut findings = Findings::new();
    for path in ["/work", "/root/.cargo", "/tmp/bash_jobs"] {
        let found = words(&file.text, path).filter(begins);
        findings.extend(found.map(|at| file.finding(at, format!("{path}: a path of one machine"))));
    }
    findings
}

// Lengths.

/// Every function with a body: where it begins, its name, its lines.
pub fn functions(file: &File) -> Vec<(usize, &str, usize)> {
    let code = file.code.as_str();
    let with_body = |at: usize| {
        let rest = code[at + 2..].strip_prefix(' ')?;
        let name = name_at(rest);
        let mut depth = 0;
        let ends = |b: u8| {
            match b {
                b'(' | b'[' => depth += 1,
                b')' | b']' => depth -= 1,
                _ => {}
            }
            depth == 0 && matches!(b, b'{' | b';')
        };
        let open = at + code[at..].bytes().position(ends)?;
        let body = code[open..].starts_with('{').then(|| braces(&code[open..])).flatten()?;
        let lines = code[at..open + body.len()].matches('\n').count() + 1;
        (!name.is_empty()).then_some((at, name, lines))
    };
    words(code, "fn").filter_map(with_body).collect()
}

pub fn length_findings(file: &File) -> Findings {
    let mut findings = Findings::new();
    let lines = file.text.lines().count();
    if lines > FILE_LINES_MAX {
        findings.push(format!("{}: {lines} lines, more than {FILE_LINES_MAX}", file.path));
    }
    for (at, name, lines) in functions(file) {
        if lines > FUNCTION_LINES_MAX {
            let what = format!("`{name}` has {lines} lines, more than {FUNCTION_LINES_MAX}");
            findings.push(file.finding(at, what));
        }
    }
    findings
}

// Citations of the format.

fn is_chapter(path: &str) -> bool {
    path.strip_prefix("format-spec/").is_some_and(|name| {
        let number = name.len() > 3 && name.bytes().take(2).all(|b| b.is_ascii_digit());
        number && name.as_bytes()[2] == b'-' && name.ends_with(".md") && !name.contains('/')
    })
}

/// What can follow `#` in a link to this chapter: its headings as the usual renderers name them,
/// and explicit anchors.
fn anchors(chapter: &File) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let mut in_code = false;
    for line in chapter.text.lines() {
        in_code ^= line.trim_start().starts_with("```");
        if line.starts_with('#') && !in_code {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
            anchors.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
        }
        for part in line.split("<a id=\"").skip(1) {
            anchors.extend(part.split('"').next().map(str::to_owned));
        }
    }
    anchors
}

/// Every `format-spec/…` that a file cites, with its anchor; where it stands comes first.
fn citations(file: &File) -> Vec<(usize, &str, Option<&str>)> {
    let cited = |(at, prefix): (usize, &str)| {
        let part = |text: &'static [u8]| move |b: u8| !(is_name(b) || text.contains(&b));
        let rest = &file.text[at..];
        let end = rest.bytes().position(part(b"-./")).unwrap_or(rest.len());
        let path = rest[..end].trim_end_matches(['.', '/']);
        let anchor = rest[path.len()..].strip_prefix('#').map(|rest| {
            let end = rest.bytes().position(part(b"-")).unwrap_or(rest.len());
            &rest[..end]
        });
        (path.len() > prefix.len()).then_some((at, path, anchor))
    };
    file.text.match_indices("format-spec/").filter_map(cited).collect()
}

/// Every citation leads somewhere, and every chapter is cited by the code. As long as there is no
/// chapter at all nothing is asked.
pub fn citation_findings(files: &[File]) -> Findings {
    let chapters: Vec<&File> = files.iter().filter(|f| is_chapter(&f.path)).collect();
    if chapters.is_empty() {
        return Findings::new();
    }
    let by_path: BTreeMap<&str, &File> = files.iter().map(|f| (f.path.as_str(), f)).collect();
    let is_directory = |path: &str| files.iter().any(|f| f.path.starts_with(&format!("{path}/")));
    let mut findings = Findings::new();
    let mut cited_by_code = BTreeSet::new();
    for file in files.iter().filter(|f| f.path.ends_with(".rs") || f.path == "README.md") {
        for (at, path, anchor) in
            citations(file).into_iter().filter(|_| !file.path.starts_with(THIS_CHECK))
        {
            cited_by_code.extend(file.path.starts_with("src/").then_some(path));
            match (by_path.get(path), anchor) {
                (None, _) if is_directory(path) => {}
                (None, _) => findings.push(file.finding(at, format!("{path} does not exist"))),
                (Some(chapter), Some(anchor)) if !anchors(chapter).contains(anchor) => {
                    findings.push(file.finding(at, format!("{path} has no heading #{anchor}")));
                }
                (Some(_), _) => {}
            }
        }
    }
    let forgotten = chapters.iter().filter(|c| !cited_by_code.contains(c.path.as_str()));
    findings.extend(forgotten.map(|c| format!("{}: no file in src cites it", c.path)));
    findings
}

// Files.

/// The modules that a file declares without a body, with the place of the name.
fn module_names(file: &File) -> Vec<(usize, &str)> {
    let declared = |at: usize| {
        let name = name_at(file.code[at..].strip_prefix("mod ")?);
        file.code[at + 4 + name.len()..].starts_with(';').then_some((at, name))
    };
    words(&file.code, "mod").filter_map(declared).collect()
}

/// What `key"…"` says right before a place, or after it.
fn quoted_after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.split_once(key)?.1.split('"').next()
}

/// Files with Rust code that no build would ever read.
pub fn dead_files(files: &[File]) -> Findings {
    let rust: BTreeMap<&str, &File> =
        files.iter().filter(|f| f.path.ends_with(".rs")).map(|f| (f.path.as_str(), f)).collect();
    let mut waiting: Vec<String> = vec!["src/lib.rs".into(), "src/main.rs".into()];
    for manifest in files.iter().filter(|f| f.path.ends_with("Cargo.toml")) {
        let directory = manifest.path.trim_end_matches("Cargo.toml");
        let roots = manifest.text.lines().filter_map(|line| quoted_after(line, "path = \""));
        waiting.extend(roots.map(|path| format!("{directory}{path}")));
    }
    // Benchmarks are found by cargo itself.
    let is_bench = |path: &str| path.starts_with("benches/") && path.matches('/').count() == 1;
    waiting.extend(rust.keys().filter(|path| is_bench(path)).map(|path| path.to_string()));

    let mut reached: BTreeSet<&str> = BTreeSet::new();
    while let Some(path) = waiting.pop() {
        let Some((path, file)) = rust.get_key_value(path.as_str()) else { continue };
        if !reached.insert(path) {
            continue;
        }
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let is_root = matches!(name, "mod.rs" | "lib.rs" | "main.rs");
        let is_root = is_root || !path.starts_with("src/") && directory.matches('/').count() == 0;
        let below = if is_root { directory } else { path.trim_end_matches(".rs") };
        for (at, module) in module_names(file) {
            let line = file.text[..at].rfind('\n').unwrap_or(0);
            let line_before = file.text[..line].lines().last().unwrap_or_default();
            match quoted_after(line_before, "#[path = \"") {
                Some(elsewhere) => waiting.push(joined(directory, elsewhere)),
                None => {
                    waiting.push(format!("{below}/{module}.rs"));
                    waiting.push(format!("{below}/{module}/mod.rs"));
                }
            }
        }
    }
    let dead = rust.keys().filter(|path| !reached.contains(*path));
    dead.map(|path| format!("{path}: no mod line leads here")).collect()
}

fn joined(directory: &str, relative: &str) -> String {
    let mut parts: Vec<&str> = directory.split('/').collect();
    for part in relative.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

pub fn top_level_findings<'a>(names: impl IntoIterator<Item = &'a str>) -> Findings {
    let strange = names.into_iter().filter(|n| !n.starts_with('.') && !TOP_LEVEL.contains(n));
    strange.map(|name| format!("{name}: not a name for the top of the repository")).collect()
}
