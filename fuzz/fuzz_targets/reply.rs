//! libFuzzer around [`fuzz::reply`].
#![no_main]
#![allow(missing_docs)]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::reply(data));
