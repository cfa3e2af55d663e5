//! What opens a key slot: a password, a key file, a recovery code.

use std::fmt;
use std::time::{Duration, Instant};

use argon2::{Algorithm, Argon2, Block, Params, Version};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::seal::{open_with, public_key, seal_to};
use super::{CryptoError, Key, KeyRing, NONCE_LEN, TAG_LEN, open_in_place, seal_in_place};
use crate::limits;
use crate::world::{World, random};

/// However fast the machine: others, which are slower, open the repository too.
const MEASURED_PASSES_MAX: u32 = 12;

/// Cost parameters of argon2id, as a slot stores them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordCost {
    /// Memory, KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl PasswordCost {
    /// 64 MiB, three passes, as RFC 9106 recommends where memory is short: the least that a
    /// password gets.
    pub const DEFAULT: Self = Self { memory_kib: 64 << 10, passes: 3, lanes: 1 };
    /// The least that is accepted, for tests that are not about passwords.
    pub const LOWEST: Self =
        Self { memory_kib: limits::ARGON2_MEMORY_KIB_MIN, passes: 1, lanes: 1 };

    /// As many passes as this machine makes in `target`, from the default's on. A machine that is
    /// busy while it is asked gets fewer, never less than the default.
    pub fn measured(target: Duration) -> Self {
        let one = Self { passes: 1, ..Self::DEFAULT };
        let password = Secret::Password(Zeroizing::new(String::new()));
        let start = Instant::now();
        if SlotKey::derive(&password, &[0; 32], Some(one)).is_err() {
            return Self::DEFAULT;
        }
        let passes = target.as_secs_f64() / start.elapsed().as_secs_f64().max(1e-3);
        let passes = (passes.round() as u32).clamp(Self::DEFAULT.passes, MEASURED_PASSES_MAX);
        Self { passes, ..Self::DEFAULT }
    }

    /// Whether a slot may ask for this. The lower bound keeps a store from making guessing
    /// cheap, the upper one from making opening impossible.
    pub fn is_accepted(&self) -> bool {
        (limits::ARGON2_MEMORY_KIB_MIN..=limits::ARGON2_MEMORY_KIB_MAX).contains(&self.memory_kib)
            && (1..=limits::ARGON2_PASSES_MAX).contains(&self.passes)
            && (1..=limits::ARGON2_LANES_MAX).contains(&self.lanes)
    }
}

/// A key file: 32 random bytes, written as one line of text.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct KeyFile([u8; 32]);

const KEY_FILE_PREFIX: &str = "holdall-key-1-";

impl KeyFile {
    /// A new one.
    pub fn generate(world: &dyn World) -> Self {
        Self(random(world))
    }

    /// Its text: `holdall-key-1-`, 64 hexadecimal digits, a line feed.
    pub fn to_text(&self) -> Zeroizing<String> {
        let hex = Zeroizing::new(blake3::Hash::from_bytes(self.0).to_hex());
        Zeroizing::new(format!("{KEY_FILE_PREFIX}{}\n", hex.as_str()))
    }

    /// From its text.
    pub fn from_text(text: &str) -> Result<Self, CryptoError> {
        let hex = text.trim().strip_prefix(KEY_FILE_PREFIX).ok_or(CryptoError::KeyFile)?;
        let hash = blake3::Hash::from_hex(hex).map_err(|_| CryptoError::KeyFile)?;
        Ok(Self(*Zeroizing::new(hash).as_bytes()))
    }
}

/// A recovery code: 128 random bits and a checksum, for paper.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct RecoveryCode([u8; 16]);

/// Crockford's base 32: no I, L, O, U, which are read wrongly.
const CODE_DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl RecoveryCode {
    /// A new one.
    pub fn generate(world: &dyn World) -> Self {
        Self(random(world))
    }

    /// Eight groups of four digits.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0u8; 20]);
        bytes[..16].copy_from_slice(&self.0);
        bytes[16..].copy_from_slice(&checksum(&self.0));
        let mut text = Zeroizing::new(String::with_capacity(39));
        for (group, five) in bytes.chunks_exact(5).enumerate() {
            let word = five.iter().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
            for digit in 0..8 {
                if digit % 4 == 0 && (group, digit) != (0, 0) {
                    text.push('-');
                }
                text.push(CODE_DIGITS[(word >> (35 - 5 * digit) & 31) as usize] as char);
            }
        }
        text
    }

    /// From what a person typed: case, blanks and dashes do not matter, and O, I, L are read as
    /// the digits that they look like.
    pub fn from_text(text: &str) -> Result<Self, CryptoError> {
        // It never grows, so that nothing is left behind; it may be a password as well.
        let mut digits = Zeroizing::new(Vec::with_capacity(text.len()));
        for c in text.chars().filter(|c| !matches!(c, '-' | ' ' | '\t' | '\n' | '\r')) {
            let c = match c.to_ascii_uppercase() {
                'O' => '0',
                'I' | 'L' => '1',
                c => c,
            };
            let value = CODE_DIGITS.iter().position(|d| *d as char == c);
            digits.push(value.ok_or(CryptoError::RecoveryCode)? as u64);
        }
        if digits.len() != 32 {
            return Err(CryptoError::RecoveryCode);
        }
        let mut bytes = Zeroizing::new([0u8; 20]);
        for (five, eight) in bytes.chunks_exact_mut(5).zip(digits.chunks_exact(8)) {
            let word = eight.iter().fold(0u64, |word, digit| word << 5 | digit);
            five.copy_from_slice(&word.to_be_bytes()[3..]);
        }
        let (code, sum) = bytes.split_first_chunk::<16>().ok_or(CryptoError::RecoveryCode)?;
        match sum == checksum(code) {
            true => Ok(Self(*code)),
            false => Err(CryptoError::RecoveryCode),
        }
    }
}

fn checksum(code: &[u8; 16]) -> [u8; 4] {
    let hash = blake3::derive_key("holdall 1 checksum of a recovery code", code);
    [hash[0], hash[1], hash[2], hash[3]]
}

/// What a person has to open a repository with.
#[derive(Clone)]
pub enum Secret {
    /// Any text.
    Password(Zeroizing<String>),
    /// The content of a key file.
    KeyFile(KeyFile),
    /// A recovery code.
    Recovery(RecoveryCode),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password(_) => "Secret(password)",
            Self::KeyFile(_) => "Secret(key file)",
            Self::Recovery(_) => "Secret(recovery code)",
        })
    }
}

/// The key that a secret gives for one slot. `format-spec/03-keys.md#unlocking`
pub struct SlotKey(Key);

/// Bytes of a slot's X25519 secret and of the pin as they are wrapped: nonce, ciphertext, tag.
pub const WRAPPED_LEN: usize = NONCE_LEN + 64 + TAG_LEN;

/// What a slot wraps: its X25519 secret, and the pin of the repository's keys. The public key
/// stands in clear, so anyone can seal a bundle to it; the pin tells the repository's own
/// bundle, however often it was sealed anew, from one that the storage put in its place.
#[derive(Clone, Debug)]
pub struct SlotSecret {
    secret: Key,
    pin: Key,
}

impl SlotKey {
    /// Derives it. For passwords this takes the time and the memory that `cost` says.
    pub fn derive(
        secret: &Secret,
        salt: &[u8; 32],
        cost: Option<PasswordCost>,
    ) -> Result<Self, CryptoError> {
        let mut key = Zeroizing::new([0u8; 32]);
        match secret {
            Secret::Password(password) => {
                let cost = cost.filter(PasswordCost::is_accepted).ok_or(CryptoError::Cost)?;
                let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32))
                    .map_err(|_| CryptoError::Cost)?;
                // Wiped afterwards, which the crate's own memory is not.
                let mut memory = Zeroizing::new(Vec::new());
                memory.try_reserve_exact(params.block_count()).map_err(|_| CryptoError::Cost)?;
                memory.resize(params.block_count(), Block::new());
                Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                    .hash_password_into_with_memory(
                        password.as_bytes(),
                        salt,
                        &mut *key,
                        memory.as_mut_slice(),
                    )
                    .map_err(|_| CryptoError::Cost)?;
            }
            Secret::KeyFile(KeyFile(bytes)) => {
                *key = derive_with_salt("holdall 1 key file", bytes, salt);
            }
            Secret::Recovery(RecoveryCode(bytes)) => {
                *key = derive_with_salt("holdall 1 recovery code", bytes, salt);
            }
        }
        Ok(Self(Key(*key)))
    }

    /// 16 bytes by which the right secret is known before anything is opened: the cipher does
    /// not commit to its key.
    pub fn check(&self) -> [u8; 16] {
        let hash = self.0.derive("holdall 1 key check").0;
        *hash.first_chunk().expect("32 bytes begin with 16")
    }

    /// A fresh X25519 key pair for a slot of these keys' repository: its public key, and its
    /// secret key and the pin wrapped.
    pub fn wrap_fresh(
        &self,
        world: &dyn World,
        keys: &KeyRing,
        associated: &dyn Fn(&[u8; 32]) -> Vec<u8>,
    ) -> Result<([u8; 32], [u8; WRAPPED_LEN]), CryptoError> {
        let (secret, pin) = (Key(random(world)), keys.pin()?);
        let public = public_key(&secret);
        let nonce: [u8; NONCE_LEN] = random(world);
        let mut body = Zeroizing::new([0u8; 64]);
        body[..32].copy_from_slice(&secret.0);
        body[32..].copy_from_slice(&pin.0);
        let tag = seal_in_place(&self.wrapping_key(), &nonce, &associated(&public), &mut *body);
        let mut wrapped = [0; WRAPPED_LEN];
        wrapped[..NONCE_LEN].copy_from_slice(&nonce);
        wrapped[NONCE_LEN..NONCE_LEN + 64].copy_from_slice(&*body);
        wrapped[NONCE_LEN + 64..].copy_from_slice(&tag);
        Ok((public, wrapped))
    }

    /// Opens what a slot wraps; `public` is the public key that the slot shows.
    pub fn unwrap(
        &self,
        wrapped: &[u8; WRAPPED_LEN],
        public: &[u8; 32],
        associated: &[u8],
    ) -> Result<SlotSecret, CryptoError> {
        let (nonce, rest) = wrapped.split_first_chunk().ok_or(CryptoError::Tag)?;
        let (body, tag) = rest.split_last_chunk().ok_or(CryptoError::Tag)?;
        let mut opened = Zeroizing::new([0u8; 64]);
        opened.copy_from_slice(body);
        open_in_place(&self.wrapping_key(), nonce, associated, &mut *opened, tag)?;
        let (halves, _) = opened.as_chunks::<32>();
        let [secret, pin] = halves else { return Err(CryptoError::Tag) };
        let opened = SlotSecret { secret: Key(*secret), pin: Key(*pin) };
        // A rotation would seal the new keys to a public key that nobody has the secret of, or
        // that somebody else has.
        match public_key(&opened.secret) == *public {
            true => Ok(opened),
            false => Err(CryptoError::PublicKey),
        }
    }

    fn wrapping_key(&self) -> Key {
        self.0.derive("holdall 1 wrapping of a slot's key")
    }
}

fn derive_with_salt(context: &str, secret: &[u8], salt: &[u8; 32]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    let key = *hasher.update(salt).update(secret).finalize().as_bytes();
    hasher.zeroize();
    key
}

/// Seals a bundle of keys to a slot's public key; nobody needs the slot's secret for it.
pub fn seal_to_slot(
    world: &dyn World,
    public: &[u8; 32],
    associated: &[u8],
    bundle: &[u8],
) -> Vec<u8> {
    seal_to(world, public, associated, bundle)
}

/// Opens a bundle of keys with what the slot wraps. A bundle of keys that the slot was not made
/// for is refused, well sealed as it may be.
pub fn open_from_slot(
    slot: &SlotSecret,
    sealed: &[u8],
    associated: &[u8],
) -> Result<KeyRing, CryptoError> {
    let keys = KeyRing::from_bundle(&open_with(&slot.secret, sealed, associated)?)?;
    match keys.pin()? == slot.pin {
        true => Ok(keys),
        false => Err(CryptoError::Pin),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::RealWorld;

    #[test]
    fn recovery_codes_there_and_back() {
        let code = RecoveryCode::generate(&RealWorld);
        let text = code.to_text();
        assert_eq!(text.len(), 39);
        let sloppy = text.to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l");
        assert_eq!(RecoveryCode::from_text(&sloppy).unwrap().0, code.0);
        for at in (0..39).filter(|at| text.as_bytes()[*at] != b'-') {
            let mut wrong = text.to_string();
            let digit = if text.as_bytes()[at] == b'7' { "8" } else { "7" };
            wrong.replace_range(at..=at, digit);
            assert!(RecoveryCode::from_text(&wrong).is_err(), "digit {at} changed");
        }
        assert!(RecoveryCode::from_text("U").is_err());
    }

    #[test]
    fn key_files_there_and_back() {
        let file = KeyFile::generate(&RealWorld);
        assert_eq!(KeyFile::from_text(&file.to_text()).unwrap().0, file.0);
        assert!(KeyFile::from_text("holdall-key-1-00").is_err());
        assert!(KeyFile::from_text("").is_err());
    }

    #[test]
    fn slots_open_with_their_secret_only() {
        let secret = |text: &str| Secret::Password(Zeroizing::new(text.into()));
        let cost = Some(PasswordCost::LOWEST);
        let key = SlotKey::derive(&secret("right"), &[1; 32], cost).unwrap();
        let wrong = SlotKey::derive(&secret("wrong"), &[1; 32], cost).unwrap();
        let salted = SlotKey::derive(&secret("right"), &[2; 32], cost).unwrap();
        assert!(key.check() != wrong.check() && key.check() != salted.check());
        let keys = KeyRing::generate(&RealWorld);
        let (public, wrapped) =
            key.wrap_fresh(&RealWorld, &keys, &|public| public.to_vec()).unwrap();
        assert_eq!(public_key(&key.unwrap(&wrapped, &public, &public).unwrap().secret), public);
        assert_eq!(wrong.unwrap(&wrapped, &public, &public).err(), Some(CryptoError::Tag));
        assert_eq!(key.unwrap(&wrapped, &public, b"elsewhere").err(), Some(CryptoError::Tag));
        let another = key.unwrap(&wrapped, &[9; 32], &public);
        assert_eq!(another.err(), Some(CryptoError::PublicKey));
    }

    /// Whoever writes to the storage knows the public key and can seal keys of his own to it. If
    /// they were taken, the next backup would be sealed for him.
    #[test]
    fn a_bundle_of_other_keys_is_refused() {
        let secret = Secret::Recovery(RecoveryCode([1; 16]));
        let key = SlotKey::derive(&secret, &[1; 32], None).unwrap();
        let (ours, theirs) = (KeyRing::generate(&RealWorld), KeyRing::generate(&RealWorld));
        let (public, wrapped) = key.wrap_fresh(&RealWorld, &ours, &|_| b"head".into()).unwrap();
        let slot = key.unwrap(&wrapped, &public, b"head").unwrap();
        let sealed = |keys: &KeyRing| seal_to_slot(&RealWorld, &public, b"head", &keys.to_bundle());
        let opened = open_from_slot(&slot, &sealed(&ours), b"head").unwrap();
        assert_eq!(opened.to_bundle(), ours.to_bundle());
        assert_eq!(open_from_slot(&slot, &sealed(&theirs), b"head").err(), Some(CryptoError::Pin));
        let none = seal_to_slot(&RealWorld, &public, b"head", &[]);
        assert!(open_from_slot(&slot, &none, b"head").is_err());
    }

    #[test]
    fn a_measured_cost_is_never_below_the_usual_one() {
        let none = PasswordCost::measured(Duration::ZERO);
        assert_eq!(none, PasswordCost::DEFAULT);
        let much = PasswordCost::measured(Duration::from_secs(3600));
        assert_eq!(much, PasswordCost { passes: MEASURED_PASSES_MAX, ..PasswordCost::DEFAULT });
    }

    #[test]
    fn costs_are_bounded() {
        let secret = Secret::Password(Zeroizing::new("p".into()));
        let derive = |cost| SlotKey::derive(&secret, &[0; 32], cost).map(|_| ());
        for bad in [
            PasswordCost { memory_kib: limits::ARGON2_MEMORY_KIB_MAX + 1, ..PasswordCost::LOWEST },
            PasswordCost { memory_kib: 8, ..PasswordCost::LOWEST },
            PasswordCost { passes: 0, ..PasswordCost::LOWEST },
            PasswordCost { passes: limits::ARGON2_PASSES_MAX + 1, ..PasswordCost::LOWEST },
            PasswordCost { lanes: 0, ..PasswordCost::LOWEST },
            PasswordCost { lanes: limits::ARGON2_LANES_MAX + 1, ..PasswordCost::LOWEST },
        ] {
            assert_eq!(derive(Some(bad)), Err(CryptoError::Cost), "{bad:?}");
        }
        assert_eq!(derive(None), Err(CryptoError::Cost));
        assert_eq!(derive(Some(PasswordCost::LOWEST)), Ok(()));
    }
}
