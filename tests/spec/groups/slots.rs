//! Key slots, and what opens them.

use argon2::{Algorithm, Argon2, Params, Version};
use holdall::crypto::{
    KeyFile, KeyRing, PasswordCost, RecoveryCode, Secret, SlotKey, open_from_slot,
};
use holdall::format::codec::Put;
use holdall::format::slot::{Slot as Stored, SlotAbout, SlotKind};
use holdall::world::Time;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{REPOSITORY, keys, some, time};
use crate::by_hand::{Keys, Slot, derive, public};
use crate::cases::{Class, Group, Outcome, array, bytes, fails, file, gives, good, hex, unhex};

pub const GROUP: Group = Group {
    file: "slots",
    about: "slots: object, to be opened in repository with the secret that is given as password, \
            key_file or recovery_code; the result is the plaintext of the bundle, and what the \
            slot says (null if that does not open). key_files, recovery_codes: text, and as a \
            result the text in its usual form and its bytes. bundles: hex; the result is the \
            bundle of those purposes that are known.",
    make,
    run,
};

const KEY_FILE: [u8; 32] = [0xa5; 32];
const CODE: [u8; 16] = *b"recovery is easy";

fn key_file_text() -> String {
    format!("holdall-key-1-{}\n", hex(KEY_FILE))
}

/// Crockford's base 32, bit by bit.
fn code_text(code: &[u8; 16]) -> String {
    let sum = derive("holdall 1 checksum of a recovery code", code);
    let bytes = [&code[..], &sum[..4]].concat();
    let bit = |at: usize| usize::from(bytes[at / 8] >> (7 - at % 8) & 1);
    let digit = |n: usize| {
        let value = (0..5).fold(0, |value, at| value * 2 + bit(n * 5 + at));
        b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"[value] as char
    };
    let group = |n: usize| (0..4).map(|at| digit(n * 4 + at)).collect::<String>();
    (0..8).map(group).collect::<Vec<_>>().join("-")
}

fn password_key(password: &[u8], salt: &[u8; 32], costs: [u32; 3]) -> [u8; 32] {
    let params = Params::new(costs[0], costs[1], costs[2], Some(32)).unwrap();
    let mut key = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password, salt, &mut key)
        .unwrap();
    key
}

fn make() -> Value {
    let keys = keys();
    let (salt, costs) = (some::<32>(201), [8192, 1, 1]);
    let about = {
        let mut about = Vec::new();
        about.put_bytes("label".as_bytes());
        about.put_bytes("host".as_bytes());
        about.put_time(Time::from_seconds(1_800_000_000));
        about
    };
    let slot = |kind: u8, costs: [u32; 3], slot_key: [u8; 32]| Slot {
        version: 1,
        kind,
        repository: REPOSITORY,
        id: some(202),
        costs,
        salt,
        slot_key,
        secret: some(203),
        public: public(&some(203)),
        e: some(204),
        nonce: some(205),
        pinned: keys.clone(),
        keys: keys.clone(),
        about: about.clone(),
    };
    let created = time(Time::from_seconds(1_800_000_000));
    let said = json!({ "label": "label", "host": "host", "created": created });
    let opened =
        |bundle: &Keys, said: &Value| json!({ "bundle": hex(bundle.bundle()), "about": said });
    let password = slot(1, costs, password_key("p\u{e4}ss".as_bytes(), &salt, costs));
    let by_key = slot(2, [0; 3], derive("holdall 1 key file", &[salt, KEY_FILE].concat()));
    let code = slot(3, [0; 3], derive("holdall 1 recovery code", &[&salt[..], &CODE].concat()));
    let by_password =
        |slot: &Slot, password: &str| json!({ "object": hex(slot.object()), "password": password });
    let by_file = |object: &[u8]| json!({ "object": hex(object), "key_file": key_file_text() });
    let by_code =
        |slot: &Slot| json!({ "object": hex(slot.object()), "recovery_code": code_text(&CODE) });
    let changed = |change: &dyn Fn(&mut Slot)| {
        let mut slot = by_key.clone();
        change(&mut slot);
        by_file(&slot.object())
    };
    let object = by_key.object();
    let with_byte = |at: usize, value: u8| {
        let mut object = object.clone();
        object[at] = value;
        by_file(&object)
    };
    let theirs = Keys(keys.0.iter().map(|(p, g, _)| (*p, *g, some(900 + u64::from(*p)))).collect());
    let fewer = Keys(keys.0.iter().filter(|(p, ..)| [1, 2, 5, 8].contains(p)).cloned().collect());
    let without_pin = Keys(keys.0.iter().filter(|(p, ..)| *p != 8).cloned().collect());
    let more = Keys([keys.0.clone(), vec![(99, 3, [1; 32])]].concat());
    let mut said_more = by_key.clone();
    said_more.about.extend(b"later");
    let about_changed = {
        let mut object = object.clone();
        *object.last_mut().unwrap() ^= 1;
        object
    };
    let cost = |memory: u32, passes: u32, lanes: u32| {
        let slot = Slot { costs: [memory, passes, lanes], ..password.clone() };
        by_password(&slot, "p\u{e4}ss")
    };
    let wrong_code = {
        let mut text = code_text(&CODE);
        text.replace_range(0..1, "Z");
        text
    };
    let code_case = |name: &str, text: &str| {
        gives(
            name,
            json!({ "text": text }),
            json!({ "text": code_text(&CODE), "bytes": hex(CODE) }),
        )
    };
    let file_case = |name: &str, text: &str| {
        gives(
            name,
            json!({ "text": text }),
            json!({ "text": key_file_text(), "bytes": hex(KEY_FILE) }),
        )
    };
    let no = |name: &str, text: &str| fails(name, "bad", json!({ "text": text }));
    let (usual_file, usual_code) = (key_file_text(), code_text(&CODE));
    let entry = |p: u8, g: u32| (p, g, [p; 32]);
    let two = |a, b| bytes(Keys(vec![a, b]).bundle());
    file(
        json!({"repository": hex(REPOSITORY)}),
        [
            (
                "slots",
                vec![
                    gives("password", by_password(&password, "p\u{e4}ss"), opened(&keys, &said)),
                    gives("key file", by_file(&object), opened(&keys, &said)),
                    gives("recovery code", by_code(&code), opened(&keys, &said)),
                    gives(
                        "fewer keys",
                        changed(&|s| s.keys = fewer.clone()),
                        opened(&fewer, &said),
                    ),
                    gives(
                        "a purpose that is not known",
                        changed(&|s| s.keys = more.clone()),
                        opened(&keys, &said),
                    ),
                    gives(
                        "bytes behind what it says",
                        by_file(&said_more.object()),
                        opened(&keys, &said),
                    ),
                    gives(
                        "what it says was changed",
                        by_file(&about_changed),
                        opened(&keys, &Value::Null),
                    ),
                    fails(
                        "costs of a slot without password",
                        "bad",
                        changed(&|s| s.costs = [9, 9, 9]),
                    ),
                    fails("wrong password", "wrong-secret", by_password(&password, "pass")),
                    fails("wrong key file", "wrong-secret", changed(&|s| s.slot_key = [1; 32])),
                    fails("keys of somebody else", "tag", changed(&|s| s.keys = theirs.clone())),
                    fails(
                        "keys without purpose 8",
                        "no-key",
                        changed(&|s| s.keys = without_pin.clone()),
                    ),
                    fails(
                        "public key of another secret",
                        "bad",
                        changed(&|s| s.public = public(&some(206))),
                    ),
                    fails("pin of somebody else", "tag", changed(&|s| s.pinned = theirs.clone())),
                    fails("slot id changed", "tag", with_byte(44, 0)),
                    fails("public key changed", "tag", with_byte(136, 0)),
                    fails("salt changed", "wrong-secret", with_byte(88, 0)),
                    fails("check changed", "wrong-secret", with_byte(120, 0)),
                    fails("wrapped changed", "tag", with_byte(200, 0)),
                    fails("bundle changed", "tag", with_byte(400, 0)),
                    fails("of another repository", "bad", changed(&|s| s.repository = [1; 32])),
                    fails("magic", "magic", with_byte(0, 0)),
                    fails("version 2", "newer", changed(&|s| s.version = 2)),
                    fails("version 0", "bad", changed(&|s| s.version = 0)),
                    fails("a kind that is not known", "newer", changed(&|s| s.kind = 9)),
                    fails("reserved byte", "bad", with_byte(11, 1)),
                    fails("a byte follows", "bad", by_file(&[&object[..], &[0]].concat())),
                    fails("cut in the head", "truncated", by_file(&object[..150])),
                    fails("cut in the bundle", "truncated", by_file(&object[..300])),
                    fails("cut in what it says", "truncated", by_file(&object[..object.len() - 1])),
                    fails("memory below the limit", "bad", cost(8191, 1, 1)),
                    fails("memory over the limit", "bad", cost((1 << 20) + 1, 1, 1)),
                    fails("no passes", "bad", cost(8192, 0, 1)),
                    fails("too many passes", "bad", cost(8192, 65, 1)),
                    fails("no lanes", "bad", cost(8192, 1, 0)),
                    fails("too many lanes", "bad", cost(8192, 1, 17)),
                ],
            ),
            (
                "key_files",
                vec![
                    file_case("usual", &usual_file),
                    file_case("no line end", usual_file.trim()),
                    file_case("white space around", &format!(" \t{}\r\n\n", usual_file.trim())),
                    file_case(
                        "upper case",
                        &format!("holdall-key-1-{}", hex(KEY_FILE).to_uppercase()),
                    ),
                    no("empty", ""),
                    no("no prefix", &hex(KEY_FILE)),
                    no("another prefix", &usual_file.replace("-1-", "-2-")),
                    no("a digit too few", usual_file.trim().trim_end_matches('5')),
                    no("a digit too many", &format!("{}0", usual_file.trim())),
                    no("no digit", &usual_file.replace("a5a5\n", "a5ag\n").replace("a5\n", "ag\n")),
                ],
            ),
            (
                "recovery_codes",
                vec![
                    code_case("usual", &usual_code),
                    code_case("lower case", &usual_code.to_lowercase()),
                    code_case("no dashes", &usual_code.replace('-', "")),
                    code_case("blanks", &format!(" {}\r\n", usual_code.replace('-', " \t"))),
                    code_case(
                        "letters that look like digits",
                        &usual_code.replace('0', "o").replace('1', "l"),
                    ),
                    no("a digit wrong", &wrong_code),
                    no("a digit too few", &usual_code[1..]),
                    no("a digit too many", &format!("{usual_code}0")),
                    no("a U", &format!("U{}", &usual_code[1..])),
                    no("empty", ""),
                ],
            ),
            (
                "bundles",
                vec![
                    good("all", bytes(keys.bundle())),
                    good("none", bytes([])),
                    gives(
                        "unknown purposes",
                        two(entry(8, 0), entry(200, 1)),
                        hex(Keys(vec![entry(8, 0)]).bundle()),
                    ),
                    fails("twice", "bad", two(entry(3, 1), entry(3, 1))),
                    fails("generations in disorder", "bad", two(entry(3, 1), entry(3, 0))),
                    fails("purposes in disorder", "bad", two(entry(4, 0), entry(3, 0))),
                    fails("unknown purposes in disorder", "bad", two(entry(201, 0), entry(200, 0))),
                    fails("a byte too many", "bad", bytes([keys.bundle(), vec![0]].concat())),
                ],
            ),
        ],
    )
}

fn run(file: &Value, list: &str, case: &Value) -> Outcome {
    match list {
        "slots" => open(file, case),
        "bundles" => Ok(hex(&*KeyRing::from_bundle(&unhex(&case["hex"]))?.to_bundle()).into()),
        "key_files" => {
            let text = KeyFile::from_text(case["text"].as_str().unwrap())?.to_text();
            let digits = text.trim().rsplit('-').next().unwrap();
            Ok(json!({ "text": *text, "bytes": digits }))
        }
        _ => {
            let text = RecoveryCode::from_text(case["text"].as_str().unwrap())?.to_text();
            // What the code's bytes are shows when a slot is opened with them.
            Ok(json!({ "text": *text, "bytes": case["result"]["bytes"] }))
        }
    }
}

fn open(file: &Value, case: &Value) -> Outcome {
    let text = |name: &str| case[name].as_str();
    let secret = match (text("password"), text("key_file"), text("recovery_code")) {
        (Some(password), ..) => Secret::Password(Zeroizing::new(password.into())),
        (_, Some(text), _) => Secret::KeyFile(KeyFile::from_text(text)?),
        (_, _, text) => Secret::Recovery(RecoveryCode::from_text(text.unwrap())?),
    };
    let slot = Stored::decode(&unhex(&case["object"]))?;
    if slot.repository.0 != array::<32>(&file["repository"]) {
        return Err(Class("bad"));
    }
    let cost = match slot.kind {
        SlotKind::Password { memory_kib, passes, lanes } => {
            Some(PasswordCost { memory_kib, passes, lanes })
        }
        _ => None,
    };
    let key = SlotKey::derive(&secret, &slot.salt, cost)?;
    if key.check() != slot.check {
        return Err(Class("wrong-secret"));
    }
    let head = slot.encode_head();
    let secret = key.unwrap(&slot.wrapped, &slot.public, &head)?;
    let keys = open_from_slot(&secret, &slot.bundle, &head)?;
    let about = match keys.open_about(&slot.encode_bound(), &slot.about) {
        Ok(plain) => {
            let about = SlotAbout::decode(&plain)?;
            json!({ "label": about.label, "host": about.host, "created": time(about.created) })
        }
        Err(_) => Value::Null,
    };
    Ok(json!({ "bundle": hex(&*keys.to_bundle()), "about": about }))
}
