//! The fixture of the tests against the real Envoy: an [`Edge`] is a running Envoy with the compiled
//! module, the two backends behind it, and an account and an HTTP client that play WeCom.

use anyhow::{Context, Result};

use crate::backend::Backend;
use crate::envoy::{Bootstrap, Envoy};
use crate::waiting::until;
use crate::wecom::{Account, Answer, Client, Request};

/// The callback's path in the repository's `envoy.yaml`.
pub const PATH: &str = "/suite/receive";

/// A running Envoy and its two backends. All of them end when it is dropped.
#[derive(Debug)]
pub struct Edge {
    /// Envoy with the filter.
    pub envoy: Envoy,
    /// Serves the cluster `decision`, which decides about binds.
    pub decision: Backend,
    /// Serves the cluster `backend`, which gets all other callbacks and the requests for all other paths.
    pub backend: Backend,
    /// The account whose secrets Envoy was given.
    pub account: Account,
    /// An HTTP/1.1 client that reuses its connections.
    pub client: Client,
}

/// What an [`Edge`] is to be started with.
#[derive(Debug)]
pub struct Setup {
    bootstrap: Bootstrap,
    account: Account,
    one_backend: bool,
    backend: Option<Backend>,
}

impl Setup {
    /// The repository's `envoy.yaml` with [`Account::demo`] and two backends.
    ///
    /// # Errors
    /// As [`Bootstrap::example`].
    pub fn example() -> Result<Self> {
        Ok(Self::of(Bootstrap::example()?))
    }

    /// The same with another configuration, which must have the clusters `decision` and `backend`.
    pub fn of(bootstrap: Bootstrap) -> Self {
        Self { bootstrap, account: Account::demo(), one_backend: false, backend: None }
    }

    /// Gives Envoy the secrets of that account instead.
    #[must_use]
    pub fn account(mut self, account: Account) -> Self {
        self.account = account;
        self
    }

    /// Has one backend serve both clusters: [`Edge::decision`] and [`Edge::backend`] are the same one.
    #[must_use]
    pub fn one_backend(mut self) -> Self {
        self.one_backend = true;
        self
    }

    /// The same with a backend that runs already, and may serve several Envoys.
    #[must_use]
    pub fn served_by(mut self, backend: &Backend) -> Self {
        self.backend = Some(backend.clone());
        self
    }

    /// Starts the backends, then Envoy.
    ///
    /// # Errors
    /// As [`Setup::start_with`].
    pub async fn start(self) -> Result<Edge> {
        self.start_with(|bootstrap| bootstrap).await
    }

    /// Starts the backends, then Envoy. `change` gets the configuration with the clusters' ports and
    /// the account already set, and returns the one to start Envoy with.
    ///
    /// # Errors
    /// If a backend cannot be started, or as [`Envoy::start`].
    pub async fn start_with(self, change: impl FnOnce(Bootstrap) -> Bootstrap) -> Result<Edge> {
        let Self { bootstrap, account, one_backend, backend } = self;
        let (decision, backend) = match backend {
            Some(backend) => (backend.clone(), backend),
            None => {
                let decision = Backend::start().await.context("the decision endpoint")?;
                let same = one_backend.then(|| decision.clone());
                let backend = match same {
                    Some(same) => same,
                    None => Backend::start().await.context("the other backend")?,
                };
                (decision, backend)
            }
        };
        let bootstrap =
            bootstrap.cluster("decision", decision.port()).cluster("backend", backend.port()).account(&account);
        let envoy = Envoy::start(change(bootstrap)).await?;
        Ok(Edge { envoy, decision, backend, account, client: Client::http1() })
    }
}

impl Edge {
    /// Starts everything with [`Setup::example`].
    ///
    /// # Errors
    /// As [`Edge::start_with`].
    pub async fn start() -> Result<Self> {
        Setup::example()?.start().await
    }

    /// Starts everything with [`Setup::example`], the configuration changed.
    ///
    /// # Errors
    /// As [`Setup::example`] and [`Setup::start_with`].
    pub async fn start_with(change: impl FnOnce(Bootstrap) -> Bootstrap) -> Result<Self> {
        Setup::example()?.start_with(change).await
    }

    /// The callback's URL.
    pub fn url(&self) -> String {
        self.envoy.url(PATH)
    }

    /// Sends a request to the callback's URL.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn send(&self, request: &Request) -> Result<Answer> {
        self.client.send(&self.url(), request).await
    }

    /// Two clients, each with one connection: the first client's is on worker 0, the second's on worker 1.
    ///
    /// # Errors
    /// As [`Envoy::connect`].
    pub async fn one_client_per_worker(&self) -> Result<[Client; 2]> {
        let url = self.url();
        Ok([self.envoy.connect(0, &url).await?, self.envoy.connect(1, &url).await?])
    }

    /// How many callbacks of that type have ended in that outcome, by the counter of `envoy.yaml`'s endpoint.
    ///
    /// # Errors
    /// If Envoy has no such counter.
    pub async fn ended(&self, event: &str, outcome: &str) -> Result<u64> {
        let name = format!("wasmcustom.wecom.endpoint=lock.event={event}.outcome={outcome}.callbacks_total");
        self.envoy.stat(&name).await.with_context(|| format!("no counter {name}"))
    }

    /// Waits until that many callbacks of that type have ended in that outcome.
    ///
    /// # Errors
    /// As [`Edge::ended`] and [`until`].
    pub async fn until_ended(&self, event: &str, outcome: &str, count: u64) -> Result<()> {
        self.ended(event, outcome).await?;
        let reached = async || self.ended(event, outcome).await.is_ok_and(|ended| ended == count);
        until(&format!("{count} {event} callbacks ended as {outcome}"), reached).await
    }

    /// Waits until exactly that many duplicates are waiting for the verdict on the first copy.
    ///
    /// # Errors
    /// As [`until`].
    pub async fn until_waiting(&self, count: u64) -> Result<()> {
        let waiting = async || self.envoy.stat("wasmcustom.wecom.duplicates_waiting").await == Some(count);
        until(&format!("{count} duplicates were waiting"), waiting).await
    }

    /// Asserts that Envoy had no troubles, and stops it.
    ///
    /// # Errors
    /// As [`Envoy::stop`].
    ///
    /// # Panics
    /// As [`Envoy::assert_clean`].
    pub async fn end(self) -> Result<()> {
        self.envoy.assert_clean().await;
        self.envoy.stop().await?;
        Ok(())
    }
}
