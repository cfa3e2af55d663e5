//! What becomes of each file and other thing, and the windows in which that is collected.

mod feed;

use std::sync::mpsc::SyncSender;
use std::sync::{Arc, OnceLock};

use super::decide::{
    Candidate, Decision, allows, decide, has_same_content, make_writable, require_delete,
};
use super::links::{First, LinkKey, Links, standing};
use super::report::{Action, Change, Run};
use super::window::{LinkWork, Window};
use crate::format::tree::Metadata;
use crate::ops::OpsError;
use crate::ops::parallel::each_in_parallel;
use crate::target::{Difference, Folder, Kind, TargetError};
use feed::planned_bytes;

/// Files that are compared at a time, by all threads.
const COMPARED_MAX: usize = 512;

/// What waits for its turn behind files that are compared.
enum Item {
    Compare(Candidate, Difference),
    Link(Candidate, LinkKey),
    Finish(Arc<Folder>, Box<Metadata>),
}

/// Decides, and collects what is to be done.
pub(super) struct Plan<'a> {
    run: &'a Run<'a>,
    links: Links,
    queue: Vec<Item>,
    compared: usize,
    window: Window,
    /// `None` in a dry run.
    windows: Option<SyncSender<Window>>,
}

impl<'a> Plan<'a> {
    pub fn new(run: &'a Run<'a>, windows: Option<SyncSender<Window>>) -> Self {
        let links = Links::new(&run.repository.environment().cache);
        Self { run, links, queue: Vec::new(), compared: 0, window: Window::default(), windows }
    }

    pub fn is_dry(&self) -> bool {
        self.windows.is_none()
    }

    /// Takes what is no directory.
    pub fn push(&mut self, candidate: Candidate) -> Result<(), OpsError> {
        if let Some(key) = candidate.key()
            && !self.links.is_first(key, candidate.entry.metadata.links)?
        {
            return self.submit(Item::Link(candidate, key));
        }
        match decide(self.run, &candidate) {
            Ok(Decision::Compare(difference)) => self.submit(Item::Compare(candidate, difference)),
            Ok(decision) => self.carry_out(candidate, decision),
            Err(error) => {
                self.refuse(&candidate, error);
                Ok(())
            }
        }
    }

    /// A folder gets its metadata when everything that was pushed before is done.
    pub fn finish_folder(
        &mut self,
        folder: Arc<Folder>,
        metadata: Metadata,
    ) -> Result<(), OpsError> {
        self.submit(Item::Finish(folder, Box::new(metadata)))
    }

    /// Nothing more comes.
    pub fn end(mut self) -> Result<(), OpsError> {
        self.work_off()?;
        self.seal()
    }

    fn submit(&mut self, item: Item) -> Result<(), OpsError> {
        let compare = matches!(item, Item::Compare(..));
        if self.queue.is_empty() && !compare {
            return self.handle(item, false);
        }
        self.queue.push(item);
        self.compared += usize::from(compare);
        match self.compared >= COMPARED_MAX || self.queue.len() >= self.run.options.ahead.files {
            true => self.work_off(),
            false => Ok(()),
        }
    }

    /// Compares what waits for it, with all threads, and then handles all in its order.
    fn work_off(&mut self) -> Result<(), OpsError> {
        let items = std::mem::take(&mut self.queue);
        self.compared = 0;
        let to_compare = |item: &Item| match item {
            Item::Compare(candidate, _) => has_same_content(self.run, candidate),
            _ => false,
        };
        let same: Vec<OnceLock<bool>> = items.iter().map(|_| OnceLock::new()).collect();
        let pairs: Vec<_> = items.iter().zip(&same).collect();
        each_in_parallel(self.run.threads(), &pairs, |(item, same), (): &mut ()| {
            let _ = same.set(to_compare(item));
        });
        for (item, same) in items.into_iter().zip(same) {
            if self.run.stopped() {
                return Err(OpsError::Cancelled);
            }
            self.handle(item, same.into_inner().unwrap_or(false))?;
        }
        Ok(())
    }

    fn handle(&mut self, item: Item, same: bool) -> Result<(), OpsError> {
        match item {
            Item::Compare(candidate, difference) => {
                self.carry_out_compared(candidate, difference, same)
            }
            Item::Link(candidate, key) => self.link(candidate, key),
            Item::Finish(folder, metadata) => {
                self.window.folders.push((folder, *metadata));
                self.seal_if_full()
            }
        }
    }

    fn carry_out_compared(
        &mut self,
        candidate: Candidate,
        difference: Difference,
        same: bool,
    ) -> Result<(), OpsError> {
        let decision = match (same, difference) {
            (false, _) => Decision::Write(Action::Replaced),
            (true, Difference::Same) => Decision::Same,
            // One with several names is never changed, only replaced.
            (true, Difference::Content)
                if candidate.found().is_ok_and(|found| found.is_some_and(|f| f.links > 1)) =>
            {
                Decision::Write(Action::Replaced)
            }
            (true, _) => Decision::Metadata,
        };
        self.carry_out(candidate, decision)
    }

    fn carry_out(&mut self, candidate: Candidate, decision: Decision) -> Result<(), OpsError> {
        match decision {
            // Other names do not become links to what is perhaps another file.
            Decision::Keep => {}
            Decision::Same | Decision::Metadata => self.settle(&candidate, true)?,
            Decision::Write(_) | Decision::Clear => self.settle(&candidate, false)?,
            Decision::Compare(difference) => {
                let same = has_same_content(self.run, &candidate);
                return self.carry_out_compared(candidate, difference, same);
            }
        }
        match decision {
            Decision::Keep | Decision::Same => self.unchanged(&candidate, Action::Unchanged),
            Decision::Metadata => {
                let set = match (&candidate.folder, self.is_dry()) {
                    (Some(folder), false) => {
                        folder.set_metadata(&candidate.entry.name, &candidate.entry)
                    }
                    _ => Ok(Vec::new()),
                };
                match set {
                    Ok(problems) => {
                        self.run.troubles(problems);
                        self.unchanged(&candidate, Action::Metadata);
                    }
                    Err(error) => self.run.trouble(error),
                }
            }
            Decision::Write(action) => return self.write(candidate, action),
            Decision::Clear => match self.clear(&candidate) {
                Ok(()) => return self.write(candidate, Action::Replaced),
                Err(error) => self.refuse(&candidate, error),
            },
            Decision::Compare(_) => {}
        }
        Ok(())
    }

    fn unchanged(&self, candidate: &Candidate, action: Action) {
        let change = Change { path: &candidate.path, kind: candidate.kind(), action, bytes: 0 };
        self.run.done(change, candidate.entry.size());
    }

    /// It cannot come because of the target.
    fn refuse(&self, candidate: &Candidate, error: TargetError) {
        self.run.broke(candidate.key(), false);
        self.run.trouble(error);
    }

    /// Other names of it become links to it.
    fn settle(&mut self, candidate: &Candidate, stays: bool) -> Result<(), OpsError> {
        let Some(key) = candidate.key() else { return Ok(()) };
        let found = if stays { candidate.found().ok().flatten() } else { None };
        let (folder, path) = (candidate.folder.clone(), candidate.path.clone());
        let first = First { folder, path, standing: found.as_ref().map(standing) };
        Ok(self.links.settle(key, first)?)
    }

    /// Removes a directory that is in the way.
    fn clear(&self, candidate: &Candidate) -> Result<(), TargetError> {
        if let (Some(folder), false) = (&candidate.folder, self.is_dry()) {
            make_writable(folder)?;
            folder.remove_tree(&candidate.entry.name, &mut |error| self.run.trouble(error))?;
        }
        Ok(())
    }

    fn write(&mut self, candidate: Candidate, action: Action) -> Result<(), OpsError> {
        let is_file = candidate.content().is_some();
        let done = |bytes| {
            let kind = candidate.kind();
            self.run.done(Change { path: &candidate.path, kind, action, bytes }, 0);
        };
        let folder = match (&candidate.folder, self.is_dry()) {
            (Some(folder), false) => folder.clone(),
            _ if is_file => {
                let bytes = planned_bytes(self.run, &candidate)?;
                done(bytes);
                return Ok(());
            }
            _ => {
                done(0);
                return Ok(());
            }
        };
        let entry = &candidate.entry;
        if let Err(error) = make_writable(&folder) {
            self.refuse(&candidate, error);
            return Ok(());
        }
        if is_file {
            return self.feed(candidate, folder, action);
        }
        match folder.create(&entry.name, &entry.kind, &entry.metadata) {
            Ok(problems) => {
                self.run.troubles(problems);
                done(0);
            }
            Err(error) => self.refuse(&candidate, error),
        }
        Ok(())
    }

    /// A name of a file that has another name before.
    fn link(&mut self, candidate: Candidate, key: LinkKey) -> Result<(), OpsError> {
        let Some(first) = self.links.first(key)? else {
            return match decide(self.run, &candidate) {
                Ok(decision) => self.carry_out(candidate, decision),
                Err(error) => {
                    self.refuse(&candidate, error);
                    Ok(())
                }
            };
        };
        let action = match self.link_action(&candidate, &first) {
            Ok(Some(action)) => action,
            Ok(None) => {
                self.unchanged(&candidate, Action::Unchanged);
                return Ok(());
            }
            Err(error) => {
                self.run.trouble(error);
                return Ok(());
            }
        };
        let (name, kind) = (candidate.entry.name, Kind::of(&candidate.entry.kind));
        match candidate.folder.filter(|_| self.windows.is_some()) {
            Some(folder) => {
                self.window.links.push(LinkWork { key, first, folder, name, kind, action });
                self.seal_if_full()
            }
            None => {
                self.run.done(Change { path: &candidate.path, kind, action, bytes: 0 }, 0);
                Ok(())
            }
        }
    }

    /// What becomes of a later name; `None` if nothing does.
    fn link_action(
        &self,
        candidate: &Candidate,
        first: &First,
    ) -> Result<Option<Action>, TargetError> {
        let Some(found) = candidate.found()? else {
            if let (Some(folder), false) = (&candidate.folder, self.is_dry()) {
                make_writable(folder)?;
            }
            return Ok(Some(Action::Created));
        };
        let policy = self.run.options.overwrite;
        let is_it = first.standing == Some(standing(&found));
        if is_it || !allows(policy, candidate.entry.metadata.mtime, found.mtime) {
            return Ok(None);
        }
        if found.kind == Kind::Directory {
            require_delete(self.run, candidate)?;
            self.clear(candidate)?;
        } else if let (Some(folder), false) = (&candidate.folder, self.is_dry()) {
            make_writable(folder)?;
        }
        Ok(Some(Action::Replaced))
    }

    fn seal_if_full(&mut self) -> Result<(), OpsError> {
        let (window, ahead) = (&self.window, self.run.options.ahead);
        let most = window.files.len().max(window.links.len()).max(window.folders.len());
        match most >= ahead.files || window.wanted.len() >= ahead.chunks {
            true => self.seal(),
            false => Ok(()),
        }
    }

    /// Hands the window over; waits until the one before is written.
    fn seal(&mut self) -> Result<(), OpsError> {
        let window = std::mem::take(&mut self.window);
        match &self.windows {
            Some(windows) if !window.is_empty() => {
                windows.send(window).map_err(|_| OpsError::Cancelled)
            }
            _ => Ok(()),
        }
    }
}
