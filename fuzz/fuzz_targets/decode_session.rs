//! Session records, plans and sweep records, and the keys that they lie under.
#![no_main]

use holdall::format::epoch::{Plan, Sweep, epoch_key, epoch_of_key};
use holdall::format::session::{Session, session_of_key};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(session) = Session::decode(bytes) {
        assert_eq!(Session::decode(&session.encode()), Ok(session));
    }
    if let Ok(plan) = Plan::decode(bytes) {
        assert_eq!(Plan::decode(&plan.encode()), Ok(plan));
    }
    if let Ok(sweep) = Sweep::decode(bytes) {
        assert_eq!(Sweep::decode(&sweep.encode()), Ok(sweep));
    }
    if let Ok(key) = std::str::from_utf8(bytes) {
        let _ = session_of_key(key);
        if let Some((number, step)) = epoch_of_key(key) {
            assert_eq!(epoch_key(number, step), key);
        }
    }
});
