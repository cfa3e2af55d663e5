//! What is left when one is not root: everything but owners and devices.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::*;

const NAME: &str = "target::tests::unprivileged::without_root_content_is_restored_all_the_same";

#[test]
fn without_root_content_is_restored_all_the_same() {
    if !is_root() {
        return unprivileged();
    }
    // As root: this very test once more, as somebody else, where that user may read the program.
    let directory = tempfile::tempdir().unwrap();
    let everyone = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), everyone.clone()).unwrap();
    let program = directory.path().join("tests");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::fs::set_permissions(&program, everyone).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args([NAME, "--exact", "--nocapture"])
        .current_dir("/")
        .env_remove("TMPDIR")
        .output();
    let Ok(output) = output else {
        return cannot("setpriv");
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{errors}");
}

fn unprivileged() {
    let place = place();
    let wanted = Metadata { uid: 0, gid: 0, ..metadata(0o4755) };
    assert!(!place.target.owners_refused());
    // The owner is noted, not a problem; and without it there are no set-id bits.
    whole(place.root.write_small(b"f", b"content", &wanted));
    assert!(place.target.owners_refused());
    assert_eq!(std::fs::read(place.path("f")).unwrap(), b"content");
    assert_metadata(&place.path("f"), &metadata(0o755));
    // A second run sees nothing to do.
    let same = place.root.difference(b"f", &entry(b"f", file_kind(7), &wanted)).unwrap();
    assert_eq!(same, Difference::Same);

    // Attributes of a read-only file, when it is new and when it is there.
    let mut read_only = Metadata { xattrs: vec![xattr("user.a", b"1")], ..metadata(0o444) };
    whole(place.root.write_small(b"r", b"x", &read_only));
    assert_metadata(&place.path("r"), &read_only);
    read_only.xattrs = vec![xattr("user.a", b"2"), xattr("user.b", b"3")];
    whole(place.root.set_metadata(b"r", &entry(b"r", file_kind(1), &read_only)));
    assert_metadata(&place.path("r"), &read_only);

    // Capabilities and devices cannot be; the file is there nevertheless.
    let capable = Metadata {
        xattrs: vec![xattr("security.capability", super::metadata::CAPABILITY)],
        ..metadata(0o755)
    };
    let problems = place.root.write_small(b"c", b"x", &capable).unwrap();
    assert!(matches!(problems.as_slice(), [TargetError::Attribute { class: true, .. }]));
    assert!(place.path("c").exists());
    let device = EntryKind::BlockDevice { major: 8, minor: 0 };
    let refused = place.root.create(b"d", &device, &metadata(0o600)).unwrap_err();
    assert!(matches!(refused, TargetError::NotCreatable { .. }));
    assert_eq!(refused.io_kind(), Some(std::io::ErrorKind::PermissionDenied));

    // A read-only folder from an earlier run.
    let folder = place.root.make_child(b"folder", false).unwrap();
    whole(folder.write_small(b"f", b"old", &metadata(0o444)));
    whole(folder.finish(&metadata(0o555)));
    assert!(folder.write_small(b"f", b"new", &metadata(0o444)).is_err());
    folder.make_writable().unwrap();
    whole(folder.write_small(b"f", b"new", &metadata(0o444)));
    whole(folder.finish(&metadata(0o555)));
    assert_metadata(&place.path("folder"), &metadata(0o555));
    assert_eq!(std::fs::read(place.path("folder/f")).unwrap(), b"new");
    assert_eq!(place.root.remove_tree(b"folder", &mut |e| panic!("{e}")).unwrap(), 2);
}
