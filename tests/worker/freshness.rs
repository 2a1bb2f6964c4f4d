//! Raising `freshness_seconds` while Envoy runs, in the order that docs/sizing.md asks for, and in others.

use super::*;

const OLD: u64 = 600;
const NEW: u64 = 1800;
/// The default for each.
const OLD_TTL: u64 = 2 * OLD + 60;
const NEW_TTL: u64 = 2 * NEW + 60;

/// How often a bind is delivered that comes just before `dedup.ttl_seconds` is raised, and again every
/// minute once `freshness_seconds` was raised too, so many seconds later. It is dated as far in the
/// future as the old freshness allows.
fn deliveries(seconds_between: u64) -> usize {
    let edge = Edge::without_workers();
    let start = |freshness: u64, ttl: u64| {
        edge.start_worker(|config| {
            config["freshness_seconds"] = json!(freshness);
            config["dedup"] = json!({ "ttl_seconds": ttl });
        })
    };
    let before = start(OLD, OLD_TTL);
    let dated = edge.process.now_ms() / 1000 + OLD;
    let request = edge.account.seal_at(bind().createtime(dated), dated, "nonce");
    let (_, call) = edge.called(before, &request);
    edge.decides(call, 0);
    start(OLD, NEW_TTL);
    edge.pass(seconds_between * 1000);
    let after = start(NEW, NEW_TTL);
    for _ in 0..2 * NEW_TTL / 60 {
        edge.arrive(after, &request);
        edge.process.read_queue(after, usize::MAX);
        edge.process.calls().into_iter().for_each(|(call, _)| edge.decides(call, 0));
        edge.pass(60_000);
    }
    edge.process.calls_made()
}

#[test]
fn no_callback_is_revived_if_the_new_lifetime_of_records_has_passed() {
    assert_eq!(deliveries(NEW_TTL), 1);
    assert_eq!(deliveries(OLD + NEW + 1), 1, "the least that is enough");
}

#[test]
fn a_callback_is_revived_if_less_has_passed() {
    for seconds in [0, OLD_TTL, OLD + NEW] {
        assert_eq!(deliveries(seconds), 2, "after {seconds} s");
    }
}
