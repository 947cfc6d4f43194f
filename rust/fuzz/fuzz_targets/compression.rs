//! Decompression of untrusted bytes.
#![no_main]

#[path = "../../core/tests/common/hostile.rs"]
mod hostile;
#[path = "../../core/tests/common/rig.rs"]
mod rig;
#[path = "../../core/tests/common/wire.rs"]
mod wire;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostile::compression(data));
