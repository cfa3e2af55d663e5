//! The pages of `format-spec/` against the code: its tables, and its vectors.

#![expect(clippy::unwrap_used, reason = "a vector that is not well formed shall fail its test")]

mod by_hand;
mod cases;
mod golden;
mod groups;
mod tables;
mod vectors;
