//! The one TOML file: what options and the environment leave open.
//!
//! Names are those of the long options; options of a command stand in a table of its name. A name
//! that is not known is a mistake, told with its place: a setting that is not heeded because it is
//! mistyped would be noticed when it is too late.

mod error;
mod reader;

use std::ffi::OsString;
use std::num::NonZeroU64;
use std::path::PathBuf;

pub use error::{Mistake, Near, SettingsError};
use reader::{Entry, Reader};

use crate::text;

/// Longest file, bytes; and as much may come into it from variables.
pub const FILE_LEN_MAX: usize = 256 << 10;

/// Most threads that can be asked for.
pub const THREADS_MAX: u16 = 256;

/// Gives the value of an environment variable.
pub type Lookup<'a> = dyn Fn(&str) -> Option<OsString> + 'a;

/// Where something stands in the file, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

/// A value that is judged elsewhere, with its place for whoever finds it wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub place: Place,
}

/// What the file says. Paths are as they are written there: relative ones start at its directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// The repository: a path or a URL.
    pub repo: Option<Placed<OsString>>,
    /// A key file.
    pub key_file: Option<PathBuf>,
    /// A file with the password.
    pub password_file: Option<PathBuf>,
    /// A command that prints the password.
    pub password_command: Option<OsString>,
    /// Where the local index is.
    pub cache_dir: Option<PathBuf>,
    /// How many threads work.
    pub threads: Option<u16>,
    /// Most bytes a second that are written to the repository.
    pub limit_upload: Option<NonZeroU64>,
    /// Most bytes a second that are read from it.
    pub limit_download: Option<NonZeroU64>,
    /// The name of a time zone.
    pub timezone: Option<Placed<String>>,
    /// The table `[backup]`.
    pub backup: BackupSettings,
}

/// What holds for every backup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackupSettings {
    /// Patterns of what is left out.
    pub exclude: Vec<Placed<OsString>>,
    /// Files of such patterns.
    pub exclude_file: Vec<PathBuf>,
    /// Leave out the content of directories that are marked as caches.
    pub exclude_caches: bool,
    /// Leave out files longer than this, bytes.
    pub exclude_larger_than: Option<u64>,
    /// Stay in the file systems that the paths are in.
    pub one_file_system: bool,
    /// How well to compress, as a word or a level.
    pub compression: Option<Placed<String>>,
}

/// Every name that is known, with the table in which it stands.
const NAMES: &[(&str, &str)] = &[
    ("", "repo"),
    ("", "key-file"),
    ("", "password-file"),
    ("", "password-command"),
    ("", "cache-dir"),
    ("", "threads"),
    ("", "limit-upload"),
    ("", "limit-download"),
    ("", "timezone"),
    ("", "backup"),
    ("backup", "exclude"),
    ("backup", "exclude-file"),
    ("backup", "exclude-caches"),
    ("backup", "exclude-larger-than"),
    ("backup", "one-file-system"),
    ("backup", "compression"),
];

impl Settings {
    /// What a file says; `${NAME}` in its texts stands for what `lookup` gives for the name.
    pub fn parse(file: &[u8], lookup: &Lookup<'_>) -> Result<Self, SettingsError> {
        let mut settings = Self::default();
        let mut reader = Reader::new(file, lookup)?;
        let document = reader.document()?;
        for entry in reader.entries(document.as_table()) {
            settings.take(&mut reader, &entry)?;
        }
        Ok(settings)
    }

    fn take(&mut self, reader: &mut Reader<'_>, entry: &Entry<'_>) -> Result<(), SettingsError> {
        match entry.name {
            "repo" => {
                let value = reader.path(entry)?.into_os_string();
                self.repo = Some(Placed { value, place: entry.place });
            }
            "key-file" => self.key_file = Some(reader.path(entry)?),
            "password-file" => self.password_file = Some(reader.path(entry)?),
            "password-command" => self.password_command = Some(reader.text(entry)?),
            "cache-dir" => self.cache_dir = Some(reader.path(entry)?),
            "threads" => self.threads = Some(threads(reader, entry)?),
            "limit-upload" => self.limit_upload = Some(reader.size(entry, text::parse_rate)?),
            "limit-download" => self.limit_download = Some(reader.size(entry, text::parse_rate)?),
            "timezone" => {
                let value = reader.word(entry, "the name of a time zone")?;
                self.timezone = Some(Placed { value, place: entry.place });
            }
            "backup" => {
                for entry in reader.table(entry)? {
                    self.backup.take(reader, &entry)?;
                }
            }
            _ => return Err(unknown("", entry)),
        }
        Ok(())
    }
}

impl BackupSettings {
    fn take(&mut self, reader: &mut Reader<'_>, entry: &Entry<'_>) -> Result<(), SettingsError> {
        match entry.name {
            "exclude" => {
                for entry in reader.list(entry)? {
                    let value = reader.text(&entry)?;
                    self.exclude.push(Placed { value, place: entry.place });
                }
            }
            "exclude-file" => {
                for entry in reader.list(entry)? {
                    self.exclude_file.push(reader.path(&entry)?);
                }
            }
            "exclude-caches" => self.exclude_caches = reader.flag(entry)?,
            "exclude-larger-than" => {
                self.exclude_larger_than = Some(reader.size(entry, text::parse_size)?);
            }
            "one-file-system" => self.one_file_system = reader.flag(entry)?,
            "compression" => {
                let value = reader.word(entry, "a word or a number")?;
                self.compression = Some(Placed { value, place: entry.place });
            }
            _ => return Err(unknown("backup", entry)),
        }
        Ok(())
    }
}

fn threads(reader: &mut Reader<'_>, entry: &Entry<'_>) -> Result<u16, SettingsError> {
    const EXPECTED: &str = "a number from 1 to 256";
    let number = reader.word(entry, EXPECTED)?.parse().ok();
    let number = number.filter(|number| (1..=THREADS_MAX).contains(number));
    number.ok_or_else(|| entry.is_not(EXPECTED))
}

fn unknown(table: &'static str, entry: &Entry<'_>) -> SettingsError {
    // A password would be mistaken for password-file otherwise.
    let mistake = match entry.name {
        "password" => Mistake::Password,
        name => {
            let near = Near::find(table, name, NAMES);
            Mistake::Unknown { table, name: text::escape(name.as_bytes()), near }
        }
    };
    SettingsError { place: entry.key, mistake }
}

#[cfg(test)]
mod tests;
