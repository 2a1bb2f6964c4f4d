//! A release is made of a commit that main has.

use std::fs;
use std::path::Path;
use std::process::Command;

use testbed::files::repository;

use crate::{output, words};

fn git(folder: &Path, arguments: &[&str]) {
    let identity = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.com", "-c", "commit.gpgsign=false"];
    output(Command::new("git").args(identity).args(arguments).current_dir(folder));
}

/// Adds a commit with that file.
fn commit(folder: &Path, file: &str) {
    fs::write(folder.join(file), file).unwrap();
    git(folder, &["add", file]);
    git(folder, &["commit", "--quiet", "--message", file]);
}

/// What the script says of what is checked out there: nothing, or its complaint.
fn check(clone: &Path) -> Result<(), String> {
    fs::create_dir_all(clone.join("tools")).unwrap();
    let script = clone.join("tools/check-branch.sh");
    fs::copy(repository().join("tools/check-branch.sh"), &script).unwrap();
    let output = Command::new(script).output().unwrap();
    if output.status.success() { Ok(()) } else { Err(words(&output.stderr)) }
}

#[test]
fn only_a_commit_in_the_history_of_main_passes() {
    let folder = tempfile::tempdir().unwrap();
    let (origin, clone) = (folder.path().join("origin"), folder.path().join("clone"));
    git(folder.path(), &["init", "--quiet", "--initial-branch", "main", "origin"]);
    commit(&origin, "first");
    git(&origin, &["switch", "--quiet", "--create", "aside"]);
    commit(&origin, "elsewhere");
    git(&origin, &["tag", "v9.9.9"]);
    git(&origin, &["switch", "--quiet", "main"]);
    commit(&origin, "second");
    git(folder.path(), &["clone", "--quiet", "origin", "clone"]);

    for (commit, passes) in [("origin/main", true), ("origin/main~1", true), ("v9.9.9", false)] {
        git(&clone, &["checkout", "--quiet", "--detach", commit]);
        match check(&clone) {
            Ok(()) => assert!(passes, "{commit} passed"),
            Err(complaint) => assert!(!passes && complaint.contains("history of origin/main"), "{commit}: {complaint}"),
        }
    }
    // A commit that main does not have yet.
    git(&clone, &["switch", "--quiet", "main"]);
    commit(&clone, "not pushed");
    assert!(check(&clone).is_err());
}

#[test]
fn a_checkout_without_the_history_of_main_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let origin = folder.path().join("origin");
    git(folder.path(), &["init", "--quiet", "--initial-branch", "main", "origin"]);
    commit(&origin, "first");
    commit(&origin, "second");
    let url = format!("file://{}", origin.display());
    git(folder.path(), &["clone", "--quiet", "--depth", "1", &url, "shallow"]);
    assert!(check(&folder.path().join("shallow")).unwrap_err().contains("has no history"));
    git(folder.path(), &["clone", "--quiet", "--origin", "elsewhere", &url, "other"]);
    assert!(check(&folder.path().join("other")).unwrap_err().contains("has no origin/main"));
}
