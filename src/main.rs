//! The binary: everything is in `holdall::cli`.

fn main() {}
