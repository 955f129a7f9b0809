//! One figure of all runs as an SVG.

use super::axis::{figure, label, ticks};
use super::{Point, Run, class};

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 210.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 22.0;

/// Largest number of points drawn of a curve.
const DRAWN: usize = 420;
/// Number of points from which a curve is smoothed, with the values themselves faint behind it.
const SMOOTHED: usize = 60;
/// Figures that are set, not measured, and are drawn as they are.
const SET: [&str; 3] = ["lr", "target_margin", "epoch"];

/// A chart, ready for the template.
pub(super) struct Chart {
    pub title: String,
    pub name: String,
    pub view: String,
    pub grid: Vec<Tick>,
    pub steps: Vec<Tick>,
    pub curves: Vec<Curve>,
    pub plot: Plot,
}

/// The plot's edges, for the template.
pub(super) struct Plot {
    pub left: f64,
    pub right: f64,
    pub bottom: f64,
}

pub(super) struct Tick {
    pub at: f64,
    pub label: String,
}

pub(super) struct Curve {
    pub class: String,
    pub run: String,
    /// Path of the raw values; empty if `line` already shows them.
    pub raw: String,
    pub line: String,
    /// Single measurements are marked.
    pub marks: Vec<Mark>,
    pub last: String,
}

pub(super) struct Mark {
    pub x: String,
    pub y: String,
    pub about: String,
}

impl Chart {
    /// The figure `name` of every run that has it; `None` if none has, or if it is 0 throughout.
    pub(super) fn new(title: &str, name: &str, runs: &[Run]) -> Option<Self> {
        let of = |run: &Run| -> Vec<Point> {
            let series = run.series.iter().filter(|series| series.name == name).flat_map(|series| &series.points);
            series.copied().filter(|point| point.value.is_finite() && point.step.is_finite()).collect()
        };
        let found: Vec<(usize, &Run, Vec<Point>)> = runs
            .iter()
            .enumerate()
            .map(|(index, run)| (index, run, of(run)))
            .filter(|(_, _, points)| !points.is_empty())
            .collect();
        let all = || found.iter().flat_map(|(_, _, points)| points);
        // A part of the objective that is off is no curve.
        let first =
            all().find(|point| point.value != 0.0).or_else(|| all().next().filter(|_| name.starts_with("probe/")))?;
        let axes = Axes::new(first, all());
        let curves = found
            .iter()
            .map(|(index, run, points)| axes.curve(class(*index), run, points, SET.contains(&name)))
            .collect();
        let width = |ticks: &[f64]| ticks[1] - ticks[0];
        let Axes { values, steps, end } = &axes;
        Some(Chart {
            title: title.to_owned(),
            name: name.to_owned(),
            view: format!("0 0 {WIDTH} {HEIGHT}"),
            grid: values.iter().map(|value| Tick { at: axes.y(*value), label: label(*value, width(values)) }).collect(),
            steps: steps
                .iter()
                .filter(|step| (0.0..=*end).contains(*step))
                .map(|step| Tick { at: axes.x(*step), label: label(*step, width(steps)) })
                .collect(),
            curves,
            plot: Plot { left: LEFT, right: WIDTH - RIGHT, bottom: HEIGHT - BOTTOM },
        })
    }
}

/// The axes of a chart.
struct Axes {
    /// Ticks of the values, ascending.
    values: Vec<f64>,
    /// Ticks of the steps, ascending.
    steps: Vec<f64>,
    /// The last step.
    end: f64,
}

impl Axes {
    /// Axes that cover all points, `first` among them.
    fn new<'a>(first: &Point, points: impl Iterator<Item = &'a Point> + Clone) -> Axes {
        let bounds = |of: fn(&Point) -> f64| {
            points.clone().map(of).fold((of(first), of(first)), |(low, high), x| (low.min(x), high.max(x)))
        };
        let (values, steps) = (bounds(|p| p.value), bounds(|p| p.step));
        Axes { values: ticks(values.0, values.1), steps: ticks(steps.0, steps.1), end: steps.1.max(1.0) }
    }

    fn x(&self, step: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * step / self.end
    }

    fn y(&self, value: f64) -> f64 {
        let (low, high) = (self.values[0], self.values[self.values.len() - 1]);
        TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)
    }

    /// Points of an SVG polyline.
    fn path(&self, points: &[Point]) -> String {
        let pairs = points.iter().map(|point| format!("{:.1},{:.1}", self.x(point.step), self.y(point.value)));
        pairs.collect::<Vec<_>>().join(" ")
    }

    fn curve(&self, class: String, run: &Run, points: &[Point], set: bool) -> Curve {
        let smooth = points.len() >= SMOOTHED && !set;
        let mark = |point: &Point| Mark {
            x: format!("{:.1}", self.x(point.step)),
            y: format!("{:.1}", self.y(point.value)),
            about: format!("{}, step {:.0}: {}", run.name, point.step, figure(point.value)),
        };
        Curve {
            class,
            run: run.name.clone(),
            raw: if smooth { self.path(&thinned(points)) } else { String::new() },
            line: if smooth { self.path(&thinned(&smoothed(points))) } else { self.path(&thinned(points)) },
            marks: if points.len() >= SMOOTHED { Vec::new() } else { points.iter().map(mark).collect() },
            last: points.last().map_or(String::new(), |point| figure(point.value)),
        }
    }
}

/// An exponential mean over about a thirtieth of the curve, corrected for its start.
fn smoothed(points: &[Point]) -> Vec<Point> {
    let keep = 1.0 - 1.0 / (points.len() as f64 / 30.0).max(2.0);
    let (mut sum, mut weight) = (0.0, 0.0);
    let mut next = |point: &Point| {
        sum = keep * sum + (1.0 - keep) * point.value;
        weight = keep * weight + (1.0 - keep);
        Point { step: point.step, value: sum / weight }
    };
    points.iter().map(&mut next).collect()
}

/// At most [`DRAWN`] points: the lowest and the highest of each stretch, so that no spike is lost.
fn thinned(points: &[Point]) -> Vec<Point> {
    if points.len() <= DRAWN {
        return points.to_vec();
    }
    let stretch = points.len().div_ceil(DRAWN / 2);
    let ends = |part: &[Point]| {
        let low = part.iter().min_by(|a, b| a.value.total_cmp(&b.value)).copied();
        let high = part.iter().max_by(|a, b| a.value.total_cmp(&b.value)).copied();
        let mut ends: Vec<Point> = low.into_iter().chain(high).collect();
        ends.sort_by(|a, b| a.step.total_cmp(&b.step));
        ends
    };
    points.chunks(stretch).flat_map(ends).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_spikes() {
        let mut points: Vec<Point> = (0..10_000).map(|step| Point { step: f64::from(step), value: 0.0 }).collect();
        points[4_321].value = 9.0;
        let drawn = thinned(&points);
        assert!(drawn.len() <= DRAWN && drawn.iter().any(|point| point.value == 9.0));
        assert!(drawn.windows(2).all(|pair| pair[0].step <= pair[1].step));
    }

    #[test]
    fn smoothing_a_constant_changes_nothing() {
        let points: Vec<Point> = (0..100).map(|step| Point { step: f64::from(step), value: 2.5 }).collect();
        assert!(smoothed(&points).iter().all(|point| (point.value - 2.5).abs() < 1e-12));
    }
}
