//! The prune protocol as a model, searched through every interleaving by stateright.
//!
//! Writers, prunes, forget and a reader work on one store without locks or clocks. This binary
//! holds their rules (W1 to W8, P1 to P11, F1, F2, R1, R2; chapter 11 of `format-spec/`) as small
//! functions and nothing of `src/`: what is wrong here is wrong in the design.
//!
//! * `state.rs`: the store, requests under way, what each actor remembers.
//! * `model.rs`: what a configuration says, and who may act next.
//! * `rules/`: the rules, each a function under its number; `Weakened` lists what can be left out.
//! * `properties.rs`: what must hold in every state.
//! * `configurations.rs`: the small worlds that are searched.
//! * `sound.rs`: with all rules every property holds in every configuration.
//! * `weakened.rs`: with one rule weakened, the property that it protects is violated in one of the
//!   same configurations. Every weakening that the protocol names (✗) is matched by a violation.
//!
//! An actor that dies is one that takes no further step; one that sleeps takes its next step late.
//! So both are there in every configuration, and the knobs only say who may begin again. A PUT
//! without an answer takes effect at once, late or never; a DELETE that was sent may take effect at
//! any later time, more than once.
//!
//! `PROTOCOL_LARGE=1` adds a second prune, deaths of prunes and of writers, and marks that prefer
//! old or new copies, to every configuration; run one test at a time, for it takes minutes and
//! gigabytes. `PROTOCOL_TRACE=1` prints how each weakened rule comes to its violation.
//!
//! # Where the model taught the protocol
//!
//! These rules are stricter here than they were first written, most with a weakening of its own:
//! * P2 (`P2UnfoundMarked`): a plan lists as marked only snapshots of which every need was found in
//!   a listed pack. A snapshot that came after the listing of the packs, with a delta frame on an
//!   older base, was marked without keeping that base, and P7 passes over what is marked.
//! * W5 (`W5CheckedBeforeEpoch`): the parent is checked after W2, not only after W1. Between the two
//!   it was forgotten and the sweep record created, which W2 then took for harmless.
//! * W8 (`W8RecordFirst`): the fence mark is looked for first, then the record. A listing that is
//!   not of one moment may show a record that is just deleted, and no longer the mark.
//!
//! * Unreadable epochs (`U…`): a snapshot that began under one is no more adopted than any other.
//! * P11 (`P11LitterTaken`): a snapshot without session record goes only if something says that it is
//!   void. With that, the order of the listings in P11 does not matter any more.
//!
//! # Not modelled
//!
//! * A sweep record that is lost without a trace while its plan opens: nothing tells that it was made,
//!   so the epoch is decided again beside deletions that are under way. The rules do not cover it.
//! * Listings that take time, but for P2 (packs, then the rest), P11 and W8. P7 reads at one moment.
//! * A prune's own PUTs that land after it began again: the other prune, asleep, stands for them.
//! * A second repack by the same prune, `parity/`, `notes/`, damaged packs, `check` and `repair`.
//! * A store without create-if-absent, or whose listings lag behind.
//! * P10's weakening shows only where a late segment names the dead pack again: P8 has removed it
//!   from the index, so a mark would not choose it.
//! * That a reader repeats itself at most once for each sweep or replaced segment is what R2 says,
//!   and is not counted here.

mod configurations;
mod model;
mod properties;
mod rules;
mod set;
mod sound;
mod state;
mod weakened;
