//! Snapshots, notes, records of forgetting.

use holdall::format::snapshot::{
    Forgotten, Note, Outcome as SnapshotOutcome, Snapshot, SnapshotKind, SnapshotProblem,
    Statistics,
};
use holdall::format::tree::{Ref, Refs};
use holdall::id::{ChunkId, ClientId, SnapshotId};
use holdall::world::Time;
use serde_json::{Value, json};

use super::{keys, ring, time};
use crate::by_hand::{derive, keyed_hash, varint};
use crate::cases::{Group, Outcome, bytes, fails, file, gives, good, hex, unhex};

pub const GROUP: Group = Group {
    file: "snapshots",
    about: "snapshots, notes, forgotten: hex is a payload; paths in results are in hex; a note of \
            a kind that is ignored gives \"ignored\". line_hashes: the hash by which a later \
            snapshot names the one with this payload, by the keys of bundle.",
    make,
    run,
};

fn snapshot() -> Snapshot {
    Snapshot {
        time: Time { seconds: 1_800_000_000, nanoseconds: 5 },
        offset_minutes: -330,
        host: "h\u{f6}st".into(),
        user: "user".into(),
        client: ClientId([3; 16]),
        job: "nightly".into(),
        kind: SnapshotKind::Scheduled,
        paths: vec![b"/a\xff".to_vec(), b"/b".to_vec()],
        tags: vec!["t".into(), "u".into()],
        description: "before the move".into(),
        root: Refs { depth: 0, refs: vec![Ref::Chunk { id: ChunkId([1; 32]), len: 9 }] },
        parent: Some(SnapshotId([2; 32])),
        original: None,
        epoch: 42,
        replaces: Some(SnapshotId([6; 32])),
        number: 300,
        previous: vec![(SnapshotId([2; 32]), [4; 32]), (SnapshotId([5; 32]), [7; 32])],
        outcome: SnapshotOutcome::Partial,
        problem_count: 2,
        problems: vec![SnapshotProblem { path: b"/a".to_vec(), why: "gone".into() }],
        statistics: Statistics {
            files: 1,
            directories: 2,
            others: 3,
            bytes: 4,
            files_new: 5,
            files_changed: 6,
            files_unchanged: 7,
            bytes_read: 8,
            bytes_new: 9,
            bytes_stored: 10,
            duration_ms: 11,
        },
        program: "holdall 1".into(),
    }
}

fn render_refs(refs: &Refs) -> Value {
    let item = |r: &Ref| match r {
        Ref::Chunk { id, len } => json!([len.to_string(), id.to_hex()]),
        Ref::Hole { len } => json!([len.to_string(), null]),
    };
    json!({ "depth": refs.depth, "refs": refs.refs.iter().map(item).collect::<Vec<_>>() })
}

fn render(s: &Snapshot) -> Value {
    let id = |id: &Option<SnapshotId>| id.map(|id| id.to_hex());
    let t = &s.statistics;
    let statistics = [
        t.files,
        t.directories,
        t.others,
        t.bytes,
        t.files_new,
        t.files_changed,
        t.files_unchanged,
        t.bytes_read,
        t.bytes_new,
        t.bytes_stored,
        t.duration_ms,
    ];
    let previous: Vec<Value> =
        s.previous.iter().map(|(id, hash)| json!([id.to_hex(), hex(hash)])).collect();
    let problems: Vec<Value> =
        s.problems.iter().map(|p| json!({ "path": hex(&p.path), "why": p.why })).collect();
    json!({
        "time": time(s.time), "zone": s.offset_minutes, "host": s.host, "user": s.user,
        "client": s.client.to_hex(), "job": s.job, "kind": s.kind as u8,
        "paths": s.paths.iter().map(hex).collect::<Vec<_>>(), "tags": s.tags,
        "description": s.description, "root": render_refs(&s.root), "parent": id(&s.parent),
        "original": id(&s.original), "epoch": s.epoch.to_string(), "replaces": id(&s.replaces),
        "number": s.number.to_string(), "previous": previous, "outcome": s.outcome as u8,
        "problem_count": s.problem_count.to_string(), "problems": problems,
        "statistics": statistics, "program": s.program,
    })
}

fn note() -> Note {
    Note {
        snapshot: SnapshotId([1; 32]),
        counter: 7,
        time: Time::from_seconds(1_800_000_000),
        tags: vec!["a".into(), "b".into()],
        description: "d".into(),
        pinned: true,
        expires: Some(Time::from_seconds(1_900_000_000)),
    }
}

fn render_note(n: &Note) -> Value {
    json!({
        "snapshot": n.snapshot.to_hex(), "counter": n.counter.to_string(), "time": time(n.time),
        "tags": n.tags, "description": n.description, "pinned": n.pinned,
        "expiry": n.expires.map(time),
    })
}

fn make() -> Value {
    let with = |change: &dyn Fn(&mut Snapshot)| {
        let mut snapshot = snapshot();
        change(&mut snapshot);
        bytes(snapshot.encode())
    };
    let payload = snapshot().encode();
    let hole = Refs { depth: 0, refs: vec![Ref::Hole { len: 5 }] };
    // Time, zone, host, user, client, job come before the kind.
    let kind_at = 5 + 1 + 2 + 6 + 5 + 16 + 8;
    let byte = |at: usize, value: u8| {
        let mut payload = payload.clone();
        payload[at] = value;
        bytes(payload)
    };
    assert_eq!(payload[kind_at], 1);
    let written = note().encode();
    let plain = Note { pinned: false, expires: None, tags: vec![], ..note() };
    let forgotten = Forgotten {
        time: Time::from_seconds(1_800_000_000),
        host: "h".into(),
        client: ClientId([1; 16]),
        snapshots: vec![
            (SnapshotId([2; 32]), ClientId([3; 16]), 4),
            (SnapshotId([5; 32]), ClientId([6; 16]), 1 << 40),
        ],
    };
    let keys = keys();
    let line_key = derive("holdall 1 line of snapshots", &keys.get(8, 0));
    file(
        json!({"bundle": hex(keys.bundle())}),
        [
            (
                "snapshots",
                vec![
                    gives("all fields", bytes(&payload), render(&snapshot())),
                    good("empty fields", bytes(Snapshot::default().encode())),
                    good("bytes behind the fields", bytes([&payload[..], b"later"].concat())),
                    good("farthest zone", with(&|s| s.offset_minutes = 1560)),
                    fails("zone too far", "bad", with(&|s| s.offset_minutes = -1561)),
                    fails("root with a hole", "bad", with(&|s| s.root = hole.clone())),
                    fails("a kind that is not known", "bad", byte(kind_at, 4)),
                    fails("host is no utf-8", "bad", byte(9, 0xff)),
                    fails(
                        "host over the limit",
                        "too-large",
                        bytes([&payload[..8], &varint(65_537)].concat()),
                    ),
                    fails(
                        "too many tags",
                        "too-large",
                        bytes([&payload[..kind_at + 1], &[0], &varint(65_537)].concat()),
                    ),
                    fails("cut short", "truncated", bytes(&payload[..payload.len() - 1])),
                    fails("nothing", "truncated", bytes([])),
                ],
            ),
            (
                "notes",
                vec![
                    gives("all fields", bytes(&written), render_note(&note())),
                    gives(
                        "neither pinned nor to expire",
                        bytes(plain.encode()),
                        render_note(&plain),
                    ),
                    gives(
                        "bytes behind the fields",
                        bytes([&written[..], b"later"].concat()),
                        render_note(&note()),
                    ),
                    gives("a kind that is ignored", bytes([2, 9, 9]), json!("ignored")),
                    fails("cut short", "truncated", bytes(&written[..written.len() - 1])),
                    fails("nothing", "truncated", bytes([])),
                ],
            ),
            (
                "forgotten",
                vec![
                    good("two snapshots", bytes(forgotten.encode())),
                    good(
                        "bytes behind the fields",
                        bytes([&forgotten.encode()[..], b"later"].concat()),
                    ),
                    fails("cut short", "truncated", bytes(&forgotten.encode()[..90])),
                ],
            ),
            (
                "line_hashes",
                vec![gives("all fields", bytes(&payload), hex(keyed_hash(&line_key, &payload)))],
            ),
        ],
    )
}

fn run(file: &Value, list: &str, case: &Value) -> Outcome {
    let payload = unhex(&case["hex"]);
    Ok(match list {
        "snapshots" => render(&Snapshot::decode(&payload)?),
        "notes" => Note::decode(&payload)?.map_or("ignored".into(), |note| render_note(&note)),
        "forgotten" => {
            let f = Forgotten::decode(&payload)?;
            let snapshots: Vec<Value> = f
                .snapshots
                .iter()
                .map(|(id, client, n)| json!([id.to_hex(), client.to_hex(), n.to_string()]))
                .collect();
            let (time, client) = (time(f.time), f.client.to_hex());
            json!({ "time": time, "host": f.host, "client": client, "snapshots": snapshots })
        }
        _ => hex(ring(file).snapshot_hash(&payload)?).into(),
    })
}
