//! Thousands of small changes to a valid bind, at every layer, signed again or not.
//!
//! A second, more lenient implementation in this file works out which message a changed request is
//! validly signed for, if any. Whatever the filter accepts must at least pass that one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use aes::cipher::block_padding::NoPadding;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, InnerIvInit, KeyInit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use testbed::wecom::{Account, Event, Message, random_id, random_nonce, unix_now};
use tokio::task::JoinSet;

use crate::wire::{self, Wire};
use crate::{Edge, PATH};

const LANES: u64 = 4;
const PER_LANE: usize = 1000;

/// `HOSTILE_SEED`, if set, repeats the changes of the run that printed it; otherwise a random seed.
fn seed() -> u64 {
    std::env::var("HOSTILE_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| random_nonce().parse().unwrap())
}

/// SplitMix64: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        // Half of them with a meaning in some layer.
        const MEANINGFUL: &[u8] = b"\0\x01\x1f\x20\x21%&=+/?#\"\\{}[]:,0123456789abcdefA\x7f\x80\xff\n\r";
        if self.below(2) == 0 { MEANINGFUL[self.below(MEANINGFUL.len())] } else { self.roll().to_le_bytes()[0] }
    }

    /// One to three flips, insertions, deletions, repetitions, swaps and cuts.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            match self.below(8) {
                0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                2 if !bytes.is_empty() => bytes[at] = self.byte(),
                3 => bytes.insert(at, self.byte()),
                4 if !bytes.is_empty() => drop(bytes.remove(at)),
                5 => bytes.truncate(at),
                6 if !bytes.is_empty() => {
                    let end = (at + 1 + self.below(40)).min(bytes.len());
                    let piece = bytes[at..end].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, piece);
                }
                _ if !bytes.is_empty() => {
                    let other = self.below(bytes.len());
                    bytes.swap(at, other);
                }
                _ => {}
            }
        }
    }
}

/// Where a bind is changed.
#[derive(Debug, Clone, Copy)]
enum Layer {
    Query,
    Envelope,
    CiphertextText,
    CiphertextTextSigned,
    CiphertextBytesSigned,
    FrameSigned,
    MessageSigned,
}

const LAYERS: [Layer; 7] = [
    Layer::Query,
    Layer::Envelope,
    Layer::CiphertextText,
    Layer::CiphertextTextSigned,
    Layer::CiphertextBytesSigned,
    Layer::FrameSigned,
    Layer::MessageSigned,
];

/// The cipher without the framing, and the signature, from the protocol's description.
struct Crypto {
    token: String,
    key: Vec<u8>,
    receive_id: Vec<u8>,
}

impl Crypto {
    fn of(account: &Account) -> Self {
        use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
        let lenient = GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let engine = GeneralPurpose::new(&base64::alphabet::STANDARD, lenient);
        Self {
            token: account.token().to_owned(),
            key: engine.decode(account.encoding_aes_key()).unwrap(),
            receive_id: account.receive_id().as_bytes().to_vec(),
        }
    }

    fn aes(&self) -> (aes::Aes256, aes::Block) {
        let key: [u8; 32] = self.key.as_slice().try_into().unwrap();
        let iv: [u8; 16] = self.key[..16].try_into().unwrap();
        (aes::Aes256::new(&key.into()), iv.into())
    }

    /// Encrypts whole blocks as they are.
    fn encrypt(&self, frame: &[u8]) -> String {
        let (aes, iv) = self.aes();
        let mut buffer = frame.to_vec();
        let length = buffer.len();
        let sealed = cbc::Encryptor::inner_iv_init(aes, &iv).encrypt_padded::<NoPadding>(&mut buffer, length).unwrap();
        STANDARD.encode(sealed)
    }

    fn decrypt(&self, text: &[u8]) -> Option<Vec<u8>> {
        let mut buffer = STANDARD.decode(text).ok()?;
        let (aes, iv) = self.aes();
        let plain = cbc::Decryptor::inner_iv_init(aes, &iv).decrypt_padded::<NoPadding>(&mut buffer).ok()?;
        Some(plain.to_vec())
    }

    fn sign(&self, timestamp: &[u8], nonce: &[u8], encrypt: &[u8]) -> String {
        let mut parts = [self.token.as_bytes(), timestamp, nonce, encrypt];
        parts.sort_unstable();
        hex::encode(Sha1::digest(parts.concat()))
    }

    /// The message that a request is validly signed for, in any reading of it.
    fn proven(&self, query: &[u8], body: &[u8]) -> Option<Vec<u8>> {
        let parameter = |name: &str| -> Vec<Vec<u8>> {
            let pairs = query.split(|byte| *byte == b'&').map(|pair| {
                let mut halves = pair.splitn(2, |byte| *byte == b'=');
                (decoded(halves.next().unwrap_or_default()), decoded(halves.next().unwrap_or_default()))
            });
            pairs.filter(|(known, _)| known == name.as_bytes()).map(|(_, value)| value).collect()
        };
        // A parser may skip members it does not need, so a body that is not valid JSON as a whole may
        // still be accepted. Then try everything in it that looks like a ciphertext.
        let texts: Vec<String> = match serde_json::from_slice::<Value>(body) {
            Ok(envelope) => {
                let members = ["encrypt", "Encrypt"].into_iter().filter_map(|name| envelope.get(name)?.as_str());
                members.map(str::to_owned).collect()
            }
            Err(_) => {
                let of_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
                let runs = body.split(|byte| !of_base64(byte)).filter(|run| run.len() >= 44);
                runs.map(|run| String::from_utf8(run.to_vec()).unwrap()).collect()
            }
        };
        for text in &texts {
            for signature in parameter("msg_signature") {
                for timestamp in parameter("timestamp") {
                    for nonce in parameter("nonce") {
                        let signed = self.sign(&timestamp, &nonce, text.as_bytes());
                        if signature.eq_ignore_ascii_case(signed.as_bytes()) {
                            return self.message(&self.decrypt(text.as_bytes())?);
                        }
                    }
                }
            }
        }
        None
    }

    fn message(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let padding = usize::from(*plain.last()?);
        let content = plain.get(..plain.len().checked_sub(padding)?)?;
        let length: [u8; 4] = content.get(16..20)?.try_into().unwrap();
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap();
        let message = content.get(20..)?.get(..length)?;
        (content[20 + length..] == self.receive_id).then(|| message.to_vec())
    }
}

/// Percent-decodes; invalid escapes stay as they are.
fn decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let escape = text.get(at + 1..at + 3).and_then(|two| hex::decode(two).ok());
        match escape {
            Some(byte) if text[at] == b'%' => {
                out.extend(byte);
                at += 3;
            }
            _ => {
                out.push(text[at]);
                at += 1;
            }
        }
    }
    out
}

/// A changed bind: query and body.
fn mutant(dice: &mut Dice, layer: Layer, account: &Account, crypto: &Crypto) -> (Vec<u8>, Vec<u8>) {
    let message = Event::bind(&random_id()).bytes(account);
    let (timestamp, nonce) = (unix_now().to_string(), format!("{}", dice.roll() % 10_000_000_000));
    let sealed = account.encrypt(&message);
    let (mut encrypt, mut signed) = (sealed.clone().into_bytes(), None);
    match layer {
        Layer::Query | Layer::Envelope => {}
        Layer::CiphertextText | Layer::CiphertextTextSigned => dice.mutate(&mut encrypt),
        Layer::CiphertextBytesSigned => {
            let mut bytes = STANDARD.decode(&sealed).unwrap();
            dice.mutate(&mut bytes);
            encrypt = STANDARD.encode(bytes).into_bytes();
        }
        Layer::FrameSigned => {
            let mut frame = crypto.decrypt(sealed.as_bytes()).unwrap();
            // Often in the structure: the length before the message, the padding after it.
            match dice.below(4) {
                0 => frame[16 + dice.below(4)] = dice.byte(),
                1 => {
                    let last = frame.len() - 1 - dice.below(33);
                    frame[last] = dice.byte();
                }
                _ => dice.mutate(&mut frame),
            }
            frame.truncate(frame.len() / 16 * 16);
            encrypt = crypto.encrypt(&frame).into_bytes();
        }
        Layer::MessageSigned => {
            let mut changed = message;
            dice.mutate(&mut changed);
            encrypt = account.encrypt(&changed).into_bytes();
        }
    }
    if matches!(
        layer,
        Layer::CiphertextTextSigned | Layer::CiphertextBytesSigned | Layer::FrameSigned | Layer::MessageSigned
    ) {
        signed = Some(crypto.sign(timestamp.as_bytes(), nonce.as_bytes(), &encrypt));
    }
    let signature = signed.unwrap_or_else(|| crypto.sign(timestamp.as_bytes(), nonce.as_bytes(), sealed.as_bytes()));
    let mut query = format!("msg_signature={signature}&timestamp={timestamp}&nonce={nonce}").into_bytes();
    let mut body = match String::from_utf8(encrypt) {
        Ok(text) => json!({ "tousername": account.receive_id(), "encrypt": text }).to_string().into_bytes(),
        Err(raw) => [b"{\"encrypt\":\"".as_slice(), raw.as_bytes(), b"\"}"].concat(),
    };
    match layer {
        Layer::Query => dice.mutate(&mut query),
        Layer::Envelope => dice.mutate(&mut body),
        _ => {}
    }
    (query, body)
}

/// What was seen of one mutant.
struct Seen {
    story: String,
    /// The message that the request is validly signed for, if any.
    proven: Option<Vec<u8>>,
    approved: bool,
}

#[tokio::test]
async fn no_changed_bind_is_approved_unless_an_upstream_approved_it() {
    let edge = Edge::start().await;
    // The other backend answers with JSON as well, so that no answer may be a plain `success`.
    edge.backend.always(testbed::backend::Behaviour::verdict(0));
    let (seed, account, address) = (seed(), Arc::new(edge.account.clone()), edge.envoy.address());
    let mut lanes = JoinSet::new();
    for lane in 0..LANES {
        let account = Arc::clone(&account);
        lanes.spawn(async move {
            let (mut dice, crypto) = (Dice(seed.wrapping_add(lane)), Crypto::of(&account));
            let mut wire = Wire::open(address).await;
            let mut seen = Vec::new();
            for number in 0..PER_LANE {
                let layer = LAYERS[number % LAYERS.len()];
                let (query, body) = mutant(&mut dice, layer, &account, &crypto);
                let story = format!(
                    "HOSTILE_SEED={seed}, lane {lane}, mutant {number}, {layer:?}:\n?{}\n{}\n",
                    query.escape_ascii(),
                    body.escape_ascii()
                );
                let target = [PATH.as_bytes(), b"?", &query].concat();
                let answer = wire.ask(&wire::request("POST", &target, &[], &body)).await;
                // A changed query may end the request's head early; what follows is not HTTP then.
                let kept = answer.as_ref().is_some_and(|answer| {
                    answer.header("connection") != Some("close") && !query.iter().any(u8::is_ascii_control)
                });
                if !kept {
                    wire = Wire::open(address).await;
                }
                let proven = crypto.proven(&query, &body);
                let mut approved = false;
                if let Some(answer) = answer {
                    assert!(!answer.is_bare_success(), "a plain success: {story}");
                    // Envoy's 400 to an invalid request line has no body.
                    assert!(
                        !answer.body.is_empty() || answer.status == 400,
                        "{} without a body: {story}",
                        answer.status
                    );
                    if answer.status == 200 {
                        let reply = answer.decrypt(&account).unwrap_or_else(|e| panic!("{e:#}: {story}"));
                        assert!(proven.is_some(), "a 200 for a request without a valid signature: {story}");
                        approved = reply.errcode() == Some(0);
                    } else {
                        assert!((400..=503).contains(&answer.status), "{}: {story}", answer.status);
                    }
                }
                seen.push(Seen { story, proven, approved });
            }
            seen
        });
    }
    let mut seen = Vec::new();
    while let Some(lane) = lanes.join_next().await {
        seen.extend(lane.unwrap());
    }

    let mut arrived: HashMap<Vec<u8>, usize> = HashMap::new();
    for request in edge.decision.requests().into_iter().chain(edge.backend.requests()) {
        *arrived.entry(request.body).or_default() += 1;
    }
    let proven: HashSet<_> = seen.iter().filter_map(|one| one.proven.as_ref()).collect();
    for (message, count) in &arrived {
        assert!(proven.contains(message), "seed {seed}: nobody signed {:?}", message.escape_ascii().to_string());
        assert_eq!(*count, 1, "seed {seed}: {:?} arrived more than once", message.escape_ascii().to_string());
    }
    let mut approved = 0;
    for one in seen.iter().filter(|one| one.approved) {
        let message = one.proven.as_ref().expect("checked above");
        assert!(arrived.contains_key(message), "approved, but no upstream was asked: {}", one.story);
        approved += 1;
    }
    // The changes are small enough for some binds to stay valid, and large enough to break most.
    assert_eq!(approved, arrived.len(), "seed {seed}: an upstream approved, but the answer did not");
    assert!((50..seen.len() / 2).contains(&approved), "seed {seed}: {approved} of {} passed", seen.len());
    edge.backend.forget();
    edge.end().await;
}
