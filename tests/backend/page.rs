//! The page's pieces.

use std::fs;

use serde_json::Value;
use testbed::files::repository;

/// The page.
pub(crate) fn text() -> String {
    fs::read_to_string(repository().join("docs/backend.md")).unwrap()
}

/// The blocks of code in that language, in order.
pub(crate) fn blocks(language: &str) -> Vec<String> {
    let (page, fence) = (text(), format!("```{language}\n"));
    page.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// The snippet of Envoy's configuration with that name at its top.
pub(crate) fn snippet(name: &str) -> Value {
    let mut parsed = blocks("yaml").into_iter().map(|text| serde_saphyr::from_str::<Value>(&text).unwrap());
    parsed.find(|snippet| snippet.get(name).is_some()).unwrap_or_else(|| panic!("no snippet with {name}"))
}

/// The repository's `envoy.yaml` with the page's changes for a backend at that port.
pub(crate) fn edited(port: u16) -> String {
    let envoy = fs::read_to_string(repository().join("envoy.yaml")).unwrap();
    let mut lines: Vec<String> = envoy.lines().map(str::to_owned).collect();
    let [changes] = &blocks("diff")[..] else { panic!("one block of changes") };
    for change in changes.trim_end().split("\n\n") {
        let side = |skipped: char| -> Vec<&str> {
            change.lines().filter(|line| !line.starts_with(skipped)).map(|line| &line[2..]).collect()
        };
        let (before, after) = (side('+'), side('-'));
        let indentation = |line: &str| line.chars().take_while(|c| *c == ' ').count();
        let places: Vec<_> = lines
            .windows(before.len())
            .enumerate()
            .filter(|(_, window)| {
                let indented = " ".repeat(indentation(&window[0]));
                window.iter().zip(&before).all(|(line, before)| *line == format!("{indented}{before}"))
            })
            .map(|(place, _)| place)
            .collect();
        let [place] = places[..] else { panic!("{} places in envoy.yaml for\n{change}", places.len()) };
        let indented = " ".repeat(indentation(&lines[place]));
        let after = after.into_iter().map(|line| format!("{indented}{line}").replace("8080", &port.to_string()));
        lines.splice(place..place + before.len(), after);
    }
    lines.join("\n")
}

#[test]
fn the_code_of_the_page_is_that_of_the_files() {
    for (language, file) in [
        ("python", "examples/backend/python/backend.py"),
        ("go", "examples/backend/go/main.go"),
        ("java", "examples/backend/java/Backend.java"),
    ] {
        let code = fs::read_to_string(repository().join(file)).unwrap();
        assert_eq!(blocks(language), [code], "docs/backend.md has another text than {file}");
        assert!(text().contains(&format!("](../{file})")), "docs/backend.md does not link to {file}");
    }
}
