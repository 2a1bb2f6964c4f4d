//! What upstreams answer, and what each answer means, by hand.

use std::sync::LazyLock;

use wecom_callback_filter::callout::{MAX_RESPONSE_BYTES, Response};

/// A response, or that there is none, with its meaning.
pub(super) struct Scripted {
    pub(super) response: Option<Response<'static>>,
    /// What it says about a bind.
    pub(super) verdict: Says,
    /// What it says about any other callback.
    pub(super) relayed: Relayed,
}

/// What a response says about a bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Says {
    Code(u32),
    /// Errcode 0, if `empty_is_success`.
    Nothing,
    Unreadable,
}

/// What a response says about another callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relayed {
    Object(&'static [u8]),
    Taken,
    Failed,
}

/// All there are.
pub(super) static SCRIPT: LazyLock<Vec<Scripted>> = LazyLock::new(|| {
    let ended = |status: &'static str, framed, body: &'static [u8], verdict, object: bool| Scripted {
        response: Some(Response { status: status.as_bytes(), framed, body }),
        verdict,
        relayed: match verdict {
            Says::Nothing => Relayed::Taken,
            _ if object => Relayed::Object(body),
            _ => Relayed::Failed,
        },
    };
    let too_large: &[u8] = format!("{{\"errcode\":0{}}}", " ".repeat(MAX_RESPONSE_BYTES)).into_bytes().leak();
    let long: &[u8] = format!(r#"{{"errcode":1999,"errmsg":"{}"}}"#, "设".repeat(60)).into_bytes().leak();
    let long_object: &[u8] = format!(r#"{{"jobs":"{}"}}"#, "x".repeat(110)).into_bytes().leak();
    use Says::{Code, Nothing, Unreadable};
    vec![
        Scripted { response: None, verdict: Unreadable, relayed: Relayed::Failed },
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
        ended("503", true, b"upstream connect error or disconnect", Unreadable, false),
        ended("504", true, b"upstream request timeout", Unreadable, false),
    ]
});
