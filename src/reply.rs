//! What a callback is answered with, before it is sealed for anyone.
//!
//! A verdict on a bind and the reply to another callback are different types: a bind that is
//! answered `success` does not compile.

use crate::wecom::verdict::Verdict;

/// The plaintext answer to a callback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A bind was decided.
    Verdict(Verdict),
    /// Another callback was taken by its upstream.
    Relayed(Relayed),
    /// Nobody decided. The type's own refusal, or an error.
    Failed,
}

/// What an upstream says to another callback than a bind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relayed {
    /// A JSON object, to be sealed as it is.
    Object(Vec<u8>),
    /// Taken, nothing to say: plain `success`.
    Success,
}

impl Reply {
    /// What it says about a bind. `None` if it says nothing about one: fail closed.
    pub fn into_verdict(self) -> Option<Verdict> {
        match self {
            Self::Verdict(verdict) => Some(verdict),
            Self::Relayed(_) | Self::Failed => None,
        }
    }

    /// What it says about another callback. `None` if it says nothing about one: the type's refusal.
    pub fn into_relayed(self) -> Option<Relayed> {
        match self {
            Self::Relayed(relayed) => Some(relayed),
            Self::Verdict(_) | Self::Failed => None,
        }
    }
}
