//! What the parameters of a repository cost and give: `cargo bench --bench tune -- BEFORE AFTER`
//! backs up a directory as it was before a change and as it is after it, with many settings, and
//! prints a line of a table for each. The choice that follows from it stands in the rationale of
//! `format-spec/06-chunking.md`.
//!
//! Settings of one's own: `--average 65536 --frame 1048576 --level 3`, each as often as wanted;
//! `--rounds 3` repeats each and keeps the least time. Times are of the processor, all threads
//! together: they say more than the clock where others are at work.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdall::format::config::ChunkerParams;
use holdall::ops::backup::{BackupOptions, Detection, Input, backup};
use holdall::progress::Silent;
use holdall::repo::{CreateOptions, Repository};
use support::{Result, copy, cpu_seconds, create};

/// Around the defaults, one thing at a time: average length of chunks, of frames, level of zstd.
const SETTINGS: &[(u32, u32, i32)] = &[
    (16 << 10, 1 << 20, 3),
    (32 << 10, 1 << 20, 3),
    (64 << 10, 256 << 10, 3),
    (64 << 10, 512 << 10, 3),
    (64 << 10, 1 << 20, 0),
    (64 << 10, 1 << 20, 1),
    (64 << 10, 1 << 20, 2),
    (64 << 10, 1 << 20, 3),
    (64 << 10, 1 << 20, 6),
    (64 << 10, 1 << 20, 9),
    (64 << 10, 1 << 20, 12),
    (64 << 10, 1 << 20, 19),
    (64 << 10, 2 << 20, 3),
    (64 << 10, 4 << 20, 3),
    (128 << 10, 1 << 20, 3),
    (256 << 10, 1 << 20, 3),
    (512 << 10, 1 << 20, 3),
    (1 << 20, 1 << 20, 3),
];

/// What the command line asks for.
struct Wanted {
    before: PathBuf,
    after: PathBuf,
    settings: Vec<(u32, u32, i32)>,
    rounds: usize,
}

/// What one setting has come to.
struct Outcome {
    bytes: u64,
    bytes_added: u64,
    index_bytes: u64,
    seconds: f64,
    seconds_changed: f64,
}

fn main() -> Result<()> {
    let Some(wanted) = wanted()? else {
        println!("usage: cargo bench --bench tune -- BEFORE AFTER; see the file's beginning");
        return Ok(());
    };
    let directory = tempfile::tempdir()?;
    // Copies, which take turns under one name: a backup goes by paths.
    for (from, name) in [(&wanted.before, "before"), (&wanted.after, "after")] {
        copy(from, &directory.path().join(name))?;
    }
    println!("| average KiB | frame KiB | level | MB | MB added | index KB | s | s changed |");
    println!("|---:|---:|---:|---:|---:|---:|---:|---:|");
    for (average, frame, level) in wanted.settings {
        let mut best: Option<Outcome> = None;
        for _ in 0..wanted.rounds {
            let outcome = try_out(directory.path(), average, frame, level)?;
            best = Some(match best {
                None => outcome,
                Some(best) => Outcome {
                    seconds: best.seconds.min(outcome.seconds),
                    seconds_changed: best.seconds_changed.min(outcome.seconds_changed),
                    ..outcome
                },
            });
        }
        let Some(Outcome { bytes, bytes_added, index_bytes, seconds, seconds_changed }) = best
        else {
            continue;
        };
        println!(
            "| {} | {} | {level} | {:.2} | {:.2} | {:.0} | {seconds:.2} | {seconds_changed:.2} |",
            average >> 10,
            frame >> 10,
            bytes as f64 / 1e6,
            bytes_added as f64 / 1e6,
            index_bytes as f64 / 1e3,
        );
    }
    Ok(())
}

fn wanted() -> Result<Option<Wanted>> {
    let (mut paths, mut averages, mut frames, mut levels) = (vec![], vec![], vec![], vec![]);
    let mut rounds = 1;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            // Cargo's own.
            "--bench" => {}
            "--average" => averages.push(value()?.parse()?),
            "--frame" => frames.push(value()?.parse()?),
            "--level" => levels.push(value()?.parse()?),
            "--rounds" => rounds = value()?.parse()?,
            _ => paths.push(PathBuf::from(argument)),
        }
    }
    let [before, after] = <[PathBuf; 2]>::try_from(paths).unwrap_or_default();
    if before.as_os_str().is_empty() {
        return Ok(None);
    }
    let mut settings = SETTINGS.to_vec();
    if !(averages.is_empty() && frames.is_empty() && levels.is_empty()) {
        let defaults = CreateOptions::default();
        let or = |list: Vec<u32>, default| if list.is_empty() { vec![default] } else { list };
        let averages = or(averages, defaults.chunker.avg_size);
        let frames = or(frames, defaults.frame_size);
        let levels = if levels.is_empty() { vec![defaults.compression] } else { levels };
        settings.clear();
        for average in &averages {
            for frame in &frames {
                settings.extend(levels.iter().map(|level| (*average, *frame, *level)));
            }
        }
    }
    Ok(Some(Wanted { before, after, settings, rounds }))
}

/// Backs up both states to a new repository.
fn try_out(root: &Path, average: u32, frame: u32, level: i32) -> Result<Outcome> {
    let place = tempfile::tempdir_in(root)?;
    let options = CreateOptions {
        chunker: ChunkerParams { min_size: average / 4, avg_size: average, max_size: average * 4 },
        frame_size: frame,
        compression: level,
        ..CreateOptions::default()
    };
    let repository = create(place.path(), &options)?;
    let path = place.path().join("repository");
    let seconds = back_up(&repository, root, "before")?;
    let bytes = len_of(&path)?;
    let seconds_changed = back_up(&repository, root, "after")?;
    let bytes_added = len_of(&path)? - bytes;
    let index_bytes = len_of(&path.join("index"))?;
    Ok(Outcome { bytes, bytes_added, index_bytes, seconds, seconds_changed })
}

/// Backs up the state of this name and says what that has cost.
fn back_up(repository: &Arc<Repository>, root: &Path, name: &str) -> Result<f64> {
    let tree = root.join("tree");
    fs::rename(root.join(name), &tree)?;
    let began = cpu_seconds();
    let input = Input::Paths(vec![tree.as_os_str().as_encoded_bytes().to_vec()]);
    // Copies of the same file have the same time only.
    let detection = Detection { ctime: false, inode: false };
    let options = BackupOptions { detection, ..BackupOptions::default() };
    let done = backup(repository, input, &options, &Silent::default());
    let ended = cpu_seconds();
    fs::rename(&tree, root.join(name))?;
    done?;
    Ok(ended - began)
}

/// Bytes of all files below.
fn len_of(path: &Path) -> Result<u64> {
    let mut len = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        len += match entry.file_type()?.is_dir() {
            true => len_of(&entry.path())?,
            false => entry.metadata()?.len(),
        };
    }
    Ok(len)
}
