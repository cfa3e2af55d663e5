//! Sealing of frames: the same XChaCha20-Poly1305 by a library in assembly language, which takes
//! two thirds of the time.
//!
//! It does not wipe its state, which holds the key of one nonce, and so of one frame whose
//! content lay in memory as well. What seals keys is in `seal`.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use chacha20::cipher::array::Array;
use chacha20::{R20, hchacha};
use zeroize::Zeroize;

use super::{CryptoError, Key, NONCE_LEN, TAG_LEN};

/// The cipher for one nonce: a key from its first 16 bytes, and what is left of it (RFC draft
/// irtf-cfrg-xchacha-03, section 2.3).
fn cipher(key: &Key, nonce: &[u8; NONCE_LEN]) -> (LessSafeKey, Nonce) {
    let (first, rest) = nonce.split_at(16);
    let input: [u8; 16] = std::array::from_fn(|at| first[at]);
    let mut subkey = hchacha::<R20>((&key.0).into(), &Array(input));
    let unbound = UnboundKey::new(&CHACHA20_POLY1305, &subkey)
        .expect("the subkey has 32 bytes, as the cipher's keys have");
    subkey.zeroize();
    let mut short = [0; 12];
    short[4..].copy_from_slice(rest);
    (LessSafeKey::new(unbound), Nonce::assume_unique_for_key(short))
}

/// Seals `buffer` where it is; the tag is to be stored behind it.
pub fn seal_bulk(
    key: &Key,
    nonce: &[u8; NONCE_LEN],
    associated: &[u8],
    buffer: &mut [u8],
) -> [u8; TAG_LEN] {
    let (cipher, nonce) = cipher(key, nonce);
    let tag = cipher
        .seal_in_place_separate_tag(nonce, Aad::from(associated), buffer)
        .expect("the cipher takes up to 256 GiB, and every length is bounded far below");
    std::array::from_fn(|at| tag.as_ref()[at])
}

/// Opens `buffer` where it is. On error it holds nothing of use.
pub fn open_bulk(
    key: &Key,
    nonce: &[u8; NONCE_LEN],
    associated: &[u8],
    buffer: &mut [u8],
    tag: &[u8; TAG_LEN],
) -> Result<(), CryptoError> {
    let (cipher, nonce) = cipher(key, nonce);
    cipher
        .open_in_place_separate_tag(nonce, Aad::from(associated), tag, buffer)
        .map_err(|_| CryptoError::Tag)
        .map(drop)
}

/// Opens `sealed` into `opened`, which is as long. On error it holds nothing of use.
pub fn open_bulk_into(
    key: &Key,
    nonce: &[u8; NONCE_LEN],
    associated: &[u8],
    sealed: &[u8],
    opened: &mut [u8],
    tag: &[u8; TAG_LEN],
) -> Result<(), CryptoError> {
    let (cipher, nonce) = cipher(key, nonce);
    cipher
        .open_separate_gather(nonce, Aad::from(associated), sealed, tag, opened)
        .map_err(|_| CryptoError::Tag)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::{open_in_place, seal_in_place};

    proptest! {
        #[test]
        fn both_libraries_seal_and_open_alike(
            key: [u8; 32],
            nonce: [u8; NONCE_LEN],
            associated: Vec<u8>,
            plain in prop::collection::vec(any::<u8>(), 0..5_000),
            at: prop::sample::Index,
        ) {
            let key = Key(key);
            let (mut sealed, mut bulk) = (plain.clone(), plain.clone());
            let tag = seal_in_place(&key, &nonce, &associated, &mut sealed);
            prop_assert_eq!(seal_bulk(&key, &nonce, &associated, &mut bulk), tag);
            prop_assert_eq!(&sealed, &bulk);
            let mut into = vec![0; plain.len()];
            open_bulk_into(&key, &nonce, &associated, &sealed, &mut into, &tag).unwrap();
            prop_assert_eq!(&into, &plain);
            open_in_place(&key, &nonce, &associated, &mut bulk, &tag).unwrap();
            prop_assert_eq!(&bulk, &plain);
            let mut opened = sealed.clone();
            open_bulk(&key, &nonce, &associated, &mut opened, &tag).unwrap();
            prop_assert_eq!(&opened, &plain);
            let mut flipped: Vec<u8> = [sealed.as_slice(), &tag].concat();
            let flip = at.index(flipped.len());
            flipped[flip] ^= 1;
            let (body, tag) = flipped.split_last_chunk_mut::<TAG_LEN>().unwrap();
            let opened = open_bulk_into(&key, &nonce, &associated, body, &mut into, tag);
            prop_assert_eq!(opened, Err(CryptoError::Tag));
            let opened = open_bulk(&key, &nonce, &associated, body, tag);
            prop_assert_eq!(opened, Err(CryptoError::Tag));
        }
    }
}
