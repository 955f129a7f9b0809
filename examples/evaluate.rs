//! Evaluates a model directory with smpo's own decoder, without the command line.
//!
//! ```sh
//! cargo run --release --example evaluate -- datasets/demo/base evals/demo.toml my-evaluation
//! ```

use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;

use smpo_eval::{ALL, Engines, Event, Options, Suite, evaluate};
use smpo_native::{NativeModel, NativeOptions};

/// Samples `suite` from `model`, scores its gold answers, and writes an evaluation directory to `out`.
pub fn run(model: &Path, suite: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let suite = Suite::read(suite)?;
    let native = NativeModel::load(model, None)?;
    // Any `Generator` samples; any `TeacherForced` scorer checks it and scores gold answers.
    let engines = Engines::new(native.generators(NativeOptions::default())?).with_scorer(native);
    let source = model.display().to_string();
    let options = Options::new(out, &source, "my-model");
    let report = evaluate(&suite, engines, &options, &mut |event| {
        if let Event::Sampling(state) = event {
            eprint!("\r{} of {} samples", state.done, state.total);
        }
        ControlFlow::Continue(())
    })?;
    let report = report.ok_or("stopped")?;
    eprintln!();
    for metric in ["eos_rate", "loop_rate", "eos_logp_gold"] {
        let estimate = report.metrics.get(metric, ALL).ok_or("not measured")?;
        println!("{metric:14} {:8.3} [{:.3}, {:.3}]", estimate.value, estimate.ci_low, estimate.ci_high);
    }
    Ok(())
}

#[allow(dead_code, reason = "the tests include this file for `run` alone")]
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, suite, out] = &arguments[..] else { return Err("expected MODEL SUITE OUT".into()) };
    run(Path::new(model), Path::new(suite), Path::new(out))
}
