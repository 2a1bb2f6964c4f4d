//! The WeCom hardware callback protocol, pure: no Envoy, no clock, no randomness of its own.
//!
//! Bytes become a [`query::SignedQuery`] and a [`cipher::Ciphertext`] (shape checked), those a
//! [`message::Signed`] (signature checked), that a [`message::Fresh`] (age checked), that a
//! [`message::Opened`] (cipher and receive id checked), that a [`callback::Callback`] (meaning
//! known), and that a [`callback::Authentic`] (what it says about itself checked); the way back is a
//! [`verdict::Verdict`] sealed by the [`message::Sealer`] that the opening gave. Each step takes the
//! type that the one before it made and has no other constructor, so a skipped step does not compile.
//!
//! Sources: WeCom developer documentation, documents 90930 and 90968 (URL verification, signature
//! and cipher), 96062 (hardware callbacks), 95987 (`bind`) and those of the single callback types.

pub mod callback;
pub mod cipher;
pub mod credential;
pub mod envelope;
pub mod freshness;
mod json;
pub mod message;
pub mod query;
pub mod signature;
pub mod verdict;
