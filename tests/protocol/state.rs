//! Store, requests under way and the memory of the actors.
//!
//! Names are numbers. Sessions: 0 and 1 committed before the model begins, 2 to 5 are those of the
//! writers, 6 and 7 of the prunes' repacks. Packs: 0 to 2 were there before, session S sends its
//! pack as S + 1, and as S + 7 when the first name got no clear answer.

use crate::model::Protocol;
use crate::rules::Weakened;
use crate::rules::others::Reader;
use crate::rules::prune::Prune;
use crate::rules::writer::Writer;
use crate::set::Set;

/// Chunk a.
pub const CHUNK_A: Set = Set::of(&[0]);
/// Chunk b.
pub const CHUNK_B: Set = Set::of(&[1]);
/// Both.
pub const BOTH: Set = Set::of(&[0, 1]);

/// The frame of a that delta frames name as their base.
pub const A: Set = Set::of(&[0]);
/// The frame that a writer makes when it stores a again: same chunk, another frame id.
pub const A_AGAIN: Set = Set::of(&[1]);
/// A full frame of b.
pub const B: Set = Set::of(&[2]);
/// b as a delta frame; its base is `A`.
pub const B_ON_A: Set = Set::of(&[3]);

/// Highest epoch number that fits: three of a configuration and two for a prune running alone.
pub const EPOCHS: usize = 5;
const FIRST_WRITER_SESSION: usize = 2;
const FIRST_REPACK_SESSION: usize = 6;
const SESSIONS: usize = 8;
const FIRST_SESSION_PACK: usize = 3;
const FIRST_SECOND_NAME: usize = 9;

/// Session number `nth` of a writer.
pub fn session_of(writer: usize, nth: usize) -> usize {
    FIRST_WRITER_SESSION + 2 * writer + nth
}

/// The session record under which a prune repacks.
pub fn repack_session(prune: usize) -> usize {
    FIRST_REPACK_SESSION + prune
}

/// The name under which a session sends its pack.
pub fn pack_of(session: usize) -> usize {
    session + 1
}

/// The other name, for when there was no clear answer.
pub fn second_pack_of(session: usize) -> usize {
    session + 7
}

/// Every pack that a session may have stored.
pub fn packs_of(sessions: Set) -> Set {
    sessions
        .iter()
        .filter(|&session| session >= FIRST_WRITER_SESSION)
        .fold(Set::EMPTY, |packs, session| {
            packs | Set::of(&[pack_of(session), second_pack_of(session)])
        })
}

/// The objects below `epochs/<n>/`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Epoch {
    /// Whether `plan` exists.
    pub plan: bool,
    /// Packs that the plan condemns.
    pub condemned: Set,
    /// Snapshots that the plan has marked.
    pub marked: Set,
    /// Whether `sweep` exists.
    pub sweep: bool,
    /// Condemned and not rescued.
    pub dead: Set,
    /// Whether `done` exists.
    pub done: bool,
    /// A record of it does not open, or is lost: who reads it now cannot tell what it condemns.
    /// What it said stands in the other fields, for those who have read it before.
    pub unreadable: bool,
    /// Seen by the properties only: published when a higher number was there already.
    pub void: bool,
}

/// Everything: store, requests under way, actors, and what only the properties know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// `sessions/<S>`.
    pub sessions: Set,
    /// `sessions/<S>.fenced`.
    pub fenced: Set,
    /// `snapshots/<S>`.
    pub snapshots: Set,
    /// `packs/`.
    pub packs: Set,
    /// What a session's pack holds, from the moment that the session decides it.
    pub frames: [Set; SESSIONS],
    /// Whether the shared segment is stored.
    pub shared_segment: bool,
    /// Packs that have a stored segment of their own.
    pub own_segments: Set,
    /// Packs that a segment named at any time: what a cache may know.
    pub facts: Set,
    /// `epochs/`.
    pub epochs: [Epoch; EPOCHS],
    /// The epoch that a snapshot says its session began under.
    pub began: [usize; SESSIONS],
    /// PUTs of session records that may still take effect.
    pub late_sessions: Set,
    /// PUTs of snapshots that may still take effect.
    pub late_snapshots: Set,
    /// PUTs of packs that may still take effect.
    pub late_packs: Set,
    /// Packs of which a PUT of a segment that names them may still take effect.
    pub late_segments: Set,
    /// Packs whose DELETE has been sent: it may take effect at any time, and more than once.
    pub late_deletes: Set,
    /// How many answers may still be lost.
    pub lost_answers: u8,
    /// How many records of epochs may still become unreadable.
    pub damages: u8,
    /// How many session records the store may still lose.
    pub lost_records: u8,
    /// Sessions that their writer saw lost: its next snapshot says that it replaces them.
    pub replaced: Set,
    /// The writers.
    pub writers: [Writer; 2],
    /// The prunes.
    pub prunes: [Prune; 2],
    /// The reader.
    pub reader: Reader,
    /// Seen by the properties only: snapshots that a writer reported as saved.
    pub reported: Set,
    /// Snapshots that somebody forgot, which a record says.
    pub forgotten: Set,
    /// Seen by the properties only: sessions whose record the store lost.
    pub record_lost: Set,
    /// Seen by the properties only: sessions older than the plan of the highest epoch.
    pub older: Set,
    /// Seen by the properties only: packs that a sweep record of the then highest epoch called dead.
    pub called_dead: Set,
    /// Seen by the properties only: a step was taken that property 4 forbids.
    pub broken: bool,
}

impl State {
    /// F2: the snapshots that count, as a listing of `snapshots/` and then `sessions/` says.
    pub fn counted(&self, protocol: &Protocol) -> Set {
        if protocol.weak(Weakened::F2CountedAlone) {
            self.snapshots
        } else if protocol.weak(Weakened::P11TombstoneOnly) {
            self.snapshots - self.fenced
        } else {
            self.snapshots & self.sessions
        }
    }

    /// Sessions that have neither committed nor been given up.
    pub fn undecided(&self) -> Set {
        self.sessions - self.snapshots
    }

    /// Snapshots without a session record of which nothing says that they are void: neither a record
    /// of forgetting nor a snapshot that counts and replaces them.
    pub fn unexplained(&self, protocol: &Protocol) -> Set {
        let counted = self.snapshots & self.sessions;
        let next = |session: usize| counted.has(session + 1);
        let replaced = self.replaced.filter(|session| session % 2 == 0 && next(session));
        let void = self.snapshots - self.sessions - self.forgotten - replaced;
        if protocol.weak(Weakened::P11LitterTaken) { Set::EMPTY } else { void }
    }

    /// The highest epoch that has a plan; 0 when there is none.
    pub fn highest_epoch(&self) -> usize {
        (1..EPOCHS).rev().find(|&number| self.epochs[number].plan).unwrap_or(0)
    }

    /// The packs that a stored segment names.
    pub fn named(&self, protocol: &Protocol) -> Set {
        let shared = if self.shared_segment { protocol.shared_segment } else { Set::EMPTY };
        self.own_segments | shared
    }

    /// Every frame in these packs.
    pub fn frames_in(&self, protocol: &Protocol, packs: Set) -> Set {
        packs.iter().fold(Set::EMPTY, |frames, pack| {
            frames
                | match pack {
                    ..FIRST_SESSION_PACK => protocol.packs[pack],
                    FIRST_SESSION_PACK..FIRST_SECOND_NAME => self.frames[pack - 1],
                    _ => self.frames[pack - 7],
                }
        })
    }
}

/// The chunks that can be read from these frames.
pub fn readable(frames: Set) -> Set {
    let mut chunks = Set::EMPTY;
    if frames.meets(A | A_AGAIN) {
        chunks |= CHUNK_A;
    }
    if frames.meets(B) || (A | B_ON_A).within(frames) {
        chunks |= CHUNK_B;
    }
    chunks
}

/// The chunks that these frames hold for somebody who forgets that a delta frame has a base.
pub fn readable_without_bases(frames: Set) -> Set {
    if frames.meets(B_ON_A) { readable(frames) | CHUNK_B } else { readable(frames) }
}
