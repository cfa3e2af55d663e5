//! What every command has: global options, places, streams; and how it opens a repository.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;

use super::Globals;
use super::config::SettingsFile;
use super::error::{Exit, Failure, Result, no_repository, quoted};
use super::output::Output;
use super::places::{Places, variable};
use super::prompt;
use super::secrets::{self, Sources};
use crate::calendar;
use crate::crypto::Secret;
use crate::repo::{Environment, RepoError, Repository, may_put_again};
use crate::source::Excludes;
use crate::storage::{
    ErrorKind, Limiter, LocalStorage, RetryingStorage, Storage, ThrottledStorage,
};
use crate::text;
use crate::world::{RealWorld, Time, World};

/// How often a person may mistype a password.
const ASKED_MAX: usize = 3;

/// How often a pause looks whether somebody wants an end of it.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Where a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Its directory.
    pub path: PathBuf,
    /// Whether somebody named it, as opposed to the default.
    pub named: bool,
    /// Whether that was done by an option, so that the next command needs it again.
    pub named_by_option: bool,
}

impl Location {
    /// The repository that is meant.
    fn find(globals: &Globals, file: &SettingsFile, places: &Places) -> Result<Self> {
        let given = globals.repo.clone();
        let named_by_option = given.is_some();
        if let Some(text) = given.or_else(|| variable("HOLDALL_REPO")) {
            return Ok(Self { path: Self::parse(&text)?, named: true, named_by_option });
        }
        match &file.settings.repo {
            Some(repo) => {
                let path = Self::parse(&repo.value).map_err(|bad| file.at(repo.place, bad))?;
                let named_by_option = globals.config.is_some();
                Ok(Self { path: file.path(&path), named: true, named_by_option })
            }
            None => Ok(Self { path: places.repository(), named: false, named_by_option }),
        }
    }

    /// From what a person gave: a path, or a `file:` URL.
    pub fn parse(text: &OsString) -> Result<PathBuf> {
        let bytes = text.as_bytes();
        let scheme = bytes.windows(3).position(|part| part == b"://").map(|at| bytes.split_at(at));
        match scheme {
            Some((b"file", path)) => Ok(PathBuf::from(std::ffi::OsStr::from_bytes(&path[3..]))),
            // A directory may have such a name; as a path it is told from a URL by a slash before.
            Some((scheme, _)) if !scheme.contains(&b'/') => {
                let scheme = quoted(&String::from_utf8_lossy(scheme));
                Err(Failure::usage(format!("repositories of the kind {scheme} are not known"))
                    .hint("give a directory"))
            }
            _ => Ok(PathBuf::from(text)),
        }
    }

    /// Safe for a terminal.
    pub fn show(&self) -> String {
        show_path(&self.path)
    }
}

/// A path of an option, or else of a variable.
pub fn path(option: &Option<PathBuf>, name: &str) -> Option<PathBuf> {
    option.clone().or_else(|| variable(name).map(PathBuf::from))
}

fn zone(name: &str) -> Result<TimeZone> {
    TimeZone::get(name).map_err(|_| {
        Failure::usage(format!("there is no time zone {}", quoted(name)))
            .hint("give a name such as Europe/Berlin or UTC")
    })
}

/// A path, safe for a terminal.
pub fn show_path(path: &Path) -> String {
    text::escape(path.as_os_str().as_bytes())
}

/// What every command has.
#[derive(Debug)]
pub struct Context {
    /// Where things lie.
    pub places: Places,
    /// Which repository.
    pub location: Location,
    /// Where secrets come from.
    pub sources: Sources,
    /// The streams.
    pub output: Arc<Output>,
    /// Whether progress is to be shown.
    pub progress: bool,
    /// The zone in which times are shown and days begin.
    pub zone: TimeZone,
    /// Clock and randomness.
    pub world: Arc<dyn World>,
    /// What options and the environment leave open.
    pub file: SettingsFile,
    /// Whether somebody wants an end of it, so that no limit is worth waiting for.
    pub hurry: Arc<AtomicBool>,
    upload: Option<Arc<Limiter>>,
    download: Option<Arc<Limiter>>,
    cache: PathBuf,
    threads: usize,
}

impl Context {
    /// From the global options, the environment, and the file: what comes first counts.
    pub fn new(globals: &Globals, file: SettingsFile, output: Output) -> Result<Self> {
        let mut places = Places::find()?;
        let settings = &file.settings;
        let location = Location::find(globals, &file, &places)?;
        let sources = Sources::find(globals, &file);
        if settings.password_command.is_some()
            && sources.password_command == settings.password_command
        {
            file.advice().iter().for_each(|advice| output.warn(advice));
        }
        if let Some(cache) = path(&globals.cache_dir, "HOLDALL_CACHE_DIR")
            .or_else(|| settings.cache_dir.as_ref().map(|path| file.path(path)))
        {
            places.cache = cache;
        }
        let zone = match (&globals.timezone, &settings.timezone) {
            (Some(name), _) => zone(name)?,
            (None, Some(name)) => {
                zone(&name.value).map_err(|failure| file.at(name.place, failure))?
            }
            (None, None) => TimeZone::system(),
        };
        let hurry = Arc::new(AtomicBool::new(false));
        let limiter = |rate| Arc::new(Limiter::new(rate, hurry.clone()));
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self {
            cache: places.cache.clone(),
            location,
            sources,
            output: Arc::new(output),
            progress: !globals.no_progress,
            zone,
            world: Arc::new(RealWorld),
            threads: globals.threads.or(settings.threads).map_or_else(cores, usize::from),
            upload: globals.limit_upload.or(settings.limit_upload).map(limiter),
            download: globals.limit_download.or(settings.limit_download).map(limiter),
            hurry,
            file,
            places,
        })
    }

    /// Who works here.
    pub fn environment(&self) -> Environment {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let user = uzers::get_user_by_uid(rustix::process::geteuid().as_raw());
        Environment {
            cache: self.cache.clone(),
            state: self.places.memory(),
            client: self.places.client(&*self.world),
            host,
            user: user.map(|u| u.name().to_string_lossy().into_owned()).unwrap_or_default(),
            process: std::process::id(),
            threads: self.threads,
        }
    }

    /// The same storage, asked again where it gives no answer, and within the limits. All storages
    /// share them, as they share the line.
    pub fn patient(&self, storage: Arc<dyn Storage>) -> Arc<dyn Storage> {
        let storage: Arc<dyn Storage> = match (&self.upload, &self.download) {
            (None, None) => storage,
            (upload, download) => {
                Arc::new(ThrottledStorage::new(storage, upload.clone(), download.clone()))
            }
        };
        let hurry = self.hurry.clone();
        let wait = move |pause| {
            let until = Instant::now() + pause;
            while !hurry.load(Ordering::Relaxed) {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return true;
                }
                std::thread::park_timeout(left.min(LOOK_EVERY));
            }
            false
        };
        let world = self.world.clone();
        Arc::new(RetryingStorage::new(storage, world, Box::new(wait), may_put_again))
    }

    /// The local directory that a repository lies in.
    pub fn storage(&self, path: &Path) -> Result<Arc<dyn Storage>> {
        match LocalStorage::open(path) {
            Ok(storage) => Ok(self.patient(Arc::new(storage))),
            Err(error) if error.kind == ErrorKind::NotFound => {
                Err(no_repository(&path.to_string_lossy()))
            }
            Err(error) => Err(Failure::file("open the repository at", path, &error.source)),
        }
    }

    /// Opens the repository that is meant.
    pub fn open(&self) -> Result<Arc<Repository>> {
        self.open_at(&self.location.path)
    }

    /// Opens the repository in a directory, with whatever secret fits: key files first, since
    /// trying them costs nothing, then the password that is given, then one that is asked for.
    pub fn open_at(&self, path: &Path) -> Result<Arc<Repository>> {
        self.open_with(path, &self.sources)
    }

    /// The same with secrets from elsewhere.
    pub fn open_with(&self, path: &Path, sources: &Sources) -> Result<Arc<Repository>> {
        let storage = self.storage(path)?;
        let environment = self.environment();
        let mut left = 0;
        let mut attempt = |secrets: &[Secret]| {
            let world = self.world.clone();
            match Repository::open(storage.clone(), world, environment.clone(), secrets) {
                Ok(repository) => {
                    for problem in repository.opening_problems() {
                        let what = text::escape(&problem.what);
                        self.output.warn(&format!("{what}: {}", problem.why));
                    }
                    Ok(Some(Arc::new(repository)))
                }
                Err(RepoError::WrongSecret { untried, .. }) => {
                    left = untried;
                    Ok(None)
                }
                Err(error) => Err(Failure::from(error)),
            }
        };
        // Without any secret this still says whether there is a repository.
        let key_files = sources.key_files(&self.places);
        if let Some(repository) = attempt(key_files.as_deref().unwrap_or_default())? {
            return Ok(repository);
        }
        let key_files = key_files?;
        let password = sources.password()?;
        let was_given = password.is_some();
        if let Some(password) = password
            && let Some(repository) = attempt(&secrets::secrets_of(password))?
        {
            return Ok(repository);
        }
        if !was_given && prompt::can_ask() {
            for _ in 0..ASKED_MAX {
                let typed = prompt::ask(&format!("password for {}: ", show_path(path)))?;
                if let Some(repository) = attempt(&secrets::secrets_of(typed))? {
                    return Ok(repository);
                }
                self.output.say("that opens nothing here");
            }
        }
        let location = storage.location();
        if !was_given && key_files.is_empty() && !prompt::can_ask() {
            let key = show_path(&self.places.key_file());
            let message = format!(
                "nothing to open the repository at {} with: no password is given, and there is no key file {key}",
                text::escape(location.as_bytes())
            );
            return Err(Failure::new(Exit::WrongSecret, message)
                .hint("see `holdall help environment`")
                .object(text::escape(location.as_bytes())));
        }
        Err(RepoError::WrongSecret { location, untried: left }.into())
    }

    /// A failure with the repository's place, where its object alone does not say enough.
    pub fn located(&self, failure: Failure) -> Failure {
        if !failure.in_repository {
            return failure;
        }
        let message = format!("{} (repository {})", failure.message, self.location.show());
        Failure { message, ..failure }
    }

    /// What no backup takes: the repository and the cache that it uses itself, and what is
    /// remembered of repositories, which every run changes.
    pub fn own_excludes(&self) -> Excludes {
        let mut excludes = Excludes::new();
        for own in [&self.location.path, &self.places.cache, &self.places.memory()] {
            // One that we may not look at cannot be walked into by us either.
            let _ = excludes.add_own(own);
        }
        excludes
    }

    /// How far local time is ahead of UTC then.
    pub fn offset_minutes(&self, time: Time) -> i32 {
        self.zone.to_offset(calendar::to_timestamp(time)).seconds() / 60
    }
}
