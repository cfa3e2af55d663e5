//! The library from `storage` up to `ops`, against real directories and storages that fail.

#[path = "../support/mod.rs"]
mod support;

mod storage_local;
mod storage_suite;
mod storages_of_tests;
