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

/// Insists that one of so many seeds breaks a promise, and gives how.
#[track_caller]
fn is_caught(plan: Plan, usual: u64) -> Broken {
    let mut toll = Toll::default();
    let broken = (0..seeds(usual)).find_map(|seed| Some((seed, play(seed, plan, &mut toll).err()?)));
    let (seed, broken) = broken.unwrap_or_else(|| panic!("no seed notices {plan:?}"));
    println!("seed {seed}: {broken}");
    broken
}

impl Toll {
    /// Insists that the storms went through all of that.
    #[track_caller]
    fn went_through(&self, what: &[&str]) {
        for what in what {
            assert!(self.counts.get(*what).is_some_and(|count| *count > 0), "never: {what}");
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
    let toll = survives(USUAL, 1_500);
    toll.went_through(&EVERYWHERE);
    assert_eq!(toll.counts["redis superseded"], 0, "who has claimed a record settles it");
}

#[test]
fn three_replicas_decide_once_answer_in_time_and_agree_when_all_is_quiet() {
    let toll = survives(Plan { replicas: 3, ..USUAL }, 1_500);
    toll.went_through(&EVERYWHERE);
    assert_eq!(toll.counts["redis superseded"], 0, "who has claimed a record settles it");
}

#[test]
fn replicas_that_may_decide_alone_do_so_once_each() {
    let toll = survives(Plan { local: true, ..USUAL }, 1_000);
    toll.went_through(&EVERYWHERE);
    toll.went_through(&["lock decided locally", "redis superseded"]);
}

#[test]
fn replicas_on_hosts_that_fail_too_decide_once_and_answer_in_time() {
    for local in [false, true] {
        let toll = survives(Plan { poor: true, local, ..USUAL }, 500);
        toll.went_through(&EVERYWHERE);
        toll.went_through(&["workers died"]);
    }
}

#[test]
fn a_claim_that_writes_over_another_is_caught() {
    let broken = is_caught(Plan { flaw: Some(Flaw::ClaimsWhatIsThere), ..USUAL }, 100);
    assert!(broken.contains("delivered again"), "{broken}");
}

#[test]
fn a_plain_set_in_place_of_a_compare_and_set_is_caught() {
    is_caught(Plan { flaw: Some(Flaw::SwapsBlindly), ..USUAL }, 1_500);
}

#[test]
fn a_plain_delete_in_place_of_a_compare_and_delete_is_caught() {
    is_caught(Plan { flaw: Some(Flaw::DeletesBlindly), ..USUAL }, 1_500);
}

#[test]
fn a_claim_that_takes_ok_for_won_without_reading_back_is_caught() {
    let broken = is_caught(Plan { trusts_ok: true, ..USUAL }, 1_500);
    assert!(broken.contains("delivered again"), "{broken}");
}
