//! What strangers send is counted always, and fills neither the log nor hides what matters in it.

use std::time::Instant;

use testbed::backend::Behaviour;
use testbed::edge::Edge;
use testbed::waiting::until;
use testbed::wecom::{Client, Event};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const WORKERS: u64 = 2;

fn warnings(edge: &Edge, text: &str) -> usize {
    edge.envoy.log().lines().filter(|line| line.contains("[warning]") && line.contains(text)).count()
}

#[tokio::test]
async fn five_hundred_forged_requests_write_ten_lines_a_second_and_worker() {
    let edge = Edge::start().await.unwrap();
    let began = Instant::now();
    let mut sending = JoinSet::new();
    for _ in 0..500 {
        let (client, url) = (edge.client.clone(), edge.url());
        let request = edge.account.seal(Event::bind("sn")).forged();
        sending.spawn(async move { client.send(&url, &request).await.unwrap().rejection() });
    }
    let answers = sending.join_all().await;
    assert!(answers.len() == 500 && answers.iter().all(|word| word.as_deref() == Some("bad_signature")));
    edge.until_ended("other", "bad_signature", 500).await.unwrap();
    // A failure of the upstream is said all the same.
    edge.decision.always(Behaviour::status(500));
    edge.send(&edge.account.seal(Event::bind("sn"))).await.unwrap();
    edge.envoy.wait_for_log("upstream_status endpoint=lock").await.unwrap();

    // Every second that was begun has its lines, and says at its end what it kept back.
    let kept_back = || -> usize {
        let log = edge.envoy.log();
        let lines = log.lines().filter_map(|line| line.split(": and ").nth(1)?.split_once(" more rejected"));
        lines.map(|(count, _)| count.parse::<usize>().unwrap()).sum()
    };
    let all_said = async || warnings(&edge, "bad_signature") + kept_back() == 500;
    until("every request was logged or counted as kept back", all_said).await.unwrap();
    let seconds = began.elapsed().as_secs() + 2;
    let written = warnings(&edge, "bad_signature") as u64;
    assert!(written <= 10 * WORKERS * seconds && written < 500, "{written} lines in {seconds} s");
    edge.end().await.unwrap();
}

#[tokio::test]
async fn stalled_and_abandoned_requests_write_no_errors() {
    let edge = Edge::start_with(|bootstrap| bootstrap.component_log_level("wasm:debug")).await.unwrap();
    let request = edge.account.seal(Event::bind("sn"));
    let head =
        format!("POST /suite/receive?{} HTTP/1.1\r\nhost: edge\r\ncontent-length: 9\r\n\r\n", request.query_text());
    let mut stalled = Vec::new();
    for _ in 0..20 {
        let mut connection = TcpStream::connect(edge.envoy.address()).await.unwrap();
        connection.write_all(head.as_bytes()).await.unwrap();
        stalled.push(connection);
    }
    let mut gone = TcpStream::connect(edge.envoy.address()).await.unwrap();
    gone.write_all(head.as_bytes()).await.unwrap();
    gone.write_all(b"x").await.unwrap();
    let begun = async || edge.envoy.stat("http.edge.downstream_rq_active").await == Some(21);
    until("all requests had begun", begun).await.unwrap();
    drop(gone);
    edge.until_ended("other", "client_gone", 1).await.unwrap();
    edge.until_ended("other", "no_body", 20).await.unwrap();
    let log = edge.envoy.log();
    assert!(!log.lines().any(|line| line.contains("[error]") || line.contains("[critical]")), "{log}");
    assert_eq!(warnings(&edge, "client_gone"), 0, "nothing shows that it was WeCom");
    assert!(log.contains("client_gone endpoint=lock"), "told to whoever debugs");
    drop(stalled);
    drop(Client::http1());
    edge.end().await.unwrap();
}
