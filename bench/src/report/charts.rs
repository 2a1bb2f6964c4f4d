//! The pictures, as SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::{Report, Row};
use crate::growth::Axis;

const ENVOY: RGBColor = RGBColor(62, 112, 168);
const SERVER: RGBColor = RGBColor(226, 138, 58);
const GREY: RGBColor = RGBColor(110, 110, 110);
const FONT: &str = "sans-serif";

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A bar for each side: the processor's time of a callback, in Envoy and in what stands behind it.
///
/// # Errors
/// If the file cannot be written.
pub(super) fn of_sides(report: &Report, file: &Path) -> Result<()> {
    let rows = &report.sides;
    let (width, line, top) = (900, 34, 40);
    let root = SVGBackend::new(file, (width, top + line * rows.len() as u32 + 12)).into_drawing_area();
    draw_sides(&root, rows, line as i32, top as i32).map_err(|error| anyhow!("{}: {error}", file.display()))
}

fn draw_sides(root: &Area<'_>, rows: &[Row], line: i32, top: i32) -> Result<(), Box<dyn std::error::Error>> {
    root.fill(&WHITE)?;
    root.draw(&Text::new("CPU for a callback, µs: less is better", (12, 10), (FONT, 15)))?;
    for (at, (colour, label)) in [(ENVOY, "Envoy"), (SERVER, "the server, or Redis")].into_iter().enumerate() {
        let x = 560 + 110 * at as i32;
        root.draw(&Rectangle::new([(x, 12), (x + 12, 24)], colour.filled()))?;
        root.draw(&Text::new(label, (x + 18, 11), (FONT, 13)))?;
    }
    let most = rows.iter().map(Row::cpu_us).fold(1.0, f64::max);
    let (left, right) = (390.0, 830.0);
    let x = |us: f64| (left + (right - left) * us / most) as i32;
    for (at, row) in rows.iter().enumerate() {
        let y = top + line * at as i32;
        root.draw(&Text::new(shortened(&row.what), (12, y + 6), (FONT, 13)))?;
        let (envoy, all) = (row.envoy_us.min(row.cpu_us()), row.cpu_us());
        root.draw(&Rectangle::new([(x(0.0), y + 2), (x(envoy), y + line - 10)], ENVOY.filled()))?;
        root.draw(&Rectangle::new([(x(envoy), y + 2), (x(all), y + line - 10)], SERVER.filled()))?;
        root.draw(&Text::new(format!("{all:.0}"), (x(all) + 6, y + 6), (FONT, 13)))?;
    }
    Ok(root.present()?)
}

/// As much of a text as fits beside the bars.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(56) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// A small picture for each thing that grows: a callback's cost by the first point's.
///
/// # Errors
/// If the file cannot be written.
pub(super) fn of_growth(report: &Report, file: &Path) -> Result<()> {
    let across = 3;
    let down = report.growth.len().div_ceil(across);
    let root = SVGBackend::new(file, (900, 240 * down as u32)).into_drawing_area();
    let draw = || -> Result<(), Box<dyn std::error::Error>> {
        root.fill(&WHITE)?;
        for (axis, area) in report.growth.iter().zip(root.split_evenly((down, across))) {
            draw_axis(&area, axis)?;
        }
        Ok(root.present()?)
    };
    draw().map_err(|error| anyhow!("{}: {error}", file.display()))
}

fn draw_axis(area: &Area<'_>, axis: &Axis) -> Result<(), Box<dyn std::error::Error>> {
    let last = axis.points.len().saturating_sub(1) as f64;
    let most = axis.points.iter().map(|point| point.ratio).fold(1.5, f64::max) * 1.15;
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{}: CPU, × the first", axis.name), (FONT, 14))
        .margin(12)
        .x_label_area_size(28)
        .y_label_area_size(36)
        .build_cartesian_2d(-0.3..last + 0.3, 0.0..most)?;
    let label = |x: &f64| {
        let point = axis.points.get(x.round().max(0.0) as usize).filter(|_| (x - x.round()).abs() < 0.01);
        point.map(|point| point.label.clone()).unwrap_or_default()
    };
    let mut mesh = chart.configure_mesh();
    mesh.disable_x_mesh().x_labels(0).y_labels(5).y_label_formatter(&|y| format!("{y:.1}"));
    mesh.light_line_style(WHITE).axis_style(GREY).label_style((FONT, 11)).draw()?;
    chart.draw_series(LineSeries::new([(-0.3, 1.0), (last + 0.3, 1.0)], GREY))?;
    let points = axis.points.iter().enumerate().map(|(x, point)| (x as f64, point.ratio));
    chart.draw_series(LineSeries::new(points.clone(), ENVOY.stroke_width(2)))?;
    chart.draw_series(points.clone().map(|point| Circle::new(point, 3, ENVOY.filled())))?;
    let value = |(x, y): (f64, f64)| Text::new(format!("{y:.2}"), (x, y + most * 0.1), (FONT, 11));
    chart.draw_series(points.clone().map(value))?;
    // Below the axis; plotters places labels only where its own scale has marks.
    for (x, _) in points {
        let (px, py) = chart.backend_coord(&(x, 0.0));
        let (base_x, base_y) = area.get_base_pixel();
        let text = label(&x);
        let half = text.len() as i32 * 3;
        area.draw(&Text::new(text, (px - base_x - half, py - base_y + 6), (FONT, 11)))?;
    }
    Ok(())
}
