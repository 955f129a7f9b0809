//! `smpo merge`: one model out of several of the same architecture.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::ValueEnum;
use serde::Serialize;
use smpo_model::{MergeMethod, ModelDir, ModelError, merge};

use super::dtype::Dtype;
use crate::exit::{Exit, Failure, Outcome, blame_model};
use crate::interrupt;
use crate::output::{self, Format};
use crate::progress::Progress;

/// Merge checkpoints of one architecture, the model before preference tuning with the one after it for example.
#[derive(clap::Args)]
pub struct MergeArgs {
    /// Model directories in Hugging Face format; configuration, tokenizer and shards are the first one's
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// Directory to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How to merge
    #[arg(long, value_enum, default_value_t)]
    method: Method,
    /// One weight a model (linear, ties); all alike when absent
    #[arg(long, value_name = "W,W", value_delimiter = ',', allow_negative_numbers = true)]
    weights: Vec<f64>,
    /// Where between the two models, 0 the first and 1 the second (slerp); 0.5 when absent
    #[arg(long)]
    t: Option<f64>,
    /// What all the models were tuned from (ties)
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// Share of each difference from the base that is kept, the largest first (ties); 0.2 when absent
    #[arg(long)]
    density: Option<f64>,
    /// Factor on the merged difference (ties); 1 when absent
    #[arg(long, allow_negative_numbers = true)]
    lambda: Option<f64>,
    /// Element type to write; the first model's own when absent
    #[arg(long, value_enum)]
    dtype: Option<Dtype>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Threads to compute with; all cores when absent
    #[arg(long)]
    threads: Option<usize>,
}

/// A method by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Method {
    /// The weighted mean (model soups, arXiv 2203.05482)
    #[default]
    Linear,
    /// Along the great circle between two models, each tensor for itself
    Slerp,
    /// Trimmed differences from a base whose signs agree (arXiv 2306.01708)
    Ties,
}

/// What was written.
#[derive(Serialize)]
struct Written<'a> {
    schema: u32,
    out: &'a Path,
    tensors: usize,
    parameters: usize,
    shards: usize,
}

/// Version of the JSON.
const SCHEMA: u32 = 1;

/// Runs the command.
pub fn run(args: MergeArgs) -> Outcome {
    super::set_threads(args.threads)?;
    let method = method(&args)?;
    for model in args.models.iter().chain(&args.base) {
        let dir = ModelDir::open(model, None).map_err(blame_model)?;
        if dir.adapter().is_some() {
            return Err(Failure::Usage(anyhow!(
                "{}: expected full weights, got an adapter; `smpo export` folds it into its base",
                model.display()
            )));
        }
    }
    let progress = Progress::new();
    warn_of_other_tokenizers(&args.models, &progress);
    let stage = progress.stage("merge", 0);
    let report = merge(&args.models, &method, args.dtype.map(Dtype::element), &args.out, |done, total| {
        stage.resize(total as u64);
        stage.update(done as u64, "");
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let report = match report {
        Err(ModelError::Stopped) => {
            progress.say(&ModelError::Stopped.to_string());
            return Ok(Exit::Interrupted);
        }
        other => other.map_err(blame_model)?,
    };
    stage.finish("done");
    let written = Written {
        schema: SCHEMA,
        out: &args.out,
        tensors: report.tensors,
        parameters: report.parameters,
        shards: report.shards,
    };
    match args.format {
        Format::Json => output::print_json(&written)?,
        Format::Text => output::print(&format!(
            "{}: {} tensors, {} parameters, {} {}",
            args.out.display(),
            report.tensors,
            report.parameters,
            report.shards,
            if report.shards == 1 { "file" } else { "files" }
        ))?,
    }
    Ok(Exit::Success)
}

/// The method with its numbers; one that belongs to another method is refused.
fn method(args: &MergeArgs) -> Result<MergeMethod, Failure> {
    let of_others: &[(&str, bool)] = match args.method {
        Method::Linear => &[
            ("--t", args.t.is_some()),
            ("--base", args.base.is_some()),
            ("--density", args.density.is_some()),
            ("--lambda", args.lambda.is_some()),
        ],
        Method::Slerp => &[
            ("--weights", !args.weights.is_empty()),
            ("--base", args.base.is_some()),
            ("--density", args.density.is_some()),
            ("--lambda", args.lambda.is_some()),
        ],
        Method::Ties => &[("--t", args.t.is_some())],
    };
    if let Some((option, _)) = of_others.iter().find(|(_, given)| *given) {
        let name = args.method.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        return Err(Failure::Usage(anyhow!("{option}: is no option of --method {name}")));
    }
    let weights = if args.weights.is_empty() { vec![1.0; args.models.len()] } else { args.weights.clone() };
    Ok(match args.method {
        Method::Linear => MergeMethod::Linear { weights },
        Method::Slerp => MergeMethod::Slerp { t: args.t.unwrap_or(0.5) },
        Method::Ties => MergeMethod::Ties {
            base: args.base.clone().ok_or_else(|| {
                Failure::Usage(anyhow!("--base: --method ties needs the model that all were tuned from"))
            })?,
            weights,
            density: args.density.unwrap_or(0.2),
            lambda: args.lambda.unwrap_or(1.0),
        },
    })
}

/// Rows of an embedding mean tokens: another tokenizer may be right, but somebody should know.
fn warn_of_other_tokenizers(models: &[PathBuf], progress: &Progress) {
    let tokenizer = |dir: &Path| fs::read(dir.join("tokenizer.json")).ok();
    let Some((first, others)) = models.split_first() else { return };
    let expected = tokenizer(first);
    for other in others.iter().filter(|other| tokenizer(other) != expected) {
        progress.say(&format!(
            "warning: tokenizer.json of {} is not that of {}, which the merged model gets",
            other.display(),
            first.display()
        ));
    }
}
