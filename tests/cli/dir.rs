//! A home of its own for each test, and the real binary in it.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A directory with everything that one user has; nothing of the real user is read or written.
pub struct Dir {
    place: TempDir,
}

/// What a run of the binary gave.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A run that is being prepared.
pub struct Cmd {
    command: Command,
    input: Vec<u8>,
}

impl Dir {
    pub fn new() -> Self {
        Self::new_in(&std::env::temp_dir())
    }

    /// One on another disk.
    pub fn new_in(above: &Path) -> Self {
        let place = tempfile::Builder::new().prefix("holdall-cli-").tempdir_in(above).unwrap();
        fs::create_dir(place.path().join("work")).unwrap();
        Self { place }
    }

    /// One that has a repository already, opened by the default key file.
    pub fn with_repository() -> Self {
        let dir = Self::new();
        dir.run(["-q", "init"]).ok();
        dir
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// The directory that the binary runs in.
    pub fn work(&self, name: &str) -> PathBuf {
        self.path("work").join(name)
    }

    /// Writes a file below the working directory.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.work(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    pub fn repository(&self) -> PathBuf {
        self.path("data/holdall/repository")
    }

    pub fn key_file(&self) -> PathBuf {
        self.path("config/holdall/key")
    }

    /// The command that is to be run, in an environment that holds nothing else.
    pub fn prepare(&self, mut command: Command) -> Command {
        command.env_clear().current_dir(self.path("work")).env("HOME", self.path("home"));
        command.env("PATH", "/usr/bin:/bin").env("TZ", "UTC");
        for (name, place) in
            [("DATA", "data"), ("CONFIG", "config"), ("CACHE", "cache"), ("STATE", "state")]
        {
            command.env(format!("XDG_{name}_HOME"), self.path(place));
        }
        command
    }

    pub fn cmd<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Cmd {
        let mut command = self.prepare(Command::new(env!("CARGO_BIN_EXE_holdall")));
        command.args(args);
        Cmd { command, input: Vec::new() }
    }

    pub fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ran {
        self.cmd(args).run()
    }

    /// A shell's command line, in which `$H` is the binary.
    pub fn shell(&self, line: &str) -> Ran {
        let mut command = self.prepare(Command::new("/bin/bash"));
        command.args(["-c", line]).env("H", env!("CARGO_BIN_EXE_holdall"));
        Cmd { command, input: Vec::new() }.run()
    }

    /// The same on a terminal of its own, with what is typed there. Both streams come as stdout.
    pub fn terminal(&self, line: &str, typed: &str) -> Ran {
        let mut command = self.prepare(Command::new("/usr/bin/script"));
        command.args(["-qec", line, "/dev/null"]).env("TERM", "xterm");
        command.env("H", env!("CARGO_BIN_EXE_holdall"));
        let mut ran = Cmd { command, input: typed.into() }.run();
        ran.stdout = ran.stdout.replace("\r\n", "\n");
        ran
    }

    /// The JSON lines that a command answers.
    pub fn json<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Vec<Value> {
        self.run(args).ok().lines()
    }

    /// Backs up a path below the working directory, and gives the snapshot's id.
    pub fn backup(&self, path: &str) -> String {
        let lines = self.json(["--json", "backup", path]);
        text(&lines.last().unwrap()["snapshot"]["id"])
    }

    /// Every regular file below a path, with its content.
    pub fn files(&self, below: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        let mut waiting = vec![below.to_owned()];
        while let Some(directory) = waiting.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                match fs::symlink_metadata(&path).unwrap() {
                    about if about.is_dir() => waiting.push(path),
                    about if about.is_file() => found.push((path.clone(), fs::read(path).unwrap())),
                    _ => {}
                }
            }
        }
        found.sort();
        found
    }
}

impl Cmd {
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn stdin(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    pub fn run(mut self) -> Ran {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        let input = self.input;
        // What does not read its input must not keep this from going on.
        let writer = std::thread::spawn(move || drop(pipe.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ran {
    /// It ended with this code.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        self.code(0)
    }

    /// It failed with this code, and one line that says all of this.
    #[track_caller]
    pub fn fails(self, code: i32, parts: &[&str]) -> Self {
        let ran = self.code(code);
        let last = ran.stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("error: "), "{}", ran.stderr);
        assert_eq!(ran.stderr.matches("error: ").count(), 1, "{}", ran.stderr);
        for part in parts {
            assert!(last.contains(part), "{part:?} is not said: {last}");
        }
        ran
    }

    /// Every line of stdout as JSON.
    #[track_caller]
    pub fn lines(&self) -> Vec<Value> {
        let value =
            |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let lines: Vec<Value> = self.stdout.lines().map(value).collect();
        assert!(lines.iter().all(|line| line["type"].is_string()), "{}", self.stdout);
        lines
    }
}

/// A JSON string's text.
#[track_caller]
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// The names of an object's fields.
#[track_caller]
pub fn fields(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}
