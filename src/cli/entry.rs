//! An entry of a snapshot, as people and programs are told of it.

use jiff::tz::TimeZone;
use serde::Serialize;

use super::json::{hex_of, text_of};
use crate::calendar;
use crate::format::tree::{Entry, EntryKind};
use crate::text;

/// What an entry is.
pub fn kind_name(kind: &EntryKind) -> &'static str {
    match kind {
        EntryKind::File { .. } => "file",
        EntryKind::Directory { .. } => "directory",
        EntryKind::Symlink { .. } => "symlink",
        EntryKind::Fifo => "fifo",
        EntryKind::Socket => "socket",
        EntryKind::CharDevice { .. } => "char_device",
        EntryKind::BlockDevice { .. } => "block_device",
    }
}

/// An entry with its path.
#[derive(Debug, Serialize)]
pub struct JsonEntry {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    kind: &'static str,
    size: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    user: String,
    group: String,
    mtime: String,
    links: u64,
    target: Option<String>,
    unstable: bool,
}

impl JsonEntry {
    /// One as it is told to programs.
    pub fn new(path: &[u8], entry: &Entry, zone: &TimeZone) -> Self {
        let metadata = &entry.metadata;
        Self {
            path: text_of(path),
            path_hex: hex_of(path),
            kind: kind_name(&entry.kind),
            size: entry.size(),
            mode: metadata.mode,
            uid: metadata.uid,
            gid: metadata.gid,
            user: text_of(&metadata.user),
            group: text_of(&metadata.group),
            mtime: calendar::rfc3339(metadata.mtime, zone),
            links: metadata.links,
            target: match &entry.kind {
                EntryKind::Symlink { target } => Some(text_of(target)),
                _ => None,
            },
            unstable: matches!(entry.kind, EntryKind::File { unstable: true, .. }),
        }
    }
}

/// "-rw-r--r--", as everyone knows it.
pub fn mode_text(entry: &Entry) -> String {
    let kind = match entry.kind {
        EntryKind::File { .. } => '-',
        EntryKind::Directory { .. } => 'd',
        EntryKind::Symlink { .. } => 'l',
        EntryKind::Fifo => 'p',
        EntryKind::Socket => 's',
        EntryKind::CharDevice { .. } => 'c',
        EntryKind::BlockDevice { .. } => 'b',
    };
    let mode = entry.metadata.mode;
    let mut text = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
        });
    }
    text
}

/// The path, with a link's target.
pub fn path_text(path: &[u8], entry: &Entry) -> String {
    let path = text::escape(path);
    match &entry.kind {
        EntryKind::Symlink { target } => format!("{path} -> {}", text::escape(target)),
        _ => path,
    }
}

/// Mode, owner, size, time and path in one line.
pub fn long_line(path: &[u8], entry: &Entry, zone: &TimeZone) -> String {
    let metadata = &entry.metadata;
    let name = |name: &[u8], number: u32| match name {
        [] => number.to_string(),
        name => text::escape(name),
    };
    format!(
        "{} {:>8} {:>8} {:>12} {} {}",
        mode_text(entry),
        name(&metadata.user, metadata.uid),
        name(&metadata.group, metadata.gid),
        entry.size(),
        calendar::show_time(metadata.mtime, zone),
        path_text(path, entry)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tree::{Metadata, Refs};

    #[test]
    fn modes() {
        for (mode, text) in [
            (0o644, "-rw-r--r--"),
            (0o4755, "-rwsr-xr-x"),
            (0o6640, "-rwSr-S---"),
            (0o1777, "-rwxrwxrwt"),
            (0o1776, "-rwxrwxrwT"),
        ] {
            let kind = EntryKind::File { content: Refs::default(), unstable: false };
            let metadata = Metadata { mode, ..Metadata::default() };
            assert_eq!(mode_text(&Entry { name: b"f".to_vec(), kind, metadata }), text);
        }
    }
}
