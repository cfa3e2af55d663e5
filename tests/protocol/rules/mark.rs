//! What a prune decides to keep: P2, P3 and the re-mark of P7.

use super::Weakened;
use super::prune::{Order, Prune, PruneStep};
use crate::model::Protocol;
use crate::set::Set;
use crate::state::{
    A, A_AGAIN, B, B_ON_A, CHUNK_A, CHUNK_B, State, pack_of, packs_of, readable,
    readable_without_bases, repack_session,
};

/// P2: mark from the counted snapshots; condemn what is not needed, packs in no segment too, but
/// nothing of an undecided session. With nothing to condemn and nobody to fence there is no plan.
///
/// A snapshot may have come after the listing of the packs. The plan lists as marked only those of
/// which every need was found: P7 looks at no other.
pub fn p2(protocol: &Protocol, state: &mut State, place: usize, order: Order) {
    let prune = state.prunes[place];
    let named = state.named(protocol);
    let candidates = prune.packs & named;
    let counted = state.counted(protocol);
    let roots = counted | litter(protocol, state);
    let keep = least(protocol, state, Set::EMPTY, candidates, protocol.needs(roots), order);
    let mut condemned = prune.packs - keep - packs_of(state.undecided());
    if protocol.weak(Weakened::P2UnnamedKept) {
        condemned = condemned & named;
    }
    let found = chunks(protocol, state, candidates);
    let marked = counted.filter(|snapshot| {
        protocol.needs_of(snapshot).within(found) || protocol.weak(Weakened::P2UnfoundMarked)
    });
    state.prunes[place] = if condemned.is_empty() && state.undecided().is_empty() {
        Prune::default()
    } else {
        Prune { step: PruneStep::Plan, packs: condemned, marked, ..prune }
    };
}

/// Snapshots that may have lost their session record: as far as their needs are there, they stay.
fn litter(protocol: &Protocol, state: &State) -> Set {
    let ignored = protocol.weak(Weakened::P2LitterIgnored);
    if ignored { Set::EMPTY } else { state.unexplained(protocol) }
}

/// Unreadable epoch with a sweep record, steps 2 and 3: what is needed and lies nowhere else is not
/// dead. Every other pack, but for those of undecided sessions, is suspect.
pub fn suspects(protocol: &Protocol, state: &State, listed: Set) -> (Set, Set) {
    let spared = packs_of(state.undecided());
    if protocol.weak(Weakened::UAllTrusted) {
        let keep = least(
            protocol,
            state,
            Set::EMPTY,
            listed & state.named(protocol),
            protocol.needs(state.counted(protocol)),
            Order::OldFirst,
        );
        return (listed - keep - spared, keep);
    }
    let needs = protocol.needs(state.counted(protocol) | litter(protocol, state));
    let needs = needs & chunks(protocol, state, listed);
    let is_only = |pack: usize| {
        let others = listed - Set::of(&[pack]);
        !needs.within(chunks(protocol, state, others))
    };
    let stays = listed.filter(|pack| is_only(pack) || spared.has(pack));
    // The session that a pack is of may end without naming it.
    (listed - stays, stays & state.named(protocol))
}

/// Step 3: the frames that are to be copied out of the suspect packs. `None`: one vanished.
pub fn lacking(protocol: &Protocol, state: &State, suspects: Set, stays: Set) -> Option<Set> {
    let needs = protocol.needs(state.counted(protocol) | litter(protocol, state));
    let lacking = needs - chunks(protocol, state, stays);
    let frames = state.frames_in(protocol, (suspects & state.packs) | stays);
    let mut copies = Set::EMPTY;
    if lacking.meets(CHUNK_B) && readable(frames).meets(CHUNK_B) {
        copies |= if frames.meets(B) { B } else { A | B_ON_A };
    }
    if lacking.meets(CHUNK_A) && readable(frames).meets(CHUNK_A) && !copies.meets(A) {
        copies |= if frames.meets(A) { A } else { A_AGAIN };
    }
    let counted = protocol.needs(state.counted(protocol));
    let all = counted.within(readable(state.frames_in(protocol, stays)) | readable(copies));
    all.then_some(copies)
}

/// The packs among `candidates` that must stay beside those of `certain` so that every chunk of
/// `needs` has a copy that stays, with its base. No pack of the answer could be left out.
fn least(
    protocol: &Protocol,
    state: &State,
    certain: Set,
    candidates: Set,
    needs: Set,
    order: Order,
) -> Set {
    let needs = needs & chunks(protocol, state, certain | candidates);
    let without = |kept: Set, pack: usize| {
        let fewer = kept - Set::of(&[pack]);
        if needs.within(chunks(protocol, state, certain | fewer)) { fewer } else { kept }
    };
    match order {
        Order::OldFirst => candidates.iter().fold(candidates, without),
        Order::NewFirst => candidates.iter().rev().fold(candidates, without),
    }
}

/// The chunks that can be had from these packs, along base edges.
fn chunks(protocol: &Protocol, state: &State, packs: Set) -> Set {
    let frames = state.frames_in(protocol, packs);
    if protocol.weak(Weakened::P2BasesIgnored) {
        readable_without_bases(frames)
    } else {
        readable(frames)
    }
}

/// P3: the packs that a repack would make superfluous.
fn originals(protocol: &Protocol, state: &State, prune: &Prune) -> Set {
    (state.packs & state.named(protocol)) - prune.packs - packs_of(state.undecided())
}

/// P3: the frames that it would copy: a delta frame with its base, each under its own frame id.
/// Each prune repacks once, and only what makes every original superfluous.
pub fn p3_copies(protocol: &Protocol, state: &State, place: usize) -> Set {
    let prune = &state.prunes[place];
    let frames = state.frames_in(protocol, originals(protocol, state, prune));
    let needs = protocol.needs(prune.marked);
    let mut copies = Set::EMPTY;
    if needs.meets(CHUNK_B) {
        copies |= if frames.meets(B) { B } else { A | B_ON_A };
    }
    if needs.meets(CHUNK_A) && !copies.meets(A) {
        copies |= if frames.meets(A) { A } else { A_AGAIN };
    }
    let unused = state.frames[repack_session(place)].is_empty();
    if unused && copies.within(frames) { copies } else { Set::EMPTY }
}

/// P3: the record under which the copies are made.
pub fn p3_session(protocol: &Protocol, state: &mut State, place: usize) {
    let session = repack_session(place);
    state.frames[session] = p3_copies(protocol, state, place);
    state.sessions |= Set::of(&[session]);
    state.prunes[place].step = PruneStep::Copy;
}

/// P3: copies and their segment are stored, before the plan that condemns the originals.
pub fn p3_copy(protocol: &Protocol, state: &mut State, place: usize) {
    let Prune { closing, todo, .. } = state.prunes[place];
    let session =
        if closing { todo.iter().next().unwrap_or_default() } else { repack_session(place) };
    let needs = protocol.needs(state.prunes[place].marked);
    if !closing && needs.within(readable(state.frames[session])) {
        let originals = originals(protocol, state, &state.prunes[place]);
        state.prunes[place].packs |= originals;
    }
    let pack = Set::of(&[pack_of(session)]);
    state.packs |= pack;
    state.own_segments |= pack;
    state.facts |= pack;
    state.prunes[place].todo = Set::EMPTY;
    state.prunes[place].step = PruneStep::Plan;
}

/// P7: condemned packs are rescued until every need of every counted snapshot that the plan has not
/// marked has a copy that stays.
pub fn p7_dead(protocol: &Protocol, state: &State, prune: &Prune) -> Set {
    let condemned = prune.packs;
    if protocol.weak(Weakened::P7NoRemark) {
        return condemned;
    }
    let readable_packs = state.packs & state.named(protocol);
    let roots = state.counted(protocol) | litter(protocol, state);
    let needs = protocol.needs(roots - prune.marked);
    let rescued = least(
        protocol,
        state,
        readable_packs - condemned,
        readable_packs & condemned,
        needs,
        Order::OldFirst,
    );
    condemned - rescued
}
