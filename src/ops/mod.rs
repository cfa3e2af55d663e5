//! One file per operation.

pub mod retention;
