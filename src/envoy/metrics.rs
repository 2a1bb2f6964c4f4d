//! Metrics, as Envoy's stats. All are defined with the configuration; every label's values are a
//! closed set.
//!
//! Tags stand in the name (`wecom.endpoint=lock.event=bind.outcome=bound.callbacks_total`); the
//! `stats_tags` of `envoy.yaml` turn them into labels.

use super::calls;
use crate::config::Config;
use crate::host::{Count, Exchanged};
use crate::outcome::Outcome;
use crate::wecom::callback::EventType;
use crate::wecom::verdict::ERRCODES;

/// The metrics of one configuration.
pub(super) struct Metrics {
    endpoints: Vec<OfEndpoint>,
    waiting: Option<u32>,
    /// Only where there is a shared record.
    redis: Option<OfRedis>,
}

struct OfRedis {
    exchanges: Vec<(Exchanged, u32)>,
    duration: Option<u32>,
    repeats_waiting: Option<u32>,
    dropped: Option<u32>,
}

struct OfEndpoint {
    callbacks: Vec<(EventType, Outcome, u32)>,
    durations: Vec<(EventType, u32)>,
    verdicts: Vec<(Option<u32>, u32)>,
    clients_left: Option<u32>,
    decided_locally: Option<u32>,
}

impl Metrics {
    /// Defines everything that this configuration can count.
    pub(super) fn define(config: &Config) -> Self {
        Self {
            endpoints: (config.endpoints().iter())
                .map(|endpoint| OfEndpoint::define(endpoint.name(), config.dedup().redis().is_some()))
                .collect(),
            redis: config.dedup().redis().map(|_| OfRedis::define()),
            waiting: calls::gauge("wecom.duplicates_waiting"),
        }
    }

    /// Counts something.
    pub(super) fn count(&self, count: Count<'_>) {
        match count {
            Count::Ended { endpoint, event, outcome, errcode } => {
                let Some(of_endpoint) = self.endpoints.get(endpoint.index()) else { return };
                let counted = |(e, o, _): &&(EventType, Outcome, u32)| *e == event && *o == outcome;
                if let Some((_, _, id)) = of_endpoint.callbacks.iter().find(counted) {
                    calls::add(*id, 1);
                }
                let Some(errcode) = errcode else { return };
                let known = ERRCODES.iter().any(|(code, _)| *code == errcode).then_some(errcode);
                if let Some((_, id)) = of_endpoint.verdicts.iter().find(|(code, _)| *code == known) {
                    calls::add(*id, 1);
                }
            }
            Count::Called { endpoint, event, elapsed_ms } => {
                let Some(of_endpoint) = self.endpoints.get(endpoint.index()) else { return };
                if let Some((_, id)) = of_endpoint.durations.iter().find(|(e, _)| *e == event) {
                    calls::record(*id, elapsed_ms);
                }
            }
            Count::ClientLeft { endpoint } => {
                if let Some(id) = self.endpoints.get(endpoint.index()).and_then(|of_endpoint| of_endpoint.clients_left)
                {
                    calls::add(id, 1);
                }
            }
            Count::CopyWaits => self.add_waiting(1),
            Count::CopyWaitsNoMore => self.add_waiting(-1),
            Count::Exchanged { what, elapsed_ms } => {
                let Some(redis) = &self.redis else { return };
                if let Some((_, id)) = redis.exchanges.iter().find(|(known, _)| *known == what) {
                    calls::add(*id, 1);
                }
                if let Some(id) = redis.duration {
                    calls::record(id, elapsed_ms);
                }
            }
            Count::DecidedLocally { endpoint } => {
                let of_endpoint = self.endpoints.get(endpoint.index());
                if let Some(id) = of_endpoint.and_then(|of_endpoint| of_endpoint.decided_locally) {
                    calls::add(id, 1);
                }
            }
            Count::RepeatsWaiting(change) => {
                if let Some(id) = self.redis.as_ref().and_then(|redis| redis.repeats_waiting) {
                    calls::add(id, change);
                }
            }
            Count::SettlementDropped => {
                if let Some(id) = self.redis.as_ref().and_then(|redis| redis.dropped) {
                    calls::add(id, 1);
                }
            }
        }
    }

    /// Copies that wait on a worker whose VM traps are never subtracted: after a reload the gauge may
    /// stand too high.
    fn add_waiting(&self, change: i64) {
        if let Some(id) = self.waiting {
            calls::add(id, change);
        }
    }
}

impl OfRedis {
    fn define() -> Self {
        let exchanges = Exchanged::ALL.into_iter().filter_map(|what| {
            let id = calls::counter(&format!("wecom.result={}.record_exchanges_total", what.name()))?;
            Some((what, id))
        });
        Self {
            exchanges: exchanges.collect(),
            duration: calls::histogram("wecom.record_duration_ms"),
            repeats_waiting: calls::gauge("wecom.record_repeats_waiting"),
            dropped: calls::counter("wecom.record_settlements_dropped_total"),
        }
    }
}

impl OfEndpoint {
    fn define(name: &str, with_redis: bool) -> Self {
        let decided_locally =
            with_redis.then(|| calls::counter(&format!("wecom.endpoint={name}.decided_locally_total")));
        let mut of_endpoint = Self {
            callbacks: Vec::new(),
            durations: Vec::new(),
            verdicts: Vec::new(),
            clients_left: calls::counter(&format!("wecom.endpoint={name}.clients_left_total")),
            decided_locally: decided_locally.flatten(),
        };
        for (event, label) in EventType::ALL {
            for outcome in Outcome::ALL.into_iter().filter(|outcome| outcome.applies_to(event)) {
                let stat = format!("wecom.endpoint={name}.event={label}.outcome={}.callbacks_total", outcome.name());
                of_endpoint.callbacks.extend(calls::counter(&stat).map(|id| (event, outcome, id)));
            }
            let stat = format!("wecom.endpoint={name}.event={label}.upstream_duration_ms");
            of_endpoint.durations.extend(calls::histogram(&stat).map(|id| (event, id)));
        }
        for errcode in ERRCODES.iter().map(|(code, _)| Some(*code)).chain([None]) {
            let label = errcode.map_or_else(|| "other".to_owned(), |code| code.to_string());
            let stat = format!("wecom.endpoint={name}.errcode={label}.verdicts_total");
            of_endpoint.verdicts.extend(calls::counter(&stat).map(|id| (errcode, id)));
        }
        of_endpoint
    }
}
