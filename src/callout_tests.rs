//! What each ending of a call counts as.
#![allow(clippy::restriction)]

use super::*;
use crate::config::Config;

fn job(event: EventType, empty_is_success: bool) -> Job {
    let config = format!(
        r#"{{"endpoints":[{{"path":"/","receive_ids":["1"],"decision":{{"cluster":"d","empty_is_success":{empty_is_success}}},
        "events":{{"cluster":"e"}},
        "credentials":[{{"token":"t","encoding_aes_key":"jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C"}}]}}]}}"#
    );
    let config = Config::parse(config.as_bytes(), &|_| None).unwrap();
    let endpoint = Rc::clone(config.endpoints().first().unwrap());
    Job {
        endpoint,
        event,
        msg_type: MsgType::Event,
        headers: Vec::new(),
        body: Zeroizing::default(),
        until_ms: u64::MAX,
    }
}

fn response<'a>(status: &'a str, body: &'a str) -> Option<Response<'a>> {
    Some(Response { status: status.as_bytes(), framed: true, content_type: None, body: body.as_bytes() })
}

fn bind(status: &str, body: &str) -> (Option<u32>, &'static str) {
    let conclusion = job(EventType::Bind, true).conclude(response(status, body), 1, 900);
    assert!(conclusion.is_kept);
    (conclusion.reply.into_verdict().map(|verdict| verdict.errcode()), conclusion.outcome.name())
}

#[test]
fn binds_and_other_callbacks_go_to_their_own_upstream() {
    assert_eq!(job(EventType::Bind, true).upstream().cluster(), "d");
    for (event, _) in EventType::ALL.into_iter().filter(|(event, _)| *event != EventType::Bind) {
        assert_eq!(job(event, true).upstream().cluster(), "e");
    }
}

/// Else a configured header could stand beside, or in place of, one of the filter's own.
#[test]
fn no_header_that_is_sent_anyway_can_be_configured() {
    let sent = Job {
        headers: ["x-wecom-event", "x-wecom-req-id", "x-wecom-receive-id", "idempotency-key", "x-request-id"]
            .into_iter()
            .chain(TRACE_HEADERS)
            .map(|name| (name, String::new()))
            .collect(),
        ..job(EventType::Bind, true)
    };
    for (name, _) in sent.request(0).unwrap().headers {
        let config = format!(
            r#"{{"endpoints":[{{"path":"/","receive_ids":["1"],"decision":{{"cluster":"d","headers":{{"{name}":"v"}}}},
            "credentials":[{{"token":"t","encoding_aes_key":"jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C"}}]}}]}}"#
        );
        let refused = Config::parse(config.as_bytes(), &|_| None).unwrap_err();
        assert_eq!(refused.field, format!("endpoints[0].decision.headers.{name}"));
    }
}

#[test]
fn a_bind_is_decided_by_a_whole_2xx_alone() {
    assert_eq!(bind("200", r#"{"errcode":0}"#), (Some(0), "bound"));
    assert_eq!(bind("201", r#"{"errcode":4,"errmsg":"no"}"#), (Some(4), "refused"));
    assert_eq!(bind("200", r#"{"errcode":7}"#), (Some(7), "refused"));
    assert_eq!(bind("200", ""), (Some(0), "bound"));
    assert_eq!(bind("204", ""), (Some(0), "bound"));
    assert_eq!(bind("200", "success"), (Some(0), "bound"));
    for body in
        ["success\n", " ", "\"success\"", "SUCCESS", "<html>", "{", "[]", r#"{"errcode":"0"}"#, r#"{"errcode":-1}"#]
    {
        assert_eq!(bind("200", body), (None, "upstream_reply"), "{body:?}");
    }
    for status in ["100", "301", "304", "400", "404", "429", "500", "503", "", "2000", "20", "\u{ff}"] {
        assert_eq!(bind(status, r#"{"errcode":0}"#), (None, "upstream_status"), "{status:?}");
        assert_eq!(bind(status, ""), (None, "upstream_status"), "{status:?}");
    }
    let large = format!(r#"{{"errcode":0,"x":"{}"}}"#, "x".repeat(MAX_RESPONSE_BYTES));
    assert_eq!(bind("200", &large), (None, "upstream_reply"));
}

#[test]
fn an_empty_answer_is_success_only_if_it_says_so_and_may() {
    let unframed = |body: &'static str| {
        let response = Response { status: b"200", framed: false, content_type: None, body: body.as_bytes() };
        job(EventType::Bind, true).conclude(Some(response), 1, 900).reply
    };
    assert_eq!(unframed(""), Reply::Failed);
    assert_eq!(unframed("success"), Reply::Failed);
    assert_eq!(unframed(r#"{"errcode":0}"#), Reply::Verdict(Verdict::new(0, None)));
    let strict = job(EventType::Bind, false);
    for body in ["", "success"] {
        assert_eq!(strict.conclude(response("200", body), 1, 900).reply, Reply::Failed);
    }
    assert_eq!(strict.conclude(response("200", r#"{"errcode":0}"#), 1, 900).outcome, Outcome::Bound);
}

#[test]
fn a_call_that_breaks_fails_and_a_bind_keeps_that() {
    for (elapsed_ms, outcome) in [(849, Outcome::UpstreamUnreachable), (850, Outcome::UpstreamTimeout)] {
        for (event, _) in EventType::ALL {
            let conclusion = job(event, true).conclude(None, elapsed_ms, 900);
            assert_eq!((&conclusion.reply, conclusion.outcome), (&Reply::Failed, outcome));
            assert_eq!(conclusion.is_kept, event == EventType::Bind);
        }
    }
}

#[test]
fn what_envoy_answers_in_place_of_the_upstream_is_told_apart() {
    let outcome =
        |status, body, elapsed_ms| job(EventType::Bind, true).conclude(response(status, body), elapsed_ms, 900).outcome;
    assert_eq!(outcome("504", "upstream request timeout", 900), Outcome::UpstreamTimeout);
    assert_eq!(outcome("504", "the upstream's own", 900), Outcome::UpstreamStatus);
    assert_eq!(outcome("503", "upstream connect error or …", 1), Outcome::UpstreamUnreachable);
    assert_eq!(outcome("503", "busy", 1), Outcome::UpstreamStatus);
}

#[test]
fn a_command_that_failed_is_delivered_again_only_if_it_was_surely_not_carried_out() {
    let end = |msg_type, conclude: &dyn Fn(&Job) -> Conclusion| {
        let job = Job { msg_type, ..job(EventType::RemoteOpenDoor, true) };
        let conclusion = conclude(&job);
        assert_eq!(conclusion.reply, Reply::Failed);
        conclusion.is_kept
    };
    let answered =
        |status: &'static str, body: &'static str| move |job: &Job| job.conclude(response(status, body), 1, 900);
    let connect_error =
        |reason: &str| format!("upstream connect error or disconnect/reset before headers. reset reason: {reason}");
    let by_envoy = |status: &'static str, reason: &str| {
        let body: &'static str = connect_error(reason).leak();
        move |job: &Job| job.conclude(response(status, body), 1, 900)
    };
    // Nobody got it, or somebody answered that it failed.
    for conclude in [
        Box::new(|job: &Job| job.not_made(NotCalled::NoHost)) as Box<dyn Fn(&Job) -> Conclusion>,
        Box::new(Job::not_handed_over),
        Box::new(by_envoy("503", "remote connection failure, transport failure reason: delayed connect error: 111")),
        Box::new(by_envoy("503", "local connection failure")),
        Box::new(by_envoy("503", "connection timeout")),
        Box::new(by_envoy("503", "overflow")),
        Box::new(answered("500", "")),
        Box::new(answered("503", "busy")),
        Box::new(answered("404", "success")),
    ] {
        assert!(!end(MsgType::Command, &conclude) && !end(MsgType::Event, &conclude));
    }
    // It may have been carried out.
    for conclude in [
        Box::new(|job: &Job| job.conclude(None, 1, 900)) as Box<dyn Fn(&Job) -> Conclusion>,
        Box::new(|job: &Job| job.conclude(None, 900, 900)),
        Box::new(answered("504", "upstream request timeout")),
        Box::new(by_envoy("503", "connection termination")),
        Box::new(by_envoy("503", "remote reset")),
        Box::new(by_envoy("503", "something new")),
        Box::new(by_envoy("502", "protocol error")),
        // Something in between gave up: a proxy, or Envoy at a limit of its own.
        Box::new(answered("504", "<html>nginx")),
        Box::new(answered("502", "")),
        Box::new(answered("408", "upstream max stream duration reached")),
        // A 2xx says that something was done.
        Box::new(answered("200", "OK")),
        Box::new(answered("200", "<html>")),
        Box::new(answered("200", "[]")),
    ] {
        assert!(end(MsgType::Command, &conclude) && !end(MsgType::Event, &conclude));
    }
}

/// An Envoy behind this one tells of its last try; one before it may have been delivered.
#[test]
fn a_connection_that_failed_after_a_retry_says_nothing_of_the_first_try() {
    let text = "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: remote connection failure";
    let job = Job { msg_type: MsgType::Command, ..job(EventType::RemoteOpenDoor, true) };
    assert!(job.conclude(response("503", text), 1, 900).is_kept);
}

#[test]
fn a_failure_says_whom_what_and_how_long_and_nothing_that_came() {
    let reason = |event, status, body: &str, content_type: Option<&str>| {
        let content_type = content_type.map(str::as_bytes);
        let response = Response { status, framed: true, content_type, body: body.as_bytes() };
        let conclusion = job(event, true).conclude(Some(response), 12, 900);
        assert_eq!(conclusion.reply, Reply::Failed, "{body}");
        conclusion.reason.into_owned()
    };
    let html = Some("text/html; charset=utf-8");
    for (body, content_type, what) in [
        (r#"{"errcode":"0"}"#, None, "errcode is a string"),
        (r#"{"errcode":-1}"#, None, "errcode is a negative number"),
        (r#"{"errcode":0.5}"#, None, "errcode is a number that is not whole"),
        (r#"{"errcode":4294967296}"#, None, "errcode is a number above 4294967295"),
        (r#"{"errcode":null}"#, None, "errcode is null"),
        (r#"{"errcode":true}"#, None, "errcode is true or false"),
        (r#"{"errcode":[]}"#, None, "errcode is an array"),
        (r#"{"errcode":{}}"#, None, "errcode is an object"),
        (r#"{"code":0}"#, None, "no errcode in the object"),
        (r#"{"errcode":0,"errmsg":1}"#, None, "errmsg is a number"),
        (r#"{"errcode":0,"errcode":0}"#, None, "a key twice in the object"),
        ("ok", None, "no JSON (without content-type)"),
        ("<html>sorry</html>", html, "no JSON (text/html)"),
        ("ok", Some("text/\u{1b}[0m"), "no JSON (with another content-type)"),
        ("[0]", html, "JSON that is an array, not an object"),
        ("\"success\"", None, "JSON that is a string, not an object"),
    ] {
        let said = reason(EventType::Bind, b"200", body, content_type);
        let expected = format!("cluster 'd' answered with status 200: {what}");
        assert!(said.starts_with(&expected) && said.ends_with(", after 12 ms"), "{said} for {body}");
    }
    assert_eq!(
        reason(EventType::Unbind, b"201", "ok", html),
        "cluster 'e' answered with status 201: no JSON (text/html), after 12 ms"
    );
    assert_eq!(reason(EventType::Bind, b"500", "boom", html), "cluster 'd' answered with status 500 after 12 ms");
    assert_eq!(
        reason(EventType::Bind, b"\xff", "", None),
        "cluster 'd' answered with a status that is none after 12 ms"
    );
    let envoys =
        |reason: &str| format!("upstream connect error or disconnect/reset before headers. reset reason: {reason}");
    for (text, what) in [
        (envoys("remote connection failure"), "took no connection (refused, or not reachable)"),
        (envoys("connection timeout"), "took no connection in time"),
        (envoys("connection termination"), "closed the connection without an answer"),
        (envoys("something new"), "broke the connection"),
    ] {
        assert_eq!(reason(EventType::Bind, b"503", &text, None), format!("cluster 'd' {what} after 12 ms"));
    }
    let at = |response, ms| job(EventType::Bind, true).conclude(response, ms, 900).reason;
    assert_eq!(at(None, 900), "cluster 'd' had begun to answer and not finished after 900 ms");
    assert_eq!(at(None, 12), "cluster 'd' broke off its answer after 12 ms");
    assert_eq!(at(response("504", "upstream request timeout"), 901), "cluster 'd' had not answered after 901 ms");
    let strict = job(EventType::Bind, false).conclude(response("200", ""), 1, 900);
    assert!(strict.reason.contains("where empty_is_success is off"), "{}", strict.reason);
    let unframed = Response { framed: false, ..response("200", "success").unwrap() };
    assert!(at(Some(unframed), 1).contains("only the end of its connection ended"));
    let large = format!(r#"{{"errcode":0,"x":"{}"}}"#, "x".repeat(MAX_RESPONSE_BYTES));
    assert!(at(response("200", &large), 1).contains("more than 65536 bytes"));
    let not_made = |why| job(EventType::Bind, true).not_made(why).reason;
    assert_eq!(not_made(NotCalled::UnknownCluster), "cluster 'd' is not known to Envoy");
    assert_eq!(not_made(NotCalled::NoHost), "cluster 'd' took no call: no healthy host, or an open circuit breaker");
    assert_eq!(at(response("200", r#"{"errcode":0}"#), 1), "");
}

#[test]
fn another_callback_is_relayed() {
    let relay = |status, body| job(EventType::UserScan, false).conclude(response(status, body), 1, 900).reply;
    let object = Relayed::Object(br#"{"online_status":1}"#.to_vec());
    assert_eq!(relay("200", r#"{"online_status":1}"#), Reply::Relayed(object));
    for (status, body) in [("200", ""), ("204", ""), ("200", "success")] {
        assert_eq!(relay(status, body), Reply::Relayed(Relayed::Success));
    }
    for body in ["ok", "[]", "{", "1", "null", "<html>", "\u{feff}{}"] {
        assert_eq!(relay("200", body), Reply::Failed, "{body}");
    }
    assert_eq!(relay("500", r#"{"online_status":1}"#), Reply::Failed);
}

#[test]
fn a_response_says_where_it_ends_by_its_length_or_by_chunks() {
    let headers = |name: &str| vec![(":status".to_owned(), b"200".to_vec()), (name.to_owned(), b"x".to_vec())];
    for (name, framed) in [("content-length", true), ("transfer-encoding", true), ("connection", false)] {
        let headers = headers(name);
        let response = Response::new(&headers, b"success");
        assert_eq!((response.status, response.framed, response.says_success()), (&b"200"[..], framed, framed));
    }
    assert_eq!(Response::new(&[], b"").status, b"");
}

#[test]
fn a_value_is_presentable_if_it_is_short_printable_and_not_padded() {
    for fit in ["r1", "a b", "~", &"r".repeat(128)] {
        assert_eq!(presentable(fit).as_deref(), Some(fit));
    }
    for unfit in ["", " ", " r", "r ", "r\n1", "\u{7f}", "\u{1f}", "r\u{e9}", &"r".repeat(129)] {
        assert_eq!(presentable(unfit), None, "{unfit:?}");
    }
}

#[test]
fn the_largest_response_that_is_read_still_counts() {
    const VERDICT: &str = r#"{"errcode":0}"#;
    let verdict = |bytes: usize| [VERDICT, &" ".repeat(bytes - VERDICT.len())].concat();
    assert_eq!(bind("200", &verdict(MAX_RESPONSE_BYTES)), (Some(0), "bound"));
    assert_eq!(bind("200", &verdict(MAX_RESPONSE_BYTES + 1)), (None, "upstream_reply"));
}

#[test]
fn a_status_is_shown_only_if_it_is_three_digits() {
    assert_eq!(diagnosis::status(b"503"), "status 503");
    for none in [&b""[..], b"50", b"5000", b"50x", b"5\x00\x00", b"\xff\xfe\xfd"] {
        assert_eq!(diagnosis::status(none), "a status that is none");
    }
}
