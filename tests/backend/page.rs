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
