//! Every way a callback can end, in one table: its word, what the caller gets, how loud the log is.
//!
//! The word is the `outcome` label of the metrics, the `wecom_outcome` of the access log and the
//! `error` of a rejection's body. The list is closed: no label ever carries a caller's bytes.

pub use log::Level;

use crate::wecom::callback::EventType;

/// What kind of answer an outcome asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request was taken; the answer says what the upstream, or a record, said.
    Served,
    /// Authenticated, but nobody decided: the type's own refusal, encrypted, where it has one;
    /// else this status.
    Failed(u32),
    /// Not authenticated, or not a callback: this status and a body that says the word.
    Rejected(u32),
    /// Rejected for what only the decrypted message tells: 403, and [`BAD_MESSAGE`] for all of them.
    /// Whoever has the token but not the key could otherwise decrypt a captured message, or forge one,
    /// by trying out altered ciphertexts.
    BadMessage,
    /// Nobody is left to be answered, or no answer would arrive as it was sent.
    Unanswered,
}

/// What a caller is told instead of the outcome's own word if the outcome is of the kind
/// [`Kind::BadMessage`].
pub const BAD_MESSAGE: &str = "bad_message";

/// Who can cause an outcome as often as they like. Each has a budget of log lines: the ones must not
/// hide what the others tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noise {
    /// Anyone who knows the URL.
    Strangers,
    /// Who holds a request of WeCom's, or the token; or whom a wrong setting keeps from being heard.
    Holders,
}

/// Which callbacks can end in an outcome. What is rejected before it is read has no type and counts
/// as [`EventType::Other`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Binds,
    AllButBinds,
    Unread,
    All,
}

/// Makes the enum, the list of its values and the table from one list: an outcome that is
/// missing from one of them does not compile.
macro_rules! outcomes {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $kind:expr, $level:ident, $of:ident;)*) => {
        /// How a callback ended.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Outcome {
            $($(#[$doc])* $name,)*
        }

        impl Outcome {
            /// All of them, in the order of the table.
            pub const ALL: [Self; [$($word),*].len()] = [$(Self::$name),*];

            /// The word.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }

            /// What kind of answer it asks for.
            pub const fn kind(self) -> Kind {
                match self {
                    $(Self::$name => $kind,)*
                }
            }

            /// How loud the log is about it: debug for what was served and for the noise of scanners,
            /// a warning for what was refused or failed.
            pub const fn level(self) -> Level {
                match self {
                    $(Self::$name => Level::$level,)*
                }
            }

            const fn of(self) -> Of {
                match self {
                    $(Self::$name => Of::$of,)*
                }
            }
        }
    };
}

outcomes! {
    /// A URL verification, echoed.
    Verified = "verified", Kind::Served, Debug, Unread;
    /// A bind that its decision endpoint approved.
    Bound = "bound", Kind::Served, Debug, Binds;
    /// A bind that its decision endpoint refused.
    Refused = "refused", Kind::Served, Debug, Binds;
    /// Another callback, taken by its upstream.
    Delivered = "delivered", Kind::Served, Debug, AllButBinds;
    /// A copy, answered with the first one's recorded answer.
    Duplicate = "duplicate", Kind::Served, Debug, All;
    /// A copy that came while the first was in flight, answered with the first one's answer.
    DuplicateInFlight = "duplicate_in_flight", Kind::Served, Debug, All;

    /// The upstream could not be reached, or its response ended early.
    UpstreamUnreachable = "upstream_unreachable", Kind::Failed(503), Warn, All;
    /// The upstream did not answer in time, last byte included.
    UpstreamTimeout = "upstream_timeout", Kind::Failed(503), Warn, All;
    /// The upstream answered with another status than 2xx.
    UpstreamStatus = "upstream_status", Kind::Failed(503), Warn, All;
    /// The upstream's 2xx is not an answer: HTML, broken JSON, wrong types, too large, cut off.
    UpstreamReply = "upstream_reply", Kind::Failed(503), Warn, All;
    /// No answer was there by the callback's own deadline.
    Deadline = "deadline", Kind::Failed(503), Warn, All;
    /// The table of records has no room: a live record is never dropped for a new one.
    RecordFull = "record_full", Kind::Failed(503), Warn, All;
    /// The table of records could not be read or written.
    RecordUnavailable = "record_unavailable", Kind::Failed(503), Warn, All;
    /// The reply could not be encrypted, for want of random numbers.
    SealFailed = "seal_failed", Kind::Rejected(503), Warn, All;

    /// A gRPC request, reset: Envoy would turn every answer to it into an empty 200.
    GrpcRequest = "grpc_request", Kind::Unanswered, Debug, Unread;
    /// Neither GET nor POST.
    BadMethod = "bad_method", Kind::Rejected(405), Debug, Unread;
    /// A query parameter is missing, repeated or malformed.
    BadQuery = "bad_query", Kind::Rejected(400), Debug, Unread;
    /// The body is not an envelope, or there is none.
    BadEnvelope = "bad_envelope", Kind::Rejected(400), Debug, Unread;
    /// The body is larger than `max_body_bytes`.
    BodyTooLarge = "body_too_large", Kind::Rejected(413), Debug, Unread;
    /// No body arrived after the headers.
    NoBody = "no_body", Kind::Rejected(503), Warn, Unread;
    /// The signature matches no credential.
    BadSignature = "bad_signature", Kind::Rejected(403), Warn, Unread;
    /// The signed `timestamp` is too far from now.
    Stale = "stale", Kind::Rejected(403), Warn, Unread;
    /// The ciphertext did not open under any credential that signed it.
    BadCiphertext = "bad_ciphertext", Kind::BadMessage, Warn, Unread;
    /// It opened, but is addressed to another receive id.
    BadReceiveId = "bad_receive_id", Kind::BadMessage, Warn, All;
    /// The message is not a callback.
    NotACallback = "not_a_callback", Kind::BadMessage, Warn, Unread;
    /// The encrypted `createtime` is too far from now, or is missing.
    StaleMessage = "stale_message", Kind::BadMessage, Warn, All;
    /// A URL verification whose echo is not 1 to 64 digits.
    NotAnEcho = "not_an_echo", Kind::BadMessage, Warn, Unread;
    /// The client left, or Envoy itself ended the request, before there was an answer.
    ClientGone = "client_gone", Kind::Unanswered, Warn, All;
}

impl Outcome {
    /// The word that a rejected caller is told.
    pub const fn told(self) -> &'static str {
        match self.kind() {
            Kind::BadMessage => BAD_MESSAGE,
            _ => self.name(),
        }
    }

    /// Who can cause it as often as they like: however often, it must not fill the log.
    pub const fn noise(self) -> Option<Noise> {
        match self {
            Self::SealFailed => None,
            Self::BadSignature => Some(Noise::Strangers),
            _ => match self.kind() {
                Kind::Rejected(_) | Kind::BadMessage | Kind::Unanswered => Some(Noise::Holders),
                Kind::Served | Kind::Failed(_) => None,
            },
        }
    }

    /// Whether a callback of that type can end so.
    pub const fn applies_to(self, event: EventType) -> bool {
        match self.of() {
            Of::Binds => matches!(event, EventType::Bind),
            Of::AllButBinds => !matches!(event, EventType::Bind),
            Of::Unread => matches!(event, EventType::Other),
            Of::All => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_words_are_distinct_and_fit_for_labels() {
        let words: BTreeSet<_> = Outcome::ALL.iter().map(|outcome| outcome.name()).collect();
        assert_eq!(words.len(), Outcome::ALL.len());
        assert!(words.iter().all(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
    }

    #[test]
    fn nothing_but_a_served_callback_is_ever_a_200_by_its_status() {
        for outcome in Outcome::ALL {
            match outcome.kind() {
                Kind::Failed(status) | Kind::Rejected(status) => assert!((400..600).contains(&status), "{outcome:?}"),
                Kind::Served | Kind::BadMessage | Kind::Unanswered => {}
            }
        }
    }

    #[test]
    fn what_only_the_message_tells_is_not_told() {
        let hidden: Vec<_> = Outcome::ALL.into_iter().filter(|outcome| outcome.told() != outcome.name()).collect();
        assert!(hidden.iter().all(|outcome| outcome.told() == "bad_message"));
        let names: Vec<_> = hidden.into_iter().map(Outcome::name).collect();
        assert_eq!(names, ["bad_ciphertext", "bad_receive_id", "not_a_callback", "stale_message", "not_an_echo"]);
    }
}
