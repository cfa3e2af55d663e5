//! Session records, fence marks, epochs.

use holdall::format::epoch::{Plan, Sweep};
use holdall::format::session::{Purpose, Session};
use holdall::id::{ClientId, PackId, SnapshotId};
use holdall::world::Time;
use serde_json::{Value, json};

use super::time;
use crate::by_hand::varint;
use crate::cases::{Group, Outcome, bytes, fails, file, gives, good, hex, unhex};

pub const GROUP: Group = Group {
    file: "sessions",
    about: "sessions, fences, plans, sweeps: hex is a payload.",
    make,
    run,
};

fn session(purpose: Purpose) -> Session {
    Session {
        client: ClientId([1; 16]),
        host: "host".into(),
        process: 77,
        time: Time { seconds: 1_800_000_000, nanoseconds: 1 },
        purpose,
    }
}

fn make() -> Value {
    let purposes =
        [Purpose::Backup, Purpose::Copy, Purpose::Rewrite, Purpose::Repack, Purpose::Repair];
    let mut sessions: Vec<Value> = purposes
        .iter()
        .enumerate()
        .map(|(n, p)| good(&format!("purpose {n}"), bytes(session(*p).encode())))
        .collect();
    let written = session(Purpose::Backup).encode();
    let end = written.len();
    let unknown = [&written[..end - 1], &[5]].concat();
    let number = [&written[..21], &varint(1 << 32), &written[22..]].concat();
    sessions.extend([
        good("bytes behind the fields", bytes([&written[..], b"later"].concat())),
        fails("a purpose that is not known", "bad", bytes(unknown)),
        fails("process over 32 bits", "too-large", bytes(number)),
        fails("cut short", "truncated", bytes(&written[..end - 1])),
    ]);
    let (a, b, s) = ([1u8; 32], [2u8; 32], [3u8; 32]);
    let plan = [&[2][..], &a, &b, &[1], &s].concat();
    let says = json!({ "condemned": [hex(a), hex(b)], "marked": [hex(s)] });
    let sweep = [&[1][..], &b].concat();
    file(
        json!({}),
        [
            ("sessions", sessions),
            ("fences", fences()),
            (
                "plans",
                vec![
                    gives("two packs, one snapshot", bytes(&plan), says.clone()),
                    gives("bytes behind the fields", bytes([&plan[..], b"later"].concat()), says),
                    gives("empty", bytes([0, 0]), json!({ "condemned": [], "marked": [] })),
                    fails("too many packs", "too-large", bytes(varint((1 << 20) + 1))),
                    fails(
                        "too many snapshots",
                        "too-large",
                        bytes([vec![0], varint((1 << 20) + 1)].concat()),
                    ),
                    fails("cut short", "truncated", bytes(&plan[..plan.len() - 1])),
                    fails("no snapshots", "truncated", bytes([0])),
                ],
            ),
            (
                "sweeps",
                vec![
                    gives("one pack", bytes(&sweep), json!([hex(b)])),
                    gives("none", bytes([0]), json!([])),
                    gives(
                        "bytes behind the fields",
                        bytes([&sweep[..], b"later"].concat()),
                        json!([hex(b)]),
                    ),
                    fails("too many packs", "too-large", bytes(varint((1 << 20) + 1))),
                    fails("cut short", "truncated", bytes(&sweep[..32])),
                ],
            ),
        ],
    )
}

/// Marks are about who fenced, in the form of a session record.
fn fences() -> Vec<Value> {
    let written = session(Purpose::Repack).encode();
    let end = written.len();
    let host = |host: &[u8]| [&written[..16], host, &written[21..]].concat();
    let at_time = |time: &[u8]| [&written[..22], time, &[3]].concat();
    let seconds = [0x80, 0xc0, 0xd5, 0xb4, 0x0d];
    let case = |name: &str, class: &str, payload: &[u8]| fails(name, class, bytes(payload));
    vec![
        good("a mark", bytes(&written)),
        good("bytes behind the fields", bytes([&written[..], &[0; 40]].concat())),
        good("at another time", bytes(at_time(&[&seconds[..], &[7]].concat()))),
        case("nothing", "truncated", b""),
        case("cut in the client", "truncated", &written[..15]),
        case("cut in the host", "truncated", &written[..19]),
        case("cut before the purpose", "truncated", &written[..end - 1]),
        case("a host that is no UTF-8", "bad", &host(b"\x02\xff\xfe")),
        case("a host over the limit", "too-large", &host(&varint(65_537))),
        case(
            "nanoseconds over the limit",
            "too-large",
            &at_time(&[&seconds[..], &varint(1_000_000_000)].concat()),
        ),
        case(
            "seconds with a byte too many",
            "bad",
            &at_time(&[&seconds[..4], &[0x8d, 0, 7]].concat()),
        ),
        case("a purpose that is not known", "bad", &[&written[..end - 1], &[5]].concat()),
    ]
}

fn run(_: &Value, list: &str, case: &Value) -> Outcome {
    let payload = unhex(&case["hex"]);
    let packs = |ids: &[PackId]| ids.iter().map(PackId::to_hex).collect::<Vec<_>>();
    Ok(match list {
        "sessions" | "fences" => {
            let s = Session::decode(&payload)?;
            json!({
                "client": s.client.to_hex(), "host": s.host, "process": s.process,
                "time": time(s.time), "purpose": s.purpose as u8,
            })
        }
        "plans" => {
            let plan = Plan::decode(&payload)?;
            let marked: Vec<String> = plan.marked.iter().map(SnapshotId::to_hex).collect();
            json!({ "condemned": packs(&plan.condemned), "marked": marked })
        }
        _ => packs(&Sweep::decode(&payload)?.rescued).into(),
    })
}
