//! The WeCom side: it seals and signs callbacks as WeCom does, or wrongly on purpose, sends them over
//! HTTP, and opens the replies.
//!
//! An [`Account`] seals an [`Event`] into a [`Request`], every part of which can be altered before
//! a [`Client`] sends it; the [`Answer`] is opened with the account once more.

mod account;
mod answer;
mod client;
mod event;
mod fresh;
mod reply;
mod request;

pub use self::account::{Account, Message};
pub use self::answer::Answer;
pub use self::client::{Client, Connecting, Trust, send_raw, send_raw_pieces};
pub use self::event::Event;
pub use self::fresh::{random_id, random_nonce, unix_now};
pub use self::reply::Reply;
pub use self::request::{Body, Request};
