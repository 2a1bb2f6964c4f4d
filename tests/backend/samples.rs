//! The page's samples of the callbacks.

use std::collections::BTreeSet;

use serde_json::Value;
use testbed::edge::Edge;
use testbed::wecom::Event;
use wecom_callback_filter::wecom::callback::{Content, EventType, MsgType};
use wecom_callback_filter::wecom::verdict::ERRCODES;

use crate::page;

/// The id at the end of messages to the provider's generic URL, in the samples.
pub(crate) const PROVIDER: &str = "wwprovider0000001";

/// A callback as the page shows it.
pub(crate) struct Sample {
    pub(crate) event: EventType,
    message: Value,
    title: String,
    text: String,
}

impl Sample {
    /// The same message, of now and with a request id of its own, for that receive id.
    pub(crate) fn fresh(&self, req_id: &str, receive_id: &str) -> String {
        let mut message = self.message.clone();
        let base = message["base_info"].as_object_mut().unwrap();
        base["req_id"] = req_id.into();
        base["createtime"] = testbed::wecom::unix_now().into();
        if let Some(model_id) = base.get_mut("model_id") {
            *model_id = receive_id.into();
        }
        message.to_string()
    }

    /// What its section says under the sample.
    fn text(&self) -> &str {
        &self.text
    }
}

/// All of them, in the page's order.
pub(crate) fn all() -> Vec<Sample> {
    let page = page::text();
    let section = page.split("\n## The fifteen callbacks\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let parts = section.split("\n### ").skip(1).map(|part| {
        let (title, rest) = part.split_once('\n').unwrap();
        let (sample, text) = rest.split_once("```json\n").unwrap().1.split_once("```").unwrap();
        let message: Value = serde_json::from_str(sample).unwrap_or_else(|error| panic!("{title}: {error}"));
        let event = Content::parse(sample.as_bytes()).unwrap().event;
        Sample { event, message, title: title.to_owned(), text: text.to_owned() }
    });
    parts.collect()
}

fn members(message: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (name, part) in message.as_object().unwrap() {
        found.insert(name.clone());
        found.extend(part.as_object().into_iter().flatten().map(|(member, _)| format!("{name}.{member}")));
    }
    found
}

#[test]
fn there_is_a_sample_of_each_type_with_the_members_that_wecom_sends() {
    let samples = all();
    let types: Vec<_> = samples.iter().map(|sample| sample.event).collect();
    assert_eq!(types, EventType::ALL.map(|(event, _)| event)[..15]);
    for Sample { event, message, title, .. } in &samples {
        let sent: Value = serde_json::from_slice(&Event::of(*event, "sn").to_json("2000000000000001")).unwrap();
        assert_eq!(members(message), members(&sent), "{title}");
        let content = Content::parse(message.to_string().as_bytes()).unwrap();
        let kind = if content.msg_type == MsgType::Event { "event" } else { "command" };
        assert!(title.starts_with(&format!("`{}`, {kind}", event.name())), "{title}");
        assert_eq!(message["msg_type"], kind, "{title}");
        let to = if *event == EventType::VerifyDevice { PROVIDER } else { "2000000000000001" };
        assert!(content.agrees_with(to), "{title}");
    }
    let ids: BTreeSet<_> = samples.iter().map(|sample| sample.message["base_info"]["req_id"].to_string()).collect();
    assert_eq!(ids.len(), 15, "two samples share a request id");
}

#[test]
fn each_section_says_what_to_answer_and_what_wecom_gets_if_that_fails() {
    for sample in all() {
        let text = sample.text().split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.to_lowercase().contains("answer "), "{}: {text}", sample.title);
        if let Some(refusal) = sample.event.refusal().filter(|_| sample.event != EventType::Bind) {
            assert!(text.contains(refusal), "{} does not tell of {refusal}", sample.title);
        }
    }
}

#[test]
fn the_table_of_verdicts_has_the_documented_codes() {
    let page = page::text();
    let section = page.split("\n## Verdicts\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let codes = section.lines().filter_map(|line| line.split('|').nth(1)?.trim().parse::<u32>().ok());
    assert_eq!(codes.collect::<Vec<_>>(), ERRCODES.map(|(code, _)| code));
}

#[tokio::test]
async fn the_page_shows_a_call_as_it_arrives() {
    let edge = Edge::start_with(crate::running::with_the_secret).await.unwrap();
    let bind = all().remove(0);
    let message = bind.fresh("4f1c2b7e9a", edge.account.receive_id());
    let request = edge.account.seal(message.as_str()).with_header("traceparent", b"00-1-2-01");
    edge.send(&request).await.unwrap();
    let told = edge.decision.requests().remove(0);

    let [shown] = &page::blocks("http")[..] else { panic!("one block of http") };
    let mut lines = shown.lines();
    assert_eq!(lines.next(), Some("POST /bind HTTP/1.1"));
    let shown: Vec<_> = lines.map(|line| line.split_once(": ").unwrap()).collect();
    let names: BTreeSet<_> = told.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(shown.iter().map(|(name, _)| *name).collect::<BTreeSet<_>>(), names, "{:?}", told.headers);
    for (name, value) in shown {
        if !["x-request-id", "authorization"].contains(&name) {
            assert_eq!(told.header_text(name), Some(value), "{name}");
        }
    }
    assert_eq!(told.header("idempotency-key"), told.header("x-wecom-req-id"));
    edge.end().await.unwrap();
}
