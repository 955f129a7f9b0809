//! The report for a terminal.

use smpo_report::wording::thousands;

use super::{Check, ModelReport, Report, State};
use crate::output::colours;

/// The whole page.
pub fn text(report: &Report) -> String {
    let mut lines = vec![format!("smpo {}, engines: {}", report.version, report.engines.join(", "))];
    lines.extend(checks(&report.machine));
    if let Some(flops) = report.training_flops_per_s {
        lines.push(line(State::Ok, "arithmetic", &format!("{:.0} GFLOP/s in training steps", flops / 1e9)));
    }
    if let Some(model) = &report.model {
        lines.push(format!("\n{}", model.path));
        lines.extend(checks(&model.checks));
        lines.extend(speed(model));
        if model.checks.iter().all(|check| check.state != State::Error) {
            lines.push(format!("\nNext: smpo data check PAIRS.jsonl --model {}", model.path));
        }
    }
    lines.join("\n")
}

fn checks(checks: &[Check]) -> impl Iterator<Item = String> + '_ {
    checks.iter().flat_map(|check| {
        let remedy = check.remedy.iter().map(|remedy| format!("{:26}{remedy}", ""));
        std::iter::once(line(check.state, check.name, &check.found)).chain(remedy)
    })
}

fn speed(model: &ModelReport) -> Vec<String> {
    let Some(speed) = &model.speed else { return Vec::new() };
    let rate = |tokens: f64| thousands(tokens.round() as usize);
    let mut lines = Vec::new();
    if let (Some(all), Some(adapters)) = (speed.train_all_weights, speed.train_adapters) {
        let text = format!("about {} tokens/s with all weights, {} with adapters", rate(all), rate(adapters));
        lines.push(line(State::Ok, "training", &text));
    }
    if let Some(generated) = speed.generate {
        lines.push(line(State::Ok, "completions", &format!("{} tokens/s, 16 at a time", rate(generated))));
    }
    lines
}

fn line(state: State, name: &str, found: &str) -> String {
    let (word, colour) = match state {
        State::Ok => ("ok", 32),
        State::Warning => ("warning", 33),
        State::Error => ("error", 31),
    };
    let word = format!("{word:8}");
    let word = if colours() { format!("\x1b[{colour}m{word}\x1b[0m") } else { word };
    format!("{word}{name:18}{found}")
}
