//! Nothing that Envoy writes or shows, at any log level, contains a token, a key, or any part of a
//! plaintext except its ids.

use std::fs;
use std::path::Path;
use std::time::Duration;

use testbed::backend::Behaviour;
use testbed::wecom::{Account, Client, Event, Message, random_id, unix_now};
use wecom_callback_filter::wecom::callback::EventType;

use crate::wire::Wire;
use crate::{Bound, Edge};

/// An account with random secrets, which occur nowhere else.
fn account() -> Account {
    let key: String = random_id().chars().chain(random_id().chars()).take(43).collect();
    Account::new(&random_id(), &key, "2000000000000001").unwrap()
}

/// Texts that must not show, each with its name.
#[derive(Default)]
struct Markers(Vec<(&'static str, String)>);

impl Markers {
    fn random(&mut self, name: &'static str) -> String {
        self.with(name, random_id())
    }

    fn with(&mut self, name: &'static str, value: String) -> String {
        self.0.push((name, value.clone()));
        value
    }

    fn found_in(&self, bytes: &[u8]) -> Vec<&'static str> {
        let text = String::from_utf8_lossy(bytes);
        self.0.iter().filter(|(_, value)| text.contains(value.as_str())).map(|(name, _)| *name).collect()
    }

    fn assert_absent(&self, place: &str, bytes: &[u8]) {
        let found = self.found_in(bytes);
        let text = String::from_utf8_lossy(bytes);
        let line = |name: &&str| {
            let value = &self.0.iter().find(|(known, _)| known == name).unwrap().1;
            let at = text.find(value.as_str()).unwrap_or_default();
            text.get(text.floor_char_boundary(at.saturating_sub(400))..text.floor_char_boundary(at + 100))
                .unwrap_or_default()
                .to_owned()
        };
        assert!(found.is_empty(), "{place} shows {found:?}: …{}…", found.first().map(line).unwrap_or_default());
    }
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => found.extend(files(&entry.path())),
            kind if kind.is_file() => found.push((entry.path().display().to_string(), fs::read(entry.path()).unwrap())),
            _ => {}
        }
    }
    found
}

async fn assert_absent_everywhere(edge: &Edge, markers: &Markers) {
    for page in ["/stats", "/stats/prometheus", "/config_dump", "/clusters", "/listeners", "/server_info"] {
        let shown = edge.envoy.admin(page).await.unwrap();
        assert!(shown.status == 200 && !shown.body.is_empty(), "{page}");
        markers.assert_absent(page, &shown.body);
    }
    // The log, the access log, and every other file.
    for (name, bytes) in files(edge.envoy.folder()) {
        markers.assert_absent(&name, &bytes);
    }
}

#[tokio::test]
async fn nothing_secret_shows_in_logs_stats_or_dumps_even_at_trace() {
    let mut markers = Markers::default();
    let account = account();
    markers.with("the token", account.token().to_owned());
    markers.with("the EncodingAESKey", account.encoding_aes_key().to_owned());
    let edge =
        Edge::start_for(account, |bootstrap| bootstrap.log_level("trace").component_log_level("wasm:trace")).await;
    let (account, client, url) = (&edge.account, Client::http1(), edge.url());
    let mut secret_bind = |edge: &Edge| {
        let (auth_code, verif_code, other) =
            (markers.random("auth_code"), markers.random("verif_code"), markers.random("a member of the plaintext"));
        let account = markers.random("a member of base_info");
        edge.bind_with(|event| {
            event
                .set("auth_code", auth_code)
                .set("verif_code", verif_code)
                .set("note", other)
                .base("auth_corpid", account)
        })
    };

    // Served, and served again as a duplicate, over both protocols.
    let bind = secret_bind(&edge);
    for client in [Client::http1(), Client::http2(), Client::http1()] {
        let answer = client.send(&url, &bind.request).await.unwrap();
        edge.check("a bind", &bind, Some(&answer), Bound);
    }
    // Refused with a text, and failed in several ways, each twice.
    let in_words = secret_bind(&edge);
    let words = random_id();
    edge.decision.on_device(&in_words.device_sn, Behaviour::verdict_with(4, &words));
    let answer = client.send(&url, &in_words.request).await.unwrap();
    assert_eq!(answer.decrypt(account).unwrap().errmsg().as_deref(), Some(words.as_str()));
    let broken = random_id();
    for behaviour in [
        Behaviour::hang(),
        Behaviour::reset(),
        Behaviour::cut_off(),
        Behaviour::status(500),
        Behaviour::json(format!("{{\"errcode\":\"{broken}\"")),
        Behaviour::json(format!("{{\"errcode\":\"{broken}\"}}")),
        Behaviour::garbage(),
    ] {
        let bind = secret_bind(&edge);
        edge.decision.on_device(&bind.device_sn, behaviour.clone());
        for _ in 0..2 {
            let answer = client.send(&url, &bind.request).await.unwrap();
            assert_eq!(answer.decrypt(account).unwrap().errcode(), Some(7), "{behaviour}");
        }
    }
    // The client disconnects before the verdict.
    let left = secret_bind(&edge);
    edge.decision.on_device(&left.device_sn, Behaviour::verdict(0).after(Duration::from_millis(300)));
    let asked = edge.decision.count();
    let mut wire = Wire::open(edge.envoy.address()).await;
    wire.write(&left.bytes(&[])).await;
    edge.decision.wait_for(asked + 1).await.unwrap();
    drop(wire);

    // Rejected for all kinds of reasons.
    let mut spoilt = Vec::new();
    let bind = secret_bind(&edge);
    spoilt.push(bind.request.clone().forged());
    spoilt.push(bind.request.clone().into_get());
    spoilt.push(bind.request.clone().with_method("PUT"));
    spoilt.push(bind.request.clone().with_query("nonce=%zz"));
    spoilt.push(account.seal_at(&bind.message, unix_now() - 5000, "1"));
    spoilt.push(account.clone().with_receive_id("someoneelse").seal(&bind.message));
    spoilt.push(account.seal(String::from_utf8(bind.message.clone()).unwrap().replace("event", "tneve")));
    spoilt.push(account.seal(&bind.message[..bind.message.len() - 1]));
    spoilt.push(account.seal(String::from_utf8(bind.message.clone()).unwrap().replace("2000000000000001", "3")));
    let old = secret_bind(&edge).message;
    spoilt.push(account.seal(String::from_utf8(old).unwrap().replace("\"createtime\":1", "\"createtime\":")));
    spoilt.push(bind.request.clone().with_body(vec![b' '; 70_000]));
    spoilt.push(bind.request.clone().with_body(&b"{\"encrypt\":\"\xff\"}"[..]));
    for request in &spoilt {
        let answer = client.send(&url, request).await.unwrap();
        assert!((400..500).contains(&answer.status), "{} {}", answer.status, answer.text());
    }
    let bind = secret_bind(&edge);
    let bytes = bind.bytes(&[("x-request-id", b"\xff\xfe"), ("traceparent", b"\x80")]);
    edge.check("no UTF-8", &bind, edge.send(&bytes).await.as_ref(), Bound);
    let bind = secret_bind(&edge);
    let bytes = bind.bytes(&[]);
    Wire::open(edge.envoy.address()).await.write(&bytes[..bytes.len() - 100]).await;

    // Other callbacks, with other secrets, and an answer of the upstream's.
    let relayed = random_id();
    edge.backend.always(Behaviour::json(format!("{{\"answer\":\"{relayed}\"}}")));
    for event in [EventType::UserScan, EventType::PrinterJobTrans, EventType::RemoteOpenDoor, EventType::ModelTicket] {
        let (mut made, mut secrets) = (Event::of(event, "sn-other"), Vec::new());
        for member in ["auth_code", "model_ticket", "encoding_aeskey", "open_userid", "oper_id"] {
            secrets.push(markers.random("a member of another callback"));
            made = made.set(member, secrets.last().unwrap().as_str());
        }
        let answer = client.send(&url, &account.seal(&made)).await.unwrap();
        assert!(answer.decrypt(account).unwrap().text().contains(&relayed), "{}", event.name());
        // The upstream did receive the secrets; otherwise their absence elsewhere would prove nothing.
        let sent = edge.backend.requests().pop().unwrap();
        assert_eq!(markers.found_in(&sent.body).len(), secrets.len());
    }
    // A verification's digits.
    let echo: String =
        random_id().chars().map(|c| char::from(b'0' + u8::try_from(u32::from(c) % 10).unwrap())).collect();
    let answer = client.send(&url, &account.verify_url(&echo)).await.unwrap();
    assert_eq!((answer.status, answer.text()), (200, echo.clone()));

    markers.with("an echo", echo);
    markers.with("a verdict's text", words);
    markers.with("a broken verdict", broken);
    markers.with("a relayed answer", relayed);
    for name in ["upstream_reply", "bad_signature", "duplicate"] {
        edge.envoy.access_log_line(|line| line["outcome"] == name).await.unwrap();
    }
    // The log really is at trace level: it shows the query, which is not secret.
    edge.envoy.wait_for_log(&in_words.request.msg_signature).await.unwrap();
    assert_absent_everywhere(&edge, &markers).await;
    edge.backend.forget();
    edge.end().await;
}

#[tokio::test]
async fn literal_secrets_show_in_the_configuration_dump_and_nowhere_else() {
    let mut markers = Markers::default();
    let (account, typed) = (account(), account());
    markers.with("a literal token", account.token().to_owned());
    markers.with("a literal EncodingAESKey", account.encoding_aes_key().to_owned());
    markers.with("a token in key_values", typed.token().to_owned());
    markers.with("an EncodingAESKey in key_values", typed.encoding_aes_key().to_owned());
    let (literal, values) = (account.clone(), typed.clone());
    let edge = Edge::start_for(account, move |bootstrap| {
        bootstrap
            .edit_plugin_value(|value| {
                value["endpoints"][0]["credentials"] = serde_json::json!([
                    { "token": literal.token(), "encoding_aes_key": literal.encoding_aes_key() },
                    { "token": { "env": "TYPED_TOKEN" }, "encoding_aes_key": { "env": "TYPED_KEY" } },
                ]);
            })
            .edit_plugin(|plugin| {
                plugin["vm_config"]["environment_variables"]["key_values"] =
                    serde_json::json!({ "TYPED_TOKEN": values.token(), "TYPED_KEY": values.encoding_aes_key() });
            })
    })
    .await;
    let client = Client::http1();
    for account in [&edge.account, &typed] {
        let answer = client.send(&edge.url(), &account.seal(Event::bind(&random_id()))).await.unwrap();
        assert_eq!(answer.decrypt(account).unwrap().errcode(), Some(0));
        let forged = account.seal(Event::bind(&random_id()).bytes(account)).forged();
        assert_eq!(client.send(&edge.url(), &forged).await.unwrap().status, 403);
    }
    let dump = edge.envoy.admin("/config_dump").await.unwrap();
    assert_eq!(markers.found_in(&dump.body).len(), 4, "README and SECURITY say so: {:?}", markers.found_in(&dump.body));
    for page in ["/stats", "/stats/prometheus", "/clusters", "/listeners", "/server_info"] {
        markers.assert_absent(page, &edge.envoy.admin(page).await.unwrap().body);
    }
    markers.assert_absent("the log", edge.envoy.log().as_bytes());
    markers.assert_absent("the access log", format!("{:?}", edge.envoy.access_log()).as_bytes());
    edge.end().await;
}
