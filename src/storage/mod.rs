//! Where objects lie. Knows no format and no keys.
//!
//! An object is a byte string under a key such as `packs/1f/1f07…`. It appears whole or not at
//! all, is never modified, and its key is never used again.

pub mod local;
pub mod memory;
pub mod retry;
pub mod throttle;

use std::fmt;

pub use local::LocalStorage;
pub use memory::MemoryStorage;
pub use retry::RetryingStorage;
pub use throttle::{Limiter, ThrottledStorage};

/// Result of a storage call.
pub type Result<T> = std::result::Result<T, StorageError>;

/// What kind of failure it was; retries and messages are decided by this, never by text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is no such object.
    NotFound,
    /// There is an object under this key already.
    AlreadyExists,
    /// The storage refuses: permissions, a read-only file system.
    Denied,
    /// No room is left.
    Full,
    /// It may work when tried again.
    Transient,
    /// What is there cannot be an object (a directory under its key, shorter than asked for), or
    /// will never be read again: damage of this object, while others can be read.
    Corrupt,
    /// Anything else.
    Other,
}

/// A storage call that failed.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {source}")]
pub struct StorageError {
    /// What kind of failure.
    pub kind: ErrorKind,
    /// The object's key, or the prefix of a listing.
    pub key: String,
    /// What the system said.
    pub source: std::io::Error,
}

impl StorageError {
    /// From what the system said.
    pub fn from_io(key: &str, source: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match source.kind() {
            Io::NotFound | Io::NotADirectory => ErrorKind::NotFound,
            Io::AlreadyExists => ErrorKind::AlreadyExists,
            Io::PermissionDenied | Io::ReadOnlyFilesystem => ErrorKind::Denied,
            Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => ErrorKind::Full,
            Io::Interrupted
            | Io::TimedOut
            | Io::WouldBlock
            | Io::ConnectionReset
            | Io::ConnectionAborted
            | Io::NotConnected
            | Io::HostUnreachable
            | Io::NetworkUnreachable
            | Io::NetworkDown
            | Io::StaleNetworkFileHandle => ErrorKind::Transient,
            Io::UnexpectedEof | Io::IsADirectory => ErrorKind::Corrupt,
            _ => ErrorKind::Other,
        };
        Self { kind, key: key.into(), source }
    }

    /// An error of this kind without more to say.
    pub fn new(kind: ErrorKind, key: &str, why: &str) -> Self {
        Self { kind, key: key.into(), source: std::io::Error::other(why.to_owned()) }
    }

    /// Whether the object itself is damaged, as opposed to a storage that fails.
    pub fn is_damage(&self) -> bool {
        self.kind == ErrorKind::Corrupt
    }

    /// Whether the object is simply not there.
    pub fn is_not_found(&self) -> bool {
        self.kind == ErrorKind::NotFound
    }
}

/// A listed object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Its length, bytes.
    pub len: u64,
}

/// Where objects lie. Every call sees what was put and deleted by calls that have returned.
///
/// Keys are relative, of `a-z 0-9 . _ -` and `/` between components, none of them empty or
/// beginning with a dot; anything else is `ErrorKind::Other` before the storage is touched.
pub trait Storage: Send + Sync + fmt::Debug {
    /// Where it is, for people.
    fn location(&self) -> String;

    /// Whether it is reached over a network: what lies there is not read only to store less.
    fn is_remote(&self) -> bool {
        false
    }

    /// Stores the concatenation of `parts` as one object. Returns only when content and name
    /// survive a power cut. Never overwrites: `AlreadyExists`. After any other error the object
    /// may be there whole or not at all.
    fn put(&self, key: &str, parts: &[&[u8]]) -> Result<()>;

    /// A whole object of at most `len_max` bytes; a longer one is `Corrupt`.
    fn get(&self, key: &str, len_max: u64) -> Result<Vec<u8>>;

    /// Exactly `len` bytes from `offset` become the content of `into`; fewer being there is
    /// `Corrupt`. After an error it may hold anything.
    fn get_range_into(&self, key: &str, offset: u64, len: usize, into: &mut Vec<u8>) -> Result<()>;

    /// The same in memory of its own.
    fn get_range(&self, key: &str, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.get_range_into(key, offset, len, &mut bytes)?;
        Ok(bytes)
    }

    /// Every object whose key starts with the directory `prefix` ("packs/", or "" for all), in
    /// no particular order. A prefix under which there is nothing is an empty listing.
    fn list(&self, prefix: &str, each: &mut dyn FnMut(Listed)) -> Result<()>;

    /// Removes an object. One that is not there is fine: a removal may be repeated.
    fn delete(&self, key: &str) -> Result<()>;

    /// Length of an object, bytes.
    fn stat(&self, key: &str) -> Result<u64>;

    /// Bytes and objects that may still be put, where the storage tells.
    fn free_room(&self) -> Option<FreeRoom> {
        None
    }
}

/// What still fits into a storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeRoom {
    /// Bytes.
    pub bytes: u64,
    /// Objects, however small.
    pub objects: u64,
}

/// Whether a key has the form that every storage accepts.
pub fn key_is_allowed(key: &str) -> bool {
    key.len() <= 512
        && key.split('/').all(|part| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
        })
}

/// Refuses a key that no storage accepts, before anything is touched.
fn require_key(key: &str) -> Result<()> {
    match key_is_allowed(key) {
        true => Ok(()),
        false => Err(StorageError::new(ErrorKind::Other, key, "is no name of an object")),
    }
}

/// Refuses the prefix of a listing that is not a directory's: "" or a key with a slash after it.
fn require_prefix(prefix: &str) -> Result<()> {
    match prefix.is_empty() || prefix.strip_suffix('/').is_some_and(key_is_allowed) {
        true => Ok(()),
        false => Err(StorageError::new(ErrorKind::Other, prefix, "is no prefix of objects")),
    }
}
