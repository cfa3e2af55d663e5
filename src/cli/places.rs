//! Where things lie on this machine when nobody says otherwise.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use uzers::os::unix::UserExt;

use super::error::{Failure, Result};
use crate::id::ClientId;
use crate::world::{World, random};

/// The directories of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The default repository is below it.
    pub data: PathBuf,
    /// Key file and configuration.
    pub config: PathBuf,
    /// The local index, which may be deleted.
    pub cache: PathBuf,
    /// What this installation remembers.
    pub state: PathBuf,
}

/// An environment variable that is set and not empty.
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

impl Places {
    /// Those of the user who runs this process. `XDG_*` variables count for root, too.
    pub fn find() -> Result<Self> {
        let is_root = rustix::process::geteuid().is_root();
        let place = |xdg: &str, below_home: &str, of_root: &str| -> Result<PathBuf> {
            // As the XDG specification says, a path that is not absolute does not count.
            match variable(xdg).map(PathBuf::from).filter(|path| path.is_absolute()) {
                Some(path) => Ok(path.join("holdall")),
                None if is_root => Ok(PathBuf::from(of_root)),
                None => Ok(home()?.join(below_home).join("holdall")),
            }
        };
        let state = place("XDG_STATE_HOME", ".local/state", "/var/lib/holdall/state")?;
        Ok(Self {
            data: place("XDG_DATA_HOME", ".local/share", "/var/lib/holdall")?,
            config: place("XDG_CONFIG_HOME", ".config", "/etc/holdall")?,
            cache: place("XDG_CACHE_HOME", ".cache", "/var/cache/holdall")?,
            state,
        })
    }

    /// The repository that is used when none is named.
    pub fn repository(&self) -> PathBuf {
        self.data.join("repository")
    }

    /// The key file that is used when none is named.
    pub fn key_file(&self) -> PathBuf {
        self.config.join("key")
    }

    /// The file of settings that is read when none is named.
    pub fn settings(&self) -> PathBuf {
        self.config.join("config.toml")
    }

    /// What is remembered of repositories, in a directory for each.
    pub fn memory(&self) -> PathBuf {
        self.state.join("repositories")
    }

    /// Which installation this is, made on first use; a fresh one that nobody remembers where
    /// nothing can be written.
    pub fn client(&self, world: &dyn World) -> ClientId {
        let path = self.state.join("client");
        let read = || {
            let text = std::fs::read_to_string(&path).ok()?;
            ClientId::from_hex(text.trim_end()).ok()
        };
        if let Some(client) = read() {
            return client;
        }
        let client = ClientId(random(world));
        match write_private(&path, format!("{client}\n").as_bytes()) {
            Ok(()) => client,
            // Another process may have been faster.
            Err(_) => read().unwrap_or(client),
        }
    }
}

fn home() -> Result<PathBuf> {
    if let Some(home) = variable("HOME").map(PathBuf::from).filter(|path| path.is_absolute()) {
        return Ok(home);
    }
    let user = uzers::get_user_by_uid(rustix::process::geteuid().as_raw());
    user.map(|user| user.home_dir().to_owned()).ok_or_else(|| {
        Failure::usage("this user has no home directory")
            .hint("set HOME, or XDG_DATA_HOME and such")
    })
}

/// Makes a directory with its parents, for its owner only.
pub fn make_private_directory(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a file that was not there, for its owner only. It is there whole or not at all.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let above = match path.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    };
    make_private_directory(above)?;
    let mut file = tempfile::Builder::new()
        .prefix(".holdall-")
        .permissions(std::fs::Permissions::from_mode(0o600))
        .tempfile_in(above)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    std::fs::File::open(above)?.sync_all()
}
