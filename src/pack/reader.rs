//! Packs as they are read: one frame, the trailer, or all that a scan can find.

use super::PackError;
use crate::format::FormatError;
use crate::format::codec::Take;
use crate::format::envelope::ObjectType;
use crate::format::frame::{FrameHeader, HEADER_LEN as FRAME_HEADER_LEN};
use crate::format::pack::{
    FOOTER_LEN, HEADER_LEN, PackInfo, Trailer, decode_footer, decode_header, pack_key,
};
use crate::id::PackId;
use crate::object::Sealer;
use crate::storage::Storage;

/// Most trailers fit into this much of a pack's end, so that one request reads them.
const TRAILER_GUESS: u64 = 64 << 10;

/// Reads what a pack's own trailer says of it.
pub fn read_trailer(
    storage: &dyn Storage,
    sealer: &Sealer,
    id: &PackId,
) -> Result<PackInfo, PackError> {
    let key = pack_key(id);
    let len = storage.stat(&key)?;
    let guess = len.min(TRAILER_GUESS);
    let mut end = storage.get_range(&key, len - guess, guess as usize)?;
    let (_, footer) =
        end.split_last_chunk::<FOOTER_LEN>().ok_or(FormatError::Truncated("end of a pack"))?;
    let trailer_len = decode_footer(footer)?;
    let needed = trailer_len + FOOTER_LEN;
    if needed as u64 + HEADER_LEN as u64 > len {
        return Err(FormatError::Bad("length of a trailer").into());
    }
    if needed > end.len() {
        end = storage.get_range(&key, len - needed as u64, needed)?;
    }
    let start = end.len() - needed;
    let sealed = end[start..start + trailer_len].to_vec();
    open_trailer(sealer, id, len, trailer_len, sealed)
}

fn open_trailer(
    sealer: &Sealer,
    id: &PackId,
    len: u64,
    trailer_len: usize,
    sealed: Vec<u8>,
) -> Result<PackInfo, PackError> {
    let payload = sealer.open(ObjectType::Trailer, &pack_key(id), sealed)?;
    let mut take = Take::new(&payload);
    let trailer = Trailer::decode(&mut take)?;
    take.finish("trailer")?;
    if trailer.frames_end() + (trailer_len + FOOTER_LEN) as u64 != len {
        return Err(FormatError::Bad("length of a pack").into());
    }
    Ok(PackInfo { id: *id, len, trailer })
}

/// Reads a frame as it is stored.
pub fn read_frame(
    storage: &dyn Storage,
    pack: &PackId,
    offset: u32,
    stored_len: u32,
) -> Result<Vec<u8>, PackError> {
    Ok(storage.get_range(&pack_key(pack), offset.into(), stored_len as usize)?)
}

/// Reads what lies side by side in a pack into memory that is used again.
pub fn read_frames(
    storage: &dyn Storage,
    pack: &PackId,
    offset: u32,
    len: u32,
    into: &mut Vec<u8>,
) -> Result<(), PackError> {
    Ok(storage.get_range_into(&pack_key(pack), offset.into(), len as usize, into)?)
}

/// Every place in a pack's bytes where a frame seems to begin, with its stored length: for packs
/// whose trailer is lost. Whether it is a frame shows when it is opened.
pub fn scan_frames(pack: &[u8]) -> impl Iterator<Item = (usize, usize)> + '_ {
    let mut at = match decode_header(pack) {
        Ok(_) => HEADER_LEN,
        Err(_) => 0,
    };
    std::iter::from_fn(move || {
        while let Some(rest) = pack.get(at..).filter(|rest| rest.len() >= FRAME_HEADER_LEN) {
            match FrameHeader::decode(rest) {
                Ok((header, body)) if body.len() >= header.body_len as usize => {
                    let (start, len) = (at, FRAME_HEADER_LEN + header.body_len as usize);
                    at += len;
                    return Some((start, len));
                }
                _ => at += 1,
            }
        }
        None
    })
}
