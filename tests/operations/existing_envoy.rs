//! docs/existing-envoy.md: its snippets of Envoy's configuration, as they stand there, and its numbers.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};
use testbed::edge::{Edge, PATH, Setup};
use testbed::envoy::{Bootstrap, Envoy};
use testbed::files::repository;
use testbed::waiting::until;
use testbed::wecom::{Client, Connecting, Event, Request, Trust};
use tokio::net::TcpListener;
use wecom_callback_filter::outcome::Outcome;
use wecom_callback_filter::wecom::callback::EventType;
use wecom_callback_filter::wecom::verdict::ERRCODES;

fn page() -> String {
    fs::read_to_string(repository().join("docs/existing-envoy.md")).unwrap()
}

/// The snippet with that name at its top.
fn snippet(name: &str) -> Value {
    let page = page();
    let snippets = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut parsed = snippets.map(|text| serde_saphyr::from_str::<Value>(text).unwrap());
    parsed.find(|snippet| snippet.get(name).is_some()).unwrap_or_else(|| panic!("no snippet with {name}"))
}

fn items(value: &mut Value) -> &mut Vec<Value> {
    value.as_array_mut().unwrap()
}

/// `envoy.yaml` with its connection manager's filters and routes as the page has them.
fn in_a_manager_that_is_there() -> Bootstrap {
    let mut snippet = snippet("http_filters");
    Bootstrap::example().unwrap().edit_hcm(|hcm| {
        for name in ["wecom", "strip_wecom_headers"] {
            let own = items(&mut hcm["http_filters"]).iter().find(|filter| filter["name"] == name).unwrap().clone();
            let place = items(&mut snippet["http_filters"]).iter_mut().find(|filter| filter["name"] == name).unwrap();
            assert!(place.get("typed_config").is_none(), "the page has a {name} of its own");
            place["typed_config"] = own["typed_config"].clone();
        }
        hcm["http_filters"] = snippet["http_filters"].take();
        hcm["route_config"]["virtual_hosts"] = snippet["virtual_hosts"].take();
    })
}

#[tokio::test]
async fn a_disabled_filter_serves_the_callbacks_route_and_sees_nothing_else() {
    let edge = Setup::of(in_a_manager_that_is_there()).start().await.unwrap();
    let callbacks = |request: Request| request.with_header("host", b"callbacks.example.com");
    let bind = edge.account.seal(Event::bind("sn-here"));
    let answer = edge.send(&callbacks(bind.clone())).await.unwrap();
    assert_eq!(answer.decrypt(&edge.account).unwrap().errcode(), Some(0));
    assert_eq!(edge.decision.requests_for("sn-here").len(), 1);
    let answer = edge.send(&callbacks(edge.account.verify_url("1"))).await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "1"));
    let answer = edge.send(&callbacks(bind.forged())).await.unwrap();
    assert_eq!((answer.status, answer.rejection().as_deref()), (403, Some("bad_signature")));

    // The same path of another host ends at its route, and the filter before it works there.
    let elsewhere = edge.account.seal(Event::bind("sn-elsewhere")).with_header("host", b"www.example.com");
    assert_eq!(edge.send(&elsewhere).await.unwrap().status, 401);
    let elsewhere = elsewhere.with_header("x-wecom-event", b"bind");
    let elsewhere = elsewhere.with_header("authorization", b"Basic YWxpY2U6cGFzc3dvcmQ=");
    let answer = edge.send(&elsewhere).await.unwrap();
    assert_eq!((answer.status, answer.rejection().as_deref()), (503, Some("filter_missing")));
    assert_eq!(edge.backend.count(), 0);
    // Its other paths pass.
    let answer = edge.client.send(&edge.envoy.url("/other"), &elsewhere).await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "success"));
    assert_eq!(edge.backend.requests()[0].path(), "/other");
    assert_eq!(edge.backend.requests()[0].header("x-wecom-event"), None);
    edge.until_ended("other", "bad_signature", 1).await.unwrap();
    let ended: u64 =
        edge.envoy.stats().await.unwrap().iter().filter(|(name, _)| is_counter(name)).map(|(_, n)| n).sum();
    assert_eq!(ended, 3);
    edge.end().await.unwrap();
}

fn is_counter(name: &str) -> bool {
    name.starts_with("wasmcustom.wecom") && name.ends_with(".callbacks_total")
}

#[tokio::test]
async fn without_the_line_that_enables_the_filter_callbacks_end_at_their_route() {
    let bootstrap = in_a_manager_that_is_there().edit_hcm(|hcm| {
        let route = &mut hcm["route_config"]["virtual_hosts"][0]["routes"][0];
        route["typed_per_filter_config"].as_object_mut().unwrap().remove("wecom");
    });
    let edge = Setup::of(bootstrap).start().await.unwrap();
    let bind = edge.account.seal(Event::bind("sn-here")).with_header("host", b"callbacks.example.com");
    assert_eq!(edge.send(&bind).await.unwrap().status, 503);
    assert_eq!(edge.decision.count() + edge.backend.count(), 0);
    edge.end().await.unwrap();
}

#[tokio::test]
async fn the_form_that_enables_the_filter_needs_config() {
    for form in [json!({ "disabled": false }), json!({})] {
        let bootstrap = in_a_manager_that_is_there().edit_hcm(|hcm| {
            let route = &mut hcm["route_config"]["virtual_hosts"][0]["routes"][0];
            let wecom = route["typed_per_filter_config"]["wecom"].as_object_mut().unwrap();
            wecom.remove("config");
            wecom.extend(form.as_object().unwrap().clone());
        });
        let (status, said) = Envoy::validate(bootstrap).await.unwrap();
        assert!(!status.success() && said.contains("Empty route/virtual host per filter configuration"), "{said}");
    }
}

/// A certificate for that name, in files of that folder.
fn certificate(folder: &Path, name: &str) -> (String, Value) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([name.to_owned()]).unwrap();
    let (chain, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
    fs::write(&chain, cert.pem()).unwrap();
    fs::write(&key, signing_key.serialize_pem()).unwrap();
    (cert.pem(), json!([{ "certificate_chain": { "filename": chain }, "private_key": { "filename": key } }]))
}

#[tokio::test]
async fn a_filter_chain_of_its_own_takes_callbacks_and_leaves_the_other_alone() {
    const CERTIFICATES: &str = "/transport_socket/typed_config/common_tls_context/tls_certificates";
    const CALLBACKS: &str = "callbacks.example.com";
    const OTHER: &str = "www.example.com";
    let folder = tempfile::tempdir().unwrap();
    let ((trusted, files), (other_trusted, other_files)) =
        (certificate(folder.path(), CALLBACKS), certificate(folder.path(), OTHER));
    let bootstrap = Bootstrap::example().unwrap().edit(|config| {
        let listener = &mut config["static_resources"]["listeners"][0];
        let mut snippet = snippet("listener_filters");
        listener["listener_filters"] = snippet["listener_filters"].take();
        let mut own = items(&mut snippet["filter_chains"]).remove(0);
        assert_eq!(own["filter_chain_match"], json!({ "server_names": [CALLBACKS] }));
        *own.pointer_mut(CERTIFICATES).unwrap() = files;
        let mut other = own.clone();
        other["filter_chain_match"] = json!({ "server_names": [OTHER] });
        *other.pointer_mut(CERTIFICATES).unwrap() = other_files;

        // What was there: a connection manager without any limit, and without the filter.
        let mut manager = listener["filter_chains"][0]["filters"][0].clone();
        manager["typed_config"]["route_config"]["virtual_hosts"][0]["domains"] = json!([CALLBACKS]);
        own["filters"] = json!([manager]);
        let settings = &mut manager["typed_config"];
        for limit in ["common_http_protocol_options", "stream_idle_timeout", "request_timeout"] {
            assert!(settings.as_object_mut().unwrap().remove(limit).is_some());
        }
        items(&mut settings["http_filters"]).retain(|filter| filter["name"] != "wecom");
        let hosts = &mut settings["route_config"]["virtual_hosts"][0];
        hosts["domains"] = json!([OTHER]);
        items(&mut hosts["routes"]).remove(0);
        other["filters"] = json!([manager]);
        listener["filter_chains"] = json!([own, other]);
    });
    let edge = Setup::of(bootstrap).start().await.unwrap();
    let address = edge.envoy.address();
    let url = |host: &str, path: &str| format!("https://{host}:{}{path}", address.port());

    let client_of = |host: &str, trusted: &str| {
        let (trust, addresses) = (Trust::Only(trusted.as_bytes().to_vec()), Some((host.to_owned(), vec![address])));
        Client::connecting(&Connecting { http2: false, trust, addresses }).unwrap()
    };

    let client = client_of(CALLBACKS, &trusted);
    let bind = edge.account.seal(Event::bind("sn-here"));
    let to = |host: &str| bind.clone().with_header("host", host.as_bytes());
    let answer = client.send(&url(CALLBACKS, PATH), &to(CALLBACKS)).await.unwrap();
    assert_eq!(answer.decrypt(&edge.account).unwrap().errcode(), Some(0));
    // The test's port is not 443, and so stands in the name that the client gives by itself.
    assert_eq!(client.send(&url(CALLBACKS, PATH), &bind).await.unwrap().status, 404);
    let elsewhere = client_of("elsewhere.example.com", &trusted);
    assert!(elsewhere.get(&url("elsewhere.example.com", "/")).await.is_err());
    let stats = edge.envoy.stats().await.unwrap();
    let unmatched = stats.iter().filter(|(name, _)| name.ends_with(".no_filter_chain_match"));
    assert_eq!(unmatched.map(|(_, count)| count).sum::<u64>(), 1, "no chain is for that name");
    assert_eq!(edge.backend.count(), 0);

    // The other host's backend gets everything; a name that is not its own is refused.
    let client = client_of(OTHER, &other_trusted);
    assert_eq!(client.send(&url(OTHER, PATH), &to(OTHER)).await.unwrap().text(), "success");
    assert_eq!(client.send(&url(OTHER, PATH), &to(CALLBACKS)).await.unwrap().status, 404);
    assert_eq!((edge.backend.count(), edge.decision.count()), (1, 1));
    edge.end().await.unwrap();
}

#[tokio::test]
async fn the_listener_for_metrics_hands_out_nothing_else() {
    // Envoy chooses its ports itself here, so the admin interface's is known only once it runs.
    let mut snippet = snippet("listeners");
    let edge = Edge::start().await.unwrap();
    let admin = edge.envoy.admin_address();
    let bootstrap = Bootstrap::example().unwrap().edit(|config| {
        let mut listener = items(&mut snippet["listeners"]).remove(0);
        listener["address"] = json!({ "socket_address": { "address": "127.0.0.1", "port_value": 0 } });
        items(&mut config["static_resources"]["listeners"]).push(listener);
        let cluster = items(&mut snippet["clusters"]).remove(0);
        items(&mut config["static_resources"]["clusters"]).push(cluster);
    });
    let front = Setup::of(bootstrap.cluster("admin", admin.port())).start().await.unwrap();

    let metrics = format!("http://{}", front.envoy.listener("metrics").unwrap());
    let client = Client::http1();
    let shown = client.get(&format!("{metrics}/stats/prometheus")).await.unwrap();
    assert!(shown.status == 200 && shown.text().contains("wecom_duplicates_waiting"));
    for path in
        ["/", "/stats", "/config_dump", "/quitquitquit", "/stats/prometheus/", "/stats/prometheus/../../config_dump"]
    {
        let answer = client.get(&format!("{metrics}{path}")).await.unwrap();
        assert_eq!(answer.status, 404, "{path}");
    }
    assert_eq!(client.post(&format!("{metrics}/stats/prometheus"), "").await.unwrap().status, 404);
    front.end().await.unwrap();
    edge.end().await.unwrap();
}

/// An upstream that speaks HTTP/2 alone and answers each path in its own way.
async fn http2_upstream() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let (status, length, body) = http2_answer(request.uri().path());
                    let mut response = http::Response::builder().status(status);
                    if let Some(length) = length {
                        response = response.header("content-length", length);
                    }
                    let mut sent = respond.send_response(response.body(()).unwrap(), body.is_empty()).unwrap();
                    if !body.is_empty() {
                        sent.send_data(Bytes::from_static(body.as_bytes()), true).unwrap();
                    }
                }
            });
        }
    });
    port
}

/// Status, `content-length` and body.
fn http2_answer(path: &str) -> (u16, Option<&'static str>, &'static str) {
    match path {
        "/empty" => (200, None, ""),
        "/empty-0" => (200, Some("0"), ""),
        "/no-content" => (204, None, ""),
        "/success" => (200, None, "success"),
        "/success-7" => (200, Some("7"), "success"),
        _ => (200, None, r#"{"errcode":4}"#),
    }
}

#[tokio::test]
async fn an_http2_upstream_approves_with_an_empty_answer_only_if_that_says_how_long_it_is() {
    let verdicts = [("empty", 7), ("empty-0", 0), ("no-content", 0), ("success", 7), ("success-7", 0), ("object", 4)];
    let port = http2_upstream().await;
    let edge = Edge::start_with(|bootstrap| {
        let bootstrap = bootstrap.cluster("decision", port).edit_cluster("decision", |cluster| {
            cluster["typed_extension_protocol_options"] = json!({
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": { "http2_protocol_options": {} }
                }
            });
        });
        bootstrap.edit_plugin_value(|plugin| {
            let endpoint = plugin["endpoints"][0].take();
            let endpoints = verdicts.iter().map(|(name, _)| {
                let mut endpoint = endpoint.clone();
                endpoint["path"] = format!("{PATH}/{name}").into();
                endpoint["name"] = (*name).into();
                endpoint["decision"]["path"] = format!("/{name}").into();
                endpoint
            });
            plugin["endpoints"] = endpoints.collect();
        })
    });
    let edge = edge.await.unwrap();
    for (name, errcode) in verdicts {
        let url = edge.envoy.url(&format!("{PATH}/{name}"));
        let answer = edge.client.send(&url, &edge.account.seal(Event::bind("sn-h2"))).await.unwrap();
        assert_eq!(answer.decrypt(&edge.account).unwrap().errcode(), Some(errcode), "{name}");
    }
    edge.end().await.unwrap();
}

/// Who closes first never closes while the other one sends.
#[test]
fn nginx_closes_idle_connections_before_envoy_does() {
    let page = page();
    let (_, rest) = page.split_once("    keepalive_timeout ").unwrap();
    let nginx: u32 = rest.split_once("s;").unwrap().0.parse().unwrap();
    let example = Bootstrap::example().unwrap();
    let manager = &example.config()["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0];
    let manager = &manager["typed_config"];
    let envoy = manager["common_http_protocol_options"]["idle_timeout"].as_str().unwrap();
    assert!(nginx < envoy.strip_suffix('s').unwrap().parse().unwrap(), "{nginx} {envoy}");
    assert!(page.contains(&format!("less than Envoy's idle_timeout, {envoy}")));
}

#[tokio::test]
async fn envoy_closes_idle_connections_to_upstreams_as_the_page_says() {
    let snippet = snippet("typed_extension_protocol_options");
    let edge = Edge::start_with(|bootstrap| {
        bootstrap.edit_cluster("decision", |cluster| {
            cluster["typed_extension_protocol_options"] = snippet["typed_extension_protocol_options"].clone();
        })
    });
    let edge = edge.await.unwrap();
    let closed = async || edge.envoy.stat("cluster.decision.upstream_cx_idle_timeout").await;
    for count in 1..3 {
        let answer = edge.send(&edge.account.seal(Event::bind("sn-here"))).await.unwrap();
        assert_eq!(answer.decrypt(&edge.account).unwrap().errcode(), Some(0));
        until("Envoy closed the connection", async || closed().await >= Some(count)).await.unwrap();
    }
    edge.end().await.unwrap();
}

#[tokio::test]
async fn the_page_has_the_number_of_series_that_an_endpoint_makes() {
    let edge = Edge::start_with(|bootstrap| bootstrap.edit(|config| config["stats_flush_interval"] = json!("0.1s")));
    let edge = edge.await.unwrap();
    let count = async || {
        let shown = edge.envoy.prometheus().await.unwrap();
        let of = |name: &str| shown.lines().filter(|line| line.starts_with(name)).count();
        ["wecom_callbacks_total{", "wecom_verdicts_total{", "wecom_clients_left_total{", "wecom_upstream_duration_ms_"]
            .map(of)
    };
    until("the histograms were shown", async || count().await[3] > 0).await.unwrap();
    let [callbacks, verdicts, left, durations] = count().await;
    assert_eq!(left, 1);

    let pairs = Outcome::ALL.into_iter().flat_map(|o| EventType::ALL.into_iter().map(move |(event, _)| (o, event)));
    assert_eq!(callbacks, pairs.filter(|(outcome, event)| outcome.applies_to(*event)).count());
    assert_eq!(verdicts, ERRCODES.len() + 1);
    let buckets = edge_buckets();
    assert_eq!(durations, EventType::ALL.len() * (buckets + 3));

    let page = page();
    for text in [
        format!("**{} series for each endpoint**", callbacks + verdicts + left + durations),
        format!("| `wecom_callbacks_total` | {callbacks}: "),
        format!("| `wecom_verdicts_total` | {verdicts} |"),
        format!("| `wecom_upstream_duration_ms` | {durations}: {} types, {buckets} buckets ", EventType::ALL.len()),
    ] {
        assert!(page.contains(&text), "the page does not say: {text}");
    }
    edge.end().await.unwrap();
}

/// How many buckets `envoy.yaml` gives the histogram.
fn edge_buckets() -> usize {
    let config = Bootstrap::example().unwrap();
    let settings = &config.config()["stats_config"]["histogram_bucket_settings"];
    settings[0]["buckets"].as_array().unwrap().len()
}
