//! P1 to P11. Any prune may stop at any step for ever, or begin again at P1.
//!
//! While fencing, a session that the listing showed undecided is in `todo` alone; once its fence is
//! written, in `todo` and `fenced`; once its snapshot was then seen absent, in `fenced` alone, and
//! its record has to go.

use super::{Weakened, mark};
use crate::model::Protocol;
use crate::set::Set;
use crate::state::{Epoch, State, repack_session};

/// Where a prune stands: what it does next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PruneStep {
    /// P1.
    #[default]
    Begin,
    /// P2, packs are listed.
    Mark,
    /// P3 or P4.
    Plan,
    /// P3, the session record is there.
    Copy,
    /// P5, plan published.
    Published,
    /// P6, sessions not listed yet.
    List,
    /// P6.
    Fence,
    /// P7, sweep record not created yet.
    Record,
    /// P5 again, sweep record created or lost.
    Recorded,
    /// P8, replacements.
    Replace,
    /// P8 and P9, deletes.
    Sweep,
    /// P10.
    Close,
    /// P11.
    Tidy,
    /// Unreadable epoch: what is needed is to be copied out of suspect packs.
    Lacking,
    /// Unreadable epoch: a sweep record that rescues everything is there.
    Rescued,
}

/// A prune's own memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prune {
    /// Where it stands.
    pub step: PruneStep,
    /// The epoch that it works on.
    pub epoch: usize,
    /// Packs listed (P2), condemned (P3 to P6) or dead (P7 on).
    pub packs: Set,
    /// Snapshots marked (P2 to P7).
    pub marked: Set,
    /// Sessions: see `rules::prune`. In `Lacking`: packs that stay.
    pub todo: Set,
    /// Sessions: see `rules::prune`.
    pub fenced: Set,
    /// Its plan takes with it all that the unreadable epoch below may delete.
    pub closing: bool,
}

/// A step of a prune, named for its rule; the number is a session's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PruneAction {
    P1,
    P1Early,
    P2(Order),
    P3Session,
    P3Copy,
    P4,
    P4OtherNumber,
    P5,
    P6List,
    P6Fence(usize),
    P6Look(usize),
    P6Remove(usize),
    P7,
    P7Record,
    P7Obey,
    P8,
    P9,
    P10,
    P11,
    RescueEnd,
    Dies,
}

/// Which copies a mark gives up first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The old ones.
    OldFirst,
    /// The new ones.
    NewFirst,
}

/// What prune `place` may do next; `epochs` is the highest number that may be begun.
pub fn actions(
    protocol: &Protocol,
    state: &State,
    place: usize,
    epochs: usize,
) -> Vec<PruneAction> {
    let mut actions = Vec::new();
    let prune = &state.prunes[place];
    match prune.step {
        PruneStep::Begin => {
            let highest = state.highest_epoch();
            let open = highest > 0 && !state.epochs[highest].done;
            let unreadable = state.epochs[highest].unreadable && state.epochs[highest].sweep;
            if open && !unreadable || highest < epochs {
                actions.push(PruneAction::P1);
            }
            if open && highest < epochs && protocol.weak(Weakened::P1BegunBefore) {
                actions.push(PruneAction::P1Early);
            }
        }
        PruneStep::Mark => {
            actions.extend(protocol.orders.iter().map(|order| PruneAction::P2(*order)));
        }
        PruneStep::Plan => {
            // What began early, and what goes on under another number, still publishes only after
            // the epoch below is done.
            let below = state.epochs[prune.epoch - 1];
            let early = below.plan
                && !below.done
                && (protocol.weak(Weakened::P1BegunBefore)
                    || protocol.weak(Weakened::P4OtherNumber));
            let lost = state.epochs[prune.epoch].plan && prune.epoch < epochs;
            if lost && protocol.weak(Weakened::P4OtherNumber) {
                actions.push(PruneAction::P4OtherNumber);
            } else if !early {
                actions.push(PruneAction::P4);
            }
            if protocol.repack
                && !prune.closing
                && !mark::p3_copies(protocol, state, place).is_empty()
            {
                actions.push(PruneAction::P3Session);
            }
        }
        PruneStep::Copy => actions.push(PruneAction::P3Copy),
        PruneStep::Published => actions.push(PruneAction::P5),
        PruneStep::List => actions.push(PruneAction::P6List),
        PruneStep::Fence => fence_actions(protocol, state, place, &mut actions),
        PruneStep::Record => actions.push(PruneAction::P7Record),
        PruneStep::Recorded => actions.push(PruneAction::P7Obey),
        PruneStep::Replace => actions.push(PruneAction::P8),
        PruneStep::Sweep => actions.push(PruneAction::P9),
        PruneStep::Close => {
            let gone = !prune.packs.meets(state.packs);
            if gone || protocol.weak(Weakened::P10ClosedEarly) {
                actions.push(PruneAction::P10);
            }
        }
        PruneStep::Tidy => actions.push(PruneAction::P11),
        PruneStep::Lacking if free_session(state).is_some() => actions.push(PruneAction::P3Session),
        PruneStep::Lacking => {}
        PruneStep::Rescued => actions.push(PruneAction::RescueEnd),
    }
    if protocol.prunes_die && prune.step != PruneStep::Begin {
        actions.push(PruneAction::Dies);
    }
    actions
}

fn fence_actions(protocol: &Protocol, state: &State, place: usize, actions: &mut Vec<PruneAction>) {
    let prune = &state.prunes[place];
    for session in (prune.todo | prune.fenced).iter() {
        match (prune.todo.has(session), prune.fenced.has(session)) {
            (true, false) if protocol.weak(Weakened::P6RemovedUnfenced) => {
                actions.push(PruneAction::P6Remove(session));
            }
            (true, false) => actions.push(PruneAction::P6Fence(session)),
            (true, true) => actions.push(PruneAction::P6Look(session)),
            _ => actions.push(PruneAction::P6Remove(session)),
        }
    }
    // To wait is to look again whether it is decided: seen in the step that goes on.
    let to_remove = prune.fenced - prune.todo;
    let decided = !prune.todo.meets(state.undecided()) && !to_remove.meets(state.sessions);
    if decided {
        actions.push(PruneAction::P7);
    }
}

/// Takes the step.
pub fn act(protocol: &Protocol, state: &mut State, place: usize, action: PruneAction) {
    match action {
        PruneAction::P1 => p1(protocol, state, place),
        PruneAction::P1Early => p2_list(state, place, state.highest_epoch() + 1),
        PruneAction::P2(_) if state.prunes[place].closing => distrust(protocol, state, place),
        PruneAction::P2(order) => mark::p2(protocol, state, place, order),
        PruneAction::P3Session if state.prunes[place].closing => copy(protocol, state, place),
        PruneAction::P3Session => mark::p3_session(protocol, state, place),
        PruneAction::P3Copy => mark::p3_copy(protocol, state, place),
        PruneAction::P4 => p4(state, place),
        PruneAction::P4OtherNumber => state.prunes[place].epoch += 1,
        PruneAction::P5 => p5(protocol, state, place),
        PruneAction::P6List => p6_list(protocol, state, place),
        PruneAction::P6Fence(session) => p6_fence(state, place, session),
        PruneAction::P6Look(session) => p6_look(state, place, session),
        PruneAction::P6Remove(session) => p6_remove(state, place, session),
        PruneAction::P7
            if state.prunes[place].closing && state.prunes[place].step == PruneStep::Fence =>
        {
            let number = state.prunes[place].epoch;
            p2_list(state, place, number);
            state.prunes[place].closing = true;
        }
        PruneAction::P7 => p7(protocol, state, place),
        PruneAction::P7Record => p7_record(state, place),
        PruneAction::P7Obey => p7_obey(protocol, state, place),
        PruneAction::P8 => p8(protocol, state, place),
        PruneAction::P9 => p9(protocol, state, place),
        PruneAction::P10 => p10(state, place),
        PruneAction::P11 => p11(protocol, state, place),
        PruneAction::RescueEnd => {
            let number = state.prunes[place].epoch;
            state.epochs[number].done |= state.epochs[number].plan;
            state.prunes[place] = Prune::default();
        }
        PruneAction::Dies => state.prunes[place] = Prune::default(),
    }
}

/// P1: continue the highest epoch if it is open, else begin the next one from scratch.
fn p1(protocol: &Protocol, state: &mut State, place: usize) {
    let number = state.highest_epoch();
    let epoch = state.epochs[number];
    if !epoch.plan || epoch.done {
        p2_list(state, place, number + 1);
    } else if epoch.unreadable && epoch.sweep {
        // Step 1: every undecided session is decided, before anything is marked.
        let (step, epoch) = (PruneStep::List, number + 1);
        state.prunes[place] = Prune { step, epoch, closing: true, ..Prune::default() };
    } else if epoch.unreadable {
        rescue_all(protocol, state, place, number);
    } else if epoch.sweep {
        state.prunes[place] = sweeping(number, epoch.dead);
    } else {
        // The listing just made is that of P5.
        state.prunes[place] = Prune {
            step: PruneStep::List,
            epoch: number,
            packs: epoch.condemned,
            marked: epoch.marked,
            ..Prune::default()
        };
    }
}

/// Unreadable epoch without sweep record: one is created that rescues every pack that is there.
fn rescue_all(protocol: &Protocol, state: &mut State, place: usize, number: usize) {
    if !protocol.weak(Weakened::UEndedAtOnce) {
        let packs = state.packs;
        let epoch = &mut state.epochs[number];
        epoch.sweep = true;
        epoch.dead = epoch.condemned - packs;
        state.called_dead |= epoch.dead;
    }
    let step = PruneStep::Rescued;
    state.prunes[place] = Prune { step, epoch: number, ..Prune::default() };
}

/// Unreadable epoch with a sweep record, steps 2 and 3: mark, and suspect.
fn distrust(protocol: &Protocol, state: &mut State, place: usize) {
    let prune = state.prunes[place];
    let (suspects, stays) = mark::suspects(protocol, state, prune.packs);
    let marked = state.counted(protocol);
    state.prunes[place] = match mark::lacking(protocol, state, suspects, stays) {
        None => Prune::default(),
        Some(copies) if copies.is_empty() => {
            let alone = protocol.weak(Weakened::UNotAllCondemned);
            let packs = if alone { Set::EMPTY } else { suspects };
            Prune { step: PruneStep::Plan, packs, marked, ..prune }
        }
        Some(_) => {
            Prune { step: PruneStep::Lacking, packs: suspects, todo: stays, marked, ..prune }
        }
    };
}

/// A session for copies: whoever makes them, so that it does not matter which prune is which.
pub fn free_session(state: &State) -> Option<usize> {
    [0, 1].map(repack_session).into_iter().find(|session| state.frames[*session].is_empty())
}

/// Step 3: the record under which the copies are made. What vanished since is marked again.
fn copy(protocol: &Protocol, state: &mut State, place: usize) {
    let prune = state.prunes[place];
    let session = free_session(state).unwrap_or_default();
    let copies = mark::lacking(protocol, state, prune.packs, prune.todo).unwrap_or_default();
    // Forgotten, or vanished.
    if copies.is_empty() {
        state.prunes[place] = Prune::default();
        return;
    }
    let copied = |pack: usize| state.frames_in(protocol, Set::of(&[pack])).meets(copies);
    let packs = match protocol.weak(Weakened::UNotAllCondemned) {
        true => prune.packs.filter(copied),
        false => prune.packs,
    };
    state.frames[session] = copies;
    state.sessions |= Set::of(&[session]);
    state.prunes[place] =
        Prune { step: PruneStep::Copy, packs, todo: Set::of(&[session]), ..prune };
}

/// At P8; with nothing dead there is nothing to do until P10.
fn sweeping(number: usize, dead: Set) -> Prune {
    let step = if dead.is_empty() { PruneStep::Close } else { PruneStep::Replace };
    Prune { step, epoch: number, packs: dead, ..Prune::default() }
}

/// P2: list the packs, before anything else is read.
fn p2_list(state: &mut State, place: usize, number: usize) {
    state.prunes[place] =
        Prune { step: PruneStep::Mark, epoch: number, packs: state.packs, ..Prune::default() };
}

/// P4: publish the plan, create-if-absent. Lost: thrown away, P1.
fn p4(state: &mut State, place: usize) {
    let prune = state.prunes[place];
    let number = prune.epoch;
    if state.epochs[number].plan {
        state.prunes[place] = Prune::default();
        return;
    }
    let void = state.highest_epoch() > number;
    if !void {
        state.older = state.sessions;
    }
    state.epochs[number] = Epoch {
        plan: true,
        condemned: prune.packs,
        marked: prune.marked,
        void,
        ..Epoch::default()
    };
    state.prunes[place].step = PruneStep::Published;
}

/// P5: a higher number than mine means that mine is void.
fn p5(protocol: &Protocol, state: &mut State, place: usize) {
    let prune = &mut state.prunes[place];
    if state.epochs[prune.epoch + 1..].iter().any(|epoch| epoch.plan)
        && !protocol.weak(Weakened::P5NotCheckedAfterPlan)
    {
        *prune = Prune::default();
    } else {
        prune.step = PruneStep::List;
        prune.closing = false;
    }
}

/// P6: list the sessions, after publishing. Those not listed have read the plan.
fn p6_list(protocol: &Protocol, state: &mut State, place: usize) {
    let undecided = state.undecided();
    let skipped = protocol.weak(Weakened::P6NoFence)
        || state.prunes[place].closing && protocol.weak(Weakened::UNotDecided);
    let todo = if skipped { Set::EMPTY } else { undecided };
    let mut prune = Prune { step: PruneStep::Fence, todo, ..state.prunes[place] };
    if protocol.weak(Weakened::P6RemarkEarly) {
        // From here on `packs` is what the early re-mark left dead.
        prune.packs = mark::p7_dead(protocol, state, &prune);
        prune.marked = Set::EMPTY;
    }
    state.prunes[place] = prune;
}

/// P6: write `sessions/S.fenced`.
fn p6_fence(state: &mut State, place: usize, session: usize) {
    state.fenced |= Set::of(&[session]);
    state.prunes[place].fenced |= Set::of(&[session]);
}

/// P6: then read `snapshots/S`. There: decided, it counts.
fn p6_look(state: &mut State, place: usize, session: usize) {
    let session = Set::of(&[session]);
    let prune = &mut state.prunes[place];
    prune.todo -= session;
    if session.within(state.snapshots) {
        prune.fenced -= session;
    }
}

/// P6: absent: delete `sessions/S`.
fn p6_remove(state: &mut State, place: usize, session: usize) {
    let session = Set::of(&[session]);
    state.sessions -= session;
    state.prunes[place].todo -= session;
    state.prunes[place].fenced -= session;
}

/// P7: list snapshots, read the index, list packs, and see what is dead.
fn p7(protocol: &Protocol, state: &mut State, place: usize) {
    let prune = state.prunes[place];
    let dead = if protocol.weak(Weakened::P6RemarkEarly) {
        prune.packs
    } else {
        mark::p7_dead(protocol, state, &prune)
    };
    state.prunes[place] =
        Prune { step: PruneStep::Record, epoch: prune.epoch, packs: dead, ..Prune::default() };
}

/// P7: create `sweep`, create-if-absent.
fn p7_record(state: &mut State, place: usize) {
    let prune = state.prunes[place];
    let highest = state.highest_epoch() == prune.epoch;
    let epoch = &mut state.epochs[prune.epoch];
    if !epoch.sweep {
        epoch.sweep = true;
        epoch.dead = prune.packs;
        if highest {
            state.called_dead |= prune.packs;
            state.broken |= state.older.meets(state.undecided());
        }
    }
    state.prunes[place].step = PruneStep::Recorded;
}

/// P5 again, and P7: obey the record that is there.
fn p7_obey(protocol: &Protocol, state: &mut State, place: usize) {
    let prune = state.prunes[place];
    let checked = !protocol.weak(Weakened::P5NotCheckedAfterPlan)
        && !protocol.weak(Weakened::P5NotCheckedAfterSweep);
    let higher = state.epochs[prune.epoch + 1..].iter().any(|epoch| epoch.plan);
    let epoch = state.epochs[prune.epoch];
    state.prunes[place] = if (checked && higher) || !epoch.sweep {
        Prune::default()
    } else if protocol.weak(Weakened::P7OwnList) {
        sweeping(prune.epoch, prune.packs)
    } else {
        sweeping(prune.epoch, epoch.dead)
    };
}

/// P8: store the replacement of the segment that names dead packs.
///
/// Which segment names a pack matters to nobody, so a replacement is one segment for each pack. It
/// is stored even if the segment is gone by now: this prune may have read it long ago.
fn p8(protocol: &Protocol, state: &mut State, place: usize) {
    let dead = state.prunes[place].packs;
    state.prunes[place].step = PruneStep::Sweep;
    if protocol.weak(Weakened::P8DeletedFirst) {
        p8_delete(protocol, state, dead);
    } else {
        p8_store(protocol, state, dead);
    }
}

fn p8_store(protocol: &Protocol, state: &mut State, dead: Set) {
    if protocol.shared_segment.meets(dead) {
        state.own_segments |= protocol.shared_segment - dead;
    }
}

fn p8_delete(protocol: &Protocol, state: &mut State, dead: Set) {
    if protocol.shared_segment.meets(dead) {
        state.shared_segment = false;
    }
    state.own_segments -= dead;
}

/// P8: delete the segments, then P9: send the deletes of the dead packs. They may arrive late.
fn p9(protocol: &Protocol, state: &mut State, place: usize) {
    let dead = state.prunes[place].packs;
    if protocol.weak(Weakened::P8DeletedFirst) {
        state.own_segments |= protocol.shared_segment - dead;
    } else {
        p8_delete(protocol, state, dead);
    }
    state.broken |= !dead.within(state.called_dead);
    state.late_deletes |= dead;
    state.prunes[place].step = PruneStep::Close;
}

/// P10: a listing shows none of them.
fn p10(state: &mut State, place: usize) {
    let number = state.prunes[place].epoch;
    let epoch = &mut state.epochs[number];
    epoch.done |= epoch.plan;
    state.prunes[place] = Prune { step: PruneStep::Tidy, epoch: number, ..Prune::default() };
}

/// P11: remove fence marks whose session record is gone, snapshots that are known to be void, and
/// the records of the epochs below. No order matters: what says that a snapshot is void stays so.
fn p11(protocol: &Protocol, state: &mut State, place: usize) {
    let number = state.prunes[place].epoch;
    state.fenced = state.fenced & state.sessions;
    if !protocol.weak(Weakened::P11TombstoneOnly) {
        state.snapshots = state.snapshots & (state.sessions | state.unexplained(protocol));
    }
    for epoch in &mut state.epochs[..number] {
        *epoch = Epoch::default();
    }
    state.prunes[place] = Prune::default();
}
