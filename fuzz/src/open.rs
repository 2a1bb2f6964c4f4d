//! Plaintexts under a known key: what an attacker with the token could send, or a broken sender.
//!
//! The first byte says what is made of the rest; what comes out is signed, so that every way
//! leads past the signature.

use std::rc::Rc;

use aes::Aes256;
use aes::cipher::block_padding::NoPadding;
use aes::cipher::{BlockModeEncrypt, KeyIvInit};
use base64::Engine;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD, STANDARD};
use wecom_callback_filter::wecom::callback::Callback;
use wecom_callback_filter::wecom::cipher::{CipherError, Ciphertext};
use wecom_callback_filter::wecom::credential::Credential;
use wecom_callback_filter::wecom::envelope::TimestampForm;
use wecom_callback_filter::wecom::message::{OpenError, Opened, Signed};

use crate::sealing::{CREDENTIALS, RECEIVE_IDS, ageless, credential, opened_reply, signed_query};
use crate::target::{Seed, Target, seed};
use crate::vectors::{self, text};

/// One byte of choices, then a plaintext or a piece of one.
pub(crate) struct Open;

impl Target for Open {
    fn name(&self) -> &'static str {
        "open"
    }

    fn run(&self, data: &[u8]) {
        open(data);
    }

    fn seeds(&self) -> Vec<Seed> {
        // As they are, to be padded, and as messages: the first byte says which.
        let mut seeds = vectors::seeds(|vector| {
            Some([b"\0", hex::decode(text(vector, "plaintext_hex")?).ok()?.as_slice()].concat())
        });
        seeds.extend(vectors::seeds(|vector| Some([b"\x02", text(vector, "message")?.as_bytes()].concat())));
        let head = b"\x010123456789abcdef\0\0\0\x02{}";
        seeds.push(seed("to-be-padded", [head, RECEIVE_IDS[0].as_bytes()].concat()));
        seeds.push(seed("addressed", [b"\x17\x06", RECEIVE_IDS[1].as_bytes(), b"{}"].concat()));
        for choices in [6, 10, 14] {
            seeds.push(seed(&format!("rotated-{choices}"), vec![choices, b'{', b'}']));
        }
        seeds
    }
}

fn open(data: &[u8]) {
    let Some((&choices, rest)) = data.split_first() else { return };
    let plaintext = match choices & 3 {
        0 => rest[..rest.len() / 16 * 16].to_vec(),
        1 => padded(rest.to_vec()),
        2 => framed(rest, RECEIVE_IDS[0].as_bytes()),
        _ => match rest.split_first() {
            Some((&at, rest)) => {
                let (id, message) = rest.split_at(usize::from(at).min(rest.len()));
                framed(message, id)
            }
            None => return,
        },
    };
    let sealer = credential(1);
    let text = encrypted(&plaintext, CREDENTIALS[1].1);
    let parsed = Ciphertext::parse(text.clone());
    assert_eq!(parsed.is_some(), !plaintext.is_empty() && plaintext.len() % 32 == 0);
    let Some(ciphertext) = parsed else { return };
    let query = signed_query(&sealer, &text);

    let accepted = RECEIVE_IDS.map(str::to_owned);
    // Another key under the same token, as after a rotation of the key alone.
    let rotated =
        Rc::new(Credential { token: sealer.token.clone(), encoding_aes_key: credential(0).encoding_aes_key.clone() });
    let credentials: &[_] = match choices & 12 {
        0 => &[Rc::clone(&sealer)],
        4 => &[credential(0), Rc::clone(&sealer)],
        8 => &[rotated, Rc::clone(&sealer)],
        _ => &[Rc::clone(&sealer), rotated],
    };
    assert!(Signed::verify(&query, &ciphertext, &[credential(0)]).is_err(), "another token's signature holds");
    let signed = Signed::verify(&query, &ciphertext, credentials).expect("its own signature does not hold");
    let expected = taken_apart(&plaintext).and_then(|(message, receive_id)| {
        let known = RECEIVE_IDS.iter().any(|id| id.as_bytes() == receive_id);
        // What stands behind anything but a whole message may be a piece of it.
        let is_whole = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(message).is_ok()
            || !message.is_empty() && message.iter().all(u8::is_ascii_digit);
        match known {
            true => Ok((message, receive_id)),
            false if is_whole => Err(OpenError::ReceiveId(receive_id.to_vec())),
            false => Err(OpenError::ReceiveId(Vec::new())),
        }
    });
    let fresh = signed.fresh(ageless()).expect("no age is too much");
    match (fresh.open(&accepted), expected) {
        (Ok(opened), Ok((message, receive_id))) => {
            assert_eq!(opened.message(), message);
            assert_eq!(opened.sealer().receive_id().as_bytes(), receive_id);
            comes_back(&opened, &sealer, choices & 16 != 0);
            if let Ok(callback) = Callback::read(opened) {
                let _ = callback.authenticate(ageless());
            }
        }
        // A second key that signed may have got further than the right one.
        (Err(error), Err(expected)) => assert!(credentials.len() > 1 || error == expected, "{error:?}, {expected:?}"),
        (opened, expected) => panic!("opened: {}, expected: {expected:?}", opened.is_ok()),
    }
}

/// Seals the message as a reply, and opens that.
fn comes_back(opened: &Opened, sealer: &Rc<Credential>, number: bool) {
    let form = if number { TimestampForm::Number } else { TimestampForm::String };
    let reply = opened.sealer().seal(opened.message(), 1_658_332_800, [7; 24], form).expect("cannot be sealed");
    let (message, receive_id) = opened_reply(&reply, sealer).expect("does not open again");
    assert!(message == opened.message() && receive_id == opened.sealer().receive_id());
}

/// Encrypts whole cipher blocks as they are.
fn encrypted(plaintext: &[u8], key: &str) -> String {
    // The 43rd character of a key has two bits to spare.
    let lenient = GeneralPurpose::new(&ALPHABET, NO_PAD.with_decode_allow_trailing_bits(true));
    let key: [u8; 32] = lenient.decode(key).expect("base64").try_into().expect("32 bytes");
    let iv: [u8; 16] = key[..16].try_into().expect("16 bytes");
    let mut buffer = plaintext.to_vec();
    let sealed = cbc::Encryptor::<Aes256>::new(&key.into(), &iv.into())
        .encrypt_padded::<NoPadding>(&mut buffer, plaintext.len())
        .expect("whole blocks");
    STANDARD.encode(sealed)
}

fn framed(message: &[u8], receive_id: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("short").to_be_bytes();
    padded([b"0123456789abcdef", length.as_slice(), message, receive_id].concat())
}

fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    let filler = 32 - bytes.len() % 32;
    bytes.extend(std::iter::repeat_n(u8::try_from(filler).expect("at most 32"), filler));
    bytes
}

/// The framing as the documents have it: 16 random bytes, a length, message, receive id, padding.
fn taken_apart(plaintext: &[u8]) -> Result<(&[u8], &[u8]), OpenError> {
    let filler = usize::from(plaintext[plaintext.len() - 1]);
    let (body, tail) = plaintext.split_at(plaintext.len() - filler.min(plaintext.len()));
    if filler == 0 || filler > 32 || tail != vec![tail[0]; filler] {
        return Err(OpenError::Cipher(CipherError::Padding));
    }
    if body.len() < 20 {
        return Err(OpenError::Cipher(CipherError::PlaintextLength));
    }
    let length = body[16..20].iter().fold(0_u64, |length, byte| length << 8 | u64::from(*byte));
    let end = 20 + length;
    if end > body.len() as u64 {
        return Err(OpenError::Cipher(CipherError::MessageLength));
    }
    let end = usize::try_from(end).expect("within the plaintext");
    Ok((&body[20..end], &body[end..]))
}
