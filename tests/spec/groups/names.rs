//! Names of objects.

use holdall::format::{copies, damage, epoch, pack, session, snapshot};
use holdall::id::{NoteId, SlotId, SnapshotId};
use serde_json::{Value, json};

use crate::cases::{Group, Outcome, file, gives};

pub const GROUP: Group = Group {
    file: "names",
    about: "names: what an object of this name is, and its id or number; kind is null for names \
            that readers ignore.",
    make,
    run,
};

fn make() -> Value {
    let id = |c: &str| c.repeat(32);
    let case = |name: String, kind: Value, id: Value| {
        let result = json!({ "kind": kind, "id": id });
        gives(&name.clone(), json!({ "object": name }), result)
    };
    let known = |prefix: &str, kind: &str| {
        case(format!("{prefix}{}", id("1f")), kind.into(), id("1f").into())
    };
    let ignored = |name: String| case(name, Value::Null, Value::Null);
    let epoch = |text: &str, step: &str, number: &str| {
        case(format!("epochs/{text}/{step}"), step.into(), number.into())
    };
    file(
        json!({}),
        [(
            "names",
            vec![
                case("config".into(), "config".into(), Value::Null),
                known("keys/", "slot"),
                known("packs/1f/", "pack"),
                known("index/", "segment"),
                known("sessions/", "session"),
                case(format!("sessions/{}.fenced", id("1f")), "fence".into(), id("1f").into()),
                known("snapshots/", "snapshot"),
                known("notes/", "note"),
                known("forgotten/", "forgotten"),
                known("damage/", "damage"),
                case("copies/config".into(), "copied config".into(), Value::Null),
                known("copies/keys/", "copied slot"),
                ignored(format!("copies/notes/{}", id("1f"))),
                ignored(format!("damage/{}", id("1F"))),
                epoch("0000000000000001", "plan", "1"),
                epoch("0000000000000042", "sweep", "42"),
                epoch("18446744073709551615", "done", "18446744073709551615"),
                ignored(format!("packs/1e/{}", id("1f"))),
                ignored(format!("packs/1F/{}", id("1F"))),
                ignored(format!("packs/{}", id("1f"))),
                ignored(format!("keys/{}", id("1F"))),
                ignored(format!("index/{}", &id("1f")[1..])),
                ignored(format!("snapshots/{}0", id("1f"))),
                ignored(format!("sessions/{}.other", id("1f"))),
                ignored("epochs/1/plan".into()),
                ignored("epochs/0000000000000000/plan".into()),
                ignored("epochs/00000000000000001/plan".into()),
                ignored("epochs/+000000000000001/plan".into()),
                ignored("epochs/18446744073709551616/plan".into()),
                ignored("epochs/0000000000000001/other".into()),
                ignored(format!(".tmp/{}", id("1f"))),
                ignored(format!("packs/.tmp/{}", id("1f"))),
                ignored(format!("parity/{}", id("1f"))),
                ignored("maintainer".into()),
                ignored("readme.txt".into()),
            ],
        )],
    )
}

fn run(_: &Value, _: &str, case: &Value) -> Outcome {
    let name = case["object"].as_str().unwrap();
    let of = |kind: &str, id: String| Some((kind.to_owned(), Value::from(id)));
    let by_id = |kind: &str| {
        let id = SnapshotId::from_hex(name.rsplit('/').next()?).ok()?;
        let same = match kind {
            "slot" => holdall::format::slot::slot_key(&SlotId(id.0)) == name,
            "segment" => format!("index/{id}") == name,
            "snapshot" => snapshot::snapshot_key(&id) == name,
            "note" => snapshot::note_key(&NoteId(id.0)) == name,
            _ => snapshot::forgotten_key(&NoteId(id.0)) == name,
        };
        same.then(|| (kind.to_owned(), Value::from(id.to_hex())))
    };
    let found = match name.split('/').next().unwrap() {
        "config" if name == holdall::format::config::KEY => Some(("config".into(), Value::Null)),
        "packs" => pack::pack_of_key(name).and_then(|id| of("pack", id.to_hex())),
        "sessions" => session::session_of_key(name).and_then(|found| match found {
            session::SessionObject::Record(id) => of("session", id.to_hex()),
            session::SessionObject::Fence(id) => of("fence", id.to_hex()),
        }),
        "epochs" => epoch::epoch_of_key(name)
            .and_then(|(number, step)| of(&format!("{step:?}").to_lowercase(), number.to_string())),
        "keys" => by_id("slot"),
        "index" => by_id("segment"),
        "snapshots" => by_id("snapshot"),
        "notes" => by_id("note"),
        "forgotten" => by_id("forgotten"),
        "damage" => damage::damage_of_key(name).and_then(|id| of("damage", id.to_hex())),
        "copies" => match copies::original_of(name) {
            Some("config") => Some(("copied config".into(), Value::Null)),
            Some(slot) => {
                let id = slot.strip_prefix("keys/").map(SlotId::from_hex);
                id.and_then(Result::ok).and_then(|id| of("copied slot", id.to_hex()))
            }
            None => None,
        },
        _ => None,
    };
    let (kind, id) = found.map_or((Value::Null, Value::Null), |(kind, id)| (kind.into(), id));
    Ok(json!({ "kind": kind, "id": id }))
}
