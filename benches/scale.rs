//! What a large repository costs: `cargo bench --bench scale -- 1000000` makes one of so many
//! chunks in a temporary directory (`TMPDIR`), in which packs are made up and take no room, and
//! runs what uses the index, each in a process of its own, whose memory is what the system says.
//!
//! Trees and index segments are real; they take some 70 bytes a chunk, the local index as much.

#![expect(clippy::unwrap_used, reason = "a measurement that fails says where")]

use std::error::Error;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use holdall::crypto::{KeyFile, PasswordCost, Secret};
use holdall::format::frame::{ChunkKind, Codec};
use holdall::format::pack::{ChunkInfo, FrameInfo, HEADER_LEN, PackInfo, Trailer, pack_key};
use holdall::format::session::Purpose;
use holdall::format::snapshot::Snapshot;
use holdall::format::tree::{Entry, EntryKind, Metadata, Ref};
use holdall::id::{ChunkId, ClientId, FrameId, PackId, SnapshotId};
use holdall::index::{Index, write_segment};
use holdall::ops::backup::{BackupOptions, Input, backup};
use holdall::ops::check::{CheckOptions, check};
use holdall::ops::forget::{ForgetOptions, forget};
use holdall::ops::prune::{PruneOptions, prune};
use holdall::ops::restore::{RestoreOptions, restore};
use holdall::ops::retention::Policy;
use holdall::progress::Silent;
use holdall::repo::{CreateOptions, Environment, NewSlot, Repository, Session};
use holdall::storage::LocalStorage;
use holdall::tree::{ListingBuilder, RefsBuilder};
use holdall::world::{RealWorld, random};

type Done = Result<String, Box<dyn Error>>;

const CHUNK_LEN: u32 = 64 << 10;
const FRAME_CHUNKS: u64 = 16;
const PACK_FRAMES: u64 = 16;
const SEGMENT_PACKS: u64 = 128;
const FILE_CHUNKS: u64 = 1_024;
const DIRECTORY_FILES: u64 = 256;
/// Snapshots refer to so many chunks at most: each takes forty bytes in a tree.
const REFERRED_MAX: u64 = 25_000_000;
/// Chunks that are looked up.
const LOOKED_UP: u64 = 1_000_000;
/// Chunks that are looked up where none is near another one.
const LOOKED_UP_ALONE: u64 = 100_000;

/// One thing that is measured.
type Step = fn(&Place, u64) -> Done;

const STEPS: &[(&str, Step)] = &[
    ("make", make),
    ("index build", build),
    ("open", open),
    ("look-up, hits in order", |place, count| look_up(place, LOOKED_UP, |n| n % count)),
    ("look-up, hits anywhere", |place, count| look_up(place, LOOKED_UP_ALONE, |n| mix(n) % count)),
    ("look-up, misses", |place, count| look_up(place, LOOKED_UP, |n| count + n)),
    ("look-up, frames", look_up_frames),
    ("backup", small_backup),
    ("restore", small_restore),
    ("forget --dry-run", dry_forget),
    ("prune --dry-run", dry_prune),
    ("check", structure),
];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [step, root, count] = arguments.as_slice() {
        return run(step, root.into(), count.parse()?);
    }
    let count = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(100_000);
    let directory = tempfile::tempdir()?;
    println!("{count} chunks in {}", directory.path().display());
    println!("{:<24} {:>9} {:>9} {:>9}  what", "step", "seconds", "CPU s", "peak MiB");
    for (name, _) in STEPS {
        // As the program itself does.
        let status = Command::new(std::env::current_exe()?)
            .arg(name)
            .arg(directory.path())
            .arg(count.to_string())
            .env("MALLOC_MMAP_THRESHOLD_", "262144")
            .status()?;
        if !status.success() {
            return Err(format!("{name}: {status}").into());
        }
    }
    Ok(())
}

fn run(step: &str, root: PathBuf, count: u64) -> Result<(), Box<dyn Error>> {
    let (name, work) = STEPS.iter().find(|(name, _)| *name == step).ok_or("no such step")?;
    let began = Instant::now();
    let said = work(&Place { root }, count)?;
    let seconds = began.elapsed().as_secs_f64();
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse()?;
    println!("{name:<24} {seconds:>9.2} {:>9.2} {:>9}  {said}", cpu_seconds()?, peak >> 10);
    Ok(())
}

/// What this process has cost so far, all threads together; says more than the clock where
/// others are at work.
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(") ").ok_or("no stat")?;
    let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / 100.0)
}

/// Where everything lies.
struct Place {
    root: PathBuf,
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn environment(&self) -> Environment {
        Environment {
            cache: self.path("cache"),
            state: self.path("state"),
            client: ClientId([7; 16]),
            host: "host".into(),
            user: "user".into(),
            process: std::process::id(),
            threads: 2,
        }
    }

    fn open(&self) -> Result<Arc<Repository>, Box<dyn Error>> {
        let storage = Arc::new(LocalStorage::open(&self.path("repository"))?);
        let secret = Secret::KeyFile(KeyFile::from_text(&fs::read_to_string(self.path("key"))?)?);
        let (world, environment) = (Arc::new(RealWorld), self.environment());
        Ok(Arc::new(Repository::open(storage, world, environment, &[secret])?))
    }

    fn back_up(&self, repository: &Arc<Repository>) -> Done {
        let input = Input::Paths(vec![self.path("source").into_os_string().into_encoded_bytes()]);
        let report = backup(repository, input, &BackupOptions::default(), &Silent::default())?;
        Ok(format!("{} bytes read", report.statistics.bytes))
    }
}

/// Spreads numbers over all bits.
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

fn bytes<const N: usize>(number: u64) -> [u8; N] {
    let mut bytes = [0; N];
    for (part, bytes) in (0..).zip(bytes.chunks_mut(8)) {
        let mixed = mix(number.wrapping_mul(8).wrapping_add(part)).to_le_bytes();
        bytes.copy_from_slice(&mixed[..bytes.len()]);
    }
    bytes
}

/// A pack of made-up chunks; the first of them has this number.
fn pack(first: u64, count: u64) -> PackInfo {
    let mut offset = HEADER_LEN as u32;
    let frames = (first..count.min(first + PACK_FRAMES * FRAME_CHUNKS)).step_by(16).map(|first| {
        let chunks = first..count.min(first + FRAME_CHUNKS);
        let chunks = chunks.map(|n| ChunkInfo { id: ChunkId(bytes(n)), len: CHUNK_LEN }).collect();
        let id = FrameId(bytes(first.wrapping_add(1 << 50)));
        let frame = FrameInfo { id, offset, stored_len: 1_000_000, codec: Codec::Zstd, chunks };
        offset += frame.stored_len;
        frame
    });
    let frames: Vec<FrameInfo> = frames.collect();
    let id = PackId(bytes(first.wrapping_add(1 << 51)));
    let trailer = Trailer { session: SnapshotId([1; 32]), kind: ChunkKind::Data, frames };
    PackInfo { id, len: trailer.frames_end() + 10_000, trailer }
}

/// A small real snapshot, one of made-up chunks, and their packs and segments.
fn make(place: &Place, count: u64) -> Done {
    let storage = Arc::new(LocalStorage::create(&place.path("repository"))?);
    let key = KeyFile::generate(&RealWorld);
    fs::write(place.path("key"), key.to_text())?;
    let secret = Secret::KeyFile(key);
    let slots = [NewSlot { secret, cost: PasswordCost::LOWEST, label: "bench".into() }];
    let (world, environment) = (Arc::new(RealWorld), place.environment());
    let options = CreateOptions::default();
    let made = Repository::create(storage, world, environment, &options, &slots, None)?;
    let repository = Arc::new(made);
    fs::create_dir(place.path("source"))?;
    for number in 0..200u64 {
        let content: [u8; 4_096] = bytes(number);
        fs::write(place.path("source").join(format!("file {number}")), content)?;
    }
    place.back_up(&repository)?;
    refer(&repository, count.min(REFERRED_MAX))?;
    let packs = place.path("repository").join("packs");
    (0..=255u8).try_for_each(|n| fs::create_dir_all(packs.join(format!("{n:02x}"))))?;
    let chunks_of_pack = FRAME_CHUNKS * PACK_FRAMES;
    for first in (0..count).step_by((chunks_of_pack * SEGMENT_PACKS) as usize) {
        let end = count.min(first + chunks_of_pack * SEGMENT_PACKS);
        let infos = (first..end).step_by(chunks_of_pack as usize).map(|first| pack(first, count));
        let infos: Vec<PackInfo> = infos.collect();
        for info in &infos {
            let file = File::create(place.path("repository").join(pack_key(&info.id)))?;
            file.set_len(info.len)?;
        }
        write_segment(repository.storage(), repository.sealer(), &RealWorld, &infos)?;
    }
    // Whatever was cached goes: the next step begins with nothing.
    fs::remove_dir_all(place.path("cache"))?;
    Ok(format!("{} packs", count.div_ceil(chunks_of_pack)))
}

/// A snapshot of files of made-up chunks.
fn refer(repository: &Arc<Repository>, count: u64) -> Result<(), Box<dyn Error>> {
    let mut session = Session::begin(repository, Purpose::Backup, None)?;
    let mut root = ListingBuilder::default();
    let name = |n: u64| format!("{n:012}").into_bytes();
    let metadata = Metadata::default();
    for first in (0..count).step_by((FILE_CHUNKS * DIRECTORY_FILES) as usize) {
        let mut listing = ListingBuilder::default();
        let end = count.min(first + FILE_CHUNKS * DIRECTORY_FILES);
        for first in (first..end).step_by(FILE_CHUNKS as usize) {
            let mut refs = RefsBuilder::default();
            for number in first..end.min(first + FILE_CHUNKS) {
                let chunk = Ref::Chunk { id: ChunkId(bytes(number)), len: CHUNK_LEN.into() };
                refs.push(chunk, &mut session)?;
            }
            let content = refs.finish(&mut session)?;
            let kind = EntryKind::File { content, unstable: false };
            let entry = Entry { name: name(first), kind, metadata: metadata.clone() };
            listing.push(&entry, &mut session)?;
        }
        let kind = EntryKind::Directory { listing: listing.finish(&mut session)? };
        root.push(&Entry { name: name(first), kind, metadata: metadata.clone() }, &mut session)?;
    }
    let root = root.finish(&mut session)?;
    let paths = vec![b"/made up".to_vec()];
    session.commit(Snapshot { host: "host".into(), paths, root, ..Snapshot::default() })?;
    Ok(())
}

fn cache_len(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    // redb makes its file longer than what it has in it.
    entries.map(|entry| entry.metadata().unwrap().blocks() * 512).sum()
}

fn build(place: &Place, count: u64) -> Done {
    let repository = place.open()?;
    let began = Instant::now();
    repository.refresh_index()?;
    let rate = count as f64 / began.elapsed().as_secs_f64();
    let busy = count as f64 / cpu_seconds()?;
    let bytes = cache_len(&repository.environment().cache);
    let each = bytes as f64 / count as f64;
    Ok(format!("{rate:.0} entries/s, {busy:.0} a CPU second, {each:.1} bytes each"))
}

fn open(place: &Place, _: u64) -> Done {
    let repository = place.open()?;
    let began = Instant::now();
    let index = Index::open(&repository.environment().cache)?;
    Ok(format!("{:.2} ms, {} chunks", began.elapsed().as_secs_f64() * 1e3, index.chunk_count()))
}

fn look_up(place: &Place, times: u64, number: impl Fn(u64) -> u64) -> Done {
    let index = Index::open(&place.open()?.environment().cache)?;
    let began = Instant::now();
    let mut hits = 0u64;
    for n in 0..times {
        hits += u64::from(index.any_location(&ChunkId(bytes(number(n))), |_| true)?);
    }
    Ok(format!("{} a look-up, {hits} hits", micros(began, times)))
}

fn look_up_frames(place: &Place, count: u64) -> Done {
    let index = Index::open(&place.open()?.environment().cache)?;
    let began = Instant::now();
    let mut hits = 0;
    for n in 0..LOOKED_UP_ALONE {
        let first = mix(n) % count / FRAME_CHUNKS * FRAME_CHUNKS;
        hits += index.frame_locations(&FrameId(bytes(first.wrapping_add(1 << 50))))?.len();
    }
    Ok(format!("{} a look-up, {hits} hits", micros(began, LOOKED_UP_ALONE)))
}

fn micros(began: Instant, times: u64) -> String {
    let wall = began.elapsed().as_secs_f64() * 1e6 / times as f64;
    let cpu = cpu_seconds().unwrap_or(0.0) * 1e6 / times as f64;
    format!("{wall:.2} us, {cpu:.2} of CPU,")
}

fn small_backup(place: &Place, _: u64) -> Done {
    let content: [u8; 32] = random(&RealWorld);
    fs::write(place.path("source").join("file 7"), content)?;
    place.back_up(&place.open()?)
}

fn small_restore(place: &Place, _: u64) -> Done {
    let repository = place.open()?;
    let records = repository.snapshots(&Silent::default())?;
    let source = place.path("source");
    let is_real = |paths: &[Vec<u8>]| paths.iter().any(|path| path.ends_with(b"/source"));
    let record = records.iter().find(|record| is_real(&record.snapshot.paths)).ok_or("none")?;
    let path = source.join("file 8").to_string_lossy().into_owned().into_bytes();
    let options = RestoreOptions {
        path: Some(path),
        target: place.path("target"),
        ..RestoreOptions::default()
    };
    restore(&repository, record, &options, &Silent::default())?;
    let same = fs::read(place.path("target").join("file 8"))? == fs::read(source.join("file 8"))?;
    Ok(if same { "as it was" } else { "DIFFERENT" }.into())
}

fn dry_forget(place: &Place, _: u64) -> Done {
    let policy = Policy { keep_last: Some(1), ..Policy::default() };
    let options = ForgetOptions { policy: Some(policy), dry_run: true, ..ForgetOptions::default() };
    forget(&place.open()?, &options, &Silent::default())?;
    Ok(String::new())
}

fn dry_prune(place: &Place, _: u64) -> Done {
    let options = PruneOptions { dry_run: true, ..PruneOptions::default() };
    let report = prune(&place.open()?, &options, &Silent::default())?;
    let figures = report.figures.ok_or("no figures")?;
    Ok(format!("{} packs, {} unused", figures.total.packs, figures.unused.packs))
}

fn structure(place: &Place, _: u64) -> Done {
    let report = check(&place.open()?, &CheckOptions::default(), &Silent::default())?;
    Ok(format!("{} chunks needed, {} damaged", report.chunks, report.damaged.len()))
}
