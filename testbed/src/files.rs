//! Where things lie: the repository's files, and what variables of the environment point to.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// The text of one of the repository's files.
///
/// # Errors
/// If it cannot be read; the error names it.
pub(crate) fn read(file: &str) -> Result<String> {
    fs::read_to_string(repository().join(file)).with_context(|| file.to_owned())
}

/// The path in an environment variable; an empty one counts as none.
pub(crate) fn path_from(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).filter(|path| !path.is_empty())?;
    std::path::absolute(path).ok()
}
