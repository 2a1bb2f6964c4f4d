//! The three backends behind the filter.

use std::time::Duration;

use serde_json::{Value, json};
use testbed::edge::{Edge, PATH};
use testbed::envoy::Bootstrap;
use testbed::wecom::{Account, Client, Event, Request, random_id};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use wecom_callback_filter::wecom::callback::EventType;

use crate::page;
use crate::program::{Language, Program, SECRET, end_without_a_secret};
use crate::samples::{self, PROVIDER};

/// The configuration with the page's `decision` and `events`, and the secret in Envoy's environment.
pub(crate) fn with_the_secret(bootstrap: Bootstrap) -> Bootstrap {
    let snippet = page::snippet("decision");
    let keys = page::snippet("environment_variables")["environment_variables"].clone();
    bootstrap
        .edit_plugin_value(|plugin| {
            for name in ["decision", "events"] {
                plugin["endpoints"][0][name] = snippet[name].clone();
            }
        })
        .edit_plugin(|plugin| plugin["vm_config"]["environment_variables"] = keys)
        .env("WECOM_BACKEND_SECRET", SECRET)
}

/// An Envoy before that backend, configured as the page says, with the provider's generic URL besides the model's.
async fn edge(program: &Program) -> Edge {
    let generic = format!("{PATH}/generic");
    let upstreams = page::snippet("decision");
    let variables = page::snippet("environment_variables")["environment_variables"].clone();
    let bootstrap = Bootstrap::from_yaml(&page::edited(program.port)).unwrap().env("WECOM_BACKEND_SECRET", SECRET);
    let bootstrap = bootstrap
        .edit_plugin(|plugin| assert_eq!(plugin["vm_config"]["environment_variables"], variables))
        .edit_plugin_value(|plugin| {
            let mut endpoint = plugin["endpoints"][0].clone();
            for name in ["decision", "events"] {
                assert_eq!(endpoint[name], upstreams[name]);
            }
            endpoint["path"] = generic.into();
            endpoint["name"] = "generic".into();
            endpoint["receive_ids"] = json!([PROVIDER]);
            plugin["endpoints"].as_array_mut().unwrap().push(endpoint);
        });
    let edge = Edge::start_with(|_| bootstrap).await.unwrap();
    // Nobody but the filter reaches the decision endpoint through Envoy.
    let bind = edge.account.seal("").with_header("authorization", SECRET.as_bytes());
    assert_eq!(edge.client.send(&edge.envoy.url("/bind"), &bind).await.unwrap().status, 404);
    edge
}

async fn errcode(edge: &Edge, bind: &Event) -> Option<u32> {
    edge.send(&edge.account.seal(bind)).await.unwrap().decrypt(&edge.account).unwrap().errcode()
}

fn bind(device_sn: &str, code: &str) -> Event {
    Event::bind(device_sn).set("verif_code", code)
}

/// What every backend on the page has to do.
async fn serves(language: Language) {
    let Some(program) = Program::start(language).await else { return };
    let edge = edge(&program).await;

    let accepted = bind("sn-1001", "123456");
    let req_id = accepted.req_id_text().unwrap().to_owned();
    assert_eq!(errcode(&edge, &accepted).await, Some(0));
    assert_eq!(errcode(&edge, &accepted).await, Some(0), "a copy");
    assert_eq!(program.handled("bind", &req_id), 1);
    assert_eq!(errcode(&edge, &bind("sn-1001", "123456")).await, Some(2), "bound already");
    assert_eq!(errcode(&edge, &bind("sn-1002", "000000")).await, Some(6), "another code");
    assert_eq!(errcode(&edge, &bind("sn-9999", "123456")).await, Some(7), "another vendor's");

    let unbind = Event::unbind("sn-1001");
    for _ in 0..2 {
        let answer = edge.send(&edge.account.seal(&unbind)).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "success"));
    }
    assert_eq!(program.handled("unbind", unbind.req_id_text().unwrap()), 1);
    assert_eq!(errcode(&edge, &bind("sn-1001", "123456")).await, Some(0), "bound again");
    edge.send(&edge.account.seal(Event::unbind("sn-1001"))).await.unwrap();

    takes_every_sample(&edge, &program).await;
    takes_nothing_else(&edge, &program).await;
    fails_with_an_error(&edge, &program).await;
    keeps_to_the_key_and_the_secret(&edge, &program).await;
    reads_no_body_as_a_request(&program).await;
    for secret in [SECRET, "s3cret", "zB5Tn0cWq7LdY2hK9vXe4RjM1uPs8GoAf6NiD3bQyCtVxZ"] {
        assert!(!program.output().contains(secret), "it prints secrets: {}", program.output());
    }
    edge.end().await.unwrap();
    program.stop().await;
}

async fn takes_every_sample(edge: &Edge, program: &Program) {
    for sample in samples::all() {
        let (path, account) = match sample.event {
            EventType::VerifyDevice => (format!("{PATH}/generic"), edge.account.clone().with_receive_id(PROVIDER)),
            _ => (PATH.to_owned(), edge.account.clone()),
        };
        let (name, req_id) = (sample.event.name(), random_id());
        let request = account.seal(sample.fresh(&req_id, account.receive_id()));
        let answer = edge.client.send(&edge.envoy.url(&path), &request).await.unwrap();
        let opened = || serde_json::from_str::<Value>(&answer.decrypt(&account).unwrap().text()).unwrap();
        match sample.event {
            EventType::Bind => assert_eq!(opened()["errcode"], 0, "{name}"),
            EventType::VerifyDevice => {
                assert_eq!(opened(), json!({ "is_valid": true, "modelid": "2000000000000001" }), "{name}");
            }
            EventType::UserScan => assert_eq!(opened(), json!({ "online_status": 1 }), "{name}"),
            _ => assert_eq!((answer.status, answer.text().as_str()), (200, "success"), "{name}"),
        }
        assert_eq!(program.handled(name, &req_id), 1, "{name}");
    }
}

/// What it does not know is neither taken nor stored, so that it can be delivered again.
async fn takes_nothing_else(edge: &Edge, program: &Program) {
    for kind in ["event", "command"] {
        let unknown = Event::named(kind, "lend_device", "sn-1001");
        for _ in 0..2 {
            let answer = edge.send(&edge.account.seal(&unknown)).await.unwrap();
            assert_eq!(answer.status, 503, "{kind}");
        }
        let req_id = unknown.req_id_text().unwrap();
        assert_eq!((program.handled("lend_device", req_id), program.unknown("lend_device", req_id)), (0, 2), "{kind}");
    }
    let of_another = Event::of(EventType::VerifyDevice, "sn");
    let generic = edge.account.clone().with_receive_id(PROVIDER);
    let answer =
        edge.client.send(&edge.envoy.url(&format!("{PATH}/generic")), &generic.seal(&of_another)).await.unwrap();
    let said: Value = serde_json::from_str(&answer.decrypt(&generic).unwrap().text()).unwrap();
    assert_eq!(said, json!({ "is_valid": false }));
    assert_eq!(program.handled("verify_device", of_another.req_id_text().unwrap()), 1);
}

/// What it cannot read ends as an error, by which nothing is approved.
async fn fails_with_an_error(edge: &Edge, program: &Program) {
    let url = format!("http://127.0.0.1:{}/bind", program.port);
    for body in ["{\"base_info\": s3cret", "[\"s3cret\"]", "", "null"] {
        let request = edge.account.seal("").with_body(body).with_header("authorization", SECRET.as_bytes());
        let request = request.with_header("x-wecom-event", b"bind").with_header("idempotency-key", b"broken");
        let answer = edge.client.send(&url, &request).await.unwrap();
        let refused = answer.status >= 400 || answer.text() == "{\"errcode\":7}";
        assert!(refused, "{body:?}: {} {}", answer.status, answer.text());
    }
}

/// What the filter cannot keep apart after a restart of Envoy, and who else may reach the backend.
/// What a stranger's body leaves on a connection would be answered before the filter's next call.
async fn reads_no_body_as_a_request(program: &Program) {
    let mut connection = TcpStream::connect(("127.0.0.1", program.port)).await.unwrap();
    let chunked = "POST /bind HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    let next = "POST /bind HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
    connection.write_all([chunked, next].concat().as_bytes()).await.unwrap();
    let mut read = Vec::new();
    // A server that has closed before it has read everything may end the connection with a reset.
    let _ = tokio::time::timeout(Duration::from_secs(20), connection.read_to_end(&mut read)).await.unwrap();
    let read = String::from_utf8_lossy(&read).into_owned();
    let statuses: Vec<_> = read.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert!(matches!(statuses[..], ["401", "401"] | ["411"]), "{read}");
}

async fn keeps_to_the_key_and_the_secret(edge: &Edge, program: &Program) {
    let [curl] = &page::blocks("sh").into_iter().filter(|text| text.contains("curl")).collect::<Vec<_>>()[..] else {
        panic!("one block with curl")
    };
    assert!(curl.contains("127.0.0.1:8080"));
    let curl = curl.replace("127.0.0.1:8080", &format!("127.0.0.1:{}", program.port));
    for _ in 0..2 {
        let said =
            Command::new("bash").args(["-ec", &curl]).env("WECOM_BACKEND_SECRET", SECRET).output().await.unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        let answer: Value = serde_json::from_slice(&said.stdout).unwrap();
        assert_eq!(answer, json!({ "errcode": 0 }), "the same verdict, though the device is bound by now");
    }
    assert_eq!(program.handled("bind", "4f1c2b7e9a"), 1);

    let body = Event::bind("sn-1002").to_json(edge.account.receive_id());
    for secret in [None, Some("Bearer another")] {
        let mut request = edge.account.seal("").with_body(body.clone()).with_header("idempotency-key", b"stranger");
        if let Some(secret) = secret {
            request = request.with_header("authorization", secret.as_bytes());
        }
        let url = format!("http://127.0.0.1:{}/bind", program.port);
        assert_eq!(edge.client.send(&url, &request).await.unwrap().status, 401);
    }
    assert_eq!(program.handled("bind", "stranger"), 0);
    assert!(program.listens_at("127.0.0.1").await);
    assert!(!program.listens_at("127.0.0.2").await, "other addresses of the machine are open, too");
}

#[tokio::test]
async fn the_backend_in_python_serves_behind_the_filter() {
    serves(Language::Python).await;
}

#[tokio::test]
async fn the_backend_in_go_serves_behind_the_filter() {
    serves(Language::Go).await;
}

#[tokio::test]
async fn the_backend_in_java_serves_behind_the_filter() {
    serves(Language::Java).await;
}

/// Copies as several Envoys hand them on, which know nothing of each other's records: at once, while the first is
/// being decided.
async fn decides_once_for_each_receive_id_and_key(language: Language) {
    let Some(program) = Program::start_slow(language).await else { return };
    let (client, account) = (Client::http1(), Account::demo());
    let url = format!("http://127.0.0.1:{}/bind", program.port);
    let errcode = async |receive_id: &'static str| {
        let request = account.seal("").with_body(bind("sn-1001", "123456").to_json(receive_id));
        let headers = [
            ("authorization", SECRET),
            ("x-wecom-event", "bind"),
            ("x-wecom-receive-id", receive_id),
            ("idempotency-key", "a-key"),
        ];
        let set = |request: Request, (name, value): (&str, &str)| request.with_header(name, value.as_bytes());
        let answer = client.send(&url, &headers.into_iter().fold(request, set)).await.unwrap();
        serde_json::from_str::<Value>(&answer.text()).unwrap()["errcode"].as_u64()
    };
    let copies = tokio::join!(errcode("one"), errcode("one"), errcode("one"), errcode("one"));
    assert_eq!(copies, (Some(0), Some(0), Some(0), Some(0)), "{language:?}");
    assert_eq!(program.handled("bind", "a-key"), 1, "{language:?}");
    // To another receive id the same key is another request, and the device is bound by now.
    assert_eq!(errcode("another").await, Some(2), "{language:?}");
    assert_eq!(errcode("one").await, Some(0), "{language:?}");
    assert_eq!(program.handled("bind", "a-key"), 2, "{language:?}");
    program.stop().await;
}

#[tokio::test]
async fn each_backend_decides_once_for_each_receive_id_and_key() {
    for language in [Language::Python, Language::Go, Language::Java] {
        decides_once_for_each_receive_id_and_key(language).await;
    }
}

/// With an empty one, whoever sends none would be taken for the filter.
#[tokio::test]
async fn no_backend_runs_without_its_secret() {
    for language in [Language::Python, Language::Go, Language::Java] {
        let end = end_without_a_secret(language).await;
        assert!(end.is_none_or(|end| !end.success()), "{language:?}: {end:?}");
    }
}
