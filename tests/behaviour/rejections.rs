//! A request that is not authentic, or not a callback, is rejected with a 4xx whose body has one word
//! and the request's id. It never gets an empty 200, and never reaches a backend.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use testbed::wecom::{Account, Body, Client, Event, Request, send_raw, unix_now};

use crate::support::{Edge, PATH, assert_rejected, errcode, raw_head, together, told};

/// `max_body_bytes`, by default.
const MAX_BODY_BYTES: usize = 65_536;

/// Sends every request over HTTP/1.1 and HTTP/2 and asserts that it is rejected, and that the access log
/// says so.
async fn assert_all_rejected(edge: Edge, table: Vec<(&'static str, Request, u16, &'static str)>) {
    let edge = Arc::new(edge);
    together(table.into_iter().flat_map(|row| [(row.clone(), Client::http1()), (row, Client::http2())]).map(
        |((title, request, status, word), client)| {
            let edge = Arc::clone(&edge);
            async move {
                let answer = client.send(&edge.envoy.url(PATH), &request).await.expect(title);
                assert!(!answer.is_bare_success(), "{title}");
                assert_eq!((answer.status, answer.rejection().as_deref()), (status, Some(told(word))), "{title}");
                assert_rejected(&answer, status, word);
                let id = &answer.json().unwrap()["request_id"];
                let line = edge.envoy.access_log_line(|line| line["request_id"] == *id).await.expect(title);
                assert_eq!((&line["outcome"], &line["status"]), (&json!(word), &json!(status)), "{title}");
            }
        },
    ))
    .await;
    edge.assert_nobody_was_asked();
    assert_eq!(edge.bind("sn-next").await, 0);
    Arc::into_inner(edge).unwrap().end().await;
}

#[tokio::test]
async fn another_method_is_405_with_the_methods_that_are_allowed() {
    let edge = Edge::start().await;
    for client in [Client::http1(), Client::http2()] {
        for method in ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "post", "get"] {
            let request = edge.account.seal(Event::bind("sn")).with_method(method);
            let answer = client.send(&edge.envoy.url(PATH), &request).await.unwrap();
            // Envoy itself knows no lower-case methods in HTTP/1.1.
            if answer.status != 400 || method != method.to_lowercase() {
                assert_rejected(&answer, 405, "bad_method");
                assert_eq!(answer.header("allow"), Some("GET, POST"), "{method}");
            }
        }
        let head = edge.account.verify_url("12345").with_method("HEAD");
        assert_eq!(client.send(&edge.envoy.url(PATH), &head).await.unwrap().status, 405);
    }
    edge.assert_nobody_was_asked();
    edge.end().await;
}

#[tokio::test]
async fn a_query_or_body_of_the_wrong_shape_is_400() {
    let edge = Edge::start().await;
    let bind = || edge.account.seal(Event::bind("sn"));
    let mut table = Vec::new();

    let good = bind().query_text();
    let without = |name: &str| {
        let kept: Vec<_> = good.split('&').filter(|pair| !pair.starts_with(&format!("{name}="))).collect();
        kept.join("&")
    };
    let with = |name: &str, value: &str| format!("{}&{name}={value}", without(name));
    for query in [
        String::new(),
        without("msg_signature"),
        without("timestamp"),
        without("nonce"),
        good.replace("nonce=", "Nonce="),
        // Twice, even with the same value.
        format!("{good}&nonce=1"),
        format!("{good}&timestamp={}", unix_now()),
        format!("{good}&{}", good.split('&').next().unwrap()),
        format!("{good}&%6eonce=1"),
        with("msg_signature", &"a".repeat(39)),
        with("msg_signature", &"a".repeat(41)),
        with("msg_signature", &"g".repeat(40)),
        with("msg_signature", ""),
        with("timestamp", "159799874"),
        with("timestamp", "15979987480"),
        with("timestamp", "-597998748"),
        with("timestamp", "0x5f3ddc1c"),
        with("timestamp", "1597998748.0"),
        with("nonce", ""),
        with("nonce", &"1".repeat(41)),
        with("nonce", "%00"),
        with("nonce", "%0a"),
        with("nonce", "%ff"),
        with("nonce", "%E9%9A%8F"),
        with("nonce", "%"),
        with("nonce", "%4"),
        with("nonce", "%zz"),
    ] {
        table.push(("a bad query", bind().with_query(&query), 400, "bad_query"));
    }

    let encrypt = edge.account.encrypt(b"{}");
    let whole = |text: &str| json!({ "tousername": "1", "encrypt": text }).to_string();
    for body in [
        String::new(),
        "null".to_owned(),
        "[]".to_owned(),
        json!([encrypt]).to_string(),
        json!(encrypt).to_string(),
        encrypt.clone(),
        "{}".to_owned(),
        r#"{"tousername":"1"}"#.to_owned(),
        r#"{"encrypt":null}"#.to_owned(),
        r#"{"encrypt":1}"#.to_owned(),
        r#"{"encrypt":{}}"#.to_owned(),
        format!(r#"{{"encrypt":["{encrypt}"]}}"#),
        format!(r#"{{"ENCRYPT":"{encrypt}"}}"#),
        format!(r#"{{"encrypt":"{encrypt}""#),
        format!(r#"{{"encrypt":"{encrypt}"}}{{}}"#),
        format!(r#"{{"encrypt":"{encrypt}","encrypt":"{}"}}"#, edge.account.encrypt(b"[]")),
        format!("encrypt={encrypt}"),
        format!("<xml><Encrypt><![CDATA[{encrypt}]]></Encrypt></xml>"),
        whole(""),
        whole("AAAA"),
        whole(&encrypt[4..]),
        whole(encrypt.trim_end_matches('=')),
        whole(&format!("{encrypt}\n")),
        whole(&format!(" {encrypt}")),
        whole(&encrypt.replace('=', "%3D")),
        whole(&"A".repeat(44)),
        whole(&"!".repeat(64)),
        // 32 bytes, but the last character has bits to spare that are not zero.
        whole(&format!("{}B=", "A".repeat(42))),
        "[".repeat(60_000),
    ] {
        // With a valid signature, so that only the body is wrong.
        let text = serde_json::from_str::<serde_json::Value>(&body).ok();
        let text = text.and_then(|body| Some(body.get("encrypt")?.as_str()?.to_owned())).unwrap_or_default();
        let mut request = bind().with_body(body);
        request.encrypt = text;
        table.push(("a bad body", request.resign(&edge.account), 400, "bad_envelope"));
    }
    let mut nothing = bind();
    nothing.body = Body::Nothing;
    table.push(("no body", nothing, 400, "bad_envelope"));

    for message in [
        "",
        " ",
        "{}",
        "[]",
        "null",
        "7139691598513686239",
        "success",
        "bind",
        r#"{"errcode":0,"errmsg":"ok"}"#,
        r#"{"event":{}}"#,
        r#"{"event":{"event_type":""}}"#,
        r#"{"event":{"event_type":1}}"#,
        r#"{"event":[{"event_type":"bind"}]}"#,
        r#"{"event":{"event_type":"bind"}"#,
        r#"{"event":{"event_type":"bind"},"command":{"command_type":"unbind"}}"#,
        r#"{"event":{"event_type":"bind","event_type":"unbind"}}"#,
        "<xml><Event>bind</Event></xml>",
    ] {
        table.push(("no callback", edge.account.seal(message), 403, "not_a_callback"));
    }
    let unread = Event::bind("sn").set("auth_code", "AUTH").to_json(edge.account.receive_id());
    let unread = unread.split(|byte| *byte == b'A').collect::<Vec<_>>().join(&0xff);
    table.push(("not UTF-8 where nobody reads it", edge.account.seal(unread), 403, "not_a_callback"));
    table.push(("bytes", edge.account.seal(b"{\"event\":{\"event_type\":\"\xff\"}}".to_vec()), 403, "not_a_callback"));
    assert_all_rejected(edge, table).await;
}

#[tokio::test]
async fn what_is_not_authentic_or_not_fresh_is_403() {
    let edge = Edge::start().await;
    let account = edge.account.clone();
    let now = unix_now();
    let bind = || account.seal(Event::bind("sn"));
    let at = |time: u64| account.seal_at(Event::bind("sn"), time, "1372623149");
    let created = |createtime: serde_json::Value| account.seal(Event::bind("sn").base("createtime", createtime));
    let stranger = Account::rotated();
    let own_token = Account::new(account.token(), stranger.encoding_aes_key(), account.receive_id()).unwrap();
    let own_key = Account::new(stranger.token(), account.encoding_aes_key(), account.receive_id()).unwrap();

    let (first, second) = (bind(), bind());
    let mut spliced = first.clone();
    spliced.body = second.body.clone();
    let mut upper = bind();
    upper.nonce.push('0');
    let mut shifted = account.seal_at(Event::bind("sn"), now, "13726");
    // The signature is made of the sorted parts, concatenated, so it allows digits to move between them.
    shifted.nonce = format!("{}{}", &shifted.timestamp[9..], shifted.nonce);
    shifted.timestamp.truncate(9);

    let mut table = vec![
        ("a forged signature", bind().forged(), 403, "bad_signature"),
        ("a signature of another message", spliced, 403, "bad_signature"),
        ("another nonce", upper, 403, "bad_signature"),
        ("another timestamp", bind().with_timestamp(&(now + 1).to_string()), 403, "bad_signature"),
        ("unknown secrets", stranger.seal(Event::bind("sn")), 403, "bad_signature"),
        ("another token", own_key.seal(Event::bind("sn")), 403, "bad_signature"),
        ("another key", own_token.seal(Event::bind("sn")), 403, "bad_ciphertext"),
        ("too old", at(now - 3600), 403, "stale"),
        ("just too old", at(now - 615), 403, "stale"),
        ("too new", at(now + 3600), 403, "stale"),
        ("just too new", at(now + 615), 403, "stale"),
        ("swapped with a nonce that looks like a timestamp", at(now).swapped(), 403, "stale"),
        ("digits moved out of the timestamp", shifted, 400, "bad_query"),
        ("created long ago", created((now - 3600).into()), 403, "stale_message"),
        ("created just too long ago", created((now - 615).into()), 403, "stale_message"),
        ("created in the future", created((now + 3600).into()), 403, "stale_message"),
        ("created in 1970", created(0.into()), 403, "stale_message"),
        ("created without a time", account.seal(Event::bind("sn").without_base("createtime")), 403, "stale_message"),
        ("created at no time", created("now".into()), 403, "stale_message"),
        ("created long ago, as a string", created((now - 3600).to_string().into()), 403, "stale_message"),
        ("created at a negative time", created((-1).into()), 403, "stale_message"),
        ("created at a fractional time", created(1.5.into()), 403, "stale_message"),
        ("another model", account.seal(Event::bind("sn").model_id("other").without_base("service_corpid")), 403, ""),
        ("another model, and another provider", account.seal(Event::bind("sn").model_id("other")), 403, ""),
        (
            "a model that is a number",
            account.seal(Event::bind("sn").base("model_id", 2_000_000_000_000_001_u64)),
            403,
            "",
        ),
    ];
    for id in ["2000000000000002", "wwservicecorp0001", "", "200000000000000", "20000000000000011"] {
        // The message itself names the right one.
        let message = Event::bind("sn").model_id(account.receive_id());
        table.push(("another receive id", account.clone().with_receive_id(id).seal(message), 403, ""));
    }
    // A createtime that is stale, or missing, is so for every type.
    for event in [Event::unbind("sn"), Event::remote_open_door("sn")] {
        table.push(("without a time", account.seal(event.clone().without_base("createtime")), 403, "stale_message"));
        table.push(("an old event", account.seal(event.createtime(now - 3600)), 403, "stale_message"));
    }
    let table = table.into_iter().map(|(title, request, status, word)| {
        (title, request, status, if word.is_empty() { "bad_receive_id" } else { word })
    });
    assert_all_rejected(edge, table.collect()).await;
}

#[tokio::test]
async fn a_callback_is_accepted_up_to_the_freshness_limit_or_at_any_age_without_one() {
    let edge = Edge::start().await;
    let now = unix_now();
    for (timestamp, createtime) in [(now - 580, now - 580), (now + 590, now + 590), (now, now - 580)] {
        let event = Event::bind("sn").createtime(createtime);
        let answer = edge.send(&edge.account.seal_at(event, timestamp, "1372623149")).await;
        assert_eq!(errcode(&answer, &edge.account), 0);
    }
    let ageless = Event::named("event", "brand_new", "sn").without_base("createtime");
    assert_eq!(edge.send(&edge.account.seal(ageless)).await.text(), "success");
    edge.end().await;

    let edge =
        Edge::start_with(|bootstrap| bootstrap.edit_plugin_value(|plugin| plugin["freshness_seconds"] = 0.into()))
            .await;
    for event in [Event::bind("sn").createtime(1), Event::bind("sn").without_base("createtime")] {
        let answer = edge.send(&edge.account.seal_at(event, 1_000_000_000, "1")).await;
        assert_eq!(errcode(&answer, &edge.account), 0);
    }
    edge.end().await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_and_one_at_the_limit_is_accepted() {
    let edge = Edge::start().await;
    let padded = |device_sn: &str, length: usize| {
        let request = edge.account.seal(Event::bind(device_sn));
        let mut body = request.body_bytes();
        body.resize(length, b' ');
        request.with_body(body)
    };
    let pause = Duration::from_millis(1);
    for client in [Client::http1(), Client::http2()] {
        let url = edge.envoy.url(PATH);
        for request in [padded("sn-at", MAX_BODY_BYTES), padded("sn-pieces", MAX_BODY_BYTES).in_pieces(9_999, pause)] {
            let answer = client.send(&url, &request).await.unwrap();
            assert_eq!(errcode(&answer, &edge.account), 0);
        }
        edge.decision.forget();
        for request in [
            padded("sn-over", MAX_BODY_BYTES + 1),
            padded("sn-over", 200_000),
            padded("sn-over", MAX_BODY_BYTES + 1).in_pieces(9_999, pause),
            padded("sn-over", MAX_BODY_BYTES + 1).in_pieces(MAX_BODY_BYTES + 1, pause),
        ] {
            assert_rejected(&client.send(&url, &request).await.unwrap(), 413, "body_too_large");
        }
        edge.assert_nobody_was_asked();
    }
    // Only announced: the answer does not wait for a body that will not be read.
    let request = edge.account.seal(Event::bind("sn-announced"));
    for length in ["65537", "99999999999"] {
        let head = raw_head(&request, &format!("connection: close\r\ncontent-length: {length}\r\n\r\n"));
        assert_rejected(&send_raw(edge.envoy.address(), &head).await.unwrap(), 413, "body_too_large");
    }
    edge.end().await;

    let edge =
        Edge::start_with(|bootstrap| bootstrap.edit_plugin_value(|plugin| plugin["max_body_bytes"] = 1000.into()))
            .await;
    let request = edge.account.seal(Event::bind("sn"));
    let mut body = request.body_bytes();
    body.resize(1000, b'\n');
    assert_eq!(errcode(&edge.send(&request.clone().with_body(body.clone())).await, &edge.account), 0);
    body.push(b'\n');
    assert_rejected(&edge.send(&request.with_body(body)).await, 413, "body_too_large");
    edge.end().await;
}
