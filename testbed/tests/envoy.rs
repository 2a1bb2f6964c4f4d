//! Envoy by itself, without the filter: starting and stopping it both ways, its statistics and logs.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use testbed::backend::Backend;
use testbed::envoy::{Bootstrap, Envoy, Launcher, func_e_is_there};
use testbed::wecom::Client;

async fn bare(backend: &Backend) -> Bootstrap {
    let port = backend.port();
    Bootstrap::example().unwrap().without_filter("wecom").cluster("backend", port).cluster("decision", port)
}

async fn serves(launcher: Launcher) {
    let backend = Backend::start().await.unwrap();
    let envoy = Envoy::start(bare(&backend).await.launcher(launcher)).await.unwrap();

    for client in [Client::http1(), Client::http2()] {
        assert_eq!(client.get(&envoy.url("/x")).await.unwrap().text(), "success");
        let leaked = client.get(&envoy.url("/suite/receive")).await.unwrap();
        assert_eq!((leaked.status, leaked.rejection().as_deref()), (503, Some("filter_missing")));
    }
    assert_eq!(backend.count(), 2);
    assert_eq!(envoy.stat("http.edge.downstream_rq_2xx").await, Some(2));
    let line = envoy.access_log_line(|line| line["path"] == "/suite/receive").await.unwrap();
    assert_eq!(line["status"], 503);
    envoy.assert_clean().await;
    let (address, folder) = (envoy.address(), envoy.folder().to_owned());
    envoy.stop().await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "its port is closed");
    assert!(!folder.exists(), "its folder is gone");
}

#[tokio::test]
async fn it_serves_when_started_directly() {
    serves(Launcher::Direct).await;
}

#[tokio::test]
async fn it_serves_when_started_through_func_e() {
    if !func_e_is_there() {
        return; // users may have nothing but Envoy
    }
    serves(Launcher::FuncE).await;
}

#[tokio::test]
async fn it_ends_when_dropped() {
    for launcher in [Launcher::Direct, Launcher::FuncEIfThere] {
        let backend = Backend::start().await.unwrap();
        let envoy = Envoy::start(bare(&backend).await.launcher(launcher)).await.unwrap();
        let address = envoy.address();
        drop(envoy);
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
    }
}

#[tokio::test]
async fn a_refused_configuration_is_an_error_that_contains_the_log() {
    let backend = Backend::start().await.unwrap();
    let broken = || async { bare(&backend).await.remove_cluster("backend") };
    for launcher in [Launcher::Direct, Launcher::FuncEIfThere] {
        let log = Envoy::start_expecting_failure(broken().await.launcher(launcher)).await.unwrap();
        assert!(log.contains("unknown cluster 'backend'"), "{log}");
        assert!(Envoy::start(broken().await.launcher(launcher)).await.is_err());
    }
    assert!(Envoy::start_expecting_failure(bare(&backend).await).await.is_err());
}
