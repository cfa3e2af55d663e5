//! Records of damage: packs that somebody read and found damaged.
//! Format: `format-spec/15-damage.md`.

use super::codec::{Put, Take};
use super::{FormatError, Result};
use crate::id::{ClientId, FrameId, NoteId, PackId};
use crate::limits;
use crate::world::Time;

/// Key of a record of damage.
pub fn damage_key(id: &NoteId) -> String {
    format!("damage/{id}")
}

/// From a key of a listing.
pub fn damage_of_key(key: &str) -> Option<NoteId> {
    NoteId::from_hex(key.strip_prefix("damage/")?).ok()
}

/// What is wrong with one pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The pack.
    pub pack: PackId,
    /// Frames that could not be read, in ascending order. None of them: its header or trailer.
    pub frames: Vec<FrameId>,
    /// When it was found.
    pub time: Time,
    /// Where.
    pub host: String,
    /// By whom.
    pub client: ClientId,
    /// What was found, for people.
    pub why: String,
}

impl Damage {
    /// The payload of the sealed object.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(self.pack.as_bytes());
        out.put_varint(self.frames.len() as u64);
        self.frames.iter().for_each(|id| out.extend_from_slice(id.as_bytes()));
        out.put_time(self.time);
        out.put_bytes(self.host.as_bytes());
        out.extend_from_slice(self.client.as_bytes());
        out.put_bytes(self.why.as_bytes());
        out
    }

    /// From the payload. Bytes after the fields known here are passed over.
    pub fn decode(payload: &[u8]) -> Result<Self> {
        let mut take = Take::new(payload);
        let pack = PackId(take.array("pack id")?);
        let count = take.count(limits::PACK_FRAMES_MAX, "number of frames")?;
        let frames = (0..count).map(|_| take.array("frame id").map(FrameId));
        let frames: Vec<FrameId> = frames.collect::<Result<_>>()?;
        if !frames.is_sorted_by(|a, b| a < b) {
            return Err(FormatError::Bad("order of frames"));
        }
        Ok(Self {
            pack,
            frames,
            time: take.time("time")?,
            host: take.text(limits::TEXT_LEN_MAX, "host")?,
            client: ClientId(take.array("client")?),
            why: take.text(limits::TEXT_LEN_MAX, "what was found")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back_and_never_out_of_order() {
        let damage = Damage {
            pack: PackId([1; 32]),
            frames: vec![FrameId([2; 24]), FrameId([3; 24])],
            time: Time::from_seconds(9),
            host: "h".into(),
            client: ClientId([4; 16]),
            why: "the frame at byte 9 is damaged".into(),
        };
        let bytes = damage.encode();
        assert_eq!(Damage::decode(&bytes), Ok(damage.clone()));
        (0..bytes.len()).for_each(|n| assert!(Damage::decode(&bytes[..n]).is_err(), "{n}"));
        let twice = Damage { frames: vec![FrameId([2; 24]); 2], ..damage };
        assert_eq!(Damage::decode(&twice.encode()), Err(FormatError::Bad("order of frames")));
    }
}
