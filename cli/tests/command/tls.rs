//! `send` to https: whom it trusts, and where it finds a host.

use std::path::PathBuf;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::json;
use tempfile::TempDir;
use testbed::backend::Backend;
use testbed::edge::{Edge, Setup};
use testbed::envoy::Bootstrap;

use crate::{finish, program, run};

/// A host that no DNS has.
const HOST: &str = "lock.invalid";

/// A certificate for the host, and its key.
fn certificate(folder: &TempDir, name: &str) -> (PathBuf, PathBuf) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([HOST.to_owned()]).unwrap();
    let (chain, key) = (folder.path().join(format!("{name}.pem")), folder.path().join(format!("{name}.key")));
    std::fs::write(&chain, cert.pem()).unwrap();
    std::fs::write(&key, signing_key.serialize_pem()).unwrap();
    (chain, key)
}

async fn start(chain: &PathBuf, key: &PathBuf) -> Edge {
    let bootstrap = Bootstrap::example().unwrap().edit(|config| {
        config["static_resources"]["listeners"][0]["filter_chains"][0]["transport_socket"] = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": {
                    "alpn_protocols": ["h2", "http/1.1"],
                    "tls_certificates": [{ "certificate_chain": { "filename": chain }, "private_key": { "filename": key } }],
                },
            },
        });
    });
    Setup::of(bootstrap).start().await.unwrap()
}

#[tokio::test]
async fn a_certificate_and_an_address_can_be_given_by_hand() {
    let folder = TempDir::new().unwrap();
    let ((chain, key), (stranger, _)) = (certificate(&folder, "edge"), certificate(&folder, "stranger"));
    let edge = start(&chain, &key).await;
    let port = edge.envoy.address().port();
    let url = format!("https://{HOST}:{port}/suite/receive");
    let (chain, stranger) = (chain.to_str().unwrap(), stranger.to_str().unwrap());
    let here = format!("{HOST}:{port}:127.0.0.1");
    let (anyone, elsewhere) = (format!("*:{port}:127.0.0.1"), format!("{HOST}:1:127.0.0.1"));

    for arguments in [
        &["--cacert", chain, "--resolve", &here][..],
        &["--cacert", chain, "--resolve", &here, "--http2"],
        &["--cacert", chain, "--resolve", &elsewhere, "--resolve", &anyone],
    ] {
        let said = run(&[&["send", &url, "--expect-errcode", "0"], arguments].concat()).await;
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{arguments:?}: {said:?}");
    }
    assert_eq!(edge.decision.count(), 3);
    let stats = edge.envoy.stats().await.unwrap();
    assert_eq!(stats["http.edge.downstream_cx_http2_total"], 1, "--http2 is for TLS too");

    let strange = run(&["send", &url, "--resolve", &here, "--cacert", stranger]).await;
    assert!(strange.code == 3 && strange.out.contains("invalid peer certificate"), "{strange:?}");
    let nowhere = run(&["send", &url, "--resolve", &elsewhere, "--cacert", chain]).await;
    assert!(nowhere.code == 3 && nowhere.err.contains("warning: --resolve is not used"), "{nowhere:?}");
    // The system does not know it, and may know nobody.
    let unknown = run(&["send", &url, "--resolve", &here]).await;
    assert!(unknown.code == 3 || unknown.code == 2 && unknown.err.contains("without --cacert"), "{unknown:?}");
    assert_eq!(edge.decision.count(), 3);
    edge.end().await.unwrap();
}

#[tokio::test]
async fn what_is_no_certificate_or_address_is_said() {
    for (arguments, reason) in [
        (["--cacert", "no-such-file"], "error: --cacert no-such-file: "),
        (["--cacert", "README.md"], "error: --cacert README.md: there is no certificate in it"),
        (["--resolve", "a:80"], "expected HOST:PORT:ADDRESS"),
        (["--resolve", "a:80:b"], "\"b\" is no IP address"),
    ] {
        let said = run(&[&["send", "https://127.0.0.1:1/"], &arguments[..]].concat()).await;
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{arguments:?}: {said:?}");
        assert!(said.err.contains(reason), "{arguments:?}: {said:?}");
    }
}

#[tokio::test]
async fn http_needs_no_certificates_of_the_system() {
    let backend = Backend::start().await.unwrap();
    let url = format!("http://{}/", backend.address());
    let mut command = program(&["send", &url, "--type", "unbind"]);
    let said = finish(
        {
            command.env("SSL_CERT_FILE", "/nonexistent").env("SSL_CERT_DIR", "/nonexistent");
            command
        },
        "",
    )
    .await;
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
}
