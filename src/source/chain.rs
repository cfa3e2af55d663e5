//! The directories from the start down to where a walk is, few of them open.

use std::sync::Arc;

use super::directory::within;
use super::{Directory, Identity, Result, SourceError, Stat, joined};
use crate::limits;

/// So many directories of the path are open at most.
pub const OPEN_MAX: usize = 64;

#[derive(Debug)]
struct Level {
    /// Length of the path down to here.
    path_len: usize,
    /// Length of its name, at the end of the path.
    name_len: usize,
    identity: Identity,
    directory: Option<Arc<Directory>>,
}

/// A depth-first walk's path. The start and the deepest directories stay open; the others are
/// opened again on the way back, and must be what they were. Whoever holds a handle that it gave
/// keeps that one open besides.
#[derive(Debug)]
pub struct Chain {
    path: Vec<u8>,
    /// How many directories lie above the start, the root included.
    above: usize,
    levels: Vec<Level>,
    /// A level that is no longer where it was: from there on nothing can be opened again, and
    /// trying it for every level below would take the square of the depth.
    lost: Option<usize>,
}

impl Chain {
    /// Begins with an open directory; `path` is what it is called.
    pub fn new(start: Directory, path: Vec<u8>) -> Self {
        let identity = start.own_stat().identity();
        let directory = Some(Arc::new(start));
        let level = Level { path_len: path.len(), name_len: 0, identity, directory };
        let above = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).count();
        Self { path, above, levels: vec![level], lost: None }
    }

    /// The path of the directory where the walk is, raw.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// The path of an entry there, raw.
    pub fn path_of(&self, name: &[u8]) -> Vec<u8> {
        joined(&self.path, name)
    }

    /// How many directories below the start the walk is.
    pub fn depth(&self) -> usize {
        self.levels.len() - 1
    }

    /// The directory where the walk is. After an error it is still there, and `leave` leads out.
    pub fn directory(&mut self) -> Result<Arc<Directory>> {
        let open = self.levels.iter().rposition(|level| level.directory.is_some());
        let (mut at, mut directory) = open
            .and_then(|at| self.levels.get(at).and_then(|l| l.directory.clone()).map(|d| (at, d)))
            .expect("the first level is never closed");
        let top = self.depth();
        while at < top {
            at += 1;
            let level = &self.levels[at];
            let name = &self.path[level.path_len - level.name_len..level.path_len];
            if self.lost.is_some_and(|lost| lost <= at) {
                return Err(SourceError::Changed { path: name.to_vec() });
            }
            let next = directory.open_below_as(name, level.identity).inspect_err(|error| {
                if matches!(error, SourceError::Changed { .. } | SourceError::Vanished { .. }) {
                    self.lost = Some(at);
                }
            })?;
            directory = Arc::new(next);
            if top - at < OPEN_MAX - 1 {
                self.levels[at].directory = Some(Arc::clone(&directory));
            }
        }
        Ok(directory)
    }

    /// Goes into a directory that `expected` describes. After an error the walk is where it was.
    pub fn enter(&mut self, name: &[u8], expected: &Stat) -> Result<Arc<Directory>> {
        // Counted as readers do, from the root of the snapshot: `format-spec/09-tree.md#entries`.
        let depth = self.above + self.levels.len() + 1;
        within(name, "the depth", depth as u64, limits::TREE_DEPTH_MAX as u64)?;
        let directory = Arc::new(self.directory()?.open_directory(name, expected)?);
        if !self.path.ends_with(b"/") {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
        self.levels.push(Level {
            path_len: self.path.len(),
            name_len: name.len(),
            identity: expected.identity(),
            directory: Some(Arc::clone(&directory)),
        });
        let top = self.depth();
        if let Some(level) = top.checked_sub(OPEN_MAX - 1).filter(|at| *at > 0) {
            self.levels[level].directory = None;
        }
        Ok(directory)
    }

    /// Goes back to the directory above; from the start there is none, and nothing happens.
    pub fn leave(&mut self) {
        if self.depth() == 0 {
            return;
        }
        let left = self.levels.pop().and_then(|level| level.directory);
        self.lost = self.lost.filter(|lost| *lost < self.levels.len());
        let Some(level) = self.levels.last_mut() else { return };
        self.path.truncate(level.path_len);
        if let (None, Some(left)) = (&level.directory, left) {
            // Up is one step, down from the start may be thousands. If the directory was moved
            // elsewhere, what is above it now is not ours; `directory` tries the long way then.
            let above = left.open_parent().ok().map(Arc::new);
            level.directory = above.filter(|d| d.own_stat().identity() == level.identity);
        }
    }

    /// How many directories it holds open.
    #[cfg(test)]
    pub(super) fn open_count(&self) -> usize {
        self.levels.iter().filter(|level| level.directory.is_some()).count()
    }
}

impl Directory {
    fn open_below_as(&self, name: &[u8], identity: Identity) -> Result<Self> {
        let stat = self.stat(name)?;
        match stat.identity() == identity {
            true => self.open_directory(name, &stat),
            false => Err(SourceError::Changed { path: name.to_vec() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::place;
    use super::*;
    use rustix::fs::{Mode, mkdirat};
    use std::fs;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn deep_paths_need_few_handles() {
        const DEPTH: usize = 5_000;
        let (place, directory) = place();
        let name = [b'd'; 200];
        let mut chain = Chain::new(directory, place.path().as_os_str().as_bytes().to_vec());
        for depth in 0..DEPTH {
            let here = chain.directory().unwrap();
            mkdirat(here.handle(), &name[..], Mode::from_raw_mode(0o755)).unwrap();
            let stat = here.stat(&name).unwrap();
            chain.enter(&name, &stat).unwrap();
            assert_eq!(chain.depth(), depth + 1);
            assert!(chain.open_count() <= OPEN_MAX);
        }
        assert!(chain.path().len() > DEPTH * 201);
        for depth in (0..DEPTH).rev() {
            chain.leave();
            assert_eq!(chain.depth(), depth);
            assert!(chain.open_count() <= OPEN_MAX);
            assert_eq!(chain.directory().unwrap().names().unwrap().len(), 1);
        }
        chain.leave();
        assert_eq!((chain.depth(), chain.path()), (0, place.path().as_os_str().as_bytes()));
        // The standard library's removal keeps one descriptor a level.
        let removed =
            std::process::Command::new("rm").arg("-rf").arg(place.path()).status().unwrap();
        assert!(removed.success());
    }

    #[test]
    fn a_directory_moved_away_is_never_taken_for_its_successor() {
        let (place, directory) = place();
        let deep: Vec<String> = (0..OPEN_MAX + 6).map(|level| format!("{level}")).collect();
        fs::create_dir_all(place.path().join(deep.join("/"))).unwrap();
        fs::create_dir(place.path().join("elsewhere")).unwrap();
        let mut chain = Chain::new(directory, b"/p".to_vec());
        let down = |chain: &mut Chain| {
            for name in &deep {
                let stat = chain.directory().unwrap().stat(name.as_bytes()).unwrap();
                chain.enter(name.as_bytes(), &stat).unwrap();
            }
            // Levels 1 to 6 are closed now; the way up from level 7 leads to 6.
            (0..OPEN_MAX - 1).for_each(|_| chain.leave());
        };
        down(&mut chain);
        assert_eq!(chain.path(), b"/p/0/1/2/3/4/5/6");
        // Moved: its `..` leads elsewhere. The long way from the start still finds what is above.
        fs::rename(place.path().join("0/1/2/3/4/5/6"), place.path().join("elsewhere/6")).unwrap();
        chain.leave();
        assert_eq!(chain.path(), b"/p/0/1/2/3/4/5");
        assert!(chain.directory().unwrap().names().unwrap().is_empty());
        fs::rename(place.path().join("elsewhere/6"), place.path().join("0/1/2/3/4/5/6")).unwrap();
        while chain.depth() > 0 {
            chain.leave();
        }
        down(&mut chain);
        // Moved with another of its name in its place, which must not be entered.
        fs::rename(place.path().join("0/1/2/3/4/5"), place.path().join("elsewhere/5")).unwrap();
        fs::rename(place.path().join("0/1/2/3/4"), place.path().join("elsewhere/4")).unwrap();
        fs::create_dir_all(place.path().join("0/1/2/3/4/5/6")).unwrap();
        chain.leave();
        chain.leave();
        assert_eq!(chain.path(), b"/p/0/1/2/3/4");
        assert!(matches!(chain.directory(), Err(SourceError::Changed { .. })));
        // Once lost it is not looked for again, even if it comes back.
        fs::rename(place.path().join("0/1/2/3/4"), place.path().join("successor")).unwrap();
        fs::rename(place.path().join("elsewhere/4"), place.path().join("0/1/2/3/4")).unwrap();
        assert!(matches!(chain.directory(), Err(SourceError::Changed { .. })));
        chain.leave();
        assert_eq!(chain.directory().unwrap().names().unwrap().len(), 1);
        assert_eq!(chain.path(), b"/p/0/1/2/3");
    }

    #[test]
    fn the_long_way_opens_no_more_than_allowed() {
        let (place, directory) = place();
        let moved = 130;
        let mut chain = Chain::new(directory, b"/p".to_vec());
        for depth in 0..200 {
            let here = chain.directory().unwrap();
            mkdirat(here.handle(), "d", Mode::from_raw_mode(0o755)).unwrap();
            if depth == moved {
                mkdirat(here.handle(), "other", Mode::from_raw_mode(0o755)).unwrap();
            }
            chain.enter(b"d", &here.stat(b"d").unwrap()).unwrap();
        }
        while chain.depth() > moved + 1 {
            chain.leave();
        }
        let deep = place.path().join(["d"; 131].join("/"));
        fs::rename(deep, place.path().join("moved")).unwrap();
        chain.leave();
        assert!(chain.open_count() < OPEN_MAX);
        assert!(chain.directory().unwrap().names().unwrap().contains(b"other"));
        assert!(chain.open_count() <= OPEN_MAX);
    }

    #[test]
    fn the_depth_is_bounded_from_the_root_on() {
        let (place, directory) = place();
        fs::create_dir(place.path().join("d")).unwrap();
        let stat = directory.stat(b"d").unwrap();
        let identity = stat.identity();
        let mut chain = Chain::new(directory, b"/above/p".to_vec());
        // The listings of the root, of `above` and of `p` are the first three.
        for _ in 3..limits::TREE_DEPTH_MAX {
            chain.levels.push(Level { path_len: 2, name_len: 0, identity, directory: None });
        }
        assert!(matches!(chain.enter(b"d", &stat), Err(SourceError::TooLarge { .. })));
        chain.leave();
        assert!(!matches!(chain.enter(b"d", &stat), Err(SourceError::TooLarge { .. })));
    }

    #[test]
    fn a_new_way_down_is_not_lost_with_the_old_one() {
        let (place, directory) = place();
        fs::create_dir(place.path().join("d")).unwrap();
        let stat = directory.stat(b"d").unwrap();
        let mut chain = Chain::new(directory, b"/p".to_vec());
        chain.enter(b"d", &stat).unwrap();
        chain.lost = Some(1);
        chain.leave();
        chain.enter(b"d", &stat).unwrap();
        chain.levels[1].directory = None;
        assert_eq!(chain.directory().unwrap().own_stat().identity(), stat.identity());
    }
}
