//! What Envoy must allow the module: its list of capabilities names what the module may call and be
//! called with.

use crate::check::files::Document;
use crate::check::finding::Findings;
use crate::check::node::{Node, Place};
use crate::check::survey::Survey;

/// The list that the repository ships. A test holds it against the module's imports and exports.
const SHIPPED: &str = include_str!("../../../envoy.yaml");

const LIST: &str = "capability_restriction_config.allowed_capabilities";

/// Every name must be in the list that Envoy reads: that of the VM since 1.40, before that one beside
/// `vm_config`.
pub(crate) fn check(config: &Node<'_>, found: &mut Findings) {
    let lists = [format!("vm_config.{LIST}"), LIST.to_owned()];
    let lists: Vec<_> = lists.iter().filter_map(|list| config.get(list)).filter(restricts).collect();
    if lists.is_empty() {
        let reason = "allows the module everything that Envoy has: take the list of the shipped envoy.yaml";
        found.warning(config.at(&format!("vm_config.{LIST}")), reason);
        return;
    }
    let needed = needed();
    for list in lists {
        for name in needed.iter().filter(|name| list.get(name).is_none()) {
            let cost = if name.starts_with("proxy_on_") {
                "Envoy would silently never call it"
            } else {
                "Envoy would refuse the module's calls, of which most end in a panic"
            };
            found.problem(list.place.clone(), format!("{name} is missing: {cost}"));
        }
    }
}

/// An empty list counts as none.
fn restricts(list: &Node<'_>) -> bool {
    list.value.as_object().is_some_and(|names| !names.is_empty())
}

fn needed() -> Vec<String> {
    let value = serde_saphyr::from_str(SHIPPED).unwrap_or_default();
    let shipped = Document { place: Place::file(0), value, json: None };
    let survey = Survey::of(std::slice::from_ref(&shipped));
    let names = survey.filters.iter().flat_map(|filter| filter.config.entries(&format!("vm_config.{LIST}")));
    names.map(|(name, _)| name.to_owned()).collect()
}
