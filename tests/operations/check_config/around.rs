//! The clusters around the filter.

use serde_json::json;

use super::{assert_accepted, assert_refused, good};

#[test]
fn a_cluster_that_is_called_must_be_there() {
    let none = good().remove_cluster("decision");
    let line = "endpoints[0].decision.cluster: the file has no cluster of that name";
    assert_refused(&none, &[line]);

    // Unless others can come.
    let source = json!({ "resource_api_version": "V3", "path_config_source": { "path": "cds.yaml" } });
    assert_accepted(&none.edit(|config| config["dynamic_resources"] = json!({ "cds_config": source })));
}
