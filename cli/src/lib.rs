//! The command `wecom-callbacks`, for those who run the filter or write what stands behind it. It needs
//! neither Envoy nor the compiled module.
//!
//! | module | what it holds |
//! |---|---|
//! | [`check`] | `check`: configurations, without Envoy |
//! | [`terminal`] | what is printed, in colour where that is wanted, and exit codes |

mod check;
mod terminal;

use std::process::ExitCode;

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
  2  it could not be tried: wrong arguments, or something that cannot be read or reached

Colours are for terminals; NO_COLOR=1 switches them off.";

/// Runs the command with the arguments of this process, to its exit code. It does not return if there is
/// nothing to run: for `--help`, or if the arguments are wrong.
#[must_use]
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Check(options) => check::run(&options),
        Command::Completions { shell } => completions(shell),
    }
}

/// The arguments, as defined.
#[must_use]
pub fn command() -> clap::Command {
    Arguments::command()
}

fn completions(shell: clap_complete::Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "wecom-callbacks", &mut script);
    terminal::say(String::from_utf8_lossy(&script).trim_end());
    ExitCode::SUCCESS
}
