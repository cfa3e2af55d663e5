//! From TOML to values: kinds, variables, places.

use std::ffi::OsString;
use std::path::PathBuf;

use toml_edit::{Document, Item, TableLike, Value};

use super::{FILE_LEN_MAX, Lookup, Mistake, Place, SettingsError};
use crate::text::{self, TextError};

type Result<T> = std::result::Result<T, SettingsError>;

/// A name and its value.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub name: &'a str,
    /// Where the name stands.
    pub key: Place,
    /// Where the value stands.
    pub place: Place,
    content: Content<'a>,
}

#[derive(Debug)]
enum Content<'a> {
    /// Of a name.
    Item(&'a Item),
    /// Of a list.
    Value(&'a Value),
}

impl<'a> Entry<'a> {
    fn value(&self) -> Option<&'a Value> {
        match self.content {
            Content::Item(item) => item.as_value(),
            Content::Value(value) => Some(value),
        }
    }

    /// The value is not what it must be.
    pub fn is_not(&self, expected: &'static str) -> SettingsError {
        self.wrong(Mistake::Kind { name: self.name.into(), expected })
    }

    fn wrong(&self, mistake: Mistake) -> SettingsError {
        SettingsError { place: self.place, mistake }
    }
}

/// A file that is being read.
pub(super) struct Reader<'a> {
    text: &'a str,
    lookup: &'a Lookup<'a>,
    /// How much came from variables, bytes.
    looked_up_len: usize,
}

impl<'a> Reader<'a> {
    pub fn new(file: &'a [u8], lookup: &'a Lookup<'a>) -> Result<Self> {
        let error = |bytes: &[u8], mistake| {
            let place = place(&String::from_utf8_lossy(bytes), bytes.len());
            Err(SettingsError { place, mistake })
        };
        if file.len() > FILE_LEN_MAX {
            return error(b"", Mistake::TooLong);
        }
        match std::str::from_utf8(file) {
            Ok(text) => Ok(Self { text, lookup, looked_up_len: 0 }),
            Err(bad) => error(&file[..bad.valid_up_to()], Mistake::NotText),
        }
    }

    pub fn document(&self) -> Result<Document<&'a str>> {
        Document::parse(self.text).map_err(|error| SettingsError {
            place: place(self.text, error.span().map_or(0, |span| span.start)),
            mistake: Mistake::Syntax(text::escape(error.message().as_bytes())),
        })
    }

    /// What a table holds, in the order of the file.
    pub fn entries<'t>(&self, table: &'t dyn TableLike) -> Vec<Entry<'t>> {
        let entry = |(name, item): (&'t str, &'t Item)| {
            let key = table.key(name).and_then(toml_edit::Key::span);
            let key = place(self.text, key.map_or(0, |span| span.start));
            let place = item.span().map_or(key, |span| place(self.text, span.start));
            Entry { name, key, place, content: Content::Item(item) }
        };
        table.iter().map(entry).collect()
    }

    /// What the table holds that this is.
    pub fn table<'t>(&self, entry: &Entry<'t>) -> Result<Vec<Entry<'t>>> {
        let table = match entry.content {
            Content::Item(item) => item.as_table_like(),
            Content::Value(_) => None,
        };
        Ok(self.entries(table.ok_or_else(|| entry.is_not("a table"))?))
    }

    /// The elements of a list; anything else is the only element.
    pub fn list<'t>(&self, entry: &Entry<'t>) -> Result<Vec<Entry<'t>>> {
        let value = entry.value().ok_or_else(|| entry.is_not("a list of texts"))?;
        let alone = std::slice::from_ref(value).iter();
        let element = |value: &'t Value| Entry {
            name: entry.name,
            key: entry.key,
            place: value.span().map_or(entry.place, |span| place(self.text, span.start)),
            content: Content::Value(value),
        };
        Ok(match value.as_array() {
            Some(list) => list.iter().map(element).collect(),
            None => alone.map(element).collect(),
        })
    }

    /// A text, with what its variables stand for.
    pub fn text(&mut self, entry: &Entry<'_>) -> Result<OsString> {
        self.text_or(entry, "a text in quotation marks")
    }

    /// A path.
    pub fn path(&mut self, entry: &Entry<'_>) -> Result<PathBuf> {
        let path = PathBuf::from(self.text(entry)?);
        match path.starts_with("~") {
            true => Err(entry.wrong(Mistake::Tilde)),
            false => Ok(path),
        }
    }

    /// A number or a word, as text.
    pub fn word(&mut self, entry: &Entry<'_>, expected: &'static str) -> Result<String> {
        if let Some(number) = entry.value().and_then(Value::as_integer) {
            return Ok(number.to_string());
        }
        let text = self.text_or(entry, expected)?;
        text.into_string().map_err(|_| entry.is_not(expected))
    }

    /// What a text room makes of a size.
    pub fn size<T>(
        &mut self,
        entry: &Entry<'_>,
        parse: fn(&str) -> std::result::Result<T, TextError>,
    ) -> Result<T> {
        let text = self.word(entry, "a size such as 500 or \"10M\"")?;
        parse(&text)
            .map_err(|source| entry.wrong(Mistake::Size { name: entry.name.into(), source }))
    }

    /// Yes or no.
    pub fn flag(&mut self, entry: &Entry<'_>) -> Result<bool> {
        const EXPECTED: &str = "true or false";
        match entry.value().and_then(Value::as_bool) {
            Some(flag) => Ok(flag),
            None => self.word(entry, EXPECTED)?.parse().map_err(|_| entry.is_not(EXPECTED)),
        }
    }

    fn text_or(&mut self, entry: &Entry<'_>, expected: &'static str) -> Result<OsString> {
        let raw = entry.value().and_then(Value::as_str).ok_or_else(|| entry.is_not(expected))?;
        let text = self.expand(raw).map_err(|mistake| entry.wrong(mistake))?;
        match text.is_empty() {
            true => Err(entry.wrong(Mistake::Empty { name: entry.name.into() })),
            false => Ok(text),
        }
    }

    /// A text with the values of its variables in their places.
    fn expand(&mut self, raw: &str) -> std::result::Result<OsString, Mistake> {
        let mut text = OsString::new();
        let mut rest = raw;
        while let Some((before, after)) = rest.split_once("${") {
            if let Some(before) = before.strip_suffix('$') {
                text.push(before);
                text.push("${");
                rest = after;
                continue;
            }
            let found = after.split_once('}').filter(|(name, _)| is_variable(name));
            let (name, after) = found.ok_or(Mistake::Reference)?;
            let value = (self.lookup)(name).ok_or_else(|| Mistake::Variable(name.into()))?;
            self.looked_up_len = self.looked_up_len.saturating_add(value.len());
            if self.looked_up_len > FILE_LEN_MAX {
                return Err(Mistake::TooLong);
            }
            text.push(before);
            text.push(value);
            rest = after;
        }
        text.push(rest);
        Ok(text)
    }
}

/// Whether a shell would take this for the name of a variable.
fn is_variable(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(allowed) && !name.starts_with(|c: char| c.is_ascii_digit()) && !name.is_empty()
}

/// Where a byte of a text stands.
fn place(text: &str, offset: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    Place { line: 1 + before.matches('\n').count(), column: 1 + line.chars().count() }
}
