//! Where the file of settings is, and what it says.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::context::show_path;
use super::error::{Exit, Failure, Result};
use super::places::{Places, variable};
use super::secrets::{PASSWORD_VARIABLE, is_open_to_others};
use crate::settings::{FILE_LEN_MAX, Place, Settings};

/// The file of settings, or what stands for it where there is none.
#[derive(Debug, Default)]
pub struct SettingsFile {
    /// What it says.
    pub settings: Settings,
    path: PathBuf,
}

impl SettingsFile {
    /// The one that an option or the environment names, which must be there, or else the one at
    /// its usual place, which may be missing.
    pub fn read(option: Option<&Path>, places: &Places) -> Result<Self> {
        let named = option.map(Path::to_owned);
        let named = named.or_else(|| variable("HOLDALL_CONFIG").map(PathBuf::from));
        let must_exist = named.is_some();
        let path = named.unwrap_or_else(|| places.settings());
        let bytes = match read_bounded(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => match must_exist {
                false => return Ok(Self::default()),
                true => {
                    let failure = Failure::file("read the settings in", &path, &error);
                    let hint = "name another file with --config, or /dev/null for none";
                    return Err(Failure { exit: Exit::Usage, ..failure.hint(hint) });
                }
            },
            Err(error) => return Err(Failure::file("read the settings in", &path, &error)),
        };
        let mut file = Self { settings: Settings::default(), path };
        // The password would come into command lines, which everybody can read.
        let lookup = |name: &str| variable(name).filter(|_| name != PASSWORD_VARIABLE);
        file.settings = Settings::parse(&bytes, &lookup).map_err(|error| {
            let hint = error.hint();
            let hint = hint.unwrap_or_else(|| "`holdall help config` tells what is known".into());
            file.at(error.place, Failure::usage(error.mistake.to_string()).hint(hint))
        })?;
        Ok(file)
    }

    /// A path that stands in it, which starts at its directory.
    pub fn path(&self, path: &Path) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
    }

    /// A failure with the place in this file that is the reason for it.
    pub fn at(&self, place: Place, failure: Failure) -> Failure {
        let shown = show_path(&self.path);
        let Place { line, column } = place;
        let message = format!("{shown}, line {line}, column {column}: {}", failure.message);
        Failure { message, ..failure.object(shown) }
    }

    /// What is to be said of its permissions, if anything.
    pub fn advice(&self) -> Option<String> {
        let shown = show_path(&self.path);
        is_open_to_others(&self.path).then(|| {
            format!(
                "{shown} has a password command and can be read by others; run `chmod 600` on it"
            )
        })
    }
}

/// One byte more than may be there is enough to say that it is too much.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_LEN_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
