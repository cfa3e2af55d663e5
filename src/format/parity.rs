//! Parity of packs: what is known of the shards of one pack, and where its parity lies.
//! Format: `format-spec/16-parity.md`.

use super::codec::{Put, Take};
use super::{FormatError, Result};
use crate::id::PackId;
use crate::limits;

/// First bytes of the mark that stands at both ends of a parity object.
pub const MAGIC: [u8; 8] = *b"HOLDPRTY";
/// Bytes of the mark.
pub const MARK_LEN: usize = 16;
/// Bytes of a shard's hash.
pub const HASH_LEN: usize = 16;
/// Lengths of shards are multiples of this.
pub const SHARD_STEP: u64 = 64;

/// Key of a pack's parity.
pub fn parity_key(id: &PackId) -> String {
    format!("parity/{id}")
}

/// The pack whose parity lies under a key.
pub fn parity_of_key(key: &str) -> Option<PackId> {
    PackId::from_hex(key.strip_prefix("parity/")?).ok()
}

/// The mark of an object whose sealed head has this length.
pub fn encode_mark(head_len: u32) -> [u8; MARK_LEN] {
    let mut out = MAGIC.to_vec();
    out.put_u32(head_len);
    out.put_u32(0);
    out.try_into().expect("the fields have 16 bytes together")
}

/// Length of the sealed head, from the mark.
pub fn decode_mark(bytes: &[u8]) -> Result<usize> {
    let mut take = Take::new(bytes);
    if take.array("parity")? != MAGIC {
        return Err(FormatError::Magic("parity"));
    }
    let len = take.u32("parity")?;
    if len as usize > limits::PARITY_HEAD_LEN_MAX {
        let (found, limit) = (len.into(), limits::PARITY_HEAD_LEN_MAX as u64);
        return Err(FormatError::TooLarge { what: "length of a head", found, limit });
    }
    match take.u32("parity")? {
        0 => Ok(len as usize),
        _ => Err(FormatError::Bad("reserved byte")),
    }
}

/// What the head of a parity object says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParityHead {
    /// Length of the pack, bytes.
    pub pack_len: u64,
    /// Length of every shard, bytes; the last of the pack is filled up with zeros.
    pub shard_len: u32,
    /// How many shards of parity there are.
    pub parity_count: u32,
    /// Key of the hashes.
    pub hash_key: [u8; 32],
    /// Hash of each shard: those of the pack, then those of parity.
    pub hashes: Vec<[u8; HASH_LEN]>,
}

impl ParityHead {
    /// How many shards the pack has.
    pub fn data_count(&self) -> usize {
        // Bounded by PARITY_SHARDS_MAX.
        self.pack_len.div_ceil(self.shard_len.into()) as usize
    }

    /// Bytes of all shards of parity together.
    pub fn parity_len(&self) -> u64 {
        u64::from(self.parity_count) * u64::from(self.shard_len)
    }

    /// The hash of a shard, as it should be.
    pub fn hash(&self, shard: &[u8]) -> [u8; HASH_LEN] {
        let mut hash = [0; HASH_LEN];
        blake3::Hasher::new_keyed(&self.hash_key).update(shard).finalize_xof().fill(&mut hash);
        hash
    }

    /// The payload of the sealed head.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_varint(self.pack_len);
        out.put_varint(self.shard_len.into());
        out.put_varint(self.parity_count.into());
        out.extend_from_slice(&self.hash_key);
        self.hashes.iter().for_each(|hash| out.extend_from_slice(hash));
        out
    }

    /// From the payload. Bytes after the fields known here are passed over.
    pub fn decode(payload: &[u8]) -> Result<Self> {
        let mut take = Take::new(payload);
        let pack_len = take.bounded(limits::PACK_LEN_MAX, "length of a pack")?;
        let shard_len = take.bounded(limits::PARITY_SHARD_LEN_MAX, "length of a shard")?;
        let limit = limits::PARITY_SHARDS_MAX as u64;
        let parity_count = take.bounded(limit, "number of shards")?;
        if shard_len == 0 || !shard_len.is_multiple_of(SHARD_STEP) {
            return Err(FormatError::Bad("length of a shard"));
        }
        let data_count = pack_len.div_ceil(shard_len);
        if !(1..=limit).contains(&data_count) || !(1..=data_count).contains(&parity_count) {
            return Err(FormatError::Bad("number of shards"));
        }
        let hash_key = take.array("key of hashes")?;
        // Both are at most PARITY_SHARDS_MAX, and so are the lengths below 2^32.
        let count = (data_count + parity_count) as usize;
        let hashes = take.raw(count * HASH_LEN, "hash of a shard")?.as_chunks().0.to_vec();
        Ok(Self {
            pack_len,
            shard_len: shard_len as u32,
            parity_count: parity_count as u32,
            hash_key,
            hashes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> ParityHead {
        ParityHead {
            pack_len: 129,
            shard_len: 64,
            parity_count: 2,
            hash_key: [3; 32],
            hashes: (0..5).map(|n| [n; HASH_LEN]).collect(),
        }
    }

    #[test]
    fn heads_there_and_back() {
        let bytes = head().encode();
        assert_eq!(ParityHead::decode(&bytes), Ok(head()));
        assert_eq!((head().data_count(), head().parity_len()), (3, 128));
        (0..bytes.len()).for_each(|n| assert!(ParityHead::decode(&bytes[..n]).is_err(), "{n}"));
        assert_eq!(decode_mark(&encode_mark(77)), Ok(77));
        assert!(decode_mark(&encode_mark(u32::MAX)).is_err());
        assert_eq!(parity_of_key(&parity_key(&PackId([9; 32]))), Some(PackId([9; 32])));
    }

    #[test]
    fn counts_are_bounded_before_they_are_believed() {
        let shards = FormatError::Bad("number of shards");
        let len = FormatError::Bad("length of a shard");
        for (bad, why) in [
            (ParityHead { shard_len: 0, ..head() }, &len),
            (ParityHead { shard_len: 65, ..head() }, &len),
            (ParityHead { pack_len: 0, ..head() }, &shards),
            (ParityHead { pack_len: 64 * 32_769, ..head() }, &shards),
            (ParityHead { parity_count: 0, ..head() }, &shards),
            (ParityHead { parity_count: 4, ..head() }, &shards),
        ] {
            assert_eq!(ParityHead::decode(&bad.encode()).as_ref(), Err(why));
        }
        for bad in [
            ParityHead { pack_len: limits::PACK_LEN_MAX + 1, ..head() },
            ParityHead { shard_len: (1 << 20) + 64, ..head() },
        ] {
            let found = ParityHead::decode(&bad.encode());
            assert!(matches!(found, Err(FormatError::TooLarge { .. })));
        }
    }
}
