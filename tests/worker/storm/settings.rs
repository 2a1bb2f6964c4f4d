//! What the workers of a storm are configured with.

use wecom_callback_filter::dedup::shared::Shared;

use super::*;

/// How long a call may take, and an exchange with Redis, in milliseconds. Most storms take the defaults.
const TIMEOUTS_MS: [[u64; 2]; 6] = [[900, 100], [900, 100], [900, 100], [200, 50], [2_800, 300], [1_500, 1_000]];

/// How long records live where they are to expire, in seconds. Redis keeps none for less than five.
const SHORT_TTLS_SECONDS: [u32; 3] = [1, 5, 6];
const LEAST_TTL_SECONDS: u32 = 5;

/// The same by default, with the default freshness.
const TTL_SECONDS: u32 = 1_260;

/// `secret` and `previous_secret`, step by step as docs/replicas.md has it.
const STEPS: [(&str, Option<&str>); 4] = [(OLD, None), (OLD, Some(NEW)), (NEW, Some(OLD)), (NEW, None)];
const OLD: &str = "the-record-secret-of-32-characters";
const NEW: &str = "another-secret-of-32-characters-or-so";

/// How the secret of the record is changed meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rotation {
    None,
    /// All replicas are at one step, or at the next.
    InOrder,
    /// Every worker is at any step.
    OutOfOrder,
}

/// What one worker is configured with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) local: bool,
    /// How long a call may take, and an exchange with Redis, in milliseconds.
    pub(super) timeouts_ms: [u64; 2],
    /// Of the rotation.
    pub(super) step: usize,
    short_ttl_seconds: Option<u32>,
}

impl Settings {
    /// Those that a storm begins with.
    pub(super) fn any(plan: Plan, rng: &mut Rng) -> Self {
        Self {
            local: plan.local,
            timeouts_ms: *rng.choice(&TIMEOUTS_MS).expect("there are some"),
            step: if plan.rotation == Rotation::InOrder { rng.usize(0..STEPS.len() - 1) } else { 0 },
            short_ttl_seconds: plan.expires.then(|| *rng.choice(&SHORT_TTLS_SECONDS).expect("there are some")),
        }
    }

    /// Those of another worker, at a place where the rotation has come that far.
    pub(super) fn of_another_worker(self, plan: Plan, step: usize, rng: &mut Rng) -> Self {
        let step = if plan.rotation == Rotation::OutOfOrder { rng.usize(0..STEPS.len()) } else { step };
        if plan.mixed {
            return Self { local: rng.bool(), step, short_ttl_seconds: self.short_ttl_seconds, ..Self::any(plan, rng) };
        }
        Self { step, ..self }
    }

    /// How long Redis is to keep a record, in milliseconds.
    pub(super) fn life_ms(self) -> u64 {
        let seconds = self.short_ttl_seconds.map_or(TTL_SECONDS, |seconds| seconds.max(LEAST_TTL_SECONDS));
        u64::from(seconds) * 1_000
    }

    /// Writes them into a configuration.
    pub(super) fn configure(self, config: &mut Value) {
        let [call_ms, exchange_ms] = self.timeouts_ms;
        let (secret, previous) = STEPS[self.step];
        config["endpoints"][0]["decision"]["timeout_ms"] = call_ms.into();
        config["endpoints"][0]["events"]["timeout_ms"] = call_ms.into();
        config["dedup"] = json!({ "redis": {
            "cluster": RECORD, "secret": secret,
            "timeout_ms": exchange_ms, "on_error": if self.local { "local" } else { "refuse" },
        }});
        if let Some(previous) = previous {
            config["dedup"]["redis"]["previous_secret"] = previous.into();
        }
        if let Some(seconds) = self.short_ttl_seconds {
            config["freshness_seconds"] = 0.into();
            config["dedup"]["ttl_seconds"] = seconds.into();
        }
    }
}

/// The shared record of a process that knows the secret.
pub(super) fn shared(edge: &Edge) -> Shared {
    let settings = Settings { local: false, timeouts_ms: TIMEOUTS_MS[0], step: 0, short_ttl_seconds: None };
    let config = edge.config(|config| settings.configure(config));
    Shared::new(config.dedup().redis().expect("just configured"), TTL_SECONDS, [0xFF; 16])
}

/// What a callback with that id is recorded under.
pub(super) fn name(edge: &Edge, req_id: &str) -> Vec<u8> {
    [edge.account.receive_id().as_bytes(), b"req_id", req_id.as_bytes()].join(&0)
}

/// The key in Redis of a callback with that id.
pub(super) fn key(edge: &Edge, req_id: &str) -> String {
    let shared = shared(edge);
    let (_, key) = asked(&shared.look(&shared.name(&name(edge, req_id)))).expect("it asks for a key");
    String::from_utf8(key).expect("a prefix, and hexadecimal digits")
}
