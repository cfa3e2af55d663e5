//! The real binary where a disk, a file system or the system itself refuses: sectors that cannot
//! be read, a disk that goes away, read-only file systems, limits of the process.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use holdall::world::{SeededWorld, Time, World};

use crate::dir::{Dir, Ran};
use crate::mounts::where_one_may_mount;

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    SeededWorld::new(seed, Time::default()).random(&mut bytes);
    bytes
}

fn sample() -> Dir {
    let dir = Dir::with_repository();
    // Something for a prune to do.
    dir.write("gone", noise(7, 90_000));
    let gone = dir.backup("gone");
    dir.run(["forget", &gone]).ok();
    dir.write("d/f", noise(1, 700_000));
    dir.write("d/g", noise(2, 3_000));
    dir.backup("d");
    dir
}

fn assert_restores(dir: &Dir) {
    let target = tempfile::tempdir().unwrap();
    let what = format!("latest:{}", dir.work("d").display());
    dir.run(["restore", &what, "--target", target.path().to_str().unwrap()]).ok();
    assert!(fs::read(target.path().join("f")).unwrap() == noise(1, 700_000));
    assert!(fs::read(target.path().join("g")).unwrap() == noise(2, 3_000));
}

/// Runs the binary, these calls of it failing as a fault of strace says; `None` where nothing can
/// be traced.
fn with(dir: &Dir, calls: &str, fault: &str, of: &[PathBuf], args: &[&str]) -> Option<Ran> {
    let mut command = dir.prepare(Command::new("strace"));
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
    command.args(["-e", &format!("inject={calls}:{fault}")]);
    of.iter().for_each(|path| _ = command.arg("-P").arg(path));
    command.arg(env!("CARGO_BIN_EXE_holdall")).args(args);
    let output = command.output().ok()?;
    let ran = Ran {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    let cannot = ran.stderr.contains("ptrace") || ran.stderr.contains("strace:");
    assert!(!cannot || std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{}", ran.stderr);
    (!cannot).then_some(ran)
}

fn with_reads(dir: &Dir, of: &[PathBuf], fault: &str, args: &[&str]) -> Option<Ran> {
    with(dir, "pread64", fault, of, args)
}

fn largest_pack(dir: &Dir) -> PathBuf {
    let packs = dir.files(&dir.repository().join("packs"));
    packs.into_iter().max_by_key(|(_, bytes)| bytes.len()).unwrap().0
}

/// An error of the device on one object only, every time.
#[test]
fn a_pack_that_the_disk_reads_no_more_is_damage() {
    let dir = sample();
    let pack = largest_pack(&dir);
    let run = |args: &[&str]| with_reads(&dir, std::slice::from_ref(&pack), "error=EIO", args);
    let Some(found) = run(&["check", "--read-data"]) else {
        return eprintln!("not tested: nothing can be traced here");
    };
    let found = found.code(4);
    let name = pack.file_name().unwrap().to_str().unwrap();
    let said = format!("{}{}", found.stdout, found.stderr);
    assert!(said.contains(name) && said.contains("Input/output error"), "{said}");
    assert!(said.contains("d/f"), "what it touches: {said}");
    assert_eq!(dir.files(&dir.repository().join("damage")).len(), 1);
    // The next backup stores it again, and a prune gets rid of it, although it reads no better.
    run(&["backup", "d"]).unwrap().ok();
    run(&["prune"]).unwrap().ok();
    assert!(!pack.exists());
    dir.run(["check", "--read-data"]).ok();
    assert_restores(&dir);
}

/// An error of the device on everything from some moment on: that says nothing about any object.
#[test]
fn a_disk_that_has_gone_is_not_damage() {
    let dir = sample();
    let all: Vec<_> = dir.files(&dir.repository()).into_iter().map(|(path, _)| path).collect();
    let mut failed = 0;
    for nth in [1, 3, 8, 14] {
        let fault = format!("error=EIO:when={nth}+");
        let args = ["check", "--read-data", "--threads", "1"];
        let Some(ran) = with_reads(&dir, &all, &fault, &args) else {
            return eprintln!("not tested: nothing can be traced here");
        };
        if ran.code != Some(0) {
            failed += 1;
            ran.fails(1, &["Input/output error", "try again"]);
        }
        assert!(!dir.repository().join("damage").exists(), "{nth}");
    }
    assert!(failed > 1);
    dir.run(["check", "--read-data"]).ok();
}

/// What reads works, what writes says in one line why it does not.
#[track_caller]
fn assert_only_reads(dir: &Dir, said: &str) {
    for args in [
        &["snapshots"][..],
        &["ls", "latest"],
        &["find", "f"],
        &["stats"],
        &["diff", "latest", "latest"],
        &["check", "--read-data"],
        &["prune", "--dry-run"],
        &["key", "list"],
    ] {
        dir.run(args).ok();
    }
    assert_restores(dir);
    for args in [
        &["backup", "d/g"][..],
        &["tag", "latest", "--add", "x"],
        &["pin", "latest"],
        &["key", "recovery"],
        &["key", "rotate"],
        &["forget", "latest"],
        &["prune"],
        &["repair", "--yes", "--add-parity", "5"],
        &["init", "--repo", dir.repository().join("new").to_str().unwrap()],
    ] {
        let ran = dir.run(args);
        ran.fails(1, &[said, "who owns it"]);
    }
}

#[test]
fn a_read_only_file_system_is_read() {
    where_one_may_mount("faults::a_read_only_file_system_is_read", || {
        let dir = sample();
        let at = dir.repository();
        let mount = |options: &[&str]| {
            assert!(Command::new("mount").args(options).arg(&at).status().unwrap().success());
        };
        mount(&["--bind", at.to_str().unwrap()]);
        mount(&["-o", "remount,ro,bind"]);
        assert_only_reads(&dir, "Read-only file system");
    });
}

/// All of them unwritable at once: nobody needs a cache or a memory to read.
#[test]
fn cache_and_state_that_cannot_be_written_are_in_nobodys_way() {
    where_one_may_mount(
        "faults::cache_and_state_that_cannot_be_written_are_in_nobodys_way",
        || {
            let dir = sample();
            for place in ["cache", "state"] {
                let at = dir.path(place);
                fs::create_dir_all(&at).unwrap();
                let mount = |options: &[&str]| {
                    assert!(
                        Command::new("mount").args(options).arg(&at).status().unwrap().success()
                    );
                };
                mount(&["--bind", at.to_str().unwrap()]);
                mount(&["-o", "remount,ro,bind"]);
            }
            dir.write("d/h", noise(3, 50_000));
            dir.backup("d");
            dir.run(["tag", "latest", "--add", "x"]).ok();
            dir.run(["check", "--read-data"]).ok();
            dir.run(["forget", "latest~1"]).ok();
            dir.run(["prune"]).ok();
            assert_restores(&dir);
        },
    );
}

/// Somebody who may read the repository, but not write there.
#[test]
fn a_directory_of_somebody_else_is_read() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("not tested: only root has another user");
    }
    let dir = sample();
    dir.shell("chmod -R a+rX .. && chmod a+rx ../.. ; mkdir ../t && chmod 777 ../t").code.unwrap();
    fs::set_permissions(dir.key_file(), fs::Permissions::from_mode(0o644)).unwrap();
    let as_nobody = |args: &str| {
        dir.shell(&format!(
            "setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all \\
             env XDG_CACHE_HOME=/nonexistent XDG_STATE_HOME=/nonexistent \"$H\" {args}"
        ))
    };
    for args in ["snapshots", "ls latest", "check --read-data", "restore latest --target ../t"] {
        as_nobody(args).ok();
    }
    for args in ["backup d/g", "tag latest --add x", "forget latest", "prune"] {
        as_nobody(args).fails(1, &["Permission denied", "who owns it"]);
    }
    assert_restores(&dir);
}

/// A write over the limit is an error like any other, and no signal in the middle of a sentence.
#[test]
fn a_limit_of_file_sizes_is_told() {
    let dir = sample();
    dir.write("new", noise(5, 2_000_000));
    let ran = dir.shell("ulimit -f 100; exec \"$H\" backup new");
    ran.fails(1, &["File too large", "ulimit -f"]);
    let restore = "ulimit -f 100; exec \"$H\" restore latest --target t";
    let ran = dir.shell(restore);
    assert!(ran.stderr.contains("d/f: write: File too large"), "{}", ran.stderr);
    ran.code(3);
    dir.run(["check", "--read-data"]).ok();
    assert_restores(&dir);
}

#[test]
fn few_file_descriptors_are_enough() {
    let dir = sample();
    for n in 0..300 {
        dir.write(&format!("many/{}/{n}", n % 7), format!("{n}"));
    }
    let mut deep = String::from("deep");
    (0..30).for_each(|n| deep.push_str(&format!("/{n}")));
    dir.write(&format!("{deep}/f"), "at the bottom");
    for line in [
        "backup many deep d",
        "check --read-data",
        "restore latest --target t",
        "forget --keep-last 1",
        "prune",
        "check --read-data",
    ] {
        dir.shell(&format!("ulimit -n 64; exec \"$H\" {line}")).ok();
    }
    assert!(
        fs::read(dir.work(&format!("t{}/f", dir.work(&deep).display()))).unwrap()
            == b"at the bottom"
    );
}

#[test]
fn a_restore_waits_for_the_disk_where_it_is_asked_to() {
    let dir = sample();
    for (more, code) in [("--overwrite=always", 0), ("--sync", 1), ("--rollback", 1)] {
        let args = ["-q", "restore", "latest", "-t", "out", more];
        let Some(ran) = with(&dir, "syncfs", "error=EIO", &[], &args) else { return };
        assert_eq!(ran.code, Some(code), "{more}: {}", ran.stderr);
        assert_eq!(ran.stderr.contains("sync"), code != 0, "{}", ran.stderr);
    }
}
