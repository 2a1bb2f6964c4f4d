//! The filter at work, in one command: a real Envoy from the repository's own `envoy.yaml`, a
//! stand-in backend behind it, and callbacks as WeCom sends them, good, bad and repeated. Or two Envoys
//! and a Redis: [`replicas`].
//!
//! Whatever it starts, it ends. It needs the repository and what `make demo` builds and fetches.

mod replicas;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;
use testbed::backend::{Backend, Behaviour};
use testbed::envoy::{Bootstrap, Envoy};
use testbed::wecom::{Account, Answer, Client, Event, Request, unix_now};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use wecom_callback_filter::wecom::verdict::Verdict;

use crate::terminal::{BAD, GOOD, in_one_line, say, styled};

/// Shows the filter at work in a real Envoy: good, bad and repeated callbacks, a line each.
///
/// It starts Envoy with the repository's envoy.yaml and a stand-in backend, and ends them. `make demo` and
/// `make demo-replicas` fetch and build what it needs first.
#[derive(Debug, Args)]
#[command(after_help = PROGRAMS)]
pub(crate) struct Options {
    /// Two Envoys that share their record in a Redis: copies on the other one, Redis away, an Envoy killed
    /// in mid-call.
    #[arg(long)]
    replicas: bool,
}

const PROGRAMS: &str = "\
Environment:
  ENVOY         the Envoy to start
  FUNC_E        the func-e to start it through; where there is none, Envoy is started directly
  WECOM_WASM    the filter's module
  REDIS_SERVER  the redis-server to start
What is not set is looked for in the repository's target/, where the Makefile puts it.

Exit codes:
  0  all was as it should be
  1  something was not
  2  it could not be shown";

/// How long WeCom waits for the answer to a bind (document 95987).
const WECOM_WAITS: Duration = Duration::from_secs(3);

/// Something sent, and what must come of it.
struct Scene {
    /// What is sent, in words.
    title: &'static str,
    /// The device it is about.
    device_sn: &'static str,
    /// How the backend answers for that device; without it, the backend must not be asked.
    backend: Option<Behaviour>,
    /// The requests.
    requests: Vec<Request>,
    /// When each of them is sent.
    pace: Pace,
    /// What every one of them must be answered with.
    answer: Expected,
    /// How many requests the backend must have seen afterwards.
    backend_requests: usize,
}

/// When the requests of a scene are sent.
enum Pace {
    /// Each after the answer to the one before.
    InTurn,
    /// All at once.
    Together,
}

/// An answer as WeCom would see it.
enum Expected {
    /// 200 and this text, not encrypted.
    Plain(&'static str),
    /// 200 and, encrypted, the verdict with this errcode and its documented text.
    Errcode(u32),
    /// This status and a reason in JSON.
    Rejection(u16),
}

fn scenes(account: &Account) -> Vec<Scene> {
    let bind = |device_sn: &str| account.seal(Event::bind(device_sn));
    let an_hour_ago = unix_now().saturating_sub(3600);
    let (after, during) = (Event::bind("sn-again"), Event::bind("sn-meanwhile"));
    vec![
        Scene {
            title: "the console verifies the URL",
            device_sn: "-",
            backend: None,
            requests: vec![account.verify_url("7139691598513686239")],
            pace: Pace::InTurn,
            answer: Expected::Plain("7139691598513686239"),
            backend_requests: 0,
        },
        Scene {
            title: "a bind that the backend accepts",
            device_sn: "sn-accept",
            backend: Some(Behaviour::verdict(0)),
            requests: vec![bind("sn-accept")],
            pace: Pace::InTurn,
            answer: Expected::Errcode(0),
            backend_requests: 1,
        },
        Scene {
            title: "a bind that it refuses with errcode 4",
            device_sn: "sn-refuse",
            backend: Some(Behaviour::verdict(4)),
            requests: vec![bind("sn-refuse")],
            pace: Pace::InTurn,
            answer: Expected::Errcode(4),
            backend_requests: 1,
        },
        Scene {
            title: "a bind with a forged signature",
            device_sn: "sn-forged",
            backend: None,
            requests: vec![bind("sn-forged").forged()],
            pace: Pace::InTurn,
            answer: Expected::Rejection(403),
            backend_requests: 0,
        },
        Scene {
            title: "a bind that was captured an hour ago",
            device_sn: "sn-stale",
            backend: None,
            requests: vec![account.seal_at(Event::bind("sn-stale").createtime(an_hour_ago), an_hour_ago, "1372623149")],
            pace: Pace::InTurn,
            answer: Expected::Rejection(403),
            backend_requests: 0,
        },
        Scene {
            title: "a bind while the backend sleeps",
            device_sn: "sn-sleep",
            backend: Some(Behaviour::hang()),
            requests: vec![bind("sn-sleep")],
            pace: Pace::InTurn,
            answer: Expected::Errcode(7),
            backend_requests: 1,
        },
        Scene {
            title: "a bind while the backend breaks off",
            device_sn: "sn-cut",
            backend: Some(Behaviour::cut_off()),
            requests: vec![bind("sn-cut")],
            pace: Pace::InTurn,
            answer: Expected::Errcode(7),
            backend_requests: 1,
        },
        Scene {
            title: "a refused bind, sent three times",
            device_sn: "sn-again",
            backend: Some(Behaviour::verdict(2)),
            requests: (0..3).map(|_| account.seal(&after)).collect(),
            pace: Pace::InTurn,
            answer: Expected::Errcode(2),
            backend_requests: 1,
        },
        Scene {
            title: "a slow bind, sent three times at once",
            device_sn: "sn-meanwhile",
            backend: Some(Behaviour::verdict(3).after(Duration::from_millis(300))),
            requests: (0..3).map(|_| account.seal(&during)).collect(),
            pace: Pace::Together,
            answer: Expected::Errcode(3),
            backend_requests: 1,
        },
    ]
}

/// Plays one of the two, unless interrupted.
pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    // Whichever comes first, the others are dropped, and Envoy and the backend with them.
    tokio::select! {
        good = play_either(options.replicas) => Ok(ExitCode::from(u8::from(!good?))),
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    }
}

async fn play_either(replicas: bool) -> Result<bool> {
    let good = if replicas { replicas::play().await? } else { play().await? };
    let (style, words) = if good { (GOOD, "All as it should be.") } else { (BAD, "Not as it should be.") };
    say(format_args!("\n{}", styled(style, words)));
    Ok(good)
}

/// Plays all scenes; whether each went as it should.
async fn play() -> Result<bool> {
    let account = Account::demo();
    let backend = Backend::start().await?;
    let bootstrap =
        Bootstrap::example()?.cluster("decision", backend.port()).cluster("backend", backend.port()).account(&account);
    let envoy = Envoy::start(bootstrap).await?;
    let url = Arc::new(envoy.url("/suite/receive"));
    say(format_args!("Envoy on {}, the backend on {}\n", envoy.address(), backend.address()));
    say(format_args!("  {:<40}{:<16}{:>7}  what WeCom reads", "what WeCom sends", "backend saw", "ms"));

    let mut good = true;
    for scene in scenes(&account) {
        good &= scene.play(&account, &backend, &url).await.with_context(|| scene.title)?;
    }
    for trouble in envoy.troubles().await? {
        good = false;
        say(format_args!("{} Envoy's log: {}", mark(false), in_one_line(&trouble)));
    }
    envoy.stop().await?;
    Ok(good)
}

impl Scene {
    async fn play(&self, account: &Account, backend: &Backend, url: &Arc<String>) -> Result<bool> {
        backend.forget();
        if let Some(behaviour) = &self.backend {
            backend.on_device(self.device_sn, behaviour.clone());
        }
        let answers = self.send(url).await?;
        let saw = backend.count();

        let mut good = saw == self.backend_requests;
        for (position, answer) in answers.iter().enumerate() {
            let fits = self.answer.fits(answer, account);
            good &= fits;
            let mark = mark(fits && saw == self.backend_requests);
            let title = if position == 0 { self.title } else { "  … the same once more" };
            let saw = match (position, saw) {
                (0, 0) => "nothing".to_owned(),
                (0, 1) => "1 request".to_owned(),
                (0, many) => format!("{many} requests"),
                _ => String::new(),
            };
            let elapsed = answer.elapsed.as_secs_f64() * 1000.0;
            say(format_args!("{mark} {title:<40}{saw:<16}{elapsed:>7.1}  {}", describe(answer, account)));
        }
        if !good {
            say(format_args!(
                "    expected: {}, the backend asked {} times",
                self.answer.describe(),
                self.backend_requests
            ));
        }
        Ok(good)
    }

    async fn send(&self, url: &Arc<String>) -> Result<Vec<Answer>> {
        let client = Client::http1();
        let mut answers = Vec::new();
        match self.pace {
            Pace::InTurn => {
                for request in &self.requests {
                    answers.push(client.send(url, request).await?);
                }
            }
            Pace::Together => {
                let mut sending = JoinSet::new();
                for request in self.requests.clone() {
                    let (client, url) = (client.clone(), Arc::clone(url));
                    sending.spawn(async move { client.send(&url, &request).await });
                }
                while let Some(answer) = sending.join_next().await {
                    answers.push(answer??);
                }
            }
        }
        Ok(answers)
    }
}

impl Expected {
    fn fits(&self, answer: &Answer, account: &Account) -> bool {
        if answer.elapsed > WECOM_WAITS {
            return false;
        }
        match self {
            Self::Plain(text) => answer.status == 200 && answer.body == text.as_bytes(),
            Self::Errcode(errcode) => {
                let verdict = Verdict::new(*errcode, None).to_json();
                answer.decrypt(account).is_ok_and(|reply| reply.plaintext == verdict)
            }
            Self::Rejection(status) => {
                let body = answer.json().unwrap_or_default();
                let said = |name: &str| body.get(name).and_then(Value::as_str).is_some_and(|word| !word.is_empty());
                answer.status == *status && said("error") && said("request_id")
            }
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Plain(text) => format!("200 {text}"),
            Self::Errcode(errcode) => format!("200, encrypted errcode {errcode}"),
            Self::Rejection(status) => format!("{status} and a reason"),
        }
    }
}

/// Status and text, decrypted where it is encrypted.
fn describe(answer: &Answer, account: &Account) -> String {
    let (lock, text) = match answer.decrypt(account) {
        Ok(reply) => ("encrypted ", reply.text()),
        Err(_) => ("", answer.text()),
    };
    format!("{} {lock}{}", answer.status, in_one_line(text.trim_end()))
}

fn mark(good: bool) -> String {
    if good { styled(GOOD, '✓') } else { styled(BAD, '✗') }
}
