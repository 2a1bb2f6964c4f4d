//! What is measured, each side with an Envoy of its own.

pub(crate) mod envoys;
pub(crate) mod vendors;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use testbed::envoy::{Bootstrap, Envoy, Launcher};
use testbed::redis;
use testbed::wecom::{Account, Client, Event};

use self::vendors::Vendor;
use crate::load::Load;
use crate::process::{cpu_us, pin, resident_mib, tree};

/// The core of what is measured, and the core of everything else.
pub(crate) const MEASURED: usize = 0;
/// See [`MEASURED`].
pub(crate) const OTHERS: usize = 1;

/// The callback's path in `envoy.yaml`.
pub(crate) const CALLBACK: &str = "/suite/receive";

/// Every side, in the order of the table.
pub(crate) const NAMES: [&str; 8] = ["bare", "noop", "filter", "other", "redis", "node", "python", "go"];

/// A side that runs.
pub(crate) struct Side {
    /// Its name: one of [`NAMES`], or the file of a module.
    pub(crate) name: String,
    /// What it is, in words.
    pub(crate) what: String,
    /// What is sent to it.
    pub(crate) load: Load,
    /// Whether it answers as WeCom's protocol says: encrypted.
    seals: bool,
    envoy: Envoy,
    redis: Option<redis::Server>,
    vendor: Option<vendors::Server>,
}

impl Side {
    /// Starts one; or says why it cannot be measured on this machine.
    ///
    /// # Errors
    /// If it does not start, or does not answer a bind rightly.
    pub(crate) async fn start(name: &str, upstream: SocketAddr) -> Result<Result<Self, String>> {
        let (mut redis, mut vendor, mut path, mut seals) = (None, None, CALLBACK, true);
        let (what, bootstrap) = match name {
            "bare" => {
                seals = false;
                ("bare Envoy, the same body to the same upstream".to_owned(), envoys::bare(upstream.port())?)
            }
            "noop" => {
                seals = false;
                ("a filter that makes the same call and does nothing else".to_owned(), envoys::noop()?)
            }
            "filter" => ("this filter".to_owned(), envoys::roomy(Bootstrap::example()?)),
            "other" => {
                (path, seals) = ("/other", false);
                ("another path, beside this filter".to_owned(), Bootstrap::example()?)
            }
            "redis" => {
                let server = redis::Server::start().await?;
                pin(server.process_id().context("Redis does not run")?, MEASURED)?;
                let bootstrap = envoys::roomy(Bootstrap::replica()?.cluster("record", server.port()));
                redis = Some(server);
                ("this filter with dedup.redis, Redis included".to_owned(), bootstrap)
            }
            "node" | "python" | "go" => {
                let which = match name {
                    "node" => Vendor::Node,
                    "python" => Vendor::Python,
                    _ => Vendor::Go,
                };
                if let Some(reason) = which.missing() {
                    return Ok(Err(reason));
                }
                let server = vendors::Server::start(which, upstream).await.context(which.what())?;
                let bootstrap = envoys::bare(server.port())?;
                vendor = Some(server);
                (which.what().to_owned(), bootstrap)
            }
            module => {
                let bootstrap = envoys::roomy(envoys::with_module(Path::new(module))?);
                (format!("this filter, built as {module}"), bootstrap)
            }
        };
        // A vendor's server stands where the upstream of bare Envoy does.
        let decision = vendor.as_ref().map_or(upstream.port(), vendors::Server::port);
        let bootstrap = envoys::unbroken(bootstrap).cluster("decision", decision).cluster("backend", upstream.port());
        let envoy = Envoy::start(bootstrap.concurrency(1).launcher(Launcher::Direct));
        let envoy = envoy.await.with_context(|| name.to_owned())?;
        pin(envoy.process_id(), MEASURED)?;
        let side = Self { name: name.to_owned(), what, load: Load::to(path), seals, envoy, redis, vendor };
        side.check().await.with_context(|| format!("the side '{name}'"))?;
        Ok(Ok(side))
    }

    /// Starts the filter with any configuration and any load.
    ///
    /// # Errors
    /// As [`Side::start`].
    pub(crate) async fn of_filter(name: &str, bootstrap: Bootstrap, upstream: u16, load: Load) -> Result<Self> {
        let bootstrap = envoys::unbroken(bootstrap).cluster("decision", upstream).cluster("backend", upstream);
        // A thousand endpoints have metrics that take Envoy ten seconds.
        let bootstrap = bootstrap.concurrency(1).launcher(Launcher::Direct).start_limit(Duration::from_secs(120));
        let envoy = Envoy::start(bootstrap).await?;
        pin(envoy.process_id(), MEASURED)?;
        let (name, what) = (name.to_owned(), "this filter".to_owned());
        let side = Self { name, what, load, seals: true, envoy, redis: None, vendor: None };
        side.check().await.with_context(|| format!("the filter at {}", side.name))?;
        Ok(side)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.envoy.address()
    }

    /// The processor's time that its Envoy has taken so far, and that of its other servers, in microseconds.
    ///
    /// # Errors
    /// If one of them has ended.
    pub(crate) fn cpu_us(&self) -> Result<(f64, f64)> {
        Ok((cpu_us(&[self.envoy.process_id()])?, cpu_us(&self.others()?)?))
    }

    /// The memory of all its processes, in MiB.
    ///
    /// # Errors
    /// As [`Side::cpu_us`].
    pub(crate) fn resident_mib(&self) -> Result<f64> {
        Ok(resident_mib(&[self.envoy.process_id()])? + resident_mib(&self.others()?)?)
    }

    fn others(&self) -> Result<Vec<u32>> {
        let mut processes = Vec::new();
        processes.extend(self.redis.as_ref().and_then(redis::Server::process_id));
        if let Some(vendor) = &self.vendor {
            processes.extend(tree(vendor.process_id())?);
        }
        Ok(processes)
    }

    /// Sends one bind: where answers are encrypted, it must be bound.
    ///
    /// # Errors
    /// If it is not.
    pub(crate) async fn check(&self) -> Result<()> {
        let account: &Account = &self.load.account;
        let answer =
            Client::http1().send(&self.envoy.url(&self.load.path), &account.seal(Event::bind("sn-check"))).await?;
        ensure!(answer.status == 200, "a bind was answered {}: {}", answer.status, answer.text());
        if self.seals {
            let reply = answer.decrypt(account)?;
            if reply.errcode() != Some(0) {
                bail!("a bind was answered {}", reply.text());
            }
        }
        Ok(())
    }

    /// How many binds the filter has bound so far, by its own count; none where it is not in use.
    ///
    /// # Errors
    /// If Envoy's admin interface does not answer.
    pub(crate) async fn bound(&self) -> Result<Option<u64>> {
        if !self.seals || self.vendor.is_some() {
            return Ok(None);
        }
        let stats = self.envoy.stats().await?;
        let bound =
            stats.iter().filter(|(name, _)| name.starts_with("wasmcustom.wecom") && name.contains("outcome=bound"));
        Ok(Some(bound.map(|(_, count)| count).sum()))
    }
}
