//! Headers and bodies of frames.
#![no_main]

use holdall::format::frame::{FrameBody, FrameHeader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok((header, rest)) = FrameHeader::decode(bytes) {
        assert_eq!([&header.encode()[..], rest].concat(), bytes);
    }
    if let Ok((body, stored)) = FrameBody::decode(bytes) {
        let mut again = Vec::new();
        body.encode(&mut again);
        again.extend_from_slice(stored);
        assert!(bytes.starts_with(&again));
    }
});
