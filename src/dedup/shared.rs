//! The record that replicas share, in Redis: what is asked of it, and what its answers mean.
//!
//! Pure: bytes out, bytes in. A record is one key. Its value is *pending*, written by whoever claims the
//! callback, and then *settled*, with the reply for its copies.
//!
//! Nothing that Redis says is taken on trust. A claim is won only if the value that is read back is the
//! very one that was written, so neither a nil, nor an OK, nor another connection's answer can make
//! anybody first. A value counts only if its code (HMAC-SHA-256, under a secret that replicas share and
//! Redis does not know) holds for it and for the record's name, so whoever can write to Redis can make
//! callbacks fail, and nothing else. Replies are encrypted (AES-256-CBC under a random IV, authenticated
//! after encryption): one may hold what an upstream said.
//!
//! Envoy hands a request over as raw TCP and ends its side of the connection; Redis answers, and closes.
//! Whether all answers are there is told by their number: the last is that to `QUIT`.

use std::fmt;

use aes::Aes256;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use super::record;
use super::resp::{self, Reply as Resp};
use crate::callout::Response;
use crate::config::{Redis, Secret};
use crate::reply::Reply;

/// Which process wrote a pending value: random, and the same for all workers of a process.
pub type ReplicaId = [u8; 16];

/// Random bytes that each pending value has of its own, and each settled one as its IV.
pub type Nonce = [u8; 16];

/// Shortest life of a pending record, in seconds: longer than any call, however short records live.
const LEAST_TTL_SECONDS: u32 = 5;

/// Sets a key to its second argument where it is absent or is the first, and gives what it is then.
const SWAP: &[u8] = b"local v=redis.call('GET',KEYS[1]) \
if v==false or v==ARGV[1] then redis.call('SET',KEYS[1],ARGV[2],'EX',ARGV[3]) return ARGV[2] end return v";

/// The same where it is the first: what is not there any more is not adopted.
const ADOPT: &[u8] = b"local v=redis.call('GET',KEYS[1]) \
if v==ARGV[1] then redis.call('SET',KEYS[1],ARGV[2],'EX',ARGV[3]) return ARGV[2] end return v";

/// Deletes a key if it is the argument.
const DELETE: &[u8] = b"if redis.call('GET',KEYS[1])==ARGV[1] then return redis.call('DEL',KEYS[1]) end return 0";

/// The shared record, as one process sees it.
pub struct Shared {
    replica: ReplicaId,
    ttl_seconds: u32,
    key_prefix: String,
    /// The command that comes first, if there is a password.
    auth: Option<Zeroizing<Vec<u8>>>,
    keys: Keys,
    previous: Option<Keys>,
}

/// A record's key in Redis: the prefix, and a hash of receive id and `req_id`. It does not depend on the
/// secret, so that a rotation never splits a record in two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

/// The value of a record that is claimed: as long as Redis has just these bytes, the claim holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending(Vec<u8>);

/// The value of a record whose call has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled(Vec<u8>);

/// What a record is found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The value that was written.
    Own,
    /// There is none: given up, or expired.
    Absent,
    /// Another process has claimed it, and its call has not ended.
    Pending,
    /// A claim of this process's, whose answer was lost; since nobody here works on it, it is to be
    /// adopted.
    Orphan(Pending),
    /// Its call has ended with this.
    Settled(Reply),
}

/// What a settlement has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Concluded {
    /// It is written.
    Written,
    /// The record is another process's, or was settled otherwise.
    Superseded,
    /// It is still claimed, by this process: with this value it can be settled.
    Orphan(Pending),
}

/// Why nothing is known of a record.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Trouble {
    /// Envoy could not begin the exchange.
    #[error("Envoy began no exchange: no such cluster, no healthy host, or an open circuit breaker")]
    NotBegun,
    /// Nobody took the connection.
    #[error("no connection")]
    NotConnected,
    /// It was cut off, or took too long.
    #[error("no whole answer in time")]
    NoAnswer,
    /// Redis refused a command; its own word.
    #[error("{0}")]
    Refused(Word),
    /// Not what Redis says.
    #[error("an answer that is none of Redis's, or is cut off")]
    Unreadable,
    /// The record is not one that a replica wrote: its value does not hold under the secret.
    #[error("a record that does not hold under the secret")]
    Forged,
    /// There were no random numbers for a value.
    #[error("no random numbers")]
    NoRandom,
}

impl Trouble {
    /// Whether the record itself cannot be believed, so that not even this process's own may stand in
    /// for it.
    pub fn is_forgery(&self) -> bool {
        matches!(self, Self::Forged)
    }

    /// Whether what was asked may have been done all the same; what Redis refuses, it has not done.
    pub fn leaves_it_open(&self) -> bool {
        matches!(self, Self::NoAnswer | Self::Unreadable)
    }

    /// Whether this process's own record may decide in its place, where that is wanted.
    pub fn leaves_the_choice(&self) -> bool {
        !matches!(self, Self::Forged | Self::NoRandom)
    }
}

/// The first word of an error of Redis's, such as `WRONGPASS`. Nothing else of it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word(String);

impl Word {
    fn of(line: &[u8]) -> Self {
        let word = line.split(|byte| *byte == b' ').next().unwrap_or_default();
        let fit = (1..=16).contains(&word.len()) && word.iter().all(u8::is_ascii_uppercase);
        Self(std::str::from_utf8(word).ok().filter(|_| fit).unwrap_or("an error without a word").to_owned())
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Shared {
    /// The shared record as configured, for records that live so long.
    pub fn new(redis: &Redis, ttl_seconds: u32, replica: ReplicaId) -> Self {
        let auth = redis.password().map(|password| {
            let words: Vec<_> = [Some(&b"AUTH"[..]), redis.username().map(bytes), Some(bytes(password))]
                .into_iter()
                .flatten()
                .collect();
            let mut command = Zeroizing::new(Vec::new());
            resp::command(&mut command, &words);
            command
        });
        Self {
            replica,
            ttl_seconds: ttl_seconds.max(LEAST_TTL_SECONDS),
            key_prefix: redis.key_prefix().to_owned(),
            auth,
            keys: Keys::of(redis.secret()),
            previous: redis.previous_secret().map(Keys::of),
        }
    }

    /// Tells one configuration from another, to whoever is to greet Redis once under each.
    pub fn digest(&self, cluster: &str) -> [u8; CODE_LEN] {
        code(mac(&self.keys.authentication).chain_update(cluster).chain_update(b"\0").chain_update(self.batch(&[])))
    }

    /// The key of a callback's name.
    pub fn name(&self, name: &[u8]) -> Name {
        Name(format!("{}{}", self.key_prefix, hex::encode(Sha256::digest(name))))
    }

    /// A value to claim a record with.
    pub fn pending(&self, name: &Name, nonce: Nonce) -> Pending {
        let body = [&[VERSION, PENDING][..], &self.replica, &nonce].concat();
        Pending(self.keys.authenticated(name, body))
    }

    /// A value to settle a record with: the reply as a record keeps it.
    pub fn settled(&self, name: &Name, kept: &Reply, iv: Nonce) -> Settled {
        let body = [&[VERSION, SETTLED][..], &iv, &self.keys.encrypted(&padded(&record::encode(kept)), iv)].concat();
        Settled(self.keys.authenticated(name, body))
    }

    /// Asks for a record, if nobody has it; [`Shared::found`] tells.
    pub fn claim(&self, name: &Name, pending: &Pending) -> Zeroizing<Vec<u8>> {
        let ttl = self.ttl_seconds.to_string();
        let key = name.0.as_bytes();
        self.batch(&[&[b"SET", key, &pending.0, b"NX", b"EX", ttl.as_bytes()], &[b"GET", key]])
    }

    /// Asks for a record whose own claim was lost.
    pub fn adopt(&self, name: &Name, orphan: &Pending, pending: &Pending) -> Zeroizing<Vec<u8>> {
        self.swap(ADOPT, name, orphan, &pending.0)
    }

    /// Asks what a record is.
    pub fn look(&self, name: &Name) -> Zeroizing<Vec<u8>> {
        self.batch(&[&[b"GET", name.0.as_bytes()]])
    }

    /// Settles a record if it is still claimed with that value, or absent.
    pub fn settle(&self, name: &Name, pending: &Pending, settled: &Settled) -> Zeroizing<Vec<u8>> {
        self.swap(SWAP, name, pending, &settled.0)
    }

    /// Gives a record up if it is still claimed with that value.
    pub fn release(&self, name: &Name, pending: &Pending) -> Zeroizing<Vec<u8>> {
        self.batch(&[&[b"EVAL", DELETE, b"1", name.0.as_bytes(), &pending.0]])
    }

    /// Does once what claims and releases do, with a record of no callback's, so that whatever is wrong
    /// (password, rights, memory, a read-only replica) is said before the first of them.
    pub fn greeting(&self, nonce: Nonce) -> Zeroizing<Vec<u8>> {
        let name = Name(format!("{}greeting:{}", self.key_prefix, hex::encode(nonce))); // nobody else's
        let value = self.pending(&name, nonce);
        let (key, ttl) = (name.0.as_bytes(), LEAST_TTL_SECONDS.to_string());
        self.batch(&[
            &[b"SET", key, &value.0, b"NX", b"EX", ttl.as_bytes()],
            &[b"GET", key],
            &[b"EVAL", DELETE, b"1", key, &value.0],
        ])
    }

    /// What the answer to [`Shared::claim`], [`Shared::adopt`] or [`Shared::look`] says of the record.
    /// `own` is the value that was written, if one was.
    ///
    /// # Errors
    /// [`Trouble`] if it says nothing.
    pub fn found(&self, name: &Name, own: Option<&Pending>, answer: Option<Response<'_>>) -> Result<Found, Trouble> {
        let value = match self.replies(answer)?.as_slice() {
            [Resp::Bulk(value)] => *value,
            // The answer to SET says only whether there was a value, and GET tells that better.
            [Resp::Simple(_) | Resp::Bulk(None), Resp::Bulk(value)] => *value,
            // As when no memory is left: what is there is there all the same.
            [Resp::Error(_), Resp::Bulk(value @ Some(_))] => *value,
            other => return Err(refusal(other).unwrap_or(Trouble::Unreadable)),
        };
        match (value, own) {
            (None, _) => Ok(Found::Absent),
            (Some(value), Some(own)) if *value == *own.0 => Ok(Found::Own),
            (Some(value), _) => self.read(name, value),
        }
    }

    /// What the answer to [`Shared::settle`] says of the record.
    ///
    /// # Errors
    /// [`Trouble`] if it says nothing.
    pub fn concluded(
        &self,
        name: &Name,
        settled: &Settled,
        answer: Option<Response<'_>>,
    ) -> Result<Concluded, Trouble> {
        let value = match self.replies(answer)?.as_slice() {
            [Resp::Bulk(Some(value))] => *value,
            other => return Err(refusal(other).unwrap_or(Trouble::Unreadable)),
        };
        if *value == *settled.0 {
            return Ok(Concluded::Written);
        }
        Ok(match self.read(name, value)? {
            Found::Orphan(pending) => Concluded::Orphan(pending),
            _ => Concluded::Superseded,
        })
    }

    /// Whether an answer is one of Redis's at all: to [`Shared::greeting`], or [`Shared::release`].
    ///
    /// # Errors
    /// [`Trouble`] if it is not.
    pub fn acknowledged(&self, answer: Option<Response<'_>>) -> Result<(), Trouble> {
        refusal(&self.replies(answer)?).map_or(Ok(()), Err)
    }

    fn swap(&self, script: &[u8], name: &Name, from: &Pending, to: &[u8]) -> Zeroizing<Vec<u8>> {
        let ttl = self.ttl_seconds.to_string();
        self.batch(&[&[b"EVAL", script, b"1", name.0.as_bytes(), &from.0, to, ttl.as_bytes()]])
    }

    fn batch(&self, commands: &[&[&[u8]]]) -> Zeroizing<Vec<u8>> {
        let mut batch = self.auth.clone().unwrap_or_default();
        for command in commands {
            resp::command(&mut batch, command);
        }
        resp::command(&mut batch, &[b"QUIT"]);
        batch
    }

    /// The replies to a batch, but for those to `AUTH` and `QUIT`.
    fn replies<'a>(&self, answer: Option<Response<'a>>) -> Result<Vec<Resp<'a>>, Trouble> {
        let answer = answer.ok_or(Trouble::NoAnswer)?;
        let body = answer.connected().ok_or(Trouble::NotConnected)?;
        let mut replies = resp::replies(body).ok_or(Trouble::Unreadable)?;
        let refused = refusal(&replies);
        let ends_well = replies.pop() == Some(Resp::Simple(b"OK"));
        let begins_well = self.auth.is_none() || (!replies.is_empty() && replies.remove(0) == Resp::Simple(b"OK"));
        if ends_well && begins_well { Ok(replies) } else { Err(refused.unwrap_or(Trouble::Unreadable)) }
    }

    fn read(&self, name: &Name, value: &[u8]) -> Result<Found, Trouble> {
        let keys = [Some(&self.keys), self.previous.as_ref()];
        let opened = keys.into_iter().flatten().find_map(|keys| Some((keys, keys.verified(name, value)?)));
        let (keys, body) = opened.ok_or(Trouble::Forged)?;
        let (&[version, kind], content) = body.split_first_chunk::<2>().ok_or(Trouble::Forged)?;
        match (version, kind) {
            (VERSION, PENDING) => {
                let (replica, _) = content.split_first_chunk::<16>().ok_or(Trouble::Forged)?;
                let own = *replica == self.replica;
                Ok(if own { Found::Orphan(Pending(value.to_vec())) } else { Found::Pending })
            }
            (VERSION, SETTLED) => {
                let (iv, ciphertext) = content.split_first_chunk::<16>().ok_or(Trouble::Forged)?;
                let plaintext = keys.decrypted(ciphertext, *iv).ok_or(Trouble::Forged)?;
                Ok(Found::Settled(record::decode(unpadded(&plaintext).ok_or(Trouble::Forged)?)))
            }
            // A later version's.
            _ => Err(Trouble::Forged),
        }
    }
}

/// The first error among replies.
fn refusal(replies: &[Resp<'_>]) -> Option<Trouble> {
    let line = replies.iter().find_map(|reply| if let Resp::Error(line) = reply { Some(line) } else { None })?;
    let word = Word::of(line);
    // Somebody put something else in the record's place.
    Some(if word.0 == "WRONGTYPE" { Trouble::Forged } else { Trouble::Refused(word) })
}

const VERSION: u8 = 1;
const PENDING: u8 = 0;
const SETTLED: u8 = 1;

/// Length of an HMAC-SHA-256.
const CODE_LEN: usize = 32;

/// A reply's bytes, all of one length: whoever sees the ciphertext could else tell an approval from a
/// refusal.
fn padded(reply: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(record::MAX_REPLY_LEN.saturating_add(1)));
    bytes.push(u8::try_from(reply.len()).unwrap_or(0));
    bytes.extend_from_slice(reply);
    bytes.resize(record::MAX_REPLY_LEN.saturating_add(1), 0);
    bytes
}

/// What was padded.
fn unpadded(bytes: &[u8]) -> Option<&[u8]> {
    let (length, reply) = bytes.split_first()?;
    reply.get(..usize::from(*length))
}

/// The keys that one secret gives: one for each use.
struct Keys {
    authentication: Zeroizing<[u8; 32]>,
    encryption: Zeroizing<[u8; 32]>,
}

impl Keys {
    fn of(secret: &Secret) -> Self {
        let secret = Zeroizing::new(<[u8; 32]>::from(Sha256::digest(bytes(secret))));
        let derived = |purpose: &[u8]| Zeroizing::new(code(mac(&secret).chain_update(purpose)));
        Self {
            authentication: derived(b"wecom record authentication"),
            encryption: derived(b"wecom record encryption"),
        }
    }

    fn authenticated(&self, name: &Name, mut body: Vec<u8>) -> Vec<u8> {
        let code = code(self.mac_of(name).chain_update(&body));
        body.extend_from_slice(&code);
        body
    }

    /// The body of a value whose code holds for it and for this name.
    fn verified<'a>(&self, name: &Name, value: &'a [u8]) -> Option<&'a [u8]> {
        let (body, seen) = value.split_last_chunk::<CODE_LEN>()?;
        self.mac_of(name).chain_update(body).verify_slice(seen).ok().map(|()| body)
    }

    /// A name holds no zero byte, so that no two names and bodies give the same.
    fn mac_of(&self, name: &Name) -> Hmac<Sha256> {
        mac(&self.authentication).chain_update(name.0.as_bytes()).chain_update(b"\0")
    }

    fn encrypted(&self, plaintext: &[u8], iv: Nonce) -> Vec<u8> {
        let key: &[u8; 32] = &self.encryption;
        cbc::Encryptor::<Aes256>::new(key.into(), &iv.into()).encrypt_padded_vec::<Pkcs7>(plaintext)
    }

    fn decrypted(&self, ciphertext: &[u8], iv: Nonce) -> Option<Zeroizing<Vec<u8>>> {
        let key: &[u8; 32] = &self.encryption;
        let cipher = cbc::Decryptor::<Aes256>::new(key.into(), &iv.into());
        cipher.decrypt_padded_vec::<Pkcs7>(ciphertext).ok().map(Zeroizing::new)
    }
}

/// HMAC fills a shorter key up with zeros to a block of the hash.
fn mac(key: &[u8; 32]) -> Hmac<Sha256> {
    let mut block = Zeroizing::new([0; 64]);
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    let block: &[u8; 64] = &block;
    Hmac::new(block.into())
}

fn code(mac: Hmac<Sha256>) -> [u8; CODE_LEN] {
    mac.finalize().into_bytes().into()
}

fn bytes(secret: &Secret) -> &[u8] {
    secret.expose().as_bytes()
}

#[cfg(all(test, not(target_family = "wasm")))]
#[path = "shared_tests.rs"]
mod tests;
