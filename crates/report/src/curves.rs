//! The figures of training runs over their steps as one self-contained page: no script, no network. Every curve is an
//! SVG in the page; several runs lie over each other.

mod axis;
mod chart;
mod figures;
mod file;

use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

pub use file::{ReadError, csv, read};

use crate::Error;
use chart::Chart;

const STYLE: &str = include_str!("../templates/curves.css");

/// Number of colours; further runs reuse them, dashed.
const COLOURS: usize = 8;

/// A figure of a run at one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Optimizer step.
    pub step: f64,
    /// The value; points that are not finite are left out.
    pub value: f64,
}

/// One figure of a run over its steps, which ascend.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its name in `metrics.jsonl`.
    pub name: String,
    /// Its values.
    pub points: Vec<Point>,
}

/// A training run.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Display name.
    pub name: String,
    /// Its figures, in the order of the file.
    pub series: Vec<Series>,
}

#[derive(Template)]
#[template(path = "curves.html")]
struct Page {
    policy: String,
    style: &'static str,
    runs: Vec<Legend>,
    steps: String,
    sections: Vec<Section>,
}

struct Legend {
    name: String,
    class: String,
}

struct Section {
    title: &'static str,
    about: &'static str,
    charts: Vec<Chart>,
}

/// The page.
///
/// # Errors
/// If the template fails.
pub fn html(runs: &[Run]) -> Result<String, Error> {
    let style = STANDARD.encode(Sha256::digest(STYLE));
    let last = runs.iter().flat_map(|run| &run.series).flat_map(|series| &series.points);
    let last = last.map(|point| point.step).fold(0.0, f64::max);
    let page = Page {
        policy: format!("default-src 'none'; img-src data:; style-src 'sha256-{style}'"),
        style: STYLE,
        runs: runs
            .iter()
            .enumerate()
            .map(|(index, run)| Legend { name: run.name.clone(), class: class(index) })
            .collect(),
        steps: format!("{last:.0} steps"),
        sections: figures::sections(runs),
    };
    Ok(page.render()?)
}

/// The classes that colour a run.
fn class(index: usize) -> String {
    let dashed = if index >= COLOURS { " dashed" } else { "" };
    format!("run-{}{dashed}", index % COLOURS)
}
