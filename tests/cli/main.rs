//! Every command through the real binary: exit codes, what is said, the shapes of JSON.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod backup;
mod check;
mod config;
mod copy;
mod dir;
mod errors;
mod explore;
mod faults;
mod fidelity;
mod forget;
mod full;
mod help;
mod hostile;
mod init;
mod interrupt;
mod key;
mod limits;
mod lines;
#[path = "../support/mounts.rs"]
mod mounts;
mod output;
mod repair;
mod restore;
mod rollback;
mod snapshots;
mod tag;
mod thrash;
