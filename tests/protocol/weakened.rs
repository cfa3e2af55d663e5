//! With one rule weakened a property is violated: the proof that the model can see.

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use crate::configurations::*;
use crate::model::Protocol;
use crate::properties::*;
use crate::rules::Weakened;

/// Searches until `property` is violated; with `PROTOCOL_TRACE` set in the environment, prints how.
fn violated(weakened: Weakened, property: &'static str, protocol: Protocol) {
    let start = Instant::now();
    let checker = Protocol { weakened: Some(weakened), ..protocol }
        .checker()
        .threads(1)
        .finish_when(HasDiscoveries::AnyOf([property].into()))
        .spawn_bfs()
        .join();
    let found = checker.discovery(property);
    eprintln!(
        "{weakened:?}: {property}: {} after {} states, {:.1} s",
        found.is_some(),
        checker.unique_state_count(),
        start.elapsed().as_secs_f32()
    );
    let path = found.unwrap_or_else(|| panic!("{weakened:?} does not violate `{property}`"));
    if std::env::var_os("PROTOCOL_TRACE").is_some() {
        eprintln!("    {:?}", path.into_actions());
    }
}

macro_rules! weakened {
    ($($test:ident: $rule:ident, $property:expr, $protocol:expr;)*) => {
        $(#[test]
        fn $test() {
            violated(Weakened::$rule, $property, $protocol);
        })*
    };
}

weakened! {
    w1_name_kept: W1NameKept, NOTHING_LOST, LOST_ANSWER_REUSE;
    w2_epoch_read_first: W2EpochReadFirst, NOTHING_LOST, REUSE;
    w2_epoch_not_read: W2EpochNotRead, NOTHING_LOST, REUSE;
    w3_index_trusted: W3IndexTrusted, NOTHING_LOST, REUSE;
    w4_base_ignored: W4BaseIgnored, NOTHING_LOST, DELTAS;
    w5_unmarked_parent: W5UnmarkedParent, NOTHING_LOST, YOUNG_PARENT;
    w5_parent_unchecked: W5ParentUnchecked, NOTHING_LOST, PARENT;
    w5_checked_before_epoch: W5CheckedBeforeEpoch, NOTHING_LOST, YOUNG_PARENT;
    w6_name_sent_twice: W6NameSentTwice, NOTHING_LOST, LOST_ANSWER;
    w6_name_sent_twice_findable: W6NameSentTwice, FINDABLE, LOST_ANSWER;
    w7_snapshot_first: W7SnapshotFirst, FINDABLE, SECOND_SESSION;
    w7_own_segment_assumed: W7OwnSegmentAssumed, FINDABLE, SECOND_SESSION;
    w8_not_checked: W8NotChecked, COMMITTED, REUSE;
    w8_record_first: W8RecordFirst, COMMITTED, REUSE;
    w8_name_kept: W8NameKept, WRITER_ENDS, REUSE;
    p1_begun_before: P1BegunBefore, NOTHING_LOST, COPIES;
    p2_bases_ignored: P2BasesIgnored, NOTHING_LOST, DELTA_ONLY;
    p2_unfound_marked: P2UnfoundMarked, NOTHING_LOST, DELTAS;
    p2_unnamed_kept: P2UnnamedKept, SWEPT, SECOND_SESSION;
    p4_other_number: P4OtherNumber, NOTHING_LOST, COPIES;
    p5_not_checked_after_plan: P5NotCheckedAfterPlan, NOTHING_LOST, COPIES;
    p5_not_checked_after_plan_one_plan: P5NotCheckedAfterPlan, ONE_PLAN, COPIES;
    p5_not_checked_after_sweep: P5NotCheckedAfterSweep, NOTHING_LOST, TWO_EPOCHS;
    p6_no_fence: P6NoFence, NOTHING_LOST, REUSE;
    p6_remark_early: P6RemarkEarly, NOTHING_LOST, REUSE;
    p6_removed_unfenced: P6RemovedUnfenced, COMMITTED, REUSE;
    p7_no_remark: P7NoRemark, NOTHING_LOST, REUSE;
    p7_own_list: P7OwnList, NOTHING_LOST, TWO_PRUNES;
    p8_deleted_first: P8DeletedFirst, FINDABLE, SEGMENTS;
    p10_closed_early: P10ClosedEarly, NOTHING_LOST, LATE_SEGMENT;
    p11_litter_taken: P11LitterTaken, COMMITTED, LOST_RECORD;
    p2_litter_ignored: P2LitterIgnored, NOTHING_LOST, LOST_RECORD;
    u_relied_on: UReliedOn, NOTHING_LOST, UNREADABLE_REUSE;
    u_ended_at_once: UEndedAtOnce, NOTHING_LOST, UNREADABLE_REUSE;
    u_not_decided: UNotDecided, NOTHING_LOST, UNREADABLE;
    u_all_trusted: UAllTrusted, NOTHING_LOST, UNREADABLE;
    u_not_all_condemned: UNotAllCondemned, NOTHING_LOST, UNREADABLE;
    p11_tombstone_only: P11TombstoneOnly, NOTHING_LOST, REUSE;
    f2_counted_alone: F2CountedAlone, NOTHING_LOST, LOST_ANSWER_REUSE;
    r1_not_read_again: R1NotReadAgain, READER_ENDS, READER;
}
