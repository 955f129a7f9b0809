//! `smpo merge`: one model out of several of the same architecture.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Serialize;
use smpo_model::gguf::{companion, is_gguf};
use smpo_model::{MergeMethod, MergeReport, ModelDir, ModelError, WeightDtype, merge};

use super::named;
use crate::exit::{Exit, Failure, Outcome};
use crate::interrupt;
use crate::output::{self, Format};
use crate::progress::Progress;

/// Merge checkpoints of one architecture: linear, SLERP or TIES.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smpo merge runs/sft/model runs/smpo/model --weights 0.3,0.7 --out merged
  smpo merge runs/sft/model runs/smpo/model --method slerp --t 0.6 --out merged
  smpo merge runs/sft/model runs/smpo/model --method ties --base Qwen2.5-1.5B --density 0.2 --out merged")]
pub struct MergeArgs {
    /// Model directories in Hugging Face format, or GGUF files; configuration, tokenizer and sharding are taken from the first
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// Output directory
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Merge method
    #[arg(long, value_enum, default_value_t)]
    method: Method,
    /// Weight of each model (linear, ties) [default: equal]
    #[arg(long, value_name = "W,W", value_delimiter = ',', allow_negative_numbers = true)]
    weights: Vec<f64>,
    /// Interpolation factor between the two models: 0 is the first, 1 the second (slerp) [default: 0.5]
    #[arg(long)]
    t: Option<f64>,
    /// Common base model of the fine-tuned models (ties)
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// Fraction of each task vector to keep, largest magnitudes first (ties) [default: 0.2]
    #[arg(long)]
    density: Option<f64>,
    /// Scale of the merged task vector (ties) [default: 1]
    #[arg(long, allow_negative_numbers = true)]
    lambda: Option<f64>,
    /// Dtype of the saved weights [default: the first model's]
    #[arg(long, value_parser = named::dtype())]
    dtype: Option<WeightDtype>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// CPU threads [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
}

/// Merge method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Method {
    /// Weighted mean (model soups, arXiv 2203.05482)
    #[default]
    Linear,
    /// Spherical linear interpolation between two models, per tensor
    Slerp,
    /// TIES: task vectors trimmed, sign-elected and merged (arXiv 2306.01708)
    Ties,
}

/// The result as JSON.
#[derive(Serialize)]
struct Written<'a> {
    schema: u32,
    out: &'a Path,
    #[serde(flatten)]
    report: &'a MergeReport,
}

/// Version of the JSON.
const SCHEMA: u32 = 1;

/// Runs the command.
pub fn run(args: MergeArgs) -> Outcome {
    super::set_threads(args.threads)?;
    let method = method(&args)?;
    for model in args.models.iter().chain(&args.base) {
        let dir = ModelDir::open(model, None)?;
        if dir.adapter().is_some() {
            return Err(Failure::user(format!(
                "{}: expected full weights, got an adapter; `smpo export` folds it into its base",
                model.display()
            )));
        }
    }
    let progress = Progress::new();
    warn_of_other_tokenizers(&args.models, &progress);
    let stage = progress.stage("merge", 0);
    let report = merge(&args.models, &method, args.dtype, &args.out, |done, total| {
        stage.resize(total as u64);
        stage.update(done as u64, "");
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let report = match report {
        Err(ModelError::Stopped) => {
            progress.say(&ModelError::Stopped.to_string());
            return Ok(Exit::Interrupted);
        }
        other => other?,
    };
    stage.finish("done");
    super::say_left_behind(&args.models[0], &progress);
    match args.format {
        Format::Json => output::print_json(&Written { schema: SCHEMA, out: &args.out, report: &report })?,
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

/// The method with its parameters; parameters of another method are refused.
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
        return Err(Failure::user(format!("{option} has no effect with --method {name}")));
    }
    let weights = if args.weights.is_empty() { vec![1.0; args.models.len()] } else { args.weights.clone() };
    Ok(match args.method {
        Method::Linear => MergeMethod::Linear { weights },
        Method::Slerp => MergeMethod::Slerp { t: args.t.unwrap_or(0.5) },
        Method::Ties => MergeMethod::Ties {
            base: args
                .base
                .clone()
                .ok_or_else(|| Failure::user("--method ties needs --base, the common base model"))?,
            weights,
            density: args.density.unwrap_or(0.2),
            lambda: args.lambda.unwrap_or(1.0),
        },
    })
}

/// Warns about models with another tokenizer: embedding rows of equal index may belong to different tokens.
fn warn_of_other_tokenizers(models: &[PathBuf], progress: &Progress) {
    let tokenizer = |model: &Path| match is_gguf(model).ok()? {
        true => companion(model, "tokenizer.json").ok().flatten(),
        false => fs::read(model.join("tokenizer.json")).ok(),
    };
    let Some((first, others)) = models.split_first() else { return };
    let expected = tokenizer(first);
    for other in others.iter().filter(|other| tokenizer(other) != expected) {
        progress.say(&format!(
            "warning: tokenizer.json of {} differs from that of {}, which the merged model gets",
            other.display(),
            first.display()
        ));
    }
}
