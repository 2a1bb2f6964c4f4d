//! Headers and bodies: what is answered before there is anything to claim.

use super::*;

#[test]
fn another_path_passes_and_nothing_is_kept_of_it() {
    let edge = Edge::new();
    let head = Head { method: b"POST", ..Head::default() };
    assert!(edge.process.arrive(0, b"/elsewhere", &head).is_none());
    edge.process.tick(0);
    edge.is_quiet();
}

#[test]
fn a_url_verification_is_answered_at_once_and_says_little() {
    let edge = Edge::new();
    let id = edge.headers(0, &edge.account.verify_url("123"));
    let finished = edge.finished(id).unwrap();
    assert_eq!(finished.answer.unwrap().body, b"123");
    assert_eq!((edge.ended("other", "verified"), edge.process.calls_made()), (1, 0));
    edge.is_quiet();
}

#[test]
fn a_body_in_pieces_is_read_once_whole() {
    let edge = Edge::new();
    let request = edge.seal(bind());
    let id = edge.headers(0, &request);
    for size in [0, 1, 100] {
        edge.process.buffered(id, size);
    }
    edge.process.complete(id, &request.body_bytes());
    edge.process.buffered(id, 9999); // late, and nobody minds
    edge.process.complete(id, b""); // trailers behind the last byte
    edge.process.read_queue(0, usize::MAX);
    let copy = edge.arrive(0, &request);
    edge.decides(edge.the_call().0, 0);
    edge.verdict(id, 0, "bound");
    edge.verdict(copy, 0, "duplicate_in_flight");
    assert_eq!(edge.process.calls_made(), 1);
    edge.is_quiet();
}

#[test]
fn a_body_that_is_too_large_is_refused_as_soon_as_it_shows() {
    let edge = Edge::new();
    let request = edge.seal(bind());
    let id = edge.headers(0, &request);
    edge.process.buffered(id, 4096);
    edge.waits(id);
    edge.process.buffered(id, 4097);
    edge.plain(id, 413, "body_too_large");
    let id = edge.headers(0, &request);
    edge.process.complete(id, &[b' '; 9999]);
    edge.process.settle_messages();
    edge.plain(id, 413, "body_too_large");
    edge.is_quiet();
}

#[test]
fn what_is_not_authentic_is_refused_and_asks_nobody() {
    let edge = Edge::new();
    let id = edge.arrive(0, &edge.seal(bind()).forged());
    edge.plain(id, 403, "bad_signature");
    assert_eq!((edge.ended("other", "bad_signature"), edge.process.calls_made()), (1, 0));
    assert_eq!(
        edge.logged("bad_signature endpoint=lock event=other req_id=- errcode=- request_id=rid the signature matches"),
        1
    );
    edge.is_quiet();
}

#[test]
fn a_body_that_never_begins_is_answered_and_a_worker_that_saw_none_says_what_to_set() {
    let edge = Edge::new();
    let request = edge.seal(bind());
    let id = edge.headers(0, &request);
    edge.pass(1999);
    edge.tick_all();
    edge.waits(id);
    edge.pass(1);
    edge.tick_all();
    edge.plain(id, 503, "no_body");
    assert_eq!(edge.logged("allow_on_headers_stop_iteration"), 1);

    let begun = edge.headers(0, &request);
    edge.process.buffered(begun, 1);
    let stalled = edge.headers(0, &request);
    edge.pass(2000);
    edge.tick_all();
    edge.waits(begun); // a slow sender is Envoy's to time out
    edge.plain(stalled, 503, "no_body");
    assert_eq!(edge.logged("allow_on_headers_stop_iteration"), 1, "bodies do arrive here");
    edge.process.leave(begun);
    edge.is_quiet();
}
