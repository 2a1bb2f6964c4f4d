//! Whether the filters of one Envoy share their record of duplicates.
//!
//! A record belongs to a `vm_id` and names a callback by its receive id and its `req_id`, whatever the path. Of
//! two filters that take the same receive id, but have no record in common, each makes the call for a callback.

use std::collections::BTreeSet;

use serde_json::Value;
use wecom_callback_filter::config::limits::{FRESHNESS_SECONDS_DEFAULT, KEY_PREFIX_DEFAULT, TTL_MARGIN_SECONDS};

use crate::check::finding::Findings;
use crate::check::node::Node;
use crate::check::survey::{Filter, Survey};

/// Checks a filter against every other Wasm filter of the same Envoy that comes before it, or is none of `named`.
pub(crate) fn check(filter: &Filter<'_>, survey: &Survey<'_>, named: &str, found: &mut Findings) {
    let Some(own) = Record::of(filter) else { return };
    let envoys = envoys(filter, survey);
    let index = survey.filters.iter().position(|known| std::ptr::eq(known.config.value, filter.config.value));
    for (at, other) in survey.filters.iter().enumerate() {
        let is_pair = index.is_some_and(|index| at < index) || !other.is_named(named);
        let is_beside = envoys_of_both(&envoys, &self::envoys(other, survey));
        let Some(others) = Record::of(other).filter(|_| is_pair && is_beside) else { continue };
        if own.receive_ids.is_disjoint(&others.receive_ids) {
            continue;
        }
        if own.is_shared_with(&others) {
            check_shared(filter, &own, other, &others, found);
            check_shared(other, &others, filter, &own, found);
            if own.redis != others.redis {
                let reason = format!(
                    "must have the same dedup.redis, cluster and key_prefix, as the filter at {}, which takes the same receive \
                     id: a callback that goes to this one on one replica, and to that one on another, would reach the decision \
                     endpoint twice",
                    other.config.place.path
                );
                found.problem(filter.config.at("configuration"), reason);
            }
            continue;
        }
        let reason = format!(
            "must be that of the filter at {}, which takes the same receive id, or both need the same dedup.redis: \
             a callback that goes to both would reach the decision endpoint twice",
            other.config.place.path
        );
        found.problem(filter.config.at("vm_config.vm_id"), reason);
    }
}

/// Where two filters have one record, that of each must live as long as the other takes copies.
fn check_shared(one: &Filter<'_>, own: &Record<'_>, other: &Filter<'_>, others: &Record<'_>, found: &mut Findings) {
    let least = others.freshness_seconds.saturating_mul(2).saturating_add(1);
    if others.freshness_seconds > 0 && own.ttl_seconds < least {
        let reason = format!(
            "needs dedup.ttl_seconds of {least} at least: the filter at {} shares its record, and takes copies for that \
             long. They would reach the decision endpoint a second time",
            other.config.place.path
        );
        found.problem(one.config.at("configuration"), reason);
    }
}

/// What a filter records, and where.
struct Record<'a> {
    vm_id: &'a str,
    receive_ids: BTreeSet<String>,
    freshness_seconds: u64,
    ttl_seconds: u64,
    /// Cluster and prefix of the record in Redis.
    redis: Option<[Value; 2]>,
}

impl<'a> Record<'a> {
    /// `None`: it is no filter of this kind.
    fn of(filter: &Filter<'a>) -> Option<Self> {
        let plugin: Value = serde_json::from_slice(&filter.plugin_bytes()?).ok()?;
        let endpoints = plugin.get("endpoints")?.as_array()?.iter();
        let receive_ids = endpoints.filter_map(|endpoint| endpoint.get("receive_ids")?.as_array()).flatten();
        let receive_ids = receive_ids.filter_map(|id| id.as_str().map(str::to_owned)).collect();
        let redis = plugin.pointer("/dedup/redis").filter(|redis| redis.is_object());
        let redis = redis.map(|redis| {
            let prefix = redis.get("key_prefix").cloned().unwrap_or_else(|| KEY_PREFIX_DEFAULT.into());
            [redis.get("cluster").cloned().unwrap_or_default(), prefix]
        });
        let number = |at: &str| plugin.pointer(at).and_then(Value::as_u64);
        let freshness_seconds = number("/freshness_seconds").unwrap_or(FRESHNESS_SECONDS_DEFAULT);
        let ttl_default = freshness_seconds.saturating_mul(2).saturating_add(TTL_MARGIN_SECONDS);
        let ttl_seconds = number("/dedup/ttl_seconds").unwrap_or(ttl_default);
        let vm_id = filter.config.text("vm_config.vm_id").unwrap_or_default();
        Some(Self { vm_id, receive_ids, freshness_seconds, ttl_seconds, redis })
    }

    fn is_shared_with(&self, other: &Self) -> bool {
        self.vm_id == other.vm_id || self.redis.is_some() && self.redis == other.redis
    }
}

/// The documents that have a filter in a chain: each is taken for one Envoy.
fn envoys<'a>(filter: &Filter<'a>, survey: &Survey<'a>) -> Vec<Node<'a>> {
    let positions = survey.positions(filter).into_iter();
    positions.filter_map(|position| survey.at(position)).map(|(manager, _)| manager.root.clone()).collect()
}

fn envoys_of_both(one: &[Node<'_>], other: &[Node<'_>]) -> bool {
    one.iter().any(|envoy| other.iter().any(|known| std::ptr::eq(known.value, envoy.value)))
}
