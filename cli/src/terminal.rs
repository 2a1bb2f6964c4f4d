//! What is printed. Streams take colours off where nobody wants them: not on a terminal, or NO_COLOR.

use std::fmt::Display;
use std::io::Write;

use anstyle::{AnsiColor, Style};

/// What went well.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// What needs a second look.
pub(crate) const DOUBTFUL: Style = AnsiColor::Yellow.on_default();
/// What is wrong.
pub(crate) const BAD: Style = AnsiColor::Red.on_default();
/// What is less important than the rest of its line.
pub(crate) const ASIDE: Style = Style::new().dimmed();

/// A text in a style.
pub(crate) fn styled(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// A line on standard output.
pub(crate) fn say(line: impl Display) {
    // Whoever read this may have gone, as `head` does; the exit code still tells.
    let _ = writeln!(anstream::stdout(), "{line}");
}

/// A line on standard error.
pub(crate) fn complain(line: impl Display) {
    let _ = writeln!(anstream::stderr(), "{line}");
}

/// A warning on standard error.
pub(crate) fn warn(what: impl Display) {
    complain(format_args!("{} {what}", styled(DOUBTFUL, "warning:")));
}

/// Text that others wrote, with nothing in it that a terminal would act on.
pub(crate) fn in_one_line(text: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().collect() } else { String::from(c) };
    text.chars().map(escaped).collect()
}
