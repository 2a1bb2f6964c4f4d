//! What a client sends and what it is to get back: decided by a seed, so that it is the same for every
//! language and every run, but for times and random ids.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Value, json};
use testbed::backend::Behaviour;
use testbed::edge::PATH;
use testbed::wecom::{Account, Event};
use wecom_callback_filter::wecom::callback::EventType;
use wecom_callback_filter::wecom::verdict::ERRCODES;

const SEED: u64 = 0x5745_434f_4d31;

/// How many callbacks a client sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// POSTs with a message.
    pub(crate) posts: usize,
    /// GETs with an echo.
    pub(crate) gets: usize,
}

impl Size {
    /// Of `make conformance`.
    pub(crate) const FULL: Self = Self { posts: 4096, gets: 512 };
    /// Of `make test`.
    pub(crate) const SMALL: Self = Self { posts: 256, gets: 64 };
}

/// What a client sends, in order.
#[derive(Debug)]
pub(crate) struct Plan {
    accounts: Vec<Account>,
    callbacks: Vec<Callback>,
    answers: HashMap<String, Behaviour>,
}

/// One callback.
#[derive(Debug)]
pub(crate) struct Callback {
    account: usize,
    req_id: String,
    message: Vec<u8>,
    reply: Reply,
}

/// What the client is to find in the reply.
#[derive(Debug, PartialEq)]
pub(crate) enum Reply {
    /// The very message, in clear: a GET.
    Echo,
    /// A verdict.
    Verdict(Value),
    /// An upstream's object, byte for byte.
    Object(String),
}

impl Reply {
    /// The length of an object.
    pub(crate) fn object_length(&self) -> Option<usize> {
        match self {
            Self::Object(object) => Some(object.len()),
            Self::Echo | Self::Verdict(_) => None,
        }
    }
}

/// How many callbacks of which kind a plan has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Sealed by the client, opened by the filter: POSTs.
    pub(crate) sealed: usize,
    /// Sealed by the filter, opened by the client: the replies to them.
    pub(crate) opened: usize,
    /// URL verifications.
    pub(crate) gets: usize,
}

impl Callback {
    /// The account's number.
    pub(crate) fn account(&self) -> usize {
        self.account
    }

    /// The message's request id; empty for an echo.
    pub(crate) fn req_id(&self) -> &str {
        &self.req_id
    }

    /// What is to be sealed.
    pub(crate) fn message(&self) -> &[u8] {
        &self.message
    }

    /// What is to come back.
    pub(crate) fn reply(&self) -> &Reply {
        &self.reply
    }
}

impl Plan {
    /// The plan of that size. Its request ids begin with `name`.
    pub(crate) fn new(name: &str, size: Size) -> Self {
        let mut random = fastrand::Rng::with_seed(SEED);
        let accounts = accounts(&mut random);
        let mut plan = Self { accounts, callbacks: Vec::new(), answers: HashMap::new() };
        for index in 0..size.posts {
            // Each account gets what `message` makes of each index modulo 256.
            let (account, req_id) = ((index / 256 + index) % plan.accounts.len(), format!("{name}-{index:05}"));
            let event = if random.u8(..) < 160 { EventType::Bind } else { other_type(&mut random) };
            let (answer, reply) = match event {
                EventType::Bind => verdict(&mut random),
                _ => object(&mut random, index),
            };
            let event = message(&mut random, event, index).req_id(&req_id);
            let mut bytes = event.to_json(plan.accounts[account].receive_id());
            if index % 16 == 9 {
                bytes = escaped(&bytes);
            }
            plan.answers.insert(req_id.clone(), answer);
            plan.callbacks.push(Callback { account, req_id, message: bytes, reply });
        }
        for index in 0..size.gets {
            let digits = std::iter::repeat_with(|| random.digit(10)).take(1 + index % 64).collect::<String>();
            let account = index / 64 % plan.accounts.len();
            let message = digits.into_bytes();
            plan.callbacks.push(Callback { account, req_id: String::new(), message, reply: Reply::Echo });
        }
        plan
    }

    /// The accounts, in order of their numbers.
    pub(crate) fn accounts(&self) -> &[Account] {
        &self.accounts
    }

    /// All callbacks.
    pub(crate) fn callbacks(&self) -> &[Callback] {
        &self.callbacks
    }

    /// Those that a backend is told.
    pub(crate) fn posts(&self) -> impl Iterator<Item = &Callback> {
        self.callbacks.iter().filter(|callback| callback.reply != Reply::Echo)
    }

    /// What the backend answers to that request.
    pub(crate) fn answer_to(&self, req_id: &str) -> Option<Behaviour> {
        self.answers.get(req_id).cloned()
    }

    /// How many of each kind there are.
    pub(crate) fn counts(&self) -> Counts {
        let posts = self.posts().count();
        Counts { sealed: posts, opened: posts, gets: self.callbacks.len() - posts }
    }

    /// The length of a plaintext modulo 32, which decides about its padding, for a message of that length
    /// to that account.
    pub(crate) fn residue(&self, account: usize, message_length: usize) -> usize {
        (20 + message_length + self.accounts[account].receive_id().len()) % 32
    }
}

/// The path of the callback URL of that account.
pub(crate) fn path(account: usize) -> String {
    format!("{PATH}/{account}")
}

/// How many different values there are.
pub(crate) fn distinct(values: impl IntoIterator<Item = usize>) -> usize {
    values.into_iter().collect::<BTreeSet<_>>().len()
}

/// The two bits of an account's key that are more than its 32 bytes. WeCom issues keys with all four
/// values, and a decoder of base64 may insist on 0.
pub(crate) fn spare_bits(account: &Account) -> usize {
    ALPHABET.find(account.encoding_aes_key().chars().last().unwrap()).unwrap() % 4
}

const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Keys with each value of the spare bits, tokens and receive ids of different lengths.
fn accounts(random: &mut fastrand::Rng) -> Vec<Account> {
    let receive_ids = [
        "2000000000000001",
        "mdddddccc7775555aaa",
        "wwservicecorp0001",
        "1",
        "model-of-a-door_lock.v2",
        "ww0123456789abcdef",
        "31",
        "a-receive-id-that-is-longer-than-most-0123456789",
    ];
    let accounts = receive_ids.into_iter().enumerate().map(|(index, receive_id)| {
        let mut text =
            |length: usize| std::iter::repeat_with(|| random.alphanumeric()).take(length).collect::<String>();
        let (token, key) = (text(4 * index + 3), text(42));
        let last = ALPHABET.chars().nth(4 * random.usize(..15) + index % 4).unwrap();
        Account::new(&token, &format!("{key}{last}"), receive_id).unwrap()
    });
    accounts.collect()
}

/// Any type but `bind`. The filter answers `bind` with a verdict, and all others with the upstream's object.
fn other_type(random: &mut fastrand::Rng) -> EventType {
    let others: Vec<_> = EventType::ALL
        .into_iter()
        .map(|(event, _)| event)
        // On the generic URL alone.
        .filter(|event| !matches!(event, EventType::Bind | EventType::VerifyDevice | EventType::Other))
        .collect();
    others[random.usize(..others.len())]
}

/// A message with fields of every kind: short, long, empty, Chinese, and with what has to be escaped.
fn message(random: &mut fastrand::Rng, event: EventType, index: usize) -> Event {
    let new = Event::of(event, "sn").base("device_sn", format!("sn-{index}"));
    match index % 8 {
        // One byte longer each time: every length of padding.
        0 => new.set("note", "x".repeat(index / 8 % 32)),
        1 => new.base("device_sn", text(random, CHINESE, 40)).set("verif_code", text(random, CHINESE, 8)),
        2 => new.base("device_sn", "").set("verif_code", "").set("auth_code", ""),
        3 if index.is_multiple_of(5) => new.set("note", "long ".repeat(random.usize(4_000..9_000))),
        3 => new.set("auth_code", text(random, ALPHABET, 512)),
        4 if index.is_multiple_of(5) => new.set("note", text(random, CHINESE, 12_000)),
        4 => new.base("device_sn", text(random, CHINESE, 300)),
        5 => new.set("note", text(random, AWKWARD, 60)).set("empty", json!({ "a": [], "b": {}, "c": null })),
        6 => new.without_base("device_sn"),
        _ => new.set("note", text(random, ALPHABET, 100)),
    }
}

const CHINESE: &str = "企业微信硬件回调绑定设备验证码校验不通过请稍后重试或联系厂商处理会议室大门打印机𠮷";
const AWKWARD: &str = "\"\\/\n\r\t\u{8}\u{0}\u{1f}\u{7f}<&>'=+%]}) \u{2028}\u{feff}é🔒👩‍🔧ß\u{ffff}";

/// 1 to `longest` characters of these.
fn text(random: &mut fastrand::Rng, of: &str, longest: usize) -> String {
    let of: Vec<_> = of.chars().collect();
    let length = random.usize(1..=longest);
    std::iter::repeat_with(|| of[random.usize(..of.len())]).take(length).collect()
}

/// The same JSON, all that is not ASCII written as `\u…`.
fn escaped(message: &[u8]) -> Vec<u8> {
    let mut out = String::new();
    for c in std::str::from_utf8(message).unwrap().chars() {
        match c {
            ' '..='~' => out.push(c),
            _ => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}"))),
        }
    }
    out.into_bytes()
}

/// What a backend answers to a bind, and the verdict that WeCom is to get.
fn verdict(random: &mut fastrand::Rng) -> (Behaviour, Reply) {
    let documented = |code: u32| {
        let (_, text) = ERRCODES.iter().find(|(known, _)| *known == code).unwrap();
        Reply::Verdict(json!({ "errcode": code, "errmsg": text }))
    };
    let (code, _) = ERRCODES[random.usize(..ERRCODES.len())];
    // At most 96 bytes: the filter cuts what is longer.
    let alphabet = if random.bool() { CHINESE } else { AWKWARD };
    let errmsg = text(random, alphabet, 24);
    match random.u8(..8) {
        0 => (Behaviour::success(), documented(0)),
        1 => (Behaviour::empty(), documented(0)),
        2 => (Behaviour::status(503), documented(7)),
        3 | 4 => (Behaviour::verdict(code), documented(code)),
        _ => {
            let code = if random.bool() { code } else { random.u32(..) };
            let verdict = json!({ "errcode": code, "errmsg": errmsg });
            (Behaviour::json(verdict.to_string()), Reply::Verdict(verdict))
        }
    }
}

/// What a backend answers to another callback: an object, which WeCom is to get as it is.
fn object(random: &mut fastrand::Rng, index: usize) -> (Behaviour, Reply) {
    let filling = match index % 4 {
        0 => "x".repeat(random.usize(..200)),
        1 => text(random, CHINESE, 200),
        2 if index.is_multiple_of(5) => text(random, CHINESE, 6_000),
        2 => String::new(),
        _ => text(random, AWKWARD, 80),
    };
    let object = json!({ "online_status": 1, "说明": filling }).to_string();
    (Behaviour::json(&object), Reply::Object(object))
}
