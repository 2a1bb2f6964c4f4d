//! The real Envoy, started on free ports with the repository's own `envoy.yaml`, and stopped when its
//! handle is dropped.
//!
//! It is started through func-e where that is installed, as the README tells users to. Everything
//! it writes stays in a folder of its own. Where the programs are:
//!
//! | what | environment | otherwise |
//! |---|---|---|
//! | Envoy | `ENVOY` | `target/tools/bin/envoy` |
//! | func-e | `FUNC_E` | `target/tools/bin/func-e` |

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::module;
use crate::redis;
use crate::waiting::until_some;
use crate::wecom::{Account, Answer, Client};

/// The configuration, environment and command line to start an Envoy with.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    config: Value,
    text: Option<String>,
    module: Option<PathBuf>,
    concurrency: u32,
    log_level: String,
    component_log_level: String,
    environment: BTreeMap<String, Option<String>>,
    arguments: Vec<String>,
    launcher: Launcher,
    start_limit: Duration,
}

/// What starts Envoy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Launcher {
    /// func-e where it is installed, else as [`Launcher::Direct`].
    FuncEIfThere,
    /// func-e.
    FuncE,
    /// Nothing else: Envoy itself is started.
    Direct,
}

impl Bootstrap {
    /// The repository's `envoy.yaml`, its listeners and admin interface moved to free ports of the
    /// loopback address, the secrets of [`Account::demo`] in the environment.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn example() -> Result<Self> {
        Self::from_yaml(&read("envoy.yaml")?).context("envoy.yaml")
    }

    /// The repository's `deploy/dynamic/envoy.yaml`, likewise; it reads the filter from that file, which
    /// must be there. [`dynamic_filter`] is what to write into it.
    ///
    /// # Errors
    /// If the configuration cannot be read.
    pub fn dynamic(filter: &Path) -> Result<Self> {
        let source = "/http_filters/0/config_discovery/config_source/path_config_source/path";
        let filter = filter.to_str().context("the path of the filter's file is no UTF-8")?;
        let mut bootstrap =
            Self::from_yaml(&read("deploy/dynamic/envoy.yaml")?).context("deploy/dynamic/envoy.yaml")?;
        *hcm(&mut bootstrap.config).pointer_mut(source).with_context(|| format!("no {source}"))? = filter.into();
        Ok(bootstrap)
    }

    /// The repository's `deploy/replicas/envoy.yaml`, likewise, with the secrets of [`crate::redis`] in the
    /// environment. Its cluster `record` is to be pointed at a Redis.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn replica() -> Result<Self> {
        let file = "deploy/replicas/envoy.yaml";
        Ok(Self::from_yaml(&read(file)?)
            .context(file)?
            .env("WECOM_RECORD_SECRET", redis::SECRET)
            .env("WECOM_RECORD_PASSWORD", redis::PASSWORD))
    }

    /// The same with another file's text.
    ///
    /// # Errors
    /// If it is not valid YAML.
    pub fn from_yaml(text: &str) -> Result<Self> {
        let mut config: Value = serde_saphyr::from_str(text).map_err(|error| anyhow::anyhow!("{error}"))?;
        let free = || json!({ "socket_address": { "address": "127.0.0.1", "port_value": 0 } });
        config["admin"]["address"] = free();
        for listener in
            config.pointer_mut("/static_resources/listeners").and_then(Value::as_array_mut).into_iter().flatten()
        {
            listener["address"] = free();
        }
        let account = Account::demo();
        Ok(Self {
            config,
            text: None,
            module: None,
            concurrency: 2,
            log_level: "warn".to_owned(),
            component_log_level: "wasm:info".to_owned(),
            environment: BTreeMap::new(),
            arguments: Vec::new(),
            launcher: Launcher::FuncEIfThere,
            start_limit: START_LIMIT,
        }
        .account(&account))
    }

    /// Puts the secrets of that account into Envoy's environment.
    #[must_use]
    pub fn account(self, account: &Account) -> Self {
        self.env("WECOM_TOKEN", account.token()).env("WECOM_ENCODING_AES_KEY", account.encoding_aes_key())
    }

    /// Sets a variable of Envoy's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), Some(value.to_owned()));
        self
    }

    /// Removes a variable from Envoy's environment.
    #[must_use]
    pub fn without_env(mut self, name: &str) -> Self {
        self.environment.insert(name.to_owned(), None);
        self
    }

    /// Changes the configuration in any way.
    #[must_use]
    pub fn edit(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.config);
        self
    }

    /// Changes the HTTP connection manager of the first listener.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn edit_hcm(self, change: impl FnOnce(&mut Value)) -> Self {
        self.edit(|config| change(hcm(config)))
    }

    /// Changes the filter's plugin configuration as a whole: `config` with `name`, `vm_config`,
    /// `configuration` and the rest.
    ///
    /// # Panics
    /// If there is no filter named `wecom`.
    #[must_use]
    pub fn edit_plugin(self, change: impl FnOnce(&mut Value)) -> Self {
        self.edit(|config| {
            let filter = filters(config).iter_mut().find(|filter| filter["name"] == "wecom");
            change(&mut filter.expect("a filter named wecom")["typed_config"]["config"]);
        })
    }

    /// The filter's own configuration, as it is in the file.
    ///
    /// # Panics
    /// If there is no filter named `wecom` with a Struct for its configuration.
    pub fn plugin_value(&self) -> Value {
        let mut config = self.config.clone();
        let filter = filters(&mut config).iter_mut().find(|filter| filter["name"] == "wecom");
        filter.expect("a filter named wecom")["typed_config"]["config"]["configuration"]["value"].clone()
    }

    /// Changes the filter's own configuration, which stays a Struct.
    ///
    /// # Panics
    /// As [`Bootstrap::plugin_value`].
    #[must_use]
    pub fn edit_plugin_value(self, change: impl FnOnce(&mut Value)) -> Self {
        let mut value = self.plugin_value();
        change(&mut value);
        self.plugin_struct(value)
    }

    /// Configures the filter with JSON text, well-formed or not, as a `StringValue`.
    #[must_use]
    pub fn plugin(self, json: &str) -> Self {
        self.edit_plugin(|plugin| {
            plugin["configuration"] =
                json!({ "@type": "type.googleapis.com/google.protobuf.StringValue", "value": json });
        })
    }

    /// Configures the filter with a `Struct`.
    #[must_use]
    pub fn plugin_struct(self, value: Value) -> Self {
        self.edit_plugin(|plugin| {
            plugin["configuration"] = json!({ "@type": "type.googleapis.com/google.protobuf.Struct", "value": value });
        })
    }

    /// Removes the filter of that name from the chain.
    #[must_use]
    pub fn without_filter(self, name: &str) -> Self {
        self.edit(|config| filters(config).retain(|filter| filter["name"] != name))
    }

    /// Has the filter on for every route, instead of for the callback's alone.
    ///
    /// # Panics
    /// If it is so already.
    #[must_use]
    pub fn always_on(self) -> Self {
        self.edit_hcm(|hcm| {
            let taken = hcm["http_filters"][0].as_object_mut().and_then(|filter| filter.remove("disabled"));
            assert_eq!(taken, Some(true.into()), "the filter was off");
            let route = hcm["route_config"]["virtual_hosts"][0]["routes"][0].as_object_mut();
            let taken = route.and_then(|route| route.remove("typed_per_filter_config"));
            assert!(taken.is_some(), "the callback's route switched it on");
        })
    }

    /// Points a cluster at that port of the loopback address.
    ///
    /// # Panics
    /// If there is no such cluster.
    #[must_use]
    pub fn cluster(self, name: &str, port: u16) -> Self {
        self.edit_cluster(name, |cluster| {
            cluster["load_assignment"] = json!({
                "cluster_name": name,
                "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": { "socket_address": {
                    "address": "127.0.0.1", "port_value": port
                } } } }] }]
            });
        })
    }

    /// Changes a cluster in any way.
    ///
    /// # Panics
    /// If there is no such cluster.
    #[must_use]
    pub fn edit_cluster(self, name: &str, change: impl FnOnce(&mut Value)) -> Self {
        self.edit(|config| {
            let cluster = clusters(config).iter_mut().find(|cluster| cluster["name"] == name);
            change(cluster.unwrap_or_else(|| panic!("no cluster named {name}")));
        })
    }

    /// Adds a cluster with one endpoint, at that port of the loopback address.
    #[must_use]
    pub fn add_cluster(self, name: &str, port: u16) -> Self {
        self.edit(|config| {
            clusters(config).push(json!({ "name": name, "type": "STATIC", "connect_timeout": "0.5s" }));
        })
        .cluster(name, port)
    }

    /// Removes a cluster.
    #[must_use]
    pub fn remove_cluster(self, name: &str) -> Self {
        self.edit(|config| clusters(config).retain(|cluster| cluster["name"] != name))
    }

    /// Uses this text as Envoy's configuration, unchanged, instead of what was read and edited. Envoy's
    /// working directory is then the repository's root.
    #[must_use]
    pub fn verbatim(mut self, text: &str) -> Self {
        self.text = Some(text.to_owned());
        self
    }

    /// Uses another module than [`module::built`].
    #[must_use]
    pub fn module(mut self, path: impl Into<PathBuf>) -> Self {
        self.module = Some(path.into());
        self
    }

    /// Sets the number of workers, 2 by default.
    #[must_use]
    pub fn concurrency(mut self, workers: u32) -> Self {
        self.concurrency = workers;
        self
    }

    /// Sets Envoy's log level, `warn` by default.
    #[must_use]
    pub fn log_level(mut self, level: &str) -> Self {
        level.clone_into(&mut self.log_level);
        self
    }

    /// Sets the log levels of Envoy's components, `wasm:info` by default.
    #[must_use]
    pub fn component_log_level(mut self, levels: &str) -> Self {
        levels.clone_into(&mut self.component_log_level);
        self
    }

    /// Adds an argument to Envoy's command line.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// What starts Envoy.
    #[must_use]
    pub fn launcher(mut self, launcher: Launcher) -> Self {
        self.launcher = launcher;
        self
    }

    /// How long [`Envoy::start`] waits for it, 20 s by default.
    #[must_use]
    pub fn start_limit(mut self, limit: Duration) -> Self {
        self.start_limit = limit;
        self
    }

    /// The whole configuration as Envoy would get it, except for the module's path.
    pub fn config(&self) -> &Value {
        &self.config
    }
}

/// A running Envoy. It is stopped when dropped; if a test panicked, the end of its log is printed.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    admin: SocketAddr,
    listeners: BTreeMap<String, SocketAddr>,
    client: Client,
}

impl Envoy {
    /// Starts Envoy and waits until it serves.
    ///
    /// # Errors
    /// If a program is missing, as [`module::check`], or if Envoy ends or is not ready within 20 s, or what
    /// [`Bootstrap::start_limit`] says.
    pub async fn start(bootstrap: Bootstrap) -> Result<Self> {
        let limit = bootstrap.start_limit;
        let mut process = Process::spawn(bootstrap)?;
        let client = Client::http1();
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = process.child.try_wait()? {
                bail!("Envoy exited at once ({status}):\n{}", process.tail(TAIL_LINES));
            }
            if let Some(admin) = process.admin_address()
                && client.get(&format!("http://{admin}/ready")).await.is_ok_and(|ready| ready.status == 200)
            {
                let listeners = listeners(&client, admin).await?;
                return Ok(Self { process, admin, listeners, client });
            }
            ensure!(Instant::now() < deadline, "Envoy was not ready in time:\n{}", process.tail(TAIL_LINES));
            tokio::time::sleep(POLL).await;
        }
    }

    /// Starts an Envoy that must refuse its configuration, and returns its log.
    ///
    /// # Errors
    /// If it does not exit by itself, exits with success, or cannot be started at all.
    pub async fn start_expecting_failure(bootstrap: Bootstrap) -> Result<String> {
        let mut process = Process::spawn(bootstrap)?;
        let client = Client::http1();
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if let Some(status) = process.child.try_wait()? {
                ensure!(!status.success(), "Envoy exited with success:\n{}", process.tail(TAIL_LINES));
                return Ok(process.log());
            }
            if let Some(admin) = process.admin_address()
                && client.get(&format!("http://{admin}/ready")).await.is_ok_and(|ready| ready.status == 200)
            {
                bail!("Envoy accepted the configuration:\n{}", process.tail(TAIL_LINES));
            }
            ensure!(Instant::now() < deadline, "Envoy neither exited nor became ready:\n{}", process.tail(TAIL_LINES));
            tokio::time::sleep(POLL).await;
        }
    }

    /// Has Envoy check its configuration with `--mode validate`, and returns its exit status and output.
    ///
    /// # Errors
    /// If it does not exit within 20 s, or cannot be started at all.
    pub async fn validate(bootstrap: Bootstrap) -> Result<(ExitStatus, String)> {
        let bootstrap = bootstrap.argument("--mode").argument("validate").launcher(Launcher::Direct);
        let mut process = Process::spawn(bootstrap)?;
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if let Some(status) = process.child.try_wait()? {
                return Ok((status, process.log()));
            }
            ensure!(Instant::now() < deadline, "Envoy did not exit:\n{}", process.tail(TAIL_LINES));
            tokio::time::sleep(POLL).await;
        }
    }

    /// The URL of a path on the first listener.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    /// The first listener's address.
    pub fn address(&self) -> SocketAddr {
        self.listener("edge").or_else(|| self.listeners.values().next().copied()).unwrap_or(self.admin)
    }

    /// The address of the listener of that name.
    pub fn listener(&self, name: &str) -> Option<SocketAddr> {
        self.listeners.get(name).copied()
    }

    /// The admin interface's address.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Reads from the admin interface.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn admin(&self, path: &str) -> Result<Answer> {
        self.client.get(&format!("http://{}{path}", self.admin)).await
    }

    /// Sends a POST to the admin interface.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn admin_post(&self, path: &str) -> Result<Answer> {
        self.client.post(&format!("http://{}{path}", self.admin), "").await
    }

    /// All counters and gauges.
    ///
    /// # Errors
    /// If the admin interface does not answer.
    pub async fn stats(&self) -> Result<BTreeMap<String, u64>> {
        let text = self.admin("/stats").await?.text();
        let numbers = text.lines().filter_map(|line| {
            let (name, value) = line.rsplit_once(": ")?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Ok(numbers.collect())
    }

    /// One counter or gauge, by its full name.
    pub async fn stat(&self, name: &str) -> Option<u64> {
        self.stats().await.ok()?.get(name).copied()
    }

    /// The metrics as Prometheus reads them.
    ///
    /// # Errors
    /// If the admin interface does not answer.
    pub async fn prometheus(&self) -> Result<String> {
        Ok(self.admin("/stats/prometheus").await?.text())
    }

    /// Everything it has logged so far, without the access log.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Waits until its log contains that text.
    ///
    /// # Errors
    /// As [`until_some`].
    pub async fn wait_for_log(&self, text: &str) -> Result<()> {
        let found = until_some("the log contained a text", || self.log().contains(text).then_some(())).await;
        found.with_context(|| format!("not in the log: {text}\n{}", self.process.tail(TAIL_LINES)))
    }

    /// The access log's lines so far. A line may come a little later than its answer.
    pub fn access_log(&self) -> Vec<Value> {
        self.process.access_log()
    }

    /// Waits for an access log line.
    ///
    /// # Errors
    /// As [`until_some`].
    pub async fn access_log_line(&self, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let look = || self.access_log().into_iter().find(|line| wanted(line));
        let found = until_some("the access log had a line", look).await;
        found.with_context(|| format!("no such line in the access log: {:?}", self.access_log()))
    }

    /// Everything that happened though it never should: panics, calls that the list of capabilities
    /// does not allow, restarts of a virtual machine.
    ///
    /// # Errors
    /// If the admin interface does not answer.
    pub async fn troubles(&self) -> Result<Vec<String>> {
        const NEVER: [&str; 3] = ["panicked", "restricted", "Function: proxy_"];
        let log = self.log();
        let lines = log.lines().filter(|line| NEVER.iter().any(|word| line.contains(word))).map(str::to_owned);
        let reloads = self.stats().await?.into_iter().filter(|(name, count)| name.contains("vm_reload") && *count > 0);
        Ok(lines.chain(reloads.map(|(name, count)| format!("{name}: {count}"))).collect())
    }

    /// Asserts that there were no [`Envoy::troubles`].
    ///
    /// # Panics
    /// If there were any.
    pub async fn assert_clean(&self) {
        let troubles = self.troubles().await.expect("the admin interface answers");
        assert!(troubles.is_empty(), "Envoy is in trouble:\n{}", troubles.join("\n"));
    }

    /// The folder of its files.
    pub fn folder(&self) -> &Path {
        self.process.folder.path()
    }

    /// The process that was started: Envoy itself with [`Launcher::Direct`], otherwise its parent func-e.
    pub fn process_id(&self) -> u32 {
        self.process.child.id()
    }

    /// Kills it, with everything that is in progress, and waits until its processes are gone.
    ///
    /// # Errors
    /// If they do not go.
    pub fn kill(mut self) -> Result<()> {
        self.process.kill();
        ensure!(self.process.gone_within(STOP_LIMIT), "Envoy did not exit after SIGKILL");
        Ok(())
    }

    /// Terminates it and waits until its processes are gone.
    ///
    /// # Errors
    /// If it had to be killed.
    pub async fn stop(mut self) -> Result<ExitStatus> {
        self.process.terminate();
        let deadline = Instant::now() + STOP_LIMIT;
        loop {
            if let Some(status) = self.process.child.try_wait()?
                && !self.process.group_lives()
            {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "Envoy did not exit after SIGTERM:\n{}", self.process.tail(TAIL_LINES));
            tokio::time::sleep(POLL).await;
        }
    }
}

const START_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);
const TAIL_LINES: usize = 40;

/// The process of Envoy, or of func-e with Envoy as its child, and its files.
#[derive(Debug)]
struct Process {
    child: Child,
    group: Pid,
    folder: TempDir,
}

impl Process {
    fn spawn(mut bootstrap: Bootstrap) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("testbed-envoy-").tempdir()?;
        place_module(&mut bootstrap)?;
        let config = match &bootstrap.text {
            Some(text) => {
                let config = folder.path().join("envoy.yaml");
                fs::write(&config, text)?;
                config
            }
            None => {
                for_this_envoy(&mut bootstrap.config)?;
                let config = folder.path().join("envoy.json");
                fs::write(&config, serde_json::to_vec_pretty(&bootstrap.config)?)?;
                config
            }
        };

        let envoy = program("ENVOY", "envoy")?;
        let func_e = match bootstrap.launcher {
            Launcher::Direct => None,
            Launcher::FuncE => Some(program("FUNC_E", "func-e")?),
            Launcher::FuncEIfThere => program("FUNC_E", "func-e").ok(),
        };
        let mut command = match func_e {
            Some(func_e) => {
                let mut command = Command::new(func_e);
                command.arg("run").env("ENVOY_PATH", envoy).env("FUNC_E_RUN_ID", "testbed").env_remove("FUNC_E_HOME");
                for part in ["CONFIG_HOME", "DATA_HOME", "STATE_HOME", "RUNTIME_DIR"] {
                    command.env(format!("FUNC_E_{part}"), folder.path().join("func-e").join(part.to_lowercase()));
                }
                command
            }
            None => Command::new(envoy),
        };
        if bootstrap.text.is_some() {
            command.current_dir(repository());
        }
        command
            .arg("-c")
            .arg(&config)
            .args(["--concurrency", &bootstrap.concurrency.to_string()])
            .args(["--log-level", &bootstrap.log_level, "--component-log-level", &bootstrap.component_log_level])
            // Several Envoys may run at the same time, so none may use the shared memory of hot restart.
            .arg("--disable-hot-restart")
            // Tests wait for access log lines, which Envoy buffers for up to 10 s by default.
            .args(["--file-flush-interval-msec", "20"])
            .arg("--admin-address-path")
            .arg(folder.path().join(ADMIN_ADDRESS))
            .args(&bootstrap.arguments)
            .stdin(Stdio::null())
            .stdout(File::create(folder.path().join(STDOUT))?)
            .stderr(File::create(folder.path().join(STDERR))?)
            // Its own process group, which can be signalled as a whole.
            .process_group(0);
        for (name, value) in &bootstrap.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let child = command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process id out of range")?;
        Ok(Self { child, group, folder })
    }

    fn admin_address(&self) -> Option<SocketAddr> {
        fs::read_to_string(self.folder.path().join(ADMIN_ADDRESS)).ok()?.trim().parse().ok()
    }

    fn log(&self) -> String {
        let stdout = self.read(STDOUT);
        let mut log: String = stdout.lines().filter(|line| !line.starts_with('{')).flat_map(|l| [l, "\n"]).collect();
        log.push_str(&self.read(STDERR));
        log
    }

    fn access_log(&self) -> Vec<Value> {
        self.read(STDOUT).lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<_> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    fn read(&self, name: &str) -> String {
        // Logs may contain bytes from requests, which need not be UTF-8.
        fs::read(self.folder.path().join(name)).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    /// Sends SIGTERM. func-e passes it on to its Envoy and waits for that to exit.
    fn terminate(&self) {
        let _ = kill_process(self.group, Signal::TERM); // gone already, if that fails
    }

    fn kill(&self) {
        let _ = kill_process_group(self.group, Signal::KILL);
    }

    fn group_lives(&self) -> bool {
        test_kill_process_group(self.group).is_ok()
    }

    /// Waits until all processes of the group are gone, func-e's Envoy included.
    fn gone_within(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            // Reap the child first: a zombie keeps its group alive.
            let reaped = !matches!(self.child.try_wait(), Ok(None));
            if reaped && !self.group_lives() {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- end of Envoy's log ---\n{}\n--------------------------", self.tail(TAIL_LINES));
        }
        self.terminate();
        if !self.gone_within(STOP_LIMIT) {
            self.kill();
            self.gone_within(STOP_LIMIT);
        }
    }
}

const ADMIN_ADDRESS: &str = "admin-address.txt";
const STDOUT: &str = "stdout.log";
const STDERR: &str = "stderr.log";

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// The content of `deploy/dynamic/filter.yaml`, with the path of [`module::built`], for the installed
/// Envoy.
///
/// # Errors
/// If it cannot be read, or as [`module::built`] and [`for_this_envoy`].
pub fn dynamic_filter() -> Result<Value> {
    let file = "deploy/dynamic/filter.yaml";
    let mut filter: Value = serde_saphyr::from_str(&read(file)?).map_err(|e| anyhow::anyhow!("{file}: {e}"))?;
    let filename = "/resources/0/typed_config/config/vm_config/code/local/filename";
    *filter.pointer_mut(filename).with_context(|| format!("{file}: no {filename}"))? =
        module::built()?.to_str().context("the module's path is no UTF-8")?.into();
    for_this_envoy(&mut filter)?;
    Ok(filter)
}

fn read(file: &str) -> Result<String> {
    fs::read_to_string(repository().join(file)).with_context(|| file.to_owned())
}

/// Sets the module's path in the filters that load one from a file.
fn place_module(bootstrap: &mut Bootstrap) -> Result<()> {
    for filter in filters_of_all_listeners(&mut bootstrap.config) {
        if let Some(filename) = filter.pointer_mut("/typed_config/config/vm_config/code/local/filename") {
            let module = bootstrap.module.clone().map_or_else(module::built, module::checked)?;
            *filename = module.to_str().with_context(|| format!("{module:?} is no UTF-8"))?.into();
        }
    }
    Ok(())
}

/// Moves the list of capabilities to where the installed Envoy looks for it: before 1.40 it belonged
/// to the plugin's configuration, not to its VM's.
///
/// # Errors
/// As [`version`].
pub fn for_this_envoy(config: &mut Value) -> Result<()> {
    fn lift(value: &mut Value) {
        let list = value.get_mut("vm_config").and_then(Value::as_object_mut);
        if let Some(list) = list.and_then(|vm_config| vm_config.remove("capability_restriction_config")) {
            value["capability_restriction_config"] = list;
        }
        match value {
            Value::Object(fields) => fields.values_mut().for_each(lift),
            Value::Array(values) => values.iter_mut().for_each(lift),
            _ => {}
        }
    }

    if version()? < (1, 40) {
        lift(config);
    }
    Ok(())
}

/// Major and minor version of the installed Envoy.
///
/// # Errors
/// If Envoy is missing or does not print its version.
pub fn version() -> Result<(u32, u32)> {
    static VERSION: std::sync::OnceLock<(u32, u32)> = std::sync::OnceLock::new();
    if let Some(version) = VERSION.get() {
        return Ok(*version);
    }
    // "/path/to/envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL"
    let said = Command::new(program("ENVOY", "envoy")?).arg("--version").output()?.stdout;
    let said = String::from_utf8_lossy(&said);
    let number = said.rsplit("version: ").next().and_then(|build| build.split('/').nth(1)).unwrap_or_default();
    let mut numbers = number.split('.').map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok(*VERSION.get_or_init(|| (major, minor))),
        _ => bail!("Envoy printed no version, but: {said}"),
    }
}

/// Whether func-e is installed.
pub fn func_e_is_there() -> bool {
    program("FUNC_E", "func-e").is_ok()
}

fn program(variable: &str, name: &str) -> Result<PathBuf> {
    let path = path_from(variable).unwrap_or_else(|| repository().join("target/tools/bin").join(name));
    ensure!(path.is_file(), "{} is missing: `make setup` fetches it, or set {variable} to its path", path.display());
    Ok(path)
}

/// The path in an environment variable; an empty one counts as none.
pub(crate) fn path_from(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).filter(|path| !path.is_empty())?;
    std::path::absolute(path).ok()
}

async fn listeners(client: &Client, admin: SocketAddr) -> Result<BTreeMap<String, SocketAddr>> {
    let answer = client.get(&format!("http://{admin}/listeners?format=json")).await?.json()?;
    let statuses = answer["listener_statuses"].as_array().cloned().unwrap_or_default();
    let named = statuses.iter().filter_map(|status| {
        let port = status.pointer("/local_address/socket_address/port_value")?.as_u64()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(port).ok()?));
        Some((status["name"].as_str()?.to_owned(), address))
    });
    Ok(named.collect())
}

fn hcm(config: &mut Value) -> &mut Value {
    config
        .pointer_mut("/static_resources/listeners/0/filter_chains/0/filters/0/typed_config")
        .expect("a listener with an HTTP connection manager")
}

fn filters(config: &mut Value) -> &mut Vec<Value> {
    hcm(config)["http_filters"].as_array_mut().expect("the connection manager has HTTP filters")
}

fn filters_of_all_listeners(config: &mut Value) -> impl Iterator<Item = &mut Value> {
    fn items<'a>(value: &'a mut Value, name: &str) -> impl Iterator<Item = &'a mut Value> + use<'a> {
        value.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten()
    }
    config
        .get_mut("static_resources")
        .into_iter()
        .flat_map(|resources| items(resources, "listeners"))
        .flat_map(|listener| items(listener, "filter_chains"))
        .flat_map(|chain| items(chain, "filters"))
        .filter_map(|filter| filter.get_mut("typed_config"))
        .flat_map(|manager| items(manager, "http_filters"))
}

fn clusters(config: &mut Value) -> &mut Vec<Value> {
    config
        .pointer_mut("/static_resources/clusters")
        .and_then(Value::as_array_mut)
        .expect("the configuration has clusters")
}
