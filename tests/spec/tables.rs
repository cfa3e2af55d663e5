//! The tables of the pages against the constants of the code.

use std::collections::BTreeMap;
use std::path::PathBuf;

use holdall::{crypto, format, limits};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The cells of the table below the heading `Table: <title>` of a page.
fn table(page: &str, title: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(root().join("format-spec").join(page)).unwrap();
    let heading = format!("Table: {title}");
    let rows: Vec<Vec<String>> = text
        .lines()
        .skip_while(|line| line.trim_start_matches('#').trim() != heading)
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| {
            let cells = line.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
        })
        .collect();
    assert!(!rows.is_empty(), "{page} has no table {title:?}");
    rows
}

macro_rules! limits {
    ($($name:ident)*) => { [$((stringify!($name), u128::try_from(limits::$name).unwrap())),*] };
}

#[test]
fn limits_are_those_of_the_code() {
    let code = BTreeMap::from(limits![
        CHUNK_LEN_MAX CHUNKER_SIZE_MIN FRAME_PLAIN_LEN_MAX FRAME_SEALED_LEN_MAX FRAME_CHUNKS_MAX
        PACK_FRAMES_MAX PACK_LEN_MAX TRAILER_LEN_MAX OBJECT_LEN_MAX SEGMENT_PACKS_MAX
        PARITY_SHARDS_MAX PARITY_SHARD_LEN_MAX PARITY_HEAD_LEN_MAX PARITY_PERCENT_MAX
        CONFIG_LEN_MAX SLOT_LEN_MAX SLOTS_MAX BUNDLE_KEYS_MAX ARGON2_MEMORY_KIB_MIN
        ARGON2_MEMORY_KIB_MAX ARGON2_PASSES_MAX ARGON2_LANES_MAX ARGON2_WORK_KIB_MAX
        NAME_LEN_MAX SYMLINK_LEN_MAX
        OWNER_LEN_MAX XATTRS_MAX XATTR_NAME_LEN_MAX XATTR_VALUE_LEN_MAX ENTRY_LEN_MAX REFS_MAX
        REFS_DEPTH_MAX TREE_DEPTH_MAX CONTENT_LEN_MAX TEXT_LEN_MAX LIST_MAX EPOCH_PACKS_MAX
    ]);
    let rows = table("12-limits.md", "limits");
    let page: BTreeMap<&str, u128> =
        rows.iter().map(|row| (row[0].as_str(), row[1].parse().unwrap())).collect();
    assert_eq!(page.len(), rows.len(), "a constant stands twice in the table");
    assert_eq!(page, code);

    let source = std::fs::read_to_string(root().join("src/limits.rs")).unwrap();
    let constants: Vec<&str> = source
        .lines()
        .filter_map(|line| line.strip_prefix("pub const ")?.split(':').next())
        .collect();
    assert_eq!(constants.len(), code.len(), "this test forgets a constant, or knows one too many");
    for constant in constants {
        assert!(page.contains_key(constant), "{constant} is not in the table");
    }
}

/// The rows follow each other without a gap, and have this length together.
fn assert_layout(page: &str, title: &str, len: usize) {
    let mut end = 0;
    for row in table(page, title) {
        let (offset, size): (usize, usize) = (row[0].parse().unwrap(), row[1].parse().unwrap());
        assert_eq!(offset, end, "{page}, {title}: {}", row[2]);
        end += size;
    }
    assert_eq!(end, len, "{page}, {title}");
}

#[test]
fn layouts_are_those_of_the_code() {
    assert_layout("03-keys.md", "slot", format::slot::HEAD_LEN + format::slot::WRAPPED_LEN);
    assert_eq!(format::slot::WRAPPED_LEN, crypto::WRAPPED_LEN);
    assert_layout("03-keys.md", "bundle entry", 37);
    assert_layout("04-envelope.md", "envelope header", format::envelope::HEADER_LEN);
    assert_layout("05-config.md", "config start", 8 + 2 + 32 + 32);
    assert_layout("07-pack.md", "pack header", format::pack::HEADER_LEN);
    assert_layout("07-pack.md", "pack footer", format::pack::FOOTER_LEN);
    assert_layout("16-parity.md", "parity mark", format::parity::MARK_LEN);
    assert_layout("07-pack.md", "frame header", format::frame::HEADER_LEN);
    assert_eq!(format::frame::SEALED_KEY_LEN, crypto::SEALED_KEY_LEN);
    for tag_len in [format::frame::TAG_LEN, format::envelope::TAG_LEN, crypto::TAG_LEN] {
        assert_eq!(tag_len, 16);
    }
}

#[test]
fn magics_are_those_of_the_code() {
    for (page, title, magic) in [
        ("03-keys.md", "slot", &format::slot::MAGIC[..]),
        ("04-envelope.md", "envelope header", &format::envelope::MAGIC),
        ("07-pack.md", "pack header", &format::pack::MAGIC),
        ("07-pack.md", "pack footer", &format::pack::END_MAGIC),
        ("07-pack.md", "frame header", &format::frame::MAGIC),
        ("16-parity.md", "parity mark", &format::parity::MAGIC),
    ] {
        let rows = table(page, title);
        let row = rows.iter().find(|row| row[2] == "magic").unwrap();
        assert_eq!(row[3].as_bytes(), magic, "{page}");
        assert_eq!(row[1].parse(), Ok(magic.len()));
    }
}

#[test]
fn masks_are_those_of_the_chunker() {
    use fastcdc::v2020::{Normalization, select_masks};
    let rows = table("06-chunking.md", "masks");
    assert_eq!(rows.len(), 10, "one for each accepted average");
    for row in rows {
        let mask = |cell: &str| u64::from_str_radix(cell.trim_start_matches("0x"), 16).unwrap();
        let masks = (mask(&row[1]), mask(&row[2]));
        let average: usize = row[0].parse().unwrap();
        assert_eq!(masks, select_masks(average, Normalization::Level1), "{average}");
        let bits = average.ilog2();
        assert_eq!((masks.0.count_ones(), masks.1.count_ones()), (bits + 1, bits - 1));
    }
}

/// Every context string of the code is in the table, and the other way round.
#[test]
fn contexts_are_those_of_the_code() {
    let contexts = |text: &str, quote: char| {
        let pieces = text.split(quote).filter(|piece| piece.starts_with("holdall 1 "));
        pieces.map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
    };
    let mut code = String::new();
    for name in ["keyring", "mod", "seal", "unlock"] {
        let path = root().join("src/crypto").join(name).with_extension("rs");
        code += &std::fs::read_to_string(path).unwrap();
    }
    let page = std::fs::read_to_string(root().join("format-spec/02-primitives.md")).unwrap();
    let rows: String = page.lines().filter(|line| line.starts_with("| `holdall 1 ")).collect();
    assert_eq!(contexts(&rows, '`'), contexts(&code, '"'));
}
