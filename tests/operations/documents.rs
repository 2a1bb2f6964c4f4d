//! The operator's pages agree with the code and files they describe.

use std::collections::BTreeSet;
use std::fs;

use testbed::files::repository;
use wecom_callback_filter::config::limits;
use wecom_callback_filter::outcome::{BAD_MESSAGE, Kind, Level, Outcome};

fn page(name: &str) -> String {
    fs::read_to_string(repository().join("docs").join(name)).unwrap()
}

/// The cells of every row of a page's tables, without the header rows.
fn rows(page: &str) -> Vec<Vec<String>> {
    let lines = page.lines().filter(|line| line.starts_with("| `"));
    lines.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

#[test]
fn the_page_of_outcomes_is_the_table_of_outcomes() {
    let rows = rows(&page("outcomes.md"));
    let words: Vec<_> = rows.iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    assert_eq!(words, Outcome::ALL.map(|outcome| outcome.name().to_owned()));
    for (outcome, row) in Outcome::ALL.into_iter().zip(&rows) {
        let [_, meaning, caller, log, first] = row.as_slice() else { panic!("{row:?}") };
        assert!(!meaning.is_empty());
        let status = match outcome.kind() {
            Kind::Served => "200, ".to_owned(),
            Kind::Failed(status) => format!("bind: errcode 7; else {status}"),
            Kind::Rejected(status) => status.to_string(),
            Kind::BadMessage => format!("403 `{BAD_MESSAGE}`"),
            Kind::Unanswered => "nothing".to_owned(),
        };
        assert!(caller.starts_with(&status), "{}: {caller}", outcome.name());
        let level = if outcome.level() == Level::Warn { "warning" } else { "–" };
        assert_eq!(log, level, "{}", outcome.name());
        assert!(outcome.level() == Level::Debug || !first.is_empty(), "{} has no first step", outcome.name());
    }
}

#[test]
fn the_page_of_sizes_has_the_numbers_of_the_code() {
    let page = page("sizing.md");
    let ttl = 2 * limits::FRESHNESS_SECONDS_DEFAULT + limits::TTL_MARGIN_SECONDS;
    assert!(page.contains(&format!("`ttl_seconds` of {ttl}")));
    let mut capacities = Vec::new();
    for line in page.lines().filter(|line| line.starts_with("| ") && line.ends_with("MiB |")) {
        let numbers: Vec<u64> =
            line.split('|').filter_map(|cell| cell.split([' ', ',']).find_map(|word| word.parse().ok())).collect();
        let [capacity, rate, mebibytes] = numbers[..] else { panic!("{line}") };
        assert_eq!((rate, mebibytes), (capacity / ttl, capacity * 256 / (1 << 20)), "{line}");
        capacities.push(capacity);
    }
    assert!(capacities.contains(&limits::CAPACITY_DEFAULT) && capacities.contains(limits::CAPACITY.end()));
    for (setting, default) in [
        ("`freshness_seconds`", limits::FRESHNESS_SECONDS_DEFAULT),
        ("`decision.timeout_ms`", limits::TIMEOUT_MS_DEFAULT),
        ("`events.timeout_ms`", limits::TIMEOUT_MS_DEFAULT),
    ] {
        assert!(page.contains(&format!("| {setting} | {default} |")), "{setting}");
    }
}

#[test]
fn the_page_of_upgrades_names_the_layout_of_the_records() {
    let table = fs::read_to_string(repository().join("src/dedup/table.rs")).unwrap();
    let (_, name) = table.split_once("format!(\"wecom/v").unwrap();
    let (version, _) = name.split_once("/set/").unwrap();
    assert!(page("upgrade.md").contains(&format!("`wecom/v{version}`")), "the layout is v{version} now");
}

#[test]
fn the_page_of_mirrors_has_the_images_the_envoy_and_the_musl_that_are_used() {
    let page = page("mirrors.md");
    let mut images = BTreeSet::new();
    for file in ["deploy/compose/compose.yaml", "deploy/replicas/compose.yaml"] {
        let compose = fs::read_to_string(repository().join(file)).unwrap();
        let found = compose.lines().filter_map(|line| line.trim().strip_prefix("image: "));
        // Docker Hub's own images are in a folder of a mirror.
        images
            .extend(found.map(|image| if image.contains('/') { image.to_owned() } else { format!("library/{image}") }));
    }
    let (_, list) = page.split_once("for image in ").unwrap();
    let (list, _) = list.split_once("; do\n").unwrap();
    let named: BTreeSet<_> = list.split_whitespace().filter(|word| *word != "\\").map(str::to_owned).collect();
    assert_eq!(named, images);

    let build = fs::read_to_string(repository().join("tools/build-cli.sh")).unwrap();
    let word_after = |text: &str| build.split_once(text).unwrap().1.split(['\n', ')']).next().unwrap().to_owned();
    assert!(page.contains(&format!("rustup target add {}\n", word_after("\nmusl="))));
    assert!(page.contains(&format!("apt-get install {}\n", word_after("(install_missing "))));

    let setup = fs::read_to_string(repository().join("tools/setup-envoy.sh")).unwrap();
    let pinned = setup.split_once("PINNED = {\"").unwrap().1.split_once('"').unwrap().0;
    assert!(page.contains(&format!("| Envoy {pinned} from PyPI |")), "{pinned}");
}

#[test]
fn the_page_of_alerts_has_a_section_for_each_and_none_else() {
    let titles: Vec<_> =
        page("alerts.md").lines().filter_map(|line| line.strip_prefix("## ")).map(str::to_owned).collect();
    assert_eq!(titles.iter().cloned().collect::<BTreeSet<_>>(), crate::metrics::names_of_the_alerts());
    assert_eq!(titles.len(), crate::metrics::names_of_the_alerts().len(), "a section occurs twice");
}

#[test]
fn the_page_of_releases_waits_for_the_envoy_that_it_names() {
    let page = page("release.md");
    let (_, block) = page.split_once("## Start it\n").unwrap();
    let (_, block) = block.split_once("```sh\n").unwrap();
    let lines: Vec<_> = block.split("```").next().unwrap().lines().collect();
    let line = |begin: &str| lines.iter().position(|line| line.starts_with(begin)).unwrap_or_else(|| panic!("{begin}"));
    let waiting = line("curl -fsS --retry ");
    assert!(line("envoy -c envoy.yaml &") < waiting && waiting < line("./wecom-callbacks send "), "{lines:#?}");
    let envoy: serde_json::Value =
        serde_saphyr::from_str(&fs::read_to_string(repository().join("envoy.yaml")).unwrap()).unwrap();
    let admin = &envoy["admin"]["address"]["socket_address"];
    let ready = format!(" http://{}:{}/ready ", admin["address"].as_str().unwrap(), admin["port_value"]);
    assert!(lines[waiting].contains(&ready), "{}", lines[waiting]);
    let image = fs::read_to_string(repository().join("deploy/compose/compose.yaml")).unwrap();
    let image = image.lines().find_map(|line| line.trim().strip_prefix("image: envoyproxy/")).unwrap().to_owned();
    assert!(page.contains(&format!("`envoyproxy/{image}`")), "{image}");
}

/// Whoever has the archive of a release has neither make nor Rust's sources: its page says what is called how
/// there, and every page with such commands leads to it.
#[test]
fn the_page_of_releases_says_what_the_commands_of_the_other_pages_are_there() {
    const WHERE: &str = "release.md#what-the-pages-call-otherwise";
    /// Pages for those who have the repository, and that of the command, which says itself where it is.
    const OTHERS: [&str; 6] =
        ["CONTRIBUTING.md", "cli.md", "conformance.md", "mirrors.md", "performance.md", "release.md"];
    let makefile = fs::read_to_string(repository().join("Makefile")).unwrap();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let targets: Vec<_> = makefile.lines().filter_map(|line| line.split_once(':')).map(|(target, _)| target).collect();
    let targets: BTreeSet<_> = targets.into_iter().filter(|target| target.chars().all(is_word)).collect();
    let release = page("release.md");
    let (_, table) = release.split_once("## What the pages call otherwise\n").unwrap();
    let table = table.split("\n## ").next().unwrap();
    let mut found = BTreeSet::new();
    for name in pages().into_iter().filter(|name| !OTHERS.contains(&name.rsplit('/').next().unwrap())) {
        let page = fs::read_to_string(repository().join(&name)).unwrap();
        let mut here = BTreeSet::new();
        for rest in ["`make ", "\nmake "].iter().flat_map(|begin| page.split(begin).skip(1)) {
            let words = rest.split_whitespace().map(|word| word.trim_end_matches(|c| !is_word(c)));
            here.extend(words.take_while(|word| targets.contains(word)).map(|target| format!("`make {target}")));
        }
        // With arguments: "in the repository `cargo run … --`" says both already.
        here.extend(page.contains(" -p wecom-callbacks -- ").then(|| "`cargo run -p wecom-callbacks --`".to_owned()));
        here.extend(page.contains("target/tools/bin/envoy").then(|| "`target/tools/bin/envoy`".to_owned()));
        here.extend(page.contains("target/tools/bin/func-e").then(|| "`target/tools/bin/func-e`".to_owned()));
        assert!(here.is_empty() || page.contains(WHERE), "{name} has {here:?}, and no link to {WHERE}");
        found.extend(here);
    }
    for command in &found {
        assert!(table.contains(command), "no row for {command}`: {table}");
    }
    assert!(found.len() > 8, "{found:?}");
}

/// By itself func-e runs the latest Envoy, whichever that is.
#[test]
fn nobody_is_told_to_start_func_e_without_an_envoy() {
    let files = pages().into_iter().chain(["envoy.yaml", "deploy/dynamic/envoy.yaml"].map(str::to_owned));
    let mut told = 0;
    for file in files {
        let text = fs::read_to_string(repository().join(&file)).unwrap();
        for line in text.lines().filter(|line| line.contains("func-e run")) {
            assert!(line.contains("ENVOY_PATH="), "{file}: {line}");
            told += 1;
        }
    }
    assert!(told > 3, "{told}");
}

#[test]
fn every_alert_of_the_pages_and_every_link_is_there() {
    let alerts = crate::metrics::names_of_the_alerts();
    for name in pages() {
        let page = fs::read_to_string(repository().join(&name)).unwrap();
        for link in links(&page) {
            if let Some(address) = link.strip_prefix("https://") {
                if let Some(of_wecom) = address.strip_prefix("developer.work.weixin.qq.com/") {
                    let number = of_wecom.strip_prefix("document/path/").and_then(|number| number.parse::<u32>().ok());
                    assert!(number.is_some(), "{name} links to {link}, which is no page of WeCom's documentation");
                }
                continue;
            }
            let (target, anchor) = target(&name, link);
            assert!(repository().join(&target).exists(), "{name} links to {link}, which does not exist");
            if !anchor.is_empty() {
                let text = fs::read_to_string(repository().join(&target)).unwrap();
                let found = headings(&text).iter().any(|heading| heading == anchor);
                assert!(found, "{name} links to {link}, which has no such heading");
            }
        }
        for word in page.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| word.starts_with("Wecom")) {
            assert!(alerts.contains(word), "{name} mentions an alert {word}, which does not exist");
        }
    }
    // Conversely: the pages that alerts and dashboard link to.
    for file in [
        "deploy/prometheus/alerts.yml",
        "deploy/prometheus/alerts_redis.yml",
        "deploy/grafana/wecom-callbacks.json",
        "deploy/grafana/wecom-record.json",
    ] {
        let text = fs::read_to_string(repository().join(file)).unwrap();
        for target in text.split("docs/").filter_map(|rest| Some(rest.split_once(".md")?.0)) {
            let is_text = target.contains(char::is_whitespace);
            assert!(
                is_text || repository().join(format!("docs/{target}.md")).is_file(),
                "{file} links to docs/{target}.md, which does not exist"
            );
        }
        for word in text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| word.starts_with("Wecom")) {
            assert!(alerts.contains(word), "{file} mentions an alert {word}, which does not exist");
        }
    }
}

/// Graphviz draws the pictures by `make pictures`; this needs none.
#[test]
fn the_pictures_say_what_their_sources_say() {
    let folder = repository().join("docs/pictures");
    let sources: Vec<_> = (fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "dot"))
        .collect();
    assert!(sources.len() >= 2);
    for path in sources {
        let (source, picture) =
            (fs::read_to_string(&path).unwrap(), fs::read_to_string(path.with_extension("svg")).unwrap());
        let labels = source.split("label=\"").skip(1).map(|rest| rest.split_once('"').unwrap().0);
        let mut said: Vec<String> =
            labels.flat_map(|label| label.split("\\n")).map(|line| line.trim().to_owned()).collect();
        let texts = picture.split("<text").skip(1).map(|rest| rest.split_once('>').unwrap().1);
        let texts = texts.map(|rest| rest.split_once("</text>").unwrap().0.replace("&#160;", " "));
        let mut drawn: Vec<String> = texts.map(|text| text.trim().to_owned()).collect();
        said.sort_unstable();
        drawn.sort_unstable();
        assert_eq!(drawn, said, "make pictures draws {} anew", path.display());
        assert_eq!(picture.matches("class=\"edge\"").count(), source.matches("->").count(), "{}", path.display());
    }
}

/// Every page that people read, by its path in the repository.
fn pages() -> Vec<String> {
    let mut pages = ["README.md", "README.zh-CN.md", "CONTRIBUTING.md", "SECURITY.md"].map(str::to_owned).to_vec();
    for folder in ["docs", "docs/zh-CN"] {
        let names = fs::read_dir(repository().join(folder)).unwrap().map(|entry| entry.unwrap().file_name());
        let names = names.map(|name| format!("{folder}/{}", name.into_string().unwrap()));
        pages.extend(names.filter(|name| name.ends_with(".md")));
    }
    pages.sort();
    pages
}

/// Where a page's links go, as written.
pub(crate) fn links(page: &str) -> impl Iterator<Item = &str> {
    page.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// The file that a page's link leads to, by its path in the repository, and the anchor.
pub(crate) fn target<'a>(page: &str, link: &'a str) -> (String, &'a str) {
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    if file.is_empty() {
        return (page.to_owned(), anchor);
    }
    let mut path: Vec<_> = page.split('/').collect();
    path.pop();
    for part in file.split('/') {
        match part {
            ".." => drop(path.pop().unwrap_or_else(|| panic!("{page} links to {link}, outside of the repository"))),
            part => path.push(part),
        }
    }
    (path.join("/").trim_end_matches('/').to_owned(), anchor)
}

/// The anchors of a page's headings, in their order, as GitHub and most other renderers of Markdown make
/// them: letters of any script stay, punctuation of any script goes.
pub(crate) fn headings(page: &str) -> Vec<String> {
    // Every other piece between fences is code.
    let lines = page.split("```").step_by(2).flat_map(str::lines);
    let titles = lines.filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |title: &str| {
        let kept =
            title.to_lowercase().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>();
        kept.replace(' ', "-")
    };
    titles.map(anchor).collect()
}
