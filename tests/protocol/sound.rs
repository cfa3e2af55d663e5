//! The rules as they are hold in every configuration.

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use crate::configurations::*;
use crate::model::Protocol;

/// Searches every state; a violated property ends the test with its trace. With `PROTOCOL_LARGE`
/// set in the environment, the larger world.
fn holds(name: &str, protocol: Protocol) {
    let large = std::env::var_os("PROTOCOL_LARGE").is_some();
    let protocol = if large { larger(protocol) } else { protocol };
    let start = Instant::now();
    let checker =
        protocol.checker().threads(1).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    eprintln!(
        "{name}: {} states, {} steps, depth {}, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        start.elapsed().as_secs_f32()
    );
    checker.assert_properties();
}

macro_rules! sound {
    ($($test:ident: $protocol:expr;)*) => {
        $(#[test]
        fn $test() {
            holds(stringify!($test), $protocol);
        })*
    };
}

sound! {
    reuse: REUSE;
    delta_only: DELTA_ONLY;
    segments: SEGMENTS;
    copies: COPIES;
    deltas: DELTAS;
    second_session: SECOND_SESSION;
    parent: PARENT;
    own_parent: OWN_PARENT;
    young_parent: YOUNG_PARENT;
    lost_answer: LOST_ANSWER;
    lost_answer_reuse: LOST_ANSWER_REUSE;
    two_prunes: TWO_PRUNES;
    two_epochs: TWO_EPOCHS;
    prune_dies: PRUNE_DIES;
    late_segment: LATE_SEGMENT;
    repack: REPACK;
    reader: READER;
    lost_record: LOST_RECORD;
    unreadable: UNREADABLE;
    unreadable_reuse: UNREADABLE_REUSE;
}
