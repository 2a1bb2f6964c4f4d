//! The command `wecom-callbacks`, for those who run the filter or write what stands behind it. It needs
//! neither Envoy nor the compiled module, but for the demo, which is there with the feature `demo` alone.
//!
//! | module | what it holds |
//! |---|---|
//! | `check` | `check`: configurations, without Envoy |
//! | `send` | `send`: callbacks as WeCom sends them, to any URL |
//! | `backend` | `backend`: who answers the filter's calls, well or badly |
//! | `demo` | `demo`: both around the filter in a real Envoy |
//! | `terminal` | what is printed, in colour where that is wanted |

mod backend;
mod check;
#[cfg(feature = "demo")]
mod demo;
mod send;
mod terminal;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser, Subcommand};

/// Checks configurations of the WeCom callback filter, sends callbacks as WeCom does, and stands in for
/// the backend that decides about them.
#[derive(Debug, Parser)]
#[command(name = "wecom-callbacks", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Options),
    Send(Box<send::Options>),
    Backend(backend::Options),
    #[cfg(feature = "demo")]
    Demo(demo::Options),
    /// Prints a script that completes this command's arguments in a shell.
    ///
    /// For bash: wecom-callbacks completions bash >/etc/bash_completion.d/wecom-callbacks
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

const EXIT_CODES: &str = "\
Exit codes:
  0  all is well
  1  what was checked or sent was refused, or is not as expected
  2  it could not be tried: wrong arguments, or something that cannot be read
send has a 3, too: no answer. The help of each command says more.

Colours are for terminals; NO_COLOR=1 switches them off.";

/// Runs the command with the arguments of this process, to its exit code. It does not return if there is
/// nothing to run: for `--help`, or if the arguments are wrong.
#[must_use]
pub fn main() -> ExitCode {
    let ended = match Arguments::parse().command {
        Command::Check(options) => Ok(check::run(&options)),
        Command::Send(options) => finish(send::run(*options)),
        Command::Backend(options) => finish(backend::run(options)),
        #[cfg(feature = "demo")]
        Command::Demo(options) => finish(demo::run(options)),
        Command::Completions { shell } => Ok(completions(shell)),
    };
    ended.unwrap_or_else(|error| {
        terminal::complain(format_args!("{} {error:#}", terminal::styled(terminal::BAD, "error:")));
        ExitCode::from(2)
    })
}

/// The arguments, as defined.
#[must_use]
pub fn command() -> clap::Command {
    Arguments::command()
}

fn finish(work: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    tokio::runtime::Runtime::new().context("starting threads")?.block_on(work)
}

fn completions(shell: clap_complete::Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "wecom-callbacks", &mut script);
    if shell == clap_complete::Shell::Bash {
        // clap_complete writes the dash of the name in two ways, and only the first word is completed then.
        script = String::from_utf8_lossy(&script).replace("wecom__subcmd__callbacks", "wecom__callbacks").into_bytes();
    }
    terminal::say(String::from_utf8_lossy(&script).trim_end());
    ExitCode::SUCCESS
}
