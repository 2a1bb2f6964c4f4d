//! WeCom, simulated: seals a callback as WeCom does, or wrongly on purpose, sends it to any URL and
//! opens the answer. For vendors' own tests, of this filter or of whatever else answers the URL.

use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use clap::builder::PossibleValuesParser;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use simulator::wecom::{Account, Answer, Client, Event, Request, random_nonce, unix_now};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use wecom_callback_filter::wecom::callback::{Content, EventType};

use crate::terminal::say;

/// Sends a WeCom hardware callback to a URL and opens the answer.
///
/// Token and EncodingAESKey given on the command line can be seen by every user of this computer
/// in its list of processes; the environment variables cannot.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Options {
    /// The callback URL; a query of its own is kept.
    url: String,

    /// What to send: one of the callback types, or the console's check of the URL.
    #[arg(long = "type", value_name = "TYPE", default_value = "bind", value_parser = types())]
    kind: String,

    /// The token of the callback URL.
    #[arg(long, env = "WECOM_TOKEN", hide_env_values = true)]
    token: String,

    /// The EncodingAESKey of the callback URL, 43 letters and digits.
    #[arg(long, value_name = "KEY", env = "WECOM_ENCODING_AES_KEY", hide_env_values = true)]
    encoding_aes_key: String,

    /// Whom to address: the model id, or the provider's corpid.
    #[arg(long, value_name = "ID", env = "WECOM_RECEIVE_ID", default_value = "2000000000000001")]
    receive_id: String,

    /// The device's serial number.
    #[arg(long, value_name = "SERIAL", default_value = "sn-accept-1")]
    device_sn: String,

    /// The request id; a new one for every message if not given.
    #[arg(long, value_name = "ID")]
    req_id: Option<String>,

    /// Send this file's bytes as the plaintext message instead (- is the standard input).
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kind", "device_sn", "req_id"])]
    message: Option<String>,

    /// Break the signature.
    #[arg(long)]
    forge: bool,

    /// Swap timestamp and nonce, under which the signature still holds.
    #[arg(long)]
    swap: bool,

    /// Date the message and its timestamp this many seconds back.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, allow_negative_numbers = true)]
    age: i64,

    /// After each message send the very same bytes so many times again.
    #[arg(long, value_name = "N", default_value_t = 0)]
    replay: u32,

    /// After each message send it so many times again under a new nonce and ciphertext.
    #[arg(long, value_name = "N", default_value_t = 0)]
    re_encrypt: u32,

    /// How many messages to send.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,

    /// How many requests to have under way at once.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    concurrency: u32,

    /// Speak HTTP/2 from the first byte instead of HTTP/1.1.
    #[arg(long)]
    http2: bool,

    /// Print one JSON object per answer, for scripts.
    #[arg(long)]
    json: bool,

    /// The errcode that every answer must carry.
    #[arg(long, value_name = "CODE")]
    expect_errcode: Option<u32>,

    /// The HTTP status that every answer must have.
    #[arg(long, value_name = "STATUS")]
    expect_status: Option<u16>,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  every answer was as expected; where nothing was said to be expected, one that WeCom can read
  1  some answer was not
  2  the command line or the message is wrong
  3  some request got no answer at all";

const VERIFY_URL: &str = "verify-url";
/// Answers of larger plays are summed up, not listed.
const LISTED: u64 = 20;

/// Sends what is asked for and prints what came of it.
pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    let account = Account::new(&options.token, &options.encoding_aes_key, &options.receive_id)?;
    let options = Arc::new(options);
    let plan = Plan::new(&options, account.clone())?;
    let total = plan.total();
    let listed = options.json || total <= LISTED;

    let bar = if listed { ProgressBar::hidden() } else { ProgressBar::new(total) };
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len}  {per_sec}  {eta} left")?);
    let mut answers = start(&options, plan);
    let mut summary = Summary::default();
    while let Some((label, answer)) = answers.recv().await {
        let read = Reading::of(label, answer, &account);
        if options.json {
            say(read.to_json());
        } else if listed {
            say(&read);
        }
        summary.add(&read, &options);
        bar.inc(1);
    }
    bar.finish_and_clear();
    if total > 1 {
        say(if options.json { summary.to_json().to_string() } else { summary.to_string() });
    }
    Ok(summary.exit_code())
}

/// What to send next: messages, each followed by its repetitions.
struct Plan {
    options: Arc<Options>,
    account: Account,
    message: Option<Vec<u8>>,
    left: u32,
    queue: VecDeque<(Label, Request)>,
}

/// What a request was, for reading its answer.
#[derive(Debug, Clone)]
struct Label {
    /// First, replayed or re-encrypted.
    copy: &'static str,
    /// The type, where it is a callback.
    event: Option<EventType>,
    /// The digits to be echoed, where it checks the URL.
    echo: Option<String>,
    req_id: Option<String>,
}

impl Plan {
    fn new(options: &Arc<Options>, account: Account) -> Result<Self> {
        let message = match options.message.as_deref() {
            None => None,
            Some("-") => {
                let mut message = Vec::new();
                std::io::stdin().read_to_end(&mut message).context("the standard input")?;
                Some(message)
            }
            Some(file) => Some(std::fs::read(file).with_context(|| file.to_owned())?),
        };
        if !options.url.starts_with("http://") && !options.url.starts_with("https://") {
            bail!("{:?} is not an http or https URL", options.url);
        }
        Ok(Self { options: Arc::clone(options), account, message, left: options.count, queue: VecDeque::new() })
    }

    fn total(&self) -> u64 {
        let copies = u64::from(self.options.replay).saturating_add(self.options.re_encrypt.into()).saturating_add(1);
        copies.saturating_mul(self.left.into())
    }

    /// Sealed when asked for, so that the last one is as fresh as the first.
    fn next(&mut self) -> Option<(Label, Request)> {
        if self.queue.is_empty() && self.left > 0 {
            self.left = self.left.saturating_sub(1);
            let message = self.compose();
            let (label, request) = self.seal("first", &message);
            for _ in 0..self.options.replay {
                self.queue.push_back((Label { copy: "replayed", ..label.clone() }, request.clone()));
            }
            for _ in 0..self.options.re_encrypt {
                self.queue.push_back(self.seal("re-encrypted", &message));
            }
            self.queue.push_front((label, request));
        }
        self.queue.pop_front()
    }

    /// The plaintext of a new message.
    fn compose(&self) -> Vec<u8> {
        if let Some(message) = &self.message {
            return message.clone();
        }
        if self.options.kind == VERIFY_URL {
            // As many digits as WeCom sends.
            return format!("{}{}", random_nonce(), random_nonce()).into_bytes();
        }
        let event = Event::of(EventType::from_name(&self.options.kind), &self.options.device_sn);
        let event = event.createtime(self.sent_at());
        let event = match &self.options.req_id {
            Some(req_id) => event.req_id(req_id),
            None => event,
        };
        event.to_json(self.account.receive_id())
    }

    fn seal(&self, copy: &'static str, message: &[u8]) -> (Label, Request) {
        let mut request = self.account.seal_at(message, self.sent_at(), &random_nonce());
        let callback = Content::parse(message).ok();
        let mut echo = None;
        if self.options.kind == VERIFY_URL && self.message.is_none() {
            echo = Some(String::from_utf8_lossy(message).into_owned());
            request = request.into_get();
        }
        if self.options.forge {
            request = request.forged();
        }
        if self.options.swap {
            request = request.swapped();
        }
        let event = callback.as_ref().map(|callback| callback.event);
        (Label { copy, event, echo, req_id: callback.and_then(|callback| callback.req_id) }, request)
    }

    fn sent_at(&self) -> u64 {
        unix_now().saturating_add_signed(self.options.age.saturating_neg())
    }
}

type Sent = (Label, Result<Answer>);

/// Sends the plan's requests, as many at once as was asked for.
fn start(options: &Arc<Options>, plan: Plan) -> mpsc::UnboundedReceiver<Sent> {
    let client = if options.http2 { Client::http2() } else { Client::http1() };
    let plan = Arc::new(Mutex::new(plan));
    let (answered, answers) = mpsc::unbounded_channel();
    let mut workers = JoinSet::new();
    for _ in 0..options.concurrency {
        let (options, client) = (Arc::clone(options), client.clone());
        let (plan, answered) = (Arc::clone(&plan), answered.clone());
        workers.spawn(async move {
            loop {
                let next = plan.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((label, request)) = next else { break };
                let answer = client.send(&options.url, &request).await;
                if answered.send((label, answer)).is_err() {
                    break;
                }
            }
        });
    }
    workers.detach_all();
    answers
}

/// An answer, read as WeCom reads it.
struct Reading {
    label: Label,
    status: Option<u16>,
    /// The plaintext, or the body as it came.
    text: String,
    encrypted: bool,
    errcode: Option<u32>,
    /// Whether WeCom could make anything of it.
    readable: bool,
    elapsed: Duration,
    remark: Option<&'static str>,
}

impl Reading {
    fn of(label: Label, answer: Result<Answer>, account: &Account) -> Self {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let text = format!("no answer: {error:#}");
                let (status, errcode, elapsed) = (None, None, Duration::ZERO);
                return Self { label, status, text, encrypted: false, errcode, readable: false, elapsed, remark: None };
            }
        };
        let bind = label.event == Some(EventType::Bind);
        let reply = answer.decrypt(account).ok();
        let mut errcode = reply.as_ref().and_then(simulator::wecom::Reply::errcode);
        let mut remark = None;
        let readable = match (&label.echo, &reply) {
            (Some(echo), _) => answer.status == 200 && answer.body == echo.as_bytes(),
            (None, Some(_)) if bind => errcode.is_some(),
            (None, Some(reply)) => reply.json().is_ok_and(|reply| reply.is_object()),
            (None, None) => answer.is_bare_success(),
        };
        if bind && answer.is_bare_success() {
            errcode = Some(0);
            remark = Some("no verdict in it: WeCom takes this for approval");
        }
        // Documents 95987 and 90930 and those of the other types.
        let limit = Duration::from_secs(if bind { 3 } else { 1 });
        if answer.elapsed > limit {
            remark = Some("too late for WeCom");
        }
        Self {
            label,
            status: Some(answer.status),
            text: reply.as_ref().map_or_else(|| answer.text(), simulator::wecom::Reply::text),
            encrypted: reply.is_some(),
            errcode,
            readable,
            elapsed: answer.elapsed,
            remark,
        }
    }

    fn as_expected(&self, options: &Options) -> bool {
        if options.expect_errcode.is_none() && options.expect_status.is_none() {
            return self.readable;
        }
        options.expect_errcode.is_none_or(|errcode| self.errcode == Some(errcode))
            && options.expect_status.is_none_or(|status| self.status == Some(status))
    }

    fn ms(&self) -> f64 {
        milliseconds(self.elapsed)
    }

    /// What it is counted as.
    fn class(&self) -> String {
        match (self.status, self.errcode) {
            (None, _) => "no answer".to_owned(),
            (Some(_), Some(errcode)) => format!("errcode {errcode}"),
            (Some(status), None) => format!("status {status}"),
        }
    }

    fn to_json(&self) -> Value {
        let reply = serde_json::from_str(&self.text).unwrap_or_else(|_| Value::from(self.text.as_str()));
        json!({
            "copy": self.label.copy,
            "req_id": self.label.req_id,
            "status": self.status,
            "encrypted": self.encrypted,
            "errcode": self.errcode,
            "reply": reply,
            "readable": self.readable,
            "ms": self.ms(),
            "remark": self.remark,
        })
    }
}

impl std::fmt::Display for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let status = self.status.map_or_else(|| "---".to_owned(), |status| status.to_string());
        let lock = if self.encrypted { "encrypted" } else { "plain" };
        write!(f, "{:<12} {status} {:>8.1} ms  {lock:<9}  {}", self.label.copy, self.ms(), self.text.trim_end())?;
        self.remark.map_or(Ok(()), |remark| write!(f, "  ({remark})"))
    }
}

/// All answers together.
#[derive(Default)]
struct Summary {
    classes: BTreeMap<String, u64>,
    elapsed: Vec<Duration>,
    unexpected: u64,
    unanswered: u64,
}

impl Summary {
    fn add(&mut self, read: &Reading, options: &Options) {
        let count = self.classes.entry(read.class()).or_default();
        *count = count.saturating_add(1);
        if read.status.is_some() {
            self.elapsed.push(read.elapsed);
        } else {
            self.unanswered = self.unanswered.saturating_add(1);
        }
        if !read.as_expected(options) {
            self.unexpected = self.unexpected.saturating_add(1);
        }
    }

    fn exit_code(&self) -> ExitCode {
        ExitCode::from(if self.unanswered > 0 { 3 } else { u8::from(self.unexpected > 0) })
    }

    /// The time within which that many of a hundred answers came, in milliseconds.
    fn percentile(&self, percent: usize) -> Option<f64> {
        let mut sorted = self.elapsed.clone();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        sorted.get(last.saturating_mul(percent).div_ceil(100)).copied().map(milliseconds)
    }

    fn to_json(&self) -> Value {
        json!({ "summary": {
            "answers": self.classes,
            "unexpected": self.unexpected,
            "min_ms": self.percentile(0),
            "median_ms": self.percentile(50),
            "p99_ms": self.percentile(99),
        } })
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (class, count) in &self.classes {
            writeln!(f, "{count:>8} × {class}")?;
        }
        let ms = |percent| self.percentile(percent).map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"));
        write!(f, "min {} ms, median {} ms, p99 {} ms, not as expected: {}", ms(0), ms(50), ms(99), self.unexpected)
    }
}

fn milliseconds(elapsed: Duration) -> f64 {
    (elapsed.as_secs_f64() * 10_000.0).round() / 10.0
}

fn types() -> PossibleValuesParser {
    let known = EventType::ALL.iter().map(|(_, name)| *name).filter(|name| *name != "other");
    PossibleValuesParser::new(known.chain([VERIFY_URL]))
}
