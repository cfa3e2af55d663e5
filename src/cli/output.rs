//! What reaches people and programs: data on stdout, talk on stderr, colours, tables, JSON.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::error::{Failure, Result};
use crate::ops::OpsError;
use crate::text;

/// When colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What a piece of text is, which decides about its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Something that failed.
    Error,
    /// Something that did not work, while the rest did.
    Warning,
    /// Something that worked.
    Good,
    /// A name to be used in another command.
    Id,
    /// The first line of a table.
    Heading,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Error => "1;31",
            Self::Warning => "1;33",
            Self::Good => "32",
            Self::Id => "33",
            Self::Heading => "1",
        }
    }
}

/// The standard streams, and how they are to be used.
#[derive(Debug)]
pub struct Output {
    json: bool,
    quiet: bool,
    verbose: u8,
    color_stdout: bool,
    color_stderr: bool,
    stdout_is_terminal: bool,
    data: Mutex<BufWriter<Stdout>>,
    /// stdout carries a stream of bytes, so that events go to stderr.
    data_is_bytes: bool,
}

impl Output {
    /// The streams of this process.
    pub fn new(choice: ColorChoice, json: bool, quiet: bool, verbose: u8) -> Self {
        let stdout_is_terminal = io::stdout().is_terminal();
        Self {
            json,
            quiet,
            verbose,
            color_stdout: use_color(choice, stdout_is_terminal),
            color_stderr: use_color(choice, io::stderr().is_terminal()),
            stdout_is_terminal,
            data: Mutex::new(BufWriter::with_capacity(64 << 10, io::stdout())),
            data_is_bytes: false,
        }
    }

    /// The same with stdout kept for bytes: events go to stderr.
    pub fn for_bytes(self) -> Self {
        Self { data_is_bytes: true, ..self }
    }

    /// Whether a program reads the answer.
    pub fn json(&self) -> bool {
        self.json
    }

    /// Whether only data and warnings are wanted.
    pub fn quiet(&self) -> bool {
        self.quiet
    }

    /// How much more is wanted than usual.
    pub fn verbose(&self) -> u8 {
        self.verbose
    }

    /// Whether a person looks at the data.
    pub fn stdout_is_terminal(&self) -> bool {
        self.stdout_is_terminal
    }

    /// Text in the colour of its kind, for stdout.
    pub fn paint(&self, style: Style, text: &str) -> String {
        paint(self.color_stdout, style, text)
    }

    /// The same for stderr.
    pub fn paint_talk(&self, style: Style, text: &str) -> String {
        paint(self.color_stderr, style, text)
    }

    /// A line of data.
    pub fn line(&self, line: &str) -> Result<()> {
        self.bytes(format!("{line}\n").as_bytes())
    }

    /// Data as it is.
    pub fn bytes(&self, bytes: &[u8]) -> Result<()> {
        self.try_bytes(bytes).map_err(|error| Failure::output(&error))
    }

    fn try_bytes(&self, bytes: &[u8]) -> io::Result<()> {
        let mut data = self.data();
        data.write_all(bytes)?;
        // A person looks at every line at once.
        if self.stdout_is_terminal { data.flush() } else { Ok(()) }
    }

    /// A line, or a JSON object if that is wanted, from within an operation.
    pub fn item(
        &self,
        line: impl FnOnce() -> String,
        object: impl FnOnce() -> String,
    ) -> std::result::Result<(), OpsError> {
        let text = if self.json { object() } else { line() };
        self.try_bytes(format!("{text}\n").as_bytes()).map_err(OpsError::Output)
    }

    /// A JSON object as a line of data.
    pub fn object(&self, value: &impl Serialize) -> Result<()> {
        self.line(&json_text(value))
    }

    /// A JSON object beside the data: it is told at once, and nothing fails if nobody listens.
    pub fn event(&self, value: &impl Serialize) {
        let line = json_text(value);
        match self.data_is_bytes {
            true => _ = writeln!(io::stderr().lock(), "{line}"),
            false => {
                let mut data = self.data();
                let _ = writeln!(data, "{line}").and_then(|()| data.flush());
            }
        }
    }

    /// Everything written so far reaches whoever reads it.
    pub fn flush(&self) -> Result<()> {
        self.data().flush().map_err(|error| Failure::output(&error))
    }

    fn data(&self) -> std::sync::MutexGuard<'_, BufWriter<Stdout>> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Talk for people, which neither `--quiet` nor `--json` wants.
    pub fn say(&self, text: &str) {
        if !self.quiet && !self.json {
            let _ = writeln!(io::stderr().lock(), "{text}");
        }
    }

    /// Talk for people who asked for more.
    pub fn say_more(&self, text: &str) {
        if self.verbose > 0 {
            self.say(text);
        }
    }

    /// Something that a person should know about whatever was asked for.
    pub fn warn(&self, text: &str) {
        match self.json {
            true => self.event(&Warning { r#type: "warning", message: text }),
            false => {
                let mark = paint(self.color_stderr, Style::Warning, "warning:");
                let _ = writeln!(io::stderr().lock(), "{mark} {text}");
            }
        }
    }

    /// The last word of a command that failed.
    pub fn fail(&self, failure: &Failure) {
        let _ = self.flush();
        if failure.silent {
            return;
        }
        let line = match self.json {
            true => failure.to_json(),
            false => {
                format!("{} {}", paint(self.color_stderr, Style::Error, "error:"), failure.line())
            }
        };
        let _ = writeln!(io::stderr().lock(), "{line}");
    }
}

#[derive(Serialize)]
struct Warning<'a> {
    r#type: &'static str,
    message: &'a str,
}

/// Whether a stream gets colours.
pub fn use_color(choice: ColorChoice, is_terminal: bool) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => {
            let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
            is_terminal && !dumb && !set("NO_COLOR")
        }
    }
}

fn paint(color: bool, style: Style, text: &str) -> String {
    match color {
        true => format!("\x1b[{}m{text}\x1b[0m", style.code()),
        false => text.to_owned(),
    }
}

/// One line of JSON that a terminal shows and does not obey: JSON's own escapes stand for every
/// character that cannot be seen.
pub fn json_text(value: &impl Serialize) -> String {
    let plain =
        serde_json::to_string(value).expect("the shapes have text keys and no map that could fail");
    if plain.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return plain;
    }
    let mut safe = String::with_capacity(plain.len() + 16);
    for c in plain.chars() {
        let mut buffer = [0; 4];
        let bytes = c.encode_utf8(&mut buffer).as_bytes();
        // Outside of strings JSON is ASCII, so this touches the inside of strings only.
        match c == '\\' || text::escape(bytes).as_bytes() == bytes {
            true => safe.push(c),
            false => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    safe.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    safe
}

/// Where a column's text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// At its left.
    Left,
    /// At its right.
    Right,
}

/// Rows under a heading, as wide as they need to be.
#[derive(Debug)]
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<(String, Option<Style>)>>,
}

impl Table {
    /// An empty one.
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; what comes from outside is escaped by then.
    pub fn row(&mut self, cells: Vec<(String, Option<Style>)>) {
        self.rows.push(cells);
    }

    /// Writes it as data.
    pub fn print(&self, output: &Output) -> Result<()> {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|(text, _)| text.chars().count()).max().unwrap_or(0)
        };
        let heads = self.columns.iter().map(|(head, _)| head.chars().count());
        let widths: Vec<usize> = heads.enumerate().map(|(i, head)| head.max(width(i))).collect();
        let heads = self.columns.iter().map(|(head, _)| ((*head).to_owned(), Some(Style::Heading)));
        self.print_row(output, &heads.collect::<Vec<_>>(), &widths)?;
        self.rows.iter().try_for_each(|row| self.print_row(output, row, &widths))
    }

    fn print_row(
        &self,
        output: &Output,
        row: &[(String, Option<Style>)],
        widths: &[usize],
    ) -> Result<()> {
        let mut line = String::new();
        for (i, ((text, style), (width, (_, align)))) in
            row.iter().zip(widths.iter().zip(&self.columns)).enumerate()
        {
            let fill = " ".repeat(width.saturating_sub(text.chars().count()));
            let painted = style.map_or_else(|| text.clone(), |style| output.paint(style, text));
            let is_last = i + 1 == row.len();
            line.push_str(if i > 0 { "  " } else { "" });
            match align {
                Align::Right => line.push_str(&format!("{fill}{painted}")),
                Align::Left if is_last => line.push_str(&painted),
                Align::Left => line.push_str(&format!("{painted}{fill}")),
            }
        }
        output.line(line.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_safe_for_a_terminal_and_says_the_same() {
        let text = "a\u{9b}31m\u{7f}\u{202e}\u{e0041}\n\"\\Grüße 日本";
        let line = json_text(&text);
        assert_eq!(line, r#""a\u009b31m\u007f\u202e\udb40\udc41\n\"\\Grüße 日本""#);
        assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
        assert_eq!(json_text(&"plain"), "\"plain\"");
    }
}
