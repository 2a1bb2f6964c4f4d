//! Copies: told what the first one was, wherever they wait, and never asked about.

use wecom_callback_filter::dedup::table::MAX_LISTENERS;
use wecom_callback_filter::wecom::callback::EventType;

use super::*;

#[test]
fn copies_in_flight_get_the_first_ones_answer_on_every_worker() {
    let edge = Edge::new();
    let request = edge.seal(bind());
    let (first, call) = edge.called(0, &request);
    let copies = [edge.arrive(0, &request), edge.arrive(1, &request), edge.arrive(1, &request)];
    assert_eq!(edge.process.counted("copies waiting"), 3);
    edge.decides(call, 0);
    edge.verdict(first, 0, "bound");
    edge.verdict(copies[0], 0, "duplicate_in_flight");
    edge.waits(copies[1]); // until its worker reads its queue
    edge.process.read_queue(1, 1);
    edge.verdict(copies[1], 0, "duplicate_in_flight");
    edge.verdict(copies[2], 0, "duplicate_in_flight");
    assert_eq!((edge.process.calls_made(), edge.ended("bind", "duplicate_in_flight")), (1, 3));
    edge.is_quiet();
}

#[test]
fn a_copy_that_leaves_is_no_longer_told() {
    let edge = Edge::new();
    let request = edge.seal(bind());
    let (first, call) = edge.called(0, &request);
    let (here, there) = (edge.arrive(0, &request), edge.arrive(1, &request));
    edge.process.leave(here);
    edge.process.leave(there);
    assert_eq!(edge.process.counted("copies waiting"), 0);
    edge.decides(call, 0);
    edge.process.settle_messages();
    edge.gone(here);
    edge.gone(there);
    assert_eq!(edge.process.counted("lock clients left"), 2);
    edge.verdict(first, 0, "bound");
    edge.is_quiet();
}

#[test]
fn a_copy_whose_notice_is_lost_finds_the_verdict_at_its_deadline() {
    let edge = Edge::new();
    let request = edge.seal(bind());
    let (_, call) = edge.called(0, &request);
    let copy = edge.arrive(1, &request);
    edge.process.tell_end(call, Some(received("200", r#"{"errcode":0}"#)));
    edge.process.trouble(|troubles| troubles.lost_messages = 1); // not the wake-up, which is on its way
    edge.process.settle_messages();
    edge.pass(TIMEOUT_MS - 1);
    edge.tick_all();
    edge.waits(copy);
    edge.pass(1);
    edge.tick_all();
    edge.verdict(copy, 0, "duplicate_in_flight");
    edge.is_quiet();
}

#[test]
fn nobody_sends_to_a_worker_that_died_or_was_replaced() {
    // Its queue stays, and calls whatever has its number in the VM that comes after it.
    let edge = Edge::new();
    let request = edge.seal(bind());
    let (first, call) = edge.called(0, &request);
    let copies = [edge.arrive(1, &request), edge.arrive(1, &request)];
    copies.iter().for_each(|copy| edge.process.leave(*copy));
    assert!(edge.process.retire_worker(1));
    let dies = edge.start_worker(|_| {});
    edge.arrive(dies, &request);
    edge.process.kill_worker(dies);
    edge.pass(1001);
    edge.decides(call, 4);
    edge.verdict(first, 4, "refused");
    assert_eq!((edge.process.waiting_messages(1), edge.process.waiting_messages(dies)), (0, 0));
}

#[test]
fn a_worker_that_ticks_is_told_however_long_its_copies_wait() {
    let edge = Edge::without_workers();
    for _ in 0..2 {
        edge.start_worker(|config| config["endpoints"][0]["decision"]["timeout_ms"] = 2800.into());
    }
    let request = edge.seal(bind());
    let (_, call) = edge.called(0, &request);
    let copy = edge.arrive(1, &request);
    for _ in 0..40 {
        edge.pass(50);
        edge.tick_all();
    }
    edge.decides(call, 4);
    edge.process.read_queue(1, 1);
    edge.verdict(copy, 4, "duplicate_in_flight");
}

#[test]
fn a_copy_of_a_call_that_takes_too_long_fails_closed_before_it() {
    let edge = Edge::new();
    let request = edge.seal(bind());
    let (first, call) = edge.called(0, &request);
    let copy = edge.arrive(1, &request);
    edge.pass(TIMEOUT_MS);
    edge.tick_all();
    edge.verdict(copy, 7, "deadline");
    edge.decides(call, 0);
    edge.verdict(first, 0, "bound");
    edge.is_quiet();
}

#[test]
fn a_copy_for_whom_no_listeners_place_was_left_looks_at_every_tick() {
    let edge = Edge::new();
    let workers: Vec<_> = (0..=MAX_LISTENERS).map(|_| edge.start_worker(|_| {})).collect();
    let request = edge.seal(bind());
    let (_, call) = edge.called(0, &request);
    let copies: Vec<_> = workers.iter().map(|worker| edge.arrive(*worker, &request)).collect();
    let unannounced = *copies.last().unwrap();
    edge.tick_all();
    edge.waits(unannounced);
    edge.decides(call, 5);
    edge.process.settle_messages();
    edge.waits(unannounced);
    edge.tick_all();
    for copy in copies {
        edge.verdict(copy, 5, "duplicate_in_flight");
    }
    edge.is_quiet();
}

#[test]
fn copies_of_a_callback_that_was_given_up_fail_with_it() {
    let edge = Edge::new();
    let request = edge.seal(unbind());
    let (first, call) = edge.called(0, &request);
    let (here, there) = (edge.arrive(0, &request), edge.arrive(1, &request));
    edge.process.end_call(call, None);
    edge.process.settle_messages();
    edge.plain(first, 503, "upstream_unreachable");
    edge.plain(here, 503, "duplicate_in_flight");
    edge.plain(there, 503, "duplicate_in_flight");
    edge.is_quiet();
}

#[test]
fn copies_in_flight_get_a_long_object_whole_and_later_ones_what_its_record_keeps() {
    let user_scan = Event::of(EventType::UserScan, "sn").req_id("r2");
    for (event, refusal) in [(unbind(), None), (user_scan, Some(r#"{"online_status":2}"#))] {
        let edge = Edge::new();
        let request = edge.seal(event);
        let (first, call) = edge.called(0, &request);
        let (here, there) = (edge.arrive(0, &request), edge.arrive(1, &request));
        let object = json!({ "long": "x".repeat(200) }).to_string();
        edge.ends(call, "200", &object);
        edge.process.settle_messages();
        let read = |id| edge.account.open_reply(&edge.finished(id).unwrap().answer.unwrap().body).unwrap().text();
        for id in [first, here, there] {
            assert_eq!(read(id), object);
        }
        let later = edge.arrive(1, &request);
        match refusal {
            Some(refusal) => assert_eq!(read(later), refusal),
            None => edge.plain(later, 200, "duplicate"),
        }
        edge.is_quiet();
    }
}

#[test]
fn a_command_whose_end_is_unknown_stays_recorded_as_failed() {
    let edge = Edge::new();
    let request = edge.seal(Event::remote_open_door("sn").req_id("r1"));
    let (first, call) = edge.called(0, &request);
    edge.process.end_call(call, None);
    edge.plain(first, 503, "upstream_unreachable");
    let copy = edge.arrive(1, &request);
    edge.plain(copy, 503, "duplicate");
    assert_eq!(edge.process.calls_made(), 1);

    let request = edge.seal(Event::remote_open_door("sn").req_id("r2"));
    edge.process.trouble(|troubles| troubles.calls = 1);
    let first = edge.arrive(0, &request);
    edge.process.settle_messages();
    edge.plain(first, 503, "upstream_unreachable");
    let (again, call) = edge.called(1, &request);
    edge.ends(call, "200", "success");
    edge.plain(again, 200, "delivered");
    edge.is_quiet();
}

#[test]
fn what_is_in_a_queue_and_no_notice_of_ours_is_ignored() {
    let edge = Edge::new();
    let request = edge.seal(bind());
    let (first, call) = edge.called(0, &request);
    let copy = edge.arrive(1, &request);
    for message in [&b""[..], b"\x07", b"\x01short", b"\0 "] {
        edge.process.put_message(1, message);
    }
    edge.process.put_message(1, &[&[1][..], &[9; 16], &[0]].concat()); // about a record that nobody here waits for
    edge.process.read_queue(1, usize::MAX);
    edge.waits(copy);
    edge.decides(call, 0);
    edge.process.settle_messages();
    edge.verdict(first, 0, "bound");
    edge.verdict(copy, 0, "duplicate_in_flight");
    edge.is_quiet();
}

#[test]
fn a_notice_of_a_call_given_up_does_not_end_the_next_first() {
    let edge = Edge::new();
    let request = edge.seal(unbind());
    let (first, call) = edge.called(1, &request);
    let copy = edge.arrive(0, &request);
    edge.process.end_call(call, None); // given up; worker 0 has not read its queue yet
    edge.plain(first, 503, "upstream_unreachable");
    let again = edge.arrive(0, &request); // so this one is first now
    edge.process.read_queue(0, usize::MAX);
    edge.plain(copy, 503, "duplicate_in_flight");
    edge.waits(again);
    edge.ends(edge.the_call().0, "200", "success");
    edge.plain(again, 200, "delivered");
    edge.is_quiet();
}

#[test]
fn a_notice_of_an_expired_record_does_not_decide_the_next_bind() {
    let edge = Edge::without_workers();
    for _ in 0..2 {
        edge.start_worker(|config| {
            config["freshness_seconds"] = 0.into();
            config["dedup"] = json!({ "ttl_seconds": 1 });
        });
    }
    let request = edge.seal(bind());
    let (first, call) = edge.called(1, &request);
    let copy = edge.arrive(0, &request);
    edge.decides(call, 0); // the notice waits in worker 0's queue
    edge.verdict(first, 0, "bound");
    edge.pass(4000); // a clock that leaps, or a busy worker: the record is gone
    let again = edge.arrive(0, &request);
    edge.process.read_queue(0, usize::MAX);
    edge.verdict(copy, 0, "duplicate_in_flight");
    edge.waits(again); // its own call has not ended
    edge.decides(edge.the_call().0, 4);
    edge.verdict(again, 4, "refused");
    edge.is_quiet();
}
