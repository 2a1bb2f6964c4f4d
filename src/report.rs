//! What is said of a finished callback: one line in the log, and values for access logs and traces.
//! Nothing else knows the form of the one and the names of the others.

use std::borrow::Cow;
use std::fmt;
use std::rc::Rc;

use log::Level;

use crate::callout::presentable;
use crate::config::Endpoint;
use crate::outcome::{Noise, Outcome};
use crate::wecom::callback::{Content, EventType};

/// What is known of a callback, for metrics, logs and traces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its type; [`EventType::Other`] until it is known.
    pub event: EventType,
    /// WeCom's id of the request, if it is fit to be shown.
    pub req_id: Option<String>,
    /// The device's serial number, if it is fit to be shown.
    pub device_sn: Option<String>,
    /// The code of the verdict that was sent.
    pub errcode: Option<u32>,
}

impl Facts {
    /// Before the message is opened.
    pub const UNKNOWN: Self = Self { event: EventType::Other, req_id: None, device_sn: None, errcode: None };

    /// Those that a message tells.
    pub fn of(content: &Content) -> Self {
        Self {
            event: content.event,
            req_id: content.req_id.as_deref().and_then(presentable),
            device_sn: content.device_sn.as_deref().and_then(presentable),
            errcode: None,
        }
    }
}

/// How a callback ended. Written out, it is the line for the log.
#[derive(Debug, Clone)]
pub struct Report {
    /// Whose callback it was.
    pub endpoint: Rc<Endpoint>,
    /// What was known of it.
    pub facts: Facts,
    /// How it ended.
    pub outcome: Outcome,
    /// How loud the log is about it.
    pub level: Level,
    /// Who can cause it as often as they like, if anybody can.
    pub noise: Option<Noise>,
    /// The request's `x-request-id`, which a rejected caller was told; empty if there is none.
    pub request_id: String,
    /// Why, in words, for the log alone. Holds no secret and nothing of a plaintext but ids.
    pub reason: Cow<'static, str>,
}

impl Report {
    /// The values for access logs and traces, by their names in the filter state.
    pub fn filter_state(&self) -> impl Iterator<Item = (&'static str, Cow<'_, str>)> {
        let Facts { event, req_id, device_sn, errcode } = &self.facts;
        [
            ("wecom_outcome", Some(self.outcome.name().into())),
            ("wecom_event", Some(event.name().into())),
            ("wecom_req_id", req_id.as_deref().map(Cow::from)),
            ("wecom_device_sn", device_sn.as_deref().map(Cow::from)),
            ("wecom_errcode", errcode.map(|code| code.to_string().into())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, facts, outcome, request_id, reason, .. } = self;
        let (event, req_id) = (facts.event.name(), facts.req_id.as_deref().unwrap_or("-"));
        write!(f, "{} endpoint={} event={event} req_id={req_id} errcode=", outcome.name(), endpoint.name())?;
        match facts.errcode {
            Some(errcode) => write!(f, "{errcode}")?,
            None => f.write_str("-")?,
        }
        // It is the caller's text: it must not look like another field of the line.
        let fit = (1..=128).contains(&request_id.len()) && request_id.bytes().all(|byte| byte.is_ascii_graphic());
        write!(f, " request_id={}", if fit { request_id } else { "-" })?;
        if reason.is_empty() { Ok(()) } else { write!(f, " {reason}") }
    }
}
