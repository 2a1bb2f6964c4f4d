//! The Chinese pages say what the English ones say, as far as that can be seen without reading Chinese:
//! paragraph by paragraph and row by row, they have the same code, numbers and links.

use std::collections::BTreeSet;
use std::fs;

use testbed::files::repository;

use crate::documents::{headings, links, target};

/// What stands alone in a cell of a table, and how it is said in Chinese. A default among them is as
/// binding as one in code.
const CELLS: [(&str, &str); 6] = [
    ("required", "必填"),
    ("none", "无"),
    ("the cluster's name", "集群名"),
    ("the path, other characters as `_`", "路径，其他字符换成 `_`"),
    ("the decision upstream", "同 decision 上游"),
    ("warning", "warning"),
];

/// A part of a page that is compared with its counterpart.
#[derive(Debug)]
struct Part {
    kind: Kind,
    text: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// With its level.
    Heading(usize),
    /// With its language and indentation.
    Code(String),
    Row,
    /// A list's item. With its marker and indentation.
    Item(String),
    Paragraph,
}

/// A Chinese page's path in the repository, and that of its English counterpart.
fn pairs() -> Vec<(String, String)> {
    let names = fs::read_dir(repository().join("docs/zh-CN")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut pairs: Vec<_> = names.map(|name| (format!("docs/zh-CN/{name}"), format!("docs/{name}"))).collect();
    pairs.push(("README.zh-CN.md".to_owned(), "README.md".to_owned()));
    pairs.sort();
    pairs
}

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The page without the line that leads to the other language, which must be the first one after the title.
fn without_switch(path: &str, switch: &str) -> String {
    let page = read(path);
    assert_eq!(page.lines().nth(2), Some(switch), "{path} does not lead to the other language");
    page.replacen(switch, "", 1)
}

fn parts(page: &str) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut open = false; // whether the next line may go on with the last part
    let mut in_code = false;
    for line in page.lines() {
        let text = line.trim_start();
        let indentation = line.strip_suffix(text).unwrap();
        if text.starts_with("```") {
            in_code = !in_code;
            if in_code {
                parts.push(Part { kind: Kind::Code(line.to_owned()), text: String::new() });
            }
            open = false;
            continue;
        }
        let numbered = text.split_once(". ").map(|(number, _)| number).filter(|number| number.parse::<u32>().is_ok());
        let kind = if in_code {
            let last = parts.last_mut().unwrap();
            last.text.push_str(&format!("{line}\n"));
            continue;
        } else if text.is_empty() {
            open = false;
            continue;
        } else if text.starts_with('#') {
            Kind::Heading(text.chars().take_while(|c| *c == '#').count())
        } else if text.starts_with('|') {
            Kind::Row
        } else if text.starts_with("- ") {
            Kind::Item(format!("{indentation}-"))
        } else if let Some(number) = numbered {
            Kind::Item(format!("{indentation}{number}."))
        } else if open {
            let last = parts.last_mut().unwrap();
            last.text.push_str(&format!("\n{text}"));
            continue;
        } else {
            Kind::Paragraph
        };
        open = matches!(kind, Kind::Item(_) | Kind::Paragraph);
        parts.push(Part { kind, text: text.to_owned() });
    }
    assert!(!in_code, "a block of code is not closed");
    parts
}

/// A block of code as it is run: without comments, where its language has them.
fn without_comments(language: &str, code: &str) -> Vec<String> {
    let has_comments = ["sh", "yaml", "toml", "nginx"].contains(&language.trim_start().trim_start_matches('`'));
    let line = |line: &str| match line.find('#') {
        Some(0) if has_comments => String::new(),
        Some(_) if has_comments => line.split(" #").next().unwrap().trim_end().to_owned(),
        _ => line.to_owned(),
    };
    code.lines().map(line).collect()
}

/// The inline code of a text, and the text without it.
fn inline_code(text: &str) -> (BTreeSet<String>, String) {
    let pieces: Vec<_> = text.split('`').collect();
    assert!(pieces.len() % 2 == 1, "a backtick is missing: {text}");
    let code = pieces.iter().skip(1).step_by(2);
    let code = code.map(|piece| piece.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    (code, pieces.into_iter().step_by(2).collect())
}

/// The numbers of a text that has no code in it.
fn numbers(text: &str) -> BTreeSet<String> {
    let mut pieces = text.split("](");
    let before = pieces.next().unwrap();
    let after = pieces.map(|piece| piece.split_once(')').map_or(piece, |(_, rest)| rest));
    let text = std::iter::once(before).chain(after).collect::<Vec<_>>().join(" ");
    let text = text.replace(|c: char| !c.is_ascii_digit() && c != '.' && c != ',', " ");
    let words = text.split_whitespace().map(|word| word.trim_matches(['.', ',']).to_owned());
    words.filter(|word| !word.is_empty()).collect()
}

/// Where the links of a part of the English page must lead in Chinese: to the Chinese page, where there is
/// one, and to the same heading of it.
fn expected_links(english: &str, text: &str) -> BTreeSet<(String, String)> {
    let of_link = |link: &str| {
        if link.starts_with("https://") {
            return (link.to_owned(), String::new());
        }
        let (file, anchor) = target(english, link);
        let Some((chinese, _)) = pairs().into_iter().find(|pair| pair.1 == file) else {
            return (file, anchor.to_owned());
        };
        if anchor.is_empty() {
            return (chinese, String::new());
        }
        let place = headings(&read(&file)).iter().position(|heading| heading == anchor).unwrap();
        let anchor = headings(&read(&chinese)).swap_remove(place);
        (chinese, anchor)
    };
    links(text).map(of_link).collect()
}

fn links_of(page: &str, text: &str) -> BTreeSet<(String, String)> {
    let of_link = |link: &str| {
        if link.starts_with("https://") {
            return (link.to_owned(), String::new());
        }
        let (file, anchor) = target(page, link);
        (file, anchor.to_owned())
    };
    links(text).map(of_link).collect()
}

fn cells(row: &str) -> Vec<&str> {
    // A pipe inside of code does not occur in these tables, or the count of cells would differ.
    row.trim_matches('|').split('|').map(str::trim).collect()
}

/// Whether two rows of a table have the same cells where these are the same in both languages, or in `CELLS`.
fn are_the_same_row(chinese: &str, english: &str) -> bool {
    let (ours, theirs) = (cells(chinese), cells(english));
    let is_right = |(cell, original): (&str, &str)| {
        let is_the_same_everywhere = !inline_code(original).1.contains(char::is_alphabetic);
        let translated = CELLS.iter().find(|pair| pair.0 == original).map(|pair| pair.1);
        translated
            .or(is_the_same_everywhere.then_some(original))
            .is_none_or(|expected| cell.replace('、', ", ") == expected)
    };
    ours.len() == theirs.len() && ours.into_iter().zip(theirs).all(is_right)
}

/// What differs between two parts that stand at the same place.
fn differences(ours: &Part, theirs: &Part, chinese: &str, english: &str) -> Vec<String> {
    if let Kind::Code(language) = &theirs.kind {
        let code = |part: &Part| without_comments(language, &part.text);
        return if code(ours) == code(theirs) { Vec::new() } else { vec!["the code".to_owned()] };
    }
    let ((code, text), (original_code, original_text)) = (inline_code(&ours.text), inline_code(&theirs.text));
    let mut found = Vec::new();
    let mut compare = |what, ours: String, theirs: String| {
        if ours != theirs {
            found.push(format!("the {what}: {ours} is not {theirs}"));
        }
    };
    compare("code", format!("{code:?}"), format!("{original_code:?}"));
    compare("numbers", format!("{:?}", numbers(&text)), format!("{:?}", numbers(&original_text)));
    let expected = expected_links(english, &original_text);
    compare("links", format!("{:?}", links_of(chinese, &text)), format!("{expected:?}"));
    if theirs.kind == Kind::Row && !are_the_same_row(&ours.text, &theirs.text) {
        found.push("a cell".to_owned());
    }
    found
}

#[test]
fn the_chinese_pages_have_the_structure_code_numbers_and_links_of_the_english_ones() {
    let mut found = Vec::new();
    for (chinese, english) in pairs() {
        let name = english.rsplit('/').next().unwrap();
        let (up, down) = if english == "README.md" {
            (english.clone(), chinese.clone())
        } else {
            (format!("../{name}"), format!("zh-CN/{name}"))
        };
        let ours = parts(&without_switch(&chinese, &format!("[English]({up}) · 简体中文")));
        let theirs = parts(&without_switch(&english, &format!("English · [简体中文]({down})")));
        for place in 0..ours.len().max(theirs.len()) {
            match (ours.get(place), theirs.get(place)) {
                (Some(part), Some(original)) if part.kind == original.kind => {
                    for what in differences(part, original, &chinese, &english) {
                        found.push(format!("{chinese}: {}\n{english}: {}\n  {what}", part.text, original.text));
                    }
                }
                (part, original) => {
                    found.push(format!("{chinese}: {part:?}\n{english}: {original:?}\n  the kind of text"));
                    break;
                }
            }
        }
    }
    assert!(found.is_empty(), "Chinese and English differ:\n\n{}", found.join("\n\n"));
}

/// A reader of the Chinese pages is told beforehand where the language changes.
#[test]
fn the_chinese_pages_say_which_pages_are_in_english_only() {
    let pairs = pairs();
    for (chinese, _) in &pairs {
        let page = read(chinese);
        for (text, link) in page.split("](").skip(1).zip(links(&page)) {
            let (file, _) = target(chinese, link);
            let is_paired = pairs.iter().any(|pair| pair.0 == file || pair.1 == file);
            let is_english_only = !link.starts_with("https://") && file.ends_with(".md") && !is_paired;
            let behind = text.split_once(')').map_or("", |(_, behind)| behind);
            let says_so = behind.starts_with("（英文）") || behind.starts_with("，英文");
            assert_eq!(says_so, is_english_only, "{chinese}: {link}");
        }
    }
}

#[test]
fn comments_numbers_and_code_are_told_apart() {
    assert_eq!(without_comments("```sh", "make demo  # 演示\n# 注释\nmake test\n"), ["make demo", "", "make test"]);
    assert_eq!(without_comments("```text", "# a\n"), ["# a"]);
    let (code, text) = inline_code("过 `timeout_ms`（`900`）后 (5)，1.40 与 [2.9 秒](a1.md#b2)，503。");
    assert_eq!(code, BTreeSet::from(["timeout_ms", "900"].map(str::to_owned)));
    assert_eq!(numbers(&text), BTreeSet::from(["5", "1.40", "2.9", "503"].map(str::to_owned)));
}
