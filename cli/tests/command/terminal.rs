//! What a terminal gets that a pipe does not, and what shells are told.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use testbed::backend::Backend;
use tokio::task::spawn_blocking;

use crate::{finish, program, run};

/// Runs the program with a terminal as its output and returns what that was sent.
async fn on_a_terminal(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes())).to_owned();
    let end = || OpenOptions::new().read(true).write(true).open(&path).unwrap();

    let mut command = program(arguments);
    command.env("TERM", "xterm").env_remove("NO_COLOR").env_remove("CLICOLOR").env_remove("CI");
    command.envs(environment.iter().copied()).stdout(end()).stderr(end());
    let mut child = command.spawn().unwrap();
    drop(command);
    let reading = spawn_blocking(move || {
        let (mut terminal, mut text) = (File::from(terminal), Vec::new());
        // Ends with an error when the last one who wrote has gone.
        let _ = terminal.read_to_end(&mut text);
        String::from_utf8(text).unwrap()
    });
    child.wait().await.unwrap();
    reading.await.unwrap()
}

#[tokio::test]
async fn colours_are_for_terminals_and_not_under_no_color() {
    for arguments in
        [&["check", "--env-optional", "envoy.yaml"][..], &["check", "no-such-file"], &["--help"], &["check"]]
    {
        let coloured = on_a_terminal(arguments, &[]).await;
        assert!(coloured.contains("\u{1b}["), "{arguments:?}: {coloured}");
        let plain = on_a_terminal(arguments, &[("NO_COLOR", "1")]).await;
        assert!(!plain.contains('\u{1b}') && !plain.is_empty(), "{arguments:?}: {plain}");
        let piped = run(arguments).await;
        assert!(!piped.out.contains('\u{1b}') && !piped.err.contains('\u{1b}'), "{piped:?}");
    }
}

#[tokio::test]
async fn a_long_run_has_a_bar_on_a_terminal_alone() {
    let backend = Backend::start().await.unwrap();
    let url = format!("http://{}/", backend.address());
    let long = ["send", &url, "--type", "unbind", "--count", "200"];
    let shown = on_a_terminal(&long, &[]).await;
    assert!(shown.contains("/200"), "{shown}");
    let short = on_a_terminal(&["send", &url, "--type", "unbind", "--count", "2"], &[]).await;
    assert!(!short.contains("/2 "), "{short}");
    let object = on_a_terminal(&[&long[..], &["--json"]].concat(), &[]).await;
    assert!(!object.contains("/200"), "{object}");
    let piped = run(&long).await;
    assert_eq!(piped.err, "");
}

#[tokio::test]
async fn it_tells_its_version() {
    let said = run(&["--version"]).await;
    assert_eq!((said.code, said.out), (0, format!("wecom-callbacks {}\n", env!("CARGO_PKG_VERSION"))));
}

#[tokio::test]
async fn every_shell_gets_its_completions() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let said = run(&["completions", shell]).await;
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{shell}: {said:?}");
        for word in ["wecom-callbacks", "env-optional", "cacert", "backend"] {
            assert!(said.out.contains(word), "{shell}: no {word}");
        }
    }
    // A shell that is there in any case reads its own.
    let script = run(&["completions", "bash"]).await.out;
    let mut bash = tokio::process::Command::new("bash");
    bash.args(["-c", "eval \"$(cat)\" && complete -p wecom-callbacks"]);
    let said = finish(bash, &script).await;
    assert!(said.code == 0 && said.out.contains("wecom-callbacks"), "{said:?}");
    for (words, wanted) in [("s", "send"), ("send --forg", "--forge"), ("completions z", "zsh")] {
        let ask = format!(
            "eval \"$(cat)\"; COMP_WORDS=(wecom-callbacks {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _wecom__callbacks wecom-callbacks \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"; echo \"${{COMPREPLY[*]}}\""
        );
        let mut bash = tokio::process::Command::new("bash");
        bash.args(["-c", &ask]);
        let said = finish(bash, &script).await;
        assert!(said.out.split_whitespace().any(|word| word == wanted), "{words}: {said:?}");
    }
    assert_eq!(run(&["completions", "tcsh"]).await.code, 2);
}

#[tokio::test]
async fn a_reader_that_leaves_does_not_end_it_in_an_error() {
    let mut bash = tokio::process::Command::new("bash");
    bash.args(["-c", "set -o pipefail; \"$0\" completions bash | head -n 1", crate::PROGRAM]);
    let said = finish(bash, "").await;
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
}
