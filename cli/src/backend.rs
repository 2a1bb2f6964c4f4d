//! A stand-in for a vendor's backend: decides about binds and takes all other callbacks, well or
//! badly, as the device's serial number asks for.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use simulator::backend::{Backend, Behaviour, Received};

use crate::terminal::say;

/// Stands in for the backend that the filter calls, scripted by device serial numbers.
///
/// It prints one line per request. The auth_code and other secrets of a message are never printed.
#[derive(Debug, Args)]
#[command(after_help = SERIALS)]
pub(crate) struct Options {
    /// Where to take requests for decisions.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9000")]
    listen: SocketAddr,

    /// Where to take every other callback.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9001")]
    events_listen: SocketAddr,

    /// The verdict on binds of all other devices.
    #[arg(long, value_name = "CODE", default_value_t = 0)]
    default: u32,

    /// The verdict on binds of this device. May be repeated.
    #[arg(long, value_name = "SERIAL=CODE", value_parser = verdict)]
    verdict: Vec<(String, u32)>,

    /// Wait this long before every answer.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    delay_ms: u64,

    /// Print one JSON object per line: first where it listens, then every request and its answer.
    #[arg(long)]
    json: bool,
}

const SERIALS: &str = "\
Serial numbers with a meaning:
  sn-accept…        errcode 0
  sn-refuse-CODE    that errcode
  sn-slow-MS        errcode 0 after so many milliseconds
  sn-empty          an empty 200, which counts as errcode 0
  sn-success        the bare word success, which counts as errcode 0
  sn-hang           takes the request and never answers
  sn-stall          sends the headers and never a body
  sn-cut            closes the connection in mid-body
  sn-close          closes the connection without an answer
  sn-garbage        answers with something that is not HTTP
  sn-html           answers 200 with a web page
  sn-STATUS         that HTTP status, as in sn-500
Callbacks other than bind are answered with what their type asks for, else success.";

/// Serves until ctrl-c.
pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    let decisions = serve(options.listen, &options).await?;
    let events = serve(options.events_listen, &options).await?;
    let (decisions_at, events_at) = (decisions.address(), events.address());
    if options.json {
        say(json!({ "decisions": decisions_at, "events": events_at }));
    } else {
        say(format_args!("decisions on {decisions_at}, other callbacks on {events_at}; ctrl-c ends it"));
    }
    tokio::signal::ctrl_c().await.context("waiting for ctrl-c")?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(address: SocketAddr, options: &Options) -> Result<Backend> {
    let backend = Backend::listen(address).await?;
    let verdicts: HashMap<String, u32> = options.verdict.iter().cloned().collect();
    let (default, delay, json) = (options.default, Duration::from_millis(options.delay_ms), options.json);
    backend.script(move |request| {
        let serial = request.device_sn().unwrap_or_default();
        let code = verdicts.get(&serial).filter(|_| is_bind(request));
        let chosen = code.map(|code| Behaviour::verdict(*code)).or_else(|| by_serial(&serial, request));
        let chosen = chosen.unwrap_or_else(|| by_type(request, default));
        let chosen = if delay.is_zero() { chosen } else { chosen.after(delay) };
        if json {
            say(object(request, &chosen));
        } else {
            say(line(request, &chosen));
        }
        Some(chosen)
    });
    Ok(backend)
}

/// What a serial number asks for. Verdicts are for binds; all else is for every type.
fn by_serial(serial: &str, request: &Received) -> Option<Behaviour> {
    let wish = serial.strip_prefix("sn-")?;
    if let Some(pause) = wish.strip_prefix("slow-") {
        let pause = Duration::from_millis(pause.parse().ok()?);
        return Some(by_type(request, 0).after(pause));
    }
    if is_bind(request) && wish.starts_with("accept") {
        return Some(Behaviour::verdict(0));
    }
    if is_bind(request)
        && let Some(code) = wish.strip_prefix("refuse-")
    {
        return code.parse().ok().map(Behaviour::verdict);
    }
    match wish {
        "empty" => Some(Behaviour::empty()),
        "success" => Some(Behaviour::success()),
        "hang" => Some(Behaviour::hang()),
        "stall" => Some(Behaviour::headers_then_silence()),
        "cut" => Some(Behaviour::cut_off()),
        "close" => Some(Behaviour::close()),
        "garbage" => Some(Behaviour::garbage()),
        "html" => Some(Behaviour::html()),
        status => status.parse().ok().filter(|status| (200..600).contains(status)).map(Behaviour::status),
    }
}

/// What a type of callback asks for.
fn by_type(request: &Received, default: u32) -> Behaviour {
    match request.event().as_deref() {
        Some("bind") => Behaviour::verdict(default),
        Some("verify_device") => Behaviour::json(r#"{"is_valid":true,"modelid":"2000000000000001"}"#),
        Some("user_scan") => Behaviour::json(r#"{"online_status":1}"#),
        _ => Behaviour::success(),
    }
}

fn is_bind(request: &Received) -> bool {
    request.event().as_deref() == Some("bind")
}

/// Event, ids and answer, whatever bytes they are made of.
fn line(request: &Received, answer: &Behaviour) -> String {
    let shown = |text: Option<String>| text.map_or_else(|| "-".to_owned(), |text| text.escape_debug().to_string());
    format!(
        "{:<20} req_id={:<32} device_sn={:<20} -> {answer}",
        shown(request.event()),
        shown(request.req_id()),
        shown(request.device_sn())
    )
}

fn object(request: &Received, answer: &Behaviour) -> Value {
    json!({
        "event": request.event(),
        "req_id": request.req_id(),
        "device_sn": request.device_sn(),
        "answer": answer.to_string(),
    })
}

fn verdict(text: &str) -> Result<(String, u32)> {
    let (serial, code) = text.rsplit_once('=').context("expected SERIAL=CODE")?;
    Ok((serial.to_owned(), code.parse().context("the code is an unsigned 32-bit number")?))
}
