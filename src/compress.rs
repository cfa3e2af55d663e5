//! zstd with a stated output bound, contexts kept between calls.
//!
//! Format: `format-spec/02-primitives.md#zstd`.

use std::cell::RefCell;

use zstd_safe::{CCtx, CParameter, DCtx};

/// The level that looks at the data before it chooses its way.
pub const DEFAULT_LEVEL: i32 = 3;

/// For what compresses well: what more work would save is little beside what is saved already.
const FAST: Way = Way { level: 2, tables: [0; 2] };
/// For the rest: text without long matches gains by a large table of short ones.
const THOROUGH: Way = Way { level: 3, tables: [15, 17] };

/// A first try takes so many pieces, spread over the plaintext: no stretch of a sixteenth of it
/// is passed over.
const PIECES: usize = 16;
/// Their length, bytes.
const PIECE_LEN: usize = 2 << 10;
const SAMPLE_LEN: usize = PIECES * PIECE_LEN;
/// Of shorter plaintexts no sample is taken, bytes.
const SAMPLED_MIN: usize = 8 * SAMPLE_LEN;
/// Where less than one part in so many of the sample is saved, nothing is.
const SAVED_SHARE: usize = 64;

/// Data that zstd refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("zstd: {0}")]
pub struct CompressError(&'static str);

thread_local! {
    static COMPRESSOR: RefCell<CCtx<'static>> = RefCell::new(CCtx::create());
    static DECOMPRESSOR: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

/// Room that the compressed form of `len` bytes may need.
pub fn bound(len: usize) -> usize {
    zstd_safe::compress_bound(len)
}

/// Compresses into `out`, which has room for `bound(plain.len())`; returns the length, or nothing
/// where a first try finds that there is nothing to save.
pub fn compress(plain: &[u8], level: i32, out: &mut [u8]) -> Result<Option<usize>, CompressError> {
    COMPRESSOR.with_borrow_mut(|context| {
        let tried = first_try(context, plain, out)?;
        let Some(way) = way(level, tried) else { return Ok(None) };
        compress_by(context, way, plain, out).map(Some)
    })
}

/// A level of the library, and tables of another size than its own, as powers of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    level: i32,
    /// For long matches and for short ones; 0 for the level's own.
    tables: [u32; 2],
}

/// How to compress after a first try that made so many of `SAMPLE_LEN` bytes, if there was one.
/// The default level takes its time where there is much left to gain.
/// Measurements: `format-spec/07-pack.md#rationale`.
fn way(level: i32, tried: Option<usize>) -> Option<Way> {
    match tried {
        Some(len) if len > SAMPLE_LEN - SAMPLE_LEN / SAVED_SHARE => None,
        Some(len) if level == DEFAULT_LEVEL && len < SAMPLE_LEN / 5 * 2 => Some(FAST),
        _ if level == DEFAULT_LEVEL => Some(THOROUGH),
        _ => Some(Way { level, tables: [0; 2] }),
    }
}

/// Compresses some of the plaintext the fastest way; nothing for one that is too short for that
/// to save time.
fn first_try(
    context: &mut CCtx<'_>,
    plain: &[u8],
    out: &mut [u8],
) -> Result<Option<usize>, CompressError> {
    if plain.len() < SAMPLED_MIN {
        return Ok(None);
    }
    let mut sample = [0; SAMPLE_LEN];
    let stretches = plain.chunks_exact(plain.len() / PIECES);
    for (piece, stretch) in sample.chunks_exact_mut(PIECE_LEN).zip(stretches) {
        piece.copy_from_slice(&stretch[..PIECE_LEN]);
    }
    compress_by(context, Way { level: 1, tables: [0; 2] }, &sample, out).map(Some)
}

fn compress_by(
    context: &mut CCtx<'_>,
    Way { level, tables: [long, short] }: Way,
    plain: &[u8],
    out: &mut [u8],
) -> Result<usize, CompressError> {
    // The plain length stands in the frame's own header, and the tag guards the content.
    for parameter in [
        CParameter::CompressionLevel(level),
        CParameter::HashLog(long),
        CParameter::ChainLog(short),
        CParameter::ContentSizeFlag(false),
        CParameter::ChecksumFlag(false),
    ] {
        context.set_parameter(parameter).map_err(named)?;
    }
    context.compress2(out, plain).map_err(named)
}

/// Compresses `plain` as a delta against `prefix`, of at least 8 bytes. Returns the length, or
/// nothing where it does not fit into `out`.
pub fn compress_with_prefix(prefix: &[u8], plain: &[u8], out: &mut [u8]) -> Option<usize> {
    // A context of its own: the prefix must not outlive this call.
    let mut context = CCtx::create();
    // Readers take windows of up to 2^25, which holds the two longest frames.
    let window_log = (prefix.len() + plain.len()).next_power_of_two().trailing_zeros().max(10);
    // Nearly all of it is long matches, which the fast way finds if its table has room for all of
    // the prefix; higher levels remember the end of it only.
    let hash_log = window_log.clamp(12, 22) - 2;
    for parameter in [
        CParameter::CompressionLevel(1),
        CParameter::WindowLog(window_log),
        CParameter::HashLog(hash_log),
        CParameter::ContentSizeFlag(false),
        CParameter::ChecksumFlag(false),
    ] {
        context.set_parameter(parameter).ok()?;
    }
    context.ref_prefix(prefix).ok()?;
    context.compress2(out, plain).ok()
}

/// Decompresses one frame into exactly `plain`; any other length is an error.
pub fn decompress(compressed: &[u8], plain: &mut [u8]) -> Result<(), CompressError> {
    DECOMPRESSOR.with_borrow_mut(|context| decompress_with(context, compressed, plain))
}

/// Decompresses a delta into exactly `plain`; `prefix` is what it was compressed against.
pub fn decompress_with_prefix(
    prefix: &[u8],
    compressed: &[u8],
    plain: &mut [u8],
) -> Result<(), CompressError> {
    // A context of its own: the prefix must not outlive this call.
    let mut context = DCtx::create();
    context.ref_prefix(prefix).map_err(named)?;
    decompress_with(&mut context, compressed, plain)
}

fn decompress_with(
    context: &mut DCtx<'_>,
    compressed: &[u8],
    plain: &mut [u8],
) -> Result<(), CompressError> {
    require_one_frame(compressed)?;
    match context.decompress(plain, compressed).map_err(named)? == plain.len() {
        true => Ok(()),
        false => Err(CompressError("fewer bytes came out than the frame says")),
    }
}

/// The library would also take several frames, frames to be skipped, and those of its own past.
fn require_one_frame(compressed: &[u8]) -> Result<(), CompressError> {
    let len = match compressed.starts_with(&zstd_safe::MAGICNUMBER.to_le_bytes()) {
        true => zstd_safe::find_frame_compressed_size(compressed).map_err(named)?,
        false => return Err(CompressError("this is no frame of zstd")),
    };
    match len == compressed.len() {
        true => Ok(()),
        false => Err(CompressError("something follows the frame")),
    }
}

fn named(code: zstd_safe::ErrorCode) -> CompressError {
    CompressError(zstd_safe::get_error_name(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back_in_exactly_the_stated_length() {
        let plain = b"all work and no play ".repeat(1000);
        let mut out = vec![0; bound(plain.len())];
        let len = compress(&plain, 3, &mut out).unwrap().unwrap();
        assert!(len < plain.len() / 10);
        let mut back = vec![0; plain.len()];
        decompress(&out[..len], &mut back).unwrap();
        assert_eq!(back, plain);
        assert!(decompress(&out[..len], &mut vec![0; plain.len() - 1]).is_err());
        assert!(decompress(&out[..len], &mut vec![0; plain.len() + 1]).is_err());
        assert!(decompress(&out[..len - 1], &mut back).is_err());
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn noise_is_left_alone_unless_a_stretch_of_it_is_none() {
        let mut plain = noise(1 << 20);
        let mut out = vec![0; bound(plain.len())];
        for level in [-1, 1, DEFAULT_LEVEL, 9] {
            assert_eq!(compress(&plain, level, &mut out).unwrap(), None);
        }
        let stretch = plain.len() / PIECES + PIECE_LEN;
        for start in [0, 100_000, plain.len() - stretch] {
            let before = plain.clone();
            plain[start..start + stretch].fill(b' ');
            let len = compress(&plain, DEFAULT_LEVEL, &mut out).unwrap().unwrap();
            assert!(len < plain.len() - stretch / 10 * 9, "{start}");
            plain = before;
        }
        // No sample of what is short.
        assert!(compress(&plain[..SAMPLED_MIN - 1], 1, &mut out).unwrap().is_some());
    }

    #[test]
    fn the_default_level_takes_its_time_where_there_is_much_to_gain() {
        let of = |level, len| way(level, Some(len)).unwrap();
        assert_eq!(of(DEFAULT_LEVEL, SAMPLE_LEN / 4), FAST);
        assert_eq!(of(DEFAULT_LEVEL, SAMPLE_LEN / 2), THOROUGH);
        assert_eq!(way(DEFAULT_LEVEL, None), Some(THOROUGH));
        assert_eq!(of(19, SAMPLE_LEN / 4), of(19, SAMPLE_LEN / 2));
        // Four bits in eight: badly for a text, and without any match to speak of.
        let letters: Vec<u8> = noise(1 << 20).iter().map(|byte| byte >> 4).collect();
        let mut out = vec![0; bound(letters.len())];
        let context = &mut CCtx::create();
        assert_eq!(
            way(DEFAULT_LEVEL, first_try(context, &letters, &mut out).unwrap()),
            Some(THOROUGH)
        );
        // What one way leaves behind does not show in what another makes.
        let fresh = compress_by(&mut CCtx::create(), FAST, &letters, &mut out).unwrap();
        compress_by(context, THOROUGH, &letters, &mut out).unwrap();
        assert_eq!(compress_by(context, FAST, &letters, &mut out).unwrap(), fresh);
    }

    #[test]
    fn deltas_there_and_back_and_nothing_that_is_too_long() {
        let prefix: Vec<u8> = (0..300_000u32)
            .flat_map(|n| (n.wrapping_mul(2_654_435_761) ^ (n >> 7)).to_le_bytes())
            .collect();
        let mut plain = prefix[40_000..].to_vec();
        plain.iter_mut().step_by(10_000).for_each(|byte| *byte ^= 1);
        let mut out = vec![0; plain.len() / 50];
        let len = compress_with_prefix(&prefix, &plain, &mut out).unwrap();
        let mut back = vec![0; plain.len()];
        decompress_with_prefix(&prefix, &out[..len], &mut back).unwrap();
        assert!(back == plain);
        assert!(decompress(&out[..len], &mut back).is_err());
        assert_eq!(compress_with_prefix(&prefix, &plain, &mut out[..len - 1]), None);
        // The window holds both, as the format asks: its exponent stands in the fifth byte's top.
        assert!(1usize << (10 + (out[5] >> 3)) >= prefix.len() + plain.len());
    }

    #[test]
    fn exactly_one_frame_and_nothing_behind_it() {
        let frame = |plain: &[u8]| {
            let mut out = vec![0; bound(plain.len())];
            let len = compress(plain, 3, &mut out).unwrap().unwrap();
            out.truncate(len);
            out
        };
        let (one, front, back) = (frame(b"0123456789"), frame(b"01234"), frame(b"56789"));
        let skipped = [0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 7];
        let mut plain = [0; 10];
        let ways = |compressed: &[u8], plain: &mut [u8]| {
            [
                decompress(compressed, plain).is_ok(),
                decompress_with_prefix(b"a prefix", compressed, plain).is_ok(),
            ]
        };
        assert_eq!(ways(&one, &mut plain), [true; 2]);
        for bad in [
            [&front[..], &back].concat(),
            [&one[..], &frame(b"")].concat(),
            [&one[..], &skipped].concat(),
            [&skipped[..], &one].concat(),
            [&one[..], &[0]].concat(),
            vec![],
        ] {
            assert_eq!(ways(&bad, &mut plain), [false; 2], "{bad:?}");
        }
    }
}
