//! Sealing (XChaCha20-Poly1305) and session keys sealed to a reader (X25519).

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305, XNonce};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, Zeroizing};

use super::{CryptoError, Key};
use crate::world::{World, random};

/// Bytes of a nonce.
pub const NONCE_LEN: usize = 24;
/// Bytes of an authentication tag.
pub const TAG_LEN: usize = 16;
/// Bytes of a sealed session key: the ephemeral public key, the sealed key, its tag.
pub const SEALED_KEY_LEN: usize = 32 + 32 + TAG_LEN;

/// Seals `buffer` where it is; the tag is to be stored behind it.
pub fn seal_in_place(
    key: &Key,
    nonce: &[u8; NONCE_LEN],
    associated: &[u8],
    buffer: &mut [u8],
) -> [u8; TAG_LEN] {
    let cipher = XChaCha20Poly1305::new((&key.0).into());
    let tag = cipher
        .encrypt_inout_detached(&XNonce::from(*nonce), associated, buffer.into())
        .expect("the cipher takes up to 256 GiB, and every length is bounded far below");
    tag.into()
}

/// Opens `buffer` where it is. On error it holds nothing of use.
pub fn open_in_place(
    key: &Key,
    nonce: &[u8; NONCE_LEN],
    associated: &[u8],
    buffer: &mut [u8],
    tag: &[u8; TAG_LEN],
) -> Result<(), CryptoError> {
    let cipher = XChaCha20Poly1305::new((&key.0).into());
    cipher
        .decrypt_inout_detached(&XNonce::from(*nonce), associated, buffer.into(), &Tag::from(*tag))
        .map_err(|_| CryptoError::Tag)
}

/// A fresh key for the frames of one session, and the form in which every frame carries it.
#[derive(Clone, Debug)]
pub struct SessionKey {
    /// Seals the frames.
    pub key: Key,
    /// Opens with the reader's secret key: `SEALED_KEY_LEN` bytes.
    pub sealed: [u8; SEALED_KEY_LEN],
}

/// Makes a session key and seals it to the reader; `associated` says what it is for.
pub fn seal_session_key(world: &dyn World, reader: &[u8; 32], associated: &[u8]) -> SessionKey {
    let key = Key(random(world));
    let sealed = seal_to(world, reader, associated, &key.0);
    let sealed = sealed.try_into().expect("32 bytes of public key, 32 of key, 16 of tag");
    SessionKey { key, sealed }
}

/// Opens a sealed session key with the reader's secret key.
pub fn unseal_session_key(
    secret: &Key,
    sealed: &[u8; SEALED_KEY_LEN],
    associated: &[u8],
) -> Result<Key, CryptoError> {
    let opened = open_with(secret, sealed, associated)?;
    opened.as_slice().try_into().map(Key).map_err(|_| CryptoError::Tag)
}

/// Public key of a secret key.
pub(super) fn public_key(secret: &Key) -> [u8; 32] {
    PublicKey::from(&StaticSecret::from(secret.0)).to_bytes()
}

/// Seals bytes to a public key: ephemeral public key, ciphertext, tag. The key is used once, so
/// the nonce may be constant.
pub(super) fn seal_to(
    world: &dyn World,
    reader: &[u8; 32],
    associated: &[u8],
    content: &[u8],
) -> Vec<u8> {
    let ephemeral = StaticSecret::from(random::<32>(world));
    let public = PublicKey::from(&ephemeral).to_bytes();
    let shared = ephemeral.diffie_hellman(&PublicKey::from(*reader));
    let key = sealing_key(shared.as_bytes(), &public, reader);
    let mut sealed = public.to_vec();
    sealed.extend_from_slice(content);
    let tag = seal_in_place(&key, &[0; NONCE_LEN], associated, &mut sealed[32..]);
    sealed.extend_from_slice(&tag);
    sealed
}

/// Opens what `seal_to` made.
pub(super) fn open_with(
    secret: &Key,
    sealed: &[u8],
    associated: &[u8],
) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
    let (ephemeral, rest) = sealed.split_first_chunk::<32>().ok_or(CryptoError::Tag)?;
    let (content, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(CryptoError::Tag)?;
    let secret_key = StaticSecret::from(secret.0);
    let shared = secret_key.diffie_hellman(&PublicKey::from(*ephemeral));
    if !shared.was_contributory() {
        return Err(CryptoError::Tag);
    }
    let key = sealing_key(shared.as_bytes(), ephemeral, &public_key(secret));
    let mut opened = Zeroizing::new(content.to_vec());
    open_in_place(&key, &[0; NONCE_LEN], associated, &mut opened, tag)?;
    Ok(opened)
}

fn sealing_key(shared: &[u8; 32], ephemeral: &[u8; 32], reader: &[u8; 32]) -> Key {
    let mut hasher = blake3::Hasher::new_derive_key("holdall 1 sealed to a public key");
    hasher.update(shared).update(ephemeral).update(reader);
    let key = Key(*hasher.finalize().as_bytes());
    hasher.zeroize();
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{RealWorld, SeededWorld, Time};

    #[test]
    fn what_was_changed_does_not_open() {
        let (key, nonce) = (Key([1; 32]), [2; NONCE_LEN]);
        let mut sealed = *b"some bytes";
        let tag = seal_in_place(&key, &nonce, b"place", &mut sealed);
        assert_ne!(&sealed, b"some bytes");
        let open = |key: &Key, nonce, place: &[u8], mut bytes: [u8; 10], tag: [u8; TAG_LEN]| {
            open_in_place(key, &nonce, place, &mut bytes, &tag).map(|()| bytes)
        };
        assert_eq!(open(&key, nonce, b"place", sealed, tag), Ok(*b"some bytes"));
        let mut flipped = sealed;
        flipped[3] ^= 1;
        assert_eq!(open(&key, nonce, b"place", flipped, tag), Err(CryptoError::Tag));
        assert_eq!(open(&key, nonce, b"other", sealed, tag), Err(CryptoError::Tag));
        assert_eq!(open(&key, [3; NONCE_LEN], b"place", sealed, tag), Err(CryptoError::Tag));
        assert_eq!(open(&Key([9; 32]), nonce, b"place", sealed, tag), Err(CryptoError::Tag));
    }

    #[test]
    fn session_keys_open_for_their_reader_and_purpose_only() {
        let (secret, other) = (Key([5; 32]), Key([6; 32]));
        let session = seal_session_key(&RealWorld, &public_key(&secret), b"data");
        assert_eq!(unseal_session_key(&secret, &session.sealed, b"data"), Ok(session.key.clone()));
        assert!(unseal_session_key(&secret, &session.sealed, b"tree").is_err());
        assert!(unseal_session_key(&other, &session.sealed, b"data").is_err());
        let mut zero = session.sealed;
        zero[..32].fill(0);
        assert_eq!(unseal_session_key(&secret, &zero, b"data"), Err(CryptoError::Tag));
    }

    #[test]
    fn no_two_session_keys_are_alike() {
        let world = SeededWorld::new(1, Time::default());
        let reader = public_key(&Key([5; 32]));
        let keys: Vec<_> = (0..100).map(|_| seal_session_key(&world, &reader, b"x")).collect();
        for (i, a) in keys.iter().enumerate() {
            assert!(keys[..i].iter().all(|b| a.key != b.key && a.sealed != b.sealed));
        }
    }
}
