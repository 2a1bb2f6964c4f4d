//! Every order in which the events of two workers with one callback can happen.

use std::cell::Cell;

use wecom_callback_filter::outcome::Outcome;

use super::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Happens {
    /// The callback arrives at that worker.
    Arrives(WorkerId),
    /// A worker reads one message.
    Reads(WorkerId),
    /// The call ends, if there is one.
    CallEnds,
    /// The client that arrived first leaves, if it has not been answered.
    FirstLeaves,
    /// The next message is lost.
    MessageLost,
}
use Happens::{Arrives, CallEnds, FirstLeaves, MessageLost, Reads};

/// Calls `visit` with every order of those events; equal ones are not told apart.
fn every_order(events: &mut Vec<Happens>, order: &mut Vec<Happens>, visit: &mut impl FnMut(&[Happens])) {
    if events.is_empty() {
        visit(order);
    }
    for at in 0..events.len() {
        if events[..at].contains(&events[at]) {
            continue;
        }
        let event = events.remove(at);
        order.push(event);
        every_order(events, order, visit);
        order.pop();
        events.insert(at, event);
    }
}

/// Plays one order. The call ends with that errcode and outcome or, if there is none, the first one
/// breaks off and further ones succeed.
fn play(request: &Request, verdict: Option<(u32, &str)>, order: &[Happens]) {
    let edge = Edge::new();
    let mut streams = Vec::new();
    let ended = Cell::new(0);
    let end = |call| match verdict {
        Some((errcode, _)) => {
            edge.process.tell_end(call, Some(received("200", &json!({ "errcode": errcode }).to_string())))
        }
        None if ended.replace(ended.get() + 1) == 0 => edge.process.tell_end(call, None),
        None => edge.process.tell_end(call, Some(received("200", "success"))),
    };
    for event in order {
        match *event {
            Arrives(worker) => streams.push(edge.sent(worker, request)),
            Reads(worker) => edge.process.read_queue(worker, 1),
            CallEnds => edge.process.calls().into_iter().for_each(|(call, _)| end(call)),
            FirstLeaves => streams.iter().take(1).for_each(|id| edge.process.leave(*id)),
            MessageLost => edge.process.trouble(|troubles| troubles.lost_messages = 1),
        }
    }
    let lossy = order.contains(&MessageLost);
    edge.process.trouble(|troubles| *troubles = model::Troubles::default());
    edge.process.settle_messages();
    edge.process.calls().into_iter().for_each(|(call, _)| end(call));
    edge.process.settle_messages();
    if lossy {
        edge.pass(TIMEOUT_MS + 250);
        edge.tick_all();
    }

    let again = edge.arrive(1, request);
    if lossy {
        edge.pass(TIMEOUT_MS);
        edge.tick_all();
    }
    let arrived = streams.len() + 1;
    let mut outcomes = Vec::new();
    for id in streams.into_iter().chain([again]) {
        let Some(finished) = edge.finished(id) else {
            assert!(verdict.is_none() && id == again, "{order:?}: {id:?} is not answered");
            continue; // given up before, so it is asked about again
        };
        outcomes.push(finished.report.outcome.name());
        let Some(answer) = finished.answer else { continue };
        match verdict {
            Some((errcode, _)) => {
                let read = edge.account.open_reply(&answer.body).unwrap().errcode();
                assert!(read == Some(errcode) || lossy && read == Some(7), "{order:?}: {read:?}");
            }
            None => {
                let delivered = finished.report.outcome.name() == "delivered";
                assert_eq!(answer.status == 200, answer.body == b"success", "{order:?}");
                assert!(answer.status == if delivered { 200 } else { 503 } || ended.get() > 1, "{order:?}");
            }
        }
    }
    // Everything that has ended is counted, and once.
    let event = if verdict.is_some() { "bind" } else { "unbind" };
    let counted: i64 = Outcome::ALL.into_iter().map(|outcome| edge.ended(event, outcome.name())).sum();
    let counted = counted + edge.ended("other", "client_gone"); // who left before it was opened
    let open = edge.process.open().len();
    assert_eq!(counted, i64::try_from(arrived - open).unwrap(), "{order:?}: {outcomes:?}");
    if verdict.is_none() {
        // Every call after the first one succeeds, and whoever it was made for is told so, or has left.
        let delivered = outcomes.iter().filter(|said| **said == "delivered").count();
        let gone = outcomes.iter().filter(|said| **said == "client_gone").count();
        assert!(delivered + gone + 1 >= ended.get(), "{order:?}: {outcomes:?} of {} calls", ended.get());
    }
    if let Some((_, outcome)) = verdict {
        let calls = edge.process.calls_made();
        assert!(calls == 1 || lossy && calls == 0, "{order:?}: {calls} calls");
        let firsts = outcomes.iter().filter(|said| [outcome, "client_gone"].contains(said)).count();
        assert!(lossy || firsts >= 1, "{order:?}: {outcomes:?}");
    }
}

/// A request about an event, made now.
fn request(event: Event) -> Request {
    Edge::without_workers().seal(event)
}

#[test]
fn whatever_the_order_a_bind_is_asked_about_once_and_every_copy_is_told_the_same() {
    let request = request(bind());
    let mut events = vec![Arrives(0), Arrives(1), Arrives(0), Reads(0), Reads(0), Reads(1), CallEnds, FirstLeaves];
    let mut orders = 0;
    every_order(&mut events, &mut Vec::new(), &mut |order| {
        play(&request, Some((4, "refused")), order);
        orders += 1;
    });
    assert_eq!(orders, 10_080); // 8! / (2! 2!)
    let mut events = vec![Arrives(0), Arrives(1), Reads(0), Reads(0), Reads(1), Reads(1), CallEnds, FirstLeaves];
    every_order(&mut events, &mut Vec::new(), &mut |order| play(&request, Some((4, "refused")), order));
}

#[test]
fn whatever_message_is_lost_a_bind_is_asked_about_once_at_most_and_nobody_is_told_otherwise() {
    let request = request(bind());
    let mut events = vec![Arrives(0), Arrives(1), Reads(0), Reads(0), Reads(1), CallEnds, MessageLost];
    every_order(&mut events, &mut Vec::new(), &mut |order| play(&request, Some((0, "bound")), order));
}

#[test]
fn whatever_the_order_another_callback_that_failed_fails_for_all_that_wait() {
    let request = request(unbind());
    let mut events = vec![Arrives(0), Arrives(1), Reads(0), Reads(1), Reads(1), CallEnds, FirstLeaves];
    every_order(&mut events, &mut Vec::new(), &mut |order| play(&request, None, order));
}
