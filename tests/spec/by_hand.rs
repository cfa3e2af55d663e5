//! Sealing as the pages say it, with nothing of this crate: what is sealed here and opened by the
//! crate shows that both mean the same bytes.

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use x25519_dalek::{PublicKey, StaticSecret};

pub type Bytes32 = [u8; 32];

pub fn varint(mut n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        match n < 128 {
            true => {
                out.push(n as u8);
                return out;
            }
            false => out.push((n % 128) as u8 + 128),
        }
        n /= 128;
    }
}

pub fn bytes(content: &[u8]) -> Vec<u8> {
    [varint(content.len() as u64), content.to_vec()].concat()
}

pub fn padded(n: usize) -> usize {
    let exponent = (n.max(1) as f64).log2().floor() as u32;
    let step = 2usize.pow(exponent.saturating_sub(7).max(8));
    n.div_ceil(step) * step
}

pub fn with_padding(mut plain: Vec<u8>) -> Vec<u8> {
    plain.resize(padded(plain.len()), 0);
    plain
}

pub fn derive(context: &str, material: &[u8]) -> Bytes32 {
    blake3::derive_key(context, material)
}

pub fn keyed_hash(key: &Bytes32, message: &[u8]) -> Bytes32 {
    *blake3::keyed_hash(key, message).as_bytes()
}

/// Ciphertext and tag.
pub fn seal(key: &Bytes32, nonce: &[u8; 24], associated: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut out = plain.to_vec();
    let tag = XChaCha20Poly1305::new(&(*key).into())
        .encrypt_inout_detached(&XNonce::from(*nonce), associated, out.as_mut_slice().into())
        .unwrap();
    out.extend_from_slice(&tag);
    out
}

pub fn public(secret: &Bytes32) -> Bytes32 {
    PublicKey::from(&StaticSecret::from(*secret)).to_bytes()
}

pub fn seal_to(e: &Bytes32, reader: &Bytes32, associated: &[u8], content: &[u8]) -> Vec<u8> {
    let ephemeral = public(e);
    let shared = StaticSecret::from(*e).diffie_hellman(&PublicKey::from(*reader)).to_bytes();
    let key = derive("holdall 1 sealed to a public key", &[shared, ephemeral, *reader].concat());
    [ephemeral.to_vec(), seal(&key, &[0; 24], associated, content)].concat()
}

/// Purpose, generation, key; in order.
#[derive(Clone)]
pub struct Keys(pub Vec<(u8, u32, Bytes32)>);

impl Keys {
    pub fn get(&self, purpose: u8, generation: u32) -> Bytes32 {
        let found = self.0.iter().find(|(p, g, _)| (*p, *g) == (purpose, generation));
        found.map_or([0xee; 32], |(_, _, key)| *key)
    }

    pub fn bundle(&self) -> Vec<u8> {
        let entry = |(purpose, generation, key): &(u8, u32, Bytes32)| {
            [&[*purpose][..], &generation.to_le_bytes(), key].concat()
        };
        self.0.iter().flat_map(entry).collect()
    }
}

/// What an envelope is made of.
#[derive(Clone)]
pub struct Envelope {
    pub kind: u8,
    pub version: u16,
    pub reserved: u8,
    pub generation: u32,
    pub nonce: [u8; 24],
    pub repository: Bytes32,
    pub name: String,
    /// Length, payload and padding.
    pub plain: Vec<u8>,
}

impl Envelope {
    pub fn purpose(&self) -> u8 {
        match self.kind {
            1 | 2 | 11 | 12 => 5,
            8.. => 7,
            _ => 6,
        }
    }

    pub fn object(&self, keys: &Keys) -> Vec<u8> {
        let header = [
            b"HOLD",
            &[self.kind, self.reserved][..],
            &self.version.to_le_bytes(),
            &self.generation.to_le_bytes(),
            &self.nonce,
        ]
        .concat();
        let associated = [&header, &self.repository[..], self.name.as_bytes()].concat();
        let key = keys.get(self.purpose(), self.generation);
        [header, seal(&key, &self.nonce, &associated, &self.plain)].concat()
    }
}

/// What a frame is made of.
#[derive(Clone)]
pub struct Frame {
    pub kind: u8,
    pub reserved: u8,
    pub generation: u32,
    pub family: Bytes32,
    pub session_key: Bytes32,
    pub e: Bytes32,
    pub id: [u8; 24],
    /// Codec to padding.
    pub body: Vec<u8>,
}

impl Frame {
    pub fn bytes(&self, keys: &Keys) -> Vec<u8> {
        let reader = public(&keys.get(self.kind + 2, self.generation));
        let key_associated =
            [&1u16.to_le_bytes()[..], &self.family, &self.generation.to_le_bytes(), &[self.kind]]
                .concat();
        assert_eq!(key_associated.len(), 39);
        let sealed_key = seal_to(&self.e, &reader, &key_associated, &self.session_key);
        let header = [
            b"HFRM",
            &[self.kind, self.reserved, 0, 0][..],
            &(self.body.len() as u32 + 16).to_le_bytes(),
            &self.generation.to_le_bytes(),
            &sealed_key,
            &self.id,
        ]
        .concat();
        let associated = [&1u16.to_le_bytes()[..], &self.family, &header].concat();
        assert_eq!((header.len(), associated.len()), (120, 154));
        [header, seal(&self.session_key, &self.id, &associated, &self.body)].concat()
    }
}

/// Codec, chunk lengths, stored length, stored bytes; not padded.
pub fn frame_body(codec: &[u8], lens: &[usize], stored: &[u8]) -> Vec<u8> {
    let mut out = codec.to_vec();
    out.extend(varint(lens.len() as u64));
    lens.iter().for_each(|len| out.extend(varint(*len as u64)));
    out.extend((stored.len() as u32).to_le_bytes());
    out.extend(stored);
    out
}

/// What a slot is made of.
#[derive(Clone)]
pub struct Slot {
    pub version: u16,
    pub kind: u8,
    pub repository: Bytes32,
    pub id: Bytes32,
    pub costs: [u32; 3],
    pub salt: Bytes32,
    /// The slot key, U.
    pub slot_key: Bytes32,
    pub secret: Bytes32,
    /// That of `secret`, unless the slot was made wrongly.
    pub public: Bytes32,
    pub e: Bytes32,
    pub nonce: [u8; 24],
    /// The keys that the pin is made of, the bundle, and the keys that seal what it says.
    pub pinned: Keys,
    pub keys: Keys,
    pub about: Vec<u8>,
}

impl Slot {
    pub fn object(&self) -> Vec<u8> {
        let check = derive("holdall 1 key check", &self.slot_key);
        let mut head = b"HOLDSLOT".to_vec();
        head.extend(self.version.to_le_bytes());
        head.extend([self.kind, 0]);
        head.extend([self.repository, self.id].concat());
        self.costs.iter().for_each(|cost| head.extend(cost.to_le_bytes()));
        head.extend(self.salt);
        head.extend(&check[..16]);
        head.extend(self.public);
        let pin = derive("holdall 1 pin of a slot's keys", &self.pinned.get(8, 0));
        let wrapping = derive("holdall 1 wrapping of a slot's key", &self.slot_key);
        let wrapped = seal(&wrapping, &self.nonce, &head, &[self.secret, pin].concat());
        let bundle = seal_to(&self.e, &public(&self.secret), &head, &self.keys.bundle());
        let bound = [head, self.nonce.to_vec(), wrapped, self::bytes(&bundle)].concat();
        let about_key = derive("holdall 1 what a slot says", &self.keys.get(8, 0));
        let about = seal(&about_key, &self.nonce, &bound, &self.about);
        [bound, self::bytes(&[self.nonce.to_vec(), about].concat())].concat()
    }
}

/// The bytes that are cut next, as chapter 06 says it: the length of the chunk.
pub fn cut(gear: &[u64; 256], sizes: [usize; 3], masks: [u64; 2], rest: &[u8]) -> usize {
    let [min, avg, max] = sizes;
    let [strict, relaxed] = masks;
    let w = &rest[..rest.len().min(max)];
    let n = w.len();
    if n <= min {
        return n;
    }
    let c = avg.min(n) / 2 * 2;
    let m = n / 2 * 2;
    let mut h = 0u64;
    for p in min..m {
        h = h.wrapping_mul(2).wrapping_add(gear[usize::from(w[p])]);
        if (p < c && h & strict == 0) || (p >= c && h & relaxed == 0) {
            return p;
        }
    }
    n
}
