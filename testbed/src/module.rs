//! The compiled filter that Envoy loads: where it is, and a check that it is up to date. `cargo test`
//! does not build it, so without that check the tests could run an older filter and judge code that
//! no longer exists.
//!
//! | what | environment | otherwise |
//! |---|---|---|
//! | the module | `WECOM_WASM` | `target/wasm32-wasip1/release/wecom_callback_filter.wasm` |
//! | the same with the feature `trap` | `WECOM_TRAP_WASM` | `target/wasm32-wasip1/trap/wecom_callback_filter.wasm` |

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};

use crate::files::{path_from, repository};

/// The module.
///
/// # Errors
/// As [`check`].
pub fn built() -> Result<PathBuf> {
    checked(path_from("WECOM_WASM").unwrap_or_else(|| in_target("release")))
}

/// The module built with the feature `trap`, which panics on demand.
///
/// # Errors
/// As [`check`].
pub fn built_with_trap() -> Result<PathBuf> {
    checked(path_from("WECOM_TRAP_WASM").unwrap_or_else(|| in_target("trap")))
}

fn in_target(profile: &str) -> PathBuf {
    repository().join("target/wasm32-wasip1").join(profile).join("wecom_callback_filter.wasm")
}

/// The same path, once it has passed [`check`].
pub(crate) fn checked(module: PathBuf) -> Result<PathBuf> {
    check(&module)?;
    Ok(module)
}

/// Checks that a module is there and, if it lies in this repository's `target/`, that it is up to
/// date. A module in any other place is taken as it is. Each path is checked once per process.
///
/// # Errors
/// If it is not there, or as [`ensure_up_to_date`].
pub fn check(module: &Path) -> Result<()> {
    static CHECKED: Mutex<BTreeMap<PathBuf, Result<(), String>>> = Mutex::new(BTreeMap::new());
    let mut checked = CHECKED.lock().unwrap_or_else(PoisonError::into_inner);
    let result = checked.entry(module.to_path_buf()).or_insert_with(|| {
        let repository = repository();
        let (real, target) = (fs::canonicalize(module), fs::canonicalize(repository.join("target")));
        let checked = match real.is_ok_and(|real| target.is_ok_and(|target| real.starts_with(target))) {
            true => ensure_up_to_date(module, &repository),
            false => modified(module).map(drop),
        };
        checked.map_err(|error| format!("{error:#}"))
    });
    result.clone().map_err(anyhow::Error::msg)
}

/// Checks that a module is no older than any source it is built from.
///
/// Cargo lists those sources beside the module, in a file of the same name that ends in `.d`. Without
/// that file, they are all `.rs` files below `repository`'s `src/` except tests. `Cargo.toml` and
/// `Cargo.lock` do not count: cargo compares their content, not their time, so when one of them is
/// only touched, a build leaves the module as it is.
///
/// # Errors
/// If the module is missing or older than one of its sources, if one of its sources no longer exists,
/// or if none of them lies in `repository`. The error says which `make` target builds the module.
pub fn ensure_up_to_date(module: &Path, repository: &Path) -> Result<()> {
    let built = modified(module)?;
    let sources: Vec<_> = match fs::read_to_string(module.with_extension("d")) {
        Ok(text) => listed(&text).map(|source| repository.join(source)).collect(),
        Err(_) => below(&repository.join("src"))?,
    };
    let (shown, make) = (module.display(), make_target(module));
    let root = fs::canonicalize(repository).with_context(|| repository.display().to_string())?;
    ensure!(
        sources.iter().any(|source| fs::canonicalize(source).is_ok_and(|source| source.starts_with(&root))),
        "{shown} was not built from the sources in {}: run `{make}`",
        repository.display()
    );
    for source in sources {
        let changed = fs::metadata(&source).and_then(|metadata| metadata.modified());
        let Ok(changed) = changed else {
            bail!("{shown} was built from {}, which is gone: run `{make}`", source.display());
        };
        ensure!(changed <= built, "{shown} is older than {}: run `{make}`", source.display());
    }
    Ok(())
}

/// When a module was last written. If it is missing, the error says how to build it.
fn modified(module: &Path) -> Result<SystemTime> {
    let written = fs::metadata(module).and_then(|metadata| metadata.modified());
    written.with_context(|| format!("{} is missing: run `{}`", module.display(), make_target(module)))
}

/// The command that builds a module. The folder it lies in is named after its profile.
fn make_target(module: &Path) -> &'static str {
    match module.parent().and_then(Path::file_name) == Some(OsStr::new("trap")) {
        true => "make build-trap",
        false => "make build",
    }
}

/// The sources in one of cargo's `.d` files: `target: source source …`, with blanks in paths escaped
/// as `\ `.
fn listed(text: &str) -> impl Iterator<Item = PathBuf> {
    let rules = text.lines().filter_map(|line| Some(line.split_once(": ")?.1));
    rules.flat_map(|sources| {
        // A NUL stands for an escaped blank: no path contains one.
        let marked = sources.replace("\\ ", "\0");
        let paths: Vec<_> = marked.split_ascii_whitespace().map(|path| path.replace('\0', " ").into()).collect();
        paths
    })
}

/// Every `.rs` file below a folder, except tests.
fn below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut sources = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if entry.file_type()?.is_dir() {
            sources.extend(below(&path)?);
        } else if name.ends_with(".rs") && name != "tests.rs" && !name.ends_with("_tests.rs") {
            sources.push(path);
        }
    }
    Ok(sources)
}
