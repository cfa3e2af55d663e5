//! Scanning a living tree: what is there, in byte order of names, and what of it is left out.
//!
//! A thread of its own does this. It knows nothing of the parent snapshot, so that it can run
//! ahead of the walk that compares with it: both need about the same time.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::Sender;

use super::Run;
use super::paths::Node;
use crate::ops::OpsError;
use crate::progress::{Counter, Problem};
use crate::source::{CACHE_TAG, Chain, Directory, Names, Start, Stat, Verdict, pseudo_file_system};

/// Steps are handed on so many at a time, or with so many open directories.
const BATCH_STEPS: usize = 512;
const BATCH_HANDLES: usize = 16;

/// What the scan comes upon, in order.
pub(super) enum Step {
    /// A directory of the one where the scan was, the root of the snapshot at first. What follows
    /// is in it.
    Enter(Box<Entered>),
    /// An entry: no directory, or one of which nothing more is taken.
    Entry {
        /// Its number among the names of the directory.
        number: usize,
        /// What it is like.
        stat: Stat,
    },
    /// Comes before an entry after `Leave`: the directory where the scan is, open again.
    In(Arc<Directory>),
    /// Back to the directory above.
    Leave,
}

/// A directory that the scan goes into.
pub(super) struct Entered {
    /// Its number among the names of the directory above.
    pub number: usize,
    /// Itself; the root of the snapshot is none, and what lies between that and an asked-for path
    /// may be closed to us.
    pub directory: Option<Arc<Directory>>,
    /// The names in it.
    pub names: Arc<Names>,
}

/// A directory that the scan is in.
struct Level {
    names: Arc<Names>,
    next: usize,
    only_tag: bool,
}

pub(super) struct Scan<'a> {
    run: Run<'a>,
    levels: Vec<Level>,
    /// Who takes the steps has the directory where the scan is.
    is_in: bool,
    steps: Vec<Step>,
    handles: usize,
    out: Sender<Vec<Step>>,
}

impl<'a> Scan<'a> {
    pub fn new(run: Run<'a>, out: Sender<Vec<Step>>) -> Self {
        Self { run, levels: Vec::new(), is_in: false, steps: Vec::new(), handles: 0, out }
    }

    /// Scans everything that was asked for.
    pub fn run(mut self, root: Node) -> Result<(), OpsError> {
        match root.start {
            Some(start) => self.root(start)?,
            None => self.way(root, 0, b"")?,
        }
        self.flush()
    }

    /// The root directory itself was asked for: its entries are the snapshot's topmost.
    fn root(&mut self, start: Start) -> Result<(), OpsError> {
        let device = start.parent.own_stat().device;
        let mut chain = Chain::new(start.parent, start.path);
        match chain.directory() {
            Ok(directory) => self.into(&chain, 0, directory)?,
            Err(error) => self.run.source_problem(chain.path(), error),
        }
        self.descend(&mut chain, device)
    }

    /// A directory between the root and what was asked for, which may be reached through a link.
    fn way(&mut self, node: Node, number: usize, path: &[u8]) -> Result<(), OpsError> {
        let names = Arc::new(Names::of(node.children.keys().map(Vec::as_slice)));
        // It was opened a moment ago; if it is gone now, what is below it will say so.
        let directory = Directory::open_path(Path::new(std::ffi::OsStr::from_bytes(path)));
        let directory = directory.ok().map(Arc::new);
        self.push(Step::Enter(Box::new(Entered { number, directory, names })))?;
        for (number, (name, child)) in node.children.into_iter().enumerate() {
            match child.start {
                Some(start) => self.start(start, number)?,
                None => self.way(child, number, &[path, b"/", &name].concat())?,
            }
        }
        self.push(Step::Leave)
    }

    /// Something that was asked for.
    fn start(&mut self, start: Start, number: usize) -> Result<(), OpsError> {
        let parent_path = match start.path.iter().rposition(|byte| *byte == b'/') {
            Some(0) | None => b"/".to_vec(),
            Some(at) => start.path[..at].to_vec(),
        };
        let device = start.parent.stat(&start.name).map_or(0, |stat| stat.device);
        let mut chain = Chain::new(start.parent, parent_path);
        self.is_in = false;
        self.entry(&mut chain, number, &start.name, device)?;
        self.descend(&mut chain, device)
    }

    /// Scans until the directory that was entered first, if any, is done.
    fn descend(&mut self, chain: &mut Chain, device: u64) -> Result<(), OpsError> {
        while let Some(level) = self.levels.last_mut() {
            let (names, number) = (Arc::clone(&level.names), level.next);
            level.next += 1;
            match names.get(number) {
                Some(name) if level.only_tag && name.bytes != CACHE_TAG => {}
                Some(name) => self.entry(chain, number, name.bytes, device)?,
                None => {
                    chain.leave();
                    self.levels.pop();
                    self.push(Step::Leave)?;
                }
            }
        }
        Ok(())
    }

    /// Deals with one name of the directory where the chain is. What is left out, or cannot be
    /// looked at, makes no step.
    fn entry(
        &mut self,
        chain: &mut Chain,
        number: usize,
        name: &[u8],
        device: u64,
    ) -> Result<(), OpsError> {
        if self.run.progress.cancelled() {
            return Err(OpsError::Cancelled);
        }
        let found = chain.directory().and_then(|d| d.stat(name).map(|stat| (d, stat)));
        let (directory, stat) = match found {
            Ok(found) => found,
            Err(error) => {
                self.run.source_problem(chain.path(), error);
                return Ok(());
            }
        };
        let verdict = self.run.options.excludes.verdict(chain.path(), name, &stat, device);
        if let Verdict::Skip(_) = verdict {
            return Ok(());
        }
        self.run.progress.add(Counter::Entries, 1);
        if stat.is_directory()
            && verdict == Verdict::Take
            && let Some(below) = self.enter(chain, &directory, name, &stat)
        {
            return self.into(chain, number, below);
        }
        if !self.is_in {
            self.push(Step::In(directory))?;
        }
        self.push(Step::Entry { number, stat })
    }

    /// Opens a directory. One that cannot be opened is kept empty, and said so.
    fn enter(
        &self,
        chain: &mut Chain,
        parent: &Directory,
        name: &[u8],
        stat: &Stat,
    ) -> Option<Arc<Directory>> {
        let directory = match chain.enter(name, stat) {
            Ok(directory) => directory,
            Err(error) => {
                self.run.source_problem(chain.path(), error);
                return None;
            }
        };
        let crossing = parent.own_stat().device != stat.device;
        if crossing && let Ok(Some(kind)) = pseudo_file_system(&directory) {
            let path = crate::text::escape(chain.path());
            self.run
                .progress
                .note(&format!("{path}: left out what is in it, a {kind} file system"));
            chain.leave();
            return None;
        }
        Some(directory)
    }

    /// What follows is in this directory.
    fn into(
        &mut self,
        chain: &Chain,
        number: usize,
        directory: Arc<Directory>,
    ) -> Result<(), OpsError> {
        let names = directory.names().unwrap_or_else(|error| {
            self.run.source_problem(chain.path(), error);
            Names::default()
        });
        if names.unusable() > 0 {
            let why = format!("{} names in it cannot be stored", names.unusable());
            self.run.problem(Problem::at(chain.path(), why));
        }
        let only_tag = self.run.options.excludes.keeps_only_tag(&directory, &names);
        let names = Arc::new(names);
        self.levels.push(Level { names: Arc::clone(&names), next: 0, only_tag });
        let directory = Some(directory);
        self.push(Step::Enter(Box::new(Entered { number, directory, names })))
    }

    fn push(&mut self, step: Step) -> Result<(), OpsError> {
        self.is_in = !matches!(step, Step::Leave);
        self.handles += usize::from(matches!(step, Step::Enter(_) | Step::In(_)));
        self.steps.push(step);
        match self.steps.len() >= BATCH_STEPS || self.handles >= BATCH_HANDLES {
            true => self.flush(),
            false => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), OpsError> {
        self.handles = 0;
        let steps = std::mem::replace(&mut self.steps, Vec::with_capacity(BATCH_STEPS));
        // Who took them has stopped, and knows why.
        self.out.send(steps).map_err(|_| OpsError::Cancelled)
    }
}
