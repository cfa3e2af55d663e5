//! Records of damage.

use holdall::format::damage::Damage;
use holdall::id::{ClientId, FrameId, PackId};
use holdall::limits;
use holdall::world::Time;
use serde_json::{Value, json};

use super::time;
use crate::by_hand::varint;
use crate::cases::{Group, Outcome, bytes, fails, file, good, hex, unhex};

pub const GROUP: Group =
    Group { file: "damage", about: "records of damage: hex is a payload.", make, run };

fn damage(frames: &[u8]) -> Damage {
    Damage {
        pack: PackId([1; 32]),
        frames: frames.iter().map(|byte| FrameId([*byte; 24])).collect(),
        time: Time { seconds: 1_800_000_000, nanoseconds: 1 },
        host: "host".into(),
        client: ClientId([2; 16]),
        why: "the frame at byte 16 is damaged".into(),
    }
}

fn make() -> Value {
    let written = damage(&[3, 4]).encode();
    let too_many = [&[1; 32][..], &varint(limits::PACK_FRAMES_MAX as u64 + 1)].concat();
    file(
        json!({}),
        [(
            "records",
            vec![
                good("two frames", bytes(&written)),
                good("the trailer only", bytes(damage(&[]).encode())),
                good("bytes behind the fields", bytes([&written[..], b"later"].concat())),
                fails("frames out of order", "bad", bytes(damage(&[4, 3]).encode())),
                fails("a frame twice", "bad", bytes(damage(&[3, 3]).encode())),
                fails("too many frames", "too-large", bytes(too_many)),
                fails("cut short", "truncated", bytes(&written[..written.len() - 1])),
                fails("no frames", "truncated", bytes(&written[..32])),
            ],
        )],
    )
}

fn run(_: &Value, _: &str, case: &Value) -> Outcome {
    let damage = Damage::decode(&unhex(&case["hex"]))?;
    Ok(json!({
        "pack": damage.pack.to_hex(),
        "frames": damage.frames.iter().map(|id| hex(id.as_bytes())).collect::<Vec<_>>(),
        "time": time(damage.time),
        "host": damage.host,
        "client": damage.client.to_hex(),
        "why": damage.why,
    }))
}
