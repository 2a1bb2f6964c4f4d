//! What the documents say about the program is what it does.

use std::fs;
use std::path::PathBuf;

use testbed::edge::{PATH, Setup};
use testbed::envoy::Bootstrap;
use testbed::files::repository;

use crate::backend::Serving;
use crate::{Said, run};

/// The program itself and its subcommands, as typed.
fn commands() -> Vec<Vec<String>> {
    let definition = wecom_callbacks::command();
    let names = definition.get_subcommands().map(|command| vec![command.get_name().to_owned()]);
    std::iter::once(Vec::new()).chain(names).collect()
}

/// The page's block with a command's help: where it begins, the help, and what the block holds now.
async fn block(page: &str, command: &[String]) -> (String, String, String) {
    let words = [&["wecom-callbacks".to_owned()], command, &["--help".to_owned()]].concat();
    let begin = format!("```text\n$ {}\n", words.join(" "));
    let arguments: Vec<_> = words[1..].iter().map(String::as_str).collect();
    let Said { code, out, .. } = run(&arguments).await;
    assert_eq!(code, 0);
    let help: String = out.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    let rest = page.split_once(&begin).unwrap_or_else(|| panic!("docs/cli.md has no block {begin}")).1;
    let held = rest.split_once("```").unwrap().0.to_owned();
    (begin, help, held)
}

#[tokio::test]
async fn the_page_of_the_command_has_its_help() {
    let file = repository().join("docs/cli.md");
    let mut page = fs::read_to_string(&file).unwrap();
    let write = std::env::var("CLI_PAGE").is_ok_and(|word| word == "write");
    for command in commands() {
        let (begin, help, held) = block(&page, &command).await;
        if write {
            page = page.replacen(&format!("{begin}{held}```"), &format!("{begin}{help}```"), 1);
        } else {
            assert_eq!(held, help, "CLI_PAGE=write writes it");
        }
        let name = [&["wecom-callbacks".to_owned()], command.as_slice()].concat().join(" ");
        assert!(page.contains(&format!("\n## {name}\n")), "no section {name}");
    }
    assert_eq!(page.matches("\n$ wecom-callbacks").count(), commands().len());
    if write {
        fs::write(file, page).unwrap();
    }
}

/// The documents that may show how it is run.
fn documents() -> Vec<PathBuf> {
    let mut files = vec!["README.md", "README.zh-CN.md", "CONTRIBUTING.md", "SECURITY.md", "Makefile", "tools/run.sh"]
        .into_iter()
        .map(|name| repository().join(name))
        .collect::<Vec<_>>();
    let mut folders = vec![repository().join("docs"), repository().join("deploy")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    files
}

/// The arguments of every line that runs it.
fn lines_that_run_it(text: &str) -> Vec<Vec<String>> {
    let (names, mut found) = (commands(), Vec::new());
    for line in text.lines().filter(|line| !line.starts_with("Usage: ")) {
        // As in an array of a compose file, too.
        let line = line.replace("\", \"", " ").replace(['[', ']', '"'], " ");
        for rest in line.split("wecom-callbacks ").skip(1) {
            let rest = rest.trim_start_matches("-- ");
            let rest = rest.split(['`', ';', '|', '&', '>', '#']).next().unwrap();
            let words: Vec<_> = rest.split_whitespace().map(str::to_owned).collect();
            let is_named = words.first().is_some_and(|word| names.contains(&vec![word.clone()]));
            // A name alone is prose.
            if is_named && words.len() > 1 && !rest.contains(['$', '(', '<']) {
                found.push(words);
            }
        }
    }
    found
}

#[test]
fn every_line_that_runs_it_has_arguments_that_it_takes() {
    let mut count = 0;
    for file in documents() {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        for mut words in lines_that_run_it(&text) {
            let at_end = words.last().is_some_and(|word| word == "--help");
            if words[0] == "send" && !at_end {
                words.extend(["--token", "t", "--encoding-aes-key", "k"].map(str::to_owned));
            }
            let all = std::iter::once("wecom-callbacks".to_owned()).chain(words.clone());
            match wecom_callbacks::command().try_get_matches_from(all) {
                Ok(_) => {}
                Err(error) if error.kind() == clap::error::ErrorKind::DisplayHelp => {}
                Err(error) => panic!("{}: {words:?}: {error}", file.display()),
            }
            count += 1;
        }
    }
    assert!(count >= 15, "only {count} lines were found");
}

#[tokio::test]
async fn the_lines_of_the_first_hour_end_well() {
    let serving = Serving::start(&[]).await;
    let (decisions, events) = serving.ports();
    let _reading = serving.unheard();
    let change = |bootstrap: Bootstrap| bootstrap.cluster("decision", decisions).cluster("backend", events);
    let edge = Setup::example().unwrap().start_with(change).await.unwrap();
    let page = fs::read_to_string(repository().join("docs/first-hour.md")).unwrap();
    let lines = lines_that_run_it(&page).into_iter().filter(|words| words[0] == "send");
    // The last one is for an address that the reader has.
    let lines = lines.filter(|words| words[1].starts_with("http://127.0.0.1:10000/")).collect::<Vec<_>>();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for words in lines {
        let local = |word: &String| match word.as_str() {
            "http://127.0.0.1:10000/suite/receive" => edge.envoy.url(PATH),
            "YOUR_ID" => edge.account.receive_id().to_owned(),
            word => word.to_owned(),
        };
        let words: Vec<_> = words.iter().map(local).collect();
        let said = run(&words.iter().map(String::as_str).collect::<Vec<_>>()).await;
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{words:?}: {said:?}");
    }
    edge.end().await.unwrap();
}

#[tokio::test]
async fn the_lines_of_the_readme_do_what_they_say() {
    let serving = Serving::start(&[]).await;
    let (decisions, events) = serving.ports();
    let _reading = serving.unheard();
    let change = |bootstrap: Bootstrap| bootstrap.cluster("decision", decisions).cluster("backend", events);
    let edge = Setup::example().unwrap().start_with(change).await.unwrap();
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let lines = lines_that_run_it(&readme).into_iter().filter(|words| words[0] == "send").collect::<Vec<_>>();
    assert_eq!(lines.len(), 4, "{lines:?}");
    for words in lines {
        let local = |word: &String| word.replace("http://127.0.0.1:10000/suite/receive", &edge.envoy.url(PATH));
        let words: Vec<_> = words.iter().map(local).collect();
        let said = run(&words.iter().map(String::as_str).collect::<Vec<_>>()).await;
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{words:?}: {said:?}");
        let expected = match words[3].as_str() {
            "sn-refuse-4" => "{\"errcode\":4,",
            "sn-hang" => "{\"errcode\":7,",
            "user_scan" => "3 × status 200",
            // On a machine that is busy, some may be late.
            _ => "× errcode 0",
        };
        assert!(said.out.contains(expected), "{words:?}: {said:?}");
    }
    edge.end().await.unwrap();
}
