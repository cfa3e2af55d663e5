//! What is wrong with a file, where, and what to write instead.

use super::Place;
use crate::text::TextError;

/// A mistake and its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {}, column {}: {mistake}", place.line, place.column)]
pub struct SettingsError {
    /// Where it is.
    pub place: Place,
    /// What it is.
    #[source]
    pub mistake: Mistake,
}

/// What can be wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    /// More than is read, from the file or from variables.
    #[error("this is too long: the file and what variables bring into it may have 256 KiB each")]
    TooLong,
    /// Bytes that are no text.
    #[error("this is not UTF-8 text")]
    NotText,
    /// No TOML.
    #[error("this is not TOML: {0}")]
    Syntax(String),
    /// A name that means nothing, safe for a terminal.
    #[error("unknown name \"{name}\"{}", within(table))]
    Unknown {
        /// The table that it stands in; empty for none.
        table: &'static str,
        /// The name.
        name: String,
        /// What may have been meant.
        near: Option<Near>,
    },
    /// A password.
    #[error("a password is not kept in this file")]
    Password,
    /// A value of another kind.
    #[error("{name} must be {expected}")]
    Kind {
        /// The name that it is the value of.
        name: String,
        /// What the value must be.
        expected: &'static str,
    },
    /// Nothing between the quotation marks.
    #[error("{name} is empty")]
    Empty {
        /// The name that it is the value of.
        name: String,
    },
    /// A size or a rate that is none.
    #[error("{name}: {source}")]
    Size {
        /// The name that it is the value of.
        name: String,
        /// What is wrong with it.
        source: TextError,
    },
    /// A home directory as only a shell knows it.
    #[error("~ means nothing here")]
    Tilde,
    /// `${` without a name and `}` after it.
    #[error("after ${{ comes no name with a }} behind it")]
    Reference,
    /// A variable that is not set.
    #[error("the variable {0} is not set, or is empty")]
    Variable(String),
}

impl SettingsError {
    /// What to write instead, if that can be told.
    pub fn hint(&self) -> Option<String> {
        match &self.mistake {
            Mistake::Unknown { table, near: Some(near), .. } => Some(near.hint(table)),
            Mistake::Password => Some(
                "write password-file with the name of a file, or password-command with a command \
                 that prints it"
                    .into(),
            ),
            Mistake::Tilde => Some("write ${HOME}/…".into()),
            Mistake::Reference => Some("write $${ for the characters themselves".into()),
            Mistake::Variable(_) => Some("set it, or write $${ for the characters ${".into()),
            _ => None,
        }
    }
}

fn within(table: &str) -> String {
    match table {
        "" => String::new(),
        table => format!(" in [{table}]"),
    }
}

/// A known name that resembles an unknown one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Near {
    table: &'static str,
    name: &'static str,
}

impl Near {
    /// The one that fits best, of pairs of table and name; one of the same table rather than of
    /// another.
    pub(super) fn find(
        table: &str,
        name: &str,
        names: &[(&'static str, &'static str)],
    ) -> Option<Self> {
        let distance = |known: &str| match name.starts_with(known) || known.starts_with(name) {
            // `repository` is `repo`, `excludes` is `exclude`.
            true if name.len() > 2 => usize::from(name != known),
            _ => strsim::osa_distance(name, known),
        };
        let ranked = names.iter().map(|known| (distance(known.1), known.0 != table, known));
        let (distance, _, found) = ranked.min_by_key(|(distance, other, _)| (*distance, *other))?;
        let near = distance <= 1 + found.1.len() / 4;
        near.then_some(Self { table: found.0, name: found.1 })
    }

    fn hint(self, table: &str) -> String {
        let name = self.name;
        match self.table {
            here if here == table => format!("write {name}"),
            "" => format!("write {name} before the first table"),
            other => format!("write {name} in the table [{other}]"),
        }
    }
}
