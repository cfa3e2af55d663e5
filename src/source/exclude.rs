//! What is left out.

use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Directory, Identity, Kind, Names, Pattern, Result, SourceError, Stat};
use crate::limits;

/// The file that marks a directory as a cache (<https://bford.info/cachedir/>).
pub const CACHE_TAG: &[u8] = b"CACHEDIR.TAG";
const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// Longest file of patterns, bytes.
const PATTERN_FILE_LEN_MAX: u64 = 16 << 20;

/// What becomes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is taken.
    Take,
    /// A directory that is taken without what is in it.
    TakeEmpty(Reason),
    /// It is left out, with everything below it.
    Skip(Reason),
}

/// Why something is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A pattern says so: its number in the order of adding.
    Pattern(usize),
    /// It is longer than wanted.
    TooLarge,
    /// It lies in another file system than the start.
    OtherFileSystem,
    /// It is the repository or the cache that the backup itself uses.
    Own,
}

/// What is left out. Patterns are asked in order and the last one that matches decides; what lies
/// below a directory that is left out is never asked about, so nothing there comes back.
#[derive(Debug, Default)]
pub struct Excludes {
    /// Leave out the content of directories that are marked as caches.
    pub caches: bool,
    /// Leave out files longer than this, bytes.
    pub larger_than: Option<u64>,
    /// Stay in the file system of the start.
    pub one_file_system: bool,
    rules: Vec<(Pattern, AtomicU64)>,
    own: Vec<Identity>,
}

impl Excludes {
    /// Leaves nothing out yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a pattern.
    pub fn add_pattern(&mut self, pattern: &[u8]) -> Result<()> {
        self.add(pattern, b"", 0)
    }

    /// Adds the patterns of a file: one a line, without the blanks around it; empty lines and
    /// lines that begin with `#` are passed over. `\#` and `\!` begin a name with these.
    pub fn add_file(&mut self, path: &Path) -> Result<()> {
        let name = path.as_os_str().as_bytes();
        let mut text = Vec::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(PATTERN_FILE_LEN_MAX + 1).read_to_end(&mut text))
            .map_err(|error| SourceError::from_io(name, error))?;
        super::directory::within(name, "the file", text.len() as u64, PATTERN_FILE_LEN_MAX)?;
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
        for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = trimmed(line);
            if !line.is_empty() && !line.starts_with(b"#") {
                self.add(line, name, number + 1)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, text: &[u8], file: &[u8], line: usize) -> Result<()> {
        let (file, wrong) = (file.to_vec(), text.to_vec());
        let pattern = match self.rules.len() < limits::LIST_MAX {
            true => Pattern::parse(text),
            false => Err("there are too many patterns"),
        };
        let pattern =
            pattern.map_err(|why| SourceError::Pattern { file, line, pattern: wrong, why })?;
        self.rules.push((pattern, AtomicU64::new(0)));
        Ok(())
    }

    /// Leaves out a directory of our own under whatever name and through whatever mount a walk
    /// comes upon it. One that does not exist is fine.
    pub fn add_own(&mut self, path: &Path) -> Result<()> {
        match Directory::open_path(path) {
            Ok(directory) => self.own.push(directory.own_stat().identity()),
            Err(SourceError::Vanished { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// What becomes of the entry `name` of the directory with the absolute path `parent`, in a
    /// walk that started on the file system `device`.
    pub fn verdict(&self, parent: &[u8], name: &[u8], stat: &Stat, device: u64) -> Verdict {
        let is_directory = stat.is_directory();
        if self.own.contains(&stat.identity()) {
            return Verdict::Skip(Reason::Own);
        }
        let mut rules = self.rules.iter().enumerate().rev();
        if let Some((number, (pattern, count))) =
            rules.find(|(_, (pattern, _))| pattern.matches(parent, name, is_directory))
        {
            count.fetch_add(1, Ordering::Relaxed);
            if !pattern.is_negated() {
                return Verdict::Skip(Reason::Pattern(number));
            }
        }
        if self.one_file_system && stat.device != device {
            return match is_directory {
                true => Verdict::TakeEmpty(Reason::OtherFileSystem),
                false => Verdict::Skip(Reason::OtherFileSystem),
            };
        }
        match self.larger_than {
            Some(limit) if stat.kind == Kind::File && stat.size > limit => {
                Verdict::Skip(Reason::TooLarge)
            }
            _ => Verdict::Take,
        }
    }

    /// Whether of this directory only the tag is taken that marks it as a cache.
    pub fn keeps_only_tag(&self, directory: &Directory, names: &Names) -> bool {
        self.caches && names.contains(CACHE_TAG) && is_cache(directory).unwrap_or(false)
    }

    /// Every pattern in the order of adding, and how many entries it decided about.
    pub fn counts(&self) -> impl Iterator<Item = (&Pattern, u64)> {
        self.rules.iter().map(|(pattern, count)| (pattern, count.load(Ordering::Relaxed)))
    }
}

/// A tag counts if it is a regular file that begins with the signature.
fn is_cache(directory: &Directory) -> Result<bool> {
    let stat = directory.stat(CACHE_TAG)?;
    let mut start = [0; CACHE_SIGNATURE.len()];
    let count = directory.open_file(CACHE_TAG, &stat)?.read_at(0, &mut start)?;
    Ok(start.get(..count) == Some(CACHE_SIGNATURE))
}

/// A line without the blanks around it; one after a backslash belongs to the pattern.
fn trimmed(line: &[u8]) -> &[u8] {
    let line = line.trim_ascii_start();
    let short = line.trim_ascii_end();
    match short.last() {
        Some(b'\\') => line.get(..(short.len() + 1).min(line.len())).unwrap_or(line),
        _ => short,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::place;
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn verdicts() {
        let (place, directory) = place();
        fs::create_dir(place.path().join("repo")).unwrap();
        fs::write(place.path().join("big"), [0; 100]).unwrap();
        let (dir, big) = (directory.stat(b"repo").unwrap(), directory.stat(b"big").unwrap());
        let mut excludes = Excludes::new();
        assert_eq!(excludes.verdict(b"/a", b"b", &big, big.device), Verdict::Take);
        let list =
            b"\xef\xbb\xbf# comment\r\n\n  *.tmp  \r\n!keep.tmp\n/a/cache/\n\\#x\nend\\ \n\\!y";
        fs::write(place.path().join("list"), list).unwrap();
        excludes.add_file(&place.path().join("list")).unwrap();
        excludes.add_pattern(b"last.tmp").unwrap();
        excludes.larger_than = Some(100);
        excludes.add_own(&place.path().join("repo")).unwrap();
        excludes.add_own(&place.path().join("absent")).unwrap();
        // Another directory: `dir` itself is the repository.
        let other = Stat { inode: dir.inode + 1_000_000, ..dir };
        let larger = Stat { size: 101, ..big };
        let skip = |number| Verdict::Skip(Reason::Pattern(number));
        let table: [(&str, &str, &Stat, Verdict); 13] = [
            ("/a", "x.tmp", &big, skip(0)),
            ("/a", "x.tmp", &other, skip(0)),
            ("/a", "keep.tmp", &big, Verdict::Take),
            ("/a", "last.tmp", &big, skip(5)),
            ("/a", "cache", &other, skip(2)),
            ("/a", "cache", &big, Verdict::Take),
            ("/", "cache", &other, Verdict::Take),
            ("/a", "#x", &big, skip(3)),
            ("/a", "end ", &big, skip(4)),
            ("/a", "y", &larger, Verdict::Skip(Reason::TooLarge)),
            ("/a", "keep.tmp", &larger, Verdict::Skip(Reason::TooLarge)),
            ("/a", "y", &Stat { size: 101, ..other }, Verdict::Take),
            ("/a", "anything", &dir, Verdict::Skip(Reason::Own)),
        ];
        assert_eq!(excludes.counts().count(), 7);
        let table = table.map(|(parent, name, stat, verdict)| match verdict {
            // `\!y` stands between the file's last and the one given by itself.
            Verdict::Skip(Reason::Pattern(5)) => (parent, name, stat, skip(6)),
            verdict => (parent, name, stat, verdict),
        });
        for (parent, name, stat, verdict) in table {
            let found = excludes.verdict(parent.as_bytes(), name.as_bytes(), stat, stat.device);
            assert_eq!(found, verdict, "{parent} {name}");
        }
        assert_eq!(excludes.verdict(b"/a", b"!y", &big, big.device), skip(5));
        let counts: Vec<u64> = excludes.counts().map(|(_, count)| count).collect();
        assert_eq!(counts, [2, 2, 1, 1, 1, 1, 1]);
        assert_eq!(excludes.verdict(b"/a", b"b", &other, other.device ^ 1), Verdict::Take);
        excludes.one_file_system = true;
        let elsewhere = |stat| excludes.verdict(b"/a", b"b", stat, other.device ^ 1);
        assert_eq!(elsewhere(&other), Verdict::TakeEmpty(Reason::OtherFileSystem));
        assert_eq!(elsewhere(&big), Verdict::Skip(Reason::OtherFileSystem));
    }

    #[test]
    fn bad_patterns_are_named_with_their_place() {
        let (place, _) = place();
        let list = place.path().join("list");
        fs::write(&list, b"fine\n\n[a\n").unwrap();
        let error = Excludes::new().add_file(&list).unwrap_err();
        assert!(matches!(&error, SourceError::Pattern { line: 3, .. }));
        let said = error.to_string();
        assert!(said.ends_with("list\" line 3: pattern \"[a\": \"[\" without \"]\""), "{said}");
        let error = Excludes::new().add_pattern(b"\x1b\\").unwrap_err();
        assert_eq!(error.to_string(), "pattern \"\\x1b\\\\\": nothing after \"\\\"");
        let missing = Excludes::new().add_file(&place.path().join("absent"));
        assert!(matches!(missing, Err(SourceError::Vanished { .. })));
    }

    #[test]
    fn caches_are_known_by_a_true_tag() {
        let (place, directory) = place();
        let tag = place.path().join("CACHEDIR.TAG");
        let mut excludes = Excludes::new();
        let tagged =
            |excludes: &Excludes| excludes.keeps_only_tag(&directory, &directory.names().unwrap());
        excludes.caches = true;
        assert!(!tagged(&excludes));
        fs::write(&tag, b"Signature: 8a477f597d28d172789f06886806bc5").unwrap();
        assert!(!tagged(&excludes));
        fs::write(&tag, b"Signature: 8a477f597d28d172789f06886806bc55\n# more").unwrap();
        assert!(tagged(&excludes));
        fs::rename(&tag, place.path().join("real")).unwrap();
        symlink("real", &tag).unwrap();
        assert!(!tagged(&excludes), "a link is no tag");
        fs::remove_file(&tag).unwrap();
        fs::rename(place.path().join("real"), &tag).unwrap();
        assert!(tagged(&excludes));
        excludes.caches = false;
        assert!(!tagged(&excludes));
    }
}
