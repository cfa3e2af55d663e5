//! Names that lead elsewhere, and ways through links.

use std::fs;
use std::path::Path;

use holdall::format::tree::Xattr;
use holdall::limits::NAME_LEN_MAX;
use holdall::ops::ls::ls;

use super::*;

/// Every path below a directory, with the contents of files.
fn seen(root: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let (mut seen, mut waiting) = (Vec::new(), vec![root.to_owned()]);
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            waiting.extend(kind.is_dir().then(|| path.clone()));
            let content = if kind.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            seen.push((path.strip_prefix(root).unwrap().to_owned(), content));
        }
    }
    seen.sort();
    seen
}

#[test]
fn names_that_no_directory_can_have_cost_their_listing_and_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let outside = place.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("f"), "mine").unwrap();
    let absolute = [outside.as_os_str().as_encoded_bytes(), b"/f"].concat();
    let long = vec![b'n'; NAME_LEN_MAX + 1];
    let bad: [&[&[u8]]; 12] = [
        &[b""],
        &[b"."],
        &[b".."],
        &[b"../outside"],
        &[b"../../outside/f"],
        &[b"/"],
        &[b"d/f"],
        &[b"f\0"],
        &[&absolute],
        &[&long],
        // Twice, and not in order.
        &[b"f", b"f"],
        &[b"g", b"f"],
    ];
    let mut hostile = Hostile::new();
    let inner = [hostile.file(b"f", b"hostile")];
    let mut top = Vec::new();
    for (number, names) in bad.iter().enumerate() {
        for kind in ["d", "f"] {
            let entries = names.iter().map(|name| match kind {
                "d" => hostile.directory(name, &inner),
                _ => hostile.file(name, b"hostile"),
            });
            let entries: Vec<Entry> = entries.collect();
            top.push(hostile.directory(format!("{kind}{number:02}").as_bytes(), &entries));
        }
    }
    top.push(hostile.file(b"good", b"good"));
    top.sort_by(|a, b| a.name.cmp(&b.name));
    let record = hostile.commit(&top);
    let repo = hostile.finish();
    let target = place.path().join("target");
    let (report, problems) = restored(&repo, &record, &target);
    assert_eq!(report.damage, 2 * bad.len() as u64, "{problems:?}");
    assert_eq!(seen(&outside), [("f".into(), b"mine".to_vec())]);
    let there = seen(&target);
    assert_eq!(there.len(), 2 * bad.len() + 1, "{there:?}");
    assert!(there.contains(&("good".into(), b"good".to_vec())));
    let names: Vec<_> = fs::read_dir(place.path()).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    let told = Silent::default();
    let listed = ls(&repo.repository, &record.snapshot, b"", true, &mut |_| Ok(()), &told).unwrap();
    assert_eq!((listed.entry_count, told.problems().len()), (there.len() as u64, 2 * bad.len()));
    assert_eq!(checked(&repo).touched.len(), 2 * bad.len());
}

#[test]
fn a_link_of_one_snapshot_is_no_way_for_the_next_one() {
    let place = tempfile::tempdir().unwrap();
    let outside = place.path().join("outside");
    fs::create_dir_all(outside.join("sub")).unwrap();
    fs::write(outside.join("f"), "mine").unwrap();
    let before = (seen(&outside), fs::metadata(&outside).unwrap().modified().unwrap());
    let targets = [outside.as_os_str().as_encoded_bytes(), b"../outside", b"/", b"."];
    for aim in targets {
        let target = place.path().join("target");
        let mut hostile = Hostile::new();
        let link = |name: &[u8]| entry(name, EntryKind::Symlink { target: aim.to_vec() });
        let first = hostile.commit(&[link(b"f"), link(b"l")]);
        let inner = [hostile.file(b"f", b"hostile")];
        let below = [hostile.directory(b"sub", &inner), hostile.file(b"z", b"hostile")];
        let (f, l) = (hostile.file(b"f", b"hostile"), hostile.directory(b"l", &below));
        let second = hostile.commit(&[f, l]);
        let repo = hostile.finish();
        assert_eq!(restored(&repo, &first, &target).0.damage, 0);
        let (report, problems) = restored(&repo, &second, &target);
        assert_eq!((report.damage, report.problems), (0, 0), "{problems:?}");
        assert_eq!(fs::read(target.join("l/sub/f")).unwrap(), b"hostile");
        assert!(fs::symlink_metadata(target.join("l")).unwrap().is_dir());
        let after = (seen(&outside), fs::metadata(&outside).unwrap().modified().unwrap());
        assert_eq!(before, after, "{aim:?}");
        fs::remove_dir_all(target).unwrap();
    }
}

#[test]
fn what_the_file_system_cannot_hold_costs_the_entry() {
    let mut hostile = Hostile::new();
    let long = vec![b'n'; NAME_LEN_MAX];
    let mut attributed = hostile.file(b"attributed", b"content");
    attributed.metadata.xattrs = [&b"a"[..], b"nonsense.of\xff", b"user.large"]
        .map(|name| Xattr { name: name.to_vec(), value: vec![1; 1 << 20] })
        .into();
    let mut old = hostile.file(b"old", b"content");
    old.metadata.mtime.seconds = i64::MIN;
    let far = entry(b"far", EntryKind::Symlink { target: vec![b'x'; 65_536] });
    let inner = [hostile.file(b"f", b"content")];
    let entries = [
        attributed,
        far,
        hostile.file(b"good", b"good"),
        hostile.directory(&[b"n", &long[1..]].concat(), &inner),
        old,
    ];
    let record = hostile.commit(&entries);
    let repo = hostile.finish();
    let place = tempfile::tempdir().unwrap();
    let (report, problems) = restored(&repo, &record, &place.path().join("target"));
    assert!(report.damage == 0 && report.problems >= 3, "{problems:?}");
    let there: Vec<_> = seen(&place.path().join("target")).into_iter().map(|(p, _)| p).collect();
    assert_eq!(there, ["attributed", "good", "old"].map(std::path::PathBuf::from));
}
