//! What the snapshot does not have, and how it is removed.

use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;

use super::difference::Kind;
use super::{Folder, Result, TargetError};

/// Folders of one folder that are remembered at a time while it is emptied.
const PENDING_MAX: usize = 65_536;
/// How often one folder is listed: somebody else may fill it as fast as it is emptied.
const LISTINGS_MAX: u32 = 1_000;

impl Folder {
    /// The names in it that are not `kept`; this run's temporary files are left out, those that a
    /// killed run left behind are not.
    pub fn extra_names(&self, kept: &dyn Fn(&[u8]) -> bool) -> Result<Vec<Vec<u8>>> {
        let own = self.shared.temporary_prefix();
        let mut names = Vec::new();
        self.each_name(&mut |name, _| {
            if !kept(name) && !name.starts_with(own.as_bytes()) {
                names.push(name.to_vec());
            }
        })?;
        names.sort_unstable();
        Ok(names)
    }

    pub(super) fn each_name(&self, each: &mut dyn FnMut(&[u8], FileType)) -> Result<()> {
        let failed = |errno| self.error("list", b"", errno);
        let listing = Dir::read_from(&*self.handle()?).map_err(failed)?;
        for entry in listing {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                each(name, entry.file_type());
            }
        }
        Ok(())
    }

    /// Removes a name that is no directory; one that is not there is fine.
    pub fn unlink(self: &Arc<Self>, name: &[u8]) -> Result<()> {
        self.check_name(name)?;
        if self.keeping().is_some() {
            return match self.raw_stat(name)? {
                Some(stat) if Kind::of_mode(stat.st_mode) == Kind::Directory => {
                    Err(self.in_the_way(name))
                }
                _ => self.remove_kept(name).map(drop),
            };
        }
        match rustix::fs::unlinkat(&*self.handle()?, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => Err(self.in_the_way(name)),
            Err(errno) => Err(self.error("remove", name, errno)),
        }
    }

    pub(super) fn remove_directory(&self, name: &[u8]) -> Result<()> {
        match rustix::fs::unlinkat(&*self.handle()?, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.error("remove", name, errno)),
        }
    }

    /// Removes a name and, if it is a directory, all below it: following no link, crossing into
    /// no other mount. What cannot be removed is told to `problem` and stays, and so do the
    /// folders above it. Returned is how many things were removed.
    pub fn remove_tree(
        self: &Arc<Self>,
        name: &[u8],
        problem: &mut dyn FnMut(TargetError),
    ) -> Result<u64> {
        if self.keeping().is_some() {
            return self.remove_kept(name);
        }
        match self.raw_stat(name)? {
            None => return Ok(0),
            Some(stat) if Kind::of_mode(stat.st_mode) != Kind::Directory => {
                self.unlink(name)?;
                return Ok(1);
            }
            Some(_) => {}
        }
        let Some(top) = self.open_child(name, false, true)? else {
            return Ok(0);
        };
        top.make_writable()?;
        let mut removal = Removal { removed: 0, problem, levels: vec![Level::new(top, name)] };
        while let Some(level) = removal.levels.last_mut() {
            if let Some(name) = level.pending.pop() {
                removal.descend(&name);
            } else if level.again {
                removal.empty();
            } else {
                removal.ascend(self);
            }
        }
        Ok(removal.removed)
    }
}

/// A folder that is being emptied.
struct Level {
    folder: Arc<Folder>,
    name: Vec<u8>,
    /// Folders in it that are to be removed.
    pending: Vec<Vec<u8>>,
    /// It must be listed (again).
    again: bool,
    /// Something was removed from it since it was listed.
    progress: bool,
    listings: u32,
    /// Something in it cannot be removed, and that was said.
    stuck: bool,
}

impl Level {
    fn new(folder: Arc<Folder>, name: &[u8]) -> Self {
        Self {
            folder,
            name: name.to_vec(),
            pending: Vec::new(),
            again: true,
            progress: true,
            listings: 0,
            stuck: false,
        }
    }
}

struct Removal<'a> {
    removed: u64,
    problem: &'a mut dyn FnMut(TargetError),
    /// From the top down; kept here and not on the stack, whose depth a hostile tree could exceed.
    levels: Vec<Level>,
}

impl Removal<'_> {
    fn descend(&mut self, name: &[u8]) {
        let Some(level) = self.levels.last_mut() else { return };
        let child = level.folder.open_child(name, false, true).and_then(|child| {
            if let Some(child) = &child {
                child.make_writable()?;
            }
            Ok(child)
        });
        match child {
            Ok(Some(child)) => self.levels.push(Level::new(child, name)),
            Ok(None) => {}
            // It is no folder any more: the next listing will see what it is.
            Err(TargetError::InTheWay { .. } | TargetError::Exchanged { .. }) => {}
            Err(error) => {
                level.stuck = true;
                (self.problem)(error);
            }
        }
    }

    /// Lists the last level: what is no folder is removed at once, folders are remembered.
    fn empty(&mut self) {
        let Some(level) = self.levels.last_mut() else { return };
        level.again = false;
        // What is left over and over cannot be removed: an end must be made.
        if !std::mem::take(&mut level.progress) || level.listings >= LISTINGS_MAX {
            return;
        }
        level.listings += 1;
        let (removed, problem) = (&mut self.removed, &mut *self.problem);
        let Level { folder, pending, stuck, again, progress, .. } = level;
        let said = *stuck;
        let listed = folder.each_name(&mut |name, file_type| {
            let directory = match file_type {
                FileType::Unknown => folder
                    .raw_stat(name)
                    .is_ok_and(|s| s.is_some_and(|s| Kind::of_mode(s.st_mode) == Kind::Directory)),
                known => known == FileType::Directory,
            };
            if directory {
                match pending.len() < PENDING_MAX {
                    true => pending.push(name.to_vec()),
                    false => *again = true,
                }
                return;
            }
            match folder.unlink(name) {
                Ok(()) => {
                    *removed += 1;
                    *progress = true;
                }
                Err(error) => {
                    *stuck = true;
                    // A second listing meets the same again.
                    if !said {
                        problem(error);
                    }
                }
            }
        });
        if let Err(error) = listed {
            level.stuck = true;
            level.again = false;
            level.pending.clear();
            (self.problem)(error);
        }
    }

    /// Removes the last level, which is empty unless something in it is stuck.
    fn ascend(&mut self, top: &Arc<Folder>) {
        let Some(mut level) = self.levels.pop() else { return };
        let parent = self.levels.last().map_or(top, |parent| &parent.folder);
        let outcome = match level.stuck {
            true => Err(None),
            false => parent.remove_directory(&level.name).map_err(Some),
        };
        match outcome {
            Ok(()) => {
                self.removed += 1;
                if let Some(parent) = self.levels.last_mut() {
                    parent.progress = true;
                }
            }
            // Something was missed by the listing or came since; as long as that helps, again.
            Err(Some(TargetError::Io { source, .. }))
                if source.kind() == std::io::ErrorKind::DirectoryNotEmpty && level.progress =>
            {
                level.again = true;
                self.levels.push(level);
            }
            Err(error) => {
                if let Some(parent) = self.levels.last_mut() {
                    parent.stuck = true;
                }
                if let Some(error) = error {
                    (self.problem)(error);
                }
            }
        }
    }
}
