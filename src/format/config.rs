//! The `config` object: what a repository is. Format: `format-spec/05-config.md`.

use super::codec::{Put, Take};
use super::{FORMAT_VERSION, FormatError, Result};
use crate::id::{FamilyId, RepositoryId};
use crate::limits;
use crate::world::Time;

/// Key of the object.
pub const KEY: &str = "config";
/// First bytes of the object.
pub const MAGIC: [u8; 8] = *b"HOLDCONF";
/// Bytes of the authentication code at its end.
pub const MAC_LEN: usize = 32;

/// Where streams are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkerParams {
    /// Shortest chunk but for the last of a stream, bytes.
    pub min_size: u32,
    /// Length aimed at, bytes.
    pub avg_size: u32,
    /// Longest chunk, bytes.
    pub max_size: u32,
}

impl ChunkerParams {
    /// Chosen by measurement: `format-spec/06-chunking.md#rationale`.
    pub const DEFAULT: Self = Self { min_size: 16 << 10, avg_size: 64 << 10, max_size: 256 << 10 };

    /// Whether a chunker can work with these.
    pub fn is_accepted(&self) -> bool {
        // The chunker looks at bytes in pairs, so odd sizes would shift its borders.
        let within = |size: u32| {
            (limits::CHUNKER_SIZE_MIN..=limits::CHUNK_LEN_MAX).contains(&(size as usize))
                && size.is_multiple_of(2)
        };
        within(self.min_size)
            && within(self.max_size)
            && self.avg_size.is_power_of_two()
            && self.min_size <= self.avg_size / 2
            && self.avg_size <= self.max_size / 2
    }
}

/// What a repository is; written once, at `init`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Its name for ever.
    pub repository: RepositoryId,
    /// Repositories of one family can hand each other frames as they are.
    pub family: FamilyId,
    /// When it was made.
    pub created: Time,
    /// Where streams are cut.
    pub chunker: ChunkerParams,
    /// Plaintext length at which a frame is closed, bytes.
    pub frame_size: u32,
    /// Length at which a pack is closed, bytes.
    pub pack_size: u32,
    /// zstd level for new frames; 0 stores as it is.
    pub compression: i32,
}

impl Config {
    /// All but the authentication code.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.put_u16(FORMAT_VERSION);
        out.extend_from_slice(self.repository.as_bytes());
        out.extend_from_slice(self.family.as_bytes());
        out.put_varint(0); // no feature that a reader must know
        out.put_varint(0); // no feature that a writer must know
        out.put_time(self.created);
        out.put_varint(self.chunker.min_size.into());
        out.put_varint(self.chunker.avg_size.into());
        out.put_varint(self.chunker.max_size.into());
        out.put_varint(self.frame_size.into());
        out.put_varint(self.pack_size.into());
        out.put_signed(self.compression.into());
        out
    }

    /// Splits the object into what is authenticated and the code.
    pub fn split(object: &[u8]) -> Result<(&[u8], &[u8; MAC_LEN])> {
        object.split_last_chunk().ok_or(FormatError::Truncated("config"))
    }

    /// From what is authenticated. Bytes after the fields known here are passed over.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut take = Take::new(bytes);
        if take.array("config")? != MAGIC {
            return Err(FormatError::Magic("holdall repository"));
        }
        check_version(take.u16("format version")?)?;
        let repository = RepositoryId(take.array("repository id")?);
        let family = FamilyId(take.array("family id")?);
        for what in ["a feature needed for reading", "a feature needed for writing"] {
            if take.count(limits::LIST_MAX, "number of features")? > 0 {
                let found = take.varint("feature")?;
                return Err(FormatError::Newer { what, found, known: 0 });
            }
        }
        let created = take.time("time of creation")?;
        let chunker = ChunkerParams {
            min_size: take.varint32("least chunk size")?,
            avg_size: take.varint32("average chunk size")?,
            max_size: take.varint32("largest chunk size")?,
        };
        if !chunker.is_accepted() {
            return Err(FormatError::Bad("chunk sizes"));
        }
        let frame_size = take.bounded(limits::FRAME_PLAIN_LEN_MAX as u64 / 2, "frame size")? as u32;
        let pack_size = take.bounded(limits::PACK_LEN_MAX / 2, "pack size")? as u32;
        if frame_size == 0 || pack_size == 0 {
            return Err(FormatError::Bad("frame or pack size"));
        }
        let compression = take.signed("compression level")?;
        let compression = match i32::try_from(compression) {
            Ok(level @ -7..=22) => level,
            _ => return Err(FormatError::Bad("compression level")),
        };
        let config =
            Self { repository, family, created, chunker, frame_size, pack_size, compression };
        Ok(config)
    }
}

/// Refuses what a later version wrote.
pub(super) fn check_version(found: u16) -> Result<()> {
    match found {
        0 => Err(FormatError::Bad("format version")),
        found if found > FORMAT_VERSION => Err(FormatError::Newer {
            what: "format version",
            found: found.into(),
            known: FORMAT_VERSION.into(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config {
            repository: RepositoryId([1; 32]),
            family: FamilyId([2; 32]),
            created: Time::from_seconds(-1),
            chunker: ChunkerParams::DEFAULT,
            frame_size: 1 << 20,
            pack_size: 16 << 20,
            compression: -3,
        }
    }

    #[test]
    fn there_and_back_with_room_for_more() {
        let mut bytes = config().encode();
        assert_eq!(Config::decode(&bytes), Ok(config()));
        (0..bytes.len()).for_each(|n| assert!(Config::decode(&bytes[..n]).is_err(), "{n}"));
        bytes.push(7);
        assert_eq!(Config::decode(&bytes), Ok(config()));
    }

    #[test]
    fn newer_formats_and_strange_sizes_are_refused() {
        let mut bytes = config().encode();
        bytes[8] = 9;
        let newer = FormatError::Newer { what: "format version", found: 9, known: 1 };
        assert_eq!(Config::decode(&bytes), Err(newer));
        for chunker in [
            ChunkerParams { min_size: 0, ..ChunkerParams::DEFAULT },
            ChunkerParams { avg_size: 65_000, ..ChunkerParams::DEFAULT },
            ChunkerParams { max_size: u32::MAX, ..ChunkerParams::DEFAULT },
            ChunkerParams { min_size: 64 << 10, ..ChunkerParams::DEFAULT },
            ChunkerParams { min_size: 16_001, ..ChunkerParams::DEFAULT },
            ChunkerParams { max_size: 262_145, ..ChunkerParams::DEFAULT },
        ] {
            let bytes = Config { chunker, ..config() }.encode();
            assert_eq!(Config::decode(&bytes), Err(FormatError::Bad("chunk sizes")));
        }
    }
}
