//! Bytes to structs and back, one file per chapter of `format-spec/`: pure, no I/O, no keys,
//! every length bounded before anything is allocated. The picture: `format-spec/01-overview.md`.

pub mod codec;
pub mod config;
pub mod copies;
pub mod damage;
pub mod envelope;
pub mod epoch;
pub mod frame;
pub mod pack;
pub mod parity;
pub mod session;
pub mod slot;
pub mod snapshot;
pub mod tree;

/// The format version that this code writes, and the newest that it reads.
/// Format: `format-spec/13-versioning.md`.
pub const FORMAT_VERSION: u16 = 1;

/// Why stored bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The bytes end inside a field.
    #[error("the bytes end inside {0}")]
    Truncated(&'static str),
    /// Bytes are left where the object should have ended.
    #[error("{count} bytes follow the end of {what}")]
    Trailing {
        /// Which object.
        what: &'static str,
        /// How many.
        count: usize,
    },
    /// A number is over its limit.
    #[error("{what} is {found}, over the limit of {limit}")]
    TooLarge {
        /// Which field.
        what: &'static str,
        /// Its value.
        found: u64,
        /// Its limit.
        limit: u64,
    },
    /// A field has a value that it must not have.
    #[error("{0} has a value that the format does not allow")]
    Bad(&'static str),
    /// The object does not begin with its magic bytes.
    #[error("this is no {0}: its first bytes are others")]
    Magic(&'static str),
    /// A later format, or a feature this code does not know.
    #[error("{what} {found} is newer than this program, which knows up to {known}")]
    Newer {
        /// Format version, feature, or codec.
        what: &'static str,
        /// Its number.
        found: u64,
        /// What is known.
        known: u64,
    },
}

/// Result of decoding.
pub type Result<T> = std::result::Result<T, FormatError>;
