//! Checks a configuration of the filter without Envoy: the plugin configuration by the filter's own
//! parser, and around it what the filter needs of Envoy and cannot see itself. For CI, and before a
//! file of a running Envoy is replaced. See `--help`.
//!
//! | module | what it holds |
//! |---|---|
//! | [`files`] | files to documents: YAML, JSON, standard input, texts inside Kubernetes manifests |
//! | [`node`] | a value of a document and its place, which every line of the output names |
//! | [`lines`] | the lines of the files in which the values stand |
//! | [`finding`] | what is wrong, where, and how bad it is |
//! | [`survey`] | where the filters, the connection managers and the routes are in all documents |
//! | [`plugin`], [`environment`] | the plugin configuration, with everything that is wrong in it |
//! | [`filter`], [`capabilities`] | the filter's settings in Envoy, and what Envoy must allow it |
//! | [`records`] | whether the filters of one Envoy share their record of duplicates |
//! | [`manager`] | the connection manager that the filter stands in |
//! | [`routes`], [`route_match`] | the callback's route |
//! | [`spelling`] | other spellings of the callback's path |
//! | [`clusters`] | the clusters that are called |
//! | [`decision`] | who else reaches the decision endpoint |
//! | [`strip`] | the headers that only the filter may send |
//! | [`labels`] | the metrics' labels |
//! | [`mod@run`] | all of it in order |
//! | [`output`] | lines or JSON, and the exit code |

mod capabilities;
mod clusters;
mod decision;
mod environment;
mod files;
mod filter;
mod finding;
mod labels;
mod lines;
mod manager;
mod node;
mod output;
mod plugin;
mod records;
mod route_match;
mod routes;
mod run;
mod spelling;
mod strip;
mod survey;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

/// Checks configurations of the filter, without Envoy.
///
/// A file is the plugin configuration itself, as JSON or YAML, or anything that holds the filter's
/// typed_config: a bootstrap of Envoy, a listener, an extension configuration (ECDS), a Kubernetes
/// manifest, also with such a text inside, as a ConfigMap has.
///
/// Files that belong together are given together: if one has the filter by config_discovery, or its
/// routes by RDS, they are taken from the others.
#[derive(Debug, Args)]
#[command(after_help = OUTPUT)]
pub(crate) struct Options {
    /// The files to check, JSON or YAML; - is standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Which Wasm filter it is, by its name in the chain or in its config.
    #[arg(long, value_name = "NAME", default_value = "wecom")]
    filter: String,

    /// Accept that an environment variable with a secret is not set here, as in CI. One that is
    /// set is checked all the same.
    #[arg(long)]
    env_optional: bool,

    /// Accept that the module's file is not on this machine, as in CI.
    #[arg(long)]
    module_optional: bool,

    /// Let warnings count as problems in the exit code.
    #[arg(long)]
    strict: bool,

    /// Print JSON instead of lines.
    #[arg(long)]
    json: bool,
}

const OUTPUT: &str = "\
One line per problem: FILE:LINE: PATH: REASON, or FILE:LINE: warning: PATH:
REASON. LINE is that of what stands at PATH, or is around it where something is
missing; it may be unknown, and is left out then. No line shows a value of the
configuration, which may be a secret. After FILE: ok, FILE: note: says what was
not checked, for want of a file.

With --json, one list on standard output, with an object for each file:
  [{\"file\": \"envoy.yaml\",
    \"endpoints\": [
     {\"name\": \"lock\", \"path\": \"/suite/receive\", \"credentials\": 1}],
    \"problems\": [
     {\"level\": \"problem\", \"line\": 3, \"path\": \"endpoints[0].path\",
      \"reason\": \"is missing\"}]}]
level is problem, warning, note, or unchecked: then the whole file could not be
checked. line may be null.

Exit codes:
  0  every file would be taken
  1  at least one would be refused, or lacks what the filter needs of Envoy, or
     has a warning and --strict was given
  2  at least one could not be checked: not readable, neither JSON nor YAML, no
     such filter in it; or wrong arguments";

/// Checks the files and prints what came of it.
pub(crate) fn run(options: &Options) -> ExitCode {
    let reports = run::check(options);
    output::print(&reports, options.json, options.strict);
    ExitCode::from(reports.iter().map(|report| report.exit_code(options.strict)).max().unwrap_or(0))
}
