//! How far the work is, told as whoever listens can use it: a line that renews itself on a
//! terminal, a plain line now and then on a pipe, events for programs. And Ctrl-C.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::context::Context;
use super::error::{Exit, Failure, Result};
use super::json::{hex_of, text_of};
use super::output::Output;
use crate::progress::{Counter, Problem, Progress};
use crate::text;

/// How often each kind of listener is told.
const TERMINAL_EVERY: Duration = Duration::from_millis(150);
const PIPE_EVERY: Duration = Duration::from_secs(10);
const JSON_EVERY: Duration = Duration::from_secs(1);

/// Progress of one operation, from `start` to `finish`.
#[derive(Debug)]
pub struct Reporter {
    shared: Arc<Shared>,
    ticker: Option<(Sender<()>, JoinHandle<()>)>,
}

#[derive(Debug)]
struct Shared {
    output: Arc<Output>,
    bar: Option<ProgressBar>,
    began: Instant,
    counts: [AtomicU64; 4],
    phase: Mutex<Phase>,
    at: Mutex<Vec<u8>>,
    problem_count: AtomicU64,
    damage_count: AtomicU64,
    cancelled: Arc<AtomicBool>,
}

#[derive(Debug, Clone)]
struct Phase {
    name: String,
    counter: Counter,
    total: Option<u64>,
    /// The counters when it began.
    before: [u64; 4],
    began: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reporter {
    /// Begins to tell. From now on Ctrl-C and SIGTERM ask the work to end, and a second one ends
    /// the process at once.
    pub fn start(context: &Context) -> Result<Self> {
        Self::start_with(context, context.progress)
    }

    /// The same beside a stream of lines, which a person sees growing.
    pub fn start_beside_data(context: &Context) -> Result<Self> {
        Self::start_with(context, context.progress && !context.output.stdout_is_terminal())
    }

    fn start_with(context: &Context, wanted: bool) -> Result<Self> {
        let cancelled = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            let code = i32::from(Exit::Interrupted.code());
            // In this order: the first signal finds the flag down and only raises it.
            signal_hook::flag::register_conditional_shutdown(signal, code, cancelled.clone())
                .and_then(|_| signal_hook::flag::register(signal, cancelled.clone()))
                .and_then(|_| signal_hook::flag::register(signal, context.hurry.clone()))
                .map_err(|error| {
                    Failure::new(Exit::Failed, format!("cannot listen for signals: {error}"))
                })?;
        }
        super::prompt::work_begins();
        let output = context.output.clone();
        let wanted = wanted && !output.quiet();
        let on_terminal = std::io::stderr().is_terminal();
        let bar = (wanted && on_terminal && !output.json()).then(bar);
        let every = match (&bar, output.json()) {
            (Some(_), _) => TERMINAL_EVERY,
            (None, true) => JSON_EVERY,
            (None, false) => PIPE_EVERY,
        };
        let phase = Phase {
            name: "starting".into(),
            counter: Counter::Entries,
            total: None,
            before: [0; 4],
            began: Instant::now(),
        };
        let shared = Arc::new(Shared {
            output,
            bar,
            began: Instant::now(),
            counts: Default::default(),
            phase: Mutex::new(phase),
            at: Mutex::default(),
            problem_count: AtomicU64::new(0),
            damage_count: AtomicU64::new(0),
            cancelled,
        });
        let ticker = wanted.then(|| ticker(shared.clone(), every));
        Ok(Self { shared, ticker })
    }

    /// Ends the telling, so that a report can follow.
    pub fn finish(&mut self) {
        if let Some((stop, thread)) = self.ticker.take() {
            drop(stop);
            // A thread that died has nothing more to tell.
            let _ = thread.join();
        }
        if let Some(bar) = &self.shared.bar {
            bar.finish_and_clear();
        }
    }

    /// Since it began.
    pub fn elapsed(&self) -> Duration {
        self.shared.began.elapsed()
    }

    /// How the command ends after all that was told: damage counts more than trouble.
    pub fn exit(&self) -> Exit {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        match (count(&self.shared.damage_count), count(&self.shared.problem_count)) {
            (0, 0) => Exit::Done,
            (0, _) => Exit::Incomplete,
            _ => Exit::Damage,
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.finish();
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{spinner} {wide_msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar
}

fn ticker(shared: Arc<Shared>, every: Duration) -> (Sender<()>, JoinHandle<()>) {
    let (stop, stopped) = bounded::<()>(0);
    let thread = std::thread::spawn(move || {
        while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
            shared.tell();
        }
    });
    (stop, thread)
}

impl Shared {
    fn counts(&self) -> [u64; 4] {
        [0, 1, 2, 3].map(|i: usize| self.counts[i].load(Ordering::Relaxed))
    }

    fn tell(&self) {
        let phase = lock(&self.phase).clone();
        let counts = self.counts();
        if self.output.json() {
            self.output.event(&self.event(&phase, counts));
            return;
        }
        let line = self.line(&phase, counts);
        match &self.bar {
            Some(bar) => {
                let at = lock(&self.at).clone();
                bar.set_message(format!("{line}  {}", text::escape(&at)));
                bar.tick();
            }
            None => self.output.say(&line),
        }
    }

    /// "reading: 12,345 entries, 1.2 GiB, 42 %, 85.0 MiB/s, 12 s left"
    fn line(&self, phase: &Phase, counts: [u64; 4]) -> String {
        let [entries, bytes, stored, objects] = counts;
        let done = |counter: Counter| counts[counter as usize] - phase.before[counter as usize];
        let mut parts = Vec::new();
        for (amount, shown) in [
            (entries, text::plural(entries, "entry", "entries")),
            (bytes, text::size(bytes)),
            (objects, text::plural(objects, "object", "objects")),
            (stored, format!("{} stored", text::size(stored))),
        ] {
            if amount > 0 {
                parts.push(shown);
            }
        }
        let elapsed = phase.began.elapsed();
        let amount = done(phase.counter);
        if let Some(total) = phase.total.filter(|total| *total > 0) {
            let part = amount.min(total);
            parts.push(format!("{} %", u128::from(part) * 100 / u128::from(total)));
            if let Some(left) = time_left(elapsed, part, total) {
                parts.push(format!("{} left", text::duration(left)));
            }
        }
        if let Some(rate) = per_second(done(Counter::Bytes), elapsed) {
            parts.push(format!("{}/s", text::size(rate)));
        }
        if self.cancelled.load(Ordering::Relaxed) {
            parts.push("ending".into());
        }
        let name = text::escape(phase.name.as_bytes());
        match parts.is_empty() {
            true => name,
            false => format!("{name}: {}", parts.join(", ")),
        }
    }

    fn event(&self, phase: &Phase, counts: [u64; 4]) -> ProgressEvent {
        let [entries, bytes, bytes_stored, objects] = counts;
        let at = lock(&self.at).clone();
        ProgressEvent {
            r#type: "progress",
            phase: phase.name.clone(),
            done: counts[phase.counter as usize] - phase.before[phase.counter as usize],
            total: phase.total,
            entries,
            bytes,
            bytes_stored,
            objects,
            path: text_of(&at),
            seconds: self.began.elapsed().as_millis() as f64 / 1000.0,
        }
    }

    /// Something is said while the line on the terminal makes room for it.
    fn beside(&self, say: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(say),
            None => say(),
        }
    }
}

/// At the pace so far; not told before a pace shows itself.
fn time_left(elapsed: Duration, done: u64, total: u64) -> Option<Duration> {
    if elapsed < Duration::from_secs(2) || done == 0 {
        return None;
    }
    let millis = elapsed.as_millis() * u128::from(total - done) / u128::from(done);
    u64::try_from(millis).ok().map(Duration::from_millis)
}

fn per_second(amount: u64, elapsed: Duration) -> Option<u64> {
    let millis = elapsed.as_millis();
    if amount == 0 || millis < 500 {
        return None;
    }
    u64::try_from(u128::from(amount) * 1000 / millis).ok()
}

#[derive(Serialize)]
struct ProgressEvent {
    r#type: &'static str,
    phase: String,
    done: u64,
    total: Option<u64>,
    entries: u64,
    bytes: u64,
    bytes_stored: u64,
    objects: u64,
    path: String,
    seconds: f64,
}

#[derive(Serialize)]
struct ProblemEvent<'a> {
    r#type: &'static str,
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    what_hex: Option<String>,
    why: &'a str,
    damage: bool,
}

#[derive(Serialize)]
struct NoteEvent<'a> {
    r#type: &'static str,
    message: &'a str,
}

impl Progress for Reporter {
    fn phase(&self, name: &str, counter: Counter, total: Option<u64>) {
        let before = self.shared.counts();
        *lock(&self.shared.phase) =
            Phase { name: name.into(), counter, total, before, began: Instant::now() };
    }

    fn add(&self, counter: Counter, amount: u64) {
        self.shared.counts[counter as usize].fetch_add(amount, Ordering::Relaxed);
    }

    fn at(&self, path: &[u8]) {
        // Called for every entry: whoever draws at this moment shows the one before.
        if let Ok(mut at) = self.shared.at.try_lock() {
            at.clear();
            at.extend_from_slice(path);
        }
    }

    fn problem(&self, problem: &Problem) {
        let counter = match problem.damage {
            true => &self.shared.damage_count,
            false => &self.shared.problem_count,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let output = &self.shared.output;
        if output.json() {
            output.event(&ProblemEvent {
                r#type: "problem",
                what: text_of(&problem.what),
                what_hex: hex_of(&problem.what),
                why: &problem.why,
                damage: problem.damage,
            });
            return;
        }
        let kind = if problem.damage { "damaged: " } else { "" };
        let why = text::escape(problem.why.as_bytes());
        let line = format!("{kind}{}: {why}", text::escape(&problem.what));
        self.shared.beside(|| output.warn(&line));
    }

    fn note(&self, said: &str) {
        let output = &self.shared.output;
        match output.json() {
            true => output.event(&NoteEvent { r#type: "note", message: said }),
            false => {
                let line = text::escape(said.as_bytes());
                self.shared.beside(|| output.say(&line));
            }
        }
    }

    fn cancelled(&self) -> bool {
        self.shared.cancelled.load(Ordering::Relaxed)
    }
}
