//! What the test binaries share. Each uses a part of it.
#![allow(dead_code, unused_imports, reason = "each test binary uses a part")]

pub mod mounts;
pub mod repository;
pub mod snapshots;
pub mod storages;
