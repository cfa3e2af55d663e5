//! Reading Rust, just well enough.

pub fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

pub fn name_at(text: &str) -> &str {
    let end = text.bytes().position(|b| !is_name(b)).unwrap_or(text.len());
    &text[..end]
}

/// Where `needle` stands in `text` without being a part of a longer name.
pub fn words<'a>(text: &'a str, needle: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = text.as_bytes();
    let ends = |at: usize| bytes.get(at).is_none_or(|b| !is_name(*b));
    let whole = move |at: &usize| {
        let starts_name = needle.bytes().next().is_some_and(is_name);
        let ends_name = needle.bytes().last().is_some_and(is_name);
        (!starts_name || *at == 0 || ends(*at - 1)) && (!ends_name || ends(*at + needle.len()))
    };
    text.match_indices(needle).map(|(at, _)| at).filter(whole)
}

pub fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        // Newlines stay so that lines keep their numbers, quotes so that a literal stays one.
        let blank = |b: &mut u8| {
            if !matches!(*b, b'\n' | b'"') {
                *b = b' ';
            }
        };
        code[at..end].iter_mut().for_each(blank);
        at = end.max(at + 1);
    }
    String::from_utf8(code).expect("characters are blanked as a whole")
}

/// The end of the comment or literal that begins at `at`; `at` itself if none does.
fn literal_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let until = |needle: &[u8], from: usize| {
        let found = bytes[from..].windows(needle.len()).position(|w| w == needle);
        found.map_or(bytes.len(), |n| from + n + needle.len())
    };
    if rest.starts_with(b"//") {
        return until(b"\n", at) - 1;
    }
    if rest.starts_with(b"/*") {
        let (mut depth, mut end) = (0, at);
        while end < bytes.len() {
            match &bytes[end..] {
                [b'/', b'*', ..] => (depth, end) = (depth + 1, end + 2),
                [b'*', b'/', ..] => (depth, end) = (depth - 1, end + 2),
                _ => end += 1,
            }
            if depth == 0 {
                break;
            }
        }
        return end;
    }
    let starts_name = at == 0 || !is_name(bytes[at - 1]) || bytes[at - 1] == b'b';
    if rest[0] == b'r' && starts_name {
        let hashes = rest[1..].iter().take_while(|b| **b == b'#').count();
        if rest.get(1 + hashes) == Some(&b'"') {
            let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
            return until(&close, at + hashes + 2);
        }
    }
    let quoted = |quote: u8| {
        let mut end = at + 1;
        while end < bytes.len() && bytes[end] != quote {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        (end + 1).min(bytes.len())
    };
    match rest {
        [b'"', ..] => quoted(b'"'),
        [b'\'', b'\\', ..] => quoted(b'\''),
        // A character and not a lifetime: the quote closes right after it.
        [b'\'', after @ ..] => {
            let len = 1 + after.iter().skip(1).take_while(|b| **b & 0xc0 == 0x80).count();
            if after.get(len) == Some(&b'\'') { at + len + 2 } else { at }
        }
        _ => at,
    }
}

/// The part of `code` from its first `{` to the `}` that closes it.
pub fn braces(code: &str) -> Option<&str> {
    let start = code.find('{')?;
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(start) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&code[start..=at]);
        }
    }
    None
}

/// The first names of the paths that follow `crate::`: one, or those of a group.
pub fn first_names(rest: &str) -> Vec<&str> {
    let rest = rest.trim_start();
    let Some(group) = rest.starts_with('{').then(|| braces(rest)).flatten() else {
        return vec![name_at(rest)];
    };
    let (mut names, mut depth, mut start) = (Vec::new(), 0, 1);
    for (at, byte) in group.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if (byte == b',' && depth == 1) || depth == 0 {
            let part = group[start..at].trim();
            names.extend((!part.is_empty()).then(|| name_at(part)));
            start = at + 1;
        }
    }
    names
}
