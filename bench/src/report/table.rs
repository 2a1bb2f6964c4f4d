//! The tables, in Markdown.

use super::Report;
use crate::load::quantile;
use crate::memory::CALLBACKS;

/// The sides, and a few sentences of numbers.
pub(super) fn of_sides(report: &Report) -> String {
    let Report { rounds, seconds, connections, .. } = report;
    let mut lines = vec![
        format!("{rounds} rounds of {seconds} s for each side, in turns, over {connections} connections."),
        String::new(),
        "| side | CPU for a callback | of it in Envoy | × bare | × no-op | a second | at a second | p50 | p99 | memory |".to_owned(),
        "|---|---|---|---|---|---|---|---|---|---|".to_owned(),
    ];
    let ratio = |times: Option<f64>| times.map_or_else(|| "–".to_owned(), |times| format!("{times:.2}"));
    for row in &report.sides {
        lines.push(format!(
            "| {} | {:.1} µs ({:.1}–{:.1}) | {:.1} µs | {} | {} | {:.0} | {:.0} | {:.2} ms | {:.2} ms | {:.0} MiB |",
            row.what,
            row.cpu_us(),
            quantile(&row.cpu_us, 0.25),
            quantile(&row.cpu_us, 0.75),
            row.envoy_us,
            ratio(row.times_bare),
            ratio(row.times_noop),
            row.a_second,
            row.rate,
            row.p50_ms,
            row.p99_ms,
            row.resident_mib,
        ));
    }
    for left_out in &report.left_out {
        lines.push(format!("| **{}: NOT MEASURED**, {} | | | | | | | | | |", left_out.side, left_out.reason));
    }
    lines.push(String::new());
    if let Some(added) = report.p99_added_ms {
        let late = report.sides.iter().map(|row| row.client_late_p99_ms).fold(0.0, f64::max);
        lines.push(format!(
            "- This filter's p99 less bare Envoy's, at the same rate, the median of the rounds' differences: {added:.2} ms. The client itself wrote 99 of 100 \
             requests at most {late:.2} ms late; that is in no latency."
        ));
    }
    if let Some(two) = report.two_workers {
        lines.push(format!(
            "- `envoy.yaml` as shipped, two workers: {:.0} MiB in RAM once it serves, {:.0} MiB after {CALLBACKS} callbacks.",
            two.at_start_mib, two.after_load_mib
        ));
    }
    lines.join("\n").trim_end().to_owned()
}

/// What grows: each point's cost by the first one's.
pub(super) fn of_growth(report: &Report) -> String {
    let mut lines = vec![
        "| what grows | from … to | CPU for a callback, × the first | the first | why |".to_owned(),
        "|---|---|---|---|---|".to_owned(),
    ];
    for axis in &report.growth {
        let labels: Vec<_> = axis.points.iter().map(|point| point.label.as_str()).collect();
        let ratios: Vec<_> = axis.points.iter().map(|point| format!("{:.2}", point.ratio)).collect();
        let first = axis.points.first().map_or(f64::NAN, |point| point.median_us());
        lines.push(format!(
            "| {} | {} | {} | {first:.1} µs | {} |",
            axis.what,
            labels.join(" · "),
            ratios.join(" · "),
            axis.why
        ));
    }
    lines.join("\n")
}
