//! The labels of the filter's metrics, which a bootstrap must extract from their names.

use regex::Regex;

use crate::check::finding::Findings;
use crate::check::node::Node;

/// Each label, and a metric of the filter that has it, by Envoy's name.
const LABELS: [(&str, &str); 5] = [
    ("endpoint", "wasmcustom.wecom.endpoint=lock.event=bind.outcome=bound.callbacks_total"),
    ("event", "wasmcustom.wecom.endpoint=lock.event=bind.outcome=bound.callbacks_total"),
    ("outcome", "wasmcustom.wecom.endpoint=lock.event=bind.outcome=bound.callbacks_total"),
    ("errcode", "wasmcustom.wecom.endpoint=lock.errcode=0.verdicts_total"),
    ("version", "wasmcustom.wecom.version=0.1.0+0123456789ab.build_info"),
];

/// One that exists only where replicas share their record.
const OF_RECORD: (&str, &str) = ("result", "wasmcustom.wecom.result=claimed.record_exchanges_total");

/// Checks the stats_tags of a bootstrap.
pub(crate) fn check(bootstrap: &Node<'_>, has_record: bool, found: &mut Findings) {
    if bootstrap.get("static_resources").is_none() {
        return;
    }
    let rules = bootstrap.items("stats_config.stats_tags");
    let missing: Vec<_> = LABELS
        .iter()
        .chain(has_record.then_some(&OF_RECORD))
        .filter(|(label, metric)| !rules.iter().any(|rule| extracts(rule, label, metric)))
        .map(|(label, _)| *label)
        .collect();
    if !missing.is_empty() {
        let reason = format!(
            "no rule extracts {} from the filter's metrics: dashboard and alerts stay empty",
            missing.join(", ")
        );
        found.warning(bootstrap.at("stats_config.stats_tags"), reason);
    }
}

fn extracts(rule: &Node<'_>, label: &str, metric: &str) -> bool {
    let regex = rule.text("regex").and_then(|regex| Regex::new(regex).ok());
    rule.text("tag_name") == Some(label) && regex.is_some_and(|regex| regex.is_match(metric))
}
