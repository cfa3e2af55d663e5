//! The writing: every frame that a window needs is read and opened once, in the order in which
//! frames lie in packs, and its chunks go into all files that want them. Delta frames come with
//! their base, which is then opened once for all of them.
//!
//! A chunk that is damaged at one place is looked for at all others, then in what the index
//! learns when it is loaded anew, then in what the packs themselves say (R2).

use std::collections::{HashMap, HashSet};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::bases::Bases;
use super::file::FileWork;
use super::report::{Change, Run};
use super::window::{LinkWork, Wanted, Window};
use crate::format::frame::ChunkKind;
use crate::id::{ChunkId, FrameId, PackId};
use crate::index::{Index, IndexError};
use crate::ops::OpsError;
use crate::ops::parallel::each_in_parallel;
use crate::pack::{OpenedFrame, PackError, read_frame, read_frames};
use crate::progress::Counter;
use crate::target::{Folder, Target, TargetError};

/// Frames that lie side by side are read together up to this, bytes.
const READ_MAX: u32 = 2 << 20;
/// Chunks, or files, that a thread takes at a time.
const BATCH: usize = 256;

/// Writes windows as they come, until there are no more or the run is stopped.
pub(super) fn write_windows(
    run: &Run<'_>,
    target: &Target,
    windows: Receiver<Window>,
) -> Result<(), OpsError> {
    for window in windows {
        if run.stopped() {
            return Err(OpsError::Cancelled);
        }
        write_window(run, target, window)?;
    }
    Ok(())
}

fn write_window(run: &Run<'_>, target: &Target, window: Window) -> Result<(), OpsError> {
    let (missed, roots) = (Mutex::default(), Mutex::default());
    let writing = Writing { run, files: &window.files, missed, roots };
    writing.write(window.wanted)?;
    let closing: Vec<_> = window.closing.chunks(BATCH).collect();
    each_in_parallel(run.threads(), &closing, |files, (): &mut ()| {
        for file in files.iter().take_while(|_| !run.stopped()) {
            file.finish_chunks(run, 1);
        }
    });
    for work in window.links.iter().take_while(|_| !run.stopped()) {
        link(run, target, work);
    }
    for (folder, metadata) in window.folders.iter().take_while(|_| !run.stopped()) {
        match folder.finish(metadata) {
            Ok(problems) => run.troubles(problems),
            Err(error) => run.trouble(error),
        }
    }
    Ok(())
}

fn link(run: &Run<'_>, target: &Target, work: &LinkWork) {
    let path = work.folder.path_of(&work.name);
    match run.is_broken(&work.key) {
        None => {}
        Some(true) => return run.damage(&path, "it is another name of a damaged file"),
        Some(false) => return run.wrong(&path, "it is another name of a file that did not come"),
    }
    match link_now(target, work) {
        Ok(()) => {
            run.done(Change { path: &path, kind: work.kind, action: work.action, bytes: 0 }, 0);
        }
        Err(error) => run.trouble(error),
    }
}

fn link_now(target: &Target, work: &LinkWork) -> Result<(), TargetError> {
    let mut names: Vec<&[u8]> = work.first.path.split(|byte| *byte == b'/').collect();
    let name = names.pop().unwrap_or_default();
    let from = match &work.first.folder {
        Some(folder) => Some(folder.clone()),
        None => target.folder(&names)?,
    };
    let gone = || TargetError::Exchanged { path: work.first.path.clone() };
    let from: &Folder = &*from.ok_or_else(gone)?;
    work.folder.link(from, name, &work.name).map(drop)
}

/// A chunk with the place where it is to be read.
#[derive(Debug, Clone, Copy)]
struct Placed {
    wanted: Wanted,
    pack: PackId,
    frame: FrameId,
    frame_offset: u32,
    stored_len: u32,
    /// The base of a delta frame.
    base: Option<FrameId>,
    /// The place of the base, or of the frame itself.
    root: (PackId, u32),
    /// Where in the frame's plaintext, bytes.
    start: u32,
}

impl Placed {
    fn place(&self) -> (PackId, u32) {
        (self.pack, self.frame_offset)
    }
}

/// What did not work out.
#[derive(Debug, Default)]
struct Missed {
    wanted: Vec<Wanted>,
    tried: HashSet<(ChunkId, PackId, u32)>,
    /// Those of them that lie in delta frames: what is learned next may be where the base lies.
    in_deltas: Vec<(ChunkId, PackId, u32)>,
    why: HashMap<ChunkId, String>,
}

/// The chunks of one window on their way.
struct Writing<'a> {
    run: &'a Run<'a>,
    files: &'a [Arc<FileWork>],
    missed: Mutex<Missed>,
    /// Where bases lie.
    roots: Mutex<HashMap<FrameId, (PackId, u32)>>,
}

impl Writing<'_> {
    fn missed(&self) -> MutexGuard<'_, Missed> {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, wanted: &Wanted) -> Option<&FileWork> {
        self.files.get(wanted.file as usize).map(|file| &**file)
    }

    /// Writes all chunks that can be had; what cannot be had fails its files.
    fn write(&self, mut wanted: Vec<Wanted>) -> Result<(), OpsError> {
        let mut learned = 0;
        while !wanted.is_empty() && !self.run.stopped() {
            let (placed, mut lost) = self.locate(wanted)?;
            if placed.is_empty() {
                match learned {
                    0 => _ = self.run.repository.refresh_index()?,
                    1 => _ = self.run.repository.learn_from_trailers()?,
                    _ => {
                        self.give_up(&lost);
                        return Ok(());
                    }
                }
                learned += 1;
                self.try_deltas_again();
            }
            self.read(placed);
            lost.append(&mut self.missed().wanted);
            lost.retain(|wanted| self.file(wanted).is_some_and(|file| !file.is_over()));
            wanted = lost;
        }
        Ok(())
    }

    fn try_deltas_again(&self) {
        let mut missed = self.missed();
        for place in std::mem::take(&mut missed.in_deltas) {
            missed.tried.remove(&place);
        }
        drop(missed);
        self.roots.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn give_up(&self, lost: &[Wanted]) {
        let missed = self.missed();
        for wanted in lost {
            let (id, why) = (wanted.id.short(), missed.why.get(&wanted.id));
            let Some(file) = self.file(wanted) else { continue };
            match why {
                Some(why) => file.fail_damaged(self.run, format_args!("chunk {id}: {why}")),
                None => file.fail_damaged(self.run, format_args!("chunk {id} is missing")),
            }
        }
    }

    /// Finds a place for each chunk that was not tried there yet. Asked in order of ids, which is
    /// the order of the index, and by all threads.
    fn locate(&self, mut wanted: Vec<Wanted>) -> Result<(Vec<Placed>, Vec<Wanted>), OpsError> {
        wanted.sort_unstable_by_key(|wanted| wanted.id);
        let tried = std::mem::take(&mut self.missed().tried);
        let batches: Vec<_> = wanted.chunks(BATCH).collect();
        let all = Mutex::new((Vec::with_capacity(wanted.len()), Vec::new(), None));
        each_in_parallel(self.run.threads(), &batches, |batch, (): &mut ()| {
            let found = self.locate_batch(batch, &tried);
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            match found {
                Ok((placed, lost)) => {
                    all.0.extend(placed);
                    all.1.extend(lost);
                }
                Err(error) => all.2 = Some(error),
            }
        });
        self.missed().tried = tried;
        let (mut placed, lost, error) = all.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = error {
            return Err(error);
        }
        placed.sort_unstable_by_key(|p: &Placed| {
            (p.root, p.base.is_some(), p.place(), p.wanted.file, p.wanted.offset)
        });
        Ok((placed, lost))
    }

    fn locate_batch(
        &self,
        batch: &[Wanted],
        tried: &HashSet<(ChunkId, PackId, u32)>,
    ) -> Result<(Vec<Placed>, Vec<Wanted>), OpsError> {
        let (mut placed, mut lost) = (Vec::with_capacity(batch.len()), Vec::new());
        self.run.repository.with_index(|index| {
            for same in batch.chunk_by(|a, b| a.id == b.id) {
                let Some(first) = same.first() else { continue };
                let locations = index.locations(&first.id)?;
                for wanted in same {
                    let place = locations.iter().find_map(|location| {
                        let frame = location.pack.frames.get(location.frame)?;
                        let known = (wanted.id, location.pack.id, frame.offset);
                        let fits = location.len == wanted.len && !tried.contains(&known);
                        let own = (location.pack.id, frame.offset);
                        fits.then(|| Placed {
                            wanted: *wanted,
                            pack: location.pack.id,
                            frame: frame.id,
                            frame_offset: frame.offset,
                            stored_len: frame.stored_len,
                            base: location.base(),
                            root: location.base().map_or(own, |base| self.root(index, base, own)),
                            start: location.offset,
                        })
                    });
                    match place {
                        Some(place) => placed.push(place),
                        None => lost.push(*wanted),
                    }
                }
            }
            Ok::<_, IndexError>(())
        })??;
        Ok((placed, lost))
    }

    /// Where a base lies; what is not known there is found, or missed, when it is opened.
    fn root(&self, index: &Index, base: FrameId, own: (PackId, u32)) -> (PackId, u32) {
        let mut roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        *roots.entry(base).or_insert_with(|| {
            let places = index.frame_locations(&base).unwrap_or_default();
            let first =
                places.first().and_then(|(pack, at)| Some((pack.id, pack.frames.get(*at)?)));
            first.map_or(own, |(pack, frame)| (pack, frame.offset))
        })
    }

    fn read(&self, placed: Vec<Placed>) {
        let mut parts = Vec::new();
        let mut rest = placed.as_slice();
        while let Some(Placed { root: (pack, offset), .. }) = rest.first() {
            let near = |next: &Placed| next.root.0 == *pack && next.root.1 - offset < READ_MAX;
            let (part, others) = rest.split_at(rest.partition_point(near).max(1));
            parts.push(part);
            rest = others;
        }
        each_in_parallel(self.run.threads(), &parts, |part, buffer| self.read_part(part, buffer));
    }

    /// Frames that lie near each other, and deltas on them wherever they lie.
    fn read_part(&self, part: &[Placed], buffer: &mut Vec<u8>) {
        let mut frames: Vec<&[Placed]> = part.chunk_by(|a, b| a.place() == b.place()).collect();
        frames.sort_by_key(|frame| frame.first().map(|head| (head.base.is_some(), head.place())));
        let needed = part.iter().filter_map(|placed| placed.base);
        let bases = Bases::new(self.run.repository, needed);
        let mut read = Vec::new();
        for frame in frames {
            if !joins(&read, frame) {
                self.read_together(&std::mem::take(&mut read), &bases, buffer);
            }
            read.push(frame);
        }
        self.read_together(&read, &bases, buffer);
    }

    /// Frames that lie side by side.
    fn read_together(&self, frames: &[&[Placed]], bases: &Bases<'_>, buffer: &mut Vec<u8>) {
        let needed = |placed: &Placed| self.file(&placed.wanted).is_some_and(|f| !f.is_over());
        let is_wanted = |frame: &&&[Placed]| !self.run.stopped() && frame.iter().any(needed);
        let frames: Vec<&[Placed]> = frames.iter().filter(is_wanted).copied().collect();
        // One that was left out in the middle is read with the others.
        let ends =
            |frames: &[&[Placed]]| Some((*frames.first()?.first()?, *frames.last()?.first()?));
        let Some((first, last)) = ends(&frames) else { return };
        let len = last.frame_offset - first.frame_offset + last.stored_len;
        let storage = self.run.repository.storage();
        let read = read_frames(storage, &first.pack, first.frame_offset, len, buffer);
        for frame in frames {
            let Some(head) = frame.first() else { continue };
            match &read {
                Ok(()) => {
                    let start = (head.frame_offset - first.frame_offset) as usize;
                    // What was read reaches to the end of the last one.
                    let stored = buffer.get_mut(start..start + head.stored_len as usize);
                    self.open(frame, stored.unwrap_or_default(), bases);
                }
                // Perhaps some of them can be read by themselves.
                Err(_) => {
                    let alone = read_frame(storage, &head.pack, head.frame_offset, head.stored_len);
                    match alone {
                        Ok(mut stored) => self.open(frame, &mut stored, bases),
                        Err(error) => self.miss(frame, &error),
                    }
                }
            }
        }
    }

    fn open(&self, frame: &[Placed], stored: &mut [u8], bases: &Bases<'_>) {
        let Some(head) = frame.first() else { return };
        self.run.progress.add(Counter::StoredBytes, stored.len() as u64);
        let opened = self.run.repository.open_frame_on(stored, |id| bases.get(id));
        let right =
            |opened: &OpenedFrame| opened.id == head.frame && opened.kind == ChunkKind::Data;
        match opened {
            Ok(opened) if right(&opened) => {
                let opened = Arc::new(opened);
                bases.keep(&opened);
                self.write_frame(frame, &opened);
                self.run.repository.give_back(opened);
            }
            Ok(_) => self.miss(frame, &PackError::Misplaced(head.frame)),
            Err(error) => self.miss(frame, &error),
        }
    }

    /// Chunks that this place did not give.
    fn miss(&self, placed: &[Placed], error: &PackError) {
        let mut missed = self.missed();
        let gone = matches!(error, PackError::Storage(error) if error.is_not_found());
        for placed in placed {
            let id = placed.wanted.id;
            missed.wanted.push(placed.wanted);
            let place = (id, placed.pack, placed.frame_offset);
            missed.tried.insert(place);
            missed.in_deltas.extend(placed.base.map(|_| place));
            if !gone {
                missed.why.insert(id, error.to_string());
            }
        }
    }

    fn write_frame(&self, frame: &[Placed], opened: &OpenedFrame) {
        let keys = self.run.repository.keys();
        let mut checked: HashMap<(u32, ChunkId), bool> = HashMap::with_capacity(frame.len());
        let mut is_whole = |placed: &Placed| {
            let known = checked.entry((placed.start, placed.wanted.id));
            *known.or_insert_with(|| {
                bytes_of(opened, placed)
                    .is_some_and(|bytes| keys.data_id(bytes) == placed.wanted.id)
            })
        };
        for pieces in frame.chunk_by(|a, b| a.wanted.file == b.wanted.file) {
            let Some(file) = pieces.first().and_then(|piece| self.file(&piece.wanted)) else {
                continue;
            };
            let (good, bad): (Vec<Placed>, Vec<Placed>) =
                pieces.iter().copied().partition(|piece| is_whole(piece));
            if !bad.is_empty() {
                self.miss(&bad, &PackError::Misplaced(opened.id));
            }
            let runs: Vec<&[Placed]> = good.chunk_by(follows).collect();
            match (file.is_all(good.len()), runs.as_slice()) {
                (true, [one]) => file.write_whole(self.run, bytes_of_run(opened, one)),
                (true, several) => {
                    let parts: Vec<&[u8]> =
                        several.iter().map(|run| bytes_of_run(opened, run)).collect();
                    file.write_whole(self.run, &parts.concat());
                }
                (false, runs) => {
                    for run in runs {
                        let offset = run.first().map_or(0, |piece| piece.wanted.offset);
                        file.write(self.run, offset, bytes_of_run(opened, run));
                    }
                    if !good.is_empty() {
                        file.finish_chunks(self.run, good.len() as u64);
                    }
                }
            }
        }
    }
}

/// Whether a frame lies directly behind others, and not too much would be read at once.
fn joins(read: &[&[Placed]], next: &[Placed]) -> bool {
    let head = |frame: Option<&&[Placed]>| frame.and_then(|frame| frame.first().copied());
    let ends = head(read.first()).zip(head(read.last())).zip(next.first());
    ends.is_some_and(|((first, last), next)| {
        last.pack == next.pack
            && last.frame_offset.checked_add(last.stored_len) == Some(next.frame_offset)
            && (next.frame_offset - first.frame_offset).saturating_add(next.stored_len) <= READ_MAX
    })
}

/// Whether a piece follows on another one, both in the file and in the frame.
fn follows(a: &Placed, b: &Placed) -> bool {
    a.start.checked_add(a.wanted.len) == Some(b.start)
        && a.wanted.offset + u64::from(a.wanted.len) == b.wanted.offset
}

fn bytes_of<'a>(opened: &'a OpenedFrame, placed: &Placed) -> Option<&'a [u8]> {
    let start = placed.start as usize;
    opened.plain.get(start..start.checked_add(placed.wanted.len as usize)?)
}

/// Pieces that follow each other, each of them within the frame.
fn bytes_of_run<'a>(opened: &'a OpenedFrame, run: &[Placed]) -> &'a [u8] {
    let start = run.first().map_or(0, |piece| piece.start as usize);
    let end = run.last().map_or(0, |piece| piece.start as usize + piece.wanted.len as usize);
    opened.plain.get(start..end).unwrap_or_default()
}
