//! A tag is built only with an entry of its own in the changelog.

use std::io::Write;

use tempfile::NamedTempFile;

use crate::{program, words};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Checks a tag with a changelog of these lines: the entry, or the complaint.
fn check(tag: &str, lines: &str) -> Result<String, String> {
    let mut file = NamedTempFile::new().unwrap();
    write!(file, "# Changelog\n\nWords.\n\n{lines}").unwrap();
    let output = program("tools/check-changelog.sh").arg(tag).arg(file.path()).output().unwrap();
    if output.status.success() { Ok(words(&output.stdout)) } else { Err(words(&output.stderr)) }
}

/// The complaint of a check that must fail.
fn complaint(tag: &str, lines: &str) -> String {
    check(tag, lines).unwrap_err()
}

fn tag() -> String {
    format!("v{VERSION}")
}

#[test]
fn a_version_with_an_entry_passes_and_its_entry_is_printed() {
    let entry = "### Added\n\n- A line.";
    for heading in [format!("## [{VERSION}]"), format!("## [{VERSION}] - 2026-01-31")] {
        for unreleased in ["", "## [Unreleased]\n\n"] {
            let lines = format!("{unreleased}{heading}\n\n{entry}\n\n## [0.0.1]\n\n- An old line.\n");
            assert_eq!(check(&tag(), &lines), Ok(format!("{entry}\n")));
        }
    }
}

#[test]
fn a_version_that_stands_under_unreleased_alone_is_refused() {
    let lines = "## [Unreleased]\n\n- A line.\n\n## [0.0.1]\n\n- An old line.\n";
    assert!(complaint(&tag(), lines).contains(&format!("no entry [{VERSION}]")));
}

#[test]
fn an_entry_without_a_line_is_none() {
    let lines = format!("## [{VERSION}]\n\n\n## [0.0.1]\n\n- An old line.\n");
    assert!(complaint(&tag(), &lines).contains("no entry"));
    // Nor is that of a version whose name only begins like it.
    let lines = format!("## [{VERSION}-rc.1]\n\n- A line.\n");
    assert!(complaint(&tag(), &lines).contains("no entry"));
}

#[test]
fn lines_that_are_still_unreleased_are_refused() {
    let lines = format!("## [Unreleased]\n\n- A new line.\n\n## [{VERSION}]\n\n- A line.\n");
    assert!(complaint(&tag(), &lines).contains("under [Unreleased]"));
}

#[test]
fn a_tag_of_another_version_is_refused() {
    let lines = format!("## [{VERSION}]\n\n- A line.\n");
    for tag in ["v0.0.1", VERSION, "v", &format!("v{VERSION}-rc.1")] {
        let complaint = complaint(tag, &lines);
        assert!(complaint.contains(&format!("the version in Cargo.toml is {VERSION}")), "{complaint}");
    }
}
