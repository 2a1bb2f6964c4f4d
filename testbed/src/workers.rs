//! Connections to a chosen worker of Envoy. Each worker has its own virtual machine, so a test that
//! compares workers must know which one serves a request.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::envoy::{Bootstrap, Envoy};
use crate::wecom::Client;

impl Bootstrap {
    /// Has the first listener give every new connection to the worker with the fewest.
    #[must_use]
    pub fn balanced(self) -> Self {
        self.edit(|config| {
            config["static_resources"]["listeners"][0]["connection_balance_config"] = json!({ "exact_balance": {} });
        })
    }
}

impl Envoy {
    /// How many connections each worker has been given so far, by the worker's number.
    ///
    /// # Errors
    /// If the admin interface does not answer.
    pub async fn connections_given(&self) -> Result<Vec<u64>> {
        self.per_worker("downstream_cx_total").await
    }

    /// How many connections each worker holds, by the worker's number.
    ///
    /// # Errors
    /// If the admin interface does not answer.
    pub async fn connections_held(&self) -> Result<Vec<u64>> {
        self.per_worker("downstream_cx_active").await
    }

    /// A client whose one HTTP/2 connection is on that worker. Connections are opened, and kept, until
    /// one ends up there, so use [`Bootstrap::balanced`], and let nobody else connect meanwhile.
    ///
    /// # Errors
    /// If `url`, which every connection requests once, does not answer, or if none of 32 connections
    /// ends up on that worker.
    pub async fn connect(&self, worker: usize, url: &str) -> Result<Client> {
        let mut others = Vec::new();
        while others.len() < 32 {
            let before = self.connections_given().await?;
            let client = Client::http2();
            client.get(url).await?;
            let after = self.connections_given().await?;
            let grown: Vec<_> = (0..after.len()).filter(|&n| before.get(n) != after.get(n)).collect();
            ensure!(grown.len() == 1, "one connection was made, and now {before:?} are {after:?}");
            if grown == [worker] {
                return Ok(client);
            }
            others.push(client);
        }
        anyhow::bail!("of {} connections none ended up on worker {worker}", others.len())
    }

    async fn per_worker(&self, name: &str) -> Result<Vec<u64>> {
        let stats = self.stats().await?;
        let of_worker = |worker: usize| {
            let end = format!(".worker_{worker}.{name}");
            stats
                .iter()
                .filter(|(stat, _)| stat.starts_with("listener.") && stat.ends_with(&end))
                .map(|(_, n)| *n)
                .max()
        };
        Ok((0..).map_while(of_worker).collect())
    }
}
