//! A Redis in memory, as the filter meets it: one connection a batch of commands.
//!
//! [`Redis::execute`] does what a batch asks for and gives what Redis sends until it closes the
//! connection. Whoever holds the batch decides whether that happens at once, late, twice or never, and
//! what the worker hears of it ([`Process::end_exchange`](crate::Process::end_exchange)).
//!
//! Only what the filter sends is known, and anything else is a fault of the filter's: the model panics.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Everything that replicas share. Clones are the same Redis.
#[derive(Clone)]
pub struct Redis(Rc<RefCell<Server>>);

/// An error that commands get from now on: a line such as `OOM command not allowed`, its word first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Those that write, as where there is no memory left.
    Writes(String),
    /// Those about keys, as of a node that they do not belong to.
    Keys(String),
    /// All, as while Redis is loading.
    All(String),
}

/// A fault in what Redis does. None of them may go unnoticed by a test of replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// `SET … NX` writes even if there is a value.
    ClaimsWhatIsThere,
    /// The script that swaps a value writes, whatever the value is.
    SwapsBlindly,
    /// The script that deletes a value deletes, whatever the value is.
    DeletesBlindly,
    /// A value lives three seconds less than it is to.
    ExpiresEarly,
    /// A value lives for ever.
    NeverExpires,
}

struct Server {
    now_ms: u64,
    entries: BTreeMap<Vec<u8>, Entry>,
    user: Option<(Vec<u8>, Vec<u8>)>,
    refusal: Option<Refusal>,
    flaw: Option<Flaw>,
    batches: usize,
    executed: BTreeMap<String, usize>,
}

struct Entry {
    value: Value,
    expires_ms: u64,
}

#[derive(Clone)]
enum Value {
    Text(Vec<u8>),
    /// Of another type.
    List,
}

/// The script that swaps a value, word for word. Another script is another contract.
const SWAP: &[u8] = b"local v=redis.call('GET',KEYS[1]) \
if v==false or v==ARGV[1] then redis.call('SET',KEYS[1],ARGV[2],'EX',ARGV[3]) return ARGV[2] end return v";

/// The script that swaps a value that is there.
const ADOPT: &[u8] = b"local v=redis.call('GET',KEYS[1]) \
if v==ARGV[1] then redis.call('SET',KEYS[1],ARGV[2],'EX',ARGV[3]) return ARGV[2] end return v";

/// The script that deletes a value.
const DELETE: &[u8] = b"if redis.call('GET',KEYS[1])==ARGV[1] then return redis.call('DEL',KEYS[1]) end return 0";

const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";
const NO_AUTH: &str = "NOAUTH Authentication required.";
const WRONG_PASS: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const NO_PASSWORD: &str = "ERR AUTH <password> called without any password configured for the default user. \
Are you sure your configuration is correct?";

impl Redis {
    /// An empty one, open to everybody, at that time in Unix milliseconds.
    pub fn new(now_ms: u64) -> Self {
        Self(Rc::new(RefCell::new(Server {
            now_ms,
            entries: BTreeMap::new(),
            user: None,
            refusal: None,
            flaw: None,
            batches: 0,
            executed: BTreeMap::new(),
        })))
    }

    /// Executes a batch, one connection's, and gives all that Redis answers.
    pub fn execute(&self, batch: &[u8]) -> Vec<u8> {
        let commands = commands(batch).expect("a batch of whole commands");
        assert!(batch.len() < 16_384, "Redis would not read it at once");
        let mut server = self.0.borrow_mut();
        server.batches += 1;
        let mut answer = Vec::new();
        let mut is_known = server.user.is_none();
        let mut ends = false;
        for command in commands {
            assert!(!ends, "a command after QUIT");
            let words: Vec<_> = command.iter().map(Vec::as_slice).collect();
            *server.executed.entry(String::from_utf8_lossy(words[0]).into_owned()).or_default() += 1;
            ends = words[0] == b"QUIT";
            answer.extend_from_slice(&server.reply(&words, &mut is_known));
        }
        assert!(ends, "Redis would not close the connection");
        answer
    }

    /// Sets the clock, in Unix milliseconds.
    pub fn set_clock(&self, now_ms: u64) {
        self.0.borrow_mut().now_ms = now_ms;
    }

    /// Asks for that name and password from now on; the name is `default` where none is given.
    pub fn require(&self, username: &str, password: &str) {
        self.0.borrow_mut().user = Some((username.into(), password.into()));
    }

    /// Refuses commands from now on, or no more.
    pub fn refuse(&self, refusal: Option<Refusal>) {
        self.0.borrow_mut().refusal = refusal;
    }

    /// Is at fault from now on.
    pub fn break_by(&self, flaw: Flaw) {
        self.0.borrow_mut().flaw = Some(flaw);
    }

    /// The keys that have a value.
    pub fn keys(&self) -> Vec<String> {
        let server = self.0.borrow();
        let live = server.entries.iter().filter(|(_, entry)| entry.expires_ms > server.now_ms);
        live.map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect()
    }

    /// What a key has, if it is text.
    pub fn value(&self, key: &str) -> Option<Vec<u8>> {
        match self.0.borrow().find(key.as_bytes()) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// How long a key lives on, in milliseconds.
    pub fn lives_ms(&self, key: &str) -> Option<u64> {
        let server = self.0.borrow();
        server.entries.get(key.as_bytes())?.expires_ms.checked_sub(server.now_ms)
    }

    /// Somebody else writes to a key.
    pub fn put(&self, key: &str, value: &[u8]) {
        self.0.borrow_mut().write(key.as_bytes(), Value::Text(value.to_vec()), u64::MAX);
    }

    /// Somebody else makes a list of a key.
    pub fn put_list(&self, key: &str) {
        self.0.borrow_mut().write(key.as_bytes(), Value::List, u64::MAX);
    }

    /// Somebody else deletes a key.
    pub fn delete(&self, key: &str) {
        self.0.borrow_mut().delete(key.as_bytes());
    }

    /// Somebody else deletes everything.
    pub fn clear(&self) {
        self.0.borrow_mut().entries.clear();
    }

    /// How many batches were executed.
    pub fn batches(&self) -> usize {
        self.0.borrow().batches
    }

    /// How often a command was executed, or refused.
    pub fn executed(&self, name: &str) -> usize {
        self.0.borrow().executed.get(name).copied().unwrap_or(0)
    }
}

impl Server {
    fn reply(&mut self, words: &[&[u8]], is_known: &mut bool) -> Vec<u8> {
        match words {
            [b"QUIT"] => return ok(),
            [b"AUTH", password] => return self.authenticate(b"default", password, is_known),
            [b"AUTH", username, password] => return self.authenticate(username, password, is_known),
            _ if !*is_known => return error(NO_AUTH),
            _ => {}
        }
        if let Some(Refusal::All(line)) = &self.refusal {
            return error(line);
        }
        match (words, &self.refusal) {
            ([b"PING"], _) => b"+PONG\r\n".to_vec(),
            (_, Some(Refusal::Keys(line))) => error(line),
            ([b"SET", ..], Some(Refusal::Writes(line))) => error(line),
            ([b"GET", key], _) => match self.find(key) {
                Some(Value::List) => error(WRONG_TYPE),
                Some(Value::Text(text)) => bulk(Some(&text)),
                None => bulk(None),
            },
            ([b"SET", key, value, b"NX", b"EX", seconds], _) => {
                if self.find(key).is_some() && self.flaw != Some(Flaw::ClaimsWhatIsThere) {
                    return bulk(None);
                }
                self.write(key, Value::Text(value.to_vec()), number(seconds) * 1000);
                ok()
            }
            ([b"DEL", key], _) => integer(i64::from(self.delete(key))),
            ([b"EVAL", SWAP, b"1", key, from, to, seconds], _) => self.swap(key, from, to, number(seconds) * 1000),
            ([b"EVAL", ADOPT, b"1", key, from, to, seconds], _) => match self.find(key) {
                None => bulk(None),
                Some(_) => self.swap(key, from, to, number(seconds) * 1000),
            },
            ([b"EVAL", DELETE, b"1", key, value], _) => {
                let found = match self.find(key) {
                    Some(Value::List) => return error(WRONG_TYPE),
                    Some(Value::Text(text)) => text == *value,
                    None => false,
                };
                let deletes = found || self.flaw == Some(Flaw::DeletesBlindly);
                match &self.refusal {
                    Some(Refusal::Writes(line)) if deletes => error(line),
                    _ => integer(i64::from(deletes && self.delete(key))),
                }
            }
            _ => panic!("unknown: {}", words.join(&b' ').escape_ascii()),
        }
    }

    fn authenticate(&mut self, username: &[u8], password: &[u8], is_known: &mut bool) -> Vec<u8> {
        match &self.user {
            None => error(NO_PASSWORD),
            Some((name, secret)) if name == username && secret == password => {
                *is_known = true;
                ok()
            }
            Some(_) => error(WRONG_PASS),
        }
    }

    fn swap(&mut self, key: &[u8], from: &[u8], to: &[u8], lives_ms: u64) -> Vec<u8> {
        let value = match self.find(key) {
            Some(Value::List) => return error(WRONG_TYPE),
            Some(Value::Text(text)) => Some(text),
            None => None,
        };
        if value.as_deref().is_some_and(|value| value != from) && self.flaw != Some(Flaw::SwapsBlindly) {
            return bulk(value.as_deref());
        }
        if let Some(Refusal::Writes(line)) = &self.refusal {
            return error(line);
        }
        self.write(key, Value::Text(to.to_vec()), lives_ms);
        bulk(Some(to))
    }

    fn find(&self, key: &[u8]) -> Option<Value> {
        self.entries.get(key).filter(|entry| entry.expires_ms > self.now_ms).map(|entry| entry.value.clone())
    }

    fn write(&mut self, key: &[u8], value: Value, lives_ms: u64) {
        let lives_ms = match self.flaw {
            Some(Flaw::ExpiresEarly) => lives_ms.saturating_sub(3_000),
            Some(Flaw::NeverExpires) => u64::MAX,
            _ => lives_ms,
        };
        let expires_ms = self.now_ms.saturating_add(lives_ms);
        self.entries.insert(key.to_vec(), Entry { value, expires_ms });
    }

    fn delete(&mut self, key: &[u8]) -> bool {
        let was_there = self.find(key).is_some();
        self.entries.remove(key);
        was_there
    }
}

/// The commands of a batch, each with its words. `None` if they are not whole, or no commands.
pub fn commands(mut batch: &[u8]) -> Option<Vec<Vec<Vec<u8>>>> {
    let mut commands = Vec::new();
    while !batch.is_empty() {
        let (count, rest) = header(batch, b'*')?;
        batch = rest;
        let mut words = Vec::new();
        for _ in 0..count {
            let (length, rest) = header(batch, b'$')?;
            let (word, rest) = rest.split_at_checked(length)?;
            words.push(word.to_vec());
            batch = rest.strip_prefix(b"\r\n")?;
        }
        commands.push(words);
    }
    Some(commands)
}

/// A number in a line of its own, behind that byte.
fn header(bytes: &[u8], kind: u8) -> Option<(usize, &[u8])> {
    let rest = bytes.strip_prefix(&[kind])?;
    let end = rest.windows(2).position(|two| two == b"\r\n")?;
    Some((std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?, &rest[end + 2..]))
}

fn number(word: &[u8]) -> u64 {
    std::str::from_utf8(word).ok().and_then(|word| word.parse().ok()).expect("a number")
}

fn ok() -> Vec<u8> {
    b"+OK\r\n".to_vec()
}

fn error(line: &str) -> Vec<u8> {
    format!("-{line}\r\n").into_bytes()
}

fn integer(number: i64) -> Vec<u8> {
    format!(":{number}\r\n").into_bytes()
}

fn bulk(text: Option<&[u8]>) -> Vec<u8> {
    match text {
        Some(text) => [format!("${}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat(),
        None => b"$-1\r\n".to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(commands: &[&[&str]]) -> Vec<u8> {
        let mut batch = String::new();
        for words in commands.iter().chain([&["QUIT"][..]].iter()) {
            batch += &format!("*{}\r\n", words.len());
            for word in *words {
                batch += &format!("${}\r\n{word}\r\n", word.len());
            }
        }
        batch.into_bytes()
    }

    fn told(redis: &Redis, command: &[&str]) -> String {
        let answer = String::from_utf8(redis.execute(&batch(&[command]))).unwrap();
        answer.strip_suffix("+OK\r\n").expect("the answer to QUIT").trim_end().to_owned()
    }

    fn text(script: &[u8]) -> &str {
        std::str::from_utf8(script).unwrap()
    }

    #[test]
    fn a_value_is_set_once_until_it_expires() {
        let redis = Redis::new(1000);
        assert_eq!(told(&redis, &["GET", "k"]), "$-1");
        assert_eq!(told(&redis, &["SET", "k", "a", "NX", "EX", "5"]), "+OK");
        assert_eq!(told(&redis, &["SET", "k", "b", "NX", "EX", "5"]), "$-1");
        assert_eq!(told(&redis, &["GET", "k"]), "$1\r\na");
        redis.set_clock(5999);
        assert_eq!((redis.keys(), redis.lives_ms("k")), (vec!["k".to_owned()], Some(1)));
        redis.set_clock(6000);
        assert_eq!((redis.value("k"), redis.keys().len()), (None, 0));
        assert_eq!(told(&redis, &["SET", "k", "b", "NX", "EX", "5"]), "+OK");
        assert_eq!(told(&redis, &["DEL", "k"]), ":1");
        assert_eq!(told(&redis, &["DEL", "k"]), ":0");
    }

    #[test]
    fn the_scripts_compare_before_they_write() {
        let redis = Redis::new(0);
        let swap = |from, to| told(&redis, &["EVAL", text(SWAP), "1", "k", from, to, "5"]);
        let delete = |value| told(&redis, &["EVAL", text(DELETE), "1", "k", value]);
        assert_eq!(swap("a", "b"), "$1\r\nb"); // absent
        assert_eq!(swap("a", "c"), "$1\r\nb");
        assert_eq!(swap("b", "c"), "$1\r\nc");
        assert_eq!((delete("b"), redis.value("k")), (":0".to_owned(), Some(b"c".to_vec())));
        assert_eq!((delete("c"), redis.value("k")), (":1".to_owned(), None));
        assert_eq!(delete("c"), ":0");
    }

    #[test]
    fn what_is_no_text_has_the_wrong_type() {
        let redis = Redis::new(0);
        redis.put_list("k");
        assert_eq!(told(&redis, &["SET", "k", "a", "NX", "EX", "5"]), "$-1");
        for command in
            [&["GET", "k"][..], &["EVAL", text(SWAP), "1", "k", "a", "b", "5"], &["EVAL", text(DELETE), "1", "k", "a"]]
        {
            assert!(told(&redis, command).starts_with("-WRONGTYPE "), "{command:?}");
        }
        assert_eq!(redis.value("k"), None);
    }

    #[test]
    fn a_password_is_asked_for() {
        let redis = Redis::new(0);
        let with = |auth: &[&str]| String::from_utf8(redis.execute(&batch(&[auth, &["PING"]]))).unwrap();
        assert!(with(&["AUTH", "p"]).starts_with("-ERR AUTH"));
        redis.require("u", "p");
        assert_eq!(with(&["AUTH", "u", "p"]), "+OK\r\n+PONG\r\n+OK\r\n");
        assert!(told(&redis, &["PING"]).starts_with("-NOAUTH"));
        let refused = with(&["AUTH", "p"]); // that is the user `default`
        assert!(refused.starts_with("-WRONGPASS") && refused.contains("\r\n-NOAUTH"), "{refused}");
        redis.require("default", "p");
        assert_eq!(with(&["AUTH", "p"]), "+OK\r\n+PONG\r\n+OK\r\n");
    }

    #[test]
    fn it_refuses_what_it_is_told_to() {
        let redis = Redis::new(0);
        redis.put("k", b"a");
        let swap = ["EVAL", text(SWAP), "1", "k", "a", "b", "5"];
        let commands = [&["PING"][..], &["GET", "k"], &["SET", "k", "b", "NX", "EX", "5"], &swap];
        for (refusal, served) in [
            (Refusal::Writes("OOM no".to_owned()), 2),
            (Refusal::Keys("MOVED 1 a:1".to_owned()), 1),
            (Refusal::All("LOADING".to_owned()), 0),
        ] {
            redis.refuse(Some(refusal));
            let answers: Vec<_> = commands.iter().map(|command| told(&redis, command)).collect();
            assert_eq!(answers.iter().filter(|answer| !answer.starts_with('-')).count(), served, "{answers:?}");
        }
        let delete = ["EVAL", text(DELETE), "1", "k", "a"];
        redis.refuse(Some(Refusal::Writes("READONLY no".to_owned())));
        assert_eq!(told(&redis, &delete), "-READONLY no");
        redis.refuse(None);
        assert_eq!(told(&redis, &delete), ":1");
        assert_eq!((redis.executed("GET"), redis.executed("QUIT")), (3, redis.batches()));
    }

    #[test]
    fn a_flaw_writes_where_it_must_not() {
        for flaw in [Flaw::ClaimsWhatIsThere, Flaw::SwapsBlindly, Flaw::DeletesBlindly] {
            let redis = Redis::new(0);
            redis.break_by(flaw);
            redis.put("k", b"a");
            let claim = told(&redis, &["SET", "k", "b", "NX", "EX", "5"]);
            assert_eq!(claim == "+OK", flaw == Flaw::ClaimsWhatIsThere);
            redis.put("k", b"a");
            told(&redis, &["EVAL", text(SWAP), "1", "k", "x", "c", "5"]);
            assert_eq!(redis.value("k").unwrap() == b"c", flaw == Flaw::SwapsBlindly);
            redis.put("k", b"a");
            told(&redis, &["EVAL", text(DELETE), "1", "k", "x"]);
            assert_eq!(redis.value("k").is_none(), flaw == Flaw::DeletesBlindly);
        }
    }

    #[test]
    fn a_flaw_lets_values_live_too_short_or_too_long() {
        for (flaw, live_ms) in [(Flaw::ExpiresEarly, 2_000), (Flaw::NeverExpires, u64::MAX)] {
            let redis = Redis::new(0);
            redis.break_by(flaw);
            told(&redis, &["SET", "k", "a", "NX", "EX", "5"]);
            assert_eq!(redis.lives_ms("k"), Some(live_ms));
        }
    }

    #[test]
    fn somebody_else_deletes() {
        let redis = Redis::new(0);
        redis.put("k", b"a");
        redis.put("l", b"a");
        redis.delete("k");
        assert_eq!(redis.keys(), ["l"]);
        redis.clear();
        assert!(redis.keys().is_empty());
    }

    #[test]
    fn commands_are_read_whole_or_not_at_all() {
        let whole = batch(&[&["SET", "k", ""]]);
        assert_eq!(commands(&whole).unwrap().len(), 2);
        for cut in 1..whole.len() {
            assert!(commands(&whole[..cut]).is_none_or(|commands| commands.len() < 2), "cut after {cut} bytes");
        }
    }
}
