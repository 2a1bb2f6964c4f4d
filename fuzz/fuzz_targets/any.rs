//! libFuzzer around the target that `FUZZ_TARGET` names.
#![no_main]
#![allow(missing_docs)]

use std::sync::LazyLock;

use fuzz::Target;

static TARGET: LazyLock<&dyn Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    fuzz::target(&name).expect("FUZZ_TARGET names a target of fuzz/src/lib.rs")
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET.run(data));
