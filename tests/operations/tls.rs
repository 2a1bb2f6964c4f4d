//! TLS on the listener, with the commented-out lines of envoy.yaml and a certificate of the test's own.

use std::fs;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use testbed::edge::{PATH, Setup};
use testbed::envoy::Bootstrap;
use testbed::files::repository;
use testbed::wecom::{Client, Event, send_raw};

use crate::commented::example_with;

#[tokio::test]
async fn the_listener_speaks_tls_with_the_lines_that_envoy_yaml_has_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (chain, key) = (folder.path().join("fullchain.pem"), folder.path().join("privkey.pem"));
    fs::write(&chain, cert.pem()).unwrap();
    fs::write(&key, signing_key.serialize_pem()).unwrap();

    let bootstrap = Bootstrap::from_yaml(&example_with(&["#transport_socket:"])).unwrap().edit(|config| {
        let socket = &mut config["static_resources"]["listeners"][0]["filter_chains"][0]["transport_socket"];
        let certificate = &mut socket["typed_config"]["common_tls_context"]["tls_certificates"][0];
        for (part, file) in [("certificate_chain", &chain), ("private_key", &key)] {
            let filename = &mut certificate[part]["filename"];
            assert!(filename.is_string(), "{part} is no file");
            *filename = file.to_str().unwrap().into();
        }
    });
    let edge = Setup::of(bootstrap).start().await.unwrap();
    let url = |path: &str| format!("https://{}{path}", edge.envoy.address());
    let client = Client::https(&cert.pem()).unwrap();
    let answer = client.send(&url(PATH), &edge.account.seal(Event::bind("sn-tls"))).await.unwrap();
    assert_eq!(answer.decrypt(&edge.account).unwrap().errcode(), Some(0));
    let answer = client.send(&url(PATH), &edge.account.verify_url("123")).await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "123"));
    assert_eq!(client.get(&url("/other")).await.unwrap().text(), "success");
    let versions = edge.envoy.stats().await.unwrap();
    assert_eq!(versions["http.edge.downstream_cx_http2_total"], 1, "the client prefers HTTP/2");

    // A client of another certificate, and one that speaks in clear, get nothing.
    let stranger = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap().cert.pem();
    assert!(Client::https(&stranger).unwrap().get(&url("/other")).await.is_err());
    let clear = b"GET /other HTTP/1.1\r\nhost: edge\r\nconnection: close\r\n\r\n";
    assert!(send_raw(edge.envoy.address(), clear).await.is_err());
    assert_eq!(edge.backend.count(), 1);
    edge.end().await.unwrap();
}

#[test]
fn no_shipped_listener_is_open_to_other_machines_in_clear() {
    for file in ["envoy.yaml", "deploy/dynamic/envoy.yaml"] {
        let text = fs::read_to_string(repository().join(file)).unwrap();
        let config: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        let listeners = config["static_resources"]["listeners"].as_array().unwrap();
        for listener in listeners.iter().chain([&config["admin"]]) {
            let address = &listener["address"]["socket_address"]["address"];
            assert_eq!(address, "127.0.0.1", "{file}");
        }
    }
}
