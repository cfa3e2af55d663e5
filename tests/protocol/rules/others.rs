//! Forget (F1, F2), the reader (R1, R2), and requests that take effect late.

use super::Weakened;
use crate::model::Protocol;
use crate::set::Set;
use crate::state::{State, readable};

/// How far the reader is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ReaderStep {
    /// Has read nothing.
    #[default]
    Begin,
    /// Has read the index.
    Reading,
    /// Has every chunk, or its snapshot was forgotten.
    Finished,
    /// Reported an error for a snapshot that counts.
    Failed,
}

/// The reader's own memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Reader {
    /// How far it is.
    pub step: ReaderStep,
    /// Chunks that it still has to read.
    pub left: Set,
    /// Packs that the index named.
    pub named: Set,
    /// The listing of segments and the highest epoch, as they were then.
    pub seen: (bool, Set, usize),
}

/// A step of forget or the reader, named for its rule, or of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherAction {
    F1(usize),
    F1Rest(usize),
    R1,
    R2,
    SessionLands(usize),
    SnapshotLands(usize),
    PackLands(usize),
    SegmentLands(usize),
    DeleteLands(usize),
    RecordLost(usize),
    EpochDamaged,
}

/// What a forget and the reader may do next.
pub fn actions(protocol: &Protocol, state: &State) -> Vec<OtherAction> {
    let mut actions = Vec::new();
    let forgettable = state.counted(protocol) & protocol.forget & state.sessions;
    actions.extend(forgettable.iter().map(OtherAction::F1));
    // A crash in between is this step not taken.
    let litter = state.snapshots & state.forgotten;
    actions.extend(litter.iter().map(OtherAction::F1Rest));
    if let Some(session) = protocol.reads {
        match state.reader.step {
            ReaderStep::Begin if state.counted(protocol).has(session) => {
                actions.push(OtherAction::R1)
            }
            ReaderStep::Reading => actions.push(OtherAction::R2),
            _ => {}
        }
    }
    actions.extend(state.late_sessions.iter().map(OtherAction::SessionLands));
    actions.extend(state.late_snapshots.iter().map(OtherAction::SnapshotLands));
    actions.extend(state.late_packs.iter().map(OtherAction::PackLands));
    actions.extend(state.late_segments.iter().map(OtherAction::SegmentLands));
    if state.lost_records > 0 {
        let committed = state.snapshots & state.sessions & state.reported;
        actions.extend(committed.iter().map(OtherAction::RecordLost));
    }
    let highest = state.epochs[state.highest_epoch()];
    if state.damages > 0 && highest.plan && !highest.done {
        actions.push(OtherAction::EpochDamaged);
    }
    actions.extend((state.late_deletes & state.packs).iter().map(OtherAction::DeleteLands));
    actions
}

/// Takes the step.
pub fn act(protocol: &Protocol, state: &mut State, action: OtherAction) {
    match action {
        OtherAction::F1(session) => f1(state, session),
        OtherAction::F1Rest(session) => state.snapshots -= Set::of(&[session]),
        OtherAction::R1 => r1(protocol, state),
        OtherAction::R2 => r2(protocol, state),
        OtherAction::SessionLands(session) => {
            state.late_sessions -= Set::of(&[session]);
            state.sessions |= Set::of(&[session]);
        }
        OtherAction::SnapshotLands(session) => {
            state.late_snapshots -= Set::of(&[session]);
            state.snapshots |= Set::of(&[session]);
        }
        OtherAction::PackLands(pack) => {
            state.late_packs -= Set::of(&[pack]);
            state.packs |= Set::of(&[pack]);
        }
        OtherAction::SegmentLands(pack) => {
            state.late_segments -= Set::of(&[pack]);
            state.own_segments |= Set::of(&[pack]);
        }
        OtherAction::RecordLost(session) => {
            state.lost_records -= 1;
            state.sessions -= Set::of(&[session]);
            state.record_lost |= Set::of(&[session]);
        }
        OtherAction::EpochDamaged => {
            let number = state.highest_epoch();
            state.damages -= 1;
            state.epochs[number].unreadable = true;
        }
        // Not taken off: another prune, or the same one again, may have sent it too.
        OtherAction::DeleteLands(pack) => state.packs -= Set::of(&[pack]),
    }
}

/// F1: store the record of forgetting, then delete `sessions/S`: this is the moment of forgetting.
fn f1(state: &mut State, session: usize) {
    state.sessions -= Set::of(&[session]);
    state.forgotten |= Set::of(&[session]);
}

fn segments_and_epoch(state: &State) -> (bool, Set, usize) {
    (state.shared_segment, state.own_segments, state.highest_epoch())
}

/// R1: read the index.
fn r1(protocol: &Protocol, state: &mut State) {
    let left = protocol.reads.map_or(Set::EMPTY, |session| protocol.needs_of(session));
    state.reader = Reader {
        step: ReaderStep::Reading,
        left,
        named: state.named(protocol),
        seen: segments_and_epoch(state),
    };
}

/// R1: try a chunk at every known location; all missing: read the index again.
/// R2: an error only if neither the segments nor the highest epoch have changed since.
fn r2(protocol: &Protocol, state: &mut State) {
    let reader = state.reader;
    let here = readable(state.frames_in(protocol, reader.named & state.packs));
    let Some(chunk) = reader.left.iter().next() else { return finish(state) };
    if here.has(chunk) {
        state.reader.left -= Set::of(&[chunk]);
        if state.reader.left.is_empty() {
            finish(state);
        }
    } else if !protocol.reads.is_some_and(|session| state.counted(protocol).has(session)) {
        finish(state);
    } else if reader.seen == segments_and_epoch(state) || protocol.weak(Weakened::R1NotReadAgain) {
        state.reader = Reader { step: ReaderStep::Failed, ..Reader::default() };
    } else {
        state.reader.named = state.named(protocol);
        state.reader.seen = segments_and_epoch(state);
    }
}

fn finish(state: &mut State) {
    state.reader = Reader { step: ReaderStep::Finished, ..Reader::default() };
}
