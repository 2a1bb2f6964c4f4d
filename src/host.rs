//! What a worker needs of its surroundings, as one trait: time, randomness, the store that all
//! workers share, calls, answers, messages between workers, counters and the log.
//!
//! Envoy is one such host (`envoy/host.rs`); the tests and the fuzzer have a model of one.

use std::fmt;

use log::Level;

use crate::callout::{NotCalled, UpstreamRequest};
use crate::config::Endpoint;
use crate::dedup::shared::Trouble;
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
    /// An exchange with Redis has ended, or could not begin.
    Exchanged {
        /// What came of it.
        what: Exchanged,
        /// How long it took, in milliseconds.
        elapsed_ms: u64,
    },
    /// A callback is decided although Redis says nothing about it.
    DecidedLocally {
        /// Whose it is.
        endpoint: &'a Endpoint,
    },
    /// So many more settlements wait to be written to Redis again, or so many fewer.
    RepeatsWaiting(i64),
    /// A settlement was not written to Redis for so long that it is given up.
    SettlementDropped,
}

/// Makes the enum and its words from one list.
macro_rules! exchanged {
    ($($(#[$doc:meta])* $name:ident = $word:literal;)*) => {
        /// What came of an exchange with Redis.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Exchanged {
            $($(#[$doc])* $name,)*
        }

        impl Exchanged {
            /// All of them.
            pub const ALL: [Self; [$($word),*].len()] = [$(Self::$name),*];

            /// Its word, for the metrics.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

exchanged! {
    /// A record was claimed, and is this process's.
    Claimed = "claimed";
    /// Another replica has claimed it.
    Pending = "pending";
    /// Another replica's call has ended.
    Settled = "settled";
    /// It is an earlier claim of this process's, whose answer was lost.
    Orphan = "orphan";
    /// There is none: given up, or expired.
    Absent = "absent";
    /// The end of a call was written.
    Written = "written";
    /// It was not written, as the record is no longer this claim's.
    Superseded = "superseded";
    /// A record was given up.
    Released = "released";
    /// Redis was greeted.
    Greeted = "greeted";
    /// Redis could not be reached, or gave no whole answer in time.
    Unreachable = "unreachable";
    /// Redis refused a command.
    Refused = "refused";
    /// What came is none of Redis's answers.
    Unreadable = "unreadable";
    /// The record does not hold under the secret.
    Forged = "forged";
}

impl Exchanged {
    /// What a trouble counts as.
    pub const fn of(trouble: &Trouble) -> Self {
        match trouble {
            Trouble::NotBegun | Trouble::NotConnected | Trouble::NoAnswer => Self::Unreachable,
            Trouble::Refused(_) => Self::Refused,
            Trouble::Unreadable | Trouble::NoRandom => Self::Unreadable,
            Trouble::Forged => Self::Forged,
        }
    }
}
