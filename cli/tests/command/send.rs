//! `send`: what arrives, what is made of the answers, and the exit codes.

use serde_json::{Value, json};
use testbed::backend::{Backend, Behaviour, free_port};
use testbed::edge::Edge;
use testbed::wecom::{Account, Event};

use crate::{finish, program, run};

const IN_CLEAR: &str = "warning: a bind was answered in clear: to WeCom an empty 200";

#[tokio::test]
async fn a_bind_through_a_real_envoy_comes_back_encrypted() {
    let edge = Edge::start().await.unwrap();
    edge.decision.on_device("sn-4", Behaviour::verdict(4));
    let url = edge.url();

    let said = run(&["send", &url, "--device-sn", "sn-0", "--req-id", "r-1"]).await;
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    assert!(said.out.starts_with("first        200 ") && said.out.contains(" encrypted  {\"errcode\":0,"), "{said:?}");
    let seen = edge.decision.requests_for("sn-0");
    assert_eq!((seen.len(), seen[0].req_id().as_deref()), (1, Some("r-1")));

    let copies = run(&["send", &url, "--device-sn", "sn-4", "--replay", "1", "--re-encrypt", "1", "--json"]).await;
    let said = copies.json();
    assert_eq!((copies.code, copies.err.as_str()), (0, ""), "{copies:?}");
    let answers = said["answers"].as_array().unwrap();
    assert_eq!(answers.iter().map(|one| &one["copy"]).collect::<Vec<_>>(), ["first", "replayed", "re-encrypted"]);
    for answer in answers {
        assert_eq!(
            (&answer["errcode"], &answer["reply"]["errcode"], &answer["encrypted"]),
            (&json!(4), &json!(4), &json!(true))
        );
    }
    assert_eq!(said["summary"]["answers"], json!({ "errcode 4": 3 }));
    assert_eq!(edge.decision.requests_for("sn-4").len(), 1);

    let forged = run(&["send", &url, "--forge", "--json"]).await;
    assert_eq!((forged.code, &forged.json()["answers"][0]["reply"]["error"]), (1, &json!("bad_signature")));
    for (arguments, code) in [
        (&["--forge", "--expect-status", "403"][..], 0),
        (&["--age", "3600", "--expect-status", "403"], 0),
        (&["--swap"], 1),
        (&["--device-sn", "sn-4", "--expect-errcode", "4"], 0),
        (&["--device-sn", "sn-4", "--expect-errcode", "0"], 1),
        (&["--type", "user_scan", "--http2"], 0),
        (&["--token", "another"], 1),
    ] {
        let said = run(&[&["send", &url], arguments].concat()).await;
        assert_eq!((said.code, said.err.as_str()), (code, ""), "{arguments:?}: {said:?}");
    }
    edge.end().await.unwrap();
}

#[tokio::test]
async fn the_digits_of_an_echo_stay_as_they_are() {
    let edge = Edge::start().await.unwrap();
    let said = run(&["send", &edge.url(), "--type", "verify-url", "--json"]).await;
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    let answer = &said.json()["answers"][0];
    let digits = answer["reply"].as_str().unwrap();
    // More than a number of JSON holds everywhere.
    assert!(digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit()), "{digits}");
    assert_eq!((&answer["readable"], &answer["encrypted"]), (&json!(true), &json!(false)));
    let line = run(&["send", &edge.url(), "--type", "verify-url"]).await;
    assert_eq!(line.code, 0, "{line:?}");
    edge.end().await.unwrap();

    // Whatever else answers with digits is quoted as it came.
    let backend = Backend::start().await.unwrap();
    backend.always(Behaviour::json("9007199254740993123456789"));
    let said = run(&["send", &format!("http://{}/", backend.address()), "--type", "verify-url", "--json"]).await;
    assert_eq!((said.code, &said.json()["answers"][0]["reply"]), (1, &json!("9007199254740993123456789")));
}

#[tokio::test]
async fn a_bind_that_is_answered_in_clear_is_never_as_it_should_be() {
    let backend = Backend::start().await.unwrap();
    let url = format!("http://{}/", backend.address());
    for (behaviour, accepted, errcode) in [
        (Behaviour::empty(), 0, json!(0)),
        (Behaviour::success(), 0, json!(0)),
        (Behaviour::verdict(4), 1, Value::Null),
        (Behaviour::html(), 1, Value::Null),
    ] {
        backend.always(behaviour.clone());
        for expecting in [&[][..], &["--expect-status", "200"]] {
            let send = [&["send", &url], expecting].concat();
            let said = run(&send).await;
            assert_eq!(said.code, 1, "{behaviour}: {said:?}");
            let accepting = run(&[&send[..], &["--accept-clear"]].concat()).await;
            assert_eq!(accepting.code, accepted, "{behaviour}: {accepting:?}");
        }
        let said = run(&["send", &url]).await;
        assert!(said.err.starts_with(IN_CLEAR) && said.err.lines().count() == 1, "{behaviour}: {said:?}");
        assert!(said.out.contains("(in clear, not encrypted: "), "{behaviour}: {said:?}");
        let object = run(&["send", &url, "--json"]).await;
        assert!(object.err.starts_with(IN_CLEAR), "{behaviour}: {object:?}");
        let object = object.json();
        let answer = &object["answers"][0];
        assert_eq!((&answer["errcode"], answer["remarks"].as_array().unwrap().len()), (&errcode, 1), "{behaviour}");
        assert_eq!(object["summary"]["binds_in_clear"], 1, "{behaviour}");
    }
    backend.always(Behaviour::success());
    let many = run(&["send", &url, "--count", "30"]).await;
    assert!(many.err.starts_with("warning: 30 binds were answered in clear: "), "{many:?}");

    // It is not the errcode that was asked for, unless it is said that it may be.
    for (behaviour, accepted) in [(Behaviour::empty(), 0), (Behaviour::success(), 0), (Behaviour::verdict(0), 1)] {
        backend.always(behaviour.clone());
        let expecting = ["send", &url, "--expect-errcode", "0"];
        let said = run(&expecting).await;
        assert!(said.code == 1 && said.out.contains("(in clear, not encrypted: "), "{behaviour}: {said:?}");
        let said = run(&[&expecting[..], &["--expect-status", "200", "--json"]].concat()).await;
        let summary = &said.json()["summary"];
        assert_eq!((said.code, &summary["unexpected"]), (1, &json!(1)), "{behaviour}");
        assert_eq!(summary["answers"], json!({ "in clear, not encrypted": 1 }), "{behaviour}");

        let said = run(&[&expecting[..], &["--accept-clear"]].concat()).await;
        assert_eq!(said.code, accepted, "{behaviour}: {said:?}");
        assert!(said.err.starts_with(IN_CLEAR), "{behaviour}: {said:?}");
        let other = run(&["send", &url, "--accept-clear", "--expect-errcode", "4"]).await;
        assert_eq!(other.code, 1, "{behaviour}: {other:?}");
    }
    backend.always(Behaviour::success());
    // Neither is there one in the answer to a callback of another type.
    let other = run(&["send", &url, "--type", "unbind", "--expect-errcode", "0", "--accept-clear"]).await;
    assert_eq!((other.code, other.err.as_str()), (1, ""), "{other:?}");

    // Neither of another type, nor of a refusal, nor if it is only sealed wrongly.
    assert_eq!(run(&["send", &url, "--type", "unbind"]).await.err, "");
    backend.always(Behaviour::status(403));
    assert_eq!(run(&["send", &url]).await.err, "");
    backend.always(Behaviour::json(r#"{"encrypt":"","msgsignature":"","timestamp":"1","nonce":"n"}"#));
    let wrong = run(&["send", &url]).await;
    assert!(wrong.code == 1 && wrong.err.is_empty() && wrong.out.contains("msgsignature is no hex"), "{wrong:?}");
}

#[tokio::test]
async fn a_long_run_is_summed_up_and_told_in_one_object() {
    let backend = Backend::start().await.unwrap();
    let url = format!("http://{}/", backend.address());
    let said = run(&["send", &url, "--type", "unbind", "--count", "21", "--concurrency", "4"]).await;
    let lines: Vec<_> = said.out.lines().collect();
    assert_eq!((said.code, said.err.as_str(), lines.len()), (0, "", 2), "{said:?}");
    assert!(lines[0].ends_with("21 × status 200") && lines[1].ends_with("not as expected: 0"), "{said:?}");
    let said = run(&["send", &url, "--type", "unbind", "--count", "21", "--concurrency", "4", "--json"]).await;
    assert_eq!((said.json()["answers"].as_array().unwrap().len(), said.err.as_str()), (21, ""));
    assert_eq!(backend.count(), 42);
}

#[tokio::test]
async fn a_message_of_ones_own_is_sent_byte_for_byte() {
    let edge = Edge::start().await.unwrap();
    let account = Account::demo();
    let message = String::from_utf8(Event::bind("sn-own").to_json(account.receive_id())).unwrap();
    let message = message.replacen(':', " : ", 1);
    let said = finish(program(&["send", &edge.url(), "--message", "-"]), &message).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(edge.decision.requests_for("sn-own")[0].body, message.as_bytes());
    edge.end().await.unwrap();
}

#[tokio::test]
async fn what_could_not_be_tried_is_2_and_what_got_no_answer_3() {
    let closed = format!("http://127.0.0.1:{}/", free_port().await.unwrap());
    let said = run(&["send", &closed, "--json"]).await;
    let answer = &said.json()["answers"][0];
    assert_eq!((said.code, &answer["status"], &answer["ms"]), (3, &Value::Null, &Value::Null), "{said:?}");
    assert_eq!(said.json()["summary"]["unanswered"], 1);

    for (arguments, reason) in [
        (&["ftp://127.0.0.1/"][..], "not an http or https URL"),
        (&["127.0.0.1:80"], "'<URL>'"),
        (&[&closed, "--type", "nothing"], "'--type <TYPE>'"),
        (&[&closed, "--message", "no-such-file"], "error: no-such-file: "),
        (&[&closed, "--token", "blank and blank"], "error: the token"),
        (&[&closed, "--encoding-aes-key", "short"], "error: the EncodingAESKey"),
        (&[&closed, "--count", "0"], "'--count <N>'"),
    ] {
        let said = run(&[&["send"], arguments].concat()).await;
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{arguments:?}: {said:?}");
        assert!(said.err.contains(reason) && !said.err.contains("blank and"), "{arguments:?}: {said:?}");
    }
}

#[tokio::test]
async fn secrets_that_are_not_given_are_asked_for_by_their_variables_first() {
    for (unset, variables, arguments) in [
        (&["WECOM_TOKEN"][..], "WECOM_TOKEN is not set", "--token <TOKEN>"),
        (&["WECOM_ENCODING_AES_KEY"], "WECOM_ENCODING_AES_KEY is not set", "--encoding-aes-key <KEY>"),
        (
            &["WECOM_TOKEN", "WECOM_ENCODING_AES_KEY"],
            "WECOM_TOKEN and WECOM_ENCODING_AES_KEY are not set",
            "--token <TOKEN> and --encoding-aes-key <KEY>",
        ),
    ] {
        let mut without = program(&["send", "http://127.0.0.1:1/"]);
        for name in unset {
            without.env_remove(name);
        }
        let said = finish(without, "").await;
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{said:?}");
        assert!(said.err.starts_with(&format!("error: {variables}")) && said.err.contains(arguments), "{said:?}");
    }
    let given = run(&["send", "http://127.0.0.1:1/", "--token", "given"]).await;
    assert_eq!(given.code, 3, "{given:?}");
}

#[tokio::test]
async fn what_an_answer_holds_does_not_act_on_the_terminal() {
    let backend = Backend::start().await.unwrap();
    backend.always(Behaviour::answer(500, &[], "a\u{1b}[31mb\r\nc"));
    let said = run(&["send", &format!("http://{}/", backend.address())]).await;
    assert!(said.out.contains(r"a\u{1b}[31mb\r\nc") && said.out.lines().count() == 1, "{said:?}");
}
