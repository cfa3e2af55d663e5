//! File systems that hold no files: the kernel's views of itself.

use rustix::fs::fstatfs;

use super::{Directory, Result, SourceError};

/// Magic numbers of such file systems (linux/magic.h). Real ones in memory (tmpfs, ramfs) and
/// stacked ones (overlay) are not among them.
const PSEUDO: [(u64, &str); 24] = [
    (0x0000_9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x0027_e0eb, "cgroup"),
    (0x6367_7270, "cgroup2"),
    (0x6462_6720, "debugfs"),
    (0x7472_6163, "tracefs"),
    (0x7363_6673, "securityfs"),
    (0xcafe_4a11, "bpf"),
    (0x6165_676c, "pstore"),
    (0x1980_0202, "mqueue"),
    (0x9584_58f6, "hugetlbfs"),
    (0x6573_5543, "fusectl"),
    (0x6265_6570, "configfs"),
    (0x0000_0187, "autofs"),
    (0x4249_4e4d, "binfmt_misc"),
    (0x6e73_6673, "nsfs"),
    (0x6e66_7364, "nfsd"),
    (0xde5e_81e4, "efivarfs"),
    (0xf97c_ff8c, "selinuxfs"),
    (0x4341_5d53, "smackfs"),
    (0x6759_6969, "rpc_pipefs"),
    (0x0000_1cd1, "devpts"),
    (0x6c6f_6f70, "binder"),
    (0x0765_5821, "resctrl"),
];

const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;

/// The type of the directory's file system if that is one of the kernel's views of itself, whose
/// content is no one's data. To be asked where a directory lies on another device than its parent.
pub fn pseudo_file_system(directory: &Directory) -> Result<Option<&'static str>> {
    let system =
        fstatfs(directory.handle()).map_err(|errno| SourceError::from_errno(b".", errno))?;
    // 32 bits by definition, sign-extended on some processors.
    let magic = system.f_type as u64 & 0xffff_ffff;
    if magic == TMPFS || magic == RAMFS {
        // devtmpfs says that it is a tmpfs; only the table of mounts tells them apart.
        let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
        let device = directory.own_stat().device;
        return Ok(mount_type(&table, device).filter(|t| *t == b"devtmpfs").map(|_| "devtmpfs"));
    }
    Ok(PSEUDO.iter().find(|(number, _)| *number == magic).map(|(_, name)| *name))
}

/// The type of the file system with this device number, from the table of mounts (`man 5 proc`:
/// the third field is the device, the field after a lone hyphen the type).
fn mount_type(table: &[u8], device: u64) -> Option<&[u8]> {
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    table.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let found = fields.nth(2)? == device.as_bytes();
        fields.find(|field| *field == b"-")?;
        fields.next().filter(|_| found)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_table_of_mounts_tells_devtmpfs_from_tmpfs() {
        let table = b"22 1 0:21 / /proc rw shared:5 - proc proc rw\n\
            23 1 0:6 / /dev rw,nosuid shared:2 master:1 - devtmpfs udev rw,size=1\n\
            24 1 8:1 / /a\\040- rw - ext4 /dev/sda1 rw\n\
            25 1 0:23 / /run rw - tmpfs tmpfs rw\n";
        let of = |major, minor| mount_type(table, rustix::fs::makedev(major, minor));
        assert_eq!(of(0, 6), Some(&b"devtmpfs"[..]));
        assert_eq!(of(0, 23), Some(&b"tmpfs"[..]));
        assert_eq!(of(8, 1), Some(&b"ext4"[..]));
        assert_eq!(of(9, 9), None);
        assert_eq!(mount_type(b"1 1 0:6\nx\n\n", rustix::fs::makedev(0, 6)), None);
    }

    #[test]
    fn the_kernels_views_of_itself_are_recognised() {
        let of = |path: &str| {
            pseudo_file_system(&Directory::open_path(Path::new(path)).unwrap()).unwrap()
        };
        assert_eq!(of("/proc"), Some("proc"));
        assert_eq!(of("/proc/self/task"), Some("proc"));
        assert_eq!(of("/sys"), Some("sysfs"));
        let real = tempfile::tempdir().unwrap();
        assert_eq!(of(real.path().to_str().unwrap()), None);
    }
}
