//! `demo`: both of them, in a real Envoy.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use regex::Regex;
use testbed::files::repository;
use testbed::redis;

use crate::{finish, program, run};

#[tokio::test]
async fn the_demo_shows_what_it_says() {
    let said = run(&["demo"]).await;
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    assert_eq!(said.out.lines().filter(|line| line.starts_with('✓')).count(), 13, "{said:?}");
    assert!(said.out.ends_with("\nAll as it should be.\n"), "{said:?}");
    for page in ["README.md", "README.zh-CN.md"] {
        let text = std::fs::read_to_string(repository().join(page)).unwrap();
        let (_, shown) = text.split_once("```text\n  what WeCom sends").unwrap();
        let (shown, _) = shown.split_once("```").unwrap();
        let (_, out) = said.out.split_once("  what WeCom sends").unwrap();
        assert_eq!(masked(shown), masked(out), "{page}");
    }
}

/// What the demo prints, without what differs from run to run: times, ids, and so the columns' places.
fn masked(text: &str) -> Vec<String> {
    let (time, id) = (Regex::new(r"\b\d+\.\d\b").unwrap(), Regex::new("\"request_id\":\"[^\"]+\"").unwrap());
    let masked = |line: &str| {
        let line = time.replace(line, "TIME");
        id.replace(&line, "ID").split_whitespace().collect::<Vec<_>>().join(" ")
    };
    text.lines().map(masked).collect()
}

#[tokio::test]
async fn the_demo_of_replicas_shows_what_it_says() {
    if !redis::is_there() {
        return;
    }
    let said = run(&["demo", "--replicas"]).await;
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    assert_eq!(said.out.lines().filter(|line| line.starts_with('✓')).count(), 5, "{said:?}");
    assert!(said.out.ends_with("\nAll as it should be.\n"), "{said:?}");
}

/// With a record that no replica may read, every bind is errcode 7, and none of them reaches the backend.
#[tokio::test]
async fn a_demo_that_goes_wrong_ends_and_says_so() {
    if !redis::is_there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let shut = folder.path().join("redis-server");
    let script = "#!/bin/sh\nsed -i 's/^user wecom-edge .*/user wecom-edge off/' \"$1\"\nexec \"$REAL\" \"$@\"\n";
    std::fs::write(&shut, script).unwrap();
    std::fs::set_permissions(&shut, Permissions::from_mode(0o700)).unwrap();
    let mut command = program(&["demo", "--replicas"]);
    command.env("REDIS_SERVER", &shut).env("REAL", redis::program());
    let said = finish(command, "").await;
    assert_eq!((said.code, said.err.as_str()), (1, ""), "{said:?}");
    let marks = |mark: char| said.out.lines().filter(|line| line.starts_with(mark)).count();
    assert_eq!((marks('✓'), marks('✗')), (1, 4), "{said:?}"); // Redis away is errcode 7 in any case
    assert!(said.out.ends_with("\nNot as it should be.\n"), "{said:?}");
}

#[tokio::test]
async fn what_cannot_be_shown_is_2() {
    let mut command = program(&["demo"]);
    command.env("ENVOY", "/nonexistent/envoy");
    let said = finish(command, "").await;
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.err.starts_with("error: ") && said.err.contains("/nonexistent/envoy"), "{said:?}");
}
