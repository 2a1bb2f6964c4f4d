//! What a worker needs of its surroundings, as one trait: time, randomness, the store that all
//! workers share, calls, answers, messages between workers, counters and the log.
//!
//! Envoy is one such host (`envoy/host.rs`); the tests and the fuzzer have a model of one.

use std::fmt;

use log::Level;

use crate::callout::{NotCalled, UpstreamRequest};
use crate::config::Endpoint;
use crate::dedup::{Listener, Store};
use crate::exchange::Ending;
use crate::outcome::Outcome;
use crate::report::Report;
use crate::wecom::callback::EventType;

/// The host's number of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

/// The host's number of a call to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u32);

/// The surroundings of one worker. The store is that of [`Store`].
pub trait Host: Store {
    /// Unix time in milliseconds.
    fn now_ms(&self) -> u64;

    /// Bytes of a cryptographic generator. `None` if there is none.
    fn random<const N: usize>(&self) -> Option<[u8; N]>;

    /// Makes a call, whose end will be told by [`Root::call_ended`](crate::worker::Root::call_ended). Only
    /// ever asked for by a [`Root`](crate::worker::Root).
    ///
    /// # Errors
    /// [`NotCalled`] if it cannot even begin: then no end is told.
    fn call(&self, request: &UpstreamRequest<'_>) -> Result<CallId, NotCalled>;

    /// Ends a request: leaves what is said of it for access logs and traces, and ends it as told. Says
    /// whether the host still knew the request.
    fn finish(&self, stream: StreamId, report: &Report, ending: &Ending) -> bool;

    /// Sends a message to a worker's queue, which is not read before this returns. Says whether the
    /// queue is there.
    fn send(&self, to: Listener, message: &[u8]) -> bool;

    /// Takes the next message from a queue.
    fn receive(&self, from: Listener) -> Option<Vec<u8>>;

    /// Has [`Root::tick`](crate::worker::Root::tick) called several times a second, or no more.
    fn tick(&self, on: bool);

    /// Of a replaced configuration, all that was in progress has ended: it may go. Only told after
    /// [`Root::retire`](crate::worker::Root::retire) has asked to stay.
    fn retired(&self);

    /// Counts something.
    fn count(&self, count: Count<'_>);

    /// Writes a line to the log. It is put into words only where somebody reads that level.
    fn log(&self, level: Level, line: fmt::Arguments<'_>);
}

/// Something to be counted.
#[derive(Debug, Clone, Copy)]
pub enum Count<'a> {
    /// A callback has ended.
    Ended {
        /// Whose it was.
        endpoint: &'a Endpoint,
        /// Its type.
        event: EventType,
        /// How it ended.
        outcome: Outcome,
        /// The code of the verdict that was sent on it.
        errcode: Option<u32>,
    },
    /// A call to an upstream has ended, or could not be made.
    Called {
        /// Whose callback it was for.
        endpoint: &'a Endpoint,
        /// Its type.
        event: EventType,
        /// How long it took, in milliseconds.
        elapsed_ms: u64,
    },
    /// The client of an authentic callback has left before it was answered.
    ClientLeft {
        /// Whose callback it was.
        endpoint: &'a Endpoint,
    },
    /// A copy has begun to wait for the first one's call.
    CopyWaits,
    /// A copy has stopped waiting, answered or not.
    CopyWaitsNoMore,
}
