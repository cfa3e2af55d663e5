//! zstd with a stated output bound, contexts kept between calls.
//!
//! Format: `format-spec/02-primitives.md#zstd`.

use std::cell::RefCell;

use zstd_safe::{CCtx, CParameter, DCtx};

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

/// Compresses into `out`, which has room for `bound(plain.len())`; returns the length.
pub fn compress(plain: &[u8], level: i32, out: &mut [u8]) -> Result<usize, CompressError> {
    COMPRESSOR.with_borrow_mut(|context| {
        // The plain length stands in the frame's own header, and the tag guards the content.
        for parameter in [
            CParameter::CompressionLevel(level),
            CParameter::ContentSizeFlag(false),
            CParameter::ChecksumFlag(false),
        ] {
            context.set_parameter(parameter).map_err(named)?;
        }
        context.compress2(out, plain).map_err(named)
    })
}

/// Decompresses into exactly `plain`; any other length is an error.
pub fn decompress(compressed: &[u8], plain: &mut [u8]) -> Result<(), CompressError> {
    let len = DECOMPRESSOR
        .with_borrow_mut(|context| context.decompress(plain, compressed))
        .map_err(named)?;
    match len == plain.len() {
        true => Ok(()),
        false => Err(CompressError("fewer bytes came out than the frame says")),
    }
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
    let len = context.decompress(plain, compressed).map_err(named)?;
    match len == plain.len() {
        true => Ok(()),
        false => Err(CompressError("fewer bytes came out than the frame says")),
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
        let len = compress(&plain, 3, &mut out).unwrap();
        assert!(len < plain.len() / 10);
        let mut back = vec![0; plain.len()];
        decompress(&out[..len], &mut back).unwrap();
        assert_eq!(back, plain);
        assert!(decompress(&out[..len], &mut vec![0; plain.len() - 1]).is_err());
        assert!(decompress(&out[..len], &mut vec![0; plain.len() + 1]).is_err());
        assert!(decompress(&out[..len - 1], &mut back).is_err());
    }
}
