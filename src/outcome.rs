//! Every way a callback can end, in one table: its word, what the caller gets, how loud the log is.
//!
//! The word is the `outcome` label of the metrics, the `wecom_outcome` of the access log and the
//! `error` of a rejection's body. The list is closed: no label ever carries a caller's bytes.

use crate::wecom::callback::EventType;

/// How a callback ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// A URL verification, echoed.
    Verified,
    /// A bind that its decision endpoint approved.
    Bound,
    /// A bind that its decision endpoint refused.
    Refused,
    /// Another callback, taken by its upstream.
    Delivered,
    /// A copy, answered with the first one's recorded answer.
    Duplicate,
    /// A copy that came while the first was in flight, answered with the first one's answer.
    DuplicateInFlight,

    /// The upstream could not be reached, or its response ended early.
    UpstreamUnreachable,
    /// The upstream did not answer in time, last byte included.
    UpstreamTimeout,
    /// The upstream answered with another status than 2xx.
    UpstreamStatus,
    /// The upstream's 2xx is no answer: HTML, broken JSON, wrong types, too large, cut off.
    UpstreamReply,
    /// No answer was there by the callback's own deadline.
    Deadline,
    /// The record has no room: a live record is never dropped for a new one.
    RecordFull,
    /// The record could not be read or written.
    RecordUnavailable,
    /// The reply could not be encrypted, for want of random numbers.
    SealFailed,

    /// Neither GET nor POST.
    BadMethod,
    /// A query parameter is missing, repeated or misshapen.
    BadQuery,
    /// The body is no envelope, or there is none.
    BadEnvelope,
    /// The body is larger than `max_body_bytes`.
    BodyTooLarge,
    /// No body arrived behind the headers.
    NoBody,
    /// The signature matches no credential.
    BadSignature,
    /// `timestamp` or `createtime` is too far from now, or a bind has no `createtime`.
    Stale,
    /// The ciphertext did not open under any credential that signed it.
    BadCiphertext,
    /// It opened, but is addressed to another receive id.
    BadReceiveId,
    /// The message is no callback.
    NotACallback,
    /// A URL verification whose echo is not 1 to 64 digits.
    NotAnEcho,
    /// The client left, or Envoy ended the request by itself, before there was an answer.
    ClientGone,
}

/// What kind of answer an outcome asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request was taken; the answer says what the upstream, or the record, said.
    Served,
    /// Authenticated, but nobody decided: the type's own refusal, encrypted, where it has one;
    /// else this status.
    Failed(u32),
    /// Not authenticated, or no callback: this status and a body that says the word.
    Rejected(u32),
    /// Nobody is left to be answered.
    Unanswered,
}

/// How loud the log is about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Served, or noise of scanners.
    Debug,
    /// Refused or failed.
    Warn,
}

impl Outcome {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 26] = [
        Self::Verified,
        Self::Bound,
        Self::Refused,
        Self::Delivered,
        Self::Duplicate,
        Self::DuplicateInFlight,
        Self::UpstreamUnreachable,
        Self::UpstreamTimeout,
        Self::UpstreamStatus,
        Self::UpstreamReply,
        Self::Deadline,
        Self::RecordFull,
        Self::RecordUnavailable,
        Self::SealFailed,
        Self::BadMethod,
        Self::BadQuery,
        Self::BadEnvelope,
        Self::BodyTooLarge,
        Self::NoBody,
        Self::BadSignature,
        Self::Stale,
        Self::BadCiphertext,
        Self::BadReceiveId,
        Self::NotACallback,
        Self::NotAnEcho,
        Self::ClientGone,
    ];

    const fn row(self) -> (&'static str, Kind, Level) {
        use Kind::{Failed, Rejected, Served, Unanswered};
        use Level::{Debug, Warn};
        match self {
            Self::Verified => ("verified", Served, Debug),
            Self::Bound => ("bound", Served, Debug),
            Self::Refused => ("refused", Served, Debug),
            Self::Delivered => ("delivered", Served, Debug),
            Self::Duplicate => ("duplicate", Served, Debug),
            Self::DuplicateInFlight => ("duplicate_in_flight", Served, Debug),
            Self::UpstreamUnreachable => ("upstream_unreachable", Failed(503), Warn),
            Self::UpstreamTimeout => ("upstream_timeout", Failed(503), Warn),
            Self::UpstreamStatus => ("upstream_status", Failed(503), Warn),
            Self::UpstreamReply => ("upstream_reply", Failed(503), Warn),
            Self::Deadline => ("deadline", Failed(503), Warn),
            Self::RecordFull => ("record_full", Failed(503), Warn),
            Self::RecordUnavailable => ("record_unavailable", Failed(503), Warn),
            Self::SealFailed => ("seal_failed", Rejected(503), Warn),
            Self::BadMethod => ("bad_method", Rejected(405), Debug),
            Self::BadQuery => ("bad_query", Rejected(400), Debug),
            Self::BadEnvelope => ("bad_envelope", Rejected(400), Debug),
            Self::BodyTooLarge => ("body_too_large", Rejected(413), Debug),
            Self::NoBody => ("no_body", Rejected(503), Warn),
            Self::BadSignature => ("bad_signature", Rejected(403), Warn),
            Self::Stale => ("stale", Rejected(403), Warn),
            Self::BadCiphertext => ("bad_ciphertext", Rejected(403), Warn),
            Self::BadReceiveId => ("bad_receive_id", Rejected(403), Warn),
            Self::NotACallback => ("not_a_callback", Rejected(400), Warn),
            Self::NotAnEcho => ("not_an_echo", Rejected(403), Warn),
            Self::ClientGone => ("client_gone", Unanswered, Warn),
        }
    }

    /// The word.
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    /// What kind of answer it asks for.
    pub const fn kind(self) -> Kind {
        self.row().1
    }

    /// How loud the log is about it.
    pub const fn level(self) -> Level {
        self.row().2
    }

    /// Whether a callback of that type can end so. What is rejected unread has no type and counts
    /// as [`EventType::Other`].
    pub const fn applies_to(self, event: EventType) -> bool {
        let bind = matches!(event, EventType::Bind);
        let other = matches!(event, EventType::Other);
        match self {
            Self::Bound | Self::Refused => bind,
            Self::Delivered => !bind,
            Self::Stale | Self::BadReceiveId | Self::SealFailed | Self::ClientGone => true,
            Self::Verified => other,
            _ => match self.kind() {
                Kind::Rejected(_) => other,
                Kind::Served | Kind::Failed(_) | Kind::Unanswered => true,
            },
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
                Kind::Served | Kind::Unanswered => {}
            }
        }
    }
}
