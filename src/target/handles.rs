//! Open file handles, few at a time, and how folders are opened safely.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::fs::{Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// Where a handle stands while it is open. It may be taken out at any time to keep few open;
/// whoever needs it opens it again.
#[derive(Debug, Default)]
pub(super) struct Slot(Mutex<Option<Arc<File>>>);

impl Slot {
    /// A slot that is never emptied.
    pub(super) fn kept(file: File) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(Arc::new(file)))))
    }

    pub(super) fn get(&self) -> Option<Arc<File>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, file: Option<Arc<File>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = file;
    }
}

/// The slots that are filled, oldest first, and how many may be.
#[derive(Debug)]
pub(super) struct Handles {
    filled: Mutex<VecDeque<Weak<Slot>>>,
    max: usize,
}

impl Handles {
    pub(super) fn new(max: usize) -> Self {
        Self { filled: Mutex::default(), max }
    }

    /// Fills a slot; the one that was filled longest ago is emptied if there are too many. A
    /// handle in use lives until its user lets it go.
    pub(super) fn fill(&self, slot: &Arc<Slot>, file: File) -> Arc<File> {
        let file = Arc::new(file);
        slot.set(Some(file.clone()));
        let mut filled = self.filled.lock().unwrap_or_else(PoisonError::into_inner);
        filled.push_back(Arc::downgrade(slot));
        let oldest = if filled.len() > self.max { filled.pop_front() } else { None };
        drop(filled);
        if let Some(oldest) = oldest.and_then(|oldest| oldest.upgrade()) {
            oldest.set(None);
        }
        file
    }

    /// How many slots are filled, at most.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let filled = self.filled.lock().unwrap_or_else(PoisonError::into_inner);
        filled.iter().filter(|s| s.upgrade().is_some_and(|s| s.get().is_some())).count()
    }
}

/// Which inode it is; compared whenever something is opened by its name again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl Identity {
    pub(super) fn of(stat: &Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);

/// Opens the folder that `names` lead to, below `base`, through no link of any kind; with
/// `same_mount`, through no mount point either (as far as the kernel has openat2).
pub(super) fn open_folder(
    base: &File,
    names: &[&[u8]],
    same_mount: bool,
    stepwise: &AtomicBool,
) -> rustix::io::Result<File> {
    if !stepwise.load(Ordering::Relaxed) {
        match open_beneath(base, names, same_mount) {
            Err(Errno::NOSYS) => stepwise.store(true, Ordering::Relaxed),
            // Some sandboxes refuse calls that they do not know with this.
            Err(Errno::PERM) => {}
            done => return done,
        }
    }
    let mut folder: Option<File> = None;
    for name in names {
        let from = folder.as_ref().unwrap_or(base);
        folder = Some(rustix::fs::openat(from, *name, FOLDER, Mode::empty())?.into());
    }
    folder.ok_or(Errno::NOENT)
}

fn open_beneath(base: &File, names: &[&[u8]], same_mount: bool) -> rustix::io::Result<File> {
    let mut resolve =
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    if same_mount {
        resolve |= ResolveFlags::NO_XDEV;
    }
    let path = names.join(&b'/');
    // The kernel gives up with AGAIN when something moves while it looks.
    for _ in 0..64 {
        match rustix::fs::openat2(base, path.as_slice(), FOLDER, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return done.map(File::from),
        }
    }
    Err(Errno::AGAIN)
}
