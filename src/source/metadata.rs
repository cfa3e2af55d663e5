//! What there is to know about an entry besides name and content: owners and attributes.

use std::collections::HashMap;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, fgetxattr, flistxattr, getxattr, llistxattr, openat};
use rustix::io::{Errno, retry_on_intr};

use super::directory::handle_stat;
use super::{Directory, Kind, Result, SourceError, Stat};
use crate::format::tree::{Metadata, Xattr};
use crate::limits;

/// Names and values of one entry's attributes together, bytes: with the longest list of references
/// the entry still stays below `ENTRY_LEN_MAX`.
const XATTRS_LEN_MAX: usize = 1 << 20;

/// So many names are kept; hostile file systems have four billion owners.
const OWNERS_MAX: usize = 1 << 16;

type Cache = Mutex<HashMap<u32, Arc<[u8]>>>;

/// Names of users and groups, each asked for once.
#[derive(Debug, Default)]
pub struct Owners {
    users: Cache,
    groups: Cache,
}

impl Owners {
    /// Knows nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The user's name; empty if there is none.
    pub fn user(&self, uid: u32) -> Arc<[u8]> {
        cached(&self.users, uid, || {
            uzers::get_user_by_uid(uid).map(|user| user.name().as_bytes().to_vec())
        })
    }

    /// The group's name; empty if there is none.
    pub fn group(&self, gid: u32) -> Arc<[u8]> {
        cached(&self.groups, gid, || {
            uzers::get_group_by_gid(gid).map(|group| group.name().as_bytes().to_vec())
        })
    }
}

fn cached(cache: &Cache, id: u32, find: impl FnOnce() -> Option<Vec<u8>>) -> Arc<[u8]> {
    let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(name) = cache.get(&id) {
        return Arc::clone(name);
    }
    if cache.len() >= OWNERS_MAX {
        cache.clear();
    }
    let name = find().filter(|name| name.len() <= limits::OWNER_LEN_MAX).unwrap_or_default();
    let name: Arc<[u8]> = name.into();
    cache.insert(id, Arc::clone(&name));
    name
}

impl Directory {
    /// The metadata of an entry that `stat` describes, and what of it could not be read.
    ///
    /// Every attribute that the system lists is kept, ACLs, capabilities and security labels
    /// too; which of them may be set again is for the restore to decide.
    pub fn metadata(
        &self,
        name: &[u8],
        stat: &Stat,
        owners: &Owners,
    ) -> Result<(Metadata, Vec<SourceError>)> {
        let (xattrs, problems) = self.xattrs(name, stat, proc_is_mounted())?;
        Ok((metadata(stat, owners, xattrs), problems))
    }

    /// The metadata of the directory itself, and what of it could not be read.
    pub fn own_metadata(&self, owners: &Owners) -> (Metadata, Vec<SourceError>) {
        let (xattrs, problems) = open_xattrs(b".", self.handle());
        (metadata(self.own_stat(), owners, xattrs), problems)
    }

    /// One system call for an entry without attributes. If it has some, it is opened by its path
    /// only, and they are taken from exactly the inode that was looked at: a file swapped in
    /// meanwhile must not lend its capabilities to one that somebody else controls.
    fn xattrs(
        &self,
        name: &[u8],
        stat: &Stat,
        proc_is_mounted: bool,
    ) -> Result<(Vec<Xattr>, Vec<SourceError>)> {
        if !proc_is_mounted {
            return self.xattrs_without_proc(name, stat);
        }
        let path = format!("/proc/self/fd/{}/", self.handle().as_raw_fd());
        let path = [path.as_bytes(), name].concat();
        let list = match filled(|buffer| llistxattr(path.as_slice(), buffer)) {
            Err(Errno::NOENT) => return Err(SourceError::Vanished { path: name.to_vec() }),
            list => match listed(name, list) {
                Ok(list) => list,
                Err(problem) => return Ok((Vec::new(), vec![problem])),
            },
        };
        if list.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let handle = self.open_inode(name, stat, OFlags::PATH)?;
        let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
        Ok(values(name, &list, |attribute, buffer| getxattr(path.as_str(), attribute, buffer)))
    }

    /// Without /proc there is no safe path, and attributes can be read only through handles that
    /// are open for reading: those of files and directories.
    fn xattrs_without_proc(
        &self,
        name: &[u8],
        stat: &Stat,
    ) -> Result<(Vec<Xattr>, Vec<SourceError>)> {
        if !matches!(stat.kind, Kind::File | Kind::Directory) {
            return Ok((Vec::new(), Vec::new()));
        }
        let how = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let handle = match self.open_inode(name, stat, how) {
            Err(SourceError::Denied { source, .. }) => {
                return Ok((Vec::new(), vec![problem(name, b"", source)]));
            }
            handle => handle?,
        };
        Ok(open_xattrs(name, handle.as_fd()))
    }

    /// The inode that `stat` describes.
    fn open_inode(&self, name: &[u8], stat: &Stat, how: OFlags) -> Result<OwnedFd> {
        let flags = how | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = retry_on_intr(|| openat(self.handle(), name, flags, Mode::empty()))
            .map_err(|errno| SourceError::from_errno(name, errno))?;
        let opened = handle_stat(handle.as_fd(), name)?;
        // The number of an inode that is gone may be another one's by now.
        let same = opened.identity() == stat.identity()
            && (opened.kind, opened.uid) == (stat.kind, stat.uid);
        match same {
            true => Ok(handle),
            false => Err(SourceError::Changed { path: name.to_vec() }),
        }
    }
}

fn metadata(stat: &Stat, owners: &Owners, xattrs: Vec<Xattr>) -> Metadata {
    // A directory's links count its subdirectories on some file systems, and it has one name.
    let links = if stat.is_directory() { 1 } else { stat.links };
    Metadata {
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        user: owners.user(stat.uid),
        group: owners.group(stat.gid),
        mtime: stat.mtime,
        ctime: stat.ctime,
        inode: stat.inode,
        links,
        device: if links > 1 { stat.device } else { 0 },
        xattrs,
    }
}

/// The attributes of what is open for reading.
fn open_xattrs(name: &[u8], handle: BorrowedFd<'_>) -> (Vec<Xattr>, Vec<SourceError>) {
    match listed(name, filled(|buffer| flistxattr(handle, buffer))) {
        Ok(list) => values(name, &list, |attribute, b| fgetxattr(handle, attribute, b)),
        Err(problem) => (Vec::new(), vec![problem]),
    }
}

fn listed(
    name: &[u8],
    list: rustix::io::Result<Vec<u8>>,
) -> std::result::Result<Vec<u8>, SourceError> {
    match list {
        // Not a file system with attributes.
        Err(Errno::OPNOTSUPP) => Ok(Vec::new()),
        list => list.map_err(|errno| problem(name, b"", errno.into())),
    }
}

/// Attributes of links and devices can be read by path only, and a safe path leads through /proc.
fn proc_is_mounted() -> bool {
    static MOUNTED: OnceLock<bool> = OnceLock::new();
    *MOUNTED.get_or_init(|| std::fs::metadata("/proc/self/fd").is_ok())
}

/// Reads the attributes that a list names.
fn values(
    name: &[u8],
    list: &[u8],
    get: impl Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>,
) -> (Vec<Xattr>, Vec<SourceError>) {
    let mut attributes: Vec<&[u8]> =
        list.split(|byte| *byte == 0).filter(|attribute| !attribute.is_empty()).collect();
    attributes.sort_unstable();
    attributes.dedup();
    let (mut xattrs, mut problems, mut len) = (Vec::new(), Vec::new(), 0usize);
    for attribute in attributes {
        match filled(|buffer| get(attribute, buffer)) {
            Ok(value) => {
                let longer = len.saturating_add(attribute.len()).saturating_add(value.len());
                if longer > XATTRS_LEN_MAX
                    || xattrs.len() >= limits::XATTRS_MAX
                    || attribute.len() > limits::XATTR_NAME_LEN_MAX
                {
                    let why = io::Error::new(io::ErrorKind::FileTooLarge, "too many or too long");
                    problems.push(problem(name, attribute, why));
                    continue;
                }
                len = longer;
                xattrs.push(Xattr { name: attribute.to_vec(), value });
            }
            // Removed meanwhile.
            Err(Errno::NODATA) => {}
            Err(errno) => problems.push(problem(name, attribute, errno.into())),
        }
    }
    (xattrs, problems)
}

fn problem(name: &[u8], attribute: &[u8], source: io::Error) -> SourceError {
    SourceError::Attribute { path: name.to_vec(), attribute: attribute.to_vec(), source }
}

/// What a call writes into a buffer that is made larger until it fits. Most lists and values are
/// short, and no memory is taken for an empty one.
fn filled(call: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut short = [0u8; 1024];
    match call(&mut short) {
        Err(Errno::RANGE) => {}
        result => return result.map(|len| short.get(..len).unwrap_or_default().to_vec()),
    }
    let mut len = 64 << 10;
    while len <= XATTRS_LEN_MAX {
        let mut long = vec![0u8; len];
        match call(&mut long) {
            Err(Errno::RANGE) => len *= 4,
            result => {
                long.truncate(result?);
                return Ok(long);
            }
        }
    }
    Err(Errno::RANGE)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{is_root, place};
    use super::*;
    use rustix::fs::{XattrFlags, lsetxattr};
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    /// An ACL as the kernel keeps it: version 2, then tag, permissions and id of each entry.
    fn acl() -> Vec<u8> {
        let mut acl = vec![2, 0, 0, 0];
        let entries: [(u16, u16, u32); 5] = [
            (1, 6, u32::MAX),
            (2, 4, 1234),
            (4, 4, u32::MAX),
            (16, 4, u32::MAX),
            (32, 0, u32::MAX),
        ];
        for (tag, permissions, id) in entries {
            acl.extend(tag.to_le_bytes());
            acl.extend(permissions.to_le_bytes());
            acl.extend(id.to_le_bytes());
        }
        acl
    }

    #[test]
    fn attributes_are_kept_whole_and_sorted() {
        let (place, directory) = place();
        let file = place.path().join("f");
        fs::write(&file, b"").unwrap();
        fs::create_dir(place.path().join("d")).unwrap();
        symlink("f", place.path().join("l")).unwrap();
        let set = |path: &Path, name: &str, value: &[u8]| {
            lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
        };
        let large = vec![0xfe; 3_000];
        set(&file, "user.z", b"");
        set(&file, "user.a", b"\0\xff\n");
        // Longer than the first try's buffer, value and list both.
        set(&file, "user.large", &large);
        let names: Vec<String> = (0..5).map(|n| format!("user.{n}{}", "n".repeat(240))).collect();
        names.iter().for_each(|name| set(&place.path().join("d"), name, b"v"));
        let of = |name: &[u8]| -> Vec<(Vec<u8>, Vec<u8>)> {
            let stat = directory.stat(name).unwrap();
            let (metadata, problems) = directory.metadata(name, &stat, &Owners::new()).unwrap();
            assert!(problems.is_empty(), "{problems:?}");
            // Systems with security labels put one on everything.
            let mut xattrs = metadata.xattrs;
            xattrs.retain(|x| x.name != b"security.selinux");
            xattrs.into_iter().map(|x| (x.name, x.value)).collect()
        };
        let pair = |name: &str, value: &[u8]| (name.as_bytes().to_vec(), value.to_vec());
        let expected =
            [pair("user.a", b"\0\xff\n"), pair("user.large", &large), pair("user.z", b"")];
        assert_eq!(of(b"f"), expected);
        assert_eq!(of(b"d"), names.iter().map(|n| pair(n, b"v")).collect::<Vec<_>>());
        assert_eq!(of(b"l"), [], "a link's target has attributes, the link has none");
        if is_root() {
            let capability = [&[0, 0, 0, 2][..], &[0, 4, 0, 0], &[0; 12]].concat();
            let link = place.path().join("l");
            set(&file, "security.capability", &capability);
            set(&link, "trusted.on.link", b"1");
            set(&file, "system.posix_acl_access", &acl());
            set(&place.path().join("d"), "system.posix_acl_default", &acl());
            let mut found = of(b"f");
            found.retain(|(name, _)| !name.starts_with(b"user."));
            let expected =
                [pair("security.capability", &capability), pair("system.posix_acl_access", &acl())];
            assert_eq!(found, expected);
            assert_eq!(of(b"l"), [pair("trusted.on.link", b"1")]);
            assert_eq!(of(b"d")[0], pair("system.posix_acl_default", &acl()));
        }
    }

    #[test]
    fn attributes_of_a_file_swapped_in_are_not_taken() {
        let (place, directory) = place();
        fs::write(place.path().join("mine"), b"").unwrap();
        let stat = directory.stat(b"mine").unwrap();
        let other = place.path().join("other");
        fs::write(&other, b"").unwrap();
        lsetxattr(&other, "user.power", b"1", XattrFlags::empty()).unwrap();
        fs::rename(other, place.path().join("mine")).unwrap();
        let result = directory.metadata(b"mine", &stat, &Owners::new());
        assert!(matches!(result, Err(SourceError::Changed { .. })), "{result:?}");
        fs::remove_file(place.path().join("mine")).unwrap();
        let result = directory.metadata(b"mine", &stat, &Owners::new());
        assert!(matches!(result, Err(SourceError::Vanished { .. })), "{result:?}");
    }

    #[test]
    fn more_attributes_than_the_format_holds_are_problems() {
        let list: Vec<u8> = (0..20).flat_map(|n| format!("user.{n:02}\0").into_bytes()).collect();
        let long = 65_536;
        let (xattrs, problems) = values(b"f", &list, |_, buffer| {
            buffer.get_mut(..long).ok_or(Errno::RANGE)?.fill(1);
            Ok(long)
        });
        assert_eq!((xattrs.len(), problems.len()), (15, 5));
        assert!(xattrs.iter().all(|x| x.value == vec![1; long]));
        let list: Vec<u8> =
            (0..5_000).flat_map(|n| format!("user.{n:04}\0").into_bytes()).collect();
        let (xattrs, problems) = values(b"f", &list, |_, _| Ok(0));
        assert_eq!(
            (xattrs.len(), problems.len()),
            (limits::XATTRS_MAX, 5_000 - limits::XATTRS_MAX)
        );
        let (xattrs, problems) = values(b"f", b"a\0b\0c\0", |attribute, _| match attribute {
            b"a" => Err(Errno::NODATA),
            b"b" => Err(Errno::RANGE),
            _ => Ok(1),
        });
        assert_eq!(xattrs, [Xattr { name: b"c".to_vec(), value: vec![0] }]);
        assert!(
            matches!(&problems[..], [SourceError::Attribute { attribute, .. }] if attribute == b"b")
        );
    }

    #[test]
    fn names_of_owners_are_asked_for_once_and_not_kept_without_bound() {
        let cache = Cache::default();
        assert_eq!(&*cached(&cache, 7, || Some(b"seven".to_vec())), b"seven");
        assert_eq!(&*cached(&cache, 7, || panic!("it is known")), b"seven");
        assert_eq!(&*cached(&cache, 8, || Some(vec![b'x'; limits::OWNER_LEN_MAX + 1])), b"");
        for id in 0..OWNERS_MAX as u32 + 10 {
            cached(&cache, id, || None);
        }
        assert!(cache.lock().unwrap().len() <= OWNERS_MAX);
    }

    #[test]
    fn without_proc_files_and_directories_still_tell_their_attributes() {
        let (place, directory) = place();
        for name in ["f", "other"] {
            fs::write(place.path().join(name), b"").unwrap();
        }
        symlink("f", place.path().join("l")).unwrap();
        let value = |path: &str, value: &[u8]| {
            lsetxattr(place.path().join(path), "user.a", value, XattrFlags::empty()).unwrap();
        };
        value("f", b"1");
        value(".", b"2");
        let of = |name: &[u8]| -> Vec<Vec<u8>> {
            let (mut xattrs, problems) =
                directory.xattrs(name, &directory.stat(name).unwrap(), false).unwrap();
            assert!(problems.is_empty(), "{problems:?}");
            xattrs.retain(|x| x.name == b"user.a");
            xattrs.into_iter().map(|x| x.value).collect()
        };
        assert_eq!((of(b"f"), of(b".")), (vec![b"1".to_vec()], vec![b"2".to_vec()]));
        assert!(of(b"other").is_empty() && of(b"l").is_empty());
        let other = directory.stat(b"other").unwrap();
        assert!(matches!(directory.xattrs(b"f", &other, false), Err(SourceError::Changed { .. })));
    }
}
