//! An answer, as WeCom reads it.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use simulator::wecom::{Account, Answer, Reply};
use wecom_callback_filter::wecom::callback::EventType;

use crate::send::Options;
use crate::send::plan::Label;
use crate::terminal::{BAD, DOUBTFUL, in_one_line, styled};

/// An answer, read as WeCom reads it.
pub(super) struct Reading {
    label: Label,
    status: Option<u16>,
    /// The plaintext, or the body as it came.
    text: String,
    encrypted: bool,
    errcode: Option<u32>,
    /// Whether WeCom could make anything of it.
    readable: bool,
    /// Whether it is a bind's and not encrypted: no verdict, and perhaps an approval.
    in_clear: bool,
    elapsed: Duration,
    remarks: Vec<String>,
}

impl Reading {
    /// Opens an answer and judges it.
    pub(super) fn of(label: Label, answer: Result<Answer>, account: &Account) -> Self {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                return Self {
                    label,
                    status: None,
                    text: format!("no answer: {error:#}"),
                    encrypted: false,
                    errcode: None,
                    readable: false,
                    in_clear: false,
                    elapsed: Duration::ZERO,
                    remarks: Vec::new(),
                };
            }
        };
        let bind = label.event == Some(EventType::Bind);
        let opened = answer.decrypt(account);
        let sealed = answer.status == 200 && answer.json().is_ok_and(|body| body.get("encrypt").is_some());
        let in_clear = bind && answer.status == 200 && !sealed;
        let mut remarks = Vec::new();
        if let (true, Err(error)) = (sealed, &opened) {
            remarks.push(format!("{error:#}"));
        }
        let reply = opened.ok();
        let mut errcode = reply.as_ref().and_then(Reply::errcode);
        let readable = match (&label.echo, &reply) {
            (Some(echo), _) => answer.status == 200 && answer.body == echo.as_bytes(),
            (None, Some(_)) if bind => errcode.is_some(),
            (None, Some(reply)) => reply.json().is_ok_and(|reply| reply.is_object()),
            (None, None) => answer.is_bare_success(),
        };
        if in_clear && answer.is_bare_success() {
            errcode = Some(0);
            remarks.push("in clear, not encrypted: no verdict in it, and WeCom takes it for approval".to_owned());
        } else if in_clear {
            remarks.push("in clear, not encrypted: no verdict that WeCom can read".to_owned());
        }
        // Documents 95987 and 90930 and those of the other types.
        let limit = Duration::from_secs(if bind { 3 } else { 1 });
        if answer.elapsed > limit {
            remarks.push("too late for WeCom".to_owned());
        }
        Self {
            label,
            status: Some(answer.status),
            text: reply.as_ref().map_or_else(|| answer.text(), Reply::text),
            encrypted: reply.is_some(),
            errcode,
            readable,
            in_clear,
            elapsed: answer.elapsed,
            remarks,
        }
    }

    /// How long it took, if there was one.
    pub(super) fn elapsed(&self) -> Option<Duration> {
        self.status.map(|_| self.elapsed)
    }

    /// Whether a bind was answered without encryption.
    pub(super) fn is_in_clear(&self) -> bool {
        self.in_clear
    }

    /// Whether it is what was asked for; where nothing was, what WeCom can read. To WeCom an empty 200 approves a
    /// bind, but no filter said it.
    pub(super) fn as_expected(&self, options: &Options) -> bool {
        if self.in_clear && !(options.accept_clear && self.readable) {
            return false;
        }
        if options.expect_errcode.is_none() && options.expect_status.is_none() {
            return self.readable;
        }
        let may_count = self.encrypted || options.accept_clear;
        options.expect_errcode.is_none_or(|errcode| may_count && self.errcode == Some(errcode))
            && options.expect_status.is_none_or(|status| self.status == Some(status))
    }

    /// What it is counted as.
    pub(super) fn class(&self) -> String {
        match (self.status, self.errcode) {
            (None, _) => "no answer".to_owned(),
            _ if self.in_clear => "in clear, not encrypted".to_owned(),
            (Some(_), Some(errcode)) => format!("errcode {errcode}"),
            (Some(status), None) => format!("status {status}"),
        }
    }

    /// As documented in `--help`.
    pub(super) fn to_json(&self) -> Value {
        // Objects alone: an echo is digits, which as a number would lose all beyond the sixteenth or so.
        let object = serde_json::from_str(&self.text).ok().filter(Value::is_object);
        json!({
            "copy": self.label.copy,
            "req_id": self.label.req_id,
            "status": self.status,
            "encrypted": self.encrypted,
            "errcode": self.errcode,
            "reply": object.unwrap_or_else(|| Value::from(self.text.as_str())),
            "readable": self.readable,
            "ms": self.elapsed().map(milliseconds),
            "remarks": self.remarks,
        })
    }

    /// A line for people.
    pub(super) fn to_line(&self, options: &Options) -> String {
        let status = self.status.map_or_else(|| "---".to_owned(), |status| status.to_string());
        let status = if self.as_expected(options) { status } else { styled(BAD, status) };
        let lock = if self.encrypted { "encrypted" } else { "plain" };
        let ms = self.elapsed().map_or_else(|| "-".to_owned(), |elapsed| format!("{:.1}", milliseconds(elapsed)));
        let text = in_one_line(self.text.trim_end());
        let line = format!("{:<12} {status} {ms:>8} ms  {lock:<9}  {text}", self.label.copy);
        match self.remarks.as_slice() {
            [] => line,
            remarks => format!("{line}  {}", styled(DOUBTFUL, format_args!("({})", in_one_line(&remarks.join("; "))))),
        }
    }
}

/// In tenths.
pub(super) fn milliseconds(elapsed: Duration) -> f64 {
    (elapsed.as_secs_f64() * 10_000.0).round() / 10.0
}
