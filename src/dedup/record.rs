//! One record: what it says, and the bytes that say so, in the table and between workers.

use crate::reply::{Relayed, Reply};
use crate::wecom::callback::EventType;
use crate::wecom::verdict::{MAX_ERRMSG_LEN, Verdict};

/// Most bytes that a record keeps of a reply: a tag, a code and a text; objects up to the same length.
pub const MAX_REPLY_LEN: usize = 5 + MAX_ERRMSG_LEN;

const FAILED: u8 = 0;
const SUCCESS: u8 = 1;
const VERDICT: u8 = 2;
const OBJECT: u8 = 3;

/// What the record of a callback says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// There is none: the callback was never claimed, its claim was given up, or its record has
    /// expired.
    Absent,
    /// It is claimed, and its call has not ended.
    InFlight,
    /// Its call has ended with this; as failed, too, where it never came back.
    Settled(Reply),
}

/// The bytes of a reply.
pub fn encode(reply: &Reply) -> Vec<u8> {
    match reply {
        Reply::Failed => vec![FAILED],
        Reply::Relayed(Relayed::Success) => vec![SUCCESS],
        Reply::Relayed(Relayed::Object(object)) => [&[OBJECT], object.as_slice()].concat(),
        Reply::Verdict(verdict) => {
            [&[VERDICT], verdict.errcode().to_be_bytes().as_slice(), verdict.errmsg().as_bytes()].concat()
        }
    }
}

/// Reads what [`encode`] wrote. Anything else decodes as [`Reply::Failed`].
pub fn decode(bytes: &[u8]) -> Reply {
    match bytes.split_first() {
        Some((&SUCCESS, [])) => Reply::Relayed(Relayed::Success),
        Some((&VERDICT, content)) => verdict(content).map_or(Reply::Failed, Reply::Verdict),
        Some((&OBJECT, object)) => Reply::Relayed(Relayed::Object(object.to_vec())),
        _ => Reply::Failed,
    }
}

/// The reply as a record keeps it, for copies that come later: an object that is too long for it
/// becomes the type's own refusal where there is one, since `success` would say something else, and
/// `success` elsewhere.
pub fn kept(reply: &Reply, event: EventType) -> Reply {
    match reply {
        Reply::Relayed(Relayed::Object(object)) if object.len() >= MAX_REPLY_LEN => match event.refusal() {
            Some(_) => Reply::Failed,
            None => Reply::Relayed(Relayed::Success),
        },
        reply => reply.clone(),
    }
}

fn verdict(content: &[u8]) -> Option<Verdict> {
    let (code, text) = content.split_first_chunk::<4>()?;
    let text = std::str::from_utf8(text).ok()?;
    Some(Verdict::new(u32::from_be_bytes(*code), Some(text.to_owned())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::restriction)]
    use super::*;

    #[test]
    fn a_record_keeps_what_it_can() {
        for reply in [
            Reply::Failed,
            Reply::Relayed(Relayed::Success),
            Reply::Verdict(Verdict::new(0, None)),
            Reply::Verdict(Verdict::new(u32::MAX, Some("设".repeat(32)))),
            Reply::Verdict(Verdict::new(77, None)),
            Reply::Relayed(Relayed::Object(vec![b'x'; 100])),
        ] {
            assert!(encode(&reply).len() <= MAX_REPLY_LEN, "{reply:?}");
            assert_eq!(decode(&encode(&reply)), reply);
            assert_eq!(kept(&reply, EventType::UserScan), reply);
        }
        let too_long = Reply::Relayed(Relayed::Object(vec![b'x'; 101]));
        assert_eq!(decode(&encode(&too_long)), too_long, "copies in flight get it whole");
        for (event, _) in EventType::ALL {
            let as_kept = if event.refusal().is_some() { Reply::Failed } else { Reply::Relayed(Relayed::Success) };
            assert_eq!(kept(&too_long, event), as_kept, "{event:?}");
        }
        for bytes in [&b""[..], b"\x01x", b"\x02", b"\x02\0\0\0", b"\x02\0\0\0\0\xff", b"\x04"] {
            assert_eq!(decode(bytes), Reply::Failed, "{bytes:?}");
        }
    }

    /// Workers of two versions share the table while one replaces the other.
    #[test]
    fn the_bytes_of_a_reply_stay_what_they_are() {
        assert_eq!(encode(&Reply::Failed), [0]);
        assert_eq!(encode(&Reply::Relayed(Relayed::Success)), [1]);
        assert_eq!(encode(&Reply::Verdict(Verdict::new(4, Some("no".into())))), b"\x02\0\0\0\x04no");
        assert_eq!(encode(&Reply::Relayed(Relayed::Object(b"{}".to_vec()))), b"\x03{}");
    }
}
