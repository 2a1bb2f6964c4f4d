//! The documentation's page: a run puts its numbers between the page's markers, and its pictures beside it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{Report, charts, table};

/// The page, and the pictures beside it.
const PAGE: &str = "performance.md";
const SIDES: &str = "performance.svg";
const GROWTH: &str = "performance-growth.svg";

/// Brings the page and the pictures in that folder up to date, as far as the run measured what they show.
///
/// # Errors
/// If there is no page there, if it lacks a marker, or if a file cannot be written.
pub(super) fn write(report: &Report, folder: &Path) -> Result<()> {
    let file = folder.join(PAGE);
    let mut page = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    if !report.sides.is_empty() {
        page = replaced(&page, "machine", &report.machine.text())?;
        page = replaced(&page, "sides", &table::of_sides(report))?;
        charts::of_sides(report, &folder.join(SIDES))?;
    }
    if !report.growth.is_empty() {
        page = replaced(&page, "growth", &table::of_growth(report))?;
        charts::of_growth(report, &folder.join(GROWTH))?;
    }
    fs::write(&file, page).with_context(|| file.display().to_string())
}

/// The page with another text between the markers `<!-- bench: NAME -->` and `<!-- bench: end -->`.
fn replaced(page: &str, name: &str, text: &str) -> Result<String> {
    const END: &str = "<!-- bench: end -->";
    let marker = format!("<!-- bench: {name} -->");
    let (before, rest) = page.split_once(&marker).with_context(|| format!("the page lacks {marker}"))?;
    let (old, after) = rest.split_once(END).with_context(|| format!("the page lacks {END} after {marker}"))?;
    ensure!(!old.contains("<!-- bench:"), "the page lacks {END} after {marker}");
    Ok(format!("{before}{marker}\n\n{text}\n\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::replaced;

    #[test]
    fn only_what_is_between_its_own_markers_is_replaced() {
        let page = "a <!-- bench: one -->1<!-- bench: end --> b <!-- bench: two -->2<!-- bench: end --> c";
        let once = replaced(page, "two", "new").unwrap();
        let two = "<!-- bench: two -->\n\nnew\n\n<!-- bench: end -->";
        assert_eq!(once, format!("a <!-- bench: one -->1<!-- bench: end --> b {two} c"));
        assert_eq!(replaced(&once, "two", "new").unwrap(), once);
    }

    #[test]
    fn a_page_without_a_marker_or_its_end_is_left_alone() {
        assert!(replaced("<!-- bench: one -->1<!-- bench: end -->", "two", "").is_err());
        assert!(replaced("<!-- bench: one -->1", "one", "").is_err());
        assert!(replaced("<!-- bench: one -->1<!-- bench: two -->2<!-- bench: end -->", "one", "").is_err());
    }
}
