//! docs/backend.md, the page for whoever writes what the filter calls: its samples, its `curl`, and the
//! three backends on it, compiled and run behind the filter in the real Envoy.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod moving;
mod page;
mod program;
mod running;
mod samples;
