//! What upstreams answer, and what each answer means, by hand.

use std::sync::LazyLock;

use wecom_callback_filter::callout::MAX_RESPONSE_BYTES;

/// A response, or that there is none, with its meaning.
pub(crate) struct Scripted {
    pub(super) response: Option<Scripting>,
    /// What it says about a bind.
    pub(super) verdict: Says,
    /// What it says about any other callback.
    pub(super) relayed: Relayed,
    /// Whether the upstream may have acted, though the call failed.
    pub(super) unknown: bool,
}

/// A response to be given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scripting {
    status: &'static str,
    framed: bool,
    pub(super) body: &'static [u8],
}

impl Scripting {
    pub(super) fn headers(&self) -> Vec<(String, Vec<u8>)> {
        headers(self.status.as_bytes(), self.framed)
    }
}

/// The headers of a response that says how long it is, or does not.
pub(crate) fn headers(status: &[u8], framed: bool) -> Vec<(String, Vec<u8>)> {
    let status = (":status".to_owned(), status.to_vec());
    let length = framed.then(|| ("content-length".to_owned(), b"1".to_vec()));
    std::iter::once(status).chain(length).collect()
}

/// The scripted responses, as the target `reply` takes them.
pub(crate) fn as_inputs() -> impl Iterator<Item = (usize, Vec<u8>)> {
    let small = RESPONSES.iter().filter_map(|scripted| scripted.response).filter(|response| response.body.len() < 4096);
    small.enumerate().filter_map(|(n, response)| {
        let status: [u8; 3] = response.status.as_bytes().try_into().ok()?;
        let event = if n % 2 == 0 { 0 } else { 7 };
        Some((n, [&[1 | u8::from(response.framed) << 1, event], status.as_slice(), response.body].concat()))
    })
}

/// What a response says about a bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Says {
    Code(u32),
    /// Errcode 0, if `empty_is_success`.
    Nothing,
    Unreadable,
}

/// What a response says about another callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relayed {
    Object(&'static [u8]),
    Taken,
    Failed,
}

/// All there are.
pub(super) static RESPONSES: LazyLock<Vec<Scripted>> = LazyLock::new(|| {
    let ended = |status: &'static str, framed, body: &'static [u8], verdict, object: bool| Scripted {
        response: Some(Scripting { status, framed, body }),
        verdict,
        relayed: match verdict {
            Says::Nothing => Relayed::Taken,
            _ if object => Relayed::Object(body),
            _ => Relayed::Failed,
        },
        unknown: false,
    };
    let by_envoy = |status, body: &'static [u8], unknown| Scripted {
        unknown,
        ..ended(status, true, body, Says::Unreadable, false)
    };
    let too_large: &[u8] = format!("{{\"errcode\":0{}}}", " ".repeat(MAX_RESPONSE_BYTES)).into_bytes().leak();
    let long: &[u8] = format!(r#"{{"errcode":1999,"errmsg":"{}"}}"#, "设".repeat(60)).into_bytes().leak();
    let long_object: &[u8] = format!(r#"{{"jobs":"{}"}}"#, "x".repeat(110)).into_bytes().leak();
    use Says::{Code, Nothing, Unreadable};
    vec![
        Scripted { response: None, verdict: Unreadable, relayed: Relayed::Failed, unknown: true },
        ended("200", true, br#"{"errcode":0,"errmsg":"ok"}"#, Code(0), true),
        ended("200", false, br#"{"errcode":0}"#, Code(0), true),
        ended("201", true, br#"{"errcode":4}"#, Code(4), true),
        ended("299", true, br#" {"more":[0],"errcode":77} "#, Code(77), true),
        ended("200", true, br#"{"errcode":7}"#, Code(7), true),
        ended("200", true, long, Code(1999), true),
        ended("200", true, b"", Nothing, false),
        ended("200", true, b"success", Nothing, false),
        ended("204", false, b"", Nothing, false),
        ended("200", false, b"", Unreadable, false),
        ended("200", false, b"success", Unreadable, false),
        ended("200", true, b"success\n", Unreadable, false),
        ended("200", true, b" ", Unreadable, false),
        ended("200", true, br#"{"errcode":"0"}"#, Unreadable, true),
        ended("200", true, br#"{"online_status":1}"#, Unreadable, true),
        ended("200", true, long_object, Unreadable, true),
        ended("200", true, br#"{"errcode":4294967296}"#, Unreadable, true),
        ended("200", true, br#"{"errcode":0,"errmsg":1}"#, Unreadable, true),
        ended("200", true, br#"[0,"ok"]"#, Unreadable, false),
        ended("200", true, br#"{"errcode":0"#, Unreadable, false),
        ended("200", true, br#"{"errcode":0}}"#, Unreadable, false),
        ended("200", true, b"<html>", Unreadable, false),
        ended("200", true, b"\xff", Unreadable, false),
        ended("200", true, too_large, Unreadable, false),
        ended("", true, br#"{"errcode":0}"#, Unreadable, false),
        ended("20", true, br#"{"errcode":0}"#, Unreadable, false),
        ended("2000", true, br#"{"errcode":0}"#, Unreadable, false),
        ended("302", true, br#"{"errcode":0}"#, Unreadable, false),
        ended("404", true, br#"{"errcode":0}"#, Unreadable, false),
        ended("500", true, b"success", Unreadable, false),
        by_envoy("503", b"upstream connect error or disconnect", true),
        by_envoy("504", b"upstream request timeout", true),
        by_envoy("503", b"upstream connect error; reset reason: connection termination", true),
        by_envoy("503", b"upstream connect error; reset reason: remote connection failure, and why", false),
        by_envoy("503", b"upstream connect error; reset reason: overflow", false),
        by_envoy("502", b"upstream connect error; reset reason: protocol error", true),
    ]
});
