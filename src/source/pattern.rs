//! Patterns of names and paths: raw bytes, component by component.
//!
//! - `/a/b` is anchored at the root; `a/b` is the end of a path, by whole components; `b` is a name.
//! - `*` is any characters and `?` one, inside a component; `[a-z]`, `[!a-z]` one of these or none
//!   of these; `\` takes the next character as it is.
//! - `**` as a whole component is any number of them; at the end, at least one.
//! - `/` at the end: directories only. `!` at the front: takes in again what others leave out.
//!
//! A character is one of UTF-8, or a byte that belongs to none. Own code, since names and
//! patterns need not be UTF-8 and braces are ordinary here.

use crate::limits;

/// One pattern.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: Vec<u8>,
    /// Last component first: most comparisons end with the name.
    components: Vec<Component>,
    anchored: bool,
    directories_only: bool,
    negated: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Component {
    /// Any number of components.
    Across,
    Plain(Vec<u8>),
    Wild(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Plain(Vec<u8>),
    One,
    Any,
    Class { negated: bool, ranges: Vec<(u32, u32)> },
}

impl Pattern {
    /// The pattern that a text stands for, or what is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, &'static str> {
        if text.len() > limits::TEXT_LEN_MAX {
            return Err("it is too long");
        }
        if text.contains(&0) {
            return Err("no name contains a NUL byte");
        }
        let (negated, body) = match text {
            [b'!', body @ ..] => (true, body),
            body => (false, body),
        };
        let mut components = Vec::new();
        for part in body.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            match parse_component(part)? {
                Component::Across if components.last() == Some(&Component::Across) => {}
                component => components.push(component),
            }
        }
        match components.last() {
            None => return Err("it names nothing"),
            // Something below, not the directory itself.
            Some(Component::Across) => components.push(Component::Wild(vec![Token::Any])),
            Some(_) => {}
        }
        components.reverse();
        Ok(Self {
            text: text.to_vec(),
            components,
            anchored: body.starts_with(b"/"),
            directories_only: body.ends_with(b"/"),
            negated,
        })
    }

    /// As it was given.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Whether it takes in again instead of leaving out.
    pub fn is_negated(&self) -> bool {
        self.negated
    }

    /// Whether it matches the entry `name` of the directory with the absolute path `parent`;
    /// whether it is negated plays no part.
    pub fn matches(&self, parent: &[u8], name: &[u8], is_directory: bool) -> bool {
        if self.directories_only && !is_directory {
            return false;
        }
        let above = parent.rsplit(|byte| *byte == b'/').filter(|part| !part.is_empty());
        let mut path = std::iter::once(name).chain(above);
        // The usual star search, on components: on a mismatch the last `**` takes one more.
        let mut retry = None;
        let mut pattern = self.components.as_slice();
        loop {
            let fits = match pattern {
                [] if !self.anchored || path.clone().next().is_none() => return true,
                [] => false,
                [Component::Across, rest @ ..] => {
                    pattern = rest;
                    retry = Some((rest, path.clone()));
                    continue;
                }
                [component, rest @ ..] => {
                    pattern = rest;
                    path.next().is_some_and(|part| component.matches(part))
                }
            };
            if !fits {
                let Some((rest, from)) = &mut retry else { return false };
                if from.next().is_none() {
                    return false;
                }
                (pattern, path) = (*rest, from.clone());
            }
        }
    }
}

impl Component {
    fn matches(&self, part: &[u8]) -> bool {
        match self {
            Self::Across => true,
            Self::Plain(plain) => plain == part,
            Self::Wild(tokens) => wild_matches(tokens, part),
        }
    }
}

fn wild_matches(mut tokens: &[Token], mut rest: &[u8]) -> bool {
    let mut retry = None;
    loop {
        let after = match tokens {
            [] if rest.is_empty() => return true,
            [] => None,
            [Token::Any, more @ ..] => {
                tokens = more;
                retry = Some((more, rest));
                continue;
            }
            [Token::Plain(plain), ..] => rest.strip_prefix(plain.as_slice()),
            [Token::One, ..] => next_character(rest).map(|(_, after)| after),
            [Token::Class { negated, ranges }, ..] => next_character(rest)
                .filter(|(c, _)| ranges.iter().any(|(a, b)| (a..=b).contains(&c)) != *negated)
                .map(|(_, after)| after),
        };
        match (after, &mut retry) {
            (Some(after), _) => {
                rest = after;
                tokens = tokens.get(1..).unwrap_or_default();
            }
            (None, Some((more, from))) => {
                let Some((_, after)) = next_character(from) else { return false };
                *from = after;
                (tokens, rest) = (*more, after);
            }
            (None, None) => return false,
        }
    }
}

/// The first character as a number, and what comes after it. A byte that is no UTF-8 counts as a
/// character beyond all others.
fn next_character(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (&first, after) = bytes.split_first()?;
    if first < 0x80 {
        return Some((first.into(), after));
    }
    let head = bytes.get(..4).unwrap_or(bytes);
    let valid = head.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    match valid.chars().next() {
        Some(c) => bytes.get(c.len_utf8()..).map(|after| (c.into(), after)),
        None => Some((0x11_0000 + u32::from(first), after)),
    }
}

fn parse_component(part: &[u8]) -> Result<Component, &'static str> {
    match part {
        b"**" => return Ok(Component::Across),
        b"." | b".." => return Err("a path has no component \".\" or \"..\""),
        _ => {}
    }
    let mut tokens = Vec::new();
    let mut plain = Vec::new();
    let mut rest = part;
    while let [first, after @ ..] = rest {
        rest = after;
        let token = match first {
            b'*' => Token::Any,
            b'?' => Token::One,
            b'[' => {
                let (class, after) = parse_class(after)?;
                rest = after;
                class
            }
            b'\\' => {
                let [escaped, after @ ..] = after else { return Err("nothing after \"\\\"") };
                plain.push(*escaped);
                rest = after;
                continue;
            }
            byte => {
                plain.push(*byte);
                continue;
            }
        };
        if !plain.is_empty() {
            tokens.push(Token::Plain(std::mem::take(&mut plain)));
        }
        if token != Token::Any || tokens.last() != Some(&Token::Any) {
            tokens.push(token);
        }
    }
    if tokens.is_empty() {
        return Ok(Component::Plain(plain));
    }
    if !plain.is_empty() {
        tokens.push(Token::Plain(plain));
    }
    Ok(Component::Wild(tokens))
}

/// A class, from after its `[`, and what comes after its `]`.
fn parse_class(text: &[u8]) -> Result<(Token, &[u8]), &'static str> {
    const OPEN: &str = "\"[\" without \"]\"";
    let (negated, mut rest) = match text {
        [b'!' | b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut ranges = Vec::new();
    loop {
        if let ([b']', after @ ..], false) = (rest, ranges.is_empty()) {
            return Ok((Token::Class { negated, ranges }, after));
        }
        let (low, after) = class_character(rest).ok_or(OPEN)?;
        rest = after;
        let mut high = low;
        if let [b'-', after @ ..] = rest
            && !after.starts_with(b"]")
        {
            (high, rest) = class_character(after).ok_or(OPEN)?;
        }
        if low > high {
            return Err("a range that runs backwards");
        }
        ranges.push((low, high));
    }
}

fn class_character(text: &[u8]) -> Option<(u32, &[u8])> {
    next_character(text.strip_prefix(b"\\").unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &[u8], path: &[u8]) -> bool {
        let (path, is_directory) = match path {
            [path @ .., b'/'] => (path, true),
            path => (path, false),
        };
        let slash = path.iter().rposition(|b| *b == b'/').unwrap();
        let pattern = Pattern::parse(pattern).unwrap();
        pattern.matches(&path[..slash], &path[slash + 1..], is_directory)
    }

    #[test]
    fn what_patterns_match() {
        // Pattern; paths that match; paths that do not. A slash at a path's end: a directory.
        let table: [(&str, &[&str], &[&str]); 26] = [
            ("b", &["/b", "/a/b", "/a/b/"], &["/b/a", "/a/bb", "/ab", "/B"]),
            ("*.o", &["/x.o", "/a/.o", "/a/x.y.o"], &["/x.oo", "/x.o/a", "/xo"]),
            ("a/b", &["/a/b", "/x/a/b"], &["/xa/b", "/a/x/b", "/a/b/c", "/b"]),
            ("/a/b", &["/a/b", "/a/b/"], &["/x/a/b", "/a/b/c", "/a"]),
            ("/a", &["/a"], &["/b/a"]),
            ("b/", &["/b/", "/a/b/"], &["/b", "/a/b"]),
            ("/a/*/c", &["/a/b/c"], &["/a/c", "/a/b/b/c"]),
            ("/a/**/c", &["/a/c", "/a/b/c", "/a/b/d/c"], &["/c", "/b/a/c", "/a/c/d"]),
            ("a/**/c", &["/a/c", "/x/a/y/z/c"], &["/c", "/x/c"]),
            ("**/c", &["/c", "/a/c"], &["/c/a"]),
            ("/**/c", &["/c", "/a/c"], &["/c/a"]),
            ("a/**", &["/a/b", "/x/a/b/c"], &["/a/", "/x"]),
            ("/a/**/", &["/a/b/"], &["/a/", "/a/b"]),
            ("/a/**/b/**/c", &["/a/b/c", "/a/b/b/c", "/a/x/b/y/c"], &["/a/c", "/b/c"]),
            ("**", &["/a", "/a/b"], &[]),
            ("a**c", &["/abc", "/ac"], &["/a/c"]),
            ("?", &["/a", "/\u{e9}", "/\u{1f600}"], &["/ab", "/a/bc"]),
            ("[a-cx]1", &["/a1", "/x1"], &["/d1", "/a", "/1"]),
            ("[!a-c]", &["/d", "/\u{e9}"], &["/a", "/dd"]),
            ("[\u{e0}-\u{ef}]", &["/\u{e9}"], &["/e", "/\u{f9}"]),
            ("[]-]", &["/]", "/-"], &["/a"]),
            ("[\\]a]", &["/]", "/a"], &["/\\"]),
            ("\\*\\[", &["/*["], &["/a["]),
            ("{a,b}", &["/{a,b}"], &["/a"]),
            ("a//b", &["/a/b"], &["/b"]),
            ("*a*b*c*", &["/abc", "/xaxbxcx"], &["/acb", "/ab"]),
        ];
        for (pattern, hits, misses) in table {
            for path in hits {
                assert!(matches(pattern.as_bytes(), path.as_bytes()), "{pattern} {path}");
            }
            for path in misses {
                assert!(!matches(pattern.as_bytes(), path.as_bytes()), "{pattern} {path}");
            }
        }
    }

    #[test]
    fn bytes_that_are_no_text() {
        assert!(matches(b"\xff*", b"/a/\xff\xfe"));
        assert!(matches(b"?", b"/\xff"));
        assert!(!matches(b"?", b"/\xff\xfe"));
        assert!(matches(b"[\xf0-\xff]", b"/\xfe"));
        assert!(!matches(b"[!\xfe]", b"/\xfe"));
        assert!(matches(b"*\xa9", b"/\xa9") && matches(b"*\xa9", b"/x\xa9"));
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        for bad in ["", "/", "!", "!/", "[a", "a/[b/c]", "[]", "[z-a]", "a\\", "./a", "a/..", "a\0"]
        {
            assert!(Pattern::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Pattern::parse(&vec![b'a'; limits::TEXT_LEN_MAX + 1]).is_err());
    }

    #[test]
    fn stars_do_not_take_for_ever() {
        let pattern = [&b"*a".repeat(60)[..], b"b"].concat();
        assert!(!matches(&pattern, &[&b"/"[..], &b"a".repeat(255)].concat()));
        let pattern = [&b"/**/a".repeat(60)[..], b"/b"].concat();
        assert!(!matches(&pattern, &b"/a".repeat(2_000)));
    }
}
