//! holdall: a content-addressed, deduplicating, encrypted backup repository.
//!
//! A house of rooms on floors. A room uses rooms on lower floors only, never sideways and never
//! up; `tests/tidy.rs` reads this table and checks every `crate::` path against it.
//!
//! | floor | room | what it does |
//! |---|---|---|
//! | 0 | `id` | typed ids, hex, unique prefixes |
//! | 0 | `limits` | every maximum of the format |
//! | 0 | `progress` | how work tells how far it is and what went wrong on the way |
//! | 0 | `world` | clock and randomness, real and seeded |
//! | 0 | `text` | names and paths made safe for a terminal; sizes and durations for people |
//! | 1 | `calendar` | times that people write and read, in a time zone |
//! | 1 | `format` | bytes to structs and back, one file per chapter of `format-spec/`; no I/O, no keys |
//! | 1 | `crypto` | passwords to keys, chunk ids, sealing and opening |
//! | 1 | `compress` | zstd with a stated output bound |
//! | 2 | `chunker` | where a stream is cut |
//! | 2 | `object` | sealed objects: an envelope put on and taken off |
//! | 2 | `settings` | the one TOML file: what options and the environment leave open |
//! | 2 | `storage` | trait `Storage`: a local directory, memory, decorators |
//! | 3 | `pack` | frames in, packs out; packs in, frames out |
//! | 3 | `index` | where each chunk lies: segments in storage, the local index as a cache of them |
//! | 4 | `repo` | `Repository`: keys, sessions, chunk writer and reader, snapshots |
//! | 5 | `tree` | stored trees: read, write, walk |
//! | 5 | `source` | what is read: directories of a living file system, standard input |
//! | 5 | `target` | what is restored to: files, links, metadata, never outside |
//! | 6 | `ops` | one file per operation |
//! | 7 | `cli` | one file per command; arguments, output, exit codes |
//!
//! The way of a backup: `cli::backup` -> `ops::backup` (source, chunker, id, look-up) -> `repo`'s
//! chunk writer (frames, compression, sealing, verification) -> `pack` writer -> `Storage::put`.

pub mod calendar;
pub mod chunker;
pub mod cli;
pub mod compress;
pub mod crypto;
pub mod format;
pub mod id;
pub mod index;
pub mod limits;
pub mod object;
pub mod ops;
pub mod pack;
pub mod progress;
pub mod repo;
pub mod settings;
pub mod source;
pub mod storage;
pub mod target;
pub mod text;
pub mod tree;
pub mod world;
