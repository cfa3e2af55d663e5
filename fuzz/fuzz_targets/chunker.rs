//! However a stream arrives, it is cut at the same places, and nothing of it is lost.
#![no_main]

use holdall::chunker::Chunker;
use holdall::format::config::ChunkerParams;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, Vec<u8>)| {
    let (step, seed) = input;
    let params = ChunkerParams { min_size: 4 << 10, avg_size: 8 << 10, max_size: 16 << 10 };
    let mut number = 1u64;
    let table = Box::new([0u64; 256].map(|_| {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        number
    }));
    let chunker = Chunker::new(table, params);
    let stream = seed.repeat(1 + (1 << 17) / seed.len().max(1));
    let mut whole = Vec::new();
    assert_eq!(chunker.cut(&stream, true, |chunk| whole.push(chunk.len())), stream.len());
    let (mut parts, mut held) = (Vec::new(), Vec::new());
    for part in stream.chunks(usize::from(step) + 1) {
        held.extend_from_slice(part);
        let done = chunker.cut(&held, false, |chunk| parts.push(chunk.len()));
        held.drain(..done);
    }
    chunker.cut(&held, true, |chunk| parts.push(chunk.len()));
    assert_eq!(whole, parts);
    assert!(whole.iter().all(|len| *len > 0 && *len <= 16 << 10));
});
