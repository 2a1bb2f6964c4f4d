//! Requests for other paths with the headers by which a backend knows a callback of the filter.

use std::fs;

use http::{HeaderMap, HeaderName, HeaderValue, Request};
use testbed::backend::Received;
use testbed::edge::{PATH, Setup};
use testbed::envoy::{Bootstrap, dynamic_filter};
use testbed::wecom::Event;
use tokio::net::TcpStream;

use crate::wire::{self, Wire};

/// The HTTP filter that takes these headers off.
const STRIP: &str = "strip_wecom_headers";

/// Headers that some backend reads as one of the filter's: names of any case, and every sign in place of
/// a hyphen that Envoy lets through.
const CLAIMS: [&str; 16] = [
    "x-wecom-event",
    "X-WeCom-Event",
    "X-WECOM-EVENT",
    "x-wecom-req-id",
    "x-wecom-receive-id",
    "x-wecom-anything",
    "x-wecom-",
    "x_wecom_event",
    "X_WECOM_EVENT",
    "x-wecom_event",
    "x_wecom-event",
    "x-wecom_req_id",
    "x.wecom.event",
    "x+wecom~event",
    "x!wecom#event",
    "x|wecom^event",
];

/// Headers that backends may need, some of which resemble the filter's.
const OTHERS: [&str; 17] = [
    "idempotency-key",
    "traceparent",
    "tracestate",
    "b3",
    "authorization",
    "cookie",
    "content-type",
    "accept",
    "x-forwarded-host",
    "x-wecom",
    "x-wecoms-event",
    "x-wework-event",
    "xx-wecom-event",
    "xwecom-event",
    "wecom-event",
    "my-x-wecom-event",
    "wecom_event",
];

/// Whether a backend may read a header of that name as one of the filter's: CGI turns whatever is neither
/// letter nor digit into the same sign.
fn is_claim(name: &str) -> bool {
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    name.starts_with("x-wecom-")
}

fn claims(fields: &[(String, Vec<u8>)]) -> Vec<&str> {
    fields.iter().map(|(name, _)| name.as_str()).filter(|name| is_claim(name)).collect()
}

/// Posts to a path of the backend, over HTTP/1.1 and HTTP/2, every claim twice and all other headers, and
/// the claims once more as trailers. Returns what the backend got.
async fn impersonate(edge: &testbed::edge::Edge, path: &str) -> [Received; 2] {
    edge.backend.forget();
    let all = || CLAIMS.into_iter().chain(OTHERS).chain(CLAIMS);
    let headers: Vec<(&str, &[u8])> = all().map(|name| (name, b"unbind".as_slice())).collect();
    let mut bytes = wire::head("POST", path.as_bytes(), &headers);
    bytes.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n");
    for name in CLAIMS.into_iter().chain(["x-checksum"]) {
        bytes.extend_from_slice(format!("{name}: unbind\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    let answer = Wire::open(edge.envoy.address()).await.ask(&bytes).await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "success"));

    let fields = |names: &mut dyn Iterator<Item = &'static str>| {
        let mut map = HeaderMap::new();
        for name in names {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("unbind"));
        }
        map
    };
    let (mut sender, connection) =
        h2::client::handshake(TcpStream::connect(edge.envoy.address()).await.unwrap()).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::post(format!("http://edge.example{path}")).body(()).unwrap();
    *request.headers_mut() = fields(&mut all());
    let (answer, mut sending) = sender.send_request(request, false).unwrap();
    sending.send_data("{}".into(), false).unwrap();
    sending.send_trailers(fields(&mut CLAIMS.into_iter().chain(["x-checksum"]))).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);

    edge.backend.requests().try_into().expect("two requests")
}

async fn no_claim_reaches_the_backend(bootstrap: Bootstrap) {
    // By default trailers end at Envoy; where both sides let them pass, they are part of the request.
    let bootstrap = bootstrap
        .edit_hcm(|hcm| hcm["http_protocol_options"]["enable_trailers"] = true.into())
        .edit_cluster("backend", |cluster| {
            let options = "/typed_extension_protocol_options/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\
                           /explicit_http_config/http_protocol_options";
            cluster.pointer_mut(options).unwrap()["enable_trailers"] = true.into();
        });
    let edge = Setup::of(bootstrap.clone()).start().await.unwrap();
    for path in ["/events", "/bind", "/", "/events?x-wecom-event=unbind"] {
        for told in impersonate(&edge, path).await {
            assert_eq!(told.target, path);
            assert_eq!(claims(&told.headers), Vec::<&str>::new(), "{path}");
            assert_eq!(claims(&told.trailers), Vec::<&str>::new(), "{path}");
            assert_eq!(told.trailers, [("x-checksum".to_owned(), b"unbind".to_vec())]);
            for name in OTHERS {
                assert_eq!(told.header_text(name), Some("unbind"), "{name} for {path}");
            }
        }
    }

    // The filter's own call has its headers, each once, though the caller claimed others.
    edge.backend.forget();
    let event = Event::unbind("sn-unbound");
    let request = edge.account.seal(&event).with_header("x-wecom-event", b"bind").with_header("x_wecom_event", b"bind");
    edge.client.send(&edge.envoy.url(PATH), &request).await.unwrap();
    let told = edge.backend.requests().remove(0);
    let mut sent = claims(&told.headers);
    sent.sort_unstable();
    assert_eq!(sent, ["x-wecom-event", "x-wecom-receive-id", "x-wecom-req-id"]);
    assert_eq!(told.header_text("x-wecom-event"), Some("unbind"));
    assert_eq!(told.header_text("x-wecom-req-id"), event.req_id_text());
    edge.end().await.unwrap();

    // Without that filter of Envoy, everything above would have arrived.
    let edge = Setup::of(bootstrap.without_filter(STRIP)).start().await.unwrap();
    for told in impersonate(&edge, "/events").await {
        assert_eq!(claims(&told.headers).len(), 2 * CLAIMS.len());
        assert_eq!(claims(&told.trailers).len(), CLAIMS.len());
    }
    edge.end().await.unwrap();
}

#[tokio::test]
async fn no_stranger_speaks_to_a_backend_in_the_filters_name() {
    no_claim_reaches_the_backend(Bootstrap::example().unwrap()).await;
}

#[tokio::test]
async fn nor_with_the_filter_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let filter = folder.path().join("filter.json");
    fs::write(&filter, dynamic_filter().unwrap().to_string()).unwrap();
    no_claim_reaches_the_backend(Bootstrap::dynamic(&filter).unwrap()).await;
}
