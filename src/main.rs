//! The binary: everything is in `holdall::cli`.

use std::process::ExitCode;

/// From this length on a buffer gets pages of its own, which go back to the system with it.
#[cfg(target_env = "gnu")]
const OWN_PAGES_LEN: libc::c_int = 256 << 10;

fn main() -> ExitCode {
    keep_little_memory();
    holdall::cli::run()
}

/// Left alone, glibc raises this length with every large buffer that is freed, until frames and
/// blocks lie between small things on the heap: a backup of `/usr` then takes a third more memory
/// than it uses.
fn keep_little_memory() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "the C library has no other way to be told")]
    // SAFETY: mallopt only sets a number, and no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_PAGES_LEN);
    }
}
