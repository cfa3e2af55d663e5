//! Limits of what goes to a repository and comes from it.

use std::time::{Duration, Instant};

use crate::dir::Dir;

/// Content that no compression makes shorter.
fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn what_is_written_and_read_takes_its_time() {
    let dir = Dir::new();
    dir.write("f", noise(32 << 10));
    let takes = |args: &[&str]| {
        let began = Instant::now();
        dir.run(args).ok();
        began.elapsed()
    };
    // The very first backup, which makes its repository, too.
    let half_a_second = Duration::from_millis(500);
    assert!(takes(&["backup", "f", "--limit-upload", "64K"]) >= half_a_second);
    assert!(
        takes(&["restore", "latest", "--target", "t", "--limit-download", "64K"]) >= half_a_second
    );
    dir.write("f", [&noise(32 << 10)[1..], b"x"].concat());
    std::fs::write(dir.path("config/holdall/config.toml"), "limit-upload = '64K'").unwrap();
    assert!(takes(&["backup", "f"]) >= half_a_second);
}

#[test]
fn rates_that_are_none() {
    let dir = Dir::with_repository();
    for rate in ["0", "500", "fast", "-1", "", "99E"] {
        for option in ["--limit-upload", "--limit-download"] {
            dir.run(["snapshots", &format!("{option}={rate}")]).code(2);
        }
    }
    dir.run(["snapshots", "--limit-upload", "10M", "--limit-download", "1.5MiB"]).ok();
}
