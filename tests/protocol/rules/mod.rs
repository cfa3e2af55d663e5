//! The rules of the protocol, one small function for each step, under the number that it has there.

pub mod mark;
pub mod others;
pub mod prune;
pub mod writer;

/// One rule left out or turned round: what stands after a ✗ in the protocol, and, marked *own*,
/// weakenings of rules that have no ✗ there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weakened {
    /// W1: without a clear answer the writer sends the record again under the same name.
    W1NameKept,
    /// W2: the epoch is read before the session record is created.
    W2EpochReadFirst,
    /// W2: the epoch is not read.
    W2EpochNotRead,
    /// W3: what the index names is taken to exist.
    W3IndexTrusted,
    /// W4: a delta frame is taken without a look at its base.
    W4BaseIgnored,
    /// W5: a tree is adopted although an open plan has not marked its snapshot.
    W5UnmarkedParent,
    /// W5: a tree is adopted without checking that its snapshot counts.
    W5ParentUnchecked,
    /// W5, own: the parent is checked after W1, yet before the epoch is read.
    W5CheckedBeforeEpoch,
    /// W6: a pack is sent a second time under its name.
    W6NameSentTwice,
    /// W7, own: the snapshot is put before the segments.
    W7SnapshotFirst,
    /// W7, own: the segment of a pack of one's own earlier session is taken to be stored.
    W7OwnSegmentAssumed,
    /// W8: put is taken for committed.
    W8NotChecked,
    /// W8, own: the record is looked for before the fence mark, not after it.
    W8RecordFirst,
    /// W8, own: a lost session begins again under its name.
    W8NameKept,
    /// P1: the next plan is begun while the epoch before it is open.
    P1BegunBefore,
    /// P2: the mark does not follow base edges.
    P2BasesIgnored,
    /// P2, own: the plan lists a snapshot as marked although a need of it was not found.
    P2UnfoundMarked,
    /// P2, own: packs in no segment are left alone.
    P2UnnamedKept,
    /// P4: a plan that lost its number is published under the next.
    P4OtherNumber,
    /// P5: epochs are not listed again after the plan is published.
    P5NotCheckedAfterPlan,
    /// P5: epochs are not listed again after the sweep record is created.
    P5NotCheckedAfterSweep,
    /// P6: sessions are not fenced.
    P6NoFence,
    /// P6: the re-mark begins before the last session is decided.
    P6RemarkEarly,
    /// P6: a session record is removed without a fence and a second look.
    P6RemovedUnfenced,
    /// P7: no re-mark.
    P7NoRemark,
    /// P7: a prune that lost the sweep record goes on with its own list.
    P7OwnList,
    /// P8: the segment is deleted before its replacement is stored.
    P8DeletedFirst,
    /// P10: the epoch is closed when the deletes are sent, not when they are seen.
    P10ClosedEarly,
    /// P11: the fence mark alone says that a session is lost; no session record is asked for.
    P11TombstoneOnly,
    /// P11, own: a snapshot without session record goes although nothing says that it is void.
    P11LitterTaken,
    /// P2 and P7, own: the needs of such a snapshot are not kept.
    P2LitterIgnored,
    /// Unreadable epoch, own: a writer avoids nothing.
    UReliedOn,
    /// Unreadable epoch without sweep record, own: it is ended without one.
    UEndedAtOnce,
    /// Unreadable epoch with a sweep record, own: older sessions are not decided first.
    UNotDecided,
    /// Unreadable epoch with a sweep record, own: the next plan relies on every pack that is listed.
    UAllTrusted,
    /// Unreadable epoch with a sweep record, own: the next plan condemns only what it has copied.
    UNotAllCondemned,
    /// F2: a snapshot counts by itself.
    F2CountedAlone,
    /// R1, own: a chunk that is nowhere is an error at once.
    R1NotReadAgain,
}
