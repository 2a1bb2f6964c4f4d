//! The filter against other people's implementations of the protocol: it opens what they seal, and they
//! open what it seals, through the real Envoy. One client for each language, none of this repository's
//! code in it.
//!
//! With `CONFORMANCE=full`, as `make conformance` sets it, the callbacks are as many as `docs/conformance.md`
//! tells; else there are fewer. With `CONFORMANCE_PAGE=write` the page is written, else compared.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod clients;
mod page;
mod plan;
mod probes;

use std::collections::{BTreeSet, HashMap};
use std::io::{Write, stderr};
use std::sync::Arc;

use clients::{Answer, Language, Report, Work};
use page::Measured;
use plan::{Plan, Reply, Size};
use serde_json::{Value, json};
use testbed::edge::{Edge, PATH, Setup};
use wecom_callback_filter::wecom::callback::{Content, EventType};

/// How many callbacks each client sends in this run.
fn size() -> Size {
    match std::env::var("CONFORMANCE") {
        Ok(word) if word == "full" => Size::FULL,
        Ok(word) => panic!("CONFORMANCE={word}: unknown"),
        Err(_) => Size::SMALL,
    }
}

/// An Envoy with an endpoint for each of the plan's accounts, all of whose callbacks go to one backend.
async fn start(plan: &Plan) -> Edge {
    Setup::example()
        .unwrap()
        .one_backend()
        .start_with(|bootstrap| {
            bootstrap.edit_plugin_value(|plugin| {
                let first = plugin["endpoints"][0].clone();
                let endpoints = plan.accounts().iter().enumerate().map(|(index, account)| {
                    let mut endpoint = first.clone();
                    endpoint["path"] = plan::path(index).into();
                    endpoint["name"] = format!("account-{index}").into();
                    endpoint["receive_ids"] = json!([account.receive_id()]);
                    endpoint["credentials"] =
                        json!([{ "token": account.token(), "encoding_aes_key": account.encoding_aes_key() }]);
                    endpoint
                });
                plugin["endpoints"] = endpoints.collect();
            })
        })
        .await
        .unwrap()
}

/// Has a client send the whole plan, and compares what both sides got.
async fn converse(edge: &Edge, language: Language, size: Size) -> Measured {
    let plan = Arc::new(Plan::new(language.name(), size));
    let script = Arc::clone(&plan);
    edge.backend.script(move |told| script.answer_to(&told.req_id()?));
    let probes = probes::all(&plan.accounts()[0]);
    let report = clients::run(language, &Work::new(&edge.envoy.url(""), &plan, &probes)).await;

    let name = language.name();
    let Report { version, answers, probes } = report;
    assert_eq!(answers.len(), plan.callbacks().len(), "{name}");
    for (callback, answer) in plan.callbacks().iter().zip(&answers) {
        let Answer { error, status, message, receive_id } = answer;
        let sent = String::from_utf8_lossy(callback.message());
        assert_eq!(error.as_deref().unwrap_or_default(), "", "{name}, having sent {sent}");
        assert_eq!(*status, 200, "{name}, having sent {sent}: {message}");
        if let Some(receive_id) = receive_id {
            assert_eq!(receive_id, plan.accounts()[callback.account()].receive_id(), "{name}");
        }
        match callback.reply() {
            Reply::Echo => assert_eq!(message.as_bytes(), callback.message(), "{name}"),
            Reply::Verdict(verdict) => {
                assert_eq!(serde_json::from_str::<Value>(message).unwrap(), *verdict, "{name}, having sent {sent}");
            }
            Reply::Object(object) => assert_eq!(message, object, "{name}, having sent {sent}"),
        }
    }

    let told = edge.backend.requests();
    let by_req_id: HashMap<_, _> = told.iter().map(|told| (told.req_id().unwrap(), told)).collect();
    assert_eq!((told.len(), by_req_id.len()), (plan.posts().count(), plan.posts().count()), "{name}");
    for callback in plan.posts() {
        assert_eq!(by_req_id[callback.req_id()].body, callback.message(), "{name}: byte for byte");
    }
    edge.backend.forget();

    let opened = answers.iter().zip(plan.callbacks()).filter(|(_, callback)| *callback.reply() != Reply::Echo);
    let lengths = opened.map(|(answer, callback)| plan.residue(callback.account(), answer.message.len()));
    assert_eq!(plan::distinct(lengths), 32, "{name}: not every length of padding occurred in replies");
    Measured { language, version, counts: plan.counts(), probes }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_implementation_and_the_filter_open_what_the_other_seals() {
    let edge = start(&Plan::new("accounts", Size::SMALL)).await;
    let filter = probes::sent_to_the_filter(&edge, &Plan::new("accounts", Size::SMALL)).await;
    let mut measured = Vec::new();
    for language in Language::ALL {
        match clients::missing(language).await {
            None => measured.push(converse(&edge, language, size()).await),
            Some(reason) => {
                let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
                assert!(!is_ci, "{}: `make setup` installs what is missing: {reason}", language.name());
                let line = format!("SKIPPED: {}: `make setup` installs what is missing: {reason}", language.name());
                // Not by `eprintln!`, which is shown of tests that fail.
                stderr().write_all(format!("{0}\n{line}\n{0}\n", "#".repeat(80)).as_bytes()).unwrap();
            }
        }
    }
    edge.end().await.unwrap();
    page::settle(&filter, &measured);
}

#[test]
fn the_plan_has_every_length_of_padding_and_every_kind_of_key() {
    for size in [Size::SMALL, Size::FULL] {
        let plan = Plan::new("any", size);
        let posts = plan.posts().map(|callback| plan.residue(callback.account(), callback.message().len()));
        assert_eq!(plan::distinct(posts), 32);
        let gets = plan.callbacks().iter().filter(|callback| *callback.reply() == Reply::Echo);
        assert_eq!(gets.clone().count(), size.gets);
        assert_eq!(plan::distinct(gets.map(|callback| plan.residue(callback.account(), callback.message().len()))), 32);
        assert_eq!(plan::distinct(plan.accounts().iter().map(plan::spare_bits)), 4);
        assert!(plan.posts().any(|callback| callback.message().len() > 30_000));
        assert_eq!(plan.posts().count(), size.posts);
        // Two plans are the same but for the moment and what the request ids begin with.
        let other = Plan::new("any", size);
        assert!(plan.posts().zip(other.posts()).all(|(one, two)| one.message().len() == two.message().len()));
        assert_eq!(plan.counts(), other.counts());
    }
}

#[test]
fn the_page_tells_of_the_full_plan() {
    let plan = Plan::new("any", Size::FULL);
    let page = page::text();
    let ranges = [
        ("tokens of", bounds(plan.accounts().iter().map(|account| account.token().len())), "characters"),
        ("receive ids of", bounds(plan.accounts().iter().map(|account| account.receive_id().len())), "characters"),
        ("messages of", bounds(plan.posts().map(|callback| callback.message().len())), "bytes"),
        ("objects of", bounds(plan.posts().filter_map(|callback| callback.reply().object_length())), "bytes"),
    ];
    for (what, (least, most), unit) in ranges {
        let told = format!("{what} {least} to {most} {unit}");
        assert!(page.contains(&told), "docs/conformance.md does not say: {told}");
    }
    let types: BTreeSet<_> = plan.posts().map(|callback| event_type(callback.message())).collect();
    let all_but_one = EventType::ALL.into_iter().map(|(_, name)| name.to_owned());
    assert_eq!(types, all_but_one.filter(|name| name != "verify_device" && name != "other").collect());
}

fn bounds(lengths: impl Iterator<Item = usize>) -> (usize, usize) {
    lengths.fold((usize::MAX, 0), |(least, most), length| (least.min(length), most.max(length)))
}

fn event_type(message: &[u8]) -> String {
    Content::parse(message).unwrap().event_name
}

#[test]
fn the_callback_path_of_an_account_is_on_the_filters_route() {
    assert!(plan::path(7).starts_with(PATH));
}
