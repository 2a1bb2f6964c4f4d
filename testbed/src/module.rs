//! The compiled filter that Envoy loads: where it is, and that it is built from the sources as they
//! are now. `cargo test` does not build it, so without that check a test could run an older filter
//! and judge code that no longer exists.
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

use crate::envoy::{path_from, repository};

/// The module.
///
/// # Errors
/// As [`check`].
pub fn built() -> Result<PathBuf> {
    checked(path_from("WECOM_WASM").unwrap_or_else(|| in_target("release")))
}

/// The module that panics on demand.
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

/// Insists that a module is there, and that it is up to date if it lies in this repository's
/// `target/`: a module from elsewhere is whatever its owner says it is. Each module is looked at once
/// in the life of the process.
///
/// # Errors
/// If it is not there, or as [`ensure_up_to_date`].
pub fn check(module: &Path) -> Result<()> {
    static CHECKED: Mutex<BTreeMap<PathBuf, Result<(), String>>> = Mutex::new(BTreeMap::new());
    let mut checked = CHECKED.lock().unwrap_or_else(PoisonError::into_inner);
    let result = checked.entry(module.to_path_buf()).or_insert_with(|| {
        let repository = repository();
        let checked = match module.starts_with(repository.join("target")) {
            true => ensure_up_to_date(module, &repository),
            false => modified(module).map(drop),
        };
        checked.map_err(|error| format!("{error:#}"))
    });
    result.clone().map_err(anyhow::Error::msg)
}

/// Insists that a module is no older than any of the sources that it is built from.
///
/// These are the ones that cargo lists beside the module, in a file of the same name that ends in
/// `.d`; without that file, everything below `repository`'s `src/` but tests. `Cargo.toml` and
/// `Cargo.lock` are none of them: cargo compares what they say, not when they were changed.
///
/// # Errors
/// If the module is missing, is older than one of its sources, lacks one of them by now, or was built
/// from those of another repository. The error says which `make` target builds it.
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

/// When a file was last written, with the advice to build it if it is not there.
fn modified(path: &Path) -> Result<SystemTime> {
    let written = fs::metadata(path).and_then(|metadata| metadata.modified());
    written.with_context(|| format!("{} is not there: `{}` builds it", path.display(), make_target(path)))
}

/// What builds a module: the folder that it lies in has the name of its profile.
fn make_target(module: &Path) -> &'static str {
    match module.parent().and_then(Path::file_name) == Some(OsStr::new("trap")) {
        true => "make build-trap",
        false => "make build",
    }
}

/// The dependencies in one of cargo's `.d` files: `target: source source …`, blanks in paths escaped
/// as `\ `.
fn listed(text: &str) -> impl Iterator<Item = PathBuf> {
    let rules = text.lines().filter_map(|line| Some(line.split_once(": ")?.1));
    rules.flat_map(|sources| {
        // No path holds a NUL.
        let marked = sources.replace("\\ ", "\0");
        let paths: Vec<_> = marked.split_ascii_whitespace().map(|path| path.replace('\0', " ").into()).collect();
        paths
    })
}

/// Every source below a folder, tests aside.
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
