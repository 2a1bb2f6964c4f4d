//! The WeCom side by itself: the filter's own code opens what it seals, and it checks every part of a
//! reply that it opens.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::rc::Rc;

use simulator::wecom::{Account, Event, unix_now};
use wecom_callback_filter::wecom::callback::{Content, EventType};
use wecom_callback_filter::wecom::credential::{Credential, EncodingAesKey, Token};
use wecom_callback_filter::wecom::envelope::{TimestampForm, parse_request};
use wecom_callback_filter::wecom::freshness::Freshness;
use wecom_callback_filter::wecom::message::{Opened, Signed};
use wecom_callback_filter::wecom::query::SignedQuery;

fn open(account: &Account, query: &str, body: &[u8]) -> Option<Opened> {
    let credentials = [Rc::new(Credential {
        token: Token::parse(account.token()).unwrap(),
        encoding_aes_key: EncodingAesKey::parse(account.encoding_aes_key()).unwrap(),
    })];
    let ciphertext = parse_request(body).unwrap();
    let query = SignedQuery::parse(query.as_bytes()).unwrap();
    let signed = Signed::verify(&query, &ciphertext, &credentials).ok()?;
    signed.fresh(Freshness::new(0, 0)).ok()?.open(&[account.receive_id().to_owned()]).ok()
}

#[test]
fn every_type_is_sealed_as_the_callback_it_is() {
    let account = Account::demo();
    for (event, name) in EventType::ALL {
        let request = account.seal(Event::of(event, "sn"));
        let opened = open(&account, &request.query_text(), &request.body_bytes()).unwrap();
        let callback = Content::parse(opened.message()).unwrap();
        assert_eq!(callback.event_name, name);
        assert!(callback.agrees_with(account.receive_id()), "{name}");
        assert!(callback.req_id.is_some());
    }
}

#[test]
fn a_message_has_the_documented_order() {
    let message = Event::bind("sn").req_id("r").createtime(1).set("auth_code", "a").to_json("m");
    assert_eq!(
        String::from_utf8(message).unwrap(),
        r#"{"msg_type":"event","base_info":{"req_id":"r","device_sn":"sn","createtime":1,"model_id":"m","auth_corpid":"wwauthcorp0001","service_corpid":"wwservicecorp0001"},"event":{"event_type":"bind","auth_code":"a","verif_code":"123456"}}"#
    );
}

#[test]
fn what_is_altered_no_longer_verifies_unless_signed_again_or_merely_swapped() {
    let account = Account::demo();
    let opens =
        |request: &simulator::wecom::Request| open(&account, &request.query_text(), &request.body_bytes()).is_some();
    let request = account.seal(Event::bind("sn"));
    assert!(opens(&request));
    assert!(!opens(&request.clone().forged()));
    let later = request.clone().with_timestamp(&(unix_now() + 1).to_string());
    assert!(!opens(&later));
    assert!(opens(&later.resign(&account)));
    assert!(opens(&request.swapped()), "the signature is made of the sorted parts");
    assert!(!opens(&Account::rotated().seal(Event::bind("sn"))));
}

#[test]
fn replies_are_opened_only_if_all_of_them_holds() {
    let account = Account::demo();
    let request = account.seal(Event::bind("sn"));
    let opened = open(&account, &request.query_text(), &request.body_bytes()).unwrap();
    let reply = opened.sealer().seal(br#"{"errcode":4,"errmsg":"x"}"#, 1_658_332_801, [9; 24], TimestampForm::String);
    let reply = String::from_utf8(reply.unwrap()).unwrap();
    let read = account.open_reply(reply.as_bytes()).unwrap();
    assert_eq!((read.errcode(), read.errmsg().as_deref()), (Some(4), Some("x")));
    assert_eq!(read.timestamp, 1_658_332_801);
    for bad in [
        reply.replace("1658332801", "1658332802"),
        reply.replace("msgsignature", "msg_signature"),
        reply.replace('}', r#","more":1}"#),
        "success".to_owned(),
        String::new(),
    ] {
        assert!(account.open_reply(bad.as_bytes()).is_err(), "{bad}");
    }
    assert!(account.clone().with_receive_id("other").open_reply(reply.as_bytes()).is_err());
    assert!(Account::rotated().open_reply(reply.as_bytes()).is_err());
}
