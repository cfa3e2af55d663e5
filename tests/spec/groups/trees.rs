//! Entries and lists of references.

use holdall::format::tree::{Entry, EntryKind, Metadata, Ref, Refs, Xattr, decode_entries};
use holdall::id::ChunkId;
use holdall::world::Time;
use serde_json::{Value, json};

use super::time;
use crate::by_hand::{bytes as length_and, varint};
use crate::cases::{Group, Outcome, fails, file, good, hex, unhex};

pub const GROUP: Group = Group {
    file: "trees",
    about: "chunks: hex is an entry chunk; previous is the last name before it in the listing, in \
            hex, or null. lists: hex is a list chunk, depth and len those of the reference to it: \
            the depth that is asked for, and the bytes that it stands for. In results names, targets and attributes are in hex, and a reference is [len, id] \
            or [len, null] for a hole.",
    make,
    run,
};

fn render_refs(refs: &Refs) -> Value {
    let item = |r: &Ref| match r {
        Ref::Chunk { id, len } => json!([len.to_string(), id.to_hex()]),
        Ref::Hole { len } => json!([len.to_string(), null]),
    };
    json!({ "depth": refs.depth, "refs": refs.refs.iter().map(item).collect::<Vec<_>>() })
}

fn render(entry: &Entry) -> Value {
    let m = &entry.metadata;
    let (kind, more) = match &entry.kind {
        EntryKind::File { content, unstable } => {
            (1, json!({ "content": render_refs(content), "unstable": unstable }))
        }
        EntryKind::Directory { listing } => (2, json!({ "listing": render_refs(listing) })),
        EntryKind::Symlink { target } => (3, json!({ "target": hex(target) })),
        EntryKind::Fifo => (4, json!({})),
        EntryKind::Socket => (5, json!({})),
        EntryKind::CharDevice { major, minor } => (6, json!({ "major": major, "minor": minor })),
        EntryKind::BlockDevice { major, minor } => (7, json!({ "major": major, "minor": minor })),
    };
    let xattrs: Vec<Value> =
        m.xattrs.iter().map(|x| json!([hex(&x.name), hex(&x.value)])).collect();
    json!({
        "name": hex(&entry.name), "kind": kind, "more": more, "mode": m.mode, "uid": m.uid,
        "gid": m.gid, "user": hex(&m.user), "group": hex(&m.group), "mtime": time(m.mtime),
        "ctime": time(m.ctime), "inode": m.inode.to_string(), "links": m.links.to_string(),
        "device": m.device.to_string(), "xattrs": xattrs,
    })
}

fn chunk(n: u8, len: u64) -> Ref {
    Ref::Chunk { id: ChunkId([n; 32]), len }
}

fn entry(name: &[u8], kind: EntryKind) -> Entry {
    Entry { name: name.to_vec(), kind, metadata: Metadata::default() }
}

fn entries(entries: &[Entry]) -> Value {
    let mut out = vec![b'E'];
    entries.iter().for_each(|entry| entry.encode(&mut out));
    json!({ "hex": hex(out), "previous": null })
}

fn after(previous: &[u8], mut input: Value) -> Value {
    input["previous"] = hex(previous).into();
    input
}

/// Name, kind, flags; mode, uid, gid; no names; times of 1970; inode 5, one link, no attributes.
fn plain_entry(name: &[u8], kind: u8, flags: u8, more: &[u8]) -> Vec<u8> {
    let fixed = [kind, flags, 0xa4, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 5, 1, 0];
    length_and(&[length_and(name), fixed.to_vec(), more.to_vec()].concat())
}

fn raw(entries: &[Vec<u8>]) -> Value {
    json!({ "hex": hex([&b"E"[..], &entries.concat()].concat()), "previous": null })
}

fn all_kinds() -> Vec<Entry> {
    let content = Refs { depth: 1, refs: vec![chunk(7, 1 << 40), Ref::Hole { len: 4096 }] };
    let listing = Refs { depth: 0, refs: vec![chunk(8, 900)] };
    let full = Metadata {
        mode: 0o4755,
        uid: 1000,
        gid: u32::MAX,
        user: (*b"user").into(),
        group: (*b"gr\xff").into(),
        mtime: Time { seconds: -5, nanoseconds: 7 },
        ctime: Time { seconds: 1 << 40, nanoseconds: 999_999_999 },
        inode: u64::MAX,
        links: 2,
        device: 77,
        xattrs: vec![
            Xattr { name: b"security.capability".to_vec(), value: vec![1, 0, 0, 2] },
            Xattr { name: b"user.empty".to_vec(), value: vec![] },
        ],
    };
    let mut all = vec![
        entry(b"a", EntryKind::File { content, unstable: true }),
        entry(b"b\xff", EntryKind::Directory { listing }),
        entry(b"c\n", EntryKind::Symlink { target: b"../\xfe".to_vec() }),
        entry(b"d", EntryKind::Fifo),
        entry(b"e", EntryKind::Socket),
        entry(b"f", EntryKind::CharDevice { major: 1, minor: 3 }),
        entry(b"g", EntryKind::BlockDevice { major: 8, minor: u32::MAX }),
        entry(b"h", EntryKind::File { content: Refs::default(), unstable: false }),
        entry(b"i", EntryKind::Directory { listing: Refs::default() }),
    ];
    all[0].metadata = full;
    all
}

fn make() -> Value {
    let fifo = |name: &[u8]| entry(name, EntryKind::Fifo);
    let one = |name: &[u8]| entries(&[fifo(name)]);
    let link =
        |target: &[u8]| entries(&[entry(b"l", EntryKind::Symlink { target: target.to_vec() })]);
    let with = |change: &dyn Fn(&mut Metadata)| {
        let mut entry = fifo(b"a");
        change(&mut entry.metadata);
        entries(&[entry])
    };
    let attributes = |names: &[&[u8]]| {
        let xattr = |name: &&[u8]| Xattr { name: name.to_vec(), value: vec![1] };
        with(&|m| m.xattrs = names.iter().map(xattr).collect())
    };
    let all = entries(&all_kinds());
    let all_hex = all["hex"].as_str().unwrap();
    let cut = json!({ "hex": &all_hex[..all_hex.len() - 2], "previous": null });
    let hole = Refs { depth: 0, refs: vec![chunk(1, 5), Ref::Hole { len: 9 }] };
    let directory =
        |listing: &Refs| entries(&[entry(b"d", EntryKind::Directory { listing: listing.clone() })]);
    let list_of = |refs: &Refs, depth: u8, len: u64| json!({ "hex": hex(refs.encode_chunk()), "depth": depth, "len": len.to_string() });
    let list = |refs: &Refs, depth: u8| list_of(refs, depth, refs.len());
    let list_raw = |content: &[u8], depth: u8| json!({ "hex": hex([b"R", content].concat()), "depth": depth, "len": "1" });
    let summed = Refs { depth: 1, refs: vec![chunk(1, 65_536), Ref::Hole { len: 300 }] };
    file(
        json!({}),
        [
            (
                "chunks",
                vec![
                    good("all kinds", all.clone()),
                    good("nothing", entries(&[])),
                    good("after a smaller name", after(b"Z", one(b"a"))),
                    good("after a prefix of it", after(b"a", one(b"aa"))),
                    good("a made by hand", raw(&[plain_entry(b"a", 4, 0, b"")])),
                    good("flags that are not known", raw(&[plain_entry(b"a", 5, 0x7e, b"")])),
                    good("unstable on what is no file", raw(&[plain_entry(b"a", 5, 1, b"")])),
                    good(
                        "bytes behind the fields",
                        raw(&[plain_entry(b"a", 4, 0, b"later"), plain_entry(b"b", 4, 0, b"")]),
                    ),
                    good("the longest name", one(&[b'n'; 4096])),
                    good("a long target", link(&[b't'; 4096])),
                    good("no links", with(&|m| m.links = 0)),
                    fails("no tag", "truncated", json!({ "hex": "", "previous": null })),
                    fails("a list", "magic", json!({ "hex": "520000", "previous": null })),
                    fails("cut in the last entry", "truncated", cut),
                    fails("the same name twice", "bad", entries(&[fifo(b"a"), fifo(b"a")])),
                    fails("names in disorder", "bad", entries(&[fifo(b"b"), fifo(b"a")])),
                    fails("bytes compared as signed", "bad", entries(&[fifo(b"\xff"), fifo(b"a")])),
                    fails("after the same name", "bad", after(b"a", one(b"a"))),
                    fails("after a greater name", "bad", after(b"b", one(b"a"))),
                    fails("empty name", "bad", one(b"")),
                    fails("dot", "bad", one(b".")),
                    fails("dot dot", "bad", one(b"..")),
                    fails("slash", "bad", one(b"a/b")),
                    fails("NUL", "bad", one(b"a\0")),
                    fails("name over the limit", "too-large", one(&[b'n'; 4097])),
                    fails("empty target", "bad", link(b"")),
                    fails("NUL in a target", "bad", link(b"a\0b")),
                    fails(
                        "target over the limit",
                        "too-large",
                        raw(&[plain_entry(b"l", 3, 0, &varint(65_537))]),
                    ),
                    fails("mode over the limit", "too-large", with(&|m| m.mode = 0o10000)),
                    fails(
                        "owner's name over the limit",
                        "too-large",
                        with(&|m| m.user = vec![b'u'; 1025].into()),
                    ),
                    fails(
                        "nanoseconds over the limit",
                        "too-large",
                        with(&|m| m.mtime.nanoseconds = 1_000_000_000),
                    ),
                    fails("attributes in disorder", "bad", attributes(&[b"user.b", b"user.a"])),
                    fails("attribute twice", "bad", attributes(&[b"user.a", b"user.a"])),
                    fails("attribute without name", "bad", attributes(&[b""])),
                    fails("attribute with NUL", "bad", attributes(&[b"user\0"])),
                    fails(
                        "attribute's name over the limit",
                        "too-large",
                        attributes(&[&[b'x'; 1025]]),
                    ),
                    fails(
                        "a kind that is not known",
                        "newer",
                        raw(&[plain_entry(b"a", 8, 0, b"")]),
                    ),
                    fails("kind 0", "newer", raw(&[plain_entry(b"a", 0, 0, b"")])),
                    fails(
                        "owner over 32 bits",
                        "too-large",
                        raw(&[length_and(
                            &[&[1, b'a', 4, 0, 0][..], &varint(1 << 32), &[0; 10]].concat(),
                        )]),
                    ),
                    fails(
                        "a field beyond the entry",
                        "truncated",
                        raw(&[plain_entry(b"a", 3, 0, &[9, b'x'])]),
                    ),
                    fails("entry over the limit", "too-large", raw(&[varint((4 << 20) + 1)])),
                    fails("hole in a listing", "bad", directory(&hole)),
                    fails(
                        "depth over the limit",
                        "too-large",
                        directory(&Refs { depth: 9, refs: vec![] }),
                    ),
                    fails(
                        "reference without length",
                        "bad",
                        directory(&Refs { depth: 0, refs: vec![chunk(1, 0)] }),
                    ),
                ],
            ),
            (
                "lists",
                vec![
                    good(
                        "chunk and hole",
                        list(
                            &Refs { depth: 0, refs: vec![chunk(1, 65_536), Ref::Hole { len: 1 }] },
                            0,
                        ),
                    ),
                    good("depth 8", list(&Refs { depth: 8, refs: vec![chunk(1, 1 << 61)] }, 8)),
                    good(
                        "the longest stream",
                        list(
                            &Refs {
                                depth: 2,
                                refs: vec![chunk(1, 1 << 61), Ref::Hole { len: 1 << 61 }],
                            },
                            2,
                        ),
                    ),
                    good("empty", list(&Refs::default(), 0)),
                    fails(
                        "over the longest stream",
                        "bad",
                        list(&Refs { depth: 2, refs: vec![chunk(1, 1 << 62), chunk(1, 1)] }, 2),
                    ),
                    fails(
                        "lengths that overflow",
                        "bad",
                        list(
                            &Refs { depth: 0, refs: vec![Ref::Hole { len: i64::MAX as u64 }; 3] },
                            0,
                        ),
                    ),
                    fails(
                        "another depth",
                        "bad",
                        list(&Refs { depth: 1, refs: vec![chunk(1, 5)] }, 0),
                    ),
                    fails("a byte less than it stands for", "bad", list_of(&summed, 1, 65_835)),
                    fails("a byte more than it stands for", "bad", list_of(&summed, 1, 65_837)),
                    fails("only the chunks", "bad", list_of(&summed, 1, 65_536)),
                    fails(
                        "nothing where something is stood for",
                        "bad",
                        list_of(&Refs::default(), 0, 1),
                    ),
                    fails("depth 9", "too-large", list(&Refs { depth: 9, refs: vec![] }, 9)),
                    fails("hole without length", "bad", list_raw(&[0, 1, 1], 0)),
                    fails("a byte follows", "bad", list_raw(&[0, 0, 0], 0)),
                    fails("no id", "truncated", list_raw(&[0, 1, 2, 7], 0)),
                    fails(
                        "too many",
                        "too-large",
                        list_raw(&[&[0][..], &varint(65_537)].concat(), 0),
                    ),
                    fails("entries", "magic", json!({ "hex": "450000", "depth": 0, "len": "0" })),
                    fails("nothing", "truncated", json!({ "hex": "", "depth": 0, "len": "0" })),
                ],
            ),
        ],
    )
}

fn run(_: &Value, list: &str, case: &Value) -> Outcome {
    let input = unhex(&case["hex"]);
    if list == "lists" {
        let depth = case["depth"].as_u64().unwrap() as u8;
        let len = case["len"].as_str().unwrap().parse().unwrap();
        return Ok(render_refs(&Refs::decode_chunk(&input, depth, len)?));
    }
    let previous = case["previous"].is_string().then(|| unhex(&case["previous"]));
    let entries = decode_entries(&input, previous.as_deref())?;
    Ok(entries.iter().map(render).collect::<Vec<_>>().into())
}
