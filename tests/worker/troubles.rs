//! Everything that fails, and that it fails closed.

use log::Level;

use super::*;

#[test]
fn a_queue_that_takes_no_message_fails_the_callback_at_once() {
    let edge = Edge::new();
    let request = edge.seal(bind());
    edge.process.trouble(|troubles| troubles.sends = 1);
    let id = edge.arrive(0, &request);
    edge.verdict(id, 7, "upstream_unreachable");
    let copy = edge.arrive(1, &request);
    edge.verdict(copy, 7, "duplicate");

    let request = edge.seal(unbind().req_id("r2"));
    edge.process.trouble(|troubles| troubles.sends = 1);
    let id = edge.arrive(0, &request);
    edge.plain(id, 503, "upstream_unreachable");
    let (again, call) = edge.called(0, &request);
    edge.ends(call, "200", "success");
    edge.plain(again, 200, "delivered");
    edge.is_quiet();
}

#[test]
fn a_wake_up_that_is_lost_and_no_tick_in_time_fail_the_callback() {
    let edge = Edge::new();
    let request = edge.seal(bind());
    edge.process.trouble(|troubles| troubles.lost_messages = 1);
    let id = edge.sent(0, &request);
    edge.process.settle_messages();
    edge.pass(2850);
    edge.tick_all();
    edge.verdict(id, 7, "deadline");
    assert_eq!(edge.process.calls_made(), 0);
    edge.is_quiet();
}

#[test]
fn a_call_that_cannot_begin_fails_at_once() {
    let edge = Edge::new();
    let request = edge.seal(bind());
    edge.process.trouble(|troubles| troubles.calls = 1);
    let id = edge.sent(0, &request);
    let copy = edge.sent(0, &request);
    edge.process.settle_messages();
    edge.verdict(id, 7, "upstream_unreachable");
    edge.verdict(copy, 7, "duplicate_in_flight");
    assert_eq!((edge.process.calls_made(), edge.process.counted("lock bind called")), (0, 1));
    let later = edge.arrive(1, &request);
    edge.verdict(later, 7, "duplicate");
    edge.is_quiet();
}

#[test]
fn a_store_that_refuses_a_claim_lets_nothing_through() {
    let edge = Edge::new();
    let request = edge.seal(bind());
    edge.process.trouble(|troubles| troubles.contended = 32);
    let id = edge.arrive(0, &request);
    edge.verdict(id, 7, "record_unavailable");
    edge.process.trouble(|troubles| troubles.contended = 31);
    let (again, call) = edge.called(0, &request);
    edge.decides(call, 0);
    edge.verdict(again, 0, "bound");
    edge.is_quiet();
}

#[test]
fn a_store_that_refuses_a_settlement_fails_the_first_as_its_copies() {
    let edge = Edge::new();
    let request = edge.seal(bind());
    let (first, call) = edge.called(0, &request);
    let copies = [edge.arrive(0, &request), edge.arrive(1, &request)];
    edge.process.trouble(|troubles| troubles.contended = 32);
    edge.decides(call, 0);
    edge.process.settle_messages();
    edge.verdict(first, 7, "record_unavailable");
    edge.verdict(copies[0], 7, "duplicate_in_flight");
    edge.waits(copies[1]);
    edge.pass(TIMEOUT_MS);
    edge.tick_all();
    edge.verdict(copies[1], 7, "deadline");
    edge.pass(3000);
    let later = edge.arrive(1, &request);
    edge.verdict(later, 7, "duplicate");
    assert_eq!(edge.process.calls_made(), 1);
    edge.is_quiet();
}

#[test]
fn a_clock_that_leaps_past_a_record_lets_nobody_be_told_of_another_call() {
    let edge = Edge::without_workers();
    edge.start_worker(|config| {
        config["freshness_seconds"] = 0.into();
        config["dedup"] = json!({ "ttl_seconds": 1 });
    });
    let request = edge.seal(bind());
    let (first, call) = edge.called(0, &request);
    edge.pass(9000);
    let second = edge.arrive(0, &request); // its record is gone
    edge.process.read_queue(0, usize::MAX);
    edge.decides(call, 0);
    edge.waits(second);
    edge.waits(first);
    edge.decides(edge.the_call().0, 4);
    edge.verdict(second, 4, "refused");
    edge.waits(first);
    edge.tick_all();
    edge.verdict(first, 7, "deadline"); // its record is gone, so nobody may be told what its call said
    edge.is_quiet();
}

#[test]
fn a_clock_that_is_set_back_lets_the_call_tell() {
    let edge = Edge::new();
    let request = edge.seal(bind());
    let (first, call) = edge.called(0, &request);
    edge.process.set_clock(edge.process.now_ms() - 100_000);
    edge.tick_all();
    edge.waits(first);
    edge.decides(call, 0);
    edge.verdict(first, 0, "bound");
    edge.is_quiet();
}

#[test]
fn a_table_without_room_refuses_and_never_evicts() {
    let edge = Edge::without_workers();
    edge.start_worker(|config| config["dedup"] = json!({ "capacity": 1 }));
    let (first, call) = edge.called(0, &edge.seal(bind()));
    let other = edge.arrive(0, &edge.seal(bind().req_id("r2")));
    edge.verdict(other, 7, "record_full");
    edge.decides(call, 0);
    edge.verdict(first, 0, "bound");
    edge.is_quiet();
}

#[test]
fn without_a_queue_or_a_table_everything_is_refused_and_the_log_says_so() {
    let edge = Edge::without_workers();
    let worker = edge.process.start_worker_without_queue(edge.config(|_| {}));
    let id = edge.arrive(worker, &edge.seal(bind()));
    edge.verdict(id, 7, "record_unavailable");
    edge.process.read_queue(worker, usize::MAX);
    edge.process.trouble(|troubles| troubles.random = 1);
    let worker = edge.start_worker(|_| {});
    let id = edge.arrive(worker, &edge.seal(bind()));
    edge.verdict(id, 7, "record_unavailable");
    let lines = edge.process.log();
    let said = lines.iter().filter(|(level, line)| *level == Level::Error && line.contains("no random numbers"));
    assert_eq!(said.count(), 2, "{lines:?}");
    edge.is_quiet();
}

#[test]
fn an_answer_that_cannot_be_sealed_is_503_and_the_record_keeps_the_verdict() {
    let edge = Edge::new();
    let request = edge.seal(bind());
    let (id, call) = edge.called(0, &request);
    edge.process.trouble(|troubles| troubles.random = 1);
    edge.decides(call, 0);
    edge.plain(id, 503, "seal_failed");
    let later = edge.arrive(1, &request);
    edge.verdict(later, 0, "duplicate");
    edge.is_quiet();
}

#[test]
fn a_call_that_broke_off_at_its_timeout_counts_as_late() {
    let edge = Edge::new();
    let (id, call) = edge.called(0, &edge.seal(bind()));
    edge.pass(TIMEOUT_MS);
    edge.process.end_call(call, None);
    edge.verdict(id, 7, "upstream_timeout");
    assert_eq!(edge.process.counted("ms of lock bind"), i64::try_from(TIMEOUT_MS).unwrap());
    edge.is_quiet();
}

#[test]
fn the_log_is_loud_about_failures_alone() {
    let edge = Edge::new();
    let (_, call) = edge.called(0, &edge.seal(bind()));
    edge.decides(call, 0);
    edge.arrive(0, &edge.seal(bind().req_id("r2")).forged());
    let levels: Vec<_> = edge
        .process
        .log()
        .into_iter()
        .map(|(level, line)| (level, line.split(' ').next().unwrap().to_owned()))
        .collect();
    assert_eq!(levels, [(Level::Debug, "bound".to_owned()), (Level::Warn, "bad_signature".to_owned())]);
}

#[test]
fn strangers_fill_neither_the_log_nor_hide_what_failed() {
    let edge = Edge::new();
    let forged = edge.seal(bind()).forged();
    for _ in 0..500 {
        edge.arrive(0, &forged);
    }
    let (_, call) = edge.called(0, &edge.seal(bind()));
    edge.process.end_call(call, None);
    assert_eq!((edge.logged("bad_signature"), edge.ended("other", "bad_signature")), (10, 500));
    assert_eq!(edge.logged("upstream_unreachable"), 1, "what failed is said in any case");
    assert_eq!(edge.logged(" more rejected"), 0, "the second is not over");
    // Nor do they hide what a wrong setting has to say.
    let now = edge.process.now_ms() / 1000;
    edge.arrive(0, &Account::demo().with_receive_id("1").seal_at(bind().createtime(now), now, "n"));
    assert_eq!(edge.logged("bad_receive_id"), 1);
    edge.process.tick(0);
    assert!(edge.process.is_ticking(0), "there is something to be said");
    edge.pass(1000);
    edge.process.tick(0);
    let last = edge.process.log().pop().unwrap();
    assert_eq!(last, (Level::Warn, "and 490 more rejected requests, which the counters have".to_owned()));
    edge.arrive(0, &forged);
    assert_eq!((edge.logged("bad_signature"), edge.logged(" more rejected")), (11, 1));
    edge.process.tick(0);
    assert!(!edge.process.is_ticking(0));
}

#[test]
fn whoever_holds_one_request_cannot_fill_the_log_by_completing_it_too_late() {
    let edge = Edge::new();
    let request = edge.seal(bind());
    let held: Vec<_> = (0..50).map(|_| edge.headers(0, &request)).collect();
    held.iter().for_each(|id| edge.process.buffered(*id, 1));
    edge.pass(2900);
    held.iter().for_each(|id| edge.process.complete(*id, &request.body_bytes()));
    edge.process.settle_messages();
    assert_eq!((edge.logged("deadline "), edge.ended("bind", "deadline")), (10, 50));
}

#[test]
fn a_replaced_configuration_says_what_it_kept_back() {
    let edge = Edge::new();
    let forged = edge.seal(bind()).forged();
    for _ in 0..30 {
        edge.arrive(0, &forged);
    }
    assert!(edge.process.retire_worker(0));
    assert_eq!(edge.logged("and 20 more rejected"), 1);
}

#[test]
fn what_strangers_leave_behind_is_no_more_than_the_log_of_a_debugger() {
    let edge = Edge::new();
    let begun = edge.headers(0, &edge.seal(bind()));
    edge.process.leave(begun);
    let (level, line) = edge.process.log().pop().unwrap();
    assert!(level == Level::Debug && line.starts_with("client_gone "), "{level} {line}");
    let stalled: Vec<_> = (0..20).map(|_| edge.headers(0, &edge.seal(bind()))).collect();
    edge.pass(2000);
    edge.process.tick(0);
    stalled.into_iter().for_each(|id| edge.plain(id, 503, "no_body"));
    assert!(edge.process.log().iter().all(|(level, _)| *level > Level::Error), "no error is a stranger's");
    assert_eq!((edge.logged("no_body"), edge.ended("other", "no_body")), (10, 20));
}

#[test]
fn of_a_request_that_the_host_forgot_nothing_is_said() {
    let edge = Edge::new();
    let request = edge.seal(bind());
    let (first, call) = edge.called(0, &request);
    let copy = edge.arrive(1, &request);
    edge.process.lose(first);
    edge.process.lose(copy);
    edge.decides(call, 0);
    edge.process.settle_messages();
    assert!(edge.finished(first).is_none() && edge.finished(copy).is_none());
    assert_eq!((edge.ended("bind", "bound"), edge.ended("bind", "duplicate_in_flight")), (0, 0));
    assert_eq!(edge.process.counted("copies waiting"), 0, "it does not wait any more");
    let lost = edge.headers(0, &request);
    edge.process.lose(lost);
    edge.process.leave(lost);
    assert_eq!(edge.ended("other", "client_gone"), 0);
}
