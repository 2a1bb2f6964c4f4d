//! The parts of envoy.yaml that are commented out until somebody needs them.

use std::fs;

use testbed::files::repository;

/// The text of `envoy.yaml` with these parts enabled. Each is named by its first line, and goes on for
/// as long as lines are commented out at the same depth. Behind its `#`, code has no blank, or two at
/// least; a comment has one.
///
/// # Panics
/// If a part is not there.
pub(crate) fn example_with(parts: &[&str]) -> String {
    let text = fs::read_to_string(repository().join("envoy.yaml")).unwrap();
    let mut found = 0;
    let mut enabled = None; // the depth of the part that this line may belong to
    let lines = text.lines().map(|line| {
        let depth = line.len() - line.trim_start().len();
        let (indent, rest) = line.split_at(depth);
        if parts.contains(&rest) {
            found += 1;
            enabled = Some(depth);
        }
        match rest.strip_prefix('#') {
            Some(code) if enabled == Some(depth) && (code.starts_with("  ") || !code.starts_with(' ')) => {
                format!("{indent}{code}\n")
            }
            _ => {
                enabled = None;
                format!("{line}\n")
            }
        }
    });
    let text = lines.collect();
    assert_eq!(found, parts.len(), "not all of {parts:?} are in envoy.yaml");
    text
}
