//! What the operations cost, next to a plain copy of the same tree: `cargo bench --bench
//! commands`, for a generated tree of 200 MB; `-- 10000` for one of 10 GB. Each figure is in
//! seconds, and as a ratio to the `cp -a` of the same tree.
//!
//! Room is needed (`TMPDIR`) for two and a half times the tree. What was restored is compared
//! with what was backed up.

mod support;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use holdall::ops::backup::{BackupOptions, Input, backup};
use holdall::ops::check::{CheckOptions, ReadData, check};
use holdall::ops::forget::{ForgetOptions, forget};
use holdall::ops::prune::{PruneOptions, prune};
use holdall::ops::restore::{RestoreOptions, restore};
use holdall::ops::retention::Policy;
use holdall::progress::Silent;
use holdall::repo::{CreateOptions, Repository};
use holdall::world::{SeededWorld, Time, World};
use support::{Result, copy, cpu_seconds, create, run};

const MEGABYTES: u64 = 200;
const SMALL_FILES_OF_DIRECTORY: u64 = 200;
/// Bytes of a large file.
const LARGE_LEN: usize = 16_000_000;
/// One small file in so many changes.
const CHANGED_SHARE: usize = 100;

fn main() -> Result<()> {
    let megabytes = std::env::args().find_map(|argument| argument.parse().ok());
    let megabytes: u64 = megabytes.unwrap_or(MEGABYTES);
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    let files = make(&path("tree"), megabytes)?;
    println!("{megabytes} MB in {} files, in {}", files.len(), directory.path().display());
    println!("{:<20} {:>8} {:>8} {:>8}", "step", "seconds", "CPU s", "to copy");
    let mut table = Table { copy: None };
    table.line("cp -a", || copy(&path("tree"), &path("copy")))?;
    fs::remove_dir_all(path("copy"))?;
    let repository = create(directory.path(), &CreateOptions::default())?;
    let back_up = || back_up(&repository, &path("tree"));
    table.line("backup, first", back_up)?;
    table.line("backup, unchanged", back_up)?;
    change(&files)?;
    table.line("backup, changed", back_up)?;
    table.line("restore", || restore_to(&repository, &path("tree"), &path("restored")))?;
    let mut compare = Command::new("diff");
    run(compare.args(["-rq", "--no-dereference"]).args([path("tree"), path("restored")]))?;
    table.line("check --read-data", || read_all(&repository))?;
    table.line("forget, prune", || keep_last(&repository))
}

struct Table {
    /// Seconds of the plain copy, as soon as they are known.
    copy: Option<f64>,
}

impl Table {
    fn line(&mut self, name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let (began, busy) = (Instant::now(), cpu_seconds());
        work()?;
        let seconds = began.elapsed().as_secs_f64();
        let ratio = seconds / *self.copy.get_or_insert(seconds);
        // What `cp` costs is not this process's.
        let busy = cpu_seconds() - busy;
        println!("{name:<20} {seconds:>8.2} {busy:>8.2} {ratio:>8.2}");
        Ok(())
    }
}

/// Half of the bytes in small files of text, the rest in large ones: text, noise, both.
fn make(tree: &Path, megabytes: u64) -> Result<Vec<PathBuf>> {
    let world = SeededWorld::new(1, Time::default());
    let mut files = Vec::new();
    let (mut left, mut number) = (megabytes * 500_000, 0);
    while left > 0 {
        if number % SMALL_FILES_OF_DIRECTORY == 0 {
            fs::create_dir_all(tree.join(format!("small/{}", number / SMALL_FILES_OF_DIRECTORY)))?;
        }
        let folder = number / SMALL_FILES_OF_DIRECTORY;
        let content = text(&world, (500 + number * 7_919 % 40_000).min(left) as usize);
        files.push(tree.join(format!("small/{folder}/{number}.txt")));
        fs::write(tree.join(format!("small/{folder}/{number}.txt")), &content)?;
        left -= content.len() as u64;
        number += 1;
    }
    fs::create_dir_all(tree.join("large"))?;
    for number in 0..(megabytes * 500_000).div_ceil(LARGE_LEN as u64) {
        let mut content = vec![0; LARGE_LEN];
        world.random(&mut content);
        match number % 4 {
            0 => content[LARGE_LEN / 2..].copy_from_slice(&text(&world, LARGE_LEN / 2)),
            1 => content = text(&world, LARGE_LEN),
            _ => {}
        }
        files.push(tree.join(format!("large/{number}")));
        fs::write(tree.join(format!("large/{number}")), content)?;
    }
    // What is written back later would slow down whatever runs then.
    File::open(tree)?.sync_all()?;
    run(&mut Command::new("sync"))?;
    Ok(files)
}

/// Words of which some are frequent, and numbers.
fn text(world: &SeededWorld, len: usize) -> Vec<u8> {
    let mut noise = vec![0; len.div_ceil(4).max(4)];
    world.random(&mut noise);
    let mut text = Vec::with_capacity(len + 32);
    for pair in noise.chunks_exact(2).cycle() {
        if text.len() >= len {
            break;
        }
        let (frequent, rare) = (u32::from(pair[0] & 31), u32::from(pair[1]));
        let word = frequent * frequent + rare % (frequent + 1);
        text.extend_from_slice(format!("{:x} ", word.wrapping_mul(0x9e37_79b9)).as_bytes());
        if rare < 20 {
            text.push(b'\n');
        }
    }
    text.truncate(len);
    text
}

/// What a day may bring: some files are others, and in each large one a piece is.
fn change(files: &[PathBuf]) -> Result<()> {
    let world = SeededWorld::new(2, Time::default());
    let is_large = |path: &&PathBuf| path.extension().is_none();
    for path in files.iter().filter(|path| !is_large(path)).step_by(CHANGED_SHARE) {
        fs::write(path, text(&world, 20_000))?;
    }
    for path in files.iter().filter(is_large) {
        let file = OpenOptions::new().write(true).open(path)?;
        file.write_all_at(&text(&world, 65_536), LARGE_LEN as u64 / 3)?;
    }
    Ok(())
}

fn back_up(repository: &Arc<Repository>, tree: &Path) -> Result<()> {
    let input = Input::Paths(vec![tree.as_os_str().as_encoded_bytes().to_vec()]);
    let report = backup(repository, input, &BackupOptions::default(), &Silent::default())?;
    match report.problem_count {
        0 => Ok(()),
        count => Err(format!("{count} problems").into()),
    }
}

fn restore_to(repository: &Arc<Repository>, tree: &Path, target: &Path) -> Result<()> {
    let mut records = repository.snapshots(&Silent::default())?;
    records.sort_by_key(|record| record.snapshot.time);
    let record = records.last().ok_or("no snapshot")?;
    let path = Some(tree.as_os_str().as_encoded_bytes().to_vec());
    let options = RestoreOptions { path, target: target.into(), ..RestoreOptions::default() };
    restore(repository, record, &options, &Silent::default())?;
    Ok(())
}

fn read_all(repository: &Arc<Repository>) -> Result<()> {
    let options = CheckOptions { read_data: ReadData::All, ..CheckOptions::default() };
    match check(repository, &options, &Silent::default())?.is_whole() {
        true => Ok(()),
        false => Err("something is damaged".into()),
    }
}

fn keep_last(repository: &Arc<Repository>) -> Result<()> {
    let policy = Some(Policy { keep_last: Some(1), ..Policy::default() });
    forget(repository, &ForgetOptions { policy, ..ForgetOptions::default() }, &Silent::default())?;
    prune(repository, &PruneOptions::default(), &Silent::default())?;
    Ok(())
}
