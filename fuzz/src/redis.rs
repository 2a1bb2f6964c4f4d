//! What comes back from Redis, or from whoever is there in its place: a claim is won by the very bytes
//! that were written and by nothing else, and nobody is told what no replica has sealed for that record.

use std::collections::BTreeMap;

use model::redis::{Redis, commands};
use model::{Call, Process};
use serde_json::{Value, json};
use wecom_callback_filter::callout::{Received, Response};
use wecom_callback_filter::config::Config;
use wecom_callback_filter::dedup::resp;
use wecom_callback_filter::dedup::shared::{Concluded, Found, Name, Pending, Shared, Trouble};
use wecom_callback_filter::exchange::Head;
use wecom_callback_filter::host::{CallId, StreamId};
use wecom_callback_filter::reply::{Relayed, Reply};
use wecom_callback_filter::wecom::credential::{Credential, Token};
use wecom_callback_filter::wecom::signature::Signature;
use wecom_callback_filter::wecom::verdict::Verdict;

use crate::exchange::responses;
use crate::sealing::{CREDENTIALS, RECEIVE_IDS, SECRET, credential, opened_reply, sealed};
use crate::target::{Seed, Target, seed};

/// A byte of choices, then an answer.
pub(crate) struct Answers;

impl Target for Answers {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn run(&self, data: &[u8]) {
        let Some((choices, answer)) = data.split_first() else { return };
        let has_password = choices & 1 != 0;
        let status = match choices >> 1 & 3 {
            0 | 1 => Some("200"),
            2 => Some("503"),
            _ => None,
        };
        let exchange = Exchange { has_password, status, answer };
        match choices >> 3 & 7 {
            0 => to_a_claim(&exchange, true),
            1 => to_a_claim(&exchange, false),
            2 => to_a_settlement(&exchange),
            3 => to_anything(&exchange),
            _ => to_a_worker(&exchange),
        }
    }

    fn seeds(&self) -> Vec<Seed> {
        let mut seeds = Vec::new();
        for (number, has_password) in [false, true].into_iter().enumerate() {
            let ok: &[u8] = if has_password { b"+OK\r\n" } else { b"" };
            let pure = FIXTURES.with(|fixtures| fixtures[number].values.keys().cloned().collect::<Vec<_>>());
            let of_worker =
                OTHERS.with(|others| others[number].iter().map(|(value, _)| value.clone()).collect::<Vec<_>>());
            let own = Worker::new(has_password).pending();
            for (kind, question, values) in [
                ("claim", 0, &pure),
                ("look", 1, &pure),
                ("settle", 2, &pure),
                ("worker", 4, &[of_worker, vec![own]].concat()),
            ] {
                let choices = question << 3 | u8::from(has_password);
                for (n, value) in values.iter().map(|value| bulk(Some(value))).chain([bulk(None)]).enumerate() {
                    let is_claim = matches!(kind, "claim" | "worker");
                    let writes = [&b"+OK\r\n"[..], b"$-1\r\n", b"-OOM command not allowed\r\n"];
                    for written in writes.iter().take(if is_claim { 3 } else { 1 }) {
                        let written: &[u8] = if is_claim { written } else { b"" };
                        let answer = [&[choices], ok, written, &value, b"+OK\r\n"].concat();
                        seeds.push(seed(&format!("{kind}-{number}-{n}-{}", written.len()), answer));
                    }
                }
            }
            for (name, answer) in [
                ("pong", &b"+PONG\r\n+OK\r\n"[..]),
                ("deleted", b":1\r\n+OK\r\n"),
                ("wrong-type", b"$-1\r\n-WRONGTYPE Operation against a key\r\n+OK\r\n"),
                ("moved", b"-MOVED 3999 10.0.0.1:6379\r\n-MOVED 3999 10.0.0.1:6379\r\n+OK\r\n"),
                ("wrong-pass", b"-WRONGPASS invalid\r\n-NOAUTH Authentication required.\r\n+OK\r\n"),
            ] {
                for question in 0..5_u8 {
                    let choices = question << 3 | u8::from(has_password);
                    seeds.push(seed(&format!("{name}-{number}-{question}"), [&[choices], ok, answer].concat()));
                }
            }
        }
        seeds
    }
}

/// What an exchange with Redis comes to.
struct Exchange<'a> {
    has_password: bool,
    /// `None` if it broke off.
    status: Option<&'static str>,
    answer: &'a [u8],
}

/// What a value says to who asks about one record.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Says {
    Found(Found),
    /// It was made for another record, or under another secret.
    Nothing,
}

/// One replica that asks, and every value that there is.
struct Fixture {
    asks: Shared,
    name: Name,
    own: Pending,
    settles: wecom_callback_filter::dedup::shared::Settled,
    values: BTreeMap<Vec<u8>, Says>,
}

thread_local! {
    /// Without a password, and with one.
    static FIXTURES: [Fixture; 2] = [false, true].map(Fixture::new);
    /// The values that another replica wrote for the callback of [`Worker`], and the verdict that they
    /// tell; one that is pending tells none.
    static OTHERS: [Vec<(Vec<u8>, Option<u32>)>; 2] = [false, true].map(others);
}

impl Fixture {
    fn new(has_password: bool) -> Self {
        let shared = |replica: u8, secret: &str| {
            let config = config(has_password, |redis| {
                redis["secret"] = secret_of(secret).into();
                if secret == "next" {
                    redis["previous_secret"] = secret_of("last").into();
                }
            });
            let dedup = config.dedup();
            Shared::new(dedup.redis().expect("there is one"), dedup.ttl_seconds(), [replica; 16])
        };
        let (asks, other, late) = (shared(1, "next"), shared(2, "next"), shared(3, "last"));
        let stranger = shared(2, "unknown");
        let [name, elsewhere] = [b"one", b"two"].map(|name| asks.name(name));
        let own = asks.pending(&name, [1; 16]);
        let verdict = Reply::Verdict(Verdict::new(4, None));
        let object = Reply::Relayed(Relayed::Object(b"{}".to_vec()));

        let mut values = BTreeMap::new();
        let mut pending = |by: &Shared, name: &Name, nonce: u8, says: fn(Pending) -> Says| {
            let pending = by.pending(name, [nonce; 16]);
            let value = word(&by.claim(name, &pending), 2);
            values.insert(value, says(pending));
        };
        pending(&asks, &name, 1, |_| Says::Found(Found::Own));
        pending(&asks, &name, 2, |pending| Says::Found(Found::Orphan(pending)));
        pending(&other, &name, 1, |_| Says::Found(Found::Pending));
        pending(&late, &name, 1, |_| Says::Found(Found::Pending));
        pending(&asks, &elsewhere, 1, |_| Says::Nothing);
        pending(&stranger, &name, 1, |_| Says::Nothing);
        let mut settled = |by: &Shared, name: &Name, reply: &Reply, says: Says| {
            let settled = by.settled(name, reply, [5; 16]);
            values.insert(word(&by.settle(name, &own, &settled), 5), says);
        };
        settled(&other, &name, &verdict, Says::Found(Found::Settled(verdict.clone())));
        settled(&late, &name, &object, Says::Found(Found::Settled(object.clone())));
        settled(&asks, &name, &Reply::Failed, Says::Found(Found::Settled(Reply::Failed)));
        settled(&other, &elsewhere, &verdict, Says::Nothing);
        settled(&stranger, &name, &verdict, Says::Nothing);
        let settles = asks.settled(&name, &Reply::Failed, [5; 16]);
        Self { asks, name, own, settles, values }
    }

    /// What a value says: that of a known one, or nothing.
    fn read(&self, value: &[u8]) -> Result<Found, Class> {
        match self.values.get(value) {
            Some(Says::Found(found)) => Ok(found.clone()),
            Some(Says::Nothing) | None => Err(Class::Forged),
        }
    }
}

/// A kind of trouble; what is said of it is looked at apart.
#[derive(Debug, PartialEq, Eq)]
enum Class {
    NotConnected,
    NoAnswer,
    Refused,
    Unreadable,
    Forged,
}

/// The answer to a claim or an adoption; or to a look, with nothing of one's own to compare with.
fn to_a_claim(exchange: &Exchange<'_>, claims: bool) {
    with_fixture(exchange, |fixture, response| {
        let found = fixture.asks.found(&fixture.name, claims.then_some(&fixture.own), response);
        let expected = exchange.replies().and_then(|replies| match read_back(&replies)? {
            None => Ok(Found::Absent),
            Some(value) => match fixture.read(value)? {
                Found::Own if !claims => Ok(Found::Orphan(fixture.own.clone())),
                found => Ok(found),
            },
        });
        assert_eq!(found.map_err(|trouble| exchange.class(&trouble)), expected);
    });
}

fn to_a_settlement(exchange: &Exchange<'_>) {
    with_fixture(exchange, |fixture, response| {
        let concluded = fixture.asks.concluded(&fixture.name, &fixture.settles, response);
        let expected = exchange.replies().and_then(|replies| match replies.as_slice() {
            [Line::Bulk(Some(value))] => Ok(match fixture.read(value)? {
                Found::Own => Concluded::Orphan(fixture.own.clone()),
                Found::Orphan(pending) => Concluded::Orphan(pending),
                Found::Settled(Reply::Failed) => Concluded::Written,
                _ => Concluded::Superseded,
            }),
            other => Err(wrong(other)),
        });
        assert_eq!(concluded.map_err(|trouble| exchange.class(&trouble)), expected);
    });
}

fn to_anything(exchange: &Exchange<'_>) {
    with_fixture(exchange, |fixture, response| {
        let acknowledged = fixture.asks.acknowledged(response);
        let expected = exchange.replies().and_then(|replies| {
            let refused = replies.iter().any(|line| matches!(line, Line::Error(_)));
            if refused { Err(wrong(&replies)) } else { Ok(()) }
        });
        assert_eq!(acknowledged.map_err(|trouble| exchange.class(&trouble)), expected);
    });
    let read = resp::replies(exchange.answer);
    assert_eq!(read.map(|replies| replies.len()), lines(exchange.answer).map(|lines| lines.len()));
}

/// The answer to the claim of a worker: it calls nobody unless the claim is won.
fn to_a_worker(exchange: &Exchange<'_>) {
    let worker = Worker::new(exchange.has_password);
    let own = worker.pending();
    let id = worker.claim().0;
    match exchange.status {
        Some("200") => worker.process.end_exchange(id, Some(exchange.answer)),
        Some(_) => worker.process.refuse_exchange(id),
        None => worker.process.end_exchange(id, None),
    }
    let value = exchange.replies().and_then(|replies| read_back(&replies)?.ok_or(Class::Unreadable));
    let told = |value: &[u8]| {
        OTHERS.with(|others| {
            let known = others[usize::from(exchange.has_password)].iter().find(|(known, _)| known == value);
            known.map(|(_, verdict)| *verdict)
        })
    };
    let called = !worker.process.calls_to("decision").is_empty();
    match value {
        Ok(value) if value == own => assert!(called && worker.verdict().is_none(), "won, and nobody is called"),
        Ok(value) if told(value).is_some() => {
            assert!(!called, "another replica's, and called");
            assert_eq!(Some(worker.verdict()), told(value));
        }
        _ => {
            let holds = exchange.answer.windows(own.len()).any(|piece| piece == own);
            assert!(
                !called,
                "called for {}, which {} the value",
                exchange.answer.escape_ascii(),
                if holds { "has" } else { "has not" }
            );
            assert_eq!(worker.verdict(), Some(7));
        }
    }
    for (_, line) in worker.process.log() {
        assert!(!line.contains(SECRET), "{line}");
    }
}

fn with_fixture(exchange: &Exchange<'_>, check: impl FnOnce(&Fixture, Option<Response<'_>>)) {
    let headers = exchange.status.map(|status| responses::headers(status.as_bytes(), false));
    let response = headers.as_deref().map(|headers| Response::new(headers, exchange.answer));
    FIXTURES.with(|fixtures| check(&fixtures[usize::from(exchange.has_password)], response));
}

/// A line of an answer, as another reader has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line<'a> {
    Ok,
    Simple,
    Error(&'a [u8]),
    Integer,
    Bulk(Option<&'a [u8]>),
}

impl<'a> Exchange<'a> {
    /// What was answered between `AUTH` and `QUIT`.
    fn replies(&self) -> Result<Vec<Line<'a>>, Class> {
        match self.status {
            Some("200") => {}
            Some(_) => return Err(Class::NotConnected),
            None => return Err(Class::NoAnswer),
        }
        let lines = lines(self.answer).ok_or(Class::Unreadable)?;
        match lines.as_slice() {
            [Line::Ok, between @ .., Line::Ok] if self.has_password => Ok(between.to_vec()),
            [between @ .., Line::Ok] if !self.has_password => Ok(between.to_vec()),
            other => Err(wrong(other)),
        }
    }

    /// Of which kind it is. What is said of it is one of Redis's words and nothing else of the answer.
    fn class(&self, trouble: &Trouble) -> Class {
        let said = trouble.to_string();
        assert!(!said.contains(SECRET), "{said}");
        match trouble {
            Trouble::NotConnected => Class::NotConnected,
            Trouble::NoAnswer => Class::NoAnswer,
            Trouble::Unreadable => Class::Unreadable,
            Trouble::Forged => Class::Forged,
            Trouble::Refused(_) => {
                let is_word = said.len() <= 16 && said.bytes().all(|byte| byte.is_ascii_uppercase());
                assert!(is_word || said == "an error without a word", "{said}");
                Class::Refused
            }
            Trouble::NotBegun | Trouble::NoRandom => panic!("{said}"),
        }
    }
}

/// What is wrong where other lines were to be expected: the first error among them.
fn wrong(lines: &[Line<'_>]) -> Class {
    let error = lines.iter().find_map(|line| if let Line::Error(line) = line { Some(*line) } else { None });
    match error.map(|line| line.split(|byte| *byte == b' ').next() == Some(b"WRONGTYPE")) {
        Some(true) => Class::Forged,
        Some(false) => Class::Refused,
        None => Class::Unreadable,
    }
}

/// The value that is read back, whatever the write before it came to.
fn read_back<'a>(lines: &[Line<'a>]) -> Result<Option<&'a [u8]>, Class> {
    match lines {
        [Line::Bulk(value)] | [Line::Simple | Line::Ok | Line::Bulk(None), Line::Bulk(value)] => Ok(*value),
        [Line::Error(_), Line::Bulk(Some(value))] => Ok(Some(value)),
        other => Err(wrong(other)),
    }
}

/// Another reading of an answer, line by line from the front. `None` if it is not whole.
fn lines(answer: &[u8]) -> Option<Vec<Line<'_>>> {
    let mut lines = Vec::new();
    let mut at = 0;
    while at < answer.len() {
        if lines.len() == resp::MAX_REPLIES {
            return None;
        }
        let end = at + (0..answer.len() - at).find(|n| answer[at + n..].starts_with(b"\r\n"))?;
        let line = answer.get(at + 1..end)?;
        let number = || String::from_utf8(line.to_vec()).ok()?.parse::<i64>().ok();
        let mut next = end + 2;
        lines.push(match answer[at] {
            b'+' if line == b"OK" => Line::Ok,
            b'+' => Line::Simple,
            b'-' => Line::Error(line),
            b':' => number().map(|_| Line::Integer)?,
            b'$' if number()? == -1 => Line::Bulk(None),
            b'$' => {
                let length = usize::try_from(number()?).ok()?;
                let value = answer.get(next..next.checked_add(length)?)?;
                next += length + 2;
                (answer.get(next - 2..next)? == b"\r\n").then_some(Line::Bulk(Some(value)))?
            }
            _ => return None,
        });
        at = next;
    }
    Some(lines)
}

/// One worker with one bind that it has claimed. The same every time.
struct Worker {
    process: Process,
    stream: StreamId,
}

const NOW_MS: u64 = 1_658_332_800_000;

impl Worker {
    fn new(has_password: bool) -> Self {
        Self::of(Process::with_seed(NOW_MS, 1), has_password)
    }

    fn of(process: Process, has_password: bool) -> Self {
        let worker = process.start_worker(config(has_password, |_| {}));
        let (path, body) = request();
        let stream = process.arrive(worker, &path, &Head { method: b"POST", ..Head::default() }).expect("one of ours");
        process.complete(stream, &body);
        process.settle_messages();
        Self { process, stream }
    }

    fn claim(&self) -> (CallId, Call) {
        self.process.calls_to("record").pop().expect("a claim")
    }

    /// The value that it claims the record with.
    fn pending(&self) -> Vec<u8> {
        let set = commands(&self.claim().1.body).expect("whole commands");
        let set = set.into_iter().find(|words| words[0] == b"SET").expect("a claim");
        set[2].clone()
    }

    /// The verdict that its client was told, if it was told one.
    fn verdict(&self) -> Option<u32> {
        let finished = self.process.take_finished().into_iter().find(|finished| finished.stream == self.stream)?;
        let answer = finished.answer.expect("an answer");
        let (reply, _) = opened_reply(&answer.body, &credential(0)).expect("a sealed verdict");
        let reply: Value = serde_json::from_slice(&reply).expect("JSON");
        reply["errcode"].as_u64().and_then(|errcode| u32::try_from(errcode).ok())
    }
}

/// What another replica writes for the same callback: its claim, and the end of its call.
fn others(has_password: bool) -> Vec<(Vec<u8>, Option<u32>)> {
    let redis = Redis::new(NOW_MS);
    if has_password {
        redis.require("default", &secret_of("password"));
    }
    let worker = Worker::of(Process::with_seed(NOW_MS, 2), has_password);
    let answers = || {
        let (id, call) = worker.claim();
        worker.process.end_exchange(id, Some(&redis.execute(&call.body)));
        let key = redis.keys().pop().expect("a record");
        redis.value(&key).expect("a value")
    };
    let pending = answers();
    let (call, _) = worker.process.calls_to("decision").pop().expect("a call");
    let headers = responses::headers(b"200", true);
    worker.process.end_call(call, Some(Received::new(headers, br#"{"errcode":4}"#.to_vec())));
    vec![(pending, None), (answers(), Some(4))]
}

/// A bind, as WeCom sends it: path and body.
fn request() -> (Vec<u8>, Vec<u8>) {
    let sealer = credential(0);
    let message = json!({
        "base_info": { "req_id": "r", "model_id": RECEIVE_IDS[0], "createtime": NOW_MS / 1000 },
        "event": { "event_type": "bind" },
    });
    let (text, _) = sealed(&sealer, message.to_string().as_bytes());
    let Credential { token, .. } = &*sealer;
    (signed_path(token, &text), json!({ "encrypt": text }).to_string().into_bytes())
}

fn signed_path(token: &Token, text: &str) -> Vec<u8> {
    let signature = Signature::sign(token, "1658332800", "n1", text).to_hex();
    format!("/?msg_signature={signature}&timestamp=1658332800&nonce=n1").into_bytes()
}

fn config(has_password: bool, change: impl FnOnce(&mut Value)) -> Config {
    let (token, key) = CREDENTIALS[0];
    let mut redis = json!({ "cluster": "record", "secret": secret_of("next") });
    if has_password {
        redis["password"] = secret_of("password").into();
    }
    change(&mut redis);
    let config = json!({
        "endpoints": [{
            "path": "/",
            "receive_ids": RECEIVE_IDS,
            "credentials": [{ "token": token, "encoding_aes_key": key }],
            "decision": { "cluster": "decision" },
        }],
        "dedup": { "redis": redis },
    });
    Config::parse(config.to_string().as_bytes(), &|_| None).expect("a configuration")
}

fn secret_of(what: &str) -> String {
    format!("{SECRET}-{what}-of-32-characters-or-more")
}

/// A word of a batch's first command.
fn word(batch: &[u8], index: usize) -> Vec<u8> {
    let commands = commands(batch).expect("whole commands");
    let command = commands.into_iter().find(|words| words[0] != b"AUTH").expect("a command");
    command[index].clone()
}

fn bulk(value: Option<&[u8]>) -> Vec<u8> {
    match value {
        Some(value) => [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat(),
        None => b"$-1\r\n".to_vec(),
    }
}
