//! Text for people: names made safe for a terminal, sizes, durations and counts.

use std::fmt::Write;
use std::num::NonZeroU64;
use std::time::Duration;

/// Why a text does not say what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// A backslash that begins none of the forms that `escape` writes.
    #[error("the backslash at byte {offset} begins no known escape")]
    Escape {
        /// Where the backslash is, bytes from the front.
        offset: usize,
    },
    /// No number with a unit of size.
    #[error("{0:?} is not a size such as 500M or 1.5GiB")]
    Size(String),
    /// A size that 64 bits do not hold.
    #[error("{0:?} is more than 16 EiB")]
    SizeTooLarge(String),
    /// A rate at which nothing would ever be done.
    #[error("{0:?} is less than 1 KiB a second")]
    RateTooSmall(String),
}

/// Characters that show nothing, or change how the characters around them show: Unicode's format
/// characters (bidirectional controls and zero-width joiners among them), its line and paragraph
/// separators, and all that a terminal is told to draw as nothing. Sorted.
const INVISIBLE: [(u32, u32); 27] = [
    (0x00ad, 0x00ad),
    (0x034f, 0x034f),
    (0x0600, 0x0605),
    (0x061c, 0x061c),
    (0x06dd, 0x06dd),
    (0x070f, 0x070f),
    (0x0890, 0x0891),
    (0x08e2, 0x08e2),
    (0x115f, 0x1160),
    (0x17b4, 0x17b5),
    (0x180b, 0x180f),
    (0x200b, 0x200f),
    (0x2028, 0x202e),
    (0x2060, 0x206f),
    (0x3164, 0x3164),
    (0xfe00, 0xfe0f),
    (0xfeff, 0xfeff),
    (0xffa0, 0xffa0),
    (0xfff0, 0xfffb),
    (0xfffe, 0xffff),
    (0x110bd, 0x110bd),
    (0x110cd, 0x110cd),
    (0x13430, 0x1343f),
    (0x1bca0, 0x1bca3),
    (0x1d173, 0x1d17a),
    (0xe0000, 0xe0fff),
    (0xf0000, 0x10ffff),
];

fn is_shown(c: char) -> bool {
    let number = u32::from(c);
    let invisible = INVISIBLE.iter().any(|(first, last)| (*first..=*last).contains(&number));
    !c.is_control() && !invisible
}

/// A name, whatever its bytes, as text that a terminal shows and does not obey.
///
/// What can be seen stays. A backslash is doubled; `\n`, `\r`, `\t` and `\e` are as in a shell;
/// other single bytes, valid or not, are `\xNN`; other characters that cannot be seen are
/// `\u{NNNN}`. Two different names never become the same text: `unescape` is the way back.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '\x1b' => text.push_str("\\e"),
                c if is_shown(c) => text.push(c),
                c if c.is_ascii() => {
                    push_format(&mut text, format_args!("\\x{:02x}", u32::from(c)))
                }
                c => push_format(&mut text, format_args!("\\u{{{:04x}}}", u32::from(c))),
            }
        }
        for byte in chunk.invalid() {
            push_format(&mut text, format_args!("\\x{byte:02x}"));
        }
    }
    text
}

fn push_format(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a string takes whatever is written to it");
}

/// The bytes that `escape` made this text from.
pub fn unescape(text: &str) -> Result<Vec<u8>, TextError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, from) = rest.split_at(at);
        bytes.extend_from_slice(before.as_bytes());
        let offset = text.len() - from.len();
        rest = take_escape(&from[1..], &mut bytes).ok_or(TextError::Escape { offset })?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

/// Takes what follows a backslash off the front of `text`, and gives the rest of it.
fn take_escape<'a>(text: &'a str, bytes: &mut Vec<u8>) -> Option<&'a str> {
    let mut chars = text.chars();
    let plain = match chars.next()? {
        '\\' => b'\\',
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'e' => 0x1b,
        'x' => {
            let (digits, rest) = chars.as_str().split_at_checked(2)?;
            bytes.push(u8::try_from(hex(digits)?).ok()?);
            return Some(rest);
        }
        'u' => {
            let (digits, rest) = chars.as_str().strip_prefix('{')?.split_once('}')?;
            let c = char::from_u32(hex(digits)?)?;
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(rest);
        }
        _ => return None,
    };
    bytes.push(plain);
    Some(chars.as_str())
}

fn hex(digits: &str) -> Option<u32> {
    // `from_str_radix` takes a sign as well, which no escape has.
    let all = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
    all.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
}

const UNITS: [char; 6] = ['K', 'M', 'G', 'T', 'P', 'E'];

/// A size in binary units with one decimal: "0 B", "1.5 GiB".
pub fn size(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // In tenths of the unit, rounded; u128 holds ten times any u64.
    let tenths = |unit: u128| (u128::from(bytes) * 10 + unit / 2) / unit;
    let mut unit = 1024;
    let mut letter = UNITS[0];
    for next in &UNITS[1..] {
        // What would round to 1024.0 of one unit is 1.0 of the next.
        if tenths(unit) < 10_240 {
            break;
        }
        unit *= 1024;
        letter = *next;
    }
    let tenths = tenths(unit);
    format!("{}.{} {letter}iB", tenths / 10, tenths % 10)
}

/// A size as people give it: bytes, or a number with a unit. `K`, `M`, `G`, … and `KiB`, `MiB`, …
/// are powers of 1024, `KB`, `MB`, … of 1000; upper or lower case; a fraction of a byte is dropped.
pub fn parse_size(text: &str) -> Result<u64, TextError> {
    let bad = || TextError::Size(text.chars().take(80).collect());
    let trimmed = text.trim();
    let end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(end);
    let scale = scale(&unit.trim().to_ascii_uppercase()).ok_or_else(bad)?;
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        Some(_) => return Err(bad()),
        None => (number, "0"),
    };
    // At most 18 digits after the point: scaled by at most 2^60 they stay within u128.
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty();
    if !digits(whole) || !digits(fraction) || fraction.len() > 18 {
        return Err(bad());
    }
    let too_large = || TextError::SizeTooLarge(text.chars().take(80).collect());
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    let part: u128 = fraction.parse().map_err(|_| bad())?;
    let ten_to = fraction.bytes().fold(1u128, |value, _| value * 10);
    let total = u128::from(whole) * u128::from(scale) + part * u128::from(scale) / ten_to;
    u64::try_from(total).map_err(|_| too_large())
}

/// Bytes a second as people give them: a size. What is below 1 KiB was meant to have a unit.
pub fn parse_rate(text: &str) -> Result<NonZeroU64, TextError> {
    let rate = NonZeroU64::new(parse_size(text)?).filter(|rate| rate.get() >= 1 << 10);
    rate.ok_or_else(|| TextError::RateTooSmall(text.chars().take(80).collect()))
}

fn scale(unit: &str) -> Option<u64> {
    let (base, letter) = match unit {
        "" | "B" => return Some(1),
        unit => match (unit.strip_suffix("IB"), unit.strip_suffix('B')) {
            (Some(letter), _) => (1024, letter),
            (None, Some(letter)) => (1000, letter),
            (None, None) => (1024u64, unit),
        },
    };
    let power = UNITS.iter().zip(1..).find(|(u, _)| letter.chars().eq([**u]));
    power.map(|(_, power)| base.pow(power))
}

/// A time span with two units at most: "350 ms", "3.4 s", "12 min 05 s", "2 h 07 min", "3 d 04 h".
pub fn duration(span: Duration) -> String {
    let (millis, seconds) = (span.as_millis(), span.as_secs());
    match seconds {
        0 => format!("{millis} ms"),
        1..10 => format!("{}.{} s", seconds, span.subsec_millis() / 100),
        10..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {:02} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {:02} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// A number with a comma between groups of three digits.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number and what it counts: "1 entry", "1,234 entries".
pub fn plural(number: u64, one: &str, many: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{} {many}", count(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_can_be_seen_stays_and_nothing_else() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"plain name.txt", "plain name.txt"),
            ("Grüße 日本 \u{1f600} e\u{301}".as_bytes(), "Grüße 日本 \u{1f600} e\u{301}"),
            (b"a\\b", r"a\\b"),
            (b"a\nb\rc\td\x1b[31m", r"a\nb\rc\td\e[31m"),
            (b"\0\x07\x7f", r"\x00\x07\x7f"),
            ("\u{85}\u{9b}".as_bytes(), r"\u{0085}\u{009b}"),
            (b"\xff\xfe", r"\xff\xfe"),
            (b"caf\xe9", r"caf\xe9"),
            (b"\xed\xa0\x80", r"\xed\xa0\x80"),
            (b"\xe2\x82", r"\xe2\x82"),
            (b"\xc0\xaf", r"\xc0\xaf"),
            ("evil\u{202e}txt.exe".as_bytes(), r"evil\u{202e}txt.exe"),
            ("\u{2066}\u{2069}\u{200e}\u{61c}".as_bytes(), r"\u{2066}\u{2069}\u{200e}\u{061c}"),
            ("\u{200b}\u{200d}\u{feff}\u{ad}".as_bytes(), r"\u{200b}\u{200d}\u{feff}\u{00ad}"),
            ("\u{2028}\u{2029}".as_bytes(), r"\u{2028}\u{2029}"),
            ("\u{e0041}\u{10ffff}".as_bytes(), r"\u{e0041}\u{10ffff}"),
        ] {
            assert_eq!(escape(bytes), text);
            assert_eq!(unescape(text).as_deref(), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn the_table_of_invisible_characters_is_sorted() {
        assert!(INVISIBLE.iter().all(|(first, last)| first <= last));
        assert!(INVISIBLE.is_sorted_by(|a, b| a.1 < b.0));
    }

    #[test]
    fn escapes_that_are_none_are_refused() {
        for (bad, offset) in [
            ("\\", 0),
            ("ab\\q", 2),
            (r"\x1", 0),
            (r"\x+1", 0),
            (r"\xé", 0),
            (r"\\\u{}", 2),
            (r"\u{d800}", 0),
            (r"\u{110000}", 0),
            (r"\u{+41}", 0),
            (r"\u41", 0),
        ] {
            assert_eq!(unescape(bad), Err(TextError::Escape { offset }), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_name_comes_back(bytes: Vec<u8>) {
            let text = escape(&bytes);
            prop_assert!(text.chars().all(is_shown));
            prop_assert_eq!(unescape(&text), Ok(bytes));
        }

        #[test]
        fn any_text_comes_back(name: String) {
            let text = escape(name.as_bytes());
            prop_assert!(text.chars().all(is_shown));
            prop_assert_eq!(unescape(&text), Ok(name.into_bytes()));
        }

        #[test]
        fn unescape_takes_any_text(text in r"[\\xu{}0-9a-f\n]{0,12}") {
            let _ = unescape(&text);
        }
    }

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1_048_524, "1023.9 KiB"),
            (1_048_525, "1.0 MiB"),
            (1_288_490_189, "1.2 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn sizes_that_people_give() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("17b", 17),
            ("500M", 500 << 20),
            ("500 m", 500 << 20),
            ("1.5GiB", 3 << 29),
            ("0.5k", 512),
            (" 2 TB ", 2_000_000_000_000),
            ("1.0001KB", 1000),
            ("15EiB", 15 << 60),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for bad in
            ["", "M", "-1", "+1", "1.", ".5G", "1.2.3", "5X", "5KK", "5iB", "1e3", "1,5G", "½"]
        {
            assert_eq!(parse_size(bad), Err(TextError::Size(bad.into())), "{bad}");
        }
        for large in ["16EiB", "18446744073709551616", "99999999999999999999999"] {
            assert_eq!(parse_size(large), Err(TextError::SizeTooLarge(large.into())));
        }
    }

    #[test]
    fn rates() {
        assert_eq!(parse_rate("1K").map(NonZeroU64::get), Ok(1024));
        assert_eq!(parse_rate("10M").map(NonZeroU64::get), Ok(10 << 20));
        for small in ["0", "1023", "0.5K"] {
            assert_eq!(parse_rate(small), Err(TextError::RateTooSmall(small.into())));
        }
        assert_eq!(parse_rate("fast"), Err(TextError::Size("fast".into())));
    }

    #[test]
    fn durations() {
        for (millis, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_000, "1.0 s"),
            (9_990, "9.9 s"),
            (59_999, "59 s"),
            (60_000, "1 min 00 s"),
            (3_599_000, "59 min 59 s"),
            (7_620_000, "2 h 07 min"),
            (273_600_000, "3 d 04 h"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn counts() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (100_000, "100,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(count(number), text);
        }
        assert_eq!(plural(0, "entry", "entries"), "0 entries");
        assert_eq!(plural(1, "entry", "entries"), "1 entry");
        assert_eq!(plural(12_345, "entry", "entries"), "12,345 entries");
    }
}
