//! The storms that are played, and the faults that they notice.

use super::*;

fn seeds(usual: u64) -> u64 {
    std::env::var("STORM_SEEDS").map_or(usual, |seeds| seeds.parse().expect("a number of seeds"))
}

/// Plays that plan with so many seeds, and insists that no promise is broken.
#[track_caller]
fn survives(plan: Plan, usual: u64) -> Toll {
    let mut toll = Toll::default();
    for seed in 0..seeds(usual) {
        if let Err(broken) = play(seed, plan, &mut toll) {
            let mut again = Storm::new(seed, plan, true);
            assert_eq!(again.run(), Err(broken.clone()), "a seed is played twice");
            panic!("seed {seed} of {plan:?}:\n{}{broken}", again.story.unwrap_or_default());
        }
    }
    println!("{} storms, {} callbacks, {} calls: {:?}", toll.storms, toll.callbacks, toll.calls, toll.counts);
    toll
}

/// Insists that one of so many seeds breaks a promise in that way.
#[track_caller]
fn is_caught(plan: Plan, usual: u64, how: &str) {
    let mut toll = Toll::default();
    let mut breaks = (0..seeds(usual)).filter_map(|seed| Some((seed, play(seed, plan, &mut toll).err()?)));
    let (seed, broken) = breaks.find(|(_, broken)| broken.contains(how)).unwrap_or_else(|| panic!("no seed: {plan:?}"));
    println!("seed {seed}: {broken}");
}

impl Toll {
    /// Insists that the storms went through all of that.
    #[track_caller]
    fn went_through(&self, what: &[&str]) {
        for what in what {
            assert!(self.counts.get(*what).is_some_and(|count| *count > 0), "never: {what}");
        }
    }

    /// Insists that they never had that.
    #[track_caller]
    fn never_had(&self, what: &[&str]) {
        for what in what {
            assert_eq!(self.counts.get(*what).copied().unwrap_or(0), 0, "{what}");
        }
    }
}

const EVERYWHERE: [&str; 16] = [
    "redis claimed",
    "redis pending",
    "redis settled",
    "redis orphan",
    "redis absent",
    "redis written",
    "redis released",
    "redis greeted",
    "redis unreachable",
    "redis refused",
    "redis unreadable",
    "redis forged",
    "answers swapped",
    "answers cut",
    "configurations replaced",
    "replicas died",
];

#[test]
fn two_replicas_decide_once_answer_in_time_and_agree_when_all_is_quiet() {
    let toll = survives(USUAL, 900);
    toll.went_through(&EVERYWHERE);
    toll.never_had(&["redis superseded", "tainted records disagreed on"]);
}

#[test]
fn three_replicas_decide_once_answer_in_time_and_agree_when_all_is_quiet() {
    let toll = survives(Plan { replicas: 3, ..USUAL }, 900);
    toll.went_through(&EVERYWHERE);
    toll.never_had(&["redis superseded", "tainted records disagreed on"]);
}

#[test]
fn replicas_that_may_decide_alone_do_so_once_each() {
    let toll = survives(Plan { local: true, ..USUAL }, 600);
    toll.went_through(&EVERYWHERE);
    toll.went_through(&["lock decided locally", "redis superseded", "records agreed on"]);
}

#[test]
fn replicas_with_other_settings_than_each_other_keep_the_promises_of_each() {
    let toll = survives(Plan { mixed: true, replicas: 3, ..USUAL }, 400);
    toll.went_through(&EVERYWHERE);
    toll.went_through(&["lock decided locally", "redis superseded"]);
}

#[test]
fn replicas_on_hosts_that_fail_too_decide_once_and_answer_in_time() {
    for mixed in [false, true] {
        let toll = survives(Plan { poor: true, mixed, ..USUAL }, 300);
        toll.went_through(&EVERYWHERE);
        toll.went_through(&["workers died", "records agreed on"]);
    }
}

#[test]
fn clocks_that_leap_cost_neither_a_promise_nor_more_than_a_tick() {
    for mixed in [false, true] {
        let toll = survives(Plan { leaps: true, mixed, ..USUAL }, 300);
        toll.went_through(&EVERYWHERE);
        toll.went_through(&["clocks leapt", "records agreed on"]);
    }
}

#[test]
fn records_that_expire_meanwhile_hold_for_as_long_as_they_live_and_no_longer() {
    let toll = survives(Plan { expires: true, ..USUAL }, 150);
    toll.went_through(&EVERYWHERE.map(|what| if what == "redis orphan" { "redis absent" } else { what }));
}

#[test]
fn a_secret_that_is_changed_in_order_costs_nothing() {
    let toll = survives(Plan { rotation: Rotation::InOrder, ..USUAL }, 300);
    toll.went_through(&EVERYWHERE);
    toll.never_had(&["redis superseded", "tainted records disagreed on"]);
}

#[test]
fn secrets_that_differ_cost_no_more_than_verdicts() {
    let toll = survives(Plan { rotation: Rotation::OutOfOrder, mixed: true, ..USUAL }, 200);
    toll.went_through(&["tainted records disagreed on"]);
}

#[test]
fn who_scribbles_in_redis_has_nothing_delivered_twice() {
    for mixed in [false, true] {
        let toll = survives(Plan { intruder: Some(Intruder::Scribbles), mixed, ..USUAL }, 100);
        toll.went_through(&["records scribbled on", "records agreed on", "tainted records disagreed on"]);
    }
}

#[test]
fn who_deletes_or_puts_back_has_nothing_delivered_twice_by_one_replica_nor_a_verdict_made_up() {
    for mixed in [false, true] {
        let toll = survives(Plan { intruder: Some(Intruder::Replays), mixed, ..USUAL }, 100);
        toll.went_through(&[
            "records deleted",
            "records put back",
            "records agreed on",
            "tainted records disagreed on",
        ]);
    }
}

#[test]
fn a_claim_that_writes_over_another_is_caught() {
    is_caught(with_fault(Fault::OfRedis(Flaw::ClaimsWhatIsThere)), 100, "delivered again");
}

#[test]
fn a_plain_set_in_place_of_a_compare_and_set_is_caught() {
    is_caught(with_fault(Fault::OfRedis(Flaw::SwapsBlindly)), 1_500, "");
}

#[test]
fn a_plain_delete_in_place_of_a_compare_and_delete_is_caught() {
    is_caught(with_fault(Fault::OfRedis(Flaw::DeletesBlindly)), 1_500, "");
}

#[test]
fn a_claim_that_takes_ok_for_won_without_reading_back_is_caught() {
    is_caught(with_fault(Fault::TrustsOk), 1_500, "delivered again");
}

#[test]
fn a_record_that_lives_too_short_is_caught() {
    let plan = Plan { expires: true, ..with_fault(Fault::OfRedis(Flaw::ExpiresEarly)) };
    is_caught(plan, 300, "delivered again");
    is_caught(plan, 300, "and its record lives for");
}

#[test]
fn a_record_that_never_expires_is_caught() {
    let plan = Plan { expires: true, ..with_fault(Fault::OfRedis(Flaw::NeverExpires)) };
    is_caught(plan, 100, "is then delivered 0 times");
}

#[test]
fn a_host_that_ticks_late_is_caught() {
    is_caught(with_fault(Fault::TicksLate), 300, "had to wait for");
}

#[test]
fn a_store_that_forgets_is_caught() {
    is_caught(Plan { local: true, ..with_fault(Fault::StoreForgets) }, 300, "delivered again");
}

#[test]
fn a_verdict_that_no_call_has_given_is_caught() {
    is_caught(Plan { intruder: Some(Intruder::KnowsTheSecret), ..USUAL }, 100, "nobody has said 0");
}

/// What cannot hold is seen to break, so it is looked for where it can.
#[test]
fn what_is_not_promised_does_not_hold() {
    let insists = Plan { insists: true, ..USUAL };
    is_caught(Plan { local: true, ..insists }, 100, "delivered again");
    is_caught(Plan { intruder: Some(Intruder::Replays), ..insists }, 300, "delivered again");
    is_caught(Plan { intruder: Some(Intruder::Scribbles), ..insists }, 300, "as the replicas say");
    is_caught(Plan { rotation: Rotation::OutOfOrder, ..insists }, 100, "as the replicas say");
    is_caught(Plan { poor: true, ..insists }, 300, "as the replicas say");
    is_caught(Plan { leaps: true, ..insists }, 1_000, "as the replicas say");
}

fn with_fault(fault: Fault) -> Plan {
    Plan { fault: Some(fault), ..USUAL }
}
