//! What a configuration says, and who may act next.

use stateright::{Model, Property};

use crate::properties;
use crate::rules::others::OtherAction;
use crate::rules::prune::{Order, PruneAction};
use crate::rules::writer::{WriterAction, WriterStep};
use crate::rules::{Weakened, others, prune, writer};
use crate::set::Set;
use crate::state::{A, B_ON_A, BOTH, CHUNK_B, State};

/// What a writer's cache knows beside the segments that are stored now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// Nothing: a new machine.
    Empty,
    /// Every fact that was ever stored.
    Everything,
}

/// One writer of a configuration.
#[derive(Clone, Copy, Debug)]
pub struct WriterSetting {
    /// How many sessions it may begin, one after the other: at most two.
    pub sessions: usize,
    /// The chunks that its snapshots need.
    pub needs: Set,
    /// What it remembers.
    pub cache: Cache,
    /// The snapshot whose tree it would adopt whole; it needs at least what the writer needs.
    pub parent: Option<usize>,
}

/// A writer of one session with nothing special.
pub const WRITER: WriterSetting =
    WriterSetting { sessions: 1, needs: CHUNK_B, cache: Cache::Everything, parent: None };

/// A configuration: the world before the first step, who is in it and what may happen to them.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    /// Frames of the packs that are there before.
    pub packs: &'static [Set],
    /// The packs that one shared segment names; each other pack has a segment of its own.
    pub shared_segment: Set,
    /// Needs of the snapshots that are there before: at most two.
    pub snapshots: &'static [Set],
    /// The writers: at most two.
    pub writers: &'static [WriterSetting],
    /// Whether writers make delta frames.
    pub deltas: bool,
    /// Whether a writer may die in a session and come back with its next one.
    pub writers_die: bool,
    /// How many prunes: at most two.
    pub prunes: usize,
    /// Whether a prune may die at any step and begin again at P1.
    pub prunes_die: bool,
    /// Which copies a mark may give up first.
    pub orders: &'static [Order],
    /// Whether a prune may repack.
    pub repack: bool,
    /// The highest epoch that is begun: at most three.
    pub epochs: usize,
    /// The sessions whose snapshots may be forgotten.
    pub forget: Set,
    /// Packs of the beginning of which one more PUT of a segment may still take effect.
    pub late_segments: Set,
    /// How many answers to a writer's PUT may be lost.
    pub lost_answers: u8,
    /// How many records of the highest epoch may become unreadable, or be lost while another is there.
    pub damages: u8,
    /// How many records of sessions that committed the store may lose.
    pub lost_records: u8,
    /// The snapshot that a reader restores.
    pub reads: Option<usize>,
    /// The rule that is weakened.
    pub weakened: Option<Weakened>,
}

/// One old snapshot, no actors: what configurations start from.
pub const NOTHING: Protocol = Protocol {
    packs: &[A, B_ON_A],
    shared_segment: Set::of(&[0, 1]),
    snapshots: &[BOTH],
    writers: &[],
    deltas: false,
    writers_die: false,
    prunes: 1,
    prunes_die: false,
    orders: &[Order::OldFirst],
    repack: false,
    epochs: 2,
    forget: Set::EMPTY,
    late_segments: Set::EMPTY,
    lost_answers: 0,
    damages: 0,
    lost_records: 0,
    reads: None,
    weakened: None,
};

/// One step of somebody: one request to the store, or several that nothing can tell apart from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Of the writer of that number.
    Writer(usize, WriterAction),
    /// Of the prune of that number.
    Prune(usize, PruneAction),
    /// Of forget, the reader or the network.
    Other(OtherAction),
}

impl Protocol {
    /// Whether this rule is the weakened one.
    pub fn weak(&self, rule: Weakened) -> bool {
        self.weakened == Some(rule)
    }

    /// The chunks that the snapshot of a session needs.
    pub fn needs_of(&self, session: usize) -> Set {
        match session {
            0 | 1 => self.snapshots[session],
            2..=5 => self.writers[(session - 2) / 2].needs,
            _ => Set::EMPTY,
        }
    }

    /// The chunks that any of these snapshots needs.
    pub fn needs(&self, sessions: Set) -> Set {
        sessions.iter().fold(Set::EMPTY, |needs, session| needs | self.needs_of(session))
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let packs = Set::range(0, self.packs.len());
        let sessions = Set::range(0, self.snapshots.len());
        let mut state = State {
            sessions,
            snapshots: sessions,
            packs,
            shared_segment: !self.shared_segment.is_empty(),
            own_segments: packs - self.shared_segment,
            facts: packs,
            late_segments: self.late_segments,
            lost_answers: self.lost_answers,
            damages: self.damages,
            lost_records: self.lost_records,
            reported: sessions,
            ..State::default()
        };
        for writer in state.writers.iter_mut().skip(self.writers.len()) {
            writer.step = WriterStep::Over;
        }
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for place in 0..self.writers.len() {
            let all = writer::actions(self, state, place);
            actions.extend(all.into_iter().map(|action| Action::Writer(place, action)));
        }
        for place in 0..self.prunes {
            let all = prune::actions(self, state, place, self.epochs);
            actions.extend(all.into_iter().map(|action| Action::Prune(place, action)));
        }
        actions.extend(others::actions(self, state).into_iter().map(Action::Other));
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Writer(place, action) => writer::act(self, &mut next, place, action),
            Action::Prune(place, action) => {
                prune::act(self, &mut next, place, action);
                // They are alike, so their order says nothing; but a repack has a session.
                if !self.repack {
                    next.prunes[..self.prunes].sort_unstable();
                }
            }
            Action::Other(action) => others::act(self, &mut next, action),
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}
