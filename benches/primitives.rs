//! How fast one core is at what every backup consists of: `cargo bench --bench primitives`. The
//! sum of the times a byte is what a pipeline cannot be faster than.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use holdall::chunker::Chunker;
use holdall::compress::{DEFAULT_LEVEL, bound, compress, decompress};
use holdall::crypto::{Key, KeyRing, open_bulk, seal_bulk};
use holdall::format::config::ChunkerParams;
use holdall::world::{SeededWorld, Time, World};

/// A frame, as they usually are.
const FRAME_LEN: usize = 1 << 20;
/// Enough for many cuts.
const STREAM_LEN: usize = 16 << 20;

fn main() {
    divan::main();
}

fn world() -> SeededWorld {
    SeededWorld::new(1, Time::default())
}

fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    world().random(&mut bytes);
    bytes
}

/// What compresses about as a dump does: lines of words that come again and numbers that do not.
fn text(len: usize) -> Vec<u8> {
    let noise = noise(len);
    let mut text = Vec::with_capacity(len + 64);
    for bytes in noise.chunks_exact(4).cycle() {
        if text.len() >= len {
            break;
        }
        let number = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let word = number % 512;
        let line = format!("({number}, 'word{word}', '{}', {}),\n", word * 7_919, number >> 20);
        text.extend_from_slice(line.as_bytes());
    }
    text.truncate(len);
    text
}

#[divan::bench]
fn fastcdc(bencher: Bencher) {
    let gear = KeyRing::generate(&world()).gear_table().expect("a new ring has every key");
    let (chunker, data) = (Chunker::new(gear, ChunkerParams::DEFAULT), noise(STREAM_LEN));
    bencher
        .counter(BytesCount::new(data.len()))
        .bench_local(|| chunker.cut(black_box(&data), true, |chunk| _ = black_box(chunk)));
}

#[divan::bench(args = [4 << 10, 64 << 10, 1 << 20])]
fn keyed_blake3(bencher: Bencher, len: usize) {
    let (ring, data) = (KeyRing::generate(&world()), noise(len));
    bencher.counter(BytesCount::new(len)).bench_local(|| ring.data_id(black_box(&data)));
}

#[divan::bench]
fn seal(bencher: Bencher) {
    let mut data = noise(FRAME_LEN);
    bencher
        .counter(BytesCount::new(FRAME_LEN))
        .bench_local(|| seal_bulk(&Key::new([1; 32]), &[2; 24], b"frame", black_box(&mut data)));
}

#[divan::bench]
fn open(bencher: Bencher) {
    let mut sealed = noise(FRAME_LEN);
    let tag = seal_bulk(&Key::new([1; 32]), &[2; 24], b"frame", &mut sealed);
    bencher
        .counter(BytesCount::new(FRAME_LEN))
        .with_inputs(|| sealed.clone())
        .bench_local_refs(|data| open_bulk(&Key::new([1; 32]), &[2; 24], b"frame", data, &tag));
}

/// Level 1 is `fast`, level 3 the default.
#[divan::bench(args = [1, DEFAULT_LEVEL])]
fn compress_text(bencher: Bencher, level: i32) {
    compressing(bencher, level, &text(FRAME_LEN));
}

#[divan::bench(args = [1, DEFAULT_LEVEL])]
fn compress_noise(bencher: Bencher, level: i32) {
    compressing(bencher, level, &noise(FRAME_LEN));
}

fn compressing(bencher: Bencher, level: i32, data: &[u8]) {
    let mut out = vec![0; bound(data.len())];
    bencher
        .counter(BytesCount::new(data.len()))
        .bench_local(|| compress(black_box(data), level, &mut out));
}

#[divan::bench]
fn decompress_text(bencher: Bencher) {
    let data = text(FRAME_LEN);
    let mut out = vec![0; bound(data.len())];
    let len = compress(&data, DEFAULT_LEVEL, &mut out);
    let len = len.ok().flatten().expect("text compresses");
    let mut back = vec![0; data.len()];
    bencher
        .counter(BytesCount::new(data.len()))
        .bench_local(|| decompress(black_box(&out[..len]), &mut back));
}
