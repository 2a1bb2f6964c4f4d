//! The shipped `envoy.yaml` itself, unchanged except for its ports, started as the README says: through
//! func-e, from the repository's root.

use std::process::Command;

use testbed::backend::Backend;
use testbed::envoy::{Bootstrap, Envoy, Launcher, func_e_is_there, version};
use testbed::files::repository;
use testbed::wecom::{Account, Client, Event};

use crate::support::{PATH, errcode};

/// Whether func-e is installed. In CI it must be, wherever the Go toolchain is, which builds it.
fn is_there() -> bool {
    if func_e_is_there() {
        return true;
    }
    let go_is_there = Command::new("go").arg("version").output().is_ok_and(|output| output.status.success());
    let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!(is_ci && go_is_there), "func-e is not there, though Go is: `make setup` installs it");
    eprintln!("SKIPPED: func-e is not there, `make setup` installs it where Go is");
    false
}

#[tokio::test]
async fn the_shipped_file_serves_through_func_e() {
    if !is_there() {
        return;
    }
    if version().unwrap() < (1, 40) {
        eprintln!("SKIPPED: the shipped envoy.yaml is for Envoy 1.40 and later");
        return;
    }
    let (decision, backend) = (Backend::start().await.unwrap(), Backend::start().await.unwrap());
    let mut text = std::fs::read_to_string(repository().join("envoy.yaml")).unwrap();
    for (shipped, here) in [(10000, 0), (9901, 0), (9000, decision.port()), (9001, backend.port())] {
        let shipped = format!("port_value: {shipped} ");
        assert_eq!(text.matches(&shipped).count(), 1, "{shipped}");
        text = text.replace(&shipped, &format!("port_value: {here} "));
    }
    let bootstrap = Bootstrap::example().unwrap().verbatim(&text).launcher(Launcher::FuncE);
    let envoy = Envoy::start(bootstrap).await.unwrap();

    let account = Account::demo();
    for client in [Client::http1(), Client::http2()] {
        let url = envoy.url(PATH);
        let answer = client.send(&url, &account.seal(Event::bind("sn"))).await.unwrap();
        assert_eq!(errcode(&answer, &account), 0);
        assert_eq!(client.send(&url, &account.seal(Event::unbind("sn"))).await.unwrap().text(), "success");
        assert_eq!(client.send(&url, &account.verify_url("12345")).await.unwrap().text(), "12345");
    }
    assert_eq!((decision.count(), backend.count()), (2, 2));
    envoy.assert_clean().await;
    envoy.stop().await.unwrap();
}
