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
//! | [`config`] | a configuration, JSON or protobuf | its bounds, and the other form |
//! | [`exchange`] | requests, responses, troubles and time, in any order | the two rules above all others |

#![forbid(unsafe_code)]

mod callback;
mod config;
mod envelope;
mod exchange;
mod open;
mod query;
mod reply;
pub mod seeds;

pub use callback::callback;
pub use config::config;
pub use envelope::envelope;
pub use exchange::exchange;
pub use open::open;
pub use query::query;
pub use reply::reply;

/// A target: its name, and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 7] = [
    ("query", query),
    ("envelope", envelope),
    ("open", open),
    ("callback", callback),
    ("reply", reply),
    ("config", config),
    ("exchange", exchange),
];

/// What the secrets of every target's inputs begin with, to look for where they must not be.
pub const SECRET: &str = "S3CRET";

/// Two keys and their tokens. Public: they seal nothing but inputs to these targets.
pub(crate) const CREDENTIALS: [(&str, &str); 2] = [
    ("S3CRETnew", "kWxPEV2UEDyxWpmPdKC3F4dgPDmOvfKX1HGnEUDS1aR"),
    ("S3CRETold", "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C"),
];

/// The ids that are accepted behind a message.
pub(crate) const RECEIVE_IDS: [&str; 2] = ["2000000000000001", "ww1234"];
