//! Ctrl-C, and what is told while a command works.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::dir::Dir;

/// A backup of standard input that goes on until that ends, with its session begun.
fn begin(dir: &Dir, args: &[&str]) -> Child {
    let mut command = dir.prepare(Command::new(env!("CARGO_BIN_EXE_holdall")));
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    // The record is written after signals are listened for.
    let sessions = dir.repository().join("sessions");
    while !std::fs::read_dir(&sessions).is_ok_and(|mut found| found.next().is_some()) {
        std::thread::yield_now();
    }
    child
}

fn send(child: &Child, signal: Signal) {
    let id = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    kill_process(id, signal).unwrap();
}

fn ended(mut child: Child) -> (Option<i32>, String) {
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (child.wait().unwrap().code(), said)
}

#[test]
fn the_first_one_ends_it_in_order() {
    for signal in [Signal::INT, Signal::TERM] {
        let dir = Dir::with_repository();
        let mut child = begin(&dir, &["backup", "--stdin", "x"]);
        send(&child, signal);
        // Whether the end comes at the next block or before it: the rest is not wanted.
        let _ = child.stdin.take().unwrap().write_all(b"some more");
        let (code, said) = ended(child);
        assert_eq!(code, Some(130), "{said}");
        assert_eq!(said, "error: interrupted\n");
        assert_eq!(dir.json(["--json", "snapshots"]).len(), 0);
        assert_eq!(dir.files(&dir.repository().join("sessions")).len(), 0);
    }
}

#[test]
fn the_second_one_ends_it_at_once() {
    let dir = Dir::with_repository();
    let mut child = begin(&dir, &["backup", "--stdin", "x"]);
    let pipe = child.stdin.take().unwrap();
    send(&child, Signal::INT);
    send(&child, Signal::TERM);
    let (code, said) = ended(child);
    assert_eq!((code, said.as_str()), (Some(130), ""));
    drop(pipe);
    // What it left behind is in nobody's way.
    dir.write("f", "x");
    dir.run(["backup", "f"]).ok();
    dir.run(["prune"]).ok();
    dir.run(["check", "--read-data"]).ok();
}

/// At this limit what is read before the signal would take hours to write.
#[test]
fn a_limit_is_not_waited_for() {
    let dir = Dir::with_repository();
    let mut child = begin(&dir, &["backup", "--stdin", "x", "--limit-upload", "1K"]);
    let mut noise = vec![0; 20 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    child.stdin.take().unwrap().write_all(&noise).unwrap();
    send(&child, Signal::INT);
    let (code, said) = ended(child);
    assert_eq!(code, Some(130), "{said}");
    dir.run(["check"]).ok();
}

#[test]
fn programs_are_told_how_far_it_is() {
    let dir = Dir::with_repository();
    let mut child = begin(&dir, &["--json", "backup", "--stdin", "x"]);
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(b"12345").unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(first["type"], "progress");
    assert_eq!(
        crate::dir::fields(&first),
        [
            "bytes",
            "bytes_stored",
            "done",
            "entries",
            "objects",
            "path",
            "phase",
            "seconds",
            "total",
            "type"
        ]
    );
    drop(pipe);
    let last: serde_json::Value = serde_json::from_str(&lines.last().unwrap().unwrap()).unwrap();
    assert_eq!(last["type"], "backup");
    assert_eq!(ended(child).0, Some(0));
}

#[test]
fn a_terminal_is_left_as_it_was() {
    let dir = Dir::new();
    dir.write("password", "correct horse battery");
    dir.run(["-q", "init", "--password-file", "password"]).ok();
    let mut command = dir.prepare(Command::new("/usr/bin/script"));
    let line = "trap : INT; $H snapshots; echo code $?; stty -a";
    command.args(["-qec", line, "/dev/null"]).env("H", env!("CARGO_BIN_EXE_holdall"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut shown = child.stdout.take().unwrap();
    let mut text = Vec::new();
    while !text.ends_with(b"repository: ") {
        let mut byte = [0];
        shown.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    // The prompt comes after the echo is off.
    child.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    let mut rest = String::new();
    shown.read_to_string(&mut rest).unwrap();
    child.wait().unwrap();
    assert!(rest.contains("code 130"), "{rest}");
    assert!(rest.contains(" echo ") && !rest.contains("-echo "), "{rest}");
}
