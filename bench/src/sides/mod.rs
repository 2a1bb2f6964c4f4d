//! What is measured, each side with an Envoy of its own.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use testbed::envoy::{Bootstrap, Envoy, Launcher, repository};
use testbed::redis::Server;

use crate::process::pin;

/// The core of what is measured, and the core of everything else.
pub(crate) const MEASURED: usize = 0;
/// See [`MEASURED`].
pub(crate) const OTHERS: usize = 1;

/// The callback's path in `envoy.yaml`.
const CALLBACK: &str = "/suite/receive";

/// Every side, in the order of the table.
pub(crate) const NAMES: [&str; 5] = ["bare", "noop", "filter", "other", "redis"];

/// A side that runs.
pub(crate) struct Side {
    /// Its name: one of [`NAMES`], or the file of a module.
    pub(crate) name: String,
    /// What it is, in words.
    pub(crate) what: String,
    /// The path that requests are sent to.
    pub(crate) path: &'static str,
    /// Whose processor's time and memory count.
    pub(crate) processes: Vec<u32>,
    envoy: Envoy,
    _redis: Option<Server>,
}

impl Side {
    /// Starts one.
    ///
    /// # Errors
    /// If a program is missing or does not start.
    pub(crate) async fn start(name: &str, upstream: SocketAddr) -> Result<Self> {
        let (mut redis, mut path) = (None, CALLBACK);
        let (what, bootstrap) = match name {
            "bare" => ("bare Envoy, the same body to the same upstream".to_owned(), bare(upstream)?),
            "noop" => ("a filter that makes the same call and does nothing else".to_owned(), noop()?),
            "filter" => ("this filter".to_owned(), Bootstrap::example()?),
            "other" => {
                path = "/other";
                ("another path, beside this filter".to_owned(), Bootstrap::example()?)
            }
            "redis" => {
                let server = Server::start().await?;
                let bootstrap = Bootstrap::replica()?.cluster("record", server.port());
                redis = Some(server);
                ("this filter with dedup.redis, Redis included".to_owned(), bootstrap)
            }
            module => {
                let bootstrap = with_module(Path::new(module))?;
                (format!("this filter, built as {module}"), bootstrap)
            }
        };
        let mut bootstrap = bootstrap.concurrency(1).launcher(Launcher::Direct);
        for cluster in ["decision", "backend"] {
            bootstrap = bootstrap.cluster(cluster, upstream.port());
        }
        let envoy = Envoy::start(bootstrap).await.with_context(|| name.to_owned())?;
        let servers = [Some(envoy.process_id()), redis.as_ref().and_then(Server::process_id)];
        let processes: Vec<_> = servers.into_iter().flatten().collect();
        for process in &processes {
            pin(*process, MEASURED)?;
        }
        Ok(Self { name: name.to_owned(), what, path, processes, envoy, _redis: redis })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.envoy.address()
    }

    /// The URL that requests are sent to.
    pub(crate) fn url(&self) -> String {
        self.envoy.url(self.path)
    }
}

/// `envoy.yaml` without the filter, the callback's path routed to the upstream.
fn bare(upstream: SocketAddr) -> Result<Bootstrap> {
    let bootstrap = Bootstrap::example()?.without_filter("wecom").cluster("decision", upstream.port());
    Ok(bootstrap.edit_hcm(|hcm| {
        let route = &mut hcm["route_config"]["virtual_hosts"][0]["routes"][0];
        *route = json!({ "match": route["match"], "route": { "cluster": "decision", "timeout": "15s" } });
    }))
}

/// `envoy.yaml` with the filter that does nothing in this one's place.
fn noop() -> Result<Bootstrap> {
    with_module(&repository().join("target/wasm32-wasip1/release/noop_filter.wasm"))
}

/// `envoy.yaml` with another module, without the test bed's check of its age.
fn with_module(module: &Path) -> Result<Bootstrap> {
    let bytes = std::fs::read(module).with_context(|| format!("the module {}", module.display()))?;
    let bytes = STANDARD.encode(bytes); // the JSON form of protobuf's bytes
    Ok(Bootstrap::example()?.edit_plugin(|plugin| {
        plugin["vm_config"]["code"] = json!({ "local": { "inline_bytes": bytes } });
    }))
}

/// An upstream that decides at once: an Envoy with nothing but an answer of its own.
///
/// # Errors
/// If it does not start.
pub(crate) async fn upstream() -> Result<Envoy> {
    let config = r#"
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
    let envoy = Envoy::start(Bootstrap::from_yaml(config)?.concurrency(1).launcher(Launcher::Direct)).await?;
    pin(envoy.process_id(), OTHERS)?;
    Ok(envoy)
}
