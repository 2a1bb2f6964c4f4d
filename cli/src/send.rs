//! WeCom, simulated: seals a callback as WeCom does, or wrongly on purpose, sends it to any URL and
//! opens the answer. For vendors' own tests, of this filter or of whatever else answers the URL.

mod plan;
mod reading;
mod resolve;
mod summary;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use clap::Args;
use clap::builder::PossibleValuesParser;
use indicatif::{ProgressBar, ProgressStyle};
use simulator::wecom::{Account, Answer, Client, Connecting, Trust};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use url::Url;
use wecom_callback_filter::wecom::callback::EventType;

use crate::send::plan::{Label, Plan};
use crate::send::reading::Reading;
use crate::send::resolve::Resolve;
use crate::send::summary::Summary;
use crate::terminal::{say, warn};

/// Sends a WeCom hardware callback to a URL and opens the answer.
///
/// Token and EncodingAESKey given on the command line can be seen by every user of this computer
/// in its list of processes; the environment variables cannot.
#[derive(Debug, Args)]
#[command(after_help = OUTPUT)]
pub(crate) struct Options {
    /// The callback URL; a query of its own is kept.
    #[arg(value_parser = url)]
    url: Url,

    /// What to send: one of the callback types, or the console's check of the URL.
    #[arg(long = "type", value_name = "TYPE", default_value = "bind", value_parser = types())]
    kind: String,

    /// The token of the callback URL.
    #[arg(long, env = TOKEN, hide_env_values = true)]
    token: Option<String>,

    /// The EncodingAESKey of the callback URL, 43 letters and digits.
    #[arg(long, value_name = "KEY", env = ENCODING_AES_KEY, hide_env_values = true)]
    encoding_aes_key: Option<String>,

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

    /// Trust the certificates in this file, in PEM, and not the system's.
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,

    /// Connect to this address for that host and port of the URL, whatever DNS says. HOST may be *, and
    /// ADDRESS several with commas between them. May be repeated; the first one that fits counts.
    #[arg(long, value_name = "HOST:PORT:ADDRESS")]
    resolve: Vec<Resolve>,

    /// Print one JSON object, for scripts.
    #[arg(long)]
    json: bool,

    /// The errcode that every answer must carry, encrypted.
    #[arg(long, value_name = "CODE")]
    expect_errcode: Option<u32>,

    /// Take a bind's answer in clear for errcode 0 if it is an empty 200, or success: for a URL behind which
    /// there is no filter. Otherwise an answer in clear is never as expected.
    #[arg(long)]
    accept_clear: bool,

    /// The HTTP status that every answer must have.
    #[arg(long, value_name = "STATUS")]
    expect_status: Option<u16>,
}

const OUTPUT: &str = "\
One line per answer: what was sent, status, milliseconds, whether the answer was
encrypted, and its text, decrypted. More than 20 are summed up. A bind that is
answered in clear gets a warning: to WeCom an empty 200, or success, means that
the device is bound, and nothing else in clear is a verdict. So it is not what
--expect-errcode asks for, and is counted as \"in clear, not encrypted\".

With --json, one object on standard output:
  {\"answers\": [
    {\"copy\": \"first\", \"req_id\": \"...\", \"status\": 200, \"encrypted\": true,
     \"errcode\": 0, \"reply\": {\"errcode\": 0, \"errmsg\": \"ok\"},
     \"readable\": true, \"ms\": 3.1, \"remarks\": []}],
   \"summary\": {
    \"answers\": {\"errcode 0\": 1}, \"unexpected\": 0, \"unanswered\": 0,
    \"binds_in_clear\": 0, \"min_ms\": 3.1, \"median_ms\": 3.1, \"p99_ms\": 3.1}}
copy is first, replayed or re-encrypted. errcode is what WeCom reads, also in
clear: see encrypted. readable says whether WeCom can make something of it.
reply is an object if the answer's text is one; else it is the text, as are the
digits that answer the check of a URL.

Exit codes:
  0  every answer was as expected; where nothing was said to be expected, one
     that WeCom can read
  1  some answer was not
  2  the command line, the message or the file of certificates is wrong
  3  some request got no answer at all";

const TOKEN: &str = "WECOM_TOKEN";
const ENCODING_AES_KEY: &str = "WECOM_ENCODING_AES_KEY";

const VERIFY_URL: &str = "verify-url";
/// Answers of larger plays are summed up, not listed.
const LISTED: u64 = 20;

/// Sends what is asked for and prints what came of it.
pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    let account = account(&options)?;
    let client = client(&options)?;
    let options = Arc::new(options);
    let plan = Plan::new(&options, account.clone())?;
    let total = plan.total();
    let mut output = Output::new(&options, total)?;

    let mut answers = start(&options, client, plan);
    let mut summary = Summary::default();
    while let Some((label, answer)) = answers.recv().await {
        let read = Reading::of(label, answer, &account);
        output.add(&read);
        summary.add(&read, &options);
    }
    output.end(&summary);
    Ok(summary.exit_code())
}

/// Who is called. Not clap's own check: it would name the arguments, which everybody can see, and not the
/// variables.
fn account(options: &Options) -> Result<Account> {
    let given = [
        (&options.token, TOKEN, "--token <TOKEN>"),
        (&options.encoding_aes_key, ENCODING_AES_KEY, "--encoding-aes-key <KEY>"),
    ];
    if let [(Some(token), ..), (Some(key), ..)] = &given {
        return Account::new(token, key, &options.receive_id);
    }
    let missing = given.iter().filter(|(value, ..)| value.is_none());
    let (variables, arguments): (Vec<_>, Vec<_>) =
        missing.map(|(_, variable, argument)| (*variable, *argument)).unzip();
    let are = if variables.len() > 1 { "are" } else { "is" };
    bail!(
        "{} {are} not set in the environment; {} would do too, but every user of this computer can see arguments",
        variables.join(" and "),
        arguments.join(" and ")
    );
}

fn client(options: &Options) -> Result<Client> {
    let (trust, what) = match &options.cacert {
        Some(file) => {
            let what = format!("--cacert {}", file.display());
            (Trust::Only(std::fs::read(file).with_context(|| what.clone())?), what)
        }
        None if options.url.scheme() == "https" => (Trust::System, "without --cacert".to_owned()),
        None => (Trust::Nothing, String::new()),
    };
    let addresses = options.resolve.iter().find_map(|entry| entry.addresses(&options.url));
    if addresses.is_none() && !options.resolve.is_empty() {
        warn("--resolve is not used: it names another host or port than the URL");
    }
    let host = options.url.host_str().unwrap_or_default().to_owned();
    let addresses = addresses.map(|addresses| (host, addresses));
    Client::connecting(&Connecting { http2: options.http2, trust, addresses }).context(what)
}

/// Where the answers go as they come.
struct Output<'a> {
    options: &'a Options,
    total: u64,
    bar: ProgressBar,
    printed: u64,
}

impl<'a> Output<'a> {
    fn new(options: &'a Options, total: u64) -> Result<Self> {
        // What goes to a terminal line by line needs no bar; a bar is drawn on no file and no pipe.
        let quiet = total > LISTED && !(options.json && std::io::stdout().is_terminal());
        let bar = if quiet { ProgressBar::new(total) } else { ProgressBar::hidden() };
        bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len}  {per_sec}  {eta} left")?);
        if options.json {
            say("{\"answers\": [");
        }
        Ok(Self { options, total, bar, printed: 0 })
    }

    fn add(&mut self, read: &Reading) {
        if self.options.json {
            let comma = if self.printed > 0 { "," } else { "" };
            say(format_args!("{comma}{}", read.to_json()));
        } else if self.total <= LISTED {
            say(read.to_line(self.options));
        }
        self.printed = self.printed.saturating_add(1);
        self.bar.inc(1);
    }

    fn end(&self, summary: &Summary) {
        self.bar.finish_and_clear();
        if self.options.json {
            say(format_args!("], \"summary\": {}}}", summary.to_json()));
        } else if self.total > 1 {
            say(summary);
        }
        match summary.in_clear() {
            0 => {}
            1 => warn(format_args!("a bind was answered in clear: {IN_CLEAR}")),
            many => warn(format_args!("{many} binds were answered in clear: {IN_CLEAR}")),
        }
    }
}

const IN_CLEAR: &str =
    "to WeCom an empty 200, or success, means that the device is bound, and nothing else in clear is a verdict";

type Sent = (Label, Result<Answer>);

/// Sends the plan's requests, as many at once as was asked for.
fn start(options: &Arc<Options>, client: Client, plan: Plan) -> mpsc::UnboundedReceiver<Sent> {
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
                let answer = client.send(options.url.as_str(), &request).await;
                if answered.send((label, answer)).is_err() {
                    break;
                }
            }
        });
    }
    workers.detach_all();
    answers
}

fn types() -> PossibleValuesParser {
    let known = EventType::ALL.iter().map(|(_, name)| *name).filter(|name| *name != "other");
    PossibleValuesParser::new(known.chain([VERIFY_URL]))
}

fn url(text: &str) -> Result<Url> {
    let url = Url::parse(text)?;
    if !["http", "https"].contains(&url.scheme()) || !url.has_host() {
        bail!("not an http or https URL");
    }
    Ok(url)
}
