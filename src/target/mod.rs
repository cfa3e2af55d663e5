//! What is restored to: files, links, metadata, sparse, safe paths.
//!
//! The promise: nothing outside the target is ever written, followed, changed in its metadata or
//! removed, whatever a repository contains and whoever moves things about in the target while it
//! is written. So there are no paths here, only names below open directories: every call names
//! one component, refuses to follow a link, and what was opened is compared with what was seen
//! before. A file with several names is never written through, for one of them may lie outside.
//!
//! The order of a restore: folders by [`Folder::child`] and [`Folder::make_child`], files in any
//! order and from many threads, then hard links, then [`Folder::finish`] from the deepest up.

mod difference;
mod error;
mod file;
mod folder;
mod handles;
mod journal;
mod metadata;
mod removal;
#[cfg(test)]
mod tests;
mod undo;
mod xattrs;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{DirBuilder, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::fs::{Mode, OFlags};

pub use difference::{Difference, Found, Kind, MetadataDifference};
pub use error::{Result, TargetError};
pub use file::{ExistingFile, NewFile};
pub use folder::Folder;
pub use journal::UndoRecord;

use self::handles::Handles;
use self::undo::Kept;
use crate::format::tree::Metadata;
use crate::world::{self, World};

/// How many folders, and how many files being written, are open at most. What is over that is
/// closed and opened again when it is needed; half of the usual limit of 1024 remains for others.
const OPEN_FOLDERS_MAX: usize = 256;
const OPEN_FILES_MAX: usize = 256;
/// Names of users and groups whose ids are remembered; a hostile snapshot may name any number.
const NAMES_MAX: usize = 4_096;

/// What of the metadata is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetOptions {
    /// Owner and group.
    pub owner: bool,
    /// Owner and group by their names, where this machine knows them; else by number.
    pub by_name: bool,
    /// Extended attributes, ACLs and capabilities.
    pub xattrs: bool,
}

impl Default for TargetOptions {
    fn default() -> Self {
        Self { owner: true, by_name: false, xattrs: true }
    }
}

/// A directory that is restored to.
#[derive(Debug)]
pub struct Target {
    root: Arc<Folder>,
    /// Directories on the way to it, and it, that were missing; the deepest first.
    made: Vec<PathBuf>,
}

impl Target {
    /// Opens the directory `root`, made (with its parents, private) when it is missing and
    /// `create` says so. Links in the way to it are followed: it is the person's choice.
    pub fn open(
        root: &Path,
        create: bool,
        options: TargetOptions,
        world: &dyn World,
    ) -> Result<Self> {
        let bytes = || root.as_os_str().as_bytes().to_vec();
        let mut missing = Vec::new();
        if create {
            let is_missing = |path: &&Path| path.symlink_metadata().is_err();
            missing = root.ancestors().take_while(is_missing).map(Path::to_owned).collect();
            let made = DirBuilder::new().recursive(true).mode(0o700).create(root);
            made.map_err(|e| TargetError::io("make the target", bytes(), e))?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(root, flags, Mode::empty());
        let file =
            File::from(opened.map_err(|e| TargetError::io("open the target", bytes(), e.into()))?);
        let shared = Shared::new(options, world::random(world));
        let root = Folder::root(shared, file).map_err(|e| TargetError::io("stat", bytes(), e))?;
        Ok(Self { root, made: missing })
    }

    /// The same directory with everything new: all metadata counts, and nothing is kept.
    fn plain(&self) -> Result<Self> {
        let failed = |e| TargetError::io("open the target", Vec::new(), e);
        let shared = Shared::new(TargetOptions::default(), self.root.shared.temporary_key);
        let file = self.root.handle()?.try_clone().map_err(failed)?;
        let root = Folder::root(shared, file).map_err(failed)?;
        Ok(Self { root, made: Vec::new() })
    }

    /// Keeps from now on whatever is replaced, removed or changed, until [`Target::settle`] or
    /// [`Target::undo`]. Files are not to be written in place then.
    pub fn keep(&self) -> Result<()> {
        let kept = Kept::begin(self.plain()?)?;
        // It is asked for once; what was kept before stays valid.
        let _ = self.root.shared.kept.set(kept);
        Ok(())
    }

    /// An error if a run that could be undone was cut off here, or is at work. With `clear`, what
    /// was left to be removed after others is removed.
    pub fn require_finished(&self, clear: bool) -> Result<()> {
        match Kept::find(self.plain()?, clear)? {
            Some(kept) => Err(TargetError::Unfinished { path: kept.name().to_vec() }),
            None => Ok(()),
        }
    }

    /// The run came to a good end: lets go of what was kept.
    pub fn settle(&self, problem: &mut dyn FnMut(TargetError)) -> Result<()> {
        self.root.shared.kept.get().map_or(Ok(()), |kept| kept.settle(problem))
    }

    /// Puts back what this run has changed. What cannot be put back is told to `problem`, and
    /// false is returned; then [`Target::undo_unfinished`] can try again.
    pub fn undo(&self, problem: &mut dyn FnMut(TargetError)) -> Result<bool> {
        let Some(kept) = self.root.shared.kept.get() else { return Ok(false) };
        let whole = kept.undo(problem)?;
        if whole {
            for path in &self.made {
                // Whoever has put something there wants it.
                let _ = std::fs::remove_dir(path);
            }
        }
        Ok(whole)
    }

    /// Puts back what a run has changed that was cut off: whether all of it; `None` if there was
    /// no such run.
    pub fn undo_unfinished(&self, problem: &mut dyn FnMut(TargetError)) -> Result<Option<bool>> {
        let kept = Kept::find(self.plain()?, true)?;
        kept.map(|kept| kept.undo(problem)).transpose()
    }

    /// The target itself.
    pub fn root(&self) -> &Arc<Folder> {
        &self.root
    }

    /// The existing folder that these names lead to, none of them a link; `None` if one is not
    /// there.
    pub fn folder(&self, names: &[&[u8]]) -> Result<Option<Arc<Folder>>> {
        let mut folder = self.root.clone();
        for name in names {
            match folder.child(name)? {
                Some(child) => folder = child,
                None => return Ok(None),
            }
        }
        Ok(Some(folder))
    }

    /// Whether the system refused to set an owner. Worth one note, not a problem each: only root
    /// can give files away. Set-id bits of such files are left off.
    pub fn owners_refused(&self) -> bool {
        self.root.shared.owners_refused.load(Ordering::Relaxed)
    }

    /// Waits until what was restored would survive a power cut.
    pub fn sync(&self) -> Result<()> {
        let synced = rustix::fs::syncfs(&*self.root.handle()?);
        synced.map_err(|e| TargetError::io("sync", Vec::new(), e.into()))
    }
}

/// What all folders and files of a target know.
struct Shared {
    options: TargetOptions,
    is_root: bool,
    folders: Handles,
    files: Handles,
    /// The kernel has no openat2: folders are opened component by component.
    stepwise: AtomicBool,
    owners_refused: AtomicBool,
    /// A bit for each class of attributes that the target refused, so that it is said once.
    attributes_refused: AtomicU8,
    temporary_key: [u8; 32],
    temporary_count: AtomicU64,
    user_ids: Mutex<Names>,
    group_ids: Mutex<Names>,
    /// Set when the run can be undone.
    kept: OnceLock<Kept>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("options", &self.options).finish_non_exhaustive()
    }
}

type Names = HashMap<Arc<[u8]>, Option<u32>>;

impl Shared {
    fn new(options: TargetOptions, temporary_key: [u8; 32]) -> Arc<Self> {
        Arc::new(Self {
            options,
            is_root: rustix::process::geteuid().is_root(),
            folders: Handles::new(OPEN_FOLDERS_MAX),
            files: Handles::new(OPEN_FILES_MAX),
            stepwise: AtomicBool::new(false),
            owners_refused: AtomicBool::new(false),
            attributes_refused: AtomicU8::new(0),
            temporary_key,
            temporary_count: AtomicU64::new(0),
            user_ids: Mutex::default(),
            group_ids: Mutex::default(),
            kept: OnceLock::new(),
        })
    }

    /// What the names of this run's temporary files begin with.
    fn temporary_prefix(&self) -> String {
        let run = blake3::keyed_hash(&self.temporary_key, b"run").to_hex();
        format!(".holdall-{}", &run[..8])
    }

    /// A name that nobody has thought of; a keyed hash costs less than a system call for each.
    fn temporary_name(&self) -> Vec<u8> {
        let count = self.temporary_count.fetch_add(1, Ordering::Relaxed);
        let hash = blake3::keyed_hash(&self.temporary_key, &count.to_le_bytes()).to_hex();
        format!("{}{}", self.temporary_prefix(), &hash[..16]).into_bytes()
    }

    /// The ids that an entry's owner and group have here.
    fn wanted_owner(&self, metadata: &Metadata) -> (u32, u32) {
        if !self.options.by_name {
            return (metadata.uid, metadata.gid);
        }
        let user = |name: &OsStr| uzers::get_user_by_name(name).map(|user| user.uid());
        let group = |name: &OsStr| uzers::get_group_by_name(name).map(|group| group.gid());
        (
            look_up(&self.user_ids, &metadata.user, user).unwrap_or(metadata.uid),
            look_up(&self.group_ids, &metadata.group, group).unwrap_or(metadata.gid),
        )
    }
}

fn look_up(
    names: &Mutex<Names>,
    name: &Arc<[u8]>,
    ask: impl Fn(&OsStr) -> Option<u32>,
) -> Option<u32> {
    if name.is_empty() {
        return None;
    }
    let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
    if names.len() >= NAMES_MAX {
        names.clear();
    }
    *names.entry(name.clone()).or_insert_with(|| ask(OsStr::from_bytes(name)))
}
