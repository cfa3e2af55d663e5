//! The pages of `format-spec/` against the code: its tables, and its vectors.

#![expect(clippy::unwrap_used, reason = "a vector that is not well formed shall fail its test")]

mod by_hand;
mod cases;
mod fuzz;
mod golden;
mod groups;
#[allow(
    clippy::all,
    dead_code,
    missing_docs,
    reason = "left as it was written, by somebody who had the pages and not the code"
)]
mod reader;
mod reader_tests;
mod tables;
mod vectors;
