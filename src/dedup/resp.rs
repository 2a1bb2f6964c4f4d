//! Redis's protocol, as far as it is needed: commands out, replies in.
//!
//! RESP version 2, <https://redis.io/docs/latest/develop/reference/protocol-spec/>. A reply is taken
//! only if it is whole; whoever sends a batch knows how many there must be.

/// A reply of Redis's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply<'a> {
    /// `+OK`.
    Simple(&'a [u8]),
    /// `-ERR …`: the whole line.
    Error(&'a [u8]),
    /// `:1`.
    Integer(i64),
    /// `$3`, or nil.
    Bulk(Option<&'a [u8]>),
}

/// Adds a command to a batch.
pub fn command(batch: &mut Vec<u8>, words: &[&[u8]]) {
    batch.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        batch.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        batch.extend_from_slice(word);
        batch.extend_from_slice(b"\r\n");
    }
}

/// Most replies to one batch.
pub const MAX_REPLIES: usize = 8;

/// Reads replies, up to [`MAX_REPLIES`]. `None` if the last one is cut off, or there is anything else.
pub fn replies(mut bytes: &[u8]) -> Option<Vec<Reply<'_>>> {
    let mut replies = Vec::new();
    while !bytes.is_empty() {
        if replies.len() == MAX_REPLIES {
            return None;
        }
        let (reply, rest) = reply(bytes)?;
        replies.push(reply);
        bytes = rest;
    }
    Some(replies)
}

fn reply(bytes: &[u8]) -> Option<(Reply<'_>, &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    let (line, rest) = line(rest)?;
    let reply = match kind {
        b'+' => Reply::Simple(line),
        b'-' => Reply::Error(line),
        b':' => Reply::Integer(number(line)?),
        b'$' => match number(line)? {
            -1 => Reply::Bulk(None),
            length => {
                let (content, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                return Some((Reply::Bulk(Some(content)), rest.strip_prefix(b"\r\n")?));
            }
        },
        _ => return None,
    };
    Some((reply, rest))
}

fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    let (line, rest) = bytes.split_at_checked(end)?;
    Some((line, rest.strip_prefix(b"\r\n")?))
}

fn number(line: &[u8]) -> Option<i64> {
    std::str::from_utf8(line).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::restriction)]
    use super::*;

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        let mut batch = Vec::new();
        command(&mut batch, &[b"SET", b"k", b"\r\n\0"]);
        command(&mut batch, &[b"QUIT"]);
        assert_eq!(batch, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\n\r\n\0\r\n*1\r\n$4\r\nQUIT\r\n");
    }

    #[test]
    fn replies_are_read_whole_and_counted() {
        let bytes = b"+OK\r\n-ERR no\r\n:-7\r\n$-1\r\n$4\r\n\r\n\0x\r\n$0\r\n\r\n";
        let expected = [
            Reply::Simple(b"OK"),
            Reply::Error(b"ERR no"),
            Reply::Integer(-7),
            Reply::Bulk(None),
            Reply::Bulk(Some(b"\r\n\0x")),
            Reply::Bulk(Some(b"")),
        ];
        assert_eq!(replies(bytes).unwrap(), expected);
        for cut in 0..bytes.len() {
            assert_ne!(replies(&bytes[..cut]).map_or(0, |replies| replies.len()), 6, "cut after {cut} bytes");
        }
        assert_eq!(replies(b"").unwrap(), []);
        assert_eq!(replies(&b":1\r\n".repeat(8)).unwrap().len(), 8);
        assert_eq!(replies(&b":1\r\n".repeat(9)), None);
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for bytes in [
            &b"OK\r\n"[..],
            b"+OK\n",
            b":x\r\n",
            b":\r\n",
            b"$-2\r\n",
            b"$1\r\nab\r\n",
            b"$99999999999\r\n",
            b"*1\r\n:1\r\n",
            b"_\r\n",
        ] {
            assert_eq!(replies(bytes), None, "{}", bytes.escape_ascii());
        }
    }
}
