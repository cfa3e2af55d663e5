//! Passwords to keys, chunk ids, sealing and opening. The only room that sees key bytes.
//!
//! Format: `format-spec/03-keys.md`, `format-spec/02-primitives.md`. Against whom, and against
//! whom not: `format-spec/14-security.md`.

mod bulk;
mod keyring;
mod seal;
mod unlock;

pub use bulk::{open_bulk, open_bulk_into, seal_bulk};
pub use keyring::{KeyRing, Purpose};
pub use seal::{
    NONCE_LEN, SEALED_KEY_LEN, SessionKey, TAG_LEN, open_in_place, seal_in_place, seal_session_key,
    unseal_session_key,
};
pub use unlock::{
    KeyFile, PasswordCost, RecoveryCode, Secret, SlotKey, SlotSecret, WRAPPED_LEN, open_from_slot,
    seal_to_slot,
};

use zeroize::{Zeroize, ZeroizeOnDrop};

/// 32 secret bytes, wiped when dropped and never printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Key([u8; 32]);

impl Key {
    /// Takes bytes as a key.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A key for one purpose, derived by a context string that is used for nothing else.
    fn derive(&self, context: &str) -> Self {
        Self(blake3::derive_key(context, &self.0))
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(secret)")
    }
}

/// What can be wrong with keys and with what they open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// The tag does not fit: the bytes were changed, moved, or sealed with another key.
    #[error("the authentication tag does not fit")]
    Tag,
    /// The password, key file or recovery code is not the one of this slot.
    #[error("wrong password or key")]
    WrongSecret,
    /// The cost parameters of a password are outside of what is accepted.
    #[error("the cost parameters of the key slot are outside of the accepted range")]
    Cost,
    /// A key that is needed is not among those that the slot gives.
    #[error("the key for {purpose} of generation {generation} is not among the keys of this slot")]
    Missing {
        /// What it would be for.
        purpose: Purpose,
        /// Which generation.
        generation: u32,
    },
    /// The bundle of keys in a slot is not well formed.
    #[error("the bundle of keys is not well formed")]
    Bundle,
    /// The bundle of keys in a slot is not the one that the slot was made for.
    #[error("the keys in the slot are not this repository's: somebody exchanged them")]
    Pin,
    /// The public key that a slot shows is not that of the secret key that it wraps.
    #[error("the public key of the key slot is not that of its secret key")]
    PublicKey,
    /// A recovery code with a typing mistake.
    #[error("this is no recovery code, or a digit of it is wrong")]
    RecoveryCode,
    /// Without this slot nothing would open the repository any more.
    #[error("this is the only key slot; add another one before it is removed")]
    LastSlot,
    /// What was to be done rests on slots that are not as they were.
    #[error("the key slots were changed at the same time; nothing was lost, do it again")]
    Changed,
    /// A key file that is none.
    #[error("this is no key file")]
    KeyFile,
}
