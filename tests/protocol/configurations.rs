//! The worlds that are searched. Each is small, and each is made for some of the rules.

use crate::model::{Cache, NOTHING, Protocol, WRITER, WriterSetting};
use crate::rules::prune::Order;
use crate::set::Set;
use crate::state::*;

const BOTH_ORDERS: &[Order] = &[Order::OldFirst, Order::NewFirst];

/// A writer reuses the packs of a snapshot that is forgotten meanwhile.
pub const REUSE: Protocol = Protocol { writers: &[WRITER], forget: Set::of(&[0, 2]), ..NOTHING };

/// A snapshot needs the chunk of a delta frame, and of its base the frame alone.
pub const DELTA_ONLY: Protocol = Protocol { snapshots: &[CHUNK_B], ..REUSE };

/// One segment names a pack that dies and one that lives; somebody reads the one that lives.
pub const SEGMENTS: Protocol = Protocol {
    packs: &[A, B],
    snapshots: &[CHUNK_A, CHUNK_B],
    forget: Set::of(&[1]),
    writers: &[WRITER],
    prunes: 2,
    prunes_die: true,
    epochs: 1,
    ..NOTHING
};

/// Two copies of one chunk: two prunes may each keep another.
pub const COPIES: Protocol = Protocol {
    packs: &[A, A_AGAIN],
    snapshots: &[CHUNK_A],
    writers: &[WriterSetting { needs: CHUNK_A, ..WRITER }],
    prunes: 2,
    orders: BOTH_ORDERS,
    ..NOTHING
};

/// Two writers make delta frames on the base of a snapshot that is forgotten meanwhile.
pub const DELTAS: Protocol = Protocol {
    packs: &[A],
    shared_segment: Set::EMPTY,
    snapshots: &[CHUNK_A],
    writers: &[WRITER, WRITER],
    deltas: true,
    forget: Set::of(&[0]),
    ..NOTHING
};

/// A writer's first session is fenced or dies; what it stored is there for the second.
pub const SECOND_SESSION: Protocol = Protocol {
    packs: &[A],
    shared_segment: Set::EMPTY,
    snapshots: &[CHUNK_A],
    writers: &[WriterSetting { sessions: 2, cache: Cache::Empty, ..WRITER }],
    writers_die: true,
    forget: Set::of(&[0, 2]),
    ..NOTHING
};

/// A writer adopts the tree of an old snapshot.
pub const PARENT: Protocol = Protocol {
    writers: &[WriterSetting { parent: Some(0), ..WRITER }],
    forget: Set::of(&[0]),
    ..NOTHING
};

/// A writer adopts the tree of another writer's snapshot, which is forgotten too.
pub const YOUNG_PARENT: Protocol = Protocol {
    writers: &[WRITER, WriterSetting { parent: Some(2), ..WRITER }],
    forget: Set::of(&[0, 2]),
    ..NOTHING
};

/// A writer adopts the tree of its own last snapshot, as for a changed tag.
pub const OWN_PARENT: Protocol = Protocol {
    writers: &[WriterSetting { sessions: 2, parent: Some(2), ..WRITER }],
    forget: Set::of(&[0, 2]),
    ..NOTHING
};

/// An answer is lost: a session record, a pack or a snapshot comes late or never.
pub const LOST_ANSWER: Protocol = Protocol {
    packs: &[A],
    shared_segment: Set::EMPTY,
    snapshots: &[CHUNK_A],
    writers: &[WriterSetting { sessions: 2, ..WRITER }],
    forget: Set::of(&[0, 2]),
    lost_answers: 1,
    ..NOTHING
};

/// The same where everything that the writer needs is there already.
pub const LOST_ANSWER_REUSE: Protocol =
    Protocol { writers: &[WriterSetting { sessions: 2, ..WRITER }], lost_answers: 1, ..REUSE };

/// A slow segment names a dead pack again, and there are two copies to choose from.
pub const LATE_SEGMENT: Protocol =
    Protocol { prunes: 1, late_segments: Set::of(&[1]), prunes_die: true, ..COPIES };

/// Two prunes work on the same epoch, and a snapshot that one has rescued for is forgotten.
pub const TWO_PRUNES: Protocol = Protocol {
    snapshots: &[],
    writers: &[WRITER, WRITER],
    forget: Set::of(&[2]),
    prunes: 2,
    epochs: 1,
    ..NOTHING
};

/// Two prunes over two epochs, one writer with two sessions.
pub const TWO_EPOCHS: Protocol = Protocol {
    snapshots: &[],
    writers: &[WriterSetting { sessions: 2, ..WRITER }],
    forget: Set::of(&[2]),
    prunes: 2,
    ..NOTHING
};

/// A prune dies at any step and begins again, beside two writers.
pub const PRUNE_DIES: Protocol =
    Protocol { writers: &[WRITER, WRITER], forget: Set::of(&[0]), prunes_die: true, ..NOTHING };

/// Two prunes copy needed frames to new packs.
pub const REPACK: Protocol = Protocol {
    packs: &[A, B_ON_A, B],
    snapshots: &[CHUNK_B],
    writers: &[WRITER],
    prunes: 2,
    repack: true,
    epochs: 1,
    ..NOTHING
};

/// A reader restores while its chunk moves from pack to pack.
pub const READER: Protocol = Protocol {
    packs: &[B, B],
    snapshots: &[CHUNK_B],
    forget: Set::of(&[0]),
    orders: BOTH_ORDERS,
    repack: true,
    prunes_die: true,
    reads: Some(0),
    ..NOTHING
};

/// The store loses the session record of a snapshot that nobody forgot.
pub const LOST_RECORD: Protocol = Protocol { lost_records: 1, epochs: 1, ..REUSE };

/// A record of an epoch becomes unreadable; of two copies one is dead, a slow segment names it again,
/// and its deletion is slow.
pub const UNREADABLE: Protocol = Protocol {
    prunes: 1,
    prunes_die: true,
    orders: &[Order::NewFirst],
    late_segments: Set::of(&[1]),
    damages: 1,
    forget: Set::of(&[0]),
    ..COPIES
};

/// The same where everything that a writer may reuse is dead, and a prune still knows the records.
pub const UNREADABLE_REUSE: Protocol =
    Protocol { prunes: 2, damages: 1, forget: Set::of(&[0]), ..REUSE };

/// The same world with two prunes, and with deaths and preferences of every kind.
pub fn larger(protocol: Protocol) -> Protocol {
    Protocol { prunes: 2, prunes_die: true, writers_die: true, orders: BOTH_ORDERS, ..protocol }
}
