//! What the filter must hold to, whatever bytes and whatever order of events.
//!
//! Each target takes bytes and panics if the filter broke a promise: not only that nothing traps,
//! but that what was read is what is there, told by a second and independent reading. libFuzzer
//! searches for such bytes (`make fuzz`), and `tests/fuzz_replay.rs` runs the seeds and some
//! thousand variations of them with every `make test`.
//!
//! | target | bytes are | held against |
//! |---|---|---|
//! | [`query`] | a query string | its own values, encoded again |
//! | [`envelope`] | a request's body | `serde_json` and strict base64 |
//! | [`open`] | a plaintext, sealed and signed with a key that is known | another reading of the framing |
//! | [`callback`] | a decrypted message | `serde_json` |
//! | [`reply`] | an upstream's response, and a record's content | `serde_json`, and the way back |
//! | [`redis`] | what comes back from Redis | another reading of it, and the values that replicas wrote |
//! | [`config`] | a configuration, JSON or protobuf | its bounds, and the other form |
//! | [`exchange`] | requests, responses, troubles and time, in any order | the two rules above all others |

#![forbid(unsafe_code)]

mod callback;
mod config;
mod envelope;
pub mod exchange;
mod open;
mod query;
mod redis;
mod reply;
mod sealing;
mod target;
mod vectors;

pub use self::sealing::SECRET;
pub use self::target::{Seed, Target};

/// All of them. A target that does not stand here is none.
pub const TARGETS: [&dyn Target; 8] = [
    &query::Query,
    &envelope::Envelope,
    &open::Open,
    &callback::Callback,
    &reply::Replies,
    &redis::Answers,
    &config::Configurations,
    &exchange::Exchange,
];

/// The target of that name.
pub fn target(name: &str) -> Option<&'static dyn Target> {
    TARGETS.into_iter().find(|target| target.name() == name)
}
