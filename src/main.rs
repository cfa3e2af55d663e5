//! The binary: everything is in `holdall::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    holdall::cli::run()
}
