//! Real processes that do everything at once on one repository and are killed at random moments.
//! Nothing that was said to be saved is lost, and a restore gives the right bytes or fails.
//!
//! A run of the ordinary tests ends after a few kills; `HOLDALL_KILLS=1000` makes it a long one,
//! and `HOLDALL_SEED` another one.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use holdall::world::{SeededWorld, Time, World};

use crate::dir::{Dir, text};

/// So many kills, then nobody works and everything is looked at.
const KILLS_A_ROUND: u64 = 15;
/// More snapshots than this, and the next one that is forgotten is not far.
const SNAPSHOTS_MAX: usize = 8;
const FILES: u64 = 12;
const VERSIONS: u64 = 9;

/// Content by name of a tree in one of its versions. Each differs from the one before it in a
/// few files, half of the files are those of the other trees, and versions come back: what a
/// prune has condemned is wanted again.
fn tree(lane: u64, version: u64) -> BTreeMap<String, Vec<u8>> {
    let file = |n: u64| {
        let owner = if n.is_multiple_of(2) { 0 } else { lane + 1 };
        let seed = (owner << 32) + (n << 16) + (version + n) / 4;
        let len = [10, 3_000, 40_000, 150_000][(n % 4) as usize] + seed as usize % 1000;
        (format!("d{}/f{n}-{}", n % 3, (version + n) / 8), noise(seed, len))
    };
    (0..FILES).map(file).chain([scattered(lane, version)]).collect()
}

/// A file whose versions share no chunk, and that is stored as deltas.
fn scattered(lane: u64, version: u64) -> (String, Vec<u8>) {
    let mut content = noise(lane + 1_000, 300_000);
    content.iter_mut().skip(version as usize).step_by(3_000).for_each(|byte| *byte ^= 1);
    ("d0/scattered".into(), content)
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    SeededWorld::new(seed, Time::default()).random(&mut bytes);
    bytes
}

/// Makes a directory hold this tree, and changes no file that it has already.
fn write_tree(at: &Path, tree: &BTreeMap<String, Vec<u8>>) {
    fs::create_dir_all(at).unwrap();
    let there = read_tree(at);
    for name in there.keys().filter(|name| !tree.contains_key(*name)) {
        fs::remove_file(at.join(name)).unwrap();
    }
    for (name, content) in tree.iter().filter(|(name, content)| there.get(*name) != Some(content)) {
        let path = at.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

fn read_tree(at: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![at.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => waiting.push(path),
                false => {
                    let name = path.strip_prefix(at).unwrap().to_str().unwrap().to_owned();
                    found.insert(name, fs::read(path).unwrap());
                }
            }
        }
    }
    found
}

/// What a snapshot holds, by its tags.
type Made = (u64, u64);

struct Thrash {
    dir: Dir,
    /// Snapshots that were said to be saved and that nobody began to forget.
    saved: Mutex<BTreeMap<String, Made>>,
    slots: Mutex<Vec<String>>,
    kills: AtomicU64,
    kills_max: AtomicU64,
    runs: AtomicU64,
    compared: AtomicU64,
    /// The longest run of each command that was not killed: kills come within it.
    longest: Mutex<BTreeMap<&'static str, Duration>>,
    /// What went otherwise than it may.
    wrong: Mutex<Vec<String>>,
}

struct Ended {
    /// `None`: killed.
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Thrash {
    fn new() -> Self {
        let dir = Dir::new();
        for repository in ["main", "other"] {
            let sizes = ["--chunk-size", "16KiB", "--pack-size", "1MiB"];
            dir.cmd(["-q", "--repo", repository, "init"].into_iter().chain(sizes)).run().ok();
        }
        Self {
            dir,
            saved: Mutex::default(),
            slots: Mutex::default(),
            kills: AtomicU64::new(0),
            kills_max: AtomicU64::new(0),
            runs: AtomicU64::new(0),
            compared: AtomicU64::new(0),
            longest: Mutex::default(),
            wrong: Mutex::default(),
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.dir.prepare(Command::new(env!("CARGO_BIN_EXE_holdall")));
        command.args(["--repo", "main"]).args(args);
        command
    }

    /// Runs a command; about every second one is killed within the time that it may need.
    fn run(&self, dice: &Dice, name: &'static str, args: &[&str]) -> Ended {
        let mut command = self.command(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let began = Instant::now();
        let mut child = command.spawn().unwrap();
        let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (tell, end) = mpsc::channel::<()>();
        let out = std::thread::spawn(move || {
            let mut text = Vec::new();
            out.read_to_end(&mut text).unwrap();
            drop(tell);
            String::from_utf8_lossy(&text).into_owned()
        });
        let err = std::thread::spawn(move || {
            let mut text = Vec::new();
            err.read_to_end(&mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        });
        if dice.below(2) == 0 {
            let longest = self.longest.lock().unwrap().get(name).copied();
            let longest = longest.unwrap_or(Duration::from_millis(100)).as_micros() as u64;
            // Closing its output is the last thing that it does.
            let _ = end.recv_timeout(Duration::from_micros(dice.below(longest + 1)));
            child.kill().unwrap();
        }
        let code = child.wait().unwrap().code();
        self.runs.fetch_add(1, SeqCst);
        match code {
            None => _ = self.kills.fetch_add(1, SeqCst),
            Some(_) => {
                let mut longest = self.longest.lock().unwrap();
                let longest = longest.entry(name).or_default();
                *longest = began.elapsed().max(*longest);
            }
        }
        Ended { code, stdout: out.join().unwrap(), stderr: err.join().unwrap() }
    }

    /// Tells of a run that was not killed and did not end as it should.
    fn expect(&self, what: &str, ended: &Ended, fine: impl Fn(i32) -> bool) {
        if ended.code.is_some_and(|code| !fine(code)) {
            let code = ended.code.unwrap();
            self.wrong.lock().unwrap().push(format!("{what}: exit {code}\n{}", ended.stderr));
        }
    }

    /// A snapshot that is there at this moment.
    fn any(&self, dice: &Dice) -> Option<(String, Made)> {
        let saved = self.saved.lock().unwrap();
        let at = dice.below(saved.len().max(1) as u64) as usize;
        saved.iter().nth(at).map(|(id, made)| (id.clone(), *made))
    }

    fn is_saved(&self, id: &str) -> bool {
        self.saved.lock().unwrap().contains_key(id)
    }

    fn tree_path(&self, lane: u64) -> PathBuf {
        self.dir.work(&format!("tree-{lane}"))
    }

    fn backup(&self, dice: &Dice, lane: u64) {
        let version = dice.below(VERSIONS);
        let path = self.tree_path(lane);
        write_tree(&path, &tree(lane, version));
        let tag = format!("made-{lane}-{version}");
        let path = path.to_str().unwrap();
        let ended = self.run(dice, "backup", &["--json", "backup", path, "--tag", &tag]);
        self.expect("backup", &ended, |code| code == 0);
        // Killed or not: what it has said is to be true.
        for line in ended.stdout.lines().filter(|line| line.starts_with(r#"{"type":"backup""#)) {
            let Ok(said) = serde_json::from_str::<serde_json::Value>(line) else { continue };
            let id = text(&said["snapshot"]["id"]);
            self.saved.lock().unwrap().insert(id, (lane, version));
        }
    }

    fn forget(&self, dice: &Dice) {
        let Some((id, _)) = self.any(dice) else { return };
        self.saved.lock().unwrap().remove(&id);
        let ended = self.run(dice, "forget", &["forget", &id]);
        self.expect("forget", &ended, |code| code == 0);
    }

    fn restore(&self, dice: &Dice) {
        let Some((id, made)) = self.any(dice) else { return };
        let target = tempfile::tempdir_in(self.dir.path("work")).unwrap();
        let what = format!("{id}:{}", self.tree_path(made.0).display());
        let to = target.path().to_str().unwrap();
        let ended = self.run(dice, "restore", &["restore", &what, "--target", to]);
        match ended.code {
            Some(0) => self.compare(&id, made, target.path()),
            _ => self.expect("restore", &ended, |_| !self.is_saved(&id)),
        }
    }

    fn compare(&self, id: &str, made: Made, restored: &Path) {
        self.compared.fetch_add(1, SeqCst);
        if read_tree(restored) != tree(made.0, made.1) {
            self.wrong.lock().unwrap().push(format!("{id} was restored otherwise than {made:?}"));
        }
    }

    fn tag(&self, dice: &Dice) {
        let Some((id, _)) = self.any(dice) else { return };
        let tag = format!("seen-{}", dice.below(100));
        let ended = self.run(dice, "tag", &["tag", &id, "--add", &tag]);
        self.expect("tag", &ended, |code| code == 0 || !self.is_saved(&id));
    }

    fn key(&self, dice: &Dice) {
        let file = format!("key-{}", dice.below(1 << 60));
        let ended = self.run(dice, "key add", &["--json", "key", "add", "--new-key-file", &file]);
        self.expect("key add", &ended, |code| code == 0);
        let said = serde_json::from_str::<serde_json::Value>(&ended.stdout);
        self.slots.lock().unwrap().extend(said.ok().map(|said| text(&said["id"])));
        let mut slots = self.slots.lock().unwrap();
        if slots.len() > 2 {
            let slot = slots.remove(0);
            drop(slots);
            let ended = self.run(dice, "key remove", &["key", "remove", &slot]);
            self.expect("key remove", &ended, |code| code == 0);
        }
    }

    fn copy(&self, dice: &Dice) {
        let Some((id, _)) = self.any(dice) else { return };
        let ended = self.run(dice, "copy", &["copy", "--to", "other", &id]);
        self.expect("copy", &ended, |code| code == 0 || !self.is_saved(&id));
    }

    fn simple(&self, dice: &Dice, args: &[&'static str]) {
        let ended = self.run(dice, args[0], args);
        self.expect(args[0], &ended, |code| code == 0);
    }

    /// One of those who work, until there were enough kills.
    fn work(&self, dice: &Dice, lane: u64) {
        while self.kills.load(SeqCst) < self.kills_max.load(SeqCst)
            && self.wrong.lock().unwrap().is_empty()
        {
            let many = self.saved.lock().unwrap().len() > SNAPSHOTS_MAX;
            match (lane, dice.below(8)) {
                (0 | 1, 0..6) => self.backup(dice, lane),
                (0 | 1, _) => self.restore(dice),
                (2, _) if many => self.forget(dice),
                (2, 0..3) => self.forget(dice),
                (2, 3) => self.tag(dice),
                (2, 4) => self.key(dice),
                (2, _) => self.simple(dice, &["prune"]),
                (_, 0..3) => self.simple(dice, &["prune", "--max-unused", "0%"]),
                (_, 3) => self.simple(dice, &["check"]),
                (_, 4) => self.simple(dice, &["check", "--read-data"]),
                (_, 5) => self.copy(dice),
                (_, _) => self.restore(dice),
            }
        }
    }

    /// Nobody works: what is there is what should be, byte by byte.
    fn look(&self) {
        let wrong = std::mem::take(&mut *self.wrong.lock().unwrap());
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        for args in [&["prune", "--max-unused", "0%"][..], &["check", "--read-data"]] {
            for repository in ["main", "other"] {
                self.dir.cmd(["--repo", repository].iter().chain(args)).run().ok();
            }
        }
        let mut found = BTreeMap::new();
        let lines = self.dir.json(["--json", "--repo", "main", "snapshots"]);
        // On a slow machine it is told how far it is, too.
        for line in lines.iter().filter(|line| line["type"] == "snapshot") {
            let mut tags = line["tags"].as_array().unwrap().iter().map(text);
            let made = tags.find_map(|tag| {
                let (lane, version) = tag.strip_prefix("made-")?.split_once('-')?;
                Some((lane.parse().unwrap(), version.parse().unwrap()))
            });
            found.insert(text(&line["id"]), made.unwrap());
        }
        let saved = self.saved.lock().unwrap().clone();
        for (id, made) in &saved {
            assert_eq!(found.get(id), Some(made), "{id} was saved, and nobody forgot it");
        }
        for (id, made) in &found {
            let target = tempfile::tempdir_in(self.dir.path("work")).unwrap();
            let what = format!("{id}:{}", self.tree_path(made.0).display());
            let to = target.path().to_str().unwrap();
            self.dir.run(["--repo", "main", "restore", &what, "--target", to]).ok();
            self.compare(id, *made, target.path());
        }
        let wrong = std::mem::take(&mut *self.wrong.lock().unwrap());
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        // Those whose backup was killed after its commit can be forgotten like others.
        *self.saved.lock().unwrap() = found;
    }
}

/// Random numbers of one who works.
struct Dice(SeededWorld);

impl Dice {
    fn below(&self, bound: u64) -> u64 {
        u64::from_le_bytes(holdall::world::random(&self.0)) % bound.max(1)
    }
}

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(usual)
}

#[test]
fn nothing_is_lost_whoever_is_killed() {
    let (kills, seed) = (number("HOLDALL_KILLS", 2 * KILLS_A_ROUND), number("HOLDALL_SEED", 1));
    let thrash = Thrash::new();
    let dice = [0, 1, 2, 3].map(|lane| Dice(SeededWorld::new(seed * 4 + lane, Time::default())));
    while thrash.kills.load(SeqCst) < kills {
        thrash.kills_max.fetch_max(thrash.kills.load(SeqCst) + KILLS_A_ROUND, SeqCst);
        std::thread::scope(|scope| {
            for (lane, dice) in (0..).zip(&dice) {
                let thrash = &thrash;
                scope.spawn(move || thrash.work(dice, lane));
            }
        });
        thrash.look();
        eprintln!(
            "{} kills of {} runs, {} snapshots compared",
            thrash.kills.load(SeqCst),
            thrash.runs.load(SeqCst),
            thrash.compared.load(SeqCst)
        );
    }
}
