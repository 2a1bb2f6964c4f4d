//! WeCom's console verifies a URL with a GET whose encrypted digits must be returned in plaintext.
//! Nothing else is ever returned in plaintext: the endpoint is no decryption oracle.

use serde_json::json;
use testbed::wecom::{Account, Client, Event, send_raw, unix_now};
use wecom_callback_filter::wecom::callback::EventType;

use crate::support::{Edge, PATH, assert_rejected, raw_head};

#[tokio::test]
async fn the_digits_are_returned_and_nothing_else() {
    let edge = Edge::start().await;
    let longest = "9".repeat(64);
    for client in [Client::http1(), Client::http2()] {
        for echo in ["7139691598513686239", "0", longest.as_str()] {
            let request = edge.account.verify_url(echo);
            let answer = client.send(&edge.envoy.url(PATH), &request).await.unwrap();
            assert_eq!((answer.status, answer.text().as_str()), (200, echo));
            assert_eq!(answer.header("content-type"), Some("text/plain"));
            // The console may ask again.
            assert_eq!(client.send(&edge.envoy.url(PATH), &request).await.unwrap().text(), echo);
            // The registered URL may have a query of its own.
            let url = edge.envoy.url(&format!("{PATH}?model=lock&x"));
            assert_eq!(client.send(&url, &request).await.unwrap().text(), echo);
        }
    }
    edge.assert_nobody_was_asked();
    edge.end().await;
}

#[tokio::test]
async fn the_providers_id_is_accepted_for_verification_and_for_nothing_else() {
    let edge = Edge::start().await;
    let provider = edge.account.clone().with_receive_id("wwservicecorp0001");
    assert_eq!(edge.send(&provider.verify_url("12345")).await.text(), "12345");
    assert_rejected(&edge.send(&provider.seal(Event::bind("sn"))).await, 403, "bad_receive_id");
    assert_rejected(&edge.send(&provider.seal(Event::of(EventType::VerifyDevice, "sn"))).await, 403, "bad_receive_id");

    let stranger = edge.account.clone().with_receive_id("wwstranger");
    assert_rejected(&edge.send(&stranger.verify_url("12345")).await, 403, "bad_receive_id");
    edge.assert_nobody_was_asked();
    edge.end().await;
}

#[tokio::test]
async fn a_captured_callback_sent_as_get_never_prints_its_plaintext() {
    let edge = Edge::start().await;
    let bind = Event::bind("sn-captured").set("auth_code", "SECRETAUTHCODE");
    for client in [Client::http1(), Client::http2()] {
        let captured = edge.account.seal(&bind);
        let answer = client.send(&edge.envoy.url(PATH), &captured.into_get()).await.unwrap();
        assert_rejected(&answer, 403, "not_an_echo");
    }
    // Nor does any other message that is no echo, our own reply included.
    let own = edge.send(&edge.account.seal(Event::bind("sn"))).await;
    edge.decision.forget();
    let sealed = own.json().unwrap();
    let mut replayed = edge.account.verify_url("1");
    for (part, name) in [
        (&mut replayed.encrypt, "encrypt"),
        (&mut replayed.msg_signature, "msgsignature"),
        (&mut replayed.timestamp, "timestamp"),
        (&mut replayed.nonce, "nonce"),
    ] {
        *part = sealed[name].as_str().unwrap().to_owned();
    }
    assert_rejected(&edge.send(&replayed).await, 403, "not_an_echo");
    for message in [
        "",
        " ",
        "12a45",
        "-1",
        "1.5",
        "12345 ",
        "12345\n",
        "\u{ff11}\u{ff12}",
        "success",
        &"1".repeat(65),
        "{\"a\":1}",
    ] {
        assert_rejected(&edge.send(&edge.account.verify_url(message)).await, 403, "not_an_echo");
    }
    // Conversely, an echo is not a callback.
    let echo = edge.account.verify_url("12345");
    let mut posted = edge.account.seal("12345");
    posted.encrypt.clone_from(&echo.encrypt);
    posted = posted.with_body(json!({ "encrypt": echo.encrypt }).to_string()).resign(&edge.account);
    assert_rejected(&edge.send(&posted).await, 403, "not_a_callback");

    edge.assert_nobody_was_asked();
    assert!(!edge.envoy.log().contains("SECRETAUTHCODE"));
    edge.end().await;
}

#[tokio::test]
async fn only_what_is_signed_and_fresh_is_echoed() {
    let edge = Edge::start().await;
    let now = unix_now();
    let get = || edge.account.verify_url("12345");
    let at = |time: u64| edge.account.seal_at("12345", time, "1597483820").into_get();
    let own_token =
        Account::new(edge.account.token(), Account::rotated().encoding_aes_key(), "2000000000000001").unwrap();
    for (request, status, word) in [
        (get().forged(), 403, "bad_signature"),
        (Account::rotated().verify_url("12345"), 403, "bad_signature"),
        (own_token.verify_url("12345"), 403, "bad_ciphertext"),
        (at(now - 3600), 403, "stale"),
        (at(now + 3600), 403, "stale"),
        // A nonce may look like a timestamp, and the signature would hold.
        (at(now).swapped(), 403, "stale"),
        (get().with_query(""), 400, "bad_query"),
        (get().with_query(&get().query_text().replace("echostr", "echo")), 400, "bad_query"),
        (get().with_query(&format!("{0}&echostr=AAAA", get().query_text())), 400, "bad_query"),
        (get().with_query(&format!("{}AAAA", get().query_text())), 400, "bad_query"),
    ] {
        assert_rejected(&edge.send(&request).await, status, word);
    }
    edge.assert_nobody_was_asked();
    edge.end().await;
}

#[tokio::test]
async fn an_echo_is_read_however_it_was_percent_encoded() {
    let edge = Edge::start().await;
    // A request whose base64 has all three special characters.
    let request = std::iter::repeat_with(|| edge.account.verify_url("7139691598513686239"))
        .find(|request| ["+", "/", "="].iter().all(|special| request.encrypt.contains(special)))
        .unwrap();
    let head =
        format!("msg_signature={}&timestamp={}&nonce={}", request.msg_signature, request.timestamp, request.nonce);
    let all: String = request.encrypt.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let captured = request.encrypt.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    for echo in [
        captured.clone(),
        captured.replace("%2B", "%2b").replace("%2F", "%2f").replace("%3D", "%3d"),
        request.encrypt.clone(),
        // A proxy that decodes forms turns `+` into a blank.
        captured.replace("%2B", "%20"),
        all,
    ] {
        for query in [format!("{head}&echostr={echo}"), format!("echostr={echo}&x=%zz&{head}")] {
            let answer = edge.send(&request.clone().with_query(&query)).await;
            assert_eq!((answer.status, answer.text().as_str()), (200, "7139691598513686239"), "{query}");
        }
    }
    // Decoded once, not twice.
    let twice = captured.replace('%', "%25");
    let answer = edge.send(&request.clone().with_query(&format!("{head}&echostr={twice}"))).await;
    assert_rejected(&answer, 400, "bad_query");
    edge.end().await;
}

#[tokio::test]
async fn a_get_with_a_body_is_answered_all_the_same() {
    let edge = Edge::start().await;
    let request = edge.account.verify_url("12345");
    for body in ["content-length: 5\r\n\r\nhello", "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"] {
        let bytes = raw_head(&request, &format!("connection: close\r\n{body}"));
        let answer = send_raw(edge.envoy.address(), &bytes).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "12345"));
    }
    let answer = Client::http2().send(&edge.envoy.url(PATH), &request.with_body("hello")).await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "12345"));
    edge.assert_nobody_was_asked();
    edge.end().await;
}
