//! File systems of a test's own.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Set for the test that runs again where it may mount.
const MAY_MOUNT: &str = "HOLDALL_TEST_MAY_MOUNT";

/// Runs `check` in a mount namespace of its own: the test binary starts itself again for this one
/// test, so that no mount outlives a test that is killed.
pub fn where_one_may_mount(test: &str, check: impl FnOnce()) {
    if std::env::var_os(MAY_MOUNT).is_some() {
        return check();
    }
    let mut refusals = String::new();
    for namespaces in [&["--mount", "--user", "--map-root-user"][..], &["--mount"]] {
        let place = tempfile::tempdir().unwrap();
        // Whether one may is tried first, so that a failure of the test is not taken for a no.
        let script = r#"mount -t tmpfs tmpfs "$0" && umount "$0" && echo mounted && exec "$@""#;
        let output = Command::new("unshare")
            .args(namespaces)
            .args(["sh", "-c", script])
            .arg(place.path())
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(MAY_MOUNT, "1")
            .output();
        let said = match output {
            Ok(output) => [output.stdout, output.stderr].concat(),
            Err(error) => error.to_string().into_bytes(),
        };
        let said = String::from_utf8_lossy(&said);
        if said.contains("test result: ok. 1 passed") {
            return;
        }
        assert!(!said.contains("mounted"), "{said}");
        refusals.push_str(&said);
    }
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "may not mount: {refusals}");
    eprintln!("{test}: NOT TESTED, no tmpfs may be mounted here: {refusals}");
}

/// Mounts a tmpfs with these options, on a directory that is made where it is missing.
pub fn mount(at: &Path, options: &str) {
    fs::create_dir_all(at).unwrap();
    let mut command = Command::new("mount");
    let status = command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).status();
    assert!(status.unwrap().success());
}
