use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::ops::backup::{BackupOptions, Input, backup};
use crate::ops::diff::DiffItem;
use crate::ops::sample::{CHUNK, Sample, noise};
use crate::progress::Silent;
use crate::repo::SnapshotRecord;

struct Place {
    sample: Sample,
    folder: tempfile::TempDir,
    record: SnapshotRecord,
}

fn place() -> Place {
    let sample = Sample::new(1);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("d/deep/er")).unwrap();
    fs::create_dir(at("was-folder")).unwrap();
    fs::write(at("was-folder/x"), b"").unwrap();
    fs::write(at("d/changed"), noise(1, 30 * CHUNK)).unwrap();
    fs::write(at("d/same"), [&noise(2, 30 * CHUNK)[..], &[0; 70_000]].concat()).unwrap();
    fs::write(at("d/deep/er/gone"), b"12345").unwrap();
    symlink("a", at("link")).unwrap();
    let path = folder.path().as_os_str().as_bytes().to_vec();
    let options = BackupOptions::default();
    let report = backup(&sample.repository, Input::Paths(vec![path]), &options, &Silent::default());
    let record = report.unwrap().record.unwrap();
    Place { sample, folder, record }
}

impl Place {
    fn differences(&self, options: &LiveOptions, progress: &Silent) -> (Vec<String>, DiffReport) {
        let live = self.folder.path();
        let path = live.as_os_str().as_bytes();
        let mut lines = Vec::new();
        let each = &mut |item: &DiffItem<'_>| {
            let below = item.path.strip_prefix(path).unwrap();
            let sign = match item.difference {
                Difference::Added(_) => '+',
                Difference::Removed(_) => '-',
                Difference::Changed { kind: true, .. } => 'K',
                Difference::Changed { content: true, .. } => 'C',
                Difference::Changed { .. } => 'm',
            };
            lines.push(format!("{sign}{}", crate::text::escape(below)));
            Ok(())
        };
        let before = (&self.record.snapshot, path);
        let repository = &self.sample.repository;
        let report = diff_live(repository, before, live, options, each, progress).unwrap();
        (lines, report)
    }
}

#[test]
fn nothing_changed_is_no_difference_read_or_unread() {
    let place = place();
    for read_all in [false, true] {
        let progress = Silent::default();
        let options = LiveOptions { read_all, ..LiveOptions::default() };
        let (lines, report) = place.differences(&options, &progress);
        assert!(lines.is_empty(), "{lines:?}");
        assert_eq!(report, DiffReport::default());
        assert!(!read_all || progress.count(Counter::Bytes) > 60 * CHUNK as u64);
        assert!(progress.problems().is_empty());
    }
}

#[test]
fn every_kind_of_difference() {
    let place = place();
    let at = |name: &str| place.folder.path().join(name);
    let mut changed = noise(1, 30 * CHUNK);
    changed[29 * CHUNK] ^= 1;
    fs::write(at("d/changed"), &changed).unwrap();
    // The same bytes, written again, are the same content with another time.
    fs::write(at("d/same"), [&noise(2, 30 * CHUNK)[..], &[0; 70_000]].concat()).unwrap();
    fs::remove_dir_all(at("d/deep")).unwrap();
    fs::remove_dir_all(at("was-folder")).unwrap();
    fs::write(at("was-folder"), b"").unwrap();
    fs::remove_file(at("link")).unwrap();
    symlink("b", at("link")).unwrap();
    fs::create_dir(at("new")).unwrap();
    fs::write(place.folder.path().join(std::ffi::OsStr::from_bytes(b"new/\xff")), b"1").unwrap();
    fs::write(at("new/left-out.tmp"), b"1").unwrap();
    fs::set_permissions(place.folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let mut options = LiveOptions::default();
    options.excludes.add_pattern(b"*.tmp").unwrap();
    let progress = Silent::default();
    let (mut lines, report) = place.differences(&options, &progress);
    // Times of directories that changed may or may not differ on a coarse clock.
    lines.retain(|line| line != "m/d");
    assert_eq!(
        lines,
        [
            "m",
            "C/d/changed",
            "-/d/deep",
            "-/d/deep/er",
            "-/d/deep/er/gone",
            "m/d/same",
            "C/link",
            "+/new",
            "+/new/\\xff",
            "K/was-folder",
            "-/was-folder/x",
        ]
    );
    assert_eq!((report.added.file_count, report.removed.bytes), (1, 5));
    assert_eq!(report.unknown_count, 0);
    assert!(progress.problems().is_empty());
}

#[test]
fn a_damaged_listing_makes_what_is_there_unknown() {
    let place = place();
    let path = [place.folder.path().as_os_str().as_bytes(), b"/d"].concat();
    let listing = place.sample.content_of(&place.record, &path);
    place.sample.break_chunk(&listing.refs[0]);
    let progress = Silent::default();
    let (lines, report) = place.differences(&LiveOptions::default(), &progress);
    assert!(lines.is_empty(), "{lines:?}");
    assert_eq!(report.unknown_count, 3);
    assert!(progress.problems().len() == 1 && progress.problems()[0].what == path);
}

#[test]
fn a_tree_that_is_not_there_is_an_error() {
    let place = place();
    let nowhere = place.folder.path().join("none/below");
    let path = place.folder.path().as_os_str().as_bytes();
    let ended = diff_live(
        &place.sample.repository,
        (&place.record.snapshot, path),
        &nowhere,
        &LiveOptions::default(),
        &mut |_| Ok(()),
        &Silent::default(),
    );
    assert!(matches!(ended, Err(OpsError::Source { .. })));
}
