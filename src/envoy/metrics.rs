//! Metrics, as Envoy's stats. All are defined with the configuration; every label's values are a
//! closed set.
//!
//! Tags stand in the name (`wecom.endpoint=lock.event=bind.outcome=bound.callbacks_total`); the
//! `stats_tags` of `envoy.yaml` turn them into labels.

use super::host;
use crate::config::Config;
use crate::host::Count;
use crate::outcome::Outcome;
use crate::wecom::callback::EventType;
use crate::wecom::verdict::ERRCODES;

/// The metrics of one configuration.
pub(super) struct Metrics {
    endpoints: Vec<OfEndpoint>,
    waiting: Option<u32>,
}

struct OfEndpoint {
    callbacks: Vec<(EventType, Outcome, u32)>,
    durations: Vec<(EventType, u32)>,
    verdicts: Vec<(Option<u32>, u32)>,
    clients_left: Option<u32>,
}

impl Metrics {
    /// Defines everything that this configuration can count.
    pub(super) fn define(config: &Config) -> Self {
        Self {
            endpoints: config.endpoints().iter().map(|endpoint| OfEndpoint::define(endpoint.name())).collect(),
            waiting: host::gauge("wecom.duplicates_waiting"),
        }
    }

    /// Counts something.
    pub(super) fn count(&self, count: Count<'_>) {
        match count {
            Count::Ended { endpoint, event, outcome, errcode } => {
                let Some(of_endpoint) = self.endpoints.get(endpoint.index()) else { return };
                let counted = |(e, o, _): &&(EventType, Outcome, u32)| *e == event && *o == outcome;
                if let Some((_, _, id)) = of_endpoint.callbacks.iter().find(counted) {
                    host::add(*id, 1);
                }
                let Some(errcode) = errcode else { return };
                let known = ERRCODES.iter().any(|(code, _)| *code == errcode).then_some(errcode);
                if let Some((_, id)) = of_endpoint.verdicts.iter().find(|(code, _)| *code == known) {
                    host::add(*id, 1);
                }
            }
            Count::Called { endpoint, event, elapsed_ms } => {
                let Some(of_endpoint) = self.endpoints.get(endpoint.index()) else { return };
                if let Some((_, id)) = of_endpoint.durations.iter().find(|(e, _)| *e == event) {
                    host::record(*id, elapsed_ms);
                }
            }
            Count::ClientLeft { endpoint } => {
                if let Some(id) = self.endpoints.get(endpoint.index()).and_then(|of_endpoint| of_endpoint.clients_left)
                {
                    host::add(id, 1);
                }
            }
            Count::CopyWaits => self.add_waiting(1),
            Count::CopyWaitsNoMore => self.add_waiting(-1),
        }
    }

    /// Copies that wait on a worker whose VM traps are never subtracted: after a reload the gauge may
    /// stand too high.
    fn add_waiting(&self, change: i64) {
        if let Some(id) = self.waiting {
            host::add(id, change);
        }
    }
}

impl OfEndpoint {
    fn define(name: &str) -> Self {
        let mut of_endpoint = Self {
            callbacks: Vec::new(),
            durations: Vec::new(),
            verdicts: Vec::new(),
            clients_left: host::counter(&format!("wecom.endpoint={name}.clients_left_total")),
        };
        for (event, label) in EventType::ALL {
            for outcome in Outcome::ALL.into_iter().filter(|outcome| outcome.applies_to(event)) {
                let stat = format!("wecom.endpoint={name}.event={label}.outcome={}.callbacks_total", outcome.name());
                of_endpoint.callbacks.extend(host::counter(&stat).map(|id| (event, outcome, id)));
            }
            let stat = format!("wecom.endpoint={name}.event={label}.upstream_duration_ms");
            of_endpoint.durations.extend(host::histogram(&stat).map(|id| (event, id)));
        }
        for errcode in ERRCODES.iter().map(|(code, _)| Some(*code)).chain([None]) {
            let label = errcode.map_or_else(|| "other".to_owned(), |code| code.to_string());
            let stat = format!("wecom.endpoint={name}.errcode={label}.verdicts_total");
            of_endpoint.verdicts.extend(host::counter(&stat).map(|id| (errcode, id)));
        }
        of_endpoint
    }
}
