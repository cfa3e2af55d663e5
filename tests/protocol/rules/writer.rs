//! W1 to W8. A writer puts, gets and lists; it deletes nothing.

use super::Weakened;
use crate::model::{Cache, Protocol};
use crate::set::Set;
use crate::state::{
    A, A_AGAIN, B, B_ON_A, CHUNK_A, CHUNK_B, EPOCHS, State, pack_of, packs_of, readable,
    readable_without_bases, second_pack_of, session_of,
};

/// Where a writer stands: what it has done last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WriterStep {
    /// Nothing in this session.
    #[default]
    Begin,
    /// Read the epoch although it has no record yet (W2 weakened).
    ReadFirst,
    /// W1.
    Created,
    /// W2.
    EpochRead,
    /// W3, and something is missing.
    Looked,
    /// W6, without a clear answer.
    Unclear,
    /// W6.
    Stored,
    /// W7: packs and segments are stored.
    Named,
    /// W8: the snapshot is put.
    Put,
    /// W8: one of the two looks was good.
    Unfenced,
    /// No further session.
    Over,
}

/// A writer's own memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Writer {
    /// Which of its sessions it is in.
    pub nth: usize,
    /// Where it stands.
    pub step: WriterStep,
    /// W2: the packs that it treats as absent.
    pub avoid: Set,
    /// W2: whether the epoch allows to adopt the parent's tree, the parent's beginning aside.
    pub epoch_allows: bool,
    /// W2: the epoch that it read.
    pub epoch: usize,
    /// W5: it has seen the parent count.
    pub parent_counts: bool,
    /// W7: packs whose segments it has to store.
    pub to_name: Set,
}

/// A step of a writer, named for its rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriterAction {
    W1,
    W1NoAnswer,
    W2,
    W3,
    W5Check,
    W5Adopt,
    W6Put,
    W6NoAnswer,
    W6Look,
    W7,
    W7NoAnswer,
    W8Put,
    W8NoAnswer,
    W8Mark,
    W8Record,
    Dies,
}

/// What writer `place` may do next.
pub fn actions(protocol: &Protocol, state: &State, place: usize) -> Vec<WriterAction> {
    let mut actions = Vec::new();
    let setting = &protocol.writers[place];
    let writer = &state.writers[place];
    let may_lose = state.lost_answers > 0;
    match writer.step {
        WriterStep::Begin if protocol.weak(Weakened::W2EpochReadFirst) => {
            actions.push(WriterAction::W2);
        }
        WriterStep::Begin | WriterStep::ReadFirst => {
            actions.push(WriterAction::W1);
            if may_lose {
                actions.push(WriterAction::W1NoAnswer);
            }
        }
        WriterStep::Created => actions.push(WriterAction::W2),
        WriterStep::EpochRead => {
            actions.push(WriterAction::W3);
            if w5_may_adopt(protocol, state, place) {
                actions.push(WriterAction::W5Adopt);
            }
        }
        WriterStep::Looked => {
            actions.push(WriterAction::W6Put);
            if may_lose {
                actions.push(WriterAction::W6NoAnswer);
            }
        }
        WriterStep::Unclear => actions.push(WriterAction::W6Look),
        WriterStep::Stored if !protocol.weak(Weakened::W7SnapshotFirst) => {
            actions.push(WriterAction::W7);
            if may_lose {
                actions.push(WriterAction::W7NoAnswer);
            }
        }
        WriterStep::Stored | WriterStep::Named => {
            actions.push(WriterAction::W8Put);
            if may_lose {
                actions.push(WriterAction::W8NoAnswer);
            }
        }
        WriterStep::Put if protocol.weak(Weakened::W8RecordFirst) => {
            actions.push(WriterAction::W8Record);
        }
        WriterStep::Put => actions.push(WriterAction::W8Mark),
        WriterStep::Unfenced if protocol.weak(Weakened::W8RecordFirst) => {
            actions.push(WriterAction::W8Mark);
        }
        WriterStep::Unfenced => actions.push(WriterAction::W8Record),
        WriterStep::Over => {}
    }
    let has_record =
        !matches!(writer.step, WriterStep::Begin | WriterStep::ReadFirst | WriterStep::Over);
    if has_record && protocol.writers_die && writer.nth + 1 < setting.sessions {
        actions.push(WriterAction::Dies);
    }
    let may_check = writer.step == WriterStep::EpochRead
        || writer.step == WriterStep::Created && protocol.weak(Weakened::W5CheckedBeforeEpoch);
    if may_check && !writer.parent_counts && setting.parent.is_some() {
        actions.push(WriterAction::W5Check);
    }
    actions
}

/// Takes the step.
pub fn act(protocol: &Protocol, state: &mut State, place: usize, action: WriterAction) {
    match action {
        WriterAction::W1 => w1(state, place),
        WriterAction::W1NoAnswer => w1_no_answer(protocol, state, place),
        WriterAction::W2 => w2(protocol, state, place),
        WriterAction::W3 => w3(protocol, state, place),
        WriterAction::W5Check => w5_check(protocol, state, place),
        WriterAction::W5Adopt => w5_adopt(state, place),
        WriterAction::W6Put => w6_put(state, place, pack_of),
        WriterAction::W6NoAnswer => w6_no_answer(protocol, state, place),
        WriterAction::W6Look => w6_look(state, place),
        WriterAction::W7 => w7(state, place),
        WriterAction::W7NoAnswer => w7_no_answer(state, place),
        WriterAction::W8Put => w8_put(state, place),
        WriterAction::W8NoAnswer => w8_no_answer(state, place),
        WriterAction::W8Mark => {
            let fenced = state.fenced.has(session(state, place));
            w8_look(protocol, state, place, !fenced);
        }
        WriterAction::W8Record => {
            let record = state.sessions.has(session(state, place));
            w8_look(protocol, state, place, record || protocol.weak(Weakened::P11TombstoneOnly));
        }
        WriterAction::Dies => next_session(protocol, state, place),
    }
}

fn session(state: &State, place: usize) -> usize {
    session_of(place, state.writers[place].nth)
}

/// The session is over; all knowledge but that of W2 stays, as facts.
fn next_session(protocol: &Protocol, state: &mut State, place: usize) {
    let nth = state.writers[place].nth + 1;
    state.writers[place] = if nth < protocol.writers[place].sessions {
        Writer { nth, ..Writer::default() }
    } else {
        Writer { nth: nth - 1, step: WriterStep::Over, ..Writer::default() }
    };
}

/// W1: create the session record.
fn w1(state: &mut State, place: usize) {
    state.sessions |= Set::of(&[session(state, place)]);
    let writer = &mut state.writers[place];
    writer.step = if writer.step == WriterStep::ReadFirst {
        WriterStep::EpochRead
    } else {
        WriterStep::Created
    };
}

/// W1: no clear answer, so the name is dropped and another taken.
fn w1_no_answer(protocol: &Protocol, state: &mut State, place: usize) {
    state.lost_answers -= 1;
    state.late_sessions |= Set::of(&[session(state, place)]);
    if !protocol.weak(Weakened::W1NameKept) {
        next_session(protocol, state, place);
    }
}

/// W2: read the highest epoch; what is avoided stays fixed for the session.
///
/// One step: a sweep record that appears between listing and reading, and an epoch above it, are
/// as good as not there yet.
fn w2(protocol: &Protocol, state: &mut State, place: usize) {
    let session = session(state, place);
    let number = state.highest_epoch();
    let epoch = state.epochs[number];
    let writer = &mut state.writers[place];
    writer.step = if writer.step == WriterStep::Begin {
        WriterStep::ReadFirst
    } else {
        WriterStep::EpochRead
    };
    if protocol.weak(Weakened::W2EpochNotRead) {
        return;
    }
    let unreadable = epoch.unreadable && !epoch.done;
    writer.avoid = match (unreadable, epoch.sweep) {
        _ if epoch.done => Set::EMPTY,
        (true, _) if protocol.weak(Weakened::UReliedOn) => Set::EMPTY,
        (true, _) => Set::range(0, 16),
        (false, true) => epoch.dead,
        (false, false) => epoch.condemned,
    };
    if let Some(parent) = protocol.writers[place].parent {
        let open_plan = epoch.plan && !epoch.sweep;
        writer.epoch_allows = !unreadable && (!open_plan || epoch.marked.has(parent));
        // No snapshot began under a number that there cannot be.
        writer.epoch = if unreadable { EPOCHS } else { number };
    }
    if protocol.writers.iter().any(|setting| setting.parent.is_some()) {
        state.began[session] = number;
    }
}

/// W3 and W4: look up each needed chunk; what is missing goes into a pack.
fn w3(protocol: &Protocol, state: &mut State, place: usize) {
    let session = session(state, place);
    let setting = &protocol.writers[place];
    let writer = state.writers[place];
    let own = packs_of(Set::range(session_of(place, 0), session));
    let cached = match setting.cache {
        Cache::Empty => own,
        Cache::Everything => own | state.facts,
    };
    let known = state.named(protocol) | cached;
    let listed = if protocol.weak(Weakened::W3IndexTrusted) { known } else { state.packs };
    let reusable = (known & listed) - writer.avoid;
    let frames = state.frames_in(protocol, reusable);

    let missing = setting.needs - w4_present(protocol, frames);
    let mut upload = Set::EMPTY;
    if missing.meets(CHUNK_A) {
        upload |= A_AGAIN;
    }
    if missing.meets(CHUNK_B) {
        // W4: the same for a base that the writer picks.
        let bases = if protocol.weak(Weakened::W4BaseIgnored) {
            state.frames_in(protocol, known)
        } else {
            frames
        };
        upload |= if protocol.deltas && bases.meets(A) { B_ON_A } else { B };
    }
    state.frames[session] = upload;

    let to_name =
        if protocol.weak(Weakened::W7OwnSegmentAssumed) { Set::EMPTY } else { reusable & own };
    let step = if !upload.is_empty() {
        WriterStep::Looked
    } else if !to_name.is_empty() {
        WriterStep::Stored
    } else {
        WriterStep::Named
    };
    state.writers[place] = Writer { nth: writer.nth, step, to_name, ..Writer::default() };
}

/// W4: a delta frame is present with its base only.
fn w4_present(protocol: &Protocol, frames: Set) -> Set {
    if protocol.weak(Weakened::W4BaseIgnored) {
        readable_without_bases(frames)
    } else {
        readable(frames)
    }
}

/// W5: see whether the parent counts. After W2, not only after W1: else it is forgotten between,
/// with a sweep record created that rescued nothing for it and that W2 takes for harmless.
fn w5_check(protocol: &Protocol, state: &mut State, place: usize) {
    let parent = protocol.writers[place].parent;
    let counts = parent.is_some_and(|parent| state.counted(protocol).has(parent));
    state.writers[place].parent_counts = counts;
}

/// W5: whether a whole tree may be adopted without looking up its chunks.
fn w5_may_adopt(protocol: &Protocol, state: &State, place: usize) -> bool {
    let Some(parent) = protocol.writers[place].parent else { return false };
    let writer = &state.writers[place];
    // Nobody adopts a snapshot that nobody ever saw.
    let counts = writer.parent_counts
        || (protocol.weak(Weakened::W5ParentUnchecked) && state.reported.has(parent));
    let allowed = writer.epoch_allows
        || state.began[parent] == writer.epoch
        || protocol.weak(Weakened::W5UnmarkedParent);
    counts && allowed
}

/// W5: nothing is looked up, nothing is missing.
fn w5_adopt(state: &mut State, place: usize) {
    let nth = state.writers[place].nth;
    state.writers[place] = Writer { nth, step: WriterStep::Named, ..Writer::default() };
}

/// W6: send the pack.
fn w6_put(state: &mut State, place: usize, name: fn(usize) -> usize) {
    let pack = Set::of(&[name(session(state, place))]);
    state.packs |= pack;
    state.writers[place].to_name |= pack;
    state.writers[place].step = WriterStep::Stored;
}

/// W6: no clear answer; the name is not sent again.
fn w6_no_answer(protocol: &Protocol, state: &mut State, place: usize) {
    state.lost_answers -= 1;
    state.late_packs |= Set::of(&[pack_of(session(state, place))]);
    if !protocol.weak(Weakened::W6NameSentTwice) {
        state.writers[place].step = WriterStep::Unclear;
    }
}

/// W6: look whether it is there; if not, send it under a new name.
fn w6_look(state: &mut State, place: usize) {
    let there = state.packs.has(pack_of(session(state, place)));
    w6_put(state, place, if there { pack_of } else { second_pack_of });
}

/// W7: store the segments, those of reused packs of an own earlier session too.
fn w7(state: &mut State, place: usize) {
    let writer = &mut state.writers[place];
    state.own_segments |= writer.to_name;
    state.facts |= writer.to_name;
    writer.to_name = Set::EMPTY;
    writer.step = WriterStep::Named;
}

/// W7: no clear answer; what lands late is a fact all the same, so it is just stored again.
fn w7_no_answer(state: &mut State, place: usize) {
    state.lost_answers -= 1;
    state.late_segments |= state.writers[place].to_name;
}

/// W8: put the snapshot.
fn w8_put(state: &mut State, place: usize) {
    state.snapshots |= Set::of(&[session(state, place)]);
    state.writers[place].step = WriterStep::Put;
}

/// W8: only this session writes this key, so it may be sent again.
fn w8_no_answer(state: &mut State, place: usize) {
    state.lost_answers -= 1;
    state.late_snapshots |= Set::of(&[session(state, place)]);
}

/// W8: no `.fenced`, then the record there: committed. Only now does the user read "saved".
///
/// Two looks, in this order, because a listing that shows both may not be of one moment: record
/// and mark may go, in this order, while it runs.
fn w8_look(protocol: &Protocol, state: &mut State, place: usize, good: bool) {
    if !good && !protocol.weak(Weakened::W8NotChecked) {
        if protocol.weak(Weakened::W8NameKept) {
            state.writers[place].step = WriterStep::Begin;
        } else {
            state.replaced |= Set::of(&[session(state, place)]);
            next_session(protocol, state, place);
        }
    } else if state.writers[place].step == WriterStep::Put {
        state.writers[place].step = WriterStep::Unfenced;
    } else {
        state.reported |= Set::of(&[session(state, place)]);
        next_session(protocol, state, place);
    }
}
