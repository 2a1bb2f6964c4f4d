//! What is to be measured, and for how long: from the environment.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::sides::NAMES;

/// How much is done.
///
/// | variable | |
/// |---|---|
/// | `BENCH` | `quick` does all of it, but less of each; `sides` and `growth` do one of the two parts |
/// | `BENCH_SIDES` | some of the sides, by their names, with commas between them |
/// | `BENCH_MODULE` | other builds of the filter to measure beside them, by their files |
/// | `BENCH_AXES` | some of what grows, by name |
/// | `BENCH_ROUNDS`, `BENCH_SECONDS`, `BENCH_CONNECTIONS` | numbers |
/// | `BENCH_JSON` | a file for every number |
/// | `BENCH_WRITE` | a folder, `docs`, whose page and pictures are brought up to date |
#[derive(Debug)]
pub(crate) struct Plan {
    /// The sides, none of them to leave that part out.
    pub(crate) sides: Vec<String>,
    /// Whether to measure what grows.
    pub(crate) growth: bool,
    /// Some of what grows; none for all of it.
    pub(crate) axes: Option<Vec<String>>,
    /// Whether it is to be short.
    pub(crate) quick: bool,
    /// How often each side and each point is measured.
    pub(crate) rounds: usize,
    /// For how many seconds, each time.
    pub(crate) seconds: u64,
    /// Over how many connections.
    pub(crate) connections: usize,
    /// Where the numbers go.
    pub(crate) json: Option<PathBuf>,
    /// The folder of the page.
    pub(crate) write: Option<PathBuf>,
}

impl Plan {
    /// Reads it.
    ///
    /// # Errors
    /// If a variable has a value that means nothing.
    pub(crate) fn read() -> Result<Self> {
        let number = |name: &str, default: usize| match variable(name) {
            Some(text) => text.parse().with_context(|| format!("{name}={text}")),
            None => Ok(default),
        };
        let list = |name: &str| variable(name).map(|text| text.split(',').map(str::to_owned).collect::<Vec<_>>());
        let (quick, with_sides, growth) = match variable("BENCH").as_deref() {
            None => (false, true, true),
            Some("quick") => (true, true, true),
            Some("sides") => (false, true, false),
            Some("growth") => (false, false, true),
            Some(other) => bail!("BENCH={other}: there are quick, sides and growth"),
        };
        if quick && variable("BENCH_WRITE").is_some() {
            bail!("BENCH_WRITE: the page is not for numbers of a quick run");
        }
        let mut sides = list("BENCH_SIDES").unwrap_or_else(|| NAMES.map(str::to_owned).to_vec());
        if let Some(name) = sides.iter().find(|name| !NAMES.contains(&name.as_str())) {
            bail!("BENCH_SIDES: there is no '{name}' among {}", NAMES.join(", "));
        }
        sides.extend(list("BENCH_MODULE").unwrap_or_default());
        Ok(Self {
            sides: if with_sides { sides } else { Vec::new() },
            growth,
            axes: list("BENCH_AXES"),
            quick,
            rounds: number("BENCH_ROUNDS", if quick { 3 } else { 9 })?.max(1),
            seconds: number("BENCH_SECONDS", if quick { 1 } else { 2 })?.max(1) as u64,
            connections: number("BENCH_CONNECTIONS", 32)?.max(1),
            json: variable("BENCH_JSON").map(PathBuf::from),
            write: variable("BENCH_WRITE").map(PathBuf::from),
        })
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
