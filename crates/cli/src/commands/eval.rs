//! `smpo eval`: generate completions for a suite and compute metrics on them.

pub mod display;

use std::ops::ControlFlow;
use std::path::PathBuf;

use smpo_eval::{EvaluateError, FidelityCheck, FidelityError, Options, RunError, Suite, evaluate};
use smpo_inference::RewardModel;
use smpo_report::estimates;
use smpo_results::{MetricsFile, ModelInfo};

use self::display::Display;
use super::engine::{EngineArgs, Loaded, Opened};
use super::reward_model;
use super::sampling_args::SamplingArgs;
use super::score::Scored;
use crate::exit::{Exit, Failure, Outcome};
use crate::interrupt;
use crate::output::{self, Format};
use crate::progress::Progress;

/// Generate completions for an evaluation suite and compute metrics on them.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  smpo eval runs/smpo/model --suite ood-chat --out runs/smpo/eval\n  smpo eval \
                  http://a:8000/v1 http://b:8000/v1 --model m --weights m --suite ood-chat --out eval")]
pub struct EvalArgs {
    #[command(flatten)]
    model: EngineArgs,
    /// Evaluation suite (TOML), any JSONL file of prompts, or the name of a shipped suite
    #[arg(long, value_name = "FILE|NAME", help = suite_help())]
    suite: PathBuf,
    /// Output directory; an interrupted evaluation resumes when the same command is run again
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Delete existing results in --out and start over
    #[arg(long)]
    restart: bool,
    /// Model name in reports [default: that of its file, directory or training run, or --model]
    #[arg(long)]
    name: Option<String>,
    /// Experiment arm of this checkpoint, recorded in run.json; runs of one arm are pooled by gate and leaderboard
    #[arg(long)]
    arm: Option<String>,
    /// Training seed of this checkpoint, recorded in run.json
    #[arg(long, value_name = "SEED")]
    training_seed: Option<u64>,
    /// Reward model that gives each answer the metric `reward`: a directory
    #[arg(long, value_name = "DIR")]
    reward_model: Option<PathBuf>,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Skip the fidelity check, which compares the engine's log-probs with a reference forward pass before sampling
    #[arg(long)]
    no_fidelity_check: bool,
    /// Maximum |Δ log-prob| between engine and reference forward pass, in nats [default: 0.001 in float32, else 0.05]
    #[arg(long, value_name = "NATS", conflicts_with = "no_fidelity_check")]
    fidelity_tolerance: Option<f64>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

fn suite_help() -> String {
    let shipped = smpo_eval::shipped_suites().collect::<Vec<_>>().join(", ");
    format!("Evaluation suite (TOML), any JSONL file of prompts, or a shipped suite: {shipped}")
}

impl EvalArgs {
    /// The suite as it is sampled.
    ///
    /// # Errors
    /// It cannot be read, or an option is out of range.
    pub fn read_suite(&self) -> Result<Suite, Failure> {
        let mut suite = Suite::read(&self.suite)?;
        self.sampling.apply(&mut suite)?;
        Ok(suite)
    }
}

/// Runs the command.
pub fn run(args: EvalArgs) -> Outcome {
    args.model.prepare()?;
    refuse_out_of_range(&args)?;
    let suite = args.read_suite()?;
    let progress = Progress::new();
    let reward = args.reward_model.as_deref().map(|dir| reward_model::open("--reward-model", dir)).transpose()?;
    let Opened { source, name, mut loaded, settings } = args.model.open()?;
    loaded.engines.reward = reward.map(|(info, model)| (info, Box::new(model) as Box<dyn RewardModel>));
    let tolerance = args.fidelity_tolerance;
    let options = Options {
        out: args.out.clone(),
        restart: args.restart,
        model: ModelInfo {
            source,
            name: args.name.clone().unwrap_or(name),
            weights_sha256: loaded.weights_sha256.clone(),
            arm: args.arm.clone(),
            training_seed: args.training_seed,
        },
        settings,
        fidelity: if args.no_fidelity_check { FidelityCheck::Skip } else { FidelityCheck::Run { tolerance } },
    };
    let Some(metrics) = evaluate_shown(&suite, loaded, &options, &progress)? else {
        progress.say("stopped; the same command resumes");
        return Ok(Exit::Interrupted);
    };
    let name = &options.model.name;
    match args.format {
        Format::Text => {
            let table = estimates::one(name, &metrics);
            output::print(&format!("{table}\nslices and all files: {}", args.out.display()))?;
        }
        Format::Json => output::print_json(&Scored { model: name.clone(), out: args.out, metrics })?,
    }
    Ok(Exit::Success)
}

/// Evaluates with progress under the model's name; `None` when stopped by Ctrl-C.
pub fn evaluate_shown(
    suite: &Suite,
    loaded: Loaded,
    options: &Options,
    progress: &Progress,
) -> Result<Option<MetricsFile>, Failure> {
    let name = &options.model.name;
    let mut display = Display::new(progress, name);
    for warning in &loaded.warnings {
        display.say(&format!("warning: {warning}"));
    }
    if let Some(reason) = &loaded.no_scorer {
        let skipped = "skipping fidelity check and teacher-forced metrics: reference forward pass unavailable";
        display.say(&format!("{skipped}: {reason}"));
    }
    let native_reads_it = loaded.native_reads_it;
    let evaluated = evaluate(suite, loaded.engines, options, &mut |event| {
        display.show(event);
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let report = evaluated.map_err(|error| with_flags(error, native_reads_it).prefixed(format_args!("{name}: ")))?;
    Ok(report.map(|report| report.metrics))
}

/// The error, with the flags that help.
fn with_flags(error: EvaluateError, native_reads_it: bool) -> Failure {
    let hint = match &error {
        EvaluateError::Run(RunError::OtherRun { .. } | RunError::ForeignSample { .. }) => {
            "; --restart deletes what is in --out".to_owned()
        }
        EvaluateError::Run(RunError::NoneLeft { workers, .. })
            if workers.iter().any(|(_, reason)| reason.starts_with("fidelity check")) =>
        {
            "\na server that another model answers on cannot take part; --fidelity-tolerance NATS allows for more rounding, \
             --no-fidelity-check evaluates whatever answers"
                .to_owned()
        }
        EvaluateError::Fidelity(FidelityError::Disagreement { .. }) if native_reads_it => {
            "; --engine native reads this model as the reference does".to_owned()
        }
        EvaluateError::Fidelity(FidelityError::Disagreement { sequential: Some(nats), .. }) => format!(
            "; one request at a time it agrees to {nats:.1e} nats: use --concurrency 1, or pass --no-fidelity-check to \
             evaluate anyway"
        ),
        EvaluateError::Fidelity(error @ FidelityError::Disagreement { .. }) => {
            let likely = match error.quantised_tolerance() {
                _ if error.is_decimal() => "its log-probs look decimal: try --logprob-base ten, or ".to_owned(),
                Some(nats) => format!(
                    "it looks like the rounding of quantised weights: if the sampled model's are, --fidelity-tolerance {nats} \
                     allows for it, or "
                ),
                None => String::new(),
            };
            format!("; {likely}pass --no-fidelity-check to evaluate anyway")
        }
        _ => String::new(),
    };
    Failure::from(error).suffixed(hint)
}

fn refuse_out_of_range(args: &EvalArgs) -> Result<(), Failure> {
    match args.fidelity_tolerance {
        Some(nats) if nats.is_nan() || nats < 0.0 => {
            Err(Failure::user(format!("--fidelity-tolerance: expected at least 0 nats, got {nats}")))
        }
        _ => Ok(()),
    }
}
