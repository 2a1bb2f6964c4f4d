//! `backend`: the answers that serial numbers ask for, and what it prints.

use std::process::Stdio;

use serde_json::{Value, json};
use testbed::edge::{PATH, Setup};
use testbed::wecom::{Account, Client, Event};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdout};
use tokio::task::JoinSet;

use crate::{program, run};

/// A running one.
pub(crate) struct Serving {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    decisions: String,
    events: String,
}

impl Serving {
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        let free = ["backend", "--json", "--listen", "127.0.0.1:0", "--events-listen", "127.0.0.1:0"];
        let mut child = program(&[&free, arguments].concat()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
        let url = |name: &str| format!("http://{}/", first[name].as_str().unwrap());
        Self { child, lines, decisions: url("decisions"), events: url("events") }
    }

    /// Where it decides, and where it takes the rest.
    pub(crate) fn ports(&self) -> (u16, u16) {
        let port = |url: &str| url.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap();
        (port(&self.decisions), port(&self.events))
    }

    /// Reads and forgets what it says from now on: it does not go on while nobody reads.
    pub(crate) fn unheard(self) -> JoinSet<()> {
        let Self { child, mut lines, .. } = self;
        let mut reading = JoinSet::new();
        reading.spawn(async move {
            let _child = child;
            while let Ok(Some(_)) = lines.next_line().await {}
        });
        reading
    }

    async fn said(&mut self) -> Value {
        serde_json::from_str(&self.lines.next_line().await.unwrap().unwrap()).unwrap()
    }
}

#[tokio::test]
async fn serial_numbers_ask_for_answers() {
    let mut serving = Serving::start(&["--default", "3", "--verdict", "sn-mine=5"]).await;
    let (client, account) = (Client::http1(), Account::demo());
    for (serial, status, body) in [
        ("any", 200, r#"{"errcode":3}"#),
        ("sn-mine", 200, r#"{"errcode":5}"#),
        ("sn-accept-1", 200, r#"{"errcode":0}"#),
        ("sn-refuse-4", 200, r#"{"errcode":4}"#),
        ("sn-slow-20", 200, r#"{"errcode":0}"#),
        ("sn-empty", 200, ""),
        ("sn-success", 200, "success"),
    ] {
        let event = Event::bind(serial).req_id("r");
        let answer = client.post(&serving.decisions, event.to_json(account.receive_id())).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (status, body), "{serial}");
        let said = serving.said().await;
        assert_eq!(
            (&said["event"], &said["req_id"], &said["device_sn"]),
            (&json!("bind"), &json!("r"), &json!(serial))
        );
        assert!(said["answer"].is_string(), "{said}");
    }
    let broken = client.post(&serving.decisions, Event::bind("sn-500").to_json(account.receive_id())).await.unwrap();
    assert_eq!(broken.status, 500);
    for serial in ["sn-cut", "sn-close", "sn-garbage"] {
        let message = Event::bind(serial).to_json(account.receive_id());
        assert!(client.post(&serving.decisions, message).await.is_err(), "{serial}");
    }
    let scan = Event::of(wecom_callback_filter::wecom::callback::EventType::UserScan, "any");
    let answer = client.post(&serving.events, scan.to_json(account.receive_id())).await.unwrap();
    assert_eq!(answer.text(), r#"{"online_status":1}"#);
    serving.child.kill().await.unwrap();
}

#[tokio::test]
async fn it_stands_behind_a_real_envoy_with_send_before_it() {
    let serving = Serving::start(&[]).await;
    let (decisions, events) = serving.ports();
    let change =
        |bootstrap: testbed::envoy::Bootstrap| bootstrap.cluster("decision", decisions).cluster("backend", events);
    let edge = Setup::example().unwrap().start_with(change).await.unwrap();
    let url = edge.envoy.url(PATH);
    for (serial, errcode) in [("sn-refuse-4", "4"), ("sn-accept-1", "0"), ("sn-hang", "7"), ("sn-html", "7")] {
        let said = run(&["send", &url, "--device-sn", serial, "--expect-errcode", errcode]).await;
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{serial}: {said:?}");
    }
    let scan = run(&["send", &url, "--type", "user_scan", "--json"]).await;
    assert_eq!((scan.code, &scan.json()["answers"][0]["reply"]), (0, &json!({ "online_status": 1 })));
    edge.end().await.unwrap();
}

#[tokio::test]
async fn an_address_in_use_is_2() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = run(&["backend", "--listen", &address]).await;
    assert_eq!((said.code, said.out.as_str()), (2, ""), "{said:?}");
    assert!(said.err.starts_with(&format!("error: cannot listen on {address}: ")), "{said:?}");
    let said = run(&["backend", "--verdict", "sn=many"]).await;
    assert!(said.code == 2 && said.err.contains("'--verdict <SERIAL=CODE>'"), "{said:?}");
}
