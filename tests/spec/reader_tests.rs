//! The independent reader on the vectors, the golden repositories, and damaged copies of these.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::reader::{Entry, Failure, Kind, Repository, Secret, Time, hex, run_vector};
use serde_json::{Value, json};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

// --- vectors -----------------------------------------------------------------------------------

#[test]
fn vectors() {
    let mut wrong = Vec::new();
    let mut skipped = Vec::new();
    let mut run = 0;
    let mut files: Vec<_> = fs::read_dir(root().join("format-spec/vectors"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    for path in files {
        let file = path.file_stem().unwrap().to_str().unwrap().to_string();
        let shared = read_json(&path);
        for (list, cases) in shared.as_object().unwrap() {
            let Some(cases) = cases.as_array() else {
                continue;
            };
            for case in cases {
                let what = format!("{file}/{list}/{}", case["name"].as_str().unwrap());
                let Some(outcome) = run_vector(&file, &shared, list, case) else {
                    skipped.push(format!("{file}/{list}"));
                    continue;
                };
                run += 1;
                let expect = case["expect"].as_str().unwrap();
                match outcome {
                    Ok(result) if expect == "ok" && result == case["result"] => {}
                    Err(failure) if failure.class() == expect => {}
                    other => wrong.push(format!(
                        "{what}: expected {expect} {}, got {other:?}",
                        case["result"]
                    )),
                }
            }
        }
    }
    skipped.dedup();
    assert!(wrong.is_empty(), "{} of {run} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    // Where streams are cut, and what mends packs, no reader needs to know.
    let parity = ["parity/heads", "parity/marks", "parity/packs", "parity/wishes"];
    assert_eq!(skipped, [&["chunking/cuts", "chunking/gear"][..], &parity].concat());
    assert!(run > 350, "only {run} cases");
}

/// Every encoded input, cut at every place and with every byte changed in some way: no panic.
#[test]
fn vectors_altered() {
    for path in fs::read_dir(root().join("format-spec/vectors")).unwrap() {
        let path = path.unwrap().path();
        let file = path.file_stem().unwrap().to_str().unwrap().to_string();
        let shared = read_json(&path);
        for (list, cases) in shared.as_object().unwrap() {
            for case in cases.as_array().into_iter().flatten() {
                let slow = case.get("password").is_some();
                for field in ["hex", "object", "frame", "text"] {
                    let Some(text) = case[field].as_str().filter(|_| field != "name") else {
                        continue;
                    };
                    let step = if slow { 400 } else { text.len() / 50 + 1 };
                    for at in (0..text.len()).step_by(step) {
                        if !text.is_char_boundary(at) || !text.is_char_boundary(at + 1) {
                            continue;
                        }
                        let mut case = case.clone();
                        case[field] = json!(&text[..at / 2 * 2]);
                        let _ = run_vector(&file, &shared, list, &case);
                        for digit in ["0", "7", "8", "f"] {
                            case[field] = json!([&text[..at], digit, &text[at + 1..]].concat());
                            let _ = run_vector(&file, &shared, list, &case);
                        }
                    }
                }
            }
        }
    }
}

// --- golden repositories -----------------------------------------------------------------------

fn golden(name: &str) -> (PathBuf, Value) {
    let directory = root().join("tests/fixtures/v1").join(name);
    (directory.join("repository"), read_json(&directory.join("manifest.json")))
}

fn secrets(manifest: &Value) -> Vec<Secret> {
    let secret = |value: &Value| {
        let (kind, text) = value.as_object().unwrap().iter().next().unwrap();
        let text = text.as_str().unwrap().to_string();
        match kind.as_str() {
            "password" => Secret::Password(text),
            "key-file" => Secret::KeyFile(text),
            "recovery-code" => Secret::Recovery(text),
            other => panic!("secret of kind {other}"),
        }
    };
    manifest["secrets"].as_array().unwrap().iter().map(secret).collect()
}

fn key_file(manifest: &Value) -> Secret {
    let is_file = |secret: &Secret| matches!(secret, Secret::KeyFile(_));
    secrets(manifest).into_iter().find(is_file).unwrap()
}

fn time(time: Time) -> Value {
    json!([time.seconds, time.nanoseconds])
}

/// An entry in the form of the manifests.
fn entry_json(repository: &Repository, path: &[u8], entry: &Entry) -> Result<Value, Failure> {
    let xattrs: Value = entry.xattrs.iter().map(|(n, v)| json!([hex(n), hex(v)])).collect();
    let mut found = json!({
        "path": hex(path),
        "mode": entry.mode,
        "uid": entry.uid,
        "gid": entry.gid,
        "user": hex(&entry.user),
        "group": hex(&entry.group),
        "mtime": time(entry.mtime),
        "links": entry.links,
        "xattrs": xattrs,
    });
    let kind = match &entry.kind {
        Kind::File { content, unstable } => {
            let mut hasher = blake3::Hasher::new();
            let mut size = 0;
            let holes = repository.content(entry, &mut |bytes| {
                hasher.update(bytes);
                size += bytes.len() as u64;
            })?;
            assert_eq!(size, content.len());
            found["blake3"] = json!(hasher.finalize().to_hex().as_str());
            found["size"] = json!(size);
            found["holes"] = json!(holes);
            found["unstable"] = json!(unstable);
            "file"
        }
        Kind::Directory { .. } => "directory",
        Kind::Symlink { target } => {
            found["target"] = json!(hex(target));
            "symlink"
        }
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
        Kind::CharDevice { major, minor } => {
            found["device-number"] = json!([major, minor]);
            "char-device"
        }
        Kind::BlockDevice { major, minor } => {
            found["device-number"] = json!([major, minor]);
            "block-device"
        }
    };
    found["kind"] = json!(kind);
    Ok(found)
}

/// All that a repository shows, snapshots and entries in the form of the manifests, and what was
/// refused on the way. What was seen before a failure is there all the same.
fn observe(directory: &Path, secret: &Secret) -> (Vec<Value>, Vec<String>) {
    let mut refused = Vec::new();
    let mut found = Vec::new();
    let repository = match Repository::open(directory, secret) {
        Ok(repository) => repository,
        Err(failure) => return (found, vec![format!("open: {failure}")]),
    };
    match repository.snapshots() {
        Ok(snapshots) => {
            for snapshot in snapshots {
                let mut entries = Vec::new();
                let walked = repository.walk(&snapshot, &mut |path, entry| {
                    match entry_json(&repository, path, entry) {
                        Ok(entry) => entries.push(entry),
                        Err(failure) => refused.push(format!("content: {failure}")),
                    }
                    Ok(())
                });
                if let Err(failure) = walked {
                    refused.push(format!("walk: {failure}"));
                }
                let problems: Value =
                    snapshot.problems.iter().map(|(path, why)| json!([hex(path), why])).collect();
                found.push(json!({
                    "id": hex(&snapshot.id),
                    "time": time(snapshot.time),
                    "host": snapshot.host,
                    "paths": snapshot.paths.iter().map(|path| hex(path)).collect::<Value>(),
                    "tags": snapshot.tags,
                    "description": snapshot.description,
                    "pinned": snapshot.pinned,
                    "partial": snapshot.partial,
                    "problems": problems,
                    "entries": entries,
                }));
            }
        }
        Err(failure) => refused.push(format!("snapshots: {failure}")),
    }
    refused.extend(repository.faults().iter().map(|(name, failure)| format!("{name}: {failure}")));
    (found, refused)
}

#[test]
fn golden_repositories() {
    for name in super::golden::names() {
        let (directory, manifest) = golden(name);
        for secret in secrets(&manifest) {
            let (found, refused) = observe(&directory, &secret);
            assert!(refused.is_empty(), "{name}: {refused:?}");
            let expected = manifest["snapshots"].as_array().unwrap();
            for (found, expected) in found.iter().zip(expected) {
                let entries = |snapshot: &Value| snapshot["entries"].as_array().unwrap().clone();
                for (found, expected) in entries(found).iter().zip(&entries(expected)) {
                    assert_eq!(found, expected, "{name}");
                }
                assert_eq!(entries(found).len(), entries(expected).len(), "{name}");
                assert_eq!(found, expected, "{name}");
            }
            assert_eq!(found.len(), expected.len(), "{name}");
        }
    }
}

#[test]
fn wrong_secrets() {
    for name in super::golden::names() {
        let (directory, _) = golden(name);
        let wrong = [
            Secret::Password("correct horse - battery".into()),
            Secret::KeyFile(format!("holdall-key-1-{}", "ab".repeat(32))),
            Secret::Recovery("E9JP-6VVP-CNS7-J839-ECG6-ARBK-F6A0-2E21".into()),
        ];
        for secret in wrong {
            let class = Repository::open(&directory, &secret).err().map(|f| f.class());
            assert_eq!(class, Some("wrong-secret"), "{name}");
        }
    }
}

#[test]
fn restores() {
    let (directory, manifest) = golden("kinds");
    let repository = Repository::open(&directory, &key_file(&manifest)).unwrap();
    let scratch = Scratch::new("restores");
    let snapshots = repository.snapshots().unwrap();
    let target = scratch.0.join("target");
    let left_out = repository.restore(&snapshots[0], &target).unwrap();
    assert_eq!(left_out, [&b"/b/block"[..], b"/b/char", b"/b/fifo", b"/b/socket"]);
    for entry in manifest["snapshots"][0]["entries"].as_array().unwrap() {
        let digits = entry["path"].as_str().unwrap();
        let path: Vec<u8> = (0..digits.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap())
            .collect();
        let place = target.join(OsStr::from_bytes(&path[1..]));
        let place = place.as_path();
        match entry["kind"].as_str().unwrap() {
            "file" => {
                let hash = blake3::hash(&fs::read(place).unwrap()).to_hex();
                assert_eq!(entry["blake3"], hash.as_str());
            }
            "directory" => assert!(place.is_dir()),
            "symlink" => assert!(place.is_symlink()),
            _ => assert!(!place.exists()),
        }
    }
    use std::os::unix::fs::MetadataExt;
    let inode = |path: &str| fs::metadata(target.join(path)).unwrap().ino();
    assert_eq!(inode("a/twin-1"), inode("b/twin-2"));
    assert_eq!(fs::metadata(target.join("a/old")).unwrap().mtime(), -86401);
    assert_eq!(repository.restore(&snapshots[0], &target).unwrap_err().class(), "io");
}

// --- damage ------------------------------------------------------------------------------------

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn copy_of(name: &str, test: &str) -> (Scratch, Value) {
        let (directory, manifest) = golden(name);
        let scratch = Scratch::new(&format!("{test}-{name}"));
        for path in objects(&directory) {
            let copy = scratch.0.join(path.strip_prefix(&directory).unwrap());
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::copy(&path, copy).unwrap();
        }
        (scratch, manifest)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn objects(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(objects(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Whatever is shown is as in the manifest; and whatever is missing, or said otherwise by a note,
/// is missing for a reason that was reported.
fn check(what: &str, manifest: &Value, (found, refused): &(Vec<Value>, Vec<String>)) {
    let expected = manifest["snapshots"].as_array().unwrap();
    if refused.is_empty() {
        assert!(found == expected, "{what}: nothing was reported, but it is not the manifest");
    }
    for snapshot in found {
        let expected = expected.iter().find(|e| e["id"] == snapshot["id"]);
        let expected = expected.unwrap_or_else(|| panic!("{what}: a snapshot that does not count"));
        for field in ["time", "host", "paths", "partial", "problems"] {
            assert_eq!(snapshot[field], expected[field], "{what}");
        }
        let entries: BTreeMap<_, _> = expected["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| (entry["path"].as_str().unwrap(), entry))
            .collect();
        for entry in snapshot["entries"].as_array().unwrap() {
            assert_eq!(Some(&entry), entries.get(entry["path"].as_str().unwrap()), "{what}");
        }
    }
}

/// Number of cases in which everything was shown, and in which something was refused.
fn flip(name: &str, positions: usize) -> (usize, usize) {
    let (scratch, manifest) = Scratch::copy_of(name, "flip");
    let mut random = 1u64;
    let (mut whole, mut refusals) = (0, 0);
    for path in objects(&scratch.0) {
        let original = fs::read(&path).unwrap();
        // Passwords are slow; the others go with the key file.
        let by_password = original.starts_with(b"HOLDSLOT") && original[10] == 1;
        let secret = match by_password {
            true => secrets(&manifest).remove(0),
            false => key_file(&manifest),
        };
        let positions = if by_password { 6 } else { positions };
        let mut places: Vec<(usize, u8)> = Vec::new();
        for i in 0..positions {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let spread = (random >> 33) as usize % original.len();
            // Every third one in the first bytes, every third one in the last.
            let near = spread % 200.min(original.len());
            let place = [spread, near, original.len() - 1 - near][i % 3];
            places.push((place, 1 << (random >> 29 & 7)));
        }
        for (place, bit) in places {
            let mut altered = original.clone();
            altered[place] ^= bit;
            fs::write(&path, &altered).unwrap();
            let observed = observe(&scratch.0, &secret);
            check(&format!("{name}: {path:?} at {place}"), &manifest, &observed);
            if observed.1.is_empty() { whole += 1 } else { refusals += 1 }
        }
        for altered in [&original[..original.len() - 1], &original[..original.len() / 2], b""] {
            fs::write(&path, altered).unwrap();
            let what = format!("{name}: {path:?} cut to {}", altered.len());
            check(&what, &manifest, &observe(&scratch.0, &secret));
        }
        fs::write(&path, [&original[..], b"\0"].concat()).unwrap();
        check(&format!("{name}: {path:?} longer"), &manifest, &observe(&scratch.0, &secret));
        fs::write(&path, &original).unwrap();
    }
    let observed = observe(&scratch.0, &key_file(&manifest));
    assert!(observed.1.is_empty() && observed.0 == *manifest["snapshots"].as_array().unwrap());
    eprintln!("{name}: {whole} whole, {refusals} with refusals");
    (whole, refusals)
}

#[test]
fn flipped_empty_and_slots() {
    assert!(flip("empty", 90).1 >= 90);
    assert!(flip("slots", 90).1 >= 90);
}

#[test]
fn flipped_kinds() {
    assert!(flip("kinds", 60).1 >= 180);
}

#[test]
fn flipped_history() {
    assert!(flip("history", 15).1 >= 250);
}

#[test]
fn flipped_large() {
    assert!(flip("large", 10).1 >= 30);
}

/// Without segments there are the trailers, and without these the frames.
#[test]
fn without_index() {
    for name in ["kinds", "history", "large"] {
        let (scratch, manifest) = Scratch::copy_of(name, "without");
        fs::remove_dir_all(scratch.0.join("index")).unwrap();
        let secret = key_file(&manifest);
        let expected = manifest["snapshots"].as_array().unwrap();
        let (found, refused) = observe(&scratch.0, &secret);
        assert!(refused.is_empty() && found == *expected, "{name}: {refused:?}");
        // No footer, and one byte less in front.
        for path in objects(&scratch.0.join("packs")) {
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes[1..bytes.len() - 1]).unwrap();
        }
        let (found, refused) = observe(&scratch.0, &secret);
        assert!(found == *expected, "{name}: {refused:?}");
        assert_eq!(refused.len(), objects(&scratch.0.join("packs")).len(), "{name}: {refused:?}");
    }
}

/// Each object but config and slots removed in turn.
#[test]
fn without_one_object() {
    for name in ["kinds", "history"] {
        let (scratch, manifest) = Scratch::copy_of(name, "lost");
        let secret = key_file(&manifest);
        let expected = manifest["snapshots"].as_array().unwrap();
        for path in objects(&scratch.0) {
            let relative = path.strip_prefix(&scratch.0).unwrap().to_str().unwrap().to_string();
            let folder = relative.split('/').next().unwrap();
            let original = fs::read(&path).unwrap();
            fs::remove_file(&path).unwrap();
            let (found, refused) = observe(&scratch.0, &secret);
            let id = relative.rsplit('/').next().unwrap();
            match folder {
                "config" | "keys" => assert!(found.is_empty() && !refused.is_empty()),
                "sessions" | "snapshots" => {
                    let rest: Vec<_> = expected.iter().filter(|s| s["id"] != id).cloned().collect();
                    assert!(refused.is_empty() && found == rest, "{relative}: {refused:?}");
                }
                "index" | "forgotten" => assert!(refused.is_empty() && found == *expected),
                "notes" => assert!(refused.is_empty() && found.len() == expected.len()),
                _ => check(&relative, &manifest, &(found, refused)),
            }
            fs::write(&path, original).unwrap();
        }
    }
}

/// Objects under each other's names, and things that are no objects.
#[test]
fn exchanged_and_foreign() {
    let (scratch, manifest) = Scratch::copy_of("history", "exchanged");
    let secret = key_file(&manifest);
    for folder in ["snapshots", "notes", "index", "packs"] {
        let paths = objects(&scratch.0.join(folder));
        let (one, other) = (&paths[0], &paths[1]);
        let (a, b) = (fs::read(one).unwrap(), fs::read(other).unwrap());
        fs::write(one, &b).unwrap();
        fs::write(other, &a).unwrap();
        let observed = observe(&scratch.0, &secret);
        assert!(!observed.1.is_empty(), "{folder}");
        check(folder, &manifest, &observed);
        fs::write(one, &a).unwrap();
        fs::write(other, &b).unwrap();
    }
    for name in [
        ".tmp/x",
        "readme.txt",
        "snapshots/x",
        "snapshots/.tmp",
        "packs/zz",
        "packs/aa/aa",
        "packs/.tmp/x",
        "index/deeper/x",
        "parity/x",
        "maintainer",
        &format!("keys/{}", "AB".repeat(32)),
        &format!("packs/ab/{}", "cd".repeat(32)),
    ] {
        let path = scratch.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"foreign").unwrap();
    }
    let (found, refused) = observe(&scratch.0, &secret);
    assert!(refused.is_empty(), "{refused:?}");
    assert!(found == *manifest["snapshots"].as_array().unwrap());
}

/// A reader that has read the index before the packs moved and a segment took their place.
#[test]
fn packs_that_move() {
    let (scratch, manifest) = Scratch::copy_of("history", "moved");
    let repository = Repository::open(&scratch.0, &key_file(&manifest)).unwrap();
    let snapshot = repository.snapshots().unwrap().remove(0);
    let packs = scratch.0.join("packs");
    fs::rename(&packs, scratch.0.join("hidden")).unwrap();
    let walk =
        || repository.walk(&snapshot, &mut |_, e| repository.content(e, &mut |_| {}).map(drop));
    assert_eq!(walk().unwrap_err().class(), "missing");
    fs::rename(scratch.0.join("hidden"), &packs).unwrap();
    fs::remove_dir_all(scratch.0.join("index")).unwrap();
    fs::create_dir(scratch.0.join("index")).unwrap();
    walk().unwrap();
}

// --- a repository made here --------------------------------------------------------------------
//
// The golden repositories have no deltas, no second generation, no deep lists and no copies. This
// small writer follows the same chapters and makes such a repository, right and wrong.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};

type Key = [u8; 32];

fn seal(key: &Key, nonce: &[u8; 24], associated: &[u8], plain: &[u8]) -> Vec<u8> {
    let payload = Payload { msg: plain, aad: associated };
    chacha20poly1305::XChaCha20Poly1305::new(key.into()).encrypt(nonce.into(), payload).unwrap()
}

fn public(secret: &Key) -> Key {
    x25519_dalek::x25519(*secret, x25519_dalek::X25519_BASEPOINT_BYTES)
}

fn seal_to(reader: &Key, associated: &[u8], content: &[u8]) -> Vec<u8> {
    let e = [77; 32];
    let shared = x25519_dalek::x25519(e, *reader);
    let material = [shared, public(&e), *reader].concat();
    let key = blake3::derive_key("holdall 1 sealed to a public key", &material);
    [&public(&e)[..], &seal(&key, &[0; 24], associated, content)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 127 {
        bytes.push(value as u8 | 128);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&varint(bytes.len() as u64)[..], bytes].concat()
}

fn pad(mut plain: Vec<u8>) -> Vec<u8> {
    plain.resize(super::reader::padded(plain.len() as u64).unwrap() as usize, 0);
    plain
}

/// Two generations of every key that may have them.
fn key(purpose: u8, generation: u32) -> Key {
    let mut key = [purpose; 32];
    key[1] = generation as u8;
    key
}

fn chunk_id(kind: u8, plain: &[u8]) -> Key {
    let context =
        ["holdall 1 ids of data chunks", "holdall 1 ids of tree chunks"][kind as usize - 1];
    *blake3::keyed_hash(&blake3::derive_key(context, &key(1, 0)), plain).as_bytes()
}

#[derive(Clone)]
struct Frame {
    kind: u8,
    id: [u8; 24],
    codec: u8,
    base: Option<[u8; 24]>,
    chunks: Vec<Vec<u8>>,
    sealed: Vec<u8>,
}

fn frame(kind: u8, number: u8, generation: u32, chunks: &[Vec<u8>], base: Option<&Frame>) -> Frame {
    let plain = chunks.concat();
    let codec = if base.is_some() { 2 } else { generation as u8 };
    let stored = match base {
        None if codec == 0 => plain,
        base => {
            let prefix = base.map(|base| base.chunks.concat()).unwrap_or_default();
            let mut context = zstd_safe::CCtx::create();
            context.set_parameter(zstd_safe::CParameter::ContentSizeFlag(false)).unwrap();
            context.set_parameter(zstd_safe::CParameter::WindowLog(20)).unwrap();
            context.ref_prefix(&prefix).unwrap();
            let mut stored = vec![0; plain.len() + 1000];
            let len = context.compress2(&mut stored[..], &plain).unwrap();
            stored[..len].to_vec()
        }
    };
    let base = base.map(|base| base.id);
    let mut body = vec![codec];
    body.extend(base.iter().flatten());
    body.extend(varint(chunks.len() as u64));
    chunks.iter().for_each(|chunk| body.extend(varint(chunk.len() as u64)));
    body.extend((stored.len() as u32).to_le_bytes());
    body.extend(&stored);
    let body = pad(body);
    let (session, family, id) = ([kind + 50; 32], [0x46; 32], [number; 24]);
    let generation_bytes = generation.to_le_bytes();
    let associated = [&[1, 0][..], &family, &generation_bytes, &[kind]].concat();
    let mut header = [&b"HFRM"[..], &[kind, 0, 0, 0]].concat();
    header.extend((body.len() as u32 + 16).to_le_bytes());
    header.extend(generation_bytes);
    header.extend(seal_to(&public(&key(kind + 2, generation)), &associated, &session));
    header.extend(id);
    let sealed = seal(&session, &id, &[&[1, 0][..], &family, &header].concat(), &body);
    let sealed = [header, sealed].concat();
    Frame { kind, id, codec, base, chunks: chunks.to_vec(), sealed }
}

struct Made(Scratch);

impl Made {
    fn new(name: &str) -> Made {
        let made = Made(Scratch::new(name));
        let mut config =
            [&b"HOLDCONF"[..], &[1, 0], &[0x52; 32], &[0x46; 32], &[0, 0, 0, 0]].concat();
        for size in [16384, 65536, 262144, 1 << 20, 1 << 24, 6] {
            config.extend(varint(size));
        }
        let code = blake3::derive_key("holdall 1 authentication of config", &key(8, 0));
        config.extend(blake3::keyed_hash(&code, &config).as_bytes());
        made.put("config", &config);
        // The slot before and after a rotation.
        made.slot(1, &[1, 2, 3, 4, 5, 6, 7, 8].map(|purpose| (purpose, 0)));
        let old_and_new = [(1, 0), (2, 0), (3, 0), (3, 1), (4, 0), (4, 1), (5, 0), (5, 1)];
        made.slot(2, &[&old_and_new[..], &[(6, 0), (6, 1), (7, 0), (7, 1), (8, 0)]].concat());
        made
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        let path = self.0.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn slot(&self, name: u8, keys: &[(u8, u32)]) {
        let (secret, salt) = ([9; 32], [8; 32]);
        let slot_key = blake3::derive_key("holdall 1 key file", &[salt, [0xa5; 32]].concat());
        let check = blake3::derive_key("holdall 1 key check", &slot_key);
        let mut object =
            [&b"HOLDSLOT"[..], &[1, 0, 2, 0], &[0x52; 32], &[7; 32], &[0; 12]].concat();
        object.extend([&salt[..], &check[..16], &public(&secret)].concat());
        let head = object.clone();
        let wrapping = blake3::derive_key("holdall 1 wrapping of a slot's key", &slot_key);
        let pin = blake3::derive_key("holdall 1 pin of a slot's keys", &key(8, 0));
        object.extend([6; 24]);
        object.extend(seal(&wrapping, &[6; 24], &head, &[secret, pin].concat()));
        let mut bundle = Vec::new();
        for (purpose, generation) in keys {
            bundle.push(*purpose);
            bundle.extend(generation.to_le_bytes());
            bundle.extend(key(*purpose, *generation));
        }
        object.extend(sized(&seal_to(&public(&secret), &head, &bundle)));
        object.extend([0]);
        self.put(&format!("keys/{}", hex(&[name; 32])), &object);
    }

    fn envelope(kind: u8, purpose: u8, name: &str, payload: &[u8]) -> Vec<u8> {
        let header = [&b"HOLD"[..], &[kind, 0, 1, 0, 1, 0, 0, 0], &[5; 24]].concat();
        let associated = [&header[..], &[0x52; 32], name.as_bytes()].concat();
        let plain = pad(sized(payload));
        [&header[..], &seal(&key(purpose, 1), &[5; 24], &associated, &plain)].concat()
    }

    fn pack(&self, number: u8, frames: &[Frame]) -> String {
        let kind = frames[0].kind;
        let name = format!("packs/{number:02x}/{}", hex(&[number; 32]));
        let mut object = [&b"HOLDPACK"[..], &[1, 0, kind, 0, 0, 0, 0, 0]].concat();
        let mut trailer = [&[1; 32][..], &[kind], &varint(frames.len() as u64)].concat();
        for frame in frames {
            object.extend(&frame.sealed);
            trailer.extend(frame.id);
            trailer.extend(varint(frame.sealed.len() as u64));
            trailer.push(frame.codec);
            trailer.extend(frame.base.iter().flatten());
            trailer.extend(varint(frame.chunks.len() as u64));
            for chunk in &frame.chunks {
                trailer.extend(varint(chunk.len() as u64));
                trailer.extend(chunk_id(kind, chunk));
            }
        }
        let sealed = Made::envelope(1, 5, &name, &trailer);
        object.extend(&sealed);
        object.extend((sealed.len() as u32).to_le_bytes());
        object.extend(b"HEND");
        self.put(&name, &object);
        name
    }

    fn snapshot(&self, number: u8, counts: bool, root: &[u8]) {
        let name = format!("snapshots/{}", hex(&[number; 32]));
        let front = [&varint(2 * u64::from(number))[..], &[0, 0, 0, 0], &[3; 16], &[0; 5]].concat();
        let back = [&[0, 0, 0, 0, 1, 0, 0, 0, 0][..], &[0; 12]].concat();
        self.put(&name, &Made::envelope(5, 6, &name, &[&front[..], root, &back].concat()));
        if counts {
            self.put(&format!("sessions/{}", hex(&[number; 32])), b"need not open");
        }
    }

    fn note(&self, id: u8, snapshot: u8, counter: u64, description: &str) {
        let name = format!("notes/{}", hex(&[id; 32]));
        let front = [&[1][..], &[snapshot; 32], &varint(counter), &[0, 0, 0]].concat();
        let payload = [&front[..], &sized(description.as_bytes()), &[7, 0, 0, 0]].concat();
        self.put(&name, &Made::envelope(6, 6, &name, &payload));
    }

    /// Every path with the content of files, or the failure.
    fn walk(&self, snapshot: usize) -> Result<Vec<(String, Vec<u8>)>, Failure> {
        let secret = Secret::KeyFile(format!("holdall-key-1-{}\n", "A5".repeat(32)));
        let repository = Repository::open(&self.0.0, &secret)?;
        let snapshots = repository.snapshots()?;
        let mut found = Vec::new();
        repository.walk(&snapshots[snapshot], &mut |path, entry| {
            let mut content = Vec::new();
            if matches!(entry.kind, Kind::File { .. }) {
                repository.content(entry, &mut |bytes| content.extend(bytes))?;
            }
            found.push((String::from_utf8_lossy(path).into_owned(), content));
            Ok(())
        })?;
        Ok(found)
    }
}

/// A list; a reference without chunk is a hole.
fn list(depth: u8, kind: u8, refs: &[(u64, Option<&[u8]>)]) -> Vec<u8> {
    let mut bytes = [&[depth][..], &varint(refs.len() as u64)].concat();
    for (len, chunk) in refs {
        bytes.extend(varint(len * 2 + u64::from(chunk.is_none())));
        bytes.extend(chunk.iter().flat_map(|chunk| chunk_id(kind, chunk)));
    }
    bytes
}

fn entry(name: &str, kind: u8, list: &[u8]) -> Vec<u8> {
    let front =
        [&sized(name.as_bytes())[..], &[kind, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]].concat();
    sized(&[&front[..], list].concat())
}

fn noise(len: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

fn tagged(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    [&[tag][..], &parts.concat()].concat()
}

#[test]
fn made_here() {
    let made = Made::new("made-here");
    // Two versions of one file, the second as a delta; and a delta against that, which is wrong.
    let one = noise(50000, 1);
    let two = [&one[..30000], b"changed", &one[30000..]].concat();
    let three = [&two[..100], b"again", &two[100..]].concat();
    let base = frame(1, 1, 0, std::slice::from_ref(&one), None);
    let delta = frame(1, 2, 1, std::slice::from_ref(&two), Some(&base));
    let delta_of_delta = frame(1, 3, 1, std::slice::from_ref(&three), Some(&delta));
    assert!(delta.sealed.len() < 1000 && delta_of_delta.sealed.len() < 1000);
    let base_pack = made.pack(1, std::slice::from_ref(&base));
    let delta_pack = made.pack(2, &[delta.clone(), delta_of_delta]);
    // A content with lists of depth 2, and with holes at each depth.
    let (len_1, len_2) = (one.len() as u64, two.len() as u64);
    let low = tagged(b'R', &[&list(0, 1, &[(len_1, Some(&one)), (5, None), (len_2, Some(&two))])]);
    let low_len = len_1 + 5 + len_2;
    let middle = tagged(b'R', &[&list(1, 2, &[(low_len, Some(&low)), (7, None)])]);
    let deep = list(2, 2, &[(low_len + 7, Some(&middle)), (9, None)]);
    let deep_content = [&one[..], &[0; 5], &two, &[0; 16]].concat();
    let file = |name: &str, chunk: &[u8]| {
        entry(name, 1, &list(0, 1, &[(chunk.len() as u64, Some(chunk))]))
    };
    // A listing of depth 1 with two entry chunks.
    let front = tagged(b'E', &[&entry("a", 1, &deep), &file("b", &one)]);
    let back = tagged(b'E', &[&file("c", &two), &entry("d", 2, &list(0, 2, &[]))]);
    let (front_len, back_len) = (front.len() as u64, back.len() as u64);
    let both = list(0, 2, &[(front_len, Some(&front)), (back_len, Some(&back))]);
    let above = tagged(b'R', &[&both]);
    let directory =
        tagged(b'E', &[&entry("dir", 2, &list(1, 2, &[(front_len + back_len, Some(&above))]))]);
    // And what is wrong.
    let chunks = |chunks: &[&Vec<u8>]| -> Vec<u8> {
        let refs: Vec<_> = chunks.iter().map(|c| (c.len() as u64, Some(&c[..]))).collect();
        list(0, 2, &refs)
    };
    let third = tagged(b'E', &[&file("x", &three)]);
    let wrong_len = tagged(b'E', &[&entry("x", 1, &list(0, 1, &[(len_1 + 1, Some(&one))]))]);
    let wrong_sum = tagged(b'E', &[&entry("x", 1, &list(1, 2, &[(low_len + 1, Some(&low))]))]);
    let wrong_depth = tagged(b'E', &[&entry("x", 1, &list(2, 2, &[(low_len, Some(&low))]))]);
    let no_list = tagged(b'E', &[&entry("x", 1, &list(1, 2, &[(front_len, Some(&front))]))]);
    let not_there = tagged(b'E', &[&file("x", b"nowhere")]);
    let data_as_tree = list(0, 2, &[(len_1, Some(&one))]);
    let trees = [&front, &back, &above, &low, &middle, &directory, &third, &wrong_len];
    let trees = [&trees[..], &[&wrong_sum, &wrong_depth, &no_list, &not_there]].concat();
    let trees: Vec<Vec<u8>> = trees.into_iter().cloned().collect();
    let (tree, copy) = (frame(2, 4, 1, &trees, None), frame(2, 5, 0, &trees, None));
    let tree_pack = made.pack(3, std::slice::from_ref(&tree));
    let mut roots = vec![(chunks(&[&directory]), "ok")];
    roots.push((chunks(&[&third]), "bad"));
    roots.push((chunks(&[&back, &front]), "bad"));
    roots.push((chunks(&[&front, &front]), "bad"));
    roots.push((chunks(&[&wrong_len]), "bad"));
    roots.push((chunks(&[&wrong_sum]), "bad"));
    roots.push((chunks(&[&wrong_depth]), "bad"));
    roots.push((chunks(&[&no_list]), "magic"));
    roots.push((chunks(&[&low]), "magic"));
    roots.push((chunks(&[&not_there]), "missing"));
    roots.push((data_as_tree, "missing"));
    for (i, (root, _)) in roots.iter().enumerate() {
        made.snapshot(i as u8 + 1, true, root);
    }
    made.snapshot(99, false, &roots[0].0);
    // The greatest counter is valid, and the greatest id of these.
    made.note(9, 1, 3, "smaller counter");
    made.note(2, 1, 4, "smaller id");
    made.note(3, 1, 4, "valid");
    made.note(8, 98, 9, "on nothing");
    let expected: Vec<(String, Vec<u8>)> = [
        ("/dir", vec![]),
        ("/dir/a", deep_content),
        ("/dir/b", one),
        ("/dir/c", two),
        ("/dir/d", vec![]),
    ]
    .map(|(path, content)| (path.to_string(), content))
    .to_vec();
    let all_roots = |scanned: bool| {
        for (i, (_, class)) in roots.iter().enumerate() {
            match made.walk(i) {
                Ok(found) => assert!(*class == "ok" && found == expected, "root {i}"),
                // A scan does not learn the ids of chunks that it cannot decode.
                Err(failure) if scanned && i == 1 => assert_eq!(failure.class(), "missing"),
                Err(failure) => assert_eq!(failure.class(), *class, "root {i}: {failure}"),
            }
        }
    };
    all_roots(false);
    let secret = Secret::KeyFile(format!("holdall-key-1-{}", "a5".repeat(32)));
    let repository = Repository::open(&made.0.0, &secret).unwrap();
    let snapshots = repository.snapshots().unwrap();
    assert_eq!(snapshots.len(), roots.len());
    assert_eq!((&snapshots[0].description[..], snapshots[0].pinned), ("valid", true));
    assert!(repository.faults().is_empty(), "{:?}", repository.faults());

    // All trailers lost: frames, deltas among them, are found by scanning.
    let damage = |name: &str, at: usize| {
        let path = made.0.0.join(name);
        let mut bytes = fs::read(&path).unwrap();
        let at = if at == 0 { bytes.len() - 1 } else { at };
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
    };
    for name in [&base_pack, &delta_pack, &tree_pack] {
        damage(name, 0);
    }
    all_roots(true);
    for name in [&base_pack, &delta_pack, &tree_pack] {
        damage(name, 0);
    }
    // A damaged place, and then another one for the same chunks, or for the same frame.
    for (name, other) in [(&tree_pack, copy), (&base_pack, base), (&delta_pack, delta)] {
        damage(name, 200);
        assert_eq!(made.walk(0).unwrap_err().class(), "tag", "{name}");
        made.pack(100 + other.id[0], &[other]);
        assert!(made.walk(0).unwrap() == expected, "{name}");
    }
    // Without the slot of after the rotation.
    fs::remove_file(made.0.0.join(format!("keys/{}", hex(&[2; 32])))).unwrap();
    let repository = Repository::open(&made.0.0, &secret).unwrap();
    assert!(repository.snapshots().unwrap().is_empty());
    assert!(!repository.faults().is_empty());
    assert!(repository.faults().values().all(|failure| failure.class() == "no-key"));
}

// --- independence ------------------------------------------------------------------------------

/// What reads by the pages must not lean on the code that it is held against.
#[test]
fn the_reader_uses_nothing_of_the_program() {
    let crate_path = ["holdall", "::"].concat();
    for name in ["reader.rs", "reader_tests.rs"] {
        let source = fs::read_to_string(root().join("tests/spec").join(name)).unwrap();
        assert!(
            !source.contains(&crate_path),
            "{name} uses the code that it is to be compared with"
        );
        let imports = source.lines().filter(|line| line.starts_with("use holdall"));
        assert_eq!(imports.count(), 0, "{name}");
    }
}
