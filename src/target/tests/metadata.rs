//! Owners, modes, attributes, times.

use super::*;

pub(super) const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// An ACL in the kernel's form: version 2, then tag, permissions and id of each entry.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// Owner rw-, user 1000 rw-, group r--, mask as given, others ---.
fn acl_with_mask(mask: u16) -> Vec<u8> {
    let none = u32::MAX;
    acl(&[(1, 6, none), (2, 6, 1000), (4, 4, none), (0x10, mask, none), (0x20, 0, none)])
}

#[test]
fn times_of_every_kind_also_before_1970() {
    let place = place();
    let times = [at(-1, 1), at(-86_400 * 365, 999_999_999), at(0, 0), at(4_102_444_800, 5)];
    for (number, mtime) in times.into_iter().enumerate() {
        let wanted = Metadata { mtime, ..metadata(0o700) };
        let name = |kind: &str| format!("{kind}{number}").into_bytes();
        whole(place.root.write_small(&name("file"), b"x", &wanted));
        let new = place.root.new_file(&name("new")).unwrap();
        new.write_at(0, b"y").unwrap();
        whole(new.finish(&wanted));
        let link = EntryKind::Symlink { target: b"nowhere".to_vec() };
        whole(place.root.create(&name("link"), &link, &wanted));
        whole(place.root.create(&name("fifo"), &EntryKind::Fifo, &wanted));
        let folder = place.root.make_child(&name("folder"), false).unwrap();
        whole(folder.write_small(b"inside", b"changes the time of its folder", &wanted));
        whole(folder.finish(&wanted));
        for kind in ["file", "new", "link", "fifo", "folder"] {
            assert_metadata(&place.path(&format!("{kind}{number}")), &wanted);
        }
    }
}

#[test]
fn attributes_acls_and_capabilities() {
    if !is_root() {
        return cannot("attributes that only root may set");
    }
    let place = place();
    let mut wanted = metadata(0o4660);
    (wanted.uid, wanted.gid) = (1234, 2345);
    wanted.xattrs = vec![
        xattr("security.capability", CAPABILITY),
        xattr("system.posix_acl_access", &acl_with_mask(6)),
        xattr("trusted.t", b"\0\xff"),
        xattr("user.empty", b""),
        xattr("user.long", &[7; 3_000]),
    ];
    whole(place.root.write_small(b"small", b"program", &wanted));
    assert_metadata(&place.path("small"), &wanted);
    let new = place.root.new_file(b"new").unwrap();
    new.write_at(0, b"program").unwrap();
    whole(new.finish(&wanted));
    assert_metadata(&place.path("new"), &wanted);
    let program = entry(b"new", file_kind(7), &wanted);
    assert_eq!(place.root.difference(b"new", &program).unwrap(), Difference::Same);

    let mut directory = metadata(0o2670);
    directory.xattrs = vec![
        xattr("system.posix_acl_access", &acl_with_mask(7)),
        xattr("system.posix_acl_default", &acl_with_mask(7)),
        xattr("user.d", b"d"),
    ];
    let folder = place.root.make_child(b"folder", false).unwrap();
    whole(folder.finish(&directory));
    assert_metadata(&place.path("folder"), &directory);

    let link = Metadata { xattrs: vec![xattr("trusted.link", b"l")], ..metadata(0o777) };
    let kind = EntryKind::Symlink { target: b"small".to_vec() };
    whole(place.root.create(b"link", &kind, &link));
    assert_metadata(&place.path("link"), &link);
    assert_eq!(read_xattr(&place.path("small"), "trusted.link"), None);
    let link = entry(b"link", kind, &link);
    assert_eq!(place.root.difference(b"link", &link).unwrap(), Difference::Same);
}

#[test]
fn what_differs_is_told_and_set_without_the_content() {
    let place = place();
    let old = Metadata { xattrs: vec![xattr("user.gone", b"1")], ..metadata(0o600) };
    whole(place.root.write_small(b"f", b"1234", &old));
    let mut new = metadata(0o444);
    new.xattrs = vec![xattr("user.a", b"1"), xattr("user.b", b"2")];
    if is_root() {
        new.uid = 77;
    }
    let wanted = entry(b"f", file_kind(4), &new);
    let differs = MetadataDifference { owner: is_root(), mode: true, xattrs: true, mtime: false };
    let difference = place.root.difference(b"f", &wanted).unwrap();
    assert_eq!(difference, Difference::Metadata(differs));
    whole(place.root.set_metadata(b"f", &wanted));
    assert_metadata(&place.path("f"), &new);
    assert_eq!(read_xattr(&place.path("f"), "user.gone"), None);
    assert_eq!(place.root.difference(b"f", &wanted).unwrap(), Difference::Same);

    let longer = entry(b"f", file_kind(5), &new);
    assert_eq!(place.root.difference(b"f", &longer).unwrap(), Difference::Content);
    let later = Metadata { mtime: at(1, 1), ..new.clone() };
    let later = entry(b"f", file_kind(4), &later);
    assert_eq!(place.root.difference(b"f", &later).unwrap(), Difference::Content);

    // A folder whose time differs is no other content.
    let folder = place.root.make_child(b"d", false).unwrap();
    whole(folder.finish(&new));
    assert_eq!(
        place.root.difference(b"d", &entry(b"d", directory_kind(), &new)).unwrap(),
        Difference::Same
    );
    let later = Metadata { mtime: at(1, 1), ..new };
    let differs = MetadataDifference { mtime: true, ..MetadataDifference::default() };
    let difference = place.root.difference(b"d", &entry(b"d", directory_kind(), &later)).unwrap();
    assert_eq!(difference, Difference::Metadata(differs));
}

#[test]
fn what_a_folder_gives_to_its_files_is_taken_away() {
    if !is_root() {
        return cannot("giving folders away");
    }
    let place = place();
    rustix::fs::chown(place.path(""), None, Some(rustix::fs::Gid::from_raw(55))).unwrap();
    rustix::fs::chmod(place.path(""), rustix::fs::Mode::from_raw_mode(0o2777)).unwrap();
    let default = acl_with_mask(7);
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(place.path(""), "system.posix_acl_default", &default, flags).unwrap();

    let wanted = metadata(0o640);
    whole(place.root.write_small(b"small", b"", &wanted));
    whole(place.root.new_file(b"new").unwrap().finish(&wanted));
    whole(place.root.create(b"fifo", &EntryKind::Fifo, &wanted));
    let folder = place.root.make_child(b"folder", false).unwrap();
    whole(folder.write_small(b"inside", b"", &wanted));
    whole(folder.finish(&wanted));
    for name in ["small", "new", "fifo", "folder/inside", "folder"] {
        assert_metadata(&place.path(name), &wanted);
        for acl in ["system.posix_acl_access", "system.posix_acl_default"] {
            assert_eq!(read_xattr(&place.path(name), acl), None, "{acl} of {name}");
        }
    }
}

#[test]
fn set_id_bits_come_after_the_owner_and_never_without() {
    if !is_root() {
        return cannot("giving files away");
    }
    let wanted = Metadata { uid: 1000, gid: 1000, ..metadata(0o6755) };
    let place = place();
    whole(place.root.write_small(b"f", b"program", &wanted));
    assert_metadata(&place.path("f"), &wanted);
    // In place, the bits are gone as soon as the first byte is written.
    let file = place.root.open_in_place(b"f", &wanted).unwrap();
    assert_eq!(lstat(&place.path("f")).mode() & 0o7777, 0o755);
    whole(file.finish(&wanted));
    assert_metadata(&place.path("f"), &wanted);

    // A change of owner takes the bits away, of a file that is there as well.
    let given = Metadata { uid: 2000, ..wanted.clone() };
    whole(place.root.set_metadata(b"f", &entry(b"f", file_kind(7), &given)));
    assert_metadata(&place.path("f"), &given);

    // Without owners, a program of user 1000 must not become one of root's.
    let place = place_with(TargetOptions { owner: false, ..TargetOptions::default() });
    whole(place.root.write_small(b"f", b"program", &wanted));
    assert_eq!(lstat(&place.path("f")).mode() & 0o7777, 0o755);
    assert_eq!(lstat(&place.path("f")).uid(), 0);
    let program = entry(b"f", file_kind(7), &wanted);
    assert_eq!(place.root.difference(b"f", &program).unwrap(), Difference::Same);
    assert!(!place.target.owners_refused());
}

#[test]
fn an_owner_that_is_no_number_is_refused_not_skipped() {
    let place = place();
    let wanted = Metadata { uid: u32::MAX, gid: u32::MAX, ..metadata(0o6755) };
    whole(place.root.write_small(b"f", b"", &wanted));
    assert_eq!(lstat(&place.path("f")).mode() & 0o7777, 0o755);
    assert!(place.target.owners_refused());
}

#[test]
fn owners_by_name() {
    if !is_root() {
        return cannot("giving files away");
    }
    let Some(nobody) = uzers::get_user_by_name("nobody") else {
        return cannot("user nobody");
    };
    let place = place_with(TargetOptions { by_name: true, ..TargetOptions::default() });
    let mut wanted = Metadata { uid: 7, gid: 8, ..metadata(0o600) };
    wanted.user = Arc::from(&b"nobody"[..]);
    wanted.group = Arc::from(&b"no such group here"[..]);
    whole(place.root.write_small(b"f", b"", &wanted));
    assert_eq!(lstat(&place.path("f")).uid(), nobody.uid());
    assert_eq!(lstat(&place.path("f")).gid(), 8);
    let same = place.root.difference(b"f", &entry(b"f", file_kind(0), &wanted)).unwrap();
    assert_eq!(same, Difference::Same);
}

#[test]
fn attributes_that_are_refused_are_said_once_for_their_class() {
    let place = place();
    // No file system knows such a namespace.
    let wanted = Metadata { xattrs: vec![xattr("nonsense.a", b"1")], ..metadata(0o600) };
    let problems = place.root.write_small(b"f", b"x", &wanted).unwrap();
    let [TargetError::Attribute { class: true, name, .. }] = problems.as_slice() else {
        panic!("{problems:?}");
    };
    assert_eq!(name, b"nonsense.a");
    assert_eq!(problems[0].path(), b"f");
    whole(place.root.write_small(b"g", b"x", &wanted));
    assert_metadata(&place.path("f"), &metadata(0o600));
    let same = place.root.difference(b"g", &entry(b"g", file_kind(1), &wanted)).unwrap();
    assert_eq!(same, Difference::Same);
    // Neither is it an error when attributes are not wanted at all.
    let place = place_with(TargetOptions { xattrs: false, ..TargetOptions::default() });
    whole(place.root.write_small(b"f", b"x", &wanted));
}
