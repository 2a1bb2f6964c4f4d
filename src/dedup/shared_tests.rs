//! What is asked of Redis, and what its answers may and may not mean.
#![allow(clippy::restriction)]

use serde_json::{Value, json};

use super::*;
use crate::config::Config;
use crate::reply::Relayed;
use crate::wecom::verdict::Verdict;

const SECRET: &str = "a-secret-of-thirty-two-characters";
const OTHER: &str = "another-secret-of-thirty-two-chars";

fn shared_with(replica: u8, change: impl FnOnce(&mut Value)) -> Shared {
    let mut redis = json!({ "cluster": "record", "secret": SECRET });
    change(&mut redis);
    let config = json!({
        "endpoints": [{
            "path": "/", "receive_ids": ["1"], "decision": { "cluster": "d" },
            "credentials": [{ "token": "t", "encoding_aes_key": "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C" }],
        }],
        "dedup": { "redis": redis },
    });
    let config = Config::parse(config.to_string().as_bytes(), &|_| None).unwrap();
    Shared::new(config.dedup().redis().unwrap(), 1260, [replica; 16])
}

fn shared(replica: u8) -> Shared {
    shared_with(replica, |_| ())
}

fn headers() -> Vec<(String, Vec<u8>)> {
    vec![(":status".to_owned(), b"200".to_vec())]
}

/// What Redis says when a record has that value, as `GET` tells it.
fn bulk(value: Option<&[u8]>) -> Vec<u8> {
    match value {
        Some(value) => [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n+OK\r\n"].concat(),
        None => b"$-1\r\n+OK\r\n".to_vec(),
    }
}

fn look(shared: &Shared, name: &Name, answer: &[u8]) -> Result<Found, Trouble> {
    shared.found(name, None, Some(Response::new(&headers(), answer)))
}

#[test]
fn a_name_hides_what_it_names_and_does_not_depend_on_the_secret() {
    let name = shared(1).name(b"id\0req_id\0r1");
    assert_eq!(name.0, format!("wecom:{}", hex::encode(Sha256::digest(b"id\0req_id\0r1"))));
    let other = shared_with(2, |redis| redis["secret"] = OTHER.into());
    assert_eq!(other.name(b"id\0req_id\0r1"), name);
    assert_ne!(other.name(b"id\0req_id\0r2"), name);
}

#[test]
fn a_batch_is_what_redis_reads() {
    let shared = shared_with(1, |redis| redis["password"] = "pw".into());
    let name = Name("k".to_owned());
    let pending = Pending(b"v".to_vec());
    assert_eq!(
        shared.claim(&name, &pending).as_slice(),
        b"*2\r\n$4\r\nAUTH\r\n$2\r\npw\r\n\
          *6\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n$2\r\nNX\r\n$2\r\nEX\r\n$4\r\n1260\r\n\
          *2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nQUIT\r\n"
    );
    let named = shared_with(1, |redis| {
        redis["username"] = "me".into();
        redis["password"] = "pw".into();
    });
    let greeting = named.greeting([5; 16]);
    assert!(greeting.starts_with(b"*3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$2\r\npw\r\n*6\r\n$3\r\nSET\r\n"));
    for command in ["SET", "GET", "EVAL"] {
        assert!(String::from_utf8_lossy(&greeting).contains(&format!("\r\n{command}\r\n")), "{command}");
    }
}

#[test]
fn only_the_very_bytes_that_were_written_win_a_claim() {
    let (a, b) = (shared(1), shared(2));
    let name = a.name(b"n");
    let mine = a.pending(&name, [7; 16]);
    let found = |answer: &[u8]| a.found(&name, Some(&mine), Some(Response::new(&headers(), answer)));
    let answer = |set: &[u8], value: Option<&[u8]>| [set, &bulk(value)].concat();
    assert_eq!(found(&answer(b"+OK\r\n", Some(&mine.0))), Ok(Found::Own));
    assert_eq!(found(&answer(b"$-1\r\n", Some(&mine.0))), Ok(Found::Own), "a command that was repeated");
    let theirs = b.pending(&name, [7; 16]);
    assert_eq!(found(&answer(b"+OK\r\n", Some(&theirs.0))), Ok(Found::Pending));
    let before = a.pending(&name, [8; 16]);
    assert_eq!(found(&answer(b"$-1\r\n", Some(&before.0))), Ok(Found::Orphan(before)));
    assert_eq!(found(&answer(b"+OK\r\n", None)), Ok(Found::Absent), "an OK alone is nothing");
    for lie in [
        &b"+OK\r\n+OK\r\n+OK\r\n"[..],
        b"+OK\r\n:1\r\n+OK\r\n",
        b"+OK\r\n+OK\r\n",
        b"+OK\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\n",
    ] {
        assert_eq!(found(lie), Err(Trouble::Unreadable), "{}", lie.escape_ascii());
    }
}

#[test]
fn a_reply_comes_back_for_its_own_record_alone() {
    let (a, b) = (shared(1), shared(2));
    let (name, other) = (a.name(b"n"), a.name(b"m"));
    for reply in [
        Reply::Failed,
        Reply::Verdict(Verdict::new(4, None)),
        Reply::Relayed(Relayed::Success),
        Reply::Relayed(Relayed::Object(br#"{"nobody":"may read"}"#.to_vec())),
    ] {
        let settled = a.settled(&name, &reply, [9; 16]);
        assert!(!settled.0.windows(3).any(|three| three == b"may"), "readable");
        let answer = bulk(Some(&settled.0));
        assert_eq!(look(&b, &name, &answer), Ok(Found::Settled(reply)));
        assert_eq!(look(&b, &other, &answer), Err(Trouble::Forged), "moved to another record");
    }
}

#[test]
fn whoever_can_write_to_redis_can_make_nothing_up() {
    let a = shared(1);
    let name = a.name(b"n");
    let refusal = a.settled(&name, &Reply::Verdict(Verdict::new(4, None)), [9; 16]).0;
    for at in 0..refusal.len() {
        for bit in 0..8 {
            let mut altered = refusal.clone();
            altered[at] ^= 1 << bit;
            assert_eq!(look(&a, &name, &bulk(Some(&altered))), Err(Trouble::Forged), "byte {at}");
        }
        assert_eq!(look(&a, &name, &bulk(Some(&refusal[..at]))), Err(Trouble::Forged), "cut to {at}");
    }
    let foreign = shared_with(2, |redis| redis["secret"] = OTHER.into());
    let approval = foreign.settled(&name, &Reply::Verdict(Verdict::new(0, None)), [9; 16]).0;
    assert_eq!(look(&a, &name, &bulk(Some(&approval))), Err(Trouble::Forged));
    let wrong_type = b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n+OK\r\n";
    assert_eq!(look(&a, &name, wrong_type), Err(Trouble::Forged));
    assert!(Trouble::Forged.is_forgery() && !Trouble::NoAnswer.is_forgery());
}

#[test]
fn while_the_secret_is_rotated_both_open_and_the_new_one_seals() {
    let name = shared(1).name(b"n");
    let old = shared(1);
    let learns = shared_with(1, |redis| redis["previous_secret"] = OTHER.into());
    let turns = shared_with(1, |redis| {
        redis["secret"] = OTHER.into();
        redis["previous_secret"] = SECRET.into();
    });
    let new = shared_with(1, |redis| redis["secret"] = OTHER.into());
    let reply = Reply::Verdict(Verdict::new(0, None));
    let opens = |reader: &Shared, writer: &Shared| {
        look(reader, &name, &bulk(Some(&writer.settled(&name, &reply, [1; 16]).0))) == Ok(Found::Settled(reply.clone()))
    };
    // Each step's replicas read what the step before and the step after write.
    for (reader, writer) in
        [(&old, &learns), (&learns, &old), (&learns, &turns), (&turns, &learns), (&turns, &new), (&new, &turns)]
    {
        assert!(opens(reader, writer));
    }
    assert!(!opens(&old, &new) && !opens(&new, &old));
}

#[test]
fn a_settlement_is_believed_if_it_is_read_back() {
    let a = shared(1);
    let name = a.name(b"n");
    let settled = a.settled(&name, &Reply::Failed, [9; 16]);
    let told = |answer: &[u8]| a.concluded(&name, &settled, Some(Response::new(&headers(), answer)));
    assert_eq!(told(&bulk(Some(&settled.0))), Ok(Concluded::Written));
    let (own, others) = (a.pending(&name, [5; 16]), shared(2).pending(&name, [5; 16]));
    assert_eq!(told(&bulk(Some(&own.0))), Ok(Concluded::Orphan(own)), "it was not written");
    assert_eq!(told(&bulk(Some(&others.0))), Ok(Concluded::Superseded));
    let otherwise = shared(2).settled(&name, &Reply::Failed, [8; 16]);
    assert_eq!(told(&bulk(Some(&otherwise.0))), Ok(Concluded::Superseded));
    // Such as the answer to a question about another record.
    let elsewhere = a.settled(&a.name(b"m"), &Reply::Failed, [9; 16]);
    assert_eq!(told(&bulk(Some(&elsewhere.0))), Err(Trouble::Forged));
    assert_eq!(told(&bulk(None)), Err(Trouble::Unreadable));
    assert_eq!(told(b"+OK\r\n"), Err(Trouble::Unreadable));
}

#[test]
fn what_is_read_back_counts_though_nothing_could_be_written() {
    let (a, b) = (shared(1), shared(2));
    let name = a.name(b"n");
    let own = a.pending(&name, [1; 16]);
    let claimed = |answer: &[u8]| {
        let answer = [b"-OOM command not allowed when used memory > 'maxmemory'.\r\n", answer].concat();
        a.found(&name, Some(&own), Some(Response::new(&headers(), &answer)))
    };
    let oom = Trouble::Refused(Word("OOM".to_owned()));
    let settled = b.settled(&name, &Reply::Failed, [5; 16]);
    assert_eq!(claimed(&bulk(Some(&settled.0))), Ok(Found::Settled(Reply::Failed)));
    assert_eq!(claimed(&bulk(Some(&b.pending(&name, [2; 16]).0))), Ok(Found::Pending));
    assert_eq!(claimed(&bulk(Some(b"forged"))), Err(Trouble::Forged));
    assert_eq!(claimed(&bulk(None)), Err(oom.clone()), "nothing was written");
    assert_eq!(claimed(b"-OOM command not allowed\r\n+OK\r\n"), Err(oom));
}

#[test]
fn trouble_has_redis_own_word_and_nothing_else_of_it() {
    let a = shared_with(1, |redis| redis["password"] = "pw".into());
    let name = a.name(b"n");
    let said = |answer: &[u8]| look(&a, &name, answer).unwrap_err().to_string();
    for (line, word) in [
        ("-WRONGPASS invalid username-password pair", "WRONGPASS"),
        ("-OOM command not allowed", "OOM"),
        ("-READONLY You can't write", "READONLY"),
        ("-MOVED 866 10.0.0.1:6379", "MOVED"),
        ("-ERR max number of clients reached", "ERR"),
        ("-secret words", "an error without a word"),
        ("-", "an error without a word"),
    ] {
        assert_eq!(said(format!("{line}\r\n").as_bytes()), word);
        assert_eq!(said(format!("+OK\r\n{line}\r\n+OK\r\n").as_bytes()), word);
    }
    assert_eq!(look(&a, &name, b"$-1\r\n+OK\r\n"), Err(Trouble::Unreadable), "the reply to AUTH is missing");
    assert_eq!(look(&a, &name, b"+OK\r\n$-1\r\n+OK\r\n"), Ok(Found::Absent));
    assert_eq!(a.found(&name, None, None), Err(Trouble::NoAnswer));
    let refused = vec![(":status".to_owned(), b"503".to_vec())];
    assert_eq!(
        a.found(&name, None, Some(Response::new(&refused, b"upstream connect error"))),
        Err(Trouble::NotConnected)
    );
    assert_eq!(a.acknowledged(Some(Response::new(&headers(), b"+OK\r\n+PONG\r\n+OK\r\n"))), Ok(()));
}
