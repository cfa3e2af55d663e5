//! What a vector looks like: inputs, what is expected, and the result of a good one.

use holdall::compress::CompressError;
use holdall::crypto::CryptoError;
use holdall::format::FormatError;
use holdall::object::ObjectError;
use holdall::pack::PackError;
use serde_json::{Value, json};

/// A failure class of `format-spec/README.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class(pub &'static str);

/// What running a case came to.
pub type Outcome = Result<Value, Class>;

/// One file of vectors: lists of cases, and what they share.
pub struct Group {
    /// Without `.json`.
    pub file: &'static str,
    /// What the inputs are, for people.
    pub about: &'static str,
    /// Everything but the results that are not known by hand.
    pub make: fn() -> Value,
    /// Runs a case of a list through the crate.
    pub run: fn(file: &Value, list: &str, case: &Value) -> Outcome,
}

pub fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    assert!(text.len().is_multiple_of(2), "{text}");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

pub fn array<const N: usize>(value: &Value) -> [u8; N] {
    unhex(value).try_into().unwrap()
}

/// A good case whose result the crate gives; the independent reader must come to the same.
pub fn good(name: &str, mut inputs: Value) -> Value {
    inputs["name"] = name.into();
    inputs["expect"] = "ok".into();
    inputs
}

/// A good case whose result is known without the crate.
pub fn gives(name: &str, inputs: Value, result: impl Into<Value>) -> Value {
    let mut case = good(name, inputs);
    case["result"] = result.into();
    case
}

/// A case to be refused.
pub fn fails(name: &str, class: &str, mut inputs: Value) -> Value {
    inputs["name"] = name.into();
    inputs["expect"] = class.into();
    inputs
}

/// A file of vectors: what its cases share, and lists of them.
pub fn file<const N: usize>(mut shared: Value, lists: [(&str, Vec<Value>); N]) -> Value {
    lists.into_iter().for_each(|(name, cases)| shared[name] = cases.into());
    shared
}

/// Shorthand for the most frequent input.
pub fn bytes(content: impl AsRef<[u8]>) -> Value {
    json!({ "hex": hex(content) })
}

impl From<FormatError> for Class {
    fn from(error: FormatError) -> Self {
        Self(match error {
            FormatError::Truncated(_) => "truncated",
            FormatError::TooLarge { .. } => "too-large",
            FormatError::Trailing { .. } | FormatError::Bad(_) => "bad",
            FormatError::Magic(_) => "magic",
            FormatError::Newer { .. } => "newer",
        })
    }
}

impl From<CryptoError> for Class {
    fn from(error: CryptoError) -> Self {
        Self(match error {
            CryptoError::Tag | CryptoError::Pin => "tag",
            CryptoError::WrongSecret => "wrong-secret",
            CryptoError::Missing { .. } => "no-key",
            _ => "bad",
        })
    }
}

impl From<ObjectError> for Class {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::Format(error) => error.into(),
            ObjectError::Crypto(error) => error.into(),
            ObjectError::Unreadable => panic!("no vector is about this: {error}"),
        }
    }
}

impl From<CompressError> for Class {
    fn from(_: CompressError) -> Self {
        Self("bad")
    }
}

impl From<PackError> for Class {
    fn from(error: PackError) -> Self {
        match error {
            PackError::Format(error) => error.into(),
            PackError::Crypto(error) => error.into(),
            PackError::Object(error) => error.into(),
            PackError::Compress(error) => error.into(),
            PackError::BeyondParity { .. } => Self("bad"),
            PackError::NoBase(_) => Self("missing"),
            other => panic!("no vector is about this: {other}"),
        }
    }
}
