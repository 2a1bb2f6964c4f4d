//! Traces with the commented-out lines of envoy.yaml: Envoy's real exporter, and a test server that
//! plays the collector.

use std::collections::BTreeMap;

use prost::Message;
use testbed::backend::{Backend, Behaviour};
use testbed::edge::Setup;
use testbed::envoy::{Bootstrap, version};
use testbed::waiting::until;
use testbed::wecom::Event;

use crate::commented::example_with;

/// The fields of an OTLP export request that are needed here.
mod otlp {
    use prost::Message;

    #[derive(Message)]
    pub(super) struct Export {
        #[prost(message, repeated, tag = "1")]
        pub resources: Vec<Resource>,
    }

    #[derive(Message)]
    pub(super) struct Resource {
        #[prost(message, repeated, tag = "2")]
        pub scopes: Vec<Scope>,
    }

    #[derive(Message)]
    pub(super) struct Scope {
        #[prost(message, repeated, tag = "2")]
        pub spans: Vec<Span>,
    }

    #[derive(Message)]
    pub(super) struct Span {
        #[prost(bytes = "vec", tag = "1")]
        pub trace_id: Vec<u8>,
        #[prost(message, repeated, tag = "9")]
        pub attributes: Vec<Attribute>,
    }

    #[derive(Message)]
    pub(super) struct Attribute {
        #[prost(string, tag = "1")]
        pub key: String,
        #[prost(message, tag = "2")]
        pub value: Option<AnyValue>,
    }

    #[derive(Message)]
    pub(super) struct AnyValue {
        #[prost(string, tag = "1")]
        pub text: String,
    }
}

/// A span's trace and attributes.
type Span = (String, BTreeMap<String, String>);

fn spans(collector: &Backend) -> Vec<Span> {
    let requests = collector.requests();
    let exports = requests.iter().filter(|request| request.path() == "/v1/traces");
    let exports = exports.map(|request| otlp::Export::decode(request.body.as_slice()).unwrap());
    let spans = exports.flat_map(|export| export.resources).flat_map(|r| r.scopes).flat_map(|s| s.spans);
    let text = |value: Option<otlp::AnyValue>| value.map(|value| value.text).unwrap_or_default();
    spans
        .map(|span| (hex::encode(span.trace_id), span.attributes.into_iter().map(|a| (a.key, text(a.value))).collect()))
        .collect()
}

#[tokio::test]
async fn a_span_carries_the_tags_and_the_upstream_gets_the_ids() {
    if version().unwrap() < (1, 37) {
        eprintln!("SKIPPED: before 1.37 Envoy knows no trace tags by format string");
        return;
    }
    let collector = Backend::start().await.unwrap();
    collector.always(Behaviour::empty());
    let setup = Setup::of(Bootstrap::from_yaml(&example_with(&["#tracing:", "#- name: otel_collector"])).unwrap())
        .one_backend();
    let edge = setup.start_with(|bootstrap| bootstrap.cluster("otel_collector", collector.port())).await.unwrap();
    let (envoy, backend, account) = (&edge.envoy, &edge.backend, &edge.account);
    backend.on_device("sn-refused", Behaviour::verdict(4));

    let trace_id = "0af7651916cd43dd8448eb211c80319c";
    let traceparent = format!("00-{trace_id}-b7ad6b7169203331-01");
    let event = Event::bind("sn-refused").req_id("req-traced");
    let request = account.seal(&event).with_header("traceparent", traceparent.as_bytes());
    let request = request.with_header("tracestate", b"vendor=1");
    edge.send(&request).await.unwrap();
    edge.send(&account.seal(Event::bind("sn-forged")).forged()).await.unwrap();

    // The upstream gets the ids of the trace and of the request.
    let access = envoy.access_log_line(|line| line["req_id"] == "req-traced").await.unwrap();
    let asked = &backend.requests_for("sn-refused")[0];
    assert_eq!(asked.header_text("traceparent"), Some(traceparent.as_str()));
    assert_eq!(asked.header_text("tracestate"), Some("vendor=1"));
    assert_eq!(asked.header_text("x-request-id"), access["request_id"].as_str());

    // The exporter buffers spans for some seconds.
    let exported = until("two spans were exported", async || spans(&collector).len() >= 2).await;
    exported.unwrap_or_else(|error| panic!("{error:#}: {:?}\n{}", spans(&collector), envoy.log()));
    let spans = spans(&collector);
    let with = |outcome: &str| spans.iter().find(|(_, tags)| tags.get("wecom.outcome").is_some_and(|o| o == outcome));
    let (trace, tags) = with("refused").unwrap();
    assert_eq!(trace, trace_id);
    for (name, value) in [
        ("wecom.event", "bind"),
        ("wecom.req_id", "req-traced"),
        ("wecom.device_sn", "sn-refused"),
        ("wecom.errcode", "4"),
        ("guid:x-request-id", access["request_id"].as_str().unwrap()),
    ] {
        assert_eq!(tags.get(name).map(String::as_str), Some(value), "{name} of {tags:?}");
    }
    let (_, tags) = with("bad_signature").unwrap();
    assert!(!tags.contains_key("wecom.req_id") || tags["wecom.req_id"] == "-", "{tags:?}");
    assert_eq!(tags["wecom.event"], "other");
    edge.end().await.unwrap();
}
