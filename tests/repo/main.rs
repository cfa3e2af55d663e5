//! The library from `storage` up to `ops`, against real directories and storages that fail.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod backup;
mod between;
mod check;
mod crash;
mod damage;
mod delta;
mod flaky;
mod forget;
mod hostile;
mod large;
mod late;
mod living;
mod mark;
mod model;
mod prune;
mod repair;
mod restore;
mod retry;
mod rotation;
mod secrets;
mod sectors;
mod storage_local;
mod storage_suite;
mod storages_of_tests;
