//! An independent reader of holdall repositories, format version 1.
//!
//! It was written from the chapters of `format-spec/` and from nothing else, and is laid out in
//! their order. It favours plainness over speed. Unix only, because of raw names.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use serde_json::{Value, json};

// ---------------------------------------------------------------------------------------------
// README: failure classes
// ---------------------------------------------------------------------------------------------

/// Why something was refused. The text says what it was about.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    Truncated(String),
    Magic(String),
    Newer(String),
    TooLarge(String),
    Bad(String),
    Tag(String),
    NoKey(String),
    WrongSecret(String),
    /// Not among the classes of the README: an object, a chunk or a base that is nowhere.
    Missing(String),
    /// Not among the classes of the README: the storage did not answer, or a target was not
    /// writable.
    Io(String),
}

impl Failure {
    pub fn class(&self) -> &'static str {
        self.parts().0
    }

    pub fn text(&self) -> &str {
        self.parts().1
    }

    fn parts(&self) -> (&'static str, &str) {
        match self {
            Failure::Truncated(what) => ("truncated", what),
            Failure::Magic(what) => ("magic", what),
            Failure::Newer(what) => ("newer", what),
            Failure::TooLarge(what) => ("too-large", what),
            Failure::Bad(what) => ("bad", what),
            Failure::Tag(what) => ("tag", what),
            Failure::NoKey(what) => ("no-key", what),
            Failure::WrongSecret(what) => ("wrong-secret", what),
            Failure::Missing(what) => ("missing", what),
            Failure::Io(what) => ("io", what),
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (class, what) = self.parts();
        write!(f, "{class}: {}", what.escape_debug())
    }
}

impl std::error::Error for Failure {}

type Result<T> = std::result::Result<T, Failure>;

fn bad<T>(what: &str) -> Result<T> {
    Err(Failure::Bad(what.into()))
}

fn ensure(condition: bool, what: &str) -> Result<()> {
    if condition { Ok(()) } else { bad(what) }
}

fn too_large<T>(what: &str) -> Result<T> {
    Err(Failure::TooLarge(what.into()))
}

fn io(what: &str, error: std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::NotFound => Failure::Missing(what.into()),
        ErrorKind::UnexpectedEof => Failure::Truncated(what.into()),
        _ => Failure::Io(format!("{what}: {error}")),
    }
}

// ---------------------------------------------------------------------------------------------
// 01 overview: names, and the storage as a local directory
// ---------------------------------------------------------------------------------------------

type Id = [u8; 32];
type FrameId = [u8; 24];

/// What an object of this name is, and its id or number; `None` for a name to be ignored.
pub fn parse_name(name: &str) -> Option<(&'static str, String)> {
    let component = |c: &str| {
        !c.is_empty()
            && !c.starts_with('.')
            && c.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
    };
    if !name.split('/').all(component) {
        return None;
    }
    let parts: Vec<&str> = name.split('/').collect();
    let id = |text: &str| unhex_lower(text).filter(|b| b.len() == 32).map(|_| text.to_string());
    match parts[..] {
        ["config"] => Some(("config", String::new())),
        ["keys", i] => Some(("slot", id(i)?)),
        ["packs", xx, i] => Some(("pack", id(i).filter(|i| i.get(..2) == Some(xx))?)),
        ["index", i] => Some(("segment", id(i)?)),
        ["sessions", i] => match i.strip_suffix(".fenced") {
            Some(i) => Some(("fence", id(i)?)),
            None => Some(("session", id(i)?)),
        },
        ["snapshots", i] => Some(("snapshot", id(i)?)),
        ["notes", i] => Some(("note", id(i)?)),
        ["forgotten", i] => Some(("forgotten", id(i)?)),
        ["damage", i] => Some(("damage", id(i)?)),
        ["copies", "config"] => Some(("copied config", String::new())),
        ["copies", "keys", i] => Some(("copied slot", id(i)?)),
        ["epochs", n, what] => {
            let digits = n.len() >= 16 && n.bytes().all(|b| b.is_ascii_digit());
            if !digits || (n.len() > 16 && n.starts_with('0')) {
                return None;
            }
            let number: u64 = n.parse().ok().filter(|n| *n > 0)?;
            let kind = match what {
                "plan" => "plan",
                "sweep" => "sweep",
                "done" => "done",
                _ => return None,
            };
            Some((kind, number.to_string()))
        }
        _ => None,
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex_lower(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

fn pack_name(id: &Id) -> String {
    let id = hex(id);
    format!("packs/{}/{id}", &id[..2])
}

struct Storage {
    root: PathBuf,
}

impl Storage {
    /// A whole object, unless it is longer than `limit`.
    fn get(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let file = File::open(self.root.join(name)).map_err(|e| io(name, e))?;
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| io(name, e))?;
        if bytes.len() as u64 > limit { too_large(name) } else { Ok(bytes) }
    }

    fn get_range(&self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut file = File::open(self.root.join(name)).map_err(|e| io(name, e))?;
        file.seek(SeekFrom::Start(offset)).map_err(|e| io(name, e))?;
        let mut bytes = vec![0; len];
        file.read_exact(&mut bytes).map_err(|e| io(name, e))?;
        Ok(bytes)
    }

    /// The names below `folder` that are names of objects of one of the `kinds`, sorted, each
    /// with its id or number.
    fn list(&self, folder: &str, kinds: &[&str]) -> Result<Vec<(String, String)>> {
        let mut found = Vec::new();
        let mut folders = vec![(folder.to_string(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            let entries = match fs::read_dir(self.root.join(&folder)) {
                Ok(entries) => entries,
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) if depth > 0 && e.kind() == ErrorKind::NotADirectory => continue,
                Err(e) => return Err(io(&folder, e)),
            };
            for entry in entries {
                let entry = entry.map_err(|e| io(&folder, e))?;
                let Ok(last) = entry.file_name().into_string() else {
                    continue;
                };
                let name = format!("{folder}/{last}");
                let kind = entry.file_type().map_err(|e| io(&name, e))?;
                if kind.is_dir() && depth == 0 && !last.starts_with('.') {
                    folders.push((name, 1));
                } else if kind.is_file()
                    && let Some((what, id)) = parse_name(&name)
                    && kinds.contains(&what)
                {
                    found.push((name, id));
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

fn id_of(text: &str) -> Result<Id> {
    unhex_lower(text).and_then(|b| b.try_into().ok()).ok_or(Failure::Bad(text.into()))
}

// ---------------------------------------------------------------------------------------------
// 02 primitives
// ---------------------------------------------------------------------------------------------

/// Bytes that are read from the front. Nothing is read that is not there.
struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    fn new(rest: &'a [u8]) -> Self {
        Input { rest }
    }

    fn raw(&mut self, len: usize) -> Result<&'a [u8]> {
        let (front, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or_else(|| Failure::Truncated(format!("{len} bytes asked for")))?;
        self.rest = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (front, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or_else(|| Failure::Truncated(format!("{N} bytes asked for")))?;
        self.rest = rest;
        Ok(*front)
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for i in 0..10 {
            let byte = self.u8()?;
            ensure(i < 9 || byte <= 1, "varint over 64 bits")?;
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                ensure(i == 0 || byte != 0, "varint longer than needed")?;
                return Ok(value);
            }
        }
        bad("varint of eleven bytes")
    }

    fn varint_to(&mut self, limit: u64, what: &str) -> Result<u64> {
        let value = self.varint()?;
        if value > limit { too_large(what) } else { Ok(value) }
    }

    fn varint32(&mut self, what: &str) -> Result<u32> {
        Ok(self.varint_to(u32::MAX.into(), what)? as u32)
    }

    fn signed(&mut self) -> Result<i64> {
        let v = self.varint()?;
        Ok((v >> 1) as i64 ^ -((v & 1) as i64))
    }

    fn bytes(&mut self, limit: u64, what: &str) -> Result<&'a [u8]> {
        let len = self.varint_to(limit, what)?;
        let len = usize::try_from(len).map_err(|_| Failure::TooLarge(what.into()))?;
        self.raw(len)
    }

    fn text(&mut self, limit: u64, what: &str) -> Result<String> {
        match std::str::from_utf8(self.bytes(limit, what)?) {
            Ok(text) => Ok(text.to_string()),
            Err(_) => bad(what),
        }
    }

    fn list<T>(
        &mut self,
        limit: u64,
        what: &str,
        mut item: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let count = self.varint_to(limit, what)?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn option<T>(&mut self, item: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        match self.u8()? {
            0 => Ok(None),
            1 => Ok(Some(item(self)?)),
            _ => bad("option that is neither 0 nor 1"),
        }
    }

    fn time(&mut self) -> Result<Time> {
        let seconds = self.signed()?;
        let nanoseconds = self.varint_to(999_999_999, "nanoseconds")? as u32;
        Ok(Time { seconds, nanoseconds })
    }

    fn end(&self, what: &str) -> Result<()> {
        ensure(self.rest.is_empty(), what)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    pub seconds: i64,
    pub nanoseconds: u32,
}

fn keyed_hash(key: &Id, message: &[u8]) -> Id {
    *blake3::keyed_hash(key, message).as_bytes()
}

fn derive(context: &str, material: &[u8]) -> Id {
    blake3::derive_key(context, material)
}

fn open(key: &Id, nonce: &FrameId, associated: &[u8], sealed: &[u8]) -> Result<Vec<u8>> {
    chacha20poly1305::XChaCha20Poly1305::new(key.into())
        .decrypt(nonce.into(), Payload { msg: sealed, aad: associated })
        .map_err(|_| Failure::Tag("authentication".into()))
}

fn open_sealed_to(secret: &Id, associated: &[u8], sealed: &[u8]) -> Result<Vec<u8>> {
    let mut input = Input::new(sealed);
    let ephemeral: Id = input.array()?;
    let reader = x25519_dalek::x25519(*secret, x25519_dalek::X25519_BASEPOINT_BYTES);
    let shared = x25519_dalek::x25519(*secret, ephemeral);
    if shared == [0; 32] {
        return Err(Failure::Tag("shared secret is zero".into()));
    }
    let material = [shared, ephemeral, reader].concat();
    let key = derive("holdall 1 sealed to a public key", &material);
    open(&key, &[0; 24], associated, input.rest)
}

/// Exactly one frame of RFC 8878, with exactly `len` bytes inside.
fn decompress(stored: &[u8], prefix: Option<&[u8]>, len: usize) -> Result<Vec<u8>> {
    ensure(stored.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]), "no zstd frame")?;
    let whole = zstd_safe::find_frame_compressed_size(stored).ok() == Some(stored.len());
    ensure(whole, "not one zstd frame")?;
    let failed = || Failure::Bad("zstd does not decompress to the stated length".into());
    let mut context = zstd_safe::DCtx::try_create().ok_or_else(failed)?;
    if let Some(prefix) = prefix {
        context.ref_prefix(prefix).map_err(|_| failed())?;
    }
    let mut output = vec![0; len];
    match context.decompress(&mut output[..], stored) {
        Ok(n) if n == len => Ok(output),
        _ => Err(failed()),
    }
}

// ---------------------------------------------------------------------------------------------
// 03 keys
// ---------------------------------------------------------------------------------------------

pub enum Secret {
    Password(String),
    /// The text of the file.
    KeyFile(String),
    Recovery(String),
}

/// A secret in its bytes.
enum SecretBytes {
    Password(Vec<u8>),
    KeyFile([u8; 32]),
    Recovery([u8; 16]),
}

impl Secret {
    fn decode(&self) -> Result<SecretBytes> {
        Ok(match self {
            Secret::Password(text) => SecretBytes::Password(text.as_bytes().to_vec()),
            Secret::KeyFile(text) => SecretBytes::KeyFile(decode_key_file(text)?),
            Secret::Recovery(text) => SecretBytes::Recovery(decode_recovery_code(text)?),
        })
    }
}

impl SecretBytes {
    fn kind(&self) -> u8 {
        match self {
            SecretBytes::Password(_) => 1,
            SecretBytes::KeyFile(_) => 2,
            SecretBytes::Recovery(_) => 3,
        }
    }
}

fn decode_key_file(text: &str) -> Result<[u8; 32]> {
    let wrong = || Failure::Bad("not a key file".into());
    let trimmed = text.trim_matches(|c: char| c.is_ascii_whitespace());
    let digits = trimmed.strip_prefix("holdall-key-1-").ok_or_else(wrong)?;
    let bytes = unhex_lower(&digits.to_ascii_lowercase()).ok_or_else(wrong)?;
    bytes.try_into().map_err(|_| wrong())
}

const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

fn recovery_checksum(r: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = derive("holdall 1 checksum of a recovery code", r);
    [a, b, c, d]
}

fn decode_recovery_code(text: &str) -> Result<[u8; 16]> {
    let mut bits: Vec<bool> = Vec::new();
    for c in text.chars() {
        let digit = match c.to_ascii_uppercase() {
            '-' | ' ' | '\t' | '\r' | '\n' => continue,
            'O' => b'0',
            'I' | 'L' => b'1',
            c => u8::try_from(c).map_err(|_| Failure::Bad("recovery code".into()))?,
        };
        let Some(value) = CROCKFORD.iter().position(|d| *d == digit) else {
            return bad("a character that no recovery code has");
        };
        ensure(bits.len() < 160, "recovery code too long")?;
        bits.extend((0..5).rev().map(|i| value >> i & 1 == 1));
    }
    ensure(bits.len() == 160, "recovery code too short")?;
    let to_byte = |bits: &[bool]| bits.iter().fold(0u8, |byte, bit| byte << 1 | u8::from(*bit));
    let bytes: Vec<u8> = bits.chunks(8).map(to_byte).collect();
    let mut input = Input::new(&bytes);
    let r = input.array::<16>()?;
    ensure(input.array::<4>()? == recovery_checksum(&r), "checksum of the recovery code")?;
    Ok(r)
}

struct Slot<'a> {
    kind: u8,
    id: Id,
    costs: [u32; 3],
    salt: Id,
    check: [u8; 16],
    public: Id,
    wrap_nonce: FrameId,
    wrapped: &'a [u8],
    bundle: &'a [u8],
    about: &'a [u8],
    head: &'a [u8],
    bound: &'a [u8],
}

const SLOT_LEN_MAX: u64 = 65536;
const SLOTS_MAX: usize = 256;
const ARGON2_WORK_KIB_MAX: u64 = 67108864;

impl Slot<'_> {
    /// Of one derivation; costs were checked when the slot was decoded.
    fn work(&self) -> u64 {
        u64::from(self.costs[0]) * u64::from(self.costs[1])
    }
}

fn decode_slot<'a>(object: &'a [u8], repository: &Id) -> Result<Slot<'a>> {
    if object.len() as u64 > SLOT_LEN_MAX {
        return too_large("slot");
    }
    let mut input = Input::new(object);
    if &input.array::<8>()? != b"HOLDSLOT" {
        return Err(Failure::Magic("slot".into()));
    }
    check_version(input.u16()?, "slot")?;
    let kind = input.u8()?;
    if !(1..=3).contains(&kind) {
        return Err(Failure::Newer(format!("slot of kind {kind}")));
    }
    ensure(input.u8()? == 0, "reserved byte of a slot")?;
    ensure(&input.array::<32>()? == repository, "slot of another repository")?;
    let id = input.array()?;
    let costs = [input.u32()?, input.u32()?, input.u32()?];
    let [memory, passes, lanes] = costs;
    if kind == 1 {
        let fit = (8192..=1048576).contains(&memory)
            && (1..=64).contains(&passes)
            && (1..=16).contains(&lanes);
        ensure(fit, "costs of a slot")?;
    } else {
        ensure(costs == [0; 3], "costs of a slot without password")?;
    }
    let salt = input.array()?;
    let check = input.array()?;
    let public = input.array()?;
    let head = object.get(..168).unwrap_or_default();
    let wrap_nonce = input.array()?;
    let wrapped = input.raw(80)?;
    let bundle = input.bytes(SLOT_LEN_MAX, "bundle")?;
    let bound = object.get(..object.len() - input.rest.len()).unwrap_or_default();
    let about = input.bytes(SLOT_LEN_MAX, "what a slot says")?;
    input.end("bytes behind a slot")?;
    Ok(Slot {
        kind,
        id,
        costs,
        salt,
        check,
        public,
        wrap_nonce,
        wrapped,
        bundle,
        about,
        head,
        bound,
    })
}

fn check_version(version: u16, what: &str) -> Result<()> {
    match version {
        0 => bad(what),
        1 => Ok(()),
        _ => Err(Failure::Newer(format!("{what} of version {version}"))),
    }
}

/// The slot key U, not yet checked.
fn slot_key(slot: &Slot, secret: &SecretBytes) -> Result<Id> {
    ensure(slot.kind == secret.kind(), "a slot for another kind of secret")?;
    Ok(match secret {
        SecretBytes::Password(password) => {
            let [memory, passes, lanes] = slot.costs;
            let wrong = |_| Failure::Bad("costs of a slot".into());
            let params = argon2::Params::new(memory, passes, lanes, Some(32)).map_err(wrong)?;
            let argon2 =
                argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
            let mut key = [0; 32];
            argon2.hash_password_into(password, &slot.salt, &mut key).map_err(wrong)?;
            key
        }
        SecretBytes::KeyFile(bytes) => {
            derive("holdall 1 key file", &[&slot.salt[..], bytes].concat())
        }
        SecretBytes::Recovery(r) => {
            derive("holdall 1 recovery code", &[&slot.salt[..], r].concat())
        }
    })
}

/// Steps 2 to 5 of *Unlocking*.
fn open_slot(slot: &Slot, key: &Id) -> Result<KeyRing> {
    if derive("holdall 1 key check", key)[..16] != slot.check {
        return Err(Failure::WrongSecret("slot".into()));
    }
    let wrapping = derive("holdall 1 wrapping of a slot's key", key);
    let plain = open(&wrapping, &slot.wrap_nonce, slot.head, slot.wrapped)?;
    let mut input = Input::new(&plain);
    let (secret, pin): (Id, Id) = (input.array()?, input.array()?);
    let public = x25519_dalek::x25519(secret, x25519_dalek::X25519_BASEPOINT_BYTES);
    ensure(public == slot.public, "public key of a slot")?;
    let ring = KeyRing::decode(&open_sealed_to(&secret, slot.head, slot.bundle)?)?;
    if derive("holdall 1 pin of a slot's keys", ring.key(8, 0)?) != pin {
        return Err(Failure::Tag("pin of a slot".into()));
    }
    Ok(ring)
}

#[derive(Clone, Default)]
struct KeyRing {
    keys: BTreeMap<(u8, u32), Id>,
}

impl KeyRing {
    fn decode(plain: &[u8]) -> Result<KeyRing> {
        ensure(plain.len().is_multiple_of(37), "length of a bundle")?;
        if plain.len() / 37 > 4096 {
            return too_large("keys of a bundle");
        }
        let mut ring = KeyRing::default();
        let mut last = None;
        let mut input = Input::new(plain);
        while !input.rest.is_empty() {
            let place = (input.u8()?, input.u32()?);
            ensure(last.is_none_or(|last| last < place), "order of a bundle")?;
            last = Some(place);
            let key = input.array()?;
            if (1..=8).contains(&place.0) {
                ring.keys.insert(place, key);
            }
        }
        Ok(ring)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for ((purpose, generation), key) in &self.keys {
            bytes.push(*purpose);
            bytes.extend(generation.to_le_bytes());
            bytes.extend(key);
        }
        bytes
    }

    fn key(&self, purpose: u8, generation: u32) -> Result<&Id> {
        self.keys.get(&(purpose, generation)).ok_or_else(|| {
            Failure::NoKey(format!("key of purpose {purpose}, generation {generation}"))
        })
    }
}

struct About {
    label: String,
    host: String,
    created: Time,
}

fn open_about(slot: &Slot, ring: &KeyRing) -> Result<About> {
    let key = derive("holdall 1 what a slot says", ring.key(8, 0)?);
    let mut input = Input::new(slot.about);
    let nonce = input.array()?;
    let plain = open(&key, &nonce, slot.bound, input.rest)?;
    let mut input = Input::new(&plain);
    Ok(About {
        label: input.text(TEXT_LEN_MAX, "label")?,
        host: input.text(TEXT_LEN_MAX, "host")?,
        created: input.time()?,
    })
}

// ---------------------------------------------------------------------------------------------
// 04 envelope
// ---------------------------------------------------------------------------------------------

const OBJECT_LEN_MAX: u64 = 67108864;

pub fn padded(len: u64) -> Option<u64> {
    let exponent = len.max(1).ilog2();
    let step = 1u64 << exponent.saturating_sub(7).max(8);
    len.checked_next_multiple_of(step)
}

/// Zeros up to the padded length of what was read before, and nothing else.
fn check_padding(whole: usize, input: &Input) -> Result<()> {
    let used = (whole - input.rest.len()) as u64;
    ensure(padded(used) == Some(whole as u64), "length of padding")?;
    ensure(input.rest.iter().all(|b| *b == 0), "padding that is not zero")
}

fn open_envelope(
    ring: &KeyRing,
    repository: &Id,
    kind: u8,
    name: &str,
    object: &[u8],
) -> Result<Vec<u8>> {
    if object.len() as u64 > OBJECT_LEN_MAX {
        return too_large(name);
    }
    let mut input = Input::new(object);
    if &input.array::<4>()? != b"HOLD" {
        return Err(Failure::Magic(name.into()));
    }
    let (found, reserved) = (input.u8()?, input.u8()?);
    check_version(input.u16()?, name)?;
    ensure(found == kind, "type of an envelope")?;
    ensure(reserved == 0, "reserved byte of an envelope")?;
    let generation = input.u32()?;
    let nonce = input.array()?;
    if input.rest.len() < 16 {
        return Err(Failure::Truncated(name.into()));
    }
    let purpose = match kind {
        1 | 2 => 5,
        3..=7 => 6,
        8..=10 => 7,
        _ => return bad("type of an envelope"),
    };
    let key = ring.key(purpose, generation)?;
    let header = object.get(..36).unwrap_or_default();
    let associated = [header, repository, name.as_bytes()].concat();
    let plain = open(key, &nonce, &associated, input.rest)?;
    let mut input = Input::new(&plain);
    let len = input.varint()?;
    if len > input.rest.len() as u64 {
        return too_large("payload"); // and not `truncated`, say the vectors
    }
    let payload = input.raw(len as usize)?;
    check_padding(plain.len(), &input)?;
    Ok(payload.to_vec())
}

// ---------------------------------------------------------------------------------------------
// 05 config
// ---------------------------------------------------------------------------------------------

const CONFIG_LEN_MAX: u64 = 65536;

#[derive(Clone, Debug)]
pub struct Config {
    pub repository: Id,
    pub family: Id,
    pub write_features: Vec<u64>,
    pub created: Time,
    pub min_size: u32,
    pub average_size: u32,
    pub max_size: u32,
    pub frame_size: u64,
    pub pack_size: u64,
    pub compression: i64,
}

/// The repository id, the only field to be used before the code was checked.
fn config_repository(object: &[u8]) -> Result<Id> {
    let mut input = Input::new(object);
    if &input.array::<8>()? != b"HOLDCONF" {
        return Err(Failure::Magic("config".into()));
    }
    check_version(input.u16()?, "config")?;
    input.array()
}

fn decode_config(object: &[u8], ring: &KeyRing) -> Result<Config> {
    if object.len() as u64 > CONFIG_LEN_MAX {
        return too_large("config");
    }
    let repository = config_repository(object)?;
    let Some((fields, code)) = object.split_last_chunk::<32>().filter(|(f, _)| f.len() >= 74)
    else {
        return Err(Failure::Truncated("config".into()));
    };
    let key = derive("holdall 1 authentication of config", ring.key(8, 0)?);
    if blake3::keyed_hash(&key, fields) != *code {
        return Err(Failure::Tag("code of config".into()));
    }
    let mut input = Input::new(fields);
    input.raw(42)?;
    let family = input.array()?;
    let read_features = input.list(LIST_MAX, "read features", Input::varint)?;
    if let Some(feature) = read_features.first() {
        return Err(Failure::Newer(format!("read feature {feature}")));
    }
    let write_features = input.list(LIST_MAX, "write features", Input::varint)?;
    let created = input.time()?;
    let min_size = input.varint32("min size")?;
    let average_size = input.varint32("average size")?;
    let max_size = input.varint32("max size")?;
    let allowed = |n: u32| n.is_multiple_of(2) && (4096..=CHUNK_LEN_MAX).contains(&u64::from(n));
    ensure(allowed(min_size) && allowed(max_size), "sizes of chunks")?;
    ensure(average_size.is_power_of_two(), "average size")?;
    ensure(min_size <= average_size / 2 && average_size <= max_size / 2, "sizes of chunks")?;
    let frame_size = input.varint_to(FRAME_PLAIN_LEN_MAX / 2, "frame size")?;
    let pack_size = input.varint_to(PACK_LEN_MAX / 2, "pack size")?;
    ensure(frame_size > 0 && pack_size > 0, "size of frames or packs")?;
    let compression = input.signed()?;
    ensure((-7..=22).contains(&compression), "compression")?;
    Ok(Config {
        repository,
        family,
        write_features,
        created,
        min_size,
        average_size,
        max_size,
        frame_size,
        pack_size,
        compression,
    })
}

// 06 chunking: never needed by a reader

// ---------------------------------------------------------------------------------------------
// 07 pack
// ---------------------------------------------------------------------------------------------

const CHUNK_LEN_MAX: u64 = 8388608;
const FRAME_PLAIN_LEN_MAX: u64 = 16777216;
const FRAME_SEALED_LEN_MAX: u64 = 18874368;
const FRAME_CHUNKS_MAX: u64 = 65535;
const PACK_FRAMES_MAX: u64 = 65535;
const PACK_LEN_MAX: u64 = 1073741824;
const TRAILER_LEN_MAX: u64 = 67108864;
const PACK_HEADER_LEN: u64 = 16;
const PACK_FOOTER_LEN: u64 = 8;
const FRAME_HEADER_LEN: usize = 120;

const DATA: u8 = 1;
const TREE: u8 = 2;

fn decode_pack_header(bytes: &[u8]) -> Result<u8> {
    let mut input = Input::new(bytes);
    if &input.array::<8>()? != b"HOLDPACK" {
        return Err(Failure::Magic("pack header".into()));
    }
    check_version(input.u16()?, "pack header")?;
    let kind = input.u8()?;
    ensure(kind == DATA || kind == TREE, "kind of a pack")?;
    ensure(input.array::<5>()? == [0; 5], "reserved bytes of a pack header")?;
    input.end("pack header")?;
    Ok(kind)
}

fn decode_pack_footer(bytes: &[u8]) -> Result<u64> {
    let mut input = Input::new(bytes);
    let len = u64::from(input.u32()?);
    if &input.array::<4>()? != b"HEND" {
        return Err(Failure::Magic("pack footer".into()));
    }
    input.end("pack footer")?;
    if len > TRAILER_LEN_MAX { too_large("trailer") } else { Ok(len) }
}

struct FrameHeader {
    kind: u8,
    /// Length of the whole frame.
    len: usize,
    generation: u32,
    sealed_key: [u8; 80],
    id: FrameId,
}

fn decode_frame_header(bytes: &[u8]) -> Result<FrameHeader> {
    let mut input = Input::new(bytes);
    if &input.array::<4>()? != b"HFRM" {
        return Err(Failure::Magic("frame".into()));
    }
    let kind = input.u8()?;
    ensure(kind == DATA || kind == TREE, "kind of a frame")?;
    ensure(input.array::<3>()? == [0; 3], "reserved bytes of a frame")?;
    let body = u64::from(input.u32()?);
    ensure(body >= 16, "body length of a frame")?;
    let len = body + FRAME_HEADER_LEN as u64;
    if len > FRAME_SEALED_LEN_MAX {
        return too_large("frame");
    }
    let (generation, sealed_key, id) = (input.u32()?, input.array()?, input.array()?);
    Ok(FrameHeader { kind, len: len as usize, generation, sealed_key, id })
}

/// Opens the seals of a whole frame; its plaintext is not decoded yet.
fn unseal_frame(ring: &KeyRing, family: &Id, frame: &[u8]) -> Result<(FrameHeader, Vec<u8>)> {
    let header = decode_frame_header(frame)?;
    ensure(frame.len() == header.len, "length of a frame")?;
    let (head, body) = frame.split_at_checked(FRAME_HEADER_LEN).unwrap_or_default();
    let form = 1u16.to_le_bytes();
    let secret = ring.key(if header.kind == DATA { 3 } else { 4 }, header.generation)?;
    let generation = header.generation.to_le_bytes();
    let associated = [&form[..], family, &generation, &[header.kind]].concat();
    let session = open_sealed_to(secret, &associated, &header.sealed_key)?;
    let session: Id = Input::new(&session).array()?;
    let associated = [&form[..], family, head].concat();
    let plain = open(&session, &header.id, &associated, body)?;
    Ok((header, plain))
}

struct FrameBody {
    codec: u8,
    base: Option<FrameId>,
    lens: Vec<u32>,
    stored: Vec<u8>,
}

fn decode_codec(input: &mut Input) -> Result<(u8, Option<FrameId>)> {
    match input.u8()? {
        codec @ (0 | 1) => Ok((codec, None)),
        2 => Ok((2, Some(input.array()?))),
        codec => Err(Failure::Newer(format!("codec {codec}"))),
    }
}

fn decode_chunk_len(input: &mut Input, sum: &mut u64) -> Result<u32> {
    let len = input.varint_to(CHUNK_LEN_MAX, "length of a chunk")?;
    ensure(len > 0, "a chunk of no bytes")?;
    *sum += len;
    ensure(*sum <= FRAME_PLAIN_LEN_MAX, "chunks of a frame together")?;
    Ok(len as u32)
}

fn decode_frame_body(plain: &[u8]) -> Result<FrameBody> {
    let mut input = Input::new(plain);
    let (codec, base) = decode_codec(&mut input)?;
    let mut sum = 0;
    let lens = input
        .list(FRAME_CHUNKS_MAX, "chunks of a frame", |input| decode_chunk_len(input, &mut sum))?;
    let stored_len = input.u32()?;
    let stored = input.raw(stored_len as usize)?.to_vec();
    ensure(codec != 0 || sum == u64::from(stored_len), "stored length of a raw frame")?;
    check_padding(plain.len(), &input)?;
    Ok(FrameBody { codec, base, lens, stored })
}

impl FrameBody {
    fn chunks(self, base: Option<&[u8]>) -> Result<Vec<u8>> {
        let len = self.lens.iter().map(|n| *n as usize).sum();
        match self.codec {
            0 => Ok(self.stored),
            1 => decompress(&self.stored, None, len),
            _ if base.is_none() => Err(Failure::Missing("base of a frame".into())),
            _ => decompress(&self.stored, base, len),
        }
    }
}

/// What is known of a frame, from a trailer, a segment or a scan.
#[derive(Clone, Debug, PartialEq)]
struct FrameFact {
    pack: Id,
    kind: u8,
    offset: u64,
    stored_len: u64,
    id: FrameId,
    codec: u8,
    base: Option<FrameId>,
    lens: Vec<u32>,
    /// Ids of the chunks; none after a scan, which finds them later.
    ids: Vec<Id>,
}

struct Trailer {
    session: Id,
    kind: u8,
    frames: Vec<FrameFact>,
    /// Where the last frame ends.
    end: u64,
}

fn decode_trailer(input: &mut Input, pack: &Id) -> Result<Trailer> {
    let session = input.array()?;
    let kind = input.u8()?;
    ensure(kind == DATA || kind == TREE, "kind of a trailer")?;
    let mut end = PACK_HEADER_LEN;
    let frames = input.list(PACK_FRAMES_MAX, "frames of a pack", |input| {
        let id = input.array()?;
        let stored_len = input.varint_to(FRAME_SEALED_LEN_MAX, "length of a frame")?;
        ensure(stored_len >= FRAME_HEADER_LEN as u64 + 16, "length of a frame")?;
        let (codec, base) = decode_codec(input)?;
        let mut sum = 0;
        let chunks = input.list(FRAME_CHUNKS_MAX, "chunks of a frame", |input| {
            Ok((decode_chunk_len(input, &mut sum)?, input.array::<32>()?))
        })?;
        let offset = end;
        end += stored_len;
        ensure(end <= PACK_LEN_MAX, "frames beyond the longest pack")?;
        let (lens, ids) = chunks.into_iter().unzip();
        Ok(FrameFact { pack: *pack, kind, offset, stored_len, id, codec, base, lens, ids })
    })?;
    Ok(Trailer { session, kind, frames, end })
}

/// Checks header, footer and trailer of a pack, whose bytes come from `range(offset, len)`.
fn read_trailer(
    ring: &KeyRing,
    repository: &Id,
    pack: &Id,
    len: u64,
    range: &dyn Fn(u64, usize) -> Result<Vec<u8>>,
) -> Result<Trailer> {
    if len > PACK_LEN_MAX {
        return too_large("pack");
    }
    let Some(room) = len.checked_sub(PACK_HEADER_LEN + PACK_FOOTER_LEN) else {
        return Err(Failure::Truncated("pack".into()));
    };
    let kind = decode_pack_header(&range(0, 16)?)?;
    let trailer_len = decode_pack_footer(&range(len - PACK_FOOTER_LEN, 8)?)?;
    ensure(trailer_len <= room, "trailer longer than the pack")?;
    let start = len - PACK_FOOTER_LEN - trailer_len;
    let sealed = range(start, trailer_len as usize)?;
    let payload = open_envelope(ring, repository, 1, &pack_name(pack), &sealed)?;
    let mut input = Input::new(&payload);
    let trailer = decode_trailer(&mut input, pack)?;
    input.end("bytes behind a trailer")?;
    ensure(trailer.kind == kind, "kinds of header and trailer")?;
    ensure(trailer.end == start, "frames that do not end where the trailer begins")?;
    Ok(trailer)
}

/// *Reading without a trailer*: offset and plaintext of each frame that opens.
fn scan_pack(
    ring: &KeyRing,
    family: &Id,
    pack: &[u8],
    found: &mut dyn FnMut(usize, FrameHeader, Vec<u8>),
) {
    let whole = pack.get(..16).is_some_and(|header| decode_pack_header(header).is_ok());
    let mut at = if whole { 16 } else { 0 };
    while let Some(rest) = pack.get(at..).filter(|rest| rest.len() >= FRAME_HEADER_LEN) {
        at += 1;
        let Ok(header) = decode_frame_header(rest) else {
            continue;
        };
        let Some(frame) = rest.get(..header.len) else {
            continue;
        };
        if let Ok((header, plain)) = unseal_frame(ring, family, frame) {
            let offset = at - 1;
            at = offset + header.len;
            found(offset, header, plain);
        }
    }
}

// ---------------------------------------------------------------------------------------------
// 08 index
// ---------------------------------------------------------------------------------------------

const SEGMENT_PACKS_MAX: u64 = 65536;

struct SegmentPack {
    id: Id,
    len: u64,
    trailer: Trailer,
}

fn decode_segment(payload: &[u8]) -> Result<Vec<SegmentPack>> {
    let mut input = Input::new(payload);
    let packs = input.list(SEGMENT_PACKS_MAX, "packs of a segment", |input| {
        let id = input.array()?;
        let len = input.varint_to(PACK_LEN_MAX, "length of a pack")?;
        let trailer = decode_trailer(input, &id)?;
        ensure(trailer.end <= len, "frames beyond their pack")?;
        Ok(SegmentPack { id, len, trailer })
    })?;
    input.end("bytes behind a segment")?;
    Ok(packs)
}

struct Place {
    frame: Rc<FrameFact>,
    start: usize,
    len: usize,
}

/// The union of all facts.
#[derive(Default)]
struct Index {
    frames: HashMap<(u8, FrameId), Vec<Rc<FrameFact>>>,
    chunks: HashMap<(u8, Id), Vec<Rc<Place>>>,
    packs: HashSet<Id>,
    stamp: Stamp,
}

/// What decides whether the index is to be read again (R2): the segments and the highest epoch.
#[derive(Default, PartialEq)]
struct Stamp {
    segments: Vec<String>,
    epoch: u64,
}

impl Index {
    fn add_frame(&mut self, fact: FrameFact) -> Option<Rc<FrameFact>> {
        let known = self.frames.entry((fact.kind, fact.id)).or_default();
        if known.iter().any(|other| **other == fact) {
            return None;
        }
        let fact = Rc::new(fact);
        known.push(fact.clone());
        Some(fact)
    }

    fn add_chunks(&mut self, frame: &Rc<FrameFact>, ids: &[Id]) {
        let mut start = 0;
        for (len, id) in frame.lens.iter().zip(ids) {
            let place = Place { frame: frame.clone(), start, len: *len as usize };
            start += *len as usize;
            self.chunks.entry((frame.kind, *id)).or_default().push(Rc::new(place));
        }
    }

    fn add_trailer(&mut self, trailer: Trailer) {
        for fact in trailer.frames {
            if let Some(frame) = self.add_frame(fact) {
                self.add_chunks(&frame, &frame.ids);
            }
        }
    }
}

impl Repository {
    fn stamp(&self) -> Result<Stamp> {
        let segments = self.storage.list("index", &["segment"])?;
        let epochs = self.storage.list("epochs", &["plan", "sweep", "done"])?;
        Ok(Stamp {
            segments: segments.into_iter().map(|(name, _)| name).collect(),
            epoch: epochs.iter().filter_map(|(_, n)| n.parse().ok()).max().unwrap_or(0),
        })
    }

    fn read_index(&self) -> Result<()> {
        'again: for _ in 0..16 {
            let mut index = Index { stamp: self.stamp()?, ..Index::default() };
            for name in &index.stamp.segments.clone() {
                let opened = self.envelope(2, name).and_then(|p| decode_segment(&p));
                match opened {
                    Ok(packs) => {
                        for pack in packs {
                            index.packs.insert(pack.id);
                            index.add_trailer(pack.trailer);
                        }
                    }
                    Err(Failure::Missing(_)) => continue 'again, // R1: it vanished
                    Err(failure) => self.report(name, failure),
                }
            }
            let mut lost = Vec::new();
            for (name, id) in self.storage.list("packs", &["pack"])? {
                let id = id_of(&id)?;
                if index.packs.contains(&id) {
                    continue;
                }
                match self.trailer(&name, &id) {
                    Ok(trailer) => index.add_trailer(trailer),
                    Err(failure) => {
                        self.report(&name, failure);
                        lost.push((name, id));
                    }
                }
                index.packs.insert(id);
            }
            *self.index.borrow_mut() = index;
            self.scan_packs(&lost);
            return Ok(());
        }
        Err(Failure::Io("segments vanish again and again".into()))
    }

    fn trailer(&self, name: &str, id: &Id) -> Result<Trailer> {
        let len = fs::metadata(self.storage.root.join(name)).map_err(|e| io(name, e))?.len();
        let range = |offset, len| self.storage.get_range(name, offset, len);
        read_trailer(&self.ring, &self.config.repository, id, len, &range)
    }

    /// Packs without trailer: first every frame, then the chunks, those of delta frames last.
    fn scan_packs(&self, packs: &[(String, Id)]) {
        let mut facts = Vec::new();
        for (name, pack) in packs {
            let bytes = match self.storage.get(name, PACK_LEN_MAX) {
                Ok(bytes) => bytes,
                Err(failure) => {
                    self.report(name, failure);
                    continue;
                }
            };
            scan_pack(&self.ring, &self.config.family, &bytes, &mut |offset, header, plain| {
                let (offset, stored_len) = (offset as u64, header.len as u64);
                match decode_frame_body(&plain) {
                    Ok(FrameBody { codec, base, lens, .. }) => {
                        let (pack, kind, id) = (*pack, header.kind, header.id);
                        let fact = FrameFact {
                            pack,
                            kind,
                            offset,
                            stored_len,
                            id,
                            codec,
                            base,
                            lens,
                            ids: Vec::new(),
                        };
                        facts.extend(self.index.borrow_mut().add_frame(fact));
                    }
                    Err(failure) => self.report(name, failure),
                }
            });
        }
        facts.sort_by_key(|fact| fact.codec == 2);
        for fact in &facts {
            match self.frame(fact) {
                Ok(chunks) => {
                    let mut rest = &chunks[..];
                    let mut ids = Vec::new();
                    for len in &fact.lens {
                        let (chunk, behind) =
                            rest.split_at_checked(*len as usize).unwrap_or_default();
                        ids.push(self.chunk_id(fact.kind, chunk));
                        rest = behind;
                    }
                    self.index.borrow_mut().add_chunks(fact, &ids);
                }
                Err(failure) => self.report(&pack_name(&fact.pack), failure),
            }
        }
    }

    fn chunk_id(&self, kind: u8, plain: &[u8]) -> Id {
        keyed_hash(if kind == TREE { &self.tree_id_key } else { &self.data_id_key }, plain)
    }

    /// The decoded chunks of a frame, one behind the other.
    fn frame(&self, fact: &Rc<FrameFact>) -> Result<Rc<Vec<u8>>> {
        if let Some((_, chunks)) = self.cache.borrow().iter().find(|(known, _)| known == fact) {
            return Ok(chunks.clone());
        }
        let len = fact.stored_len as usize;
        let sealed = self.storage.get_range(&pack_name(&fact.pack), fact.offset, len)?;
        let (header, plain) = unseal_frame(&self.ring, &self.config.family, &sealed)?;
        ensure(header.id == fact.id && header.kind == fact.kind, "id or kind of a frame")?;
        let body = decode_frame_body(&plain)?;
        let same = body.codec == fact.codec && body.base == fact.base && body.lens == fact.lens;
        ensure(same, "codec or chunks of a frame")?;
        let base = match &body.base {
            Some(id) => Some(self.base(fact.kind, id)?),
            None => None,
        };
        let chunks = Rc::new(body.chunks(base.as_deref().map(Vec::as_slice))?);
        let mut cache = self.cache.borrow_mut();
        cache.push_front((fact.clone(), chunks.clone()));
        cache.truncate(4);
        Ok(chunks)
    }

    fn base(&self, kind: u8, id: &FrameId) -> Result<Rc<Vec<u8>>> {
        let places = self.index.borrow().frames.get(&(kind, *id)).cloned().unwrap_or_default();
        let mut failure = Failure::Missing(format!("base {}", hex(id)));
        for fact in &places {
            if fact.codec == 2 {
                failure = Failure::Bad("a base that is a delta itself".into());
                continue;
            }
            match self.frame(fact) {
                Ok(chunks) => return Ok(chunks),
                Err(Failure::Missing(_)) => {}
                Err(other) => failure = other,
            }
        }
        Err(failure)
    }

    /// A chunk, from any place where it is (R1, R2).
    fn chunk(&self, kind: u8, id: &Id) -> Result<Vec<u8>> {
        let mut failure = Failure::Missing(format!("chunk {}", hex(id)));
        for _ in 0..64 {
            let places = self.index.borrow().chunks.get(&(kind, *id)).cloned().unwrap_or_default();
            for place in &places {
                match self.chunk_at(kind, id, place) {
                    Ok(chunk) => return Ok(chunk),
                    Err(Failure::Missing(_)) => {}
                    Err(other) => failure = other,
                }
            }
            if self.stamp()? == self.index.borrow().stamp {
                break;
            }
            self.read_index()?;
        }
        Err(failure)
    }

    fn chunk_at(&self, kind: u8, id: &Id, place: &Place) -> Result<Vec<u8>> {
        let frame = self.frame(&place.frame)?;
        let Some(chunk) =
            place.start.checked_add(place.len).and_then(|e| frame.get(place.start..e))
        else {
            return bad("place of a chunk");
        };
        ensure(self.chunk_id(kind, chunk) == *id, "a chunk with another id")?;
        Ok(chunk.to_vec())
    }
}

// ---------------------------------------------------------------------------------------------
// 09 tree
// ---------------------------------------------------------------------------------------------

const NAME_LEN_MAX: u64 = 4096;
const SYMLINK_LEN_MAX: u64 = 65536;
const OWNER_LEN_MAX: u64 = 1024;
const XATTRS_MAX: u64 = 4096;
const XATTR_NAME_LEN_MAX: u64 = 1024;
const XATTR_VALUE_LEN_MAX: u64 = 1048576;
const ENTRY_LEN_MAX: u64 = 4194304;
const REFS_MAX: u64 = 65536;
const REFS_DEPTH_MAX: u8 = 8;
const TREE_DEPTH_MAX: usize = 65536;
const CONTENT_LEN_MAX: u64 = 4611686018427387904;

/// A reference; without an id it is a hole.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    pub len: u64,
    pub id: Option<Id>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct List {
    pub depth: u8,
    pub refs: Vec<Reference>,
}

impl List {
    /// Length of the stream. Decoding has seen to it that this does not overflow.
    pub fn len(&self) -> u64 {
        self.refs.iter().fold(0, |sum, r| sum.saturating_add(r.len))
    }

    pub fn is_empty(&self) -> bool {
        self.refs.is_empty()
    }
}

fn decode_list(input: &mut Input, holes: bool) -> Result<List> {
    let depth = input.u8()?;
    if depth > REFS_DEPTH_MAX {
        return too_large("depth of a list");
    }
    let mut sum = 0u64;
    let refs = input.list(REFS_MAX, "references", |input| {
        let v = input.varint()?;
        let len = v / 2;
        ensure(len > 0, "reference without length")?;
        sum = sum.saturating_add(len);
        ensure(sum <= CONTENT_LEN_MAX, "stream over the longest")?;
        let id = if v % 2 == 0 { Some(input.array()?) } else { None };
        ensure(holes || id.is_some(), "hole in a listing")?;
        Ok(Reference { len, id })
    })?;
    Ok(List { depth, refs })
}

/// A list chunk that has to be of this depth.
fn decode_list_chunk(chunk: &[u8], depth: u8, holes: bool) -> Result<List> {
    let mut input = Input::new(chunk);
    if input.u8()? != b'R' {
        return Err(Failure::Magic("list chunk".into()));
    }
    let list = decode_list(&mut input, holes)?;
    input.end("bytes behind a list")?;
    ensure(list.depth == depth, "depth of a list")?;
    Ok(list)
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    File { content: List, unstable: bool },
    Directory { listing: List },
    Symlink { target: Vec<u8> },
    Fifo,
    Socket,
    CharDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub name: Vec<u8>,
    pub kind: Kind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub user: Vec<u8>,
    pub group: Vec<u8>,
    pub mtime: Time,
    pub ctime: Time,
    pub inode: u64,
    pub links: u64,
    /// 0 unless links > 1.
    pub device: u64,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

fn decode_entry(bytes: &[u8]) -> Result<Entry> {
    let mut input = Input::new(bytes);
    let name = input.bytes(NAME_LEN_MAX, "name")?.to_vec();
    let wrong = name.is_empty() || name == b"." || name == b"..";
    ensure(!wrong && !name.contains(&b'/') && !name.contains(&0), "name of an entry")?;
    let kind = input.u8()?;
    if !(1..=7).contains(&kind) {
        return Err(Failure::Newer(format!("entry of kind {kind}")));
    }
    let flags = input.varint()?;
    let mode = input.varint_to(4095, "mode")? as u32;
    let uid = input.varint32("uid")?;
    let gid = input.varint32("gid")?;
    let user = input.bytes(OWNER_LEN_MAX, "user")?.to_vec();
    let group = input.bytes(OWNER_LEN_MAX, "group")?.to_vec();
    let mtime = input.time()?;
    let ctime = input.time()?;
    let inode = input.varint()?;
    let links = input.varint()?;
    let device = if links > 1 { input.varint()? } else { 0 };
    let mut xattrs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for _ in 0..input.varint_to(XATTRS_MAX, "attributes")? {
        let name = input.bytes(XATTR_NAME_LEN_MAX, "name of an attribute")?;
        ensure(!name.is_empty() && !name.contains(&0), "name of an attribute")?;
        ensure(xattrs.last().is_none_or(|last| last.0[..] < *name), "order of attributes")?;
        let value = input.bytes(XATTR_VALUE_LEN_MAX, "value of an attribute")?;
        xattrs.push((name.to_vec(), value.to_vec()));
    }
    let kind = match kind {
        1 => Kind::File { content: decode_list(&mut input, true)?, unstable: flags & 1 == 1 },
        2 => Kind::Directory { listing: decode_list(&mut input, false)? },
        3 => {
            let target = input.bytes(SYMLINK_LEN_MAX, "target")?.to_vec();
            ensure(!target.is_empty() && !target.contains(&0), "target")?;
            Kind::Symlink { target }
        }
        4 => Kind::Fifo,
        5 => Kind::Socket,
        _ => {
            let (major, minor) = (input.varint32("major")?, input.varint32("minor")?);
            match kind {
                6 => Kind::CharDevice { major, minor },
                _ => Kind::BlockDevice { major, minor },
            }
        }
    };
    Ok(Entry {
        name,
        kind,
        mode,
        uid,
        gid,
        user,
        group,
        mtime,
        ctime,
        inode,
        links,
        device,
        xattrs,
    })
}

/// An entry chunk; `previous` is the last name before it in its listing.
fn decode_entries(chunk: &[u8], previous: Option<&[u8]>) -> Result<Vec<Entry>> {
    let mut input = Input::new(chunk);
    if input.u8()? != b'E' {
        return Err(Failure::Magic("entry chunk".into()));
    }
    let mut entries: Vec<Entry> = Vec::new();
    while !input.rest.is_empty() {
        let entry = decode_entry(input.bytes(ENTRY_LEN_MAX, "entry")?)?;
        let last = entries.last().map(|e| &e.name[..]).or(previous);
        ensure(last.is_none_or(|last| last < &entry.name[..]), "order of names")?;
        entries.push(entry);
    }
    Ok(entries)
}

/// Goes through the leaves of a list: chunks of the stream, and holes.
struct Leaves {
    levels: Vec<(List, usize)>,
    holes: bool,
}

impl Leaves {
    fn new(list: &List, holes: bool) -> Leaves {
        Leaves { levels: vec![(list.clone(), 0)], holes }
    }

    fn next(&mut self, repository: &Repository) -> Result<Option<Reference>> {
        while let Some((list, at)) = self.levels.last_mut() {
            let Some(reference) = list.refs.get(*at).cloned() else {
                self.levels.pop();
                continue;
            };
            *at += 1;
            let (Some(id), Some(below)) = (reference.id, list.depth.checked_sub(1)) else {
                return Ok(Some(reference));
            };
            let chunk = repository.chunk(TREE, &id)?;
            let list = decode_list_chunk(&chunk, below, self.holes)?;
            ensure(list.len() == reference.len, "sum of a list")?;
            self.levels.push((list, 0));
        }
        Ok(None)
    }
}

/// Goes through the entries of a directory.
struct Listing {
    leaves: Leaves,
    entries: std::vec::IntoIter<Entry>,
    last: Option<Vec<u8>>,
}

impl Listing {
    fn new(list: &List) -> Listing {
        Listing { leaves: Leaves::new(list, false), entries: Vec::new().into_iter(), last: None }
    }

    fn next(&mut self, repository: &Repository) -> Result<Option<Entry>> {
        loop {
            if let Some(entry) = self.entries.next() {
                return Ok(Some(entry));
            }
            let Some(Reference { len, id: Some(id) }) = self.leaves.next(repository)? else {
                return Ok(None);
            };
            let chunk = repository.chunk(TREE, &id)?;
            ensure(chunk.len() as u64 == len, "length of a chunk of a listing")?;
            let entries = decode_entries(&chunk, self.last.as_deref())?;
            if let Some(entry) = entries.last() {
                self.last = Some(entry.name.clone());
            }
            self.entries = entries.into_iter();
        }
    }
}

/// A piece of a file's content.
pub enum Piece<'a> {
    Bytes(&'a [u8]),
    Hole(u64),
}

impl Repository {
    /// Visits every entry of a snapshot, a directory before what is in it, with its path.
    pub fn walk(
        &self,
        snapshot: &Snapshot,
        visit: &mut dyn FnMut(&[u8], &Entry) -> Result<()>,
    ) -> Result<()> {
        let mut path: Vec<u8> = Vec::new();
        let mut open = vec![(Listing::new(&snapshot.root), 0)];
        while let Some((listing, parent)) = open.last_mut() {
            path.truncate(*parent);
            let Some(entry) = listing.next(self)? else {
                open.pop();
                continue;
            };
            path.push(b'/');
            path.extend(&entry.name);
            visit(&path, &entry)?;
            if let Kind::Directory { listing } = &entry.kind {
                if open.len() > TREE_DEPTH_MAX {
                    return too_large("nesting of directories");
                }
                open.push((Listing::new(listing), path.len()));
            }
        }
        Ok(())
    }

    /// The content of a file, piece by piece; holes are not written out.
    pub fn pieces(
        &self,
        content: &List,
        visit: &mut dyn FnMut(Piece<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut leaves = Leaves::new(content, true);
        while let Some(Reference { len, id }) = leaves.next(self)? {
            let Some(id) = id else {
                visit(Piece::Hole(len))?;
                continue;
            };
            let chunk = self.chunk(DATA, &id)?;
            ensure(chunk.len() as u64 == len, "length of a chunk of a file")?;
            visit(Piece::Bytes(&chunk))?;
        }
        Ok(())
    }

    /// Writes the content of a file, with its holes as zeros, and returns the holes as (offset,
    /// length), neighbouring ones as one.
    pub fn content(&self, entry: &Entry, write: &mut dyn FnMut(&[u8])) -> Result<Vec<(u64, u64)>> {
        let Kind::File { content, .. } = &entry.kind else {
            return bad("content of what is no file");
        };
        let mut holes: Vec<(u64, u64)> = Vec::new();
        let mut offset = 0;
        self.pieces(content, &mut |piece| {
            match piece {
                Piece::Bytes(bytes) => {
                    write(bytes);
                    offset += bytes.len() as u64;
                }
                Piece::Hole(len) => {
                    match holes.last_mut() {
                        Some((start, hole)) if *start + *hole == offset => *hole += len,
                        _ => holes.push((offset, len)),
                    }
                    offset += len;
                    let mut left = len;
                    while left > 0 {
                        let n = left.min(65536);
                        write(&[0; 65536][..n as usize]);
                        left -= n;
                    }
                }
            }
            Ok(())
        })?;
        Ok(holes)
    }

    /// Writes files, directories and symbolic links into `target`, which must not exist yet.
    /// Owners, attributes, set-id bits and other kinds are left out; the latter are returned.
    ///
    /// Everything below `target` is made here, and no name occurs twice in a listing, so no path
    /// that is used leads through a symbolic link (unless someone else writes there meanwhile).
    pub fn restore(&self, snapshot: &Snapshot, target: &Path) -> Result<Vec<Vec<u8>>> {
        let failed = |path: &Path, e| io(&path.display().to_string(), e);
        fs::create_dir(target).map_err(|e| failed(target, e))?;
        let mut left_out = Vec::new();
        let mut directories = Vec::new();
        let mut linked: HashMap<(u64, u64), (Entry, PathBuf)> = HashMap::new();
        self.walk(snapshot, &mut |path, entry| {
            let relative = path.strip_prefix(b"/").unwrap_or(path);
            let place = target.join(std::ffi::OsStr::from_bytes(relative));
            match &entry.kind {
                Kind::Directory { .. } => {
                    fs::create_dir(&place).map_err(|e| failed(&place, e))?;
                    directories.push((place, entry.mode, entry.mtime));
                }
                Kind::Symlink { target } => {
                    let target = std::ffi::OsStr::from_bytes(target);
                    std::os::unix::fs::symlink(target, &place).map_err(|e| failed(&place, e))?;
                }
                Kind::File { content, .. } => {
                    if entry.links > 1 {
                        let (first, other) = linked
                            .entry((entry.device, entry.inode))
                            .or_insert_with(|| (entry.clone(), place.clone()));
                        if *other != place && first.kind == entry.kind {
                            return fs::hard_link(other, &place).map_err(|e| failed(&place, e));
                        }
                    }
                    let mut file = File::create_new(&place).map_err(|e| failed(&place, e))?;
                    self.pieces(content, &mut |piece| {
                        match piece {
                            Piece::Bytes(bytes) => file.write_all(bytes),
                            Piece::Hole(len) => file.seek(SeekFrom::Current(len as i64)).map(drop),
                        }
                        .map_err(|e| failed(&place, e))
                    })?;
                    file.set_len(content.len()).map_err(|e| failed(&place, e))?;
                    finish(&file, entry.mode, entry.mtime).map_err(|e| failed(&place, e))?;
                }
                _ => left_out.push(path.to_vec()),
            }
            Ok(())
        })?;
        for (place, mode, mtime) in directories.iter().rev() {
            let directory = File::open(place).map_err(|e| failed(place, e))?;
            finish(&directory, *mode, *mtime).map_err(|e| failed(place, e))?;
        }
        Ok(left_out)
    }
}

fn finish(file: &File, mode: u32, mtime: Time) -> std::io::Result<()> {
    let whole = Duration::from_secs(mtime.seconds.unsigned_abs());
    let second = match mtime.seconds {
        0.. => SystemTime::UNIX_EPOCH.checked_add(whole),
        _ => SystemTime::UNIX_EPOCH.checked_sub(whole),
    };
    let nanoseconds = Duration::from_nanos(mtime.nanoseconds.into());
    if let Some(time) = second.and_then(|s| s.checked_add(nanoseconds)) {
        file.set_modified(time)?;
    }
    file.set_permissions(fs::Permissions::from_mode(mode & 0o1777))
}

// ---------------------------------------------------------------------------------------------
// 10 snapshot
// ---------------------------------------------------------------------------------------------

const TEXT_LEN_MAX: u64 = 65536;
const LIST_MAX: u64 = 65536;

#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub id: Id,
    pub time: Time,
    /// Minutes from UTC.
    pub zone: i64,
    pub host: String,
    pub user: String,
    pub client: [u8; 16],
    pub job: String,
    pub kind: u8,
    pub paths: Vec<Vec<u8>>,
    /// Those of the valid note, if there is one; likewise the description.
    pub tags: Vec<String>,
    pub description: String,
    pub root: List,
    pub parent: Option<Id>,
    pub original: Option<Id>,
    pub epoch: u64,
    pub replaces: Option<Id>,
    pub number: u64,
    pub previous: Vec<(Id, Id)>,
    pub partial: bool,
    pub problem_count: u64,
    pub problems: Vec<(Vec<u8>, String)>,
    pub statistics: Vec<u64>,
    pub program: String,
    /// By the valid note.
    pub pinned: bool,
    /// By the valid note.
    pub expiry: Option<Time>,
}

fn decode_texts(input: &mut Input, what: &str) -> Result<Vec<String>> {
    input.list(LIST_MAX, what, |input| input.text(TEXT_LEN_MAX, what))
}

fn decode_snapshot(payload: &[u8], id: Id) -> Result<Snapshot> {
    let mut input = Input::new(payload);
    let input = &mut input;
    let time = input.time()?;
    let zone = input.signed()?;
    ensure((-1560..=1560).contains(&zone), "zone")?;
    let host = input.text(TEXT_LEN_MAX, "host")?;
    let user = input.text(TEXT_LEN_MAX, "user")?;
    let client = input.array()?;
    let job = input.text(TEXT_LEN_MAX, "job")?;
    let kind = input.u8()?;
    ensure(kind <= 3, "kind of a snapshot")?;
    let path = |input: &mut Input| Ok(input.bytes(TEXT_LEN_MAX, "path")?.to_vec());
    let paths = input.list(LIST_MAX, "paths", path)?;
    let tags = decode_texts(input, "tags")?;
    let description = input.text(TEXT_LEN_MAX, "description")?;
    let root = decode_list(input, false)?;
    let parent = input.option(Input::array)?;
    let original = input.option(Input::array)?;
    let epoch = input.varint()?;
    let replaces = input.option(Input::array)?;
    let number = input.varint()?;
    let previous = input.list(LIST_MAX, "links", |i| Ok((i.array()?, i.array()?)))?;
    let outcome = input.u8()?;
    ensure(outcome <= 1, "outcome of a snapshot")?;
    let problem_count = input.varint()?;
    let problems = input
        .list(LIST_MAX, "problems", |input| Ok((path(input)?, input.text(TEXT_LEN_MAX, "why")?)))?;
    let statistics = (0..11).map(|_| input.varint()).collect::<Result<_>>()?;
    let program = input.text(TEXT_LEN_MAX, "program")?;
    Ok(Snapshot {
        id,
        time,
        zone,
        host,
        user,
        client,
        job,
        kind,
        paths,
        tags,
        description,
        root,
        parent,
        original,
        epoch,
        replaces,
        number,
        previous,
        partial: outcome == 1,
        problem_count,
        problems,
        statistics,
        program,
        pinned: false,
        expiry: None,
    })
}

fn line_hash(ring: &KeyRing, payload: &[u8]) -> Result<Id> {
    Ok(keyed_hash(&derive("holdall 1 line of snapshots", ring.key(8, 0)?), payload))
}

struct Note {
    snapshot: Id,
    counter: u64,
    time: Time,
    tags: Vec<String>,
    description: String,
    pinned: bool,
    expiry: Option<Time>,
}

/// `None` for a kind of note that is to be ignored.
fn decode_note(payload: &[u8]) -> Result<Option<Note>> {
    let mut input = Input::new(payload);
    let input = &mut input;
    if input.u8()? != 1 {
        return Ok(None);
    }
    let (snapshot, counter, time) = (input.array()?, input.varint()?, input.time()?);
    let tags = decode_texts(input, "tags")?;
    let description = input.text(TEXT_LEN_MAX, "description")?;
    let pinned = input.u8()? != 0;
    let has_expiry = input.u8()? != 0;
    let expiry = Some(input.time()?).filter(|_| has_expiry);
    Ok(Some(Note { snapshot, counter, time, tags, description, pinned, expiry }))
}

/// Time, host, client; and of each snapshot its id, client and number.
type Forgotten = (Time, String, [u8; 16], Vec<(Id, [u8; 16], u64)>);

fn decode_forgotten(payload: &[u8]) -> Result<Forgotten> {
    let mut input = Input::new(payload);
    Ok((
        input.time()?,
        input.text(TEXT_LEN_MAX, "host")?,
        input.array()?,
        input.list(LIST_MAX, "snapshots", |i| Ok((i.array()?, i.array()?, i.varint()?)))?,
    ))
}

// ---------------------------------------------------------------------------------------------
// 11 sessions
// ---------------------------------------------------------------------------------------------

const EPOCH_PACKS_MAX: u64 = 1048576;

struct Session {
    client: [u8; 16],
    host: String,
    process: u32,
    time: Time,
    purpose: u8,
}

fn decode_session(payload: &[u8]) -> Result<Session> {
    let mut input = Input::new(payload);
    let client = input.array()?;
    let host = input.text(TEXT_LEN_MAX, "host")?;
    let process = input.varint32("process")?;
    let time = input.time()?;
    let purpose = input.u8()?;
    ensure(purpose <= 4, "purpose of a session")?;
    Ok(Session { client, host, process, time, purpose })
}

fn decode_ids(input: &mut Input, what: &str) -> Result<Vec<Id>> {
    input.list(EPOCH_PACKS_MAX, what, Input::array)
}

pub struct Repository {
    storage: Storage,
    config: Config,
    ring: KeyRing,
    data_id_key: Id,
    tree_id_key: Id,
    index: RefCell<Index>,
    cache: RefCell<VecDeque<(Rc<FrameFact>, Rc<Vec<u8>>)>>,
    faults: RefCell<BTreeMap<String, Failure>>,
}

impl Repository {
    /// Steps 1 to 3 and 5 of the walk of chapter 01.
    pub fn open(directory: &Path, secret: &Secret) -> Result<Repository> {
        let storage = Storage { root: directory.to_path_buf() };
        let object = storage.get("config", CONFIG_LEN_MAX)?;
        let mut faults = BTreeMap::new();
        let ring = unlock(&storage, &config_repository(&object)?, &secret.decode()?, &mut faults)?;
        let config = decode_config(&object, &ring)?;
        let ids = ring.key(1, 0)?;
        let repository = Repository {
            data_id_key: derive("holdall 1 ids of data chunks", ids),
            tree_id_key: derive("holdall 1 ids of tree chunks", ids),
            storage,
            config,
            ring,
            index: RefCell::default(),
            cache: RefCell::default(),
            faults: RefCell::new(faults),
        };
        repository.read_index()?;
        Ok(repository)
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Objects that were refused while the work on others went on, by name.
    pub fn faults(&self) -> BTreeMap<String, Failure> {
        self.faults.borrow().clone()
    }

    fn report(&self, name: &str, failure: Failure) {
        self.faults.borrow_mut().insert(name.to_string(), failure);
    }

    fn envelope(&self, kind: u8, name: &str) -> Result<Vec<u8>> {
        let object = self.storage.get(name, OBJECT_LEN_MAX)?;
        open_envelope(&self.ring, &self.config.repository, kind, name, &object)
    }

    /// The snapshots that count, oldest first, with their valid notes. One that is damaged is
    /// left out and is among the `faults`, and so is a note.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>> {
        let listed = self.storage.list("snapshots", &["snapshot"])?;
        let sessions = self.storage.list("sessions", &["session"])?;
        let sessions: HashSet<String> = sessions.into_iter().map(|(_, id)| id).collect();
        let mut snapshots = Vec::new();
        for (name, id) in listed.iter().filter(|(_, id)| sessions.contains(id)) {
            let id = id_of(id)?;
            match self.envelope(5, name).and_then(|payload| decode_snapshot(&payload, id)) {
                Ok(snapshot) => snapshots.push(snapshot),
                Err(Failure::Missing(_)) => {} // forgotten meanwhile
                Err(failure) => self.report(name, failure),
            }
        }
        let mut valid: HashMap<Id, (u64, String, Note)> = HashMap::new();
        for (name, id) in self.storage.list("notes", &["note"])? {
            match self.envelope(6, &name).and_then(|payload| decode_note(&payload)) {
                Ok(Some(note)) => {
                    // Hexadecimal digits sort like the bytes that they stand for.
                    let rank = (note.counter, id);
                    let known = valid.get(&note.snapshot);
                    if known.is_none_or(|known| (known.0, &known.1) < (rank.0, &rank.1)) {
                        valid.insert(note.snapshot, (rank.0, rank.1, note));
                    }
                }
                Ok(None) | Err(Failure::Missing(_)) => {}
                Err(failure) => self.report(&name, failure),
            }
        }
        for snapshot in &mut snapshots {
            if let Some((_, _, note)) = valid.remove(&snapshot.id) {
                snapshot.tags = note.tags;
                snapshot.description = note.description;
                snapshot.pinned = note.pinned;
                snapshot.expiry = note.expiry;
            }
        }
        snapshots.sort_by_key(|snapshot| (snapshot.time, snapshot.id));
        Ok(snapshots)
    }
}

/// Tries the secret on the slots of its kind, the cheapest first. Of several objects with the head
/// of the slot that opens, the keys of all are taken.
fn unlock(
    storage: &Storage,
    repository: &Id,
    secret: &SecretBytes,
    faults: &mut BTreeMap<String, Failure>,
) -> Result<KeyRing> {
    let names = storage.list("keys", &["slot"])?;
    let mut untried = names.len().saturating_sub(SLOTS_MAX);
    let mut objects = Vec::new();
    for (name, _) in names.into_iter().take(SLOTS_MAX) {
        match storage.get(&name, SLOT_LEN_MAX) {
            Err(Failure::Missing(_)) => {}
            other => objects.push((name, other)),
        }
    }
    let mut refused = None;
    let mut slots = Vec::new();
    for (name, object) in &objects {
        match object.as_ref().map_err(Clone::clone).and_then(|o| decode_slot(o, repository)) {
            Ok(slot) if slot.kind == secret.kind() => slots.push((name, slot)),
            Ok(_) => {}
            Err(failure) => {
                faults.insert(name.clone(), failure.clone());
                refused = Some(failure);
            }
        }
    }
    // Those of one head stay beside each other: they are derived once.
    slots.sort_by_key(|(_, slot)| (slot.work(), slot.head));
    let mut work_left = ARGON2_WORK_KIB_MAX;
    let mut best: Option<KeyRing> = None;
    for copies in slots.chunk_by(|(_, one), (_, other)| one.head == other.head) {
        let Some((_, first)) = copies.first() else { continue };
        let Some(left) = work_left.checked_sub(first.work()) else {
            untried += copies.len();
            continue;
        };
        work_left = left;
        let key = slot_key(first, secret)?;
        for (name, slot) in copies {
            match open_slot(slot, &key) {
                Ok(new) => match &mut best {
                    Some(best) => best.keys.extend(new.keys),
                    None => best = Some(new),
                },
                Err(Failure::WrongSecret(_)) => {}
                Err(failure) => {
                    faults.insert(name.to_string(), failure.clone());
                    refused = Some(failure);
                }
            }
        }
        if best.is_some() {
            break;
        }
    }
    match (best, refused) {
        (Some(ring), _) => Ok(ring),
        (None, Some(failure)) => Err(failure),
        (None, None) => {
            let left = format!("no slot opens with this secret; {untried} were not tried");
            Err(Failure::WrongSecret(left))
        }
    }
}

// ---------------------------------------------------------------------------------------------
// 15 damage: records only advise writers, so that a reader needs none; here for the vectors
// ---------------------------------------------------------------------------------------------

struct Damage {
    pack: Id,
    frames: Vec<FrameId>,
    time: Time,
    host: String,
    client: [u8; 16],
    why: String,
}

fn decode_damage(payload: &[u8]) -> Result<Damage> {
    let mut input = Input::new(payload);
    let pack = input.array()?;
    let frames: Vec<FrameId> = input.list(PACK_FRAMES_MAX, "frames", |i| i.array())?;
    ensure(frames.windows(2).all(|two| two[0] < two[1]), "order of frames")?;
    let time = input.time()?;
    let host = input.text(TEXT_LEN_MAX, "host")?;
    let client = input.array()?;
    let why = input.text(TEXT_LEN_MAX, "what was found")?;
    Ok(Damage { pack, frames, time, host, client, why })
}

fn damage_vector(case: &Value) -> Outcome {
    let damage = decode_damage(&bytes(case, "hex")?)?;
    Ok(Some(json!({
        "pack": hex(&damage.pack),
        "frames": damage.frames.iter().map(|id| hex(id)).collect::<Vec<_>>(),
        "time": time_json(damage.time),
        "host": damage.host,
        "client": hex(&damage.client),
        "why": damage.why,
    })))
}

// 12 limits: at the chapters that use them. 13 versioning, 14 security: nothing to be done here.

// ---------------------------------------------------------------------------------------------
// Vectors
// ---------------------------------------------------------------------------------------------

/// Runs one case of `vectors/<file>.json`, whose whole content is `shared`. `None` for lists that
/// a reader never needs, which are both lists of `chunking.json`, and for unknown lists.
pub fn run_vector(file: &str, shared: &Value, list: &str, case: &Value) -> Option<Result<Value>> {
    let outcome = match file {
        "primitives" => primitives_vector(list, case),
        "ids" if list == "ids" => ids_vector(shared, case),
        "names" if list == "names" => names_vector(case),
        "slots" => slots_vector(shared, list, case),
        "configs" if list == "configs" => configs_vector(shared, case),
        "envelopes" if list == "envelopes" => envelopes_vector(shared, case),
        "frames" if list == "frames" => frames_vector(shared, case),
        "packs" => packs_vector(shared, list, case),
        "trees" => trees_vector(list, case),
        "snapshots" => snapshots_vector(shared, list, case),
        "sessions" => sessions_vector(list, case),
        "damage" if list == "records" => damage_vector(case),
        _ => return None,
    };
    outcome.transpose()
}

type Outcome = Result<Option<Value>>;

fn string<'a>(case: &'a Value, field: &str) -> Result<&'a str> {
    case[field].as_str().ok_or_else(|| Failure::Io(format!("vector without {field}")))
}

fn number(case: &Value, field: &str) -> Result<u64> {
    case[field].as_u64().ok_or_else(|| Failure::Io(format!("vector without {field}")))
}

fn bytes(case: &Value, field: &str) -> Result<Vec<u8>> {
    unhex_lower(string(case, field)?).ok_or_else(|| Failure::Io(format!("vector: {field}")))
}

fn array<const N: usize>(case: &Value, field: &str) -> Result<[u8; N]> {
    bytes(case, field)?.try_into().map_err(|_| Failure::Io(format!("vector: {field}")))
}

fn ring_of(shared: &Value) -> Result<KeyRing> {
    KeyRing::decode(&bytes(shared, "bundle")?)
}

fn time_json(time: Time) -> Value {
    json!({"seconds": time.seconds.to_string(), "nanoseconds": time.nanoseconds})
}

fn ids_json<'a>(ids: impl IntoIterator<Item = &'a Id>) -> Value {
    ids.into_iter().map(|id| hex(id)).collect()
}

fn list_json(list: &List) -> Value {
    let reference = |r: &Reference| json!([r.len.to_string(), r.id.map(|id| hex(&id))]);
    json!({"depth": list.depth, "refs": list.refs.iter().map(reference).collect::<Value>()})
}

fn primitives_vector(list: &str, case: &Value) -> Outcome {
    let sealed = || bytes(case, "sealed");
    let associated = || bytes(case, "associated");
    let encoded = bytes(case, "hex").unwrap_or_default();
    let mut input = Input::new(&encoded);
    let result = match list {
        "varints" => json!(input.varint()?.to_string()),
        "signed" => json!(input.signed()?.to_string()),
        "times" => time_json(input.time()?),
        "texts" => json!(input.text(number(case, "limit")?, "text")?),
        "padding" => json!(padded(number(case, "len")?)),
        "keyed_hashes" => json!(hex(&keyed_hash(&array(case, "key")?, &bytes(case, "message")?))),
        "derivations" => json!(hex(&derive(string(case, "context")?, &bytes(case, "material")?))),
        "sealed" => {
            let (key, nonce) = (array(case, "key")?, array(case, "nonce")?);
            json!(hex(&open(&key, &nonce, &associated()?, &sealed()?)?))
        }
        "sealed_to" => {
            json!(hex(&open_sealed_to(&array(case, "secret")?, &associated()?, &sealed()?)?))
        }
        _ => return Ok(None),
    };
    input.end("bytes behind a value")?;
    Ok(Some(result))
}

fn ids_vector(shared: &Value, case: &Value) -> Outcome {
    let plain = match case["plain_len"].as_u64() {
        Some(len) => vec![0x61; len as usize],
        None => bytes(case, "plain")?,
    };
    let context = format!("holdall 1 ids of {} chunks", string(case, "kind")?);
    let key = derive(&context, ring_of(shared)?.key(1, 0)?);
    Ok(Some(json!(hex(&keyed_hash(&key, &plain)))))
}

fn names_vector(case: &Value) -> Outcome {
    Ok(Some(match parse_name(string(case, "object")?) {
        Some((kind, id)) => json!({"kind": kind, "id": Some(id).filter(|id| !id.is_empty())}),
        None => json!({"kind": null, "id": null}),
    }))
}

fn slots_vector(shared: &Value, list: &str, case: &Value) -> Outcome {
    Ok(Some(match list {
        "slots" => {
            let secret = if let Ok(text) = string(case, "password") {
                Secret::Password(text.into())
            } else if let Ok(text) = string(case, "key_file") {
                Secret::KeyFile(text.into())
            } else {
                Secret::Recovery(string(case, "recovery_code")?.into())
            };
            let object = bytes(case, "object")?;
            let slot = decode_slot(&object, &array(shared, "repository")?)?;
            let ring = open_slot(&slot, &slot_key(&slot, &secret.decode()?)?)?;
            let about = open_about(&slot, &ring).ok().map(|about| {
                let created = time_json(about.created);
                json!({"label": about.label, "host": about.host, "created": created})
            });
            json!({"bundle": hex(&ring.encode()), "about": about})
        }
        "key_files" => {
            let digits = hex(&decode_key_file(string(case, "text")?)?);
            json!({"bytes": digits, "text": format!("holdall-key-1-{digits}\n")})
        }
        "recovery_codes" => {
            let r = decode_recovery_code(string(case, "text")?)?;
            let code = [&r[..], &recovery_checksum(&r)].concat();
            let bits: Vec<u8> =
                code.iter().flat_map(|b| (0..8).rev().map(move |i| b >> i & 1)).collect();
            let value = |bits: &[u8]| bits.iter().fold(0usize, |v, b| v << 1 | *b as usize);
            let digits: Vec<char> =
                bits.chunks(5).map(|bits| CROCKFORD[value(bits) & 31] as char).collect();
            let groups: Vec<String> =
                digits.chunks(4).map(|group| group.iter().collect()).collect();
            json!({"bytes": hex(&r), "text": groups.join("-")})
        }
        "bundles" => json!(hex(&KeyRing::decode(&bytes(case, "hex")?)?.encode())),
        _ => return Ok(None),
    }))
}

fn configs_vector(shared: &Value, case: &Value) -> Outcome {
    let config = decode_config(&bytes(case, "object")?, &ring_of(shared)?)?;
    Ok(Some(json!({
        "repository": hex(&config.repository),
        "family": hex(&config.family),
        "created": time_json(config.created),
        "min_size": config.min_size,
        "avg_size": config.average_size,
        "max_size": config.max_size,
        "frame_size": config.frame_size,
        "pack_size": config.pack_size,
        "compression": config.compression,
    })))
}

fn envelopes_vector(shared: &Value, case: &Value) -> Outcome {
    let kind = number(case, "type")? as u8;
    let (name, object) = (string(case, "object_name")?, bytes(case, "object")?);
    let repository = array(shared, "repository")?;
    Ok(Some(json!(hex(&open_envelope(&ring_of(shared)?, &repository, kind, name, &object)?))))
}

fn frames_vector(shared: &Value, case: &Value) -> Outcome {
    let (frame, family) = (bytes(case, "frame")?, array(case, "family")?);
    let (header, plain) = unseal_frame(&ring_of(shared)?, &family, &frame)?;
    let body = decode_frame_body(&plain)?;
    let stored = |id| bytes(&case["base_frames"], &hex(id)).ok();
    let base = match body.base {
        Some(id) if let Ok(chunks) = bytes(&case["bases"], &hex(&id)) => Some(chunks),
        Some(id) if let Some(frame) = stored(&id) => {
            let (base, plain) = unseal_frame(&ring_of(shared)?, &family, &frame)?;
            ensure(base.id == id && base.kind == header.kind, "id or kind of a base")?;
            let base = decode_frame_body(&plain)?;
            ensure(base.codec != 2, "a base that is a delta itself")?;
            Some(base.chunks(None)?)
        }
        _ => None,
    };
    let lens = body.lens.clone();
    let decoded = body.chunks(base.as_deref())?;
    let mut input = Input::new(&decoded);
    let chunks: Vec<String> =
        lens.iter().map(|len| Ok(hex(input.raw(*len as usize)?))).collect::<Result<_>>()?;
    Ok(Some(json!({"kind": header.kind, "id": hex(&header.id), "chunks": chunks})))
}

fn trailer_json(trailer: &Trailer) -> Value {
    let frame = |fact: &FrameFact| {
        let chunk = |(len, id): (&u32, &Id)| json!({"len": len, "id": hex(id)});
        json!({
            "id": hex(&fact.id),
            "offset": fact.offset,
            "stored_len": fact.stored_len,
            "codec": fact.codec,
            "base": fact.base.map(|id| hex(&id)),
            "chunks": fact.lens.iter().zip(&fact.ids).map(chunk).collect::<Value>(),
        })
    };
    json!({
        "session": hex(&trailer.session),
        "kind": trailer.kind,
        "frames": trailer.frames.iter().map(frame).collect::<Value>(),
    })
}

fn packs_vector(shared: &Value, list: &str, case: &Value) -> Outcome {
    let ring = ring_of(shared)?;
    let family: Id = array(shared, "family")?;
    let encoded = bytes(case, "hex").unwrap_or_default();
    let mut input = Input::new(&encoded);
    Ok(Some(match list {
        "headers" => json!(decode_pack_header(&encoded)?),
        "footers" => json!(decode_pack_footer(&encoded)?),
        "trailers" => {
            let trailer = decode_trailer(&mut input, &[0; 32])?;
            input.end("bytes behind a trailer")?;
            trailer_json(&trailer)
        }
        "segments" => {
            let pack = |pack: &SegmentPack| {
                let trailer = trailer_json(&pack.trailer);
                json!({"id": hex(&pack.id), "len": pack.len, "trailer": trailer})
            };
            decode_segment(&encoded)?.iter().map(pack).collect()
        }
        "packs" => {
            let object = bytes(case, "object")?;
            let range = |offset: u64, len: usize| {
                let mut input = Input::new(&object);
                input.raw(offset as usize)?;
                Ok(input.raw(len)?.to_vec())
            };
            let (repository, pack) = (array(shared, "repository")?, array(case, "pack")?);
            let trailer = read_trailer(&ring, &repository, &pack, object.len() as u64, &range)?;
            for fact in &trailer.frames {
                let sealed = range(fact.offset, fact.stored_len as usize)?;
                let (header, plain) = unseal_frame(&ring, &family, &sealed)?;
                ensure(header.id == fact.id && header.kind == fact.kind, "frame of a pack")?;
                let body = decode_frame_body(&plain)?;
                ensure(body.lens == fact.lens && body.codec == fact.codec, "frame of a pack")?;
                let decoded = body.chunks(None)?;
                let mut input = Input::new(&decoded);
                let what = if fact.kind == TREE { "tree" } else { "data" };
                let key = derive(&format!("holdall 1 ids of {what} chunks"), ring.key(1, 0)?);
                for (len, id) in fact.lens.iter().zip(&fact.ids) {
                    ensure(keyed_hash(&key, input.raw(*len as usize)?) == *id, "id of a chunk")?;
                }
            }
            trailer_json(&trailer)
        }
        "scans" => {
            let mut found = Vec::new();
            scan_pack(&ring, &family, &bytes(case, "object")?, &mut |offset, header, _| {
                found.push(json!([offset, header.len]));
            });
            json!(found)
        }
        _ => return Ok(None),
    }))
}

fn entry_json(entry: &Entry) -> Value {
    let (kind, more) = match &entry.kind {
        Kind::File { content, unstable } => {
            (1, json!({"content": list_json(content), "unstable": unstable}))
        }
        Kind::Directory { listing } => (2, json!({"listing": list_json(listing)})),
        Kind::Symlink { target } => (3, json!({"target": hex(target)})),
        Kind::Fifo => (4, json!({})),
        Kind::Socket => (5, json!({})),
        Kind::CharDevice { major, minor } => (6, json!({"major": major, "minor": minor})),
        Kind::BlockDevice { major, minor } => (7, json!({"major": major, "minor": minor})),
    };
    json!({
        "name": hex(&entry.name),
        "kind": kind,
        "mode": entry.mode,
        "uid": entry.uid,
        "gid": entry.gid,
        "user": hex(&entry.user),
        "group": hex(&entry.group),
        "mtime": time_json(entry.mtime),
        "ctime": time_json(entry.ctime),
        "inode": entry.inode.to_string(),
        "links": entry.links.to_string(),
        "device": entry.device.to_string(),
        "xattrs": entry.xattrs.iter().map(|(n, v)| json!([hex(n), hex(v)])).collect::<Value>(),
        "more": more,
    })
}

fn trees_vector(list: &str, case: &Value) -> Outcome {
    let chunk = bytes(case, "hex")?;
    Ok(Some(match list {
        "chunks" => {
            let previous = bytes(case, "previous").ok();
            decode_entries(&chunk, previous.as_deref())?.iter().map(entry_json).collect()
        }
        "lists" => {
            let found = decode_list_chunk(&chunk, number(case, "depth")? as u8, true)?;
            let same = string(case, "len").is_ok_and(|len| len == found.len().to_string());
            ensure(same, "sum of a list")?;
            list_json(&found)
        }
        _ => return Ok(None),
    }))
}

fn snapshots_vector(shared: &Value, list: &str, case: &Value) -> Outcome {
    let payload = bytes(case, "hex")?;
    Ok(Some(match list {
        "snapshots" => {
            let s = decode_snapshot(&payload, [0; 32])?;
            let problem = |(path, why): &(Vec<u8>, String)| json!({"path": hex(path), "why": why});
            let link = |(id, hash): &(Id, Id)| json!([hex(id), hex(hash)]);
            json!({
                "time": time_json(s.time),
                "zone": s.zone,
                "host": s.host,
                "user": s.user,
                "client": hex(&s.client),
                "job": s.job,
                "kind": s.kind,
                "paths": s.paths.iter().map(|path| hex(path)).collect::<Value>(),
                "tags": s.tags,
                "description": s.description,
                "root": list_json(&s.root),
                "parent": s.parent.map(|id| hex(&id)),
                "original": s.original.map(|id| hex(&id)),
                "epoch": s.epoch.to_string(),
                "replaces": s.replaces.map(|id| hex(&id)),
                "number": s.number.to_string(),
                "previous": s.previous.iter().map(link).collect::<Value>(),
                "outcome": u8::from(s.partial),
                "problem_count": s.problem_count.to_string(),
                "problems": s.problems.iter().map(problem).collect::<Value>(),
                "statistics": s.statistics,
                "program": s.program,
            })
        }
        "notes" => match decode_note(&payload)? {
            None => json!("ignored"),
            Some(note) => json!({
                "snapshot": hex(&note.snapshot),
                "counter": note.counter.to_string(),
                "time": time_json(note.time),
                "tags": note.tags,
                "description": note.description,
                "pinned": note.pinned,
                "expiry": note.expiry.map(time_json),
            }),
        },
        "forgotten" => {
            let (time, host, client, snapshots) = decode_forgotten(&payload)?;
            let item = |(id, client, number): &(Id, [u8; 16], u64)| {
                json!([hex(id), hex(client), number.to_string()])
            };
            json!({
                "time": time_json(time),
                "host": host,
                "client": hex(&client),
                "snapshots": snapshots.iter().map(item).collect::<Value>(),
            })
        }
        "line_hashes" => json!(hex(&line_hash(&ring_of(shared)?, &payload)?)),
        _ => return Ok(None),
    }))
}

fn sessions_vector(list: &str, case: &Value) -> Outcome {
    let payload = bytes(case, "hex")?;
    let mut input = Input::new(&payload);
    Ok(Some(match list {
        "sessions" | "fences" => {
            let session = decode_session(&payload)?;
            json!({
                "client": hex(&session.client),
                "host": session.host,
                "process": session.process,
                "time": time_json(session.time),
                "purpose": session.purpose,
            })
        }
        "plans" => json!({
            "condemned": ids_json(&decode_ids(&mut input, "condemned")?),
            "marked": ids_json(&decode_ids(&mut input, "marked")?),
        }),
        "sweeps" => ids_json(&decode_ids(&mut input, "rescued")?),
        _ => return Ok(None),
    }))
}
