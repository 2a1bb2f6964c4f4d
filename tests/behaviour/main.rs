//! What the filter promises, tested against a real Envoy with the compiled module: one file per
//! behaviour, each test a sentence of the contract.
//!
//! `make test` builds the module and fetches Envoy.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod body;
mod capabilities;
mod clients;
mod configuration;
mod failures;
mod func_e;
mod missing_flag;
mod other_events;
mod passthrough;
mod random;
mod rejections;
mod support;
mod url_verification;
mod verdicts;
