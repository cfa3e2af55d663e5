//! What is backed up comes back the same, in the eyes of another program: rsync.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

use crate::dir::Dir;

fn node(path: &Path, kind: FileType, device: u64) {
    rustix::fs::mknodat(CWD, path, kind, Mode::from(0o640), device).unwrap();
}

fn times(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn sh(line: &str, path: &Path) {
    let status = Command::new("/bin/sh").args(["-c", line, "sh"]).arg(path).status().unwrap();
    assert!(status.success(), "{line}");
}

/// A tree of everything that a file system can hold, as far as this user may make it.
fn oddities(root: &Path, is_root: bool) {
    let at = |name: &[u8]| root.join(std::ffi::OsStr::from_bytes(name));
    fs::create_dir_all(at(b"a/b/c")).unwrap();
    fs::create_dir_all(at(b"empty directory")).unwrap();
    fs::write(at(b"a/plain"), "plain").unwrap();
    fs::write(at(b"a/empty"), "").unwrap();
    fs::write(at(b"a/large"), vec![42u8; 3 << 20]).unwrap();
    let sparse = fs::File::create(at(b"a/sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    sparse.write_all_at(b"in the middle", 32 << 20).unwrap();
    fs::File::create(at(b"a/hole")).unwrap().set_len(1 << 20).unwrap();
    fs::hard_link(at(b"a/plain"), at(b"a/b/c/linked")).unwrap();
    fs::hard_link(at(b"a/plain"), at(b"z-linked")).unwrap();
    symlink("plain", at(b"a/symlink")).unwrap();
    symlink("../no/where", at(b"a/dangling")).unwrap();
    symlink(std::ffi::OsStr::from_bytes(b"bytes\xff\n"), at(b"a/odd link")).unwrap();
    node(&at(b"fifo"), FileType::Fifo, 0);
    fs::hard_link(at(b"fifo"), at(b"fifo-linked")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(at(b"socket")).unwrap());
    for (name, mode) in [("setuid", 0o4755), ("setgid", 0o2755), ("sticky", 0o1777), ("none", 0)] {
        fs::write(at(name.as_bytes()), name).unwrap();
        fs::set_permissions(at(name.as_bytes()), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(at(b"empty directory"), fs::Permissions::from_mode(0o2711)).unwrap();
    for name in [
        &b"not\xff\xfeutf-8"[..],
        b"line\nfeed",
        b"\x1b[31mred",
        b" blank ",
        b"-dash",
        &[b'n'; 255],
    ] {
        fs::write(at(name), name).unwrap();
    }
    let mut deep = root.to_path_buf();
    for _ in 0..60 {
        deep.push("a directory far below the others");
    }
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("file"), "deep").unwrap();
    let set = |path: &Path, name: &str, value: &[u8]| {
        rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
    };
    set(&at(b"a/plain"), "user.comment", b"\x00\xffbytes");
    set(&at(b"a/b"), "user.on a directory", b"");
    sh(
        "setfacl -m u:65534:r,g:100:rw \"$1\"/a/large && setfacl -d -m u:65534:rwx \"$1\"/a/b",
        root,
    );
    if is_root {
        node(&at(b"char"), FileType::CharacterDevice, rustix::fs::makedev(1, 3));
        node(&at(b"block"), FileType::BlockDevice, rustix::fs::makedev(7, 200));
        fs::write(at(b"capable"), "x").unwrap();
        sh("chown 12345:54321 \"$1\"/setuid && chmod 4755 \"$1\"/setuid", root);
        sh("chown -h 4000000000:5 \"$1\"/a/symlink && chown 7:7 \"$1\"/fifo", root);
        sh("setcap cap_net_raw+ep \"$1\"/capable", root);
        set(&at(b"a/b/c/linked"), "trusted.note", b"for root");
        set(&at(b"a/symlink"), "trusted.on a link", b"x");
    }
    times(&at(b"a/large"), -86_400, 999_999_999);
    times(&at(b"a/symlink"), 1_234_567_890, 123_456_789);
    times(&at(b"a/b/c"), 5, 5);
    times(&at(b"fifo"), 1_000_000_000, 1);
}

/// Whatever rsync would change to make the second like the first.
fn differences(live: &Path, restored: &Path) -> String {
    let slash = |path: &Path| [path.as_os_str().as_bytes(), b"/"].concat();
    let os = |bytes: &[u8]| std::ffi::OsStr::from_bytes(bytes).to_owned();
    let output = Command::new("rsync")
        .args(["-aHAXSn", "--checksum", "--delete", "--itemize-changes", "--numeric-ids"])
        .args([os(&slash(live)), os(&slash(restored))])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn rsync_finds_no_difference() {
    let dir = Dir::new();
    let live = dir.work("live");
    fs::create_dir(&live).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    oddities(&live, is_root);
    dir.run(["-q", "backup", "live"]).ok();
    let target = dir.work("restored");
    let source = format!("latest:{}", live.display());
    dir.run(["-q", "restore", &source, "--target", target.to_str().unwrap()]).ok();
    assert_eq!(differences(&live, &target), "");
    // A tree that differs in all kinds of ways becomes the same again.
    fs::write(target.join("a/plain"), "other content, and linked").unwrap();
    fs::remove_file(target.join("a/symlink")).unwrap();
    fs::create_dir(target.join("a/symlink")).unwrap();
    fs::write(target.join("extra"), "x").unwrap();
    fs::remove_file(target.join("fifo")).unwrap();
    fs::set_permissions(target.join("a/large"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_ne!(differences(&live, &target), "", "rsync sees that they differ");
    let again = ["-q", "restore", &source, "--delete", "--overwrite", "always", "--target"];
    let mut again = again.to_vec();
    again.push(target.to_str().unwrap());
    dir.run(again).ok();
    assert_eq!(differences(&live, &target), "");
    // Holes stay holes.
    let blocks = |path: &Path| std::os::unix::fs::MetadataExt::blocks(&fs::metadata(path).unwrap());
    assert!(blocks(&target.join("a/sparse")) <= blocks(&live.join("a/sparse")) + 16);
    assert_eq!(blocks(&target.join("a/hole")), 0);
}
