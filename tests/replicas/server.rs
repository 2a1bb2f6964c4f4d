//! What Redis itself refuses: each time errcode 7, nothing is delivered, and Redis's own word is in the log.

use std::fs;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use testbed::backend::Behaviour;
use testbed::files::repository;
use testbed::redis::{PASSWORD, RIGHTS, Tls, USER};
use testbed::waiting::until;

use super::*;

const TROUBLE: &str = "dedup.redis: cluster 'record'";

/// Asserts that a bind fails while Redis refuses, and that the same one is delivered once it does no more.
async fn refuses_with(replicas: &Replicas, word: &str, then: impl FnOnce()) {
    let event = Event::bind("sn-refusing");
    let before = replicas.backend.count();
    // Said once a second, and the last one's second may not be over.
    let said = until("the word was in the log", async || {
        assert_eq!(verdict(&replicas.one, &event).await, 7, "{word}");
        replicas.one.envoy.log().contains(&format!("{TROUBLE}: {word}"))
    });
    said.await.unwrap();
    assert_eq!(replicas.backend.count(), before, "{word}");
    then();
    assert_eq!(verdict(&replicas.one, &event).await, 0, "nothing was called, so a copy may try again");
    assert_eq!(verdict(&replicas.other, &event).await, 0);
    assert_eq!(replicas.backend.count(), before + 1);
}

#[tokio::test]
async fn a_redis_that_is_full_is_read_only_or_takes_rights_away_fails_closed_and_its_word_is_said() {
    let _machine = MACHINE.read().await;
    let Some(replicas) = Replicas::start_with(Bootstrap::patient).await else { return };
    let ask = |words: &str| replicas.redis.run(words).unwrap();
    ask("CONFIG SET maxmemory 1");
    refuses_with(&replicas, "OOM", || ask("CONFIG SET maxmemory 0")).await;
    ask("REPLICAOF 127.0.0.1 1");
    refuses_with(&replicas, "READONLY", || ask("REPLICAOF NO ONE")).await;
    ask(&format!("ACL SETUSER {USER} -set"));
    refuses_with(&replicas, "NOPERM", || ask(&format!("ACL SETUSER {USER} +set"))).await;
    assert!(exchanged(&replicas.one, "refused").await >= 3);
    replicas.end().await;
}

#[tokio::test]
async fn a_wrong_password_is_said_before_the_first_callback() {
    let _machine = MACHINE.read().await;
    if !redis::is_there() {
        return;
    }
    let (server, backend) = (Server::start().await.unwrap(), Backend::start().await.unwrap());
    let wrong = "not-the-password";
    let edge = replica(&backend, server.port(), |bootstrap| bootstrap.env("WECOM_RECORD_PASSWORD", wrong)).await;
    edge.envoy.wait_for_log(&format!("{TROUBLE}: WRONGPASS")).await.unwrap();
    assert_eq!(verdict(&edge, &Event::bind("sn-wrong")).await, 7);
    assert_eq!(backend.count(), 0);
    assert!(!edge.envoy.log().contains(wrong));
    end(edge).await;
}

#[tokio::test]
async fn the_rights_of_the_documents_are_enough_and_a_missing_one_is_said_before_the_first_callback() {
    let _machine = MACHINE.read().await;
    let Some(replicas) = Replicas::start_with(Bootstrap::patient).await else { return };
    let page = fs::read_to_string(repository().join("docs/replicas.md")).unwrap();
    assert!(page.contains(RIGHTS), "the tests' user has the rights that docs/replicas.md asks for");
    let greeted = async || exchanged(&replicas.one, "greeted").await == 1;
    until("Redis was greeted", greeted).await.unwrap();
    let event = Event::bind("sn-rights");
    assert_eq!((verdict(&replicas.one, &event).await, verdict(&replicas.other, &event).await), (0, 0));
    replicas.backend.always(Behaviour::status(503));
    let unbind = Event::unbind("sn-rights"); // its record is given up
    let answer = replicas.one.send(&replicas.one.account.seal(&unbind)).await.unwrap();
    assert_eq!(answer.status, 503);
    until("it was given up", async || exchanged(&replicas.one, "released").await == 1).await.unwrap();
    assert!(!replicas.one.envoy.log().contains(TROUBLE), "{}", replicas.one.envoy.log());

    for missing in ["get", "set", "del", "eval"] {
        let only = format!("only-without-{missing}");
        replicas.redis.run(&format!("ACL SETUSER {only} on >{PASSWORD} {RIGHTS} -{missing}")).unwrap();
        let with_user = |bootstrap: Bootstrap| {
            bootstrap.edit_plugin_value(|value| value["dedup"]["redis"]["username"] = only.as_str().into())
        };
        let edge = replica(&replicas.backend, replicas.redis.port(), with_user).await;
        edge.envoy.wait_for_log(&format!("{TROUBLE}: ")).await.unwrap();
        let log = edge.envoy.log();
        // Inside a script, it is the script that fails.
        assert!(log.contains(&format!("{TROUBLE}: NOPERM")) || log.contains(&format!("{TROUBLE}: ERR")), "{log}");
        end(edge).await;
    }
    replicas.end().await;
}

#[tokio::test]
async fn envoy_speaks_tls_to_redis_with_the_lines_that_the_file_has_for_it() {
    let _machine = MACHINE.read().await;
    if !redis::is_there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let made = |name: &str| {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["redis".to_owned()]).unwrap();
        let tls = Tls { certificate: folder.path().join(format!("{name}.pem")), key: folder.path().join(name) };
        fs::write(&tls.certificate, cert.pem()).unwrap();
        fs::write(&tls.key, signing_key.serialize_pem()).unwrap();
        tls
    };
    let (own, strange) = (made("own"), made("strange"));
    let server = Server::start_with_tls(&own).await.unwrap();
    let backend = Backend::start().await.unwrap();
    let text = fs::read_to_string(repository().join("deploy/replicas/envoy.yaml")).unwrap();
    let is_tls =
        |line: &&str| line.starts_with("      #") && (!line.starts_with("      # ") || line.starts_with("      #  "));
    assert_eq!(text.lines().filter(is_tls).count(), 9, "the lines for TLS");
    let with_tls: String = text
        .lines()
        .map(|line| if is_tls(&line) { line.replacen('#', "", 1) } else { line.to_owned() } + "\n")
        .collect();
    let speaking = async |trusted: &Tls| {
        let bootstrap = Bootstrap::from_yaml(&with_tls).unwrap().edit_cluster("record", |cluster| {
            let context = &mut cluster["transport_socket"]["typed_config"]["common_tls_context"];
            let file = &mut context["validation_context"]["trusted_ca"]["filename"];
            assert!(file.is_string(), "the file has lines for TLS");
            *file = trusted.certificate.to_str().unwrap().into();
        });
        let bootstrap = bootstrap
            .env("WECOM_RECORD_SECRET", redis::SECRET)
            .env("WECOM_RECORD_PASSWORD", PASSWORD)
            .cluster("record", server.tls_port().unwrap());
        Setup::of(bootstrap.patient()).served_by(&backend).start().await.unwrap()
    };
    let [one, other] = [speaking(&own).await, speaking(&own).await];
    let event = Event::bind("sn-tls");
    assert_eq!((verdict(&one, &event).await, verdict(&other, &event).await), (0, 0));
    assert_eq!(backend.count(), 1);
    assert_eq!(exchanged(&other, "settled").await, 1);

    let deceived = speaking(&strange).await;
    assert_eq!(verdict(&deceived, &Event::bind("sn-tls")).await, 7, "a server of another certificate");
    assert_eq!(backend.count(), 1);
    for edge in [one, other, deceived] {
        end(edge).await;
    }
}
