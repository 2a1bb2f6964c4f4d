//! Whoever has the token but not the key, and knows a block of what a captured ciphertext says, can put any 16 bytes
//! in that block's place, with what stands behind it untouched: the first block of a message is random, so nobody
//! sees what becomes of it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use testbed::wecom::{Account, Event, Message, Request};

use crate::Edge;
use crate::padding_oracle::seen;

const BLOCK: usize = 16;

/// A captured request, and what its sender sealed, of which a test may use what an attacker knows.
struct Captured {
    request: Request,
    cipher: Vec<u8>,
    plain: Vec<u8>,
    message_end: usize,
}

impl Captured {
    fn of(account: &Account, event: &Event) -> Self {
        let request = account.seal(event);
        let cipher = STANDARD.decode(&request.encrypt).unwrap();
        let message = event.bytes(account);
        // The first block is random.
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        let mut plain = [&[0; BLOCK], length.as_slice(), &message].concat();
        let message_end = plain.len();
        plain.extend(account.receive_id().bytes());
        Self { request, cipher, plain, message_end }
    }

    /// The message that begins with these bytes, in the place of those of a known block, and goes on as the
    /// captured one does behind it.
    fn beginning_with(&self, head: &[u8], block: usize, token: &Account) -> Request {
        let at = block * BLOCK;
        let length = u32::try_from(self.message_end - at - 4).unwrap();
        let wanted = [&length.to_be_bytes(), head].concat();
        assert_eq!(wanted.len(), BLOCK);
        let mut cipher = self.cipher[at - BLOCK..].to_vec();
        for (index, wanted) in wanted.iter().enumerate() {
            cipher[index] ^= self.plain[at + index] ^ wanted;
        }
        let mut request = self.request.clone();
        request.encrypt = STANDARD.encode(cipher);
        let body = serde_json::json!({ "tousername": "x", "encrypt": request.encrypt }).to_string();
        request.resign(token).with_body(body)
    }

    /// The odd blocks: a ciphertext has an even number of blocks, and begins with the one before.
    fn blocks(&self) -> impl Iterator<Item = usize> {
        (1..self.message_end / BLOCK).step_by(2)
    }
}

#[tokio::test]
async fn a_command_that_is_cut_off_behind_its_id_and_time_is_not_carried_out() {
    let edge = Edge::start().await;
    // However long ago it was captured: its time is cut off too.
    for event in [Event::remote_open_door("sn-captured").createtime(1), Event::unbind("sn-captured")] {
        let captured = Captured::of(&edge.account, &event);
        for block in captured.blocks() {
            // What is left of base_info is within a text, or a member of another name.
            for head in [br#"{"a":{"bb":""#, br#"{"a":{"bc":""#, br#"{"a":{"b":1,"#] {
                let request = captured.beginning_with(head, block, &edge.account);
                let (status, _, body) = seen(&edge, &edge.client, &request).await;
                let told = (status, body.as_str());
                assert_eq!(told, (403, r#"{"error":"bad_message","request_id":"ID"}"#), "cut behind block {block}");
            }
        }
    }
    assert_eq!(edge.ended("other", "bad_ciphertext").await.unwrap(), 0, "it opens, wherever it is cut");
    for event in ["remote_open_door", "unbind"] {
        assert!(edge.ended(event, "stale_message").await.unwrap() > 0, "no cut was a whole {event} but for its time");
    }
    assert!(edge.backend.requests().is_empty(), "{:?}", edge.backend.requests());
    edge.end().await;
}
