//! The configurations of Envoy that are measured, and the upstream behind them.

use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use testbed::envoy::{Bootstrap, Envoy, Launcher};
use testbed::files::repository;

use super::OTHERS;
use crate::process::pin;

/// `envoy.yaml` without the filter, the callback's path routed to that port: the upstream's, or that of a
/// server in front of it.
///
/// # Errors
/// If the file cannot be read.
pub(crate) fn bare(port: u16) -> Result<Bootstrap> {
    let bootstrap = Bootstrap::example()?.without_filter("wecom").cluster("decision", port);
    Ok(bootstrap.edit_hcm(|hcm| {
        let route = &mut hcm["route_config"]["virtual_hosts"][0]["routes"][0];
        *route = json!({ "match": route["match"], "route": { "cluster": "decision", "timeout": "15s" } });
    }))
}

/// `envoy.yaml` with the filter that does nothing in this one's place.
///
/// # Errors
/// If it is not built.
pub(crate) fn noop() -> Result<Bootstrap> {
    with_module(&repository().join("target/wasm32-wasip1/release/noop_filter.wasm"))
}

/// `envoy.yaml` with another module, without the test bed's check of its age.
///
/// # Errors
/// If there is no such file.
pub(crate) fn with_module(module: &Path) -> Result<Bootstrap> {
    let bytes = std::fs::read(module).with_context(|| format!("the module {}", module.display()))?;
    let bytes = STANDARD.encode(bytes); // the JSON form of protobuf's bytes
    Ok(Bootstrap::example()?.edit_plugin(|plugin| {
        plugin["vm_config"]["code"] = json!({ "local": { "inline_bytes": bytes } });
    }))
}

/// Room for every record of a run: with the table of `envoy.yaml` full, callbacks are refused at once, and
/// that would be measured.
#[must_use]
pub(crate) fn roomy(bootstrap: Bootstrap) -> Bootstrap {
    bootstrap.edit_plugin_value(|value| value["dedup"]["capacity"] = json!(1_048_576))
}

/// Room for every request that waits: where this machine stands still for a moment, those that piled up are
/// late, not refused.
#[must_use]
pub(crate) fn unbroken(bootstrap: Bootstrap) -> Bootstrap {
    ["decision", "backend"].into_iter().fold(bootstrap, |bootstrap, name| {
        bootstrap.edit_cluster(name, |cluster| {
            let most = 20_000;
            cluster["circuit_breakers"] = json!({ "thresholds": [
                { "max_connections": most, "max_pending_requests": most, "max_requests": most }
            ] });
        })
    })
}

/// An upstream that decides after a while, or at once: an Envoy with nothing but an answer of its own.
///
/// # Errors
/// If it does not start.
pub(crate) async fn upstream(delay_ms: u64) -> Result<Envoy> {
    let bootstrap = Bootstrap::from_yaml(UPSTREAM)?.edit_hcm(|hcm| {
        if delay_ms > 0
            && let Some(filters) = hcm["http_filters"].as_array_mut()
        {
            filters.insert(
                0,
                json!({ "name": "envoy.filters.http.fault", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
                    "delay": {
                        "fixed_delay": format!("{:.3}s", delay_ms as f64 / 1000.0),
                        "percentage": { "numerator": 100 }
                    }
                } }),
            );
        }
    });
    let envoy = Envoy::start(bootstrap.concurrency(1).launcher(Launcher::Direct)).await?;
    pin(envoy.process_id(), OTHERS)?;
    Ok(envoy)
}

const UPSTREAM: &str = r#"
admin: {}
static_resources:
  listeners:
    - name: edge
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: upstream
                route_config:
                  virtual_hosts:
                    - name: upstream
                      domains: ["*"]
                      routes:
                        - match: { prefix: / }
                          direct_response: { status: 200, body: { inline_string: '{"errcode":0}' } }
                          response_headers_to_add:
                            - header: { key: content-type, value: application/json }
                http_filters:
                  # Answers once the body is there: an answer before that closes the connection.
                  - name: envoy.filters.http.buffer
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer
                      max_request_bytes: 1048576
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
"#;
