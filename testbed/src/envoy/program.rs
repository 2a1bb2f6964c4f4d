//! The installed programs: Envoy and func-e.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail, ensure};

use crate::files::{path_from, repository};

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

/// The path of a program that [`super`] names.
///
/// # Errors
/// If there is no such file.
pub(super) fn program(variable: &str, name: &str) -> Result<PathBuf> {
    let path = path_from(variable).unwrap_or_else(|| repository().join("target/tools/bin").join(name));
    ensure!(path.is_file(), "{} is missing: `make setup` fetches it, or set {variable} to its path", path.display());
    Ok(path)
}
