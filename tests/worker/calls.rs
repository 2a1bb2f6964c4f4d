//! The call for a record: made once, by the root, whatever becomes of the client.

use log::Level;

use super::*;

#[test]
fn a_bind_is_asked_about_once_and_answered_with_the_verdict() {
    let edge = Edge::new();
    let request = edge.seal(bind());
    let id = edge.sent(0, &request);
    assert_eq!(edge.process.calls_made(), 0, "the root makes the call, not the request");
    edge.process.read_queue(0, usize::MAX);
    let (call, made) = edge.the_call();
    assert_eq!((made.cluster.as_str(), made.timeout_ms, made.worker), ("decision", TIMEOUT_MS, 0));
    assert_eq!(made.header("x-wecom-event"), Some("bind"));
    assert_eq!(made.header("idempotency-key"), Some("r1"));
    edge.waits(id);
    edge.decides(call, 4);
    edge.verdict(id, 4, "refused");
    assert_eq!((edge.ended("bind", "refused"), edge.process.counted("lock errcode 4")), (1, 1));
    assert_eq!(edge.process.counted("lock bind called"), 1);
    edge.is_quiet();
}

#[test]
fn another_callback_goes_to_its_own_upstream() {
    let edge = Edge::new();
    let (id, call) = edge.called(0, &edge.seal(unbind()));
    assert_eq!(edge.the_call().1.cluster, "backend");
    edge.ends(call, "200", "success");
    edge.plain(id, 200, "delivered");
    edge.is_quiet();
}

#[test]
fn many_jobs_are_worked_off_by_one_wake_up() {
    let edge = Edge::new();
    let ids: Vec<_> = (0..5).map(|n| edge.arrive(0, &edge.seal(Event::bind("sn").req_id(&format!("r{n}"))))).collect();
    edge.process.read_queue(0, 1);
    assert_eq!(edge.process.calls_made(), 5);
    edge.process.read_queue(0, usize::MAX);
    assert_eq!(edge.process.calls_made(), 5, "the other wake-ups find nothing to do");
    assert_eq!(edge.process.waiting_messages(0), 0, "the queue is read to its end");
    for (call, _) in edge.process.calls() {
        edge.decides(call, 0);
    }
    ids.into_iter().for_each(|id| edge.verdict(id, 0, "bound"));
    edge.is_quiet();
}

#[test]
fn a_client_that_leaves_before_its_body_leaves_nothing_behind() {
    let edge = Edge::new();
    let request = edge.seal(bind());
    let id = edge.headers(0, &request);
    edge.process.leave(id);
    edge.gone(id);
    assert_eq!(edge.ended("other", "client_gone"), 1);
    let (again, call) = edge.called(0, &request);
    edge.decides(call, 0);
    edge.verdict(again, 0, "bound");
    edge.is_quiet();
}

#[test]
fn a_client_that_leaves_once_its_bind_is_claimed_leaves_the_call_behind() {
    for leaves_before_the_call in [true, false] {
        let edge = Edge::new();
        let request = edge.seal(bind());
        let id = edge.arrive(0, &request);
        if leaves_before_the_call {
            edge.process.leave(id);
        }
        edge.process.read_queue(0, usize::MAX);
        if !leaves_before_the_call {
            edge.process.leave(id);
        }
        edge.gone(id);
        let here = edge.arrive(0, &request);
        let there = edge.arrive(1, &request);
        edge.decides(edge.the_call().0, 0);
        edge.process.settle_messages();
        edge.verdict(here, 0, "duplicate_in_flight");
        edge.verdict(there, 0, "duplicate_in_flight");
        let later = edge.arrive(1, &request);
        edge.verdict(later, 0, "duplicate");
        assert_eq!(edge.process.calls_made(), 1);
        // It was decided, whoever heard of it.
        assert_eq!((edge.ended("bind", "bound"), edge.ended("bind", "client_gone")), (1, 0));
        assert_eq!(edge.process.counted("lock clients left"), 1);
        assert_eq!(edge.process.counted("lock errcode 0"), 4);
        let said = |(level, line): &(Level, String)| {
            *level == Level::Warn && line.starts_with("bound ") && line.ends_with("its client had left")
        };
        assert_eq!(edge.process.log().iter().filter(|line| said(line)).count(), 1);
        edge.is_quiet();
    }
}

#[test]
fn a_bind_whose_client_left_and_whose_call_never_ends_is_counted_at_its_deadline() {
    let edge = Edge::new();
    let (id, call) = edge.called(0, &edge.seal(bind()));
    edge.process.leave(id);
    edge.process.cancel_call(call);
    edge.pass(TIMEOUT_MS + 250);
    edge.tick_all();
    assert_eq!((edge.ended("bind", "deadline"), edge.ended("bind", "client_gone")), (1, 0));
    edge.pass(1);
    edge.tick_all();
    assert_eq!(edge.ended("bind", "deadline"), 1);
    assert!(!edge.process.is_ticking(0), "nothing is kept of it");
    edge.is_quiet();
}

#[test]
fn a_client_that_leaves_while_it_is_answered_is_counted_once() {
    let edge = Edge::new();
    edge.process.end_at_once();
    let request = edge.seal(bind());
    let (first, call) = edge.called(0, &request);
    let copy = edge.arrive(0, &request);
    edge.decides(call, 0);
    edge.verdict(first, 0, "bound");
    edge.verdict(copy, 0, "duplicate_in_flight");
    assert_eq!(edge.ended("bind", "client_gone"), 0);
    edge.is_quiet();
}

#[test]
fn a_call_that_ends_after_the_deadline_is_recorded_for_later_copies() {
    let edge = Edge::new();
    let request = edge.seal(bind());
    let (id, call) = edge.called(0, &request);
    edge.pass(TIMEOUT_MS);
    edge.tick_all();
    edge.waits(id); // the call's own timer comes first
    edge.pass(250);
    edge.tick_all();
    edge.verdict(id, 7, "deadline");
    edge.decides(call, 0);
    let later = edge.arrive(1, &request);
    edge.verdict(later, 0, "duplicate");
    edge.is_quiet();
}

#[test]
fn a_call_that_breaks_off_fails_a_bind_for_good_and_lets_another_callback_be_sent_again() {
    let edge = Edge::new();
    let request = edge.seal(bind());
    let (id, call) = edge.called(0, &request);
    edge.process.end_call(call, None);
    edge.verdict(id, 7, "upstream_unreachable");
    let copy = edge.arrive(1, &request);
    edge.verdict(copy, 7, "duplicate");

    let request = edge.seal(unbind().req_id("r2"));
    let (id, call) = edge.called(0, &request);
    edge.ends(call, "500", "");
    edge.plain(id, 503, "upstream_status");
    let (again, call) = edge.called(1, &request);
    edge.ends(call, "204", "");
    edge.plain(again, 200, "delivered");
    assert_eq!(edge.process.calls_made(), 3);
    edge.is_quiet();
}

#[test]
fn a_call_gets_what_is_left_of_the_time_since_the_headers() {
    let edge = Edge::new();
    let request = edge.seal(bind());
    let id = edge.headers(0, &request);
    edge.process.buffered(id, 1);
    edge.pass(2500);
    edge.process.complete(id, &request.body_bytes());
    edge.process.read_queue(0, usize::MAX);
    assert_eq!(edge.the_call().1.timeout_ms, 350);
    edge.pass(350);
    edge.tick_all();
    edge.verdict(id, 7, "deadline");
    edge.decides(edge.the_call().0, 0);
    let later = edge.arrive(1, &request);
    edge.verdict(later, 0, "duplicate");
    edge.is_quiet();
}

#[test]
fn what_is_complete_too_late_is_neither_claimed_nor_delivered() {
    let edge = Edge::new();
    let request = edge.seal(bind());
    let id = edge.headers(0, &request);
    edge.process.buffered(id, 1);
    edge.pass(2900);
    edge.process.complete(id, &request.body_bytes());
    edge.process.settle_messages();
    edge.verdict(id, 7, "deadline");
    assert_eq!(edge.process.calls_made(), 0);
    let (again, call) = edge.called(1, &request); // WeCom's retry is the first
    edge.decides(call, 0);
    edge.verdict(again, 0, "bound");
    edge.is_quiet();
}

#[test]
fn a_request_whose_time_is_over_when_the_root_comes_to_it_is_neither_claimed_nor_sent() {
    let edge = Edge::new();
    let door = edge.seal(Event::remote_open_door("sn").req_id("r2"));
    let bind = edge.seal(bind());
    let ids = [edge.sent(0, &bind), edge.sent(0, &door)];
    edge.pass(2850);
    edge.process.read_queue(0, usize::MAX);
    edge.verdict(ids[0], 7, "deadline");
    edge.plain(ids[1], 503, "deadline");
    assert_eq!(edge.process.calls_made(), 0);
    // Nobody got them.
    let (again, call) = edge.called(1, &door);
    edge.ends(call, "200", "success");
    edge.plain(again, 200, "delivered");
    let (again, call) = edge.called(1, &bind);
    edge.decides(call, 4);
    edge.verdict(again, 4, "refused");
    edge.is_quiet();
}

#[test]
fn the_end_of_a_call_that_is_not_known_changes_nothing() {
    let edge = Edge::new();
    let (id, call) = edge.called(0, &edge.seal(bind()));
    edge.process.end_call(CallId(call.0 + 1), None);
    edge.waits(id);
    edge.decides(call, 0);
    edge.process.end_call(call, None); // told twice
    edge.verdict(id, 0, "bound");
    edge.is_quiet();
}

#[test]
fn a_configuration_replaced_in_mid_call_lets_the_call_end_under_the_old_one() {
    let edge = Edge::new();
    let request = edge.seal(bind());
    let (first, call) = edge.called(0, &request);
    let new = edge.start_worker(|config| config["dedup"] = json!({ "capacity": 7, "ttl_seconds": 5000 }));
    assert_eq!(edge.logged("dedup.capacity: stays 65536"), 1);
    let copy = edge.arrive(new, &request);
    edge.waits(copy);
    edge.decides(call, 3);
    edge.process.settle_messages();
    edge.verdict(first, 3, "refused");
    edge.verdict(copy, 3, "duplicate_in_flight");
    let later = edge.arrive(new, &request);
    edge.verdict(later, 3, "duplicate");
    assert_eq!(edge.process.calls_made(), 1);
    edge.is_quiet();
}

#[test]
fn a_configuration_replaced_after_the_client_hung_up_stays_until_its_call_has_ended() {
    for called_before in [true, false] {
        let edge = Edge::new();
        let request = edge.seal(bind());
        let id = edge.arrive(0, &request);
        if called_before {
            edge.process.read_queue(0, usize::MAX);
        }
        edge.process.leave(id);
        assert!(!edge.process.retire_worker(0), "its call would be cancelled");
        let new = edge.start_worker(|_| {});
        let copy = edge.arrive(new, &request);
        edge.process.settle_messages(); // a job that was not sent yet, too
        assert!(!edge.process.has_retired(0));
        edge.decides(edge.the_call().0, 4);
        assert!(edge.process.has_retired(0), "nothing keeps it any more");
        assert!(!edge.process.is_ticking(0), "nor does its timer go on");
        edge.process.settle_messages();
        edge.verdict(copy, 4, "duplicate_in_flight");
        let later = edge.arrive(1, &request);
        edge.verdict(later, 4, "duplicate");
        assert_eq!((edge.process.calls_made(), edge.ended("bind", "refused")), (1, 1));
        edge.is_quiet();
    }
}

#[test]
fn a_replaced_configuration_concludes_its_calls_without_being_woken() {
    let edge = Edge::new();
    let request = edge.seal(bind());
    let (id, call) = edge.called(0, &request);
    edge.process.leave(id);
    assert!(!edge.process.retire_worker(0));
    edge.process.tell_end(call, Some(received("200", r#"{"errcode":4}"#)));
    assert!(edge.process.has_retired(0));
    assert_eq!(edge.ended("bind", "refused"), 1);
    let copy = edge.arrive(1, &request);
    edge.verdict(copy, 4, "duplicate");
    edge.is_quiet();
}

#[test]
fn a_call_that_has_ended_is_concluded_before_its_replaced_configuration_goes() {
    let edge = Edge::new();
    let request = edge.seal(bind());
    let (id, call) = edge.called(0, &request);
    edge.process.leave(id);
    edge.process.tell_end(call, Some(received("200", r#"{"errcode":4}"#)));
    assert!(!edge.process.retire_worker(0), "it is not concluded");
    edge.process.settle_messages();
    assert!(edge.process.has_retired(0));
    let copy = edge.arrive(1, &request);
    edge.verdict(copy, 4, "duplicate");
    edge.is_quiet();
}

#[test]
fn a_client_that_leaves_before_its_bind_is_opened_leaves_nothing_behind() {
    let edge = Edge::new();
    let request = edge.seal(bind());
    let id = edge.sent(0, &request);
    edge.process.leave(id);
    edge.gone(id);
    edge.process.settle_messages();
    assert_eq!(edge.process.calls_made(), 0);
    let (again, call) = edge.called(1, &request);
    edge.decides(call, 0);
    edge.verdict(again, 0, "bound");
    assert!(edge.process.retire_worker(0));
    edge.is_quiet();
}

#[test]
fn many_requests_wake_the_root_once_and_are_opened_in_turns_with_what_has_ended() {
    let edge = Edge::new();
    let requests: Vec<_> = (0..100).map(|n| edge.seal(bind().req_id(&format!("r{n}")))).collect();
    let ids: Vec<_> = requests.iter().map(|request| edge.sent(0, request)).collect();
    assert_eq!(edge.process.waiting_messages(0), 1);
    let mut rounds = 0;
    while edge.process.waiting_messages(0) > 0 {
        edge.process.read_queue(0, 1);
        rounds += 1;
    }
    assert_eq!((edge.process.calls_made(), rounds), (100, 4), "32 at a time");
    let calls = edge.process.calls();
    for (call, _) in &calls {
        edge.process.tell_end(*call, Some(received("200", r#"{"errcode":0}"#)));
    }
    assert_eq!(edge.process.waiting_messages(0), 1);
    let late = edge.sent(0, &edge.seal(bind().req_id("late")));
    edge.process.read_queue(0, 1);
    assert_eq!(edge.process.calls().len(), 1, "it does not wait for all that have ended");
    edge.process.settle_messages();
    ids.iter().for_each(|id| edge.verdict(*id, 0, "bound"));
    edge.waits(late);
    edge.decides(edge.the_call().0, 3);
    edge.verdict(late, 3, "refused");
    edge.is_quiet();
}

#[test]
fn an_end_whose_wake_up_was_lost_is_concluded_at_the_next_tick() {
    let edge = Edge::new();
    let (id, call) = edge.called(0, &edge.seal(bind()));
    edge.process.trouble(|troubles| troubles.lost_messages = 1);
    edge.process.tell_end(call, Some(received("200", r#"{"errcode":0}"#)));
    edge.process.settle_messages();
    edge.waits(id);
    edge.process.tick(0);
    edge.verdict(id, 0, "bound");
    edge.is_quiet();
}

#[test]
fn an_end_whose_wake_up_cannot_be_sent_is_concluded_at_once() {
    let edge = Edge::new();
    let (id, call) = edge.called(0, &edge.seal(bind()));
    edge.process.trouble(|troubles| troubles.sends = 1);
    edge.process.tell_end(call, Some(received("200", r#"{"errcode":0}"#)));
    edge.verdict(id, 0, "bound");
    edge.is_quiet();
}

#[test]
fn a_replaced_configuration_without_calls_goes_at_once() {
    let edge = Edge::new();
    assert!(edge.process.retire_worker(0), "it never had any");
    let (id, call) = edge.called(1, &edge.seal(bind()));
    edge.decides(call, 0);
    edge.verdict(id, 0, "bound");
    assert!(edge.process.is_ticking(1), "until its next tick");
    assert!(edge.process.retire_worker(1), "they have ended");
    assert!(!edge.process.is_ticking(1));
}

#[test]
fn a_wake_up_that_was_lost_is_made_good_by_the_next_tick() {
    let edge = Edge::new();
    edge.process.trouble(|troubles| troubles.lost_messages = 1);
    let id = edge.sent(0, &edge.seal(bind()));
    edge.process.settle_messages();
    assert_eq!(edge.process.calls_made(), 0);
    edge.process.tick(0);
    edge.decides(edge.the_call().0, 0);
    edge.verdict(id, 0, "bound");
    edge.is_quiet();
}

#[test]
fn an_idle_worker_does_not_tick() {
    let edge = Edge::new();
    assert!(!edge.process.is_ticking(0), "it has just begun");
    let request = edge.seal(bind());
    let id = edge.headers(0, &request);
    assert!(edge.process.is_ticking(0), "there is a deadline");
    edge.process.tick(0);
    assert!(edge.process.is_ticking(0));
    edge.process.complete(id, &request.body_bytes());
    edge.process.settle_messages();
    edge.process.tick(0);
    assert!(edge.process.is_ticking(0));
    edge.decides(edge.the_call().0, 0);
    edge.process.tick(0);
    assert!(!edge.process.is_ticking(0));
    edge.headers(0, &edge.account.verify_url("1"));
    assert!(!edge.process.is_ticking(0), "what is answered at once needs none");
    edge.is_quiet();
}

#[test]
fn a_worker_that_dies_in_mid_call_leaves_a_record_that_fails_closed() {
    let edge = Edge::new();
    let request = edge.seal(bind());
    let (_, call) = edge.called(0, &request);
    let copy = edge.arrive(1, &request);
    edge.process.kill_worker(0);
    edge.process.end_call(call, None);
    edge.pass(TIMEOUT_MS);
    edge.tick_all();
    edge.verdict(copy, 7, "deadline");
    let anew = edge.start_worker(|_| {});
    edge.pass(3000);
    let later = edge.arrive(anew, &request);
    edge.verdict(later, 7, "duplicate");
    assert_eq!(edge.process.calls_made(), 1);
}
