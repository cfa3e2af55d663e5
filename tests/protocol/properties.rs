//! What must hold in every state: the protocol's properties 1 to 6.

use stateright::Property;

use crate::model::Protocol;
use crate::rules::others::ReaderStep;
use crate::rules::prune::{self, Prune, PruneAction, PruneStep};
use crate::rules::writer::{self, WriterStep};
use crate::set::Set;
use crate::state::{EPOCHS, Epoch, State, readable};

/// 1.
pub const NOTHING_LOST: &str = "nothing lost";
/// 2.
pub const FINDABLE: &str = "findable";
/// 3.
pub const COMMITTED: &str = "committed means committed";
/// 4.
pub const ONE_PLAN: &str = "one plan";
/// 5.
pub const SWEPT: &str = "swept";
/// 6, the writer's half.
pub const WRITER_ENDS: &str = "a writer ends";
/// 6, the reader's half.
pub const READER_ENDS: &str = "a reader ends";

/// All of them.
pub fn all() -> Vec<Property<Protocol>> {
    vec![
        Property::always(NOTHING_LOST, nothing_lost),
        Property::always(FINDABLE, findable),
        Property::always(COMMITTED, committed),
        Property::always(ONE_PLAN, one_plan),
        Property::always(SWEPT, swept),
        Property::always(WRITER_ENDS, writers_end),
        Property::always(READER_ENDS, reader_ends),
    ]
}

/// What counts, and what would if the store had not lost its session record.
fn needed(protocol: &Protocol, state: &State) -> Set {
    let lost = state.record_lost - state.forgotten;
    protocol.needs(state.counted(protocol) | lost)
}

/// 1: each need of each counted snapshot, bases included, has a copy in an existing pack.
fn nothing_lost(protocol: &Protocol, state: &State) -> bool {
    needed(protocol, state).within(readable(state.frames_in(protocol, state.packs)))
}

/// 2: and a segment that names that copy.
fn findable(protocol: &Protocol, state: &State) -> bool {
    let packs = state.packs & state.named(protocol);
    needed(protocol, state).within(readable(state.frames_in(protocol, packs)))
}

/// 3: what a writer reported and nobody forgot counts, or would if the store had not lost its session
/// record: it is still there.
fn committed(protocol: &Protocol, state: &State) -> bool {
    let lost = state.record_lost & state.snapshots;
    (state.reported - state.forgotten).within(state.counted(protocol) | lost)
}

/// 4: at most one epoch is open, and no step was taken that breaks the rest: a delete of a pack
/// that no sweep record calls dead, a sweep record beside an undecided session older than the plan.
/// An epoch published below a higher number, by a prune that slept through its time, is void: it
/// counts neither as open nor, if it is swept all the same, as a record that calls a pack dead.
fn one_plan(_: &Protocol, state: &State) -> bool {
    let open = state.epochs.iter().filter(|epoch| is_open(epoch));
    open.count() <= 1 && !state.broken
}

fn is_open(epoch: &Epoch) -> bool {
    epoch.plan && !epoch.done && !epoch.void && !epoch.unreadable
}

/// 5: from a state without undecided session, one prune running alone (it finishes an open epoch and
/// makes at most one plan of its own) ends with no pack that could be left out.
fn swept(protocol: &Protocol, state: &State) -> bool {
    if !state.undecided().is_empty() {
        return true;
    }
    let highest = state.epochs[state.highest_epoch()];
    let unreadable = highest.unreadable && !highest.done;
    // There are but two sessions for copies in the model.
    if unreadable && prune::free_session(state).is_none() {
        return true;
    }
    let Some(after) = prune_alone(protocol, state) else { return false };
    let plans = after.highest_epoch() - state.highest_epoch();
    let chunks = |packs| readable(after.frames_in(protocol, packs));
    let roots = after.counted(protocol) | after.unexplained(protocol);
    let needs = protocol.needs(roots) & chunks(after.packs);
    let spare = after.packs.filter(|pack| needs.within(chunks(after.packs - Set::of(&[pack]))));
    plans <= 1 + usize::from(unreadable) && spare.is_empty()
}

/// What a lone prune makes of the state; `None` if it comes to no end.
fn prune_alone(protocol: &Protocol, state: &State) -> Option<State> {
    const STEPS_MAX: usize = 120;
    let alone = Protocol { prunes: 1, prunes_die: false, repack: false, ..*protocol };
    let mut state = State { prunes: [Prune::default(); 2], ..state.clone() };
    for _ in 0..STEPS_MAX {
        // A lone prune has answers to its deletes.
        if state.prunes[0].step == PruneStep::Close {
            state.packs -= state.late_deletes;
        }
        let action = *prune::actions(&alone, &state, 0, EPOCHS - 1).first()?;
        prune::act(&alone, &mut state, 0, action);
        // Nothing to condemn and nobody to fence: the run is over.
        let marked = matches!(action, PruneAction::P2(_));
        if marked && state.prunes[0].step == PruneStep::Begin {
            return Some(state);
        }
    }
    None
}

/// 6: a writer that nobody disturbs commits, at the latest in its next session.
fn writers_end(protocol: &Protocol, state: &State) -> bool {
    (0..protocol.writers.len()).all(|place| writer_ends(protocol, state, place))
}

fn writer_ends(protocol: &Protocol, state: &State, place: usize) -> bool {
    const STEPS_MAX: usize = 20;
    let mut state = state.clone();
    state.lost_answers = 0;
    let reported = state.reported;
    for _ in 0..STEPS_MAX {
        // No session left to begin, or one of them committed.
        if state.writers[place].step == WriterStep::Over || state.reported != reported {
            return true;
        }
        let actions = writer::actions(protocol, &state, place);
        let Some(&action) = actions.first() else { return false };
        writer::act(protocol, &mut state, place, action);
    }
    false
}

/// 6: a reader reports no error for a snapshot that counts. That it repeats itself only after a
/// sweep or a replaced segment is what R2 says.
fn reader_ends(_: &Protocol, state: &State) -> bool {
    state.reader.step != ReaderStep::Failed
}
