//! What the log and the access log contain, and that nothing shows secrets or plaintexts.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use testbed::backend::Behaviour;
use testbed::edge::{PATH, Setup};
use testbed::envoy::Envoy;
use testbed::wecom::{Account, Event};
use wecom_callback_filter::outcome::{Level, Outcome};

/// How often each outcome occurred, by event.
pub(crate) type Counts = BTreeMap<(String, Outcome), u64>;

/// Asserts that the log has one warning for every callback that was rejected or failed, and no other
/// line of the filter's but that of its start.
pub(crate) fn the_log_has_one_line_for_each_failure(envoy: &Envoy, sent: &Counts) {
    let log = envoy.log();
    let ours = |line: &&str| line.contains("wasm log wecom") && !line.ends_with(" started");
    let lines: Vec<_> = log.lines().filter(ours).collect();
    let mut expected = 0;
    for ((event, outcome), count) in sent {
        let start = format!(": {} endpoint=lock event={event} req_id=", outcome.name());
        // A client that left before it was authentic may have been anybody.
        let is_said = outcome.level() == Level::Warn && *outcome != Outcome::ClientGone;
        let count = if is_said { *count } else { 0 };
        let found = lines.iter().filter(|line| line.contains(&start) && line.contains("[warning]")).count();
        assert_eq!(found as u64, count, "{start}\n{log}");
        expected += count;
    }
    assert_eq!(lines.len() as u64, expected, "there are other lines:\n{log}");
}

/// Asserts that the access log has a line for every request, with everything known about it but its
/// query.
pub(crate) async fn the_access_log_has_every_outcome(envoy: &Envoy, sent: &Counts, left: &Counts) {
    let total: u64 = sent.values().sum();
    let ours = |envoy: &Envoy| envoy.access_log().into_iter().filter(|line| line["outcome"].is_string()).count();
    envoy.access_log_line(|_| ours(envoy) as u64 >= total).await.unwrap();
    let lines = envoy.access_log();
    let text = |line: &Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();

    let mut counted: BTreeMap<(String, String), u64> = BTreeMap::new();
    for line in &lines {
        assert_eq!(line["path"], PATH, "without its query");
        assert!(!text(line, "request_id").is_empty() && line["duration_ms"].is_u64(), "{line}");
        *counted.entry((text(line, "event"), text(line, "outcome"))).or_default() += 1;
    }
    let mut expected: BTreeMap<_, _> =
        sent.iter().map(|((event, outcome), count)| ((event.clone(), outcome.name().to_owned()), *count)).collect();
    for ((event, outcome), count) in left {
        *expected.get_mut(&(event.clone(), outcome.name().to_owned())).unwrap() -= count;
        *expected.entry((event.clone(), Outcome::ClientGone.name().to_owned())).or_default() += count;
    }
    assert_eq!(counted, expected);

    for (outcome, status, device_sn, errcode) in [
        ("bound", 200, json!("sn-bound"), json!("0")),
        ("refused", 200, json!("sn-refused"), json!("4")),
        ("upstream_unreachable", 200, json!("sn-closes"), json!("7")),
        ("record_full", 200, json!("sn-bound"), json!("7")),
        ("bad_signature", 403, Value::Null, Value::Null),
        ("bad_query", 400, Value::Null, Value::Null),
        ("client_gone", 0, json!("sn-gone"), Value::Null),
    ] {
        let line = lines.iter().find(|line| line["outcome"] == outcome && line["device_sn"] == device_sn).unwrap();
        assert_eq!((&line["status"], &line["device_sn"], &line["errcode"]), (&json!(status), &device_sn, &errcode));
        assert_eq!(line["req_id"].is_string(), device_sn.is_string(), "{line}");
    }
}

#[tokio::test]
async fn no_secret_and_no_plaintext_shows_anywhere_even_at_trace_level() {
    // Texts that are too long to occur by chance.
    let account =
        Account::new("tokenThatNobodyMayRead", "keyThatNobodyMayReadxxxxxxxxxxxxxxxxxxxxxxY", "2000000000000001");
    let account = account.unwrap();
    let setup = Setup::example().unwrap().account(account).one_backend();
    let edge = setup.start_with(|bootstrap| bootstrap.log_level("trace").component_log_level("wasm:trace"));
    let edge = edge.await.unwrap();
    let (envoy, backend, account) = (&edge.envoy, &edge.backend, &edge.account);

    let verdict = Behaviour::verdict_with(4, "errmsg-that-nobody-may-read");
    backend.on_device("sn-refused", verdict);
    backend.on_device("sn-html", Behaviour::html());
    let secret = |event: Event| {
        let event =
            event.set("auth_code", "authcode-that-nobody-may-read").set("verif_code", "verifcode-nobody-may-read");
        event.base("auth_corpid", "corpid-that-nobody-may-read")
    };
    let bind = |device_sn: &str| secret(Event::bind(device_sn));
    for request in [
        account.verify_url("7139691598513686239"),
        account.seal(bind("sn-bound")),
        account.seal(bind("sn-refused")),
        account.seal(bind("sn-html")),
        account.seal(secret(Event::unbind("sn-bound"))),
        account.seal(bind("sn-stale").createtime(1)),
        account.seal(bind("sn-bound")).forged(),
        account.seal("plaintext-that-nobody-may-read"),
        account.verify_url("echo-that-nobody-may-read"),
        account.seal(bind("sn-foreign").model_id("2000000000000009")),
        // As after a wrong length field: a piece of the message stands in the place of the receive id.
        account.clone().with_receive_id(r#"verif_code":"verifcode-nobody-may-read"}}"#).seal(bind("sn-torn")),
    ] {
        edge.send(&request).await.unwrap();
    }
    envoy.access_log_line(|line| line["outcome"] == "bad_receive_id").await.unwrap();
    assert_eq!(backend.count(), 4);

    let mut places = vec![("the log", envoy.log()), ("the access log", json!(envoy.access_log()).to_string())];
    for path in ["/stats", "/stats/prometheus", "/config_dump?include_eds", "/server_info", "/clusters"] {
        places.push((path, envoy.admin(path).await.unwrap().text()));
    }
    // The places contain what they should, so the search below is not in vain.
    for (place, sign) in
        [(0, "bound endpoint=lock event=bind"), (1, "sn-refused"), (2, "outcome=bound"), (4, "WECOM_TOKEN")]
    {
        assert!(places[place].1.contains(sign), "{} does not contain {sign}", places[place].0);
    }
    for (place, text) in &places {
        for line in text.lines() {
            let lower = line.to_lowercase();
            for word in ["nobodymayread", "nobody-may-read", "7139691598513686239"] {
                assert!(!lower.contains(word), "{place} shows {word}: {line}");
            }
        }
    }
    edge.end().await.unwrap();
}
