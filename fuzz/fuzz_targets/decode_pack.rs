//! Packs: header, footer, trailer, and the scan for frames.
#![no_main]

use holdall::format::codec::Take;
use holdall::format::pack::{Trailer, decode_footer, decode_header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = decode_header(bytes);
    let _ = decode_footer(bytes);
    for (start, len) in holdall::pack::scan_frames(bytes) {
        assert!(len > 0 && start + len <= bytes.len());
    }
    let mut take = Take::new(bytes);
    if let Ok(trailer) = Trailer::decode(&mut take) {
        let mut again = Vec::new();
        trailer.encode(&mut again);
        assert_eq!(again, bytes[..bytes.len() - take.rest().len()]);
    }
});
