//! What workers write to each other's queues, and to their own.

use crate::dedup::{RecordKey, record};
use crate::reply::Reply;

/// A message in a worker's queue.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// To oneself: requests have arrived.
    Wake,
    /// To who waits for a record: its call has ended with this.
    Settled(RecordKey, Reply),
}

const WAKE: u8 = 0;
const SETTLED: u8 = 1;

impl Notice {
    /// The bytes to send.
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Wake => vec![WAKE],
            Self::Settled(key, reply) => {
                [&[SETTLED], key.as_bytes().as_slice(), record::encode(reply).as_slice()].concat()
            }
        }
    }

    /// Reads what [`Notice::encode`] wrote. `None` for anything else.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first()? {
            (&WAKE, []) => Some(Self::Wake),
            (&SETTLED, settlement) => {
                let (key, reply) = settlement.split_first_chunk::<16>()?;
                Some(Self::Settled(RecordKey::from_bytes(*key), record::decode(reply)))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::restriction)]
    use super::*;
    use crate::wecom::verdict::Verdict;

    #[test]
    fn a_notice_arrives_as_it_was_sent() {
        let verdict = Reply::Verdict(Verdict::new(4, None));
        for notice in [Notice::Wake, Notice::Settled(RecordKey::from_bytes([7; 16]), verdict)] {
            assert_eq!(Notice::decode(&notice.encode()), Some(notice));
        }
        for bytes in [&b""[..], b"\0x", b"\x01short", b"\x02"] {
            assert_eq!(Notice::decode(bytes), None, "{bytes:?}");
        }
    }
}
