//! A real Prometheus that scrapes an Envoy, and promtool.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use testbed::backend::free_port;
use testbed::files::repository;
use testbed::waiting::PATIENCE;
use testbed::wecom::Client;

/// A running Prometheus. It ends when dropped.
#[derive(Debug)]
pub(crate) struct Prometheus {
    process: Child,
    folder: TempDir,
    url: String,
    client: Client,
}

impl Prometheus {
    /// Starts one that scrapes Envoy's admin interface at that address.
    pub(crate) async fn scraping(admin: SocketAddr) -> Self {
        let scrape = serde_json::json!({
            "global": { "scrape_interval": "500ms" },
            "scrape_configs": [{
                "job_name": "envoy",
                "metrics_path": "/stats/prometheus",
                "static_configs": [{ "targets": [admin.to_string()] }]
            }]
        });
        Self::configured(&scrape).await
    }

    /// Starts one with that configuration.
    pub(crate) async fn configured(settings: &Value) -> Self {
        let folder = tempfile::Builder::new().prefix("prometheus-").tempdir().unwrap();
        let config = folder.path().join("prometheus.yml");
        fs::write(&config, settings.to_string()).unwrap();
        let address = format!("127.0.0.1:{}", free_port().await.unwrap());
        let process = Command::new(program("prometheus"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        Self { process, folder, url: format!("http://{address}"), client: Client::http1() }
    }

    /// The value of each series that an expression gives, by the values of these labels.
    pub(crate) async fn query(&self, expression: &str, labels: &[&str]) -> Result<BTreeMap<Vec<String>, f64>, String> {
        let url = format!("{}/api/v1/query?query={}", self.url, encode(expression));
        let answer = self.client.get(&url).await.map_err(|error| error.to_string())?;
        let answer = answer.json().map_err(|error| error.to_string())?;
        let results = answer["data"]["result"].as_array().ok_or_else(|| answer.to_string())?;
        let number = |result: &Value| result["value"][1].as_str()?.parse().ok();
        let label = |result: &Value, name: &str| result["metric"][name].as_str().unwrap_or_default().to_owned();
        Ok(results
            .iter()
            .map(|result| (labels.iter().map(|name| label(result, name)).collect(), number(result).unwrap()))
            .collect())
    }

    /// Repeats a query until its answer is as wanted. After [`PATIENCE`] returns the last answer anyway.
    pub(crate) async fn query_until(
        &self,
        expression: &str,
        labels: &[&str],
        wanted: impl Fn(&BTreeMap<Vec<String>, f64>) -> bool,
    ) -> BTreeMap<Vec<String>, f64> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.query(expression, labels).await;
            match answer {
                Ok(answer) if wanted(&answer) || Instant::now() >= deadline => return answer,
                Err(error) if Instant::now() >= deadline => panic!("{error}\n{}", self.log()),
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// The names of all alerts that it has loaded.
    pub(crate) async fn alert_names(&self) -> Vec<String> {
        let url = format!("{}/api/v1/rules?type=alert", self.url);
        let answer = self.client.get(&url).await.unwrap().json().unwrap();
        let groups = answer["data"]["groups"].as_array().unwrap().iter();
        let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
        rules.map(|rule| rule["name"].as_str().unwrap().to_owned()).collect()
    }

    /// The names of all metrics that were ever scraped.
    pub(crate) async fn metric_names(&self) -> Vec<String> {
        let url = format!("{}/api/v1/label/__name__/values", self.url);
        let answer = self.client.get(&url).await.unwrap().json().unwrap();
        serde_json::from_value(answer["data"].clone()).unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Its data is thrown away, so it need not shut down cleanly.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether Prometheus is not installed, which is reported. In CI that is an error.
pub(crate) fn is_missing() -> bool {
    let missing = ["prometheus", "promtool"].iter().any(|name| !program(name).is_file());
    if missing {
        assert!(std::env::var_os("CI").is_none(), "no prometheus in target/tools/bin: run `make setup-prometheus`");
        eprintln!("SKIPPED: there is no prometheus with promtool here; see `make setup-prometheus`");
    }
    missing
}

/// Runs promtool, which must succeed, and returns its output.
pub(crate) fn promtool(arguments: &[&str]) -> String {
    let output = Command::new(program("promtool")).args(arguments).current_dir(repository()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
    said
}

fn program(name: &str) -> PathBuf {
    repository().join("target/tools/bin").join(name)
}

fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric().then(|| char::from(byte).to_string());
    text.bytes().map(|byte| plain(byte).unwrap_or_else(|| format!("%{byte:02X}"))).collect()
}
