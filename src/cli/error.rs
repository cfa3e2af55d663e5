//! Why a command failed, as people and programs are told: exit code, what and where, what to do.

use std::io;

use serde::Serialize;

use crate::calendar::CalendarError;
use crate::crypto::CryptoError;
use crate::format::FormatError;
use crate::id::PrefixError;
use crate::index::IndexError;
use crate::ops::OpsError;
use crate::ops::retention::RetentionError;
use crate::pack::PackError;
use crate::repo::RepoError;
use crate::source::SourceError;
use crate::storage::{ErrorKind, StorageError};
use crate::target::TargetError;
use crate::text::{self, TextError};
use crate::tree::TreeError;

/// How a command ended. The numbers are its exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All of it.
    Done = 0,
    /// Nothing, or not what was asked for.
    Failed = 1,
    /// It was asked for in a way that is not understood.
    Usage = 2,
    /// Done, but for files that could not be read or written.
    Incomplete = 3,
    /// The repository is damaged.
    Damage = 4,
    /// There is no repository.
    NoRepository = 10,
    /// No secret opens the repository.
    WrongSecret = 12,
    /// Somebody ended it.
    Interrupted = 130,
}

impl Exit {
    /// The code that the process ends with.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    /// What happened and where, safe for a terminal.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The object of the repository, or the file, that it is about.
    pub object: Option<String>,
    /// It is about an object of the repository, whose location is worth saying.
    pub in_repository: bool,
    /// Whoever read the output has gone: nothing is worth saying.
    pub silent: bool,
    /// There is nothing at the repository's place, as opposed to something else.
    pub is_missing: bool,
}

/// Result of what commands do.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure with a message.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            hint: None,
            object: None,
            in_repository: false,
            silent: false,
            is_missing: false,
        }
    }

    /// It was asked for in a way that is not understood.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The same with what to do about it.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same with what it is about.
    pub fn object(self, object: impl Into<String>) -> Self {
        Self { object: Some(object.into()), ..self }
    }

    /// A file of this machine that cannot be worked with.
    pub fn file(verb: &str, path: &std::path::Path, error: &io::Error) -> Self {
        let path = text::escape(path.as_os_str().as_encoded_bytes());
        let failure = Self::new(Exit::Failed, format!("cannot {verb} {path}: {}", said(error)));
        let hint = hint_of(StorageError::from_io("", error.kind().into()).kind, error);
        Self { hint: hint.map(str::to_owned), ..failure.object(path) }
    }

    /// Writing to standard output failed.
    pub fn output(error: &io::Error) -> Self {
        let silent = error.kind() == io::ErrorKind::BrokenPipe;
        let message = format!("cannot write to standard output: {}", said(error));
        // A reader that has seen enough is no failure.
        let exit = if silent { Exit::Done } else { Exit::Failed };
        Self { silent, ..Self::new(exit, message) }
    }

    /// Everything in one line.
    pub fn line(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{}; {hint}", self.message),
            None => self.message.clone(),
        }
    }

    /// As programs are told.
    pub fn to_json(&self) -> String {
        let error = JsonError {
            code: self.exit.code(),
            message: &self.message,
            hint: self.hint.as_deref(),
            object: self.object.as_deref(),
        };
        super::output::json_text(&JsonFailure { error })
    }
}

#[derive(Serialize)]
struct JsonFailure<'a> {
    error: JsonError<'a>,
}

#[derive(Serialize)]
struct JsonError<'a> {
    code: u8,
    message: &'a str,
    hint: Option<&'a str>,
    object: Option<&'a str>,
}

/// What the system said, without the number that means nothing to people.
pub fn said(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error ").unwrap_or(text.len());
    text::escape(text.get(..end).unwrap_or(&text).as_bytes())
}

/// What to do when a file or an object cannot be written or read.
fn hint_of(kind: ErrorKind, error: &io::Error) -> Option<&'static str> {
    match kind {
        ErrorKind::Denied => {
            Some("check who owns it, and whether the file system is mounted read-only")
        }
        ErrorKind::Full if error.kind() == io::ErrorKind::FileTooLarge => {
            Some("raise the limit of file sizes (`ulimit -f`), or use another file system")
        }
        ErrorKind::Full => Some("make room there and run it again: what is stored already is used"),
        ErrorKind::Transient => Some("try again"),
        _ => None,
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        let key = text::escape(error.key.as_bytes());
        let (exit, hint) = match error.kind {
            ErrorKind::NotFound if error.source.kind() == io::ErrorKind::NotADirectory => {
                (Exit::Failed, Some("something else stands in its place"))
            }
            ErrorKind::NotFound => (Exit::Damage, Some("run `holdall check` to see what it costs")),
            ErrorKind::Corrupt => (Exit::Damage, Some("run `holdall check` to see what it costs")),
            kind => (Exit::Failed, hint_of(kind, &error.source)),
        };
        let failure = Self::new(exit, format!("{key}: {}", said(&error.source))).object(key);
        Self { hint: hint.map(str::to_owned), in_repository: true, ..failure }
    }
}

impl From<RepoError> for Failure {
    fn from(error: RepoError) -> Self {
        let message = error.to_string();
        match error {
            RepoError::Missing { location } => no_repository(&location),
            RepoError::Occupied { location } => {
                let location = text::escape(location.as_bytes());
                Self::new(Exit::Failed, format!("{location} is not empty, and holds no repository"))
                    .hint("name another place with --repo")
                    .object(location)
            }
            RepoError::Unreadable { location, source } => unreadable(&location, &source),
            RepoError::WrongSecret { location, untried } => {
                let location = text::escape(location.as_bytes());
                let shown = RepoError::WrongSecret { location: location.clone(), untried };
                Self::new(Exit::WrongSecret, shown.to_string())
                .hint("see `holdall help environment` for where passwords and keys are looked for")
                .object(location)
            }
            RepoError::Object { key, source } if source.is_unknown() => {
                let key = text::escape(key.as_bytes());
                Self::new(Exit::Failed, format!("{key} is not understood: {source}"))
                    .hint(
                        "somebody may have rotated the keys meanwhile, or have a newer holdall: run it \
                         again, or with the newest version",
                    )
                    .object(key)
            }
            RepoError::Object { key, source } => {
                let key = text::escape(key.as_bytes());
                damaged(format!("{key} is damaged or was tampered with: {source}")).object(key)
            }
            RepoError::Storage(source) => source.into(),
            RepoError::Index(source) => source.into(),
            RepoError::Pack(PackError::Storage(source)) => source.into(),
            RepoError::Pack(PackError::Verify) => Self::new(Exit::Failed, message)
                .hint("nothing wrong was stored; test the memory of this machine"),
            RepoError::Pack(_) | RepoError::Chunk { .. } => damaged(message),
            RepoError::Fenced(_) => Self::new(Exit::Failed, message).hint("run it again"),
            RepoError::TooMuch(_) => {
                Self::new(Exit::Failed, message).hint("give fewer or shorter paths, tags and texts")
            }
            RepoError::Key(source) => source.into(),
        }
    }
}

/// There is no repository at a place.
pub fn no_repository(location: &str) -> Failure {
    let location = text::escape(location.as_bytes());
    let message = format!("there is no repository at {location}");
    let failure = Failure::new(Exit::NoRepository, message).object(location);
    let failure = failure.hint("make one with `holdall init`, or name another with --repo");
    Failure { is_missing: true, ..failure }
}

fn unreadable(location: &str, source: &FormatError) -> Failure {
    let location = text::escape(location.as_bytes());
    let failure = match source {
        FormatError::Newer { .. } => {
            Failure::new(Exit::Failed, format!("the repository at {location}: {source}"))
                .hint("use a newer holdall")
        }
        FormatError::Magic(_) => {
            let message = format!("what lies at {location} is not a holdall repository");
            Failure::new(Exit::NoRepository, message).hint("name another place with --repo")
        }
        _ => damaged(format!("the configuration of the repository at {location}: {source}")),
    };
    failure.object(location)
}

fn damaged(message: String) -> Failure {
    let hint = "run `holdall check` to see what it costs";
    Failure { in_repository: true, ..Failure::new(Exit::Damage, message).hint(hint) }
}

impl From<IndexError> for Failure {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Storage(source) => source.into(),
            IndexError::Cache { path, source } => {
                let failure = Self::file("keep the local index in", &path, &source);
                failure.hint(
                    "name another directory with --cache-dir, or delete this one: it is a cache",
                )
            }
            other => damaged(other.to_string()),
        }
    }
}

impl From<CryptoError> for Failure {
    fn from(error: CryptoError) -> Self {
        let exit = match error {
            CryptoError::WrongSecret => Exit::WrongSecret,
            CryptoError::RecoveryCode | CryptoError::KeyFile => Exit::WrongSecret,
            CryptoError::LastSlot | CryptoError::Changed | CryptoError::Missing { .. } => {
                Exit::Failed
            }
            CryptoError::Tag
            | CryptoError::Cost
            | CryptoError::Bundle
            | CryptoError::Pin
            | CryptoError::PublicKey => Exit::Damage,
        };
        let failure = Self::new(exit, error.to_string());
        match error {
            CryptoError::LastSlot => failure.hint("add another with `holdall key add` first"),
            _ => failure,
        }
    }
}

impl From<PrefixError> for Failure {
    fn from(error: PrefixError) -> Self {
        let escaped = |text: &str| text::escape(text.as_bytes());
        match error {
            PrefixError::Unknown(prefix) => Self::new(
                Exit::Failed,
                format!("nothing has an id that begins with {}", quoted(&prefix)),
            )
            .object(escaped(&prefix)),
            PrefixError::Ambiguous { prefix, count } => {
                Self::new(Exit::Failed, format!("{count} ids begin with {}", quoted(&prefix)))
                    .hint("give more digits")
                    .object(escaped(&prefix))
            }
        }
    }
}

/// A name between quotation marks, safe for a terminal.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", text::escape(name.as_bytes()))
}

impl From<TreeError> for Failure {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Repo(source) => source.into(),
            TreeError::Format { .. } => damaged(error.to_string()),
            TreeError::NoSuchPath | TreeError::NotADirectory | TreeError::NotAFile => {
                Self::new(Exit::Failed, error.to_string())
                    .hint("`holdall ls SNAPSHOT` shows what is in it")
            }
        }
    }
}

impl From<OpsError> for Failure {
    fn from(error: OpsError) -> Self {
        match error {
            OpsError::Repo(source) => source.into(),
            OpsError::Tree(source) => source.into(),
            OpsError::NoSnapshot { name, why } => {
                let why = text::escape(why.as_bytes());
                Self::new(Exit::Failed, format!("no snapshot {}: {why}", quoted(&name)))
                    .hint("`holdall snapshots` lists them")
                    .object(text::escape(name.as_bytes()))
            }
            OpsError::Retention(source) => source.into(),
            OpsError::Path { path, source } => {
                let path = text::escape(&path);
                let failure = Self::from(source);
                let message = format!("{path}: {}", failure.message);
                Self { message, ..failure.object(path) }
            }
            OpsError::Target { path, source } => {
                let path = text::escape(&path);
                let said = text::escape(source.to_string().as_bytes());
                let hint = match source {
                    TargetError::Unfinished { path } => format!(
                        "`holdall restore --undo` puts it back; to keep it, remove {} there",
                        text::escape(&path)
                    ),
                    TargetError::AtWork { .. } => "wait until it has ended".into(),
                    _ => "name another one with --target, or check its permissions".into(),
                };
                Self::new(Exit::Failed, format!("the target {path}: {said}"))
                    .hint(hint)
                    .object(path)
            }
            OpsError::TargetFull { .. } => Self::new(Exit::Failed, error.to_string())
                .hint("make room there and run it again: what is there already stays"),
            OpsError::Incomplete { ref first, .. } => damaged(error.to_string())
                .object(text::escape(&first.what))
                .hint("nothing was removed; `holdall check` names everything that is damaged"),
            OpsError::Output(source) => Self::output(&source),
            OpsError::Limit { .. } => Self::usage(error.to_string()),
            OpsError::Source { .. } => {
                Self::new(Exit::Failed, error.to_string()).hint("no snapshot was stored")
            }
            OpsError::RolledBack { whole, source } => Self::from(*source).hint(match whole {
                true => "the target was put back to what it was before",
                false => "not everything was put back: `holdall restore --undo` tries it again",
            }),
            OpsError::Cancelled => Self::new(Exit::Interrupted, "interrupted"),
        }
    }
}

impl From<RetentionError> for Failure {
    fn from(error: RetentionError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<CalendarError> for Failure {
    fn from(error: CalendarError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<TextError> for Failure {
    fn from(error: TextError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Pattern { .. } => Self::usage(error.to_string())
                .hint("`holdall help patterns` tells how they are written"),
            other => {
                let path = text::escape(other.path());
                Self::new(Exit::Failed, format!("{path}: {other}")).object(path)
            }
        }
    }
}
