//! `smpo prompt`: prompts learned for a model whose weights stay.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use smpo_data::HoldOut;
use smpo_devices::Choice;
use smpo_losses::Loss;
use smpo_model::{Config, ModelDir};
use smpo_trainer::config::{PromptConfig, PromptRole};
use smpo_trainer::prompt::Optimized;
use smpo_trainer::{EarlierRun, Finish, Ranks, Schedule, TrainConfig};

use super::train;
use crate::exit::{Exit, Failure, Outcome};
use crate::hub::model_dir;
use crate::output::{self, Format};
use crate::progress::Progress;

/// Learn prompts of real tokens for a model whose weights stay as they are.
#[derive(Args)]
#[command(after_help = "Example:\n  smpo prompt optimize Qwen2.5-1.5B-Instruct sft.jsonl --out prompts --length 24")]
pub struct PromptArgs {
    #[command(subcommand)]
    command: PromptCommand,
}

#[derive(Subcommand)]
enum PromptCommand {
    /// Look for prompts after which a language model gives the answers of a file a higher likelihood, or a reward model
    /// orders its pairs better
    #[command(after_help = "Examples:
  smpo prompt optimize Qwen2.5-1.5B-Instruct sft.jsonl --out prompts --length 24 --role user
  smpo prompt optimize runs/reward/model pairs.jsonl --out prompts --count 3 --init \"Judge honesty.\"")]
    Optimize(OptimizeArgs),
}

#[derive(Args)]
struct OptimizeArgs {
    /// Model directory, GGUF file or PEFT adapter: a language model, or a reward model
    model: PathBuf,
    /// Data files (docs/data.md): examples or pairs for a language model, whose answers or chosen sides are to become likelier;
    /// pairs for a reward model
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Run directory: prompts.json, metrics.jsonl, config.toml; the same command resumes an interrupted run
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Base model, if the adapter does not name a directory
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// Prompts that are learned together
    #[arg(long, value_name = "PROMPTS", default_value_t = 1)]
    count: usize,
    /// Tokens of a prompt
    #[arg(long, value_name = "TOKENS", default_value_t = 16)]
    length: usize,
    /// Text to start from
    #[arg(long, value_name = "TEXT")]
    init: Option<String>,
    /// Message that the prompt becomes (system) or begins (user)
    #[arg(long, value_enum, default_value_t)]
    role: Role,
    /// Token id that is never chosen, beside special tokens and parts of characters; repeatable
    #[arg(long, value_name = "ID")]
    forbid: Vec<u32>,
    /// Optimizer steps
    #[arg(long, default_value_t = 200)]
    steps: u64,
    /// Rows of a step
    #[arg(long, value_name = "ROWS", default_value_t = 8)]
    batch_size: usize,
    /// Learning rate, constant
    #[arg(long, value_name = "RATE", default_value_t = 0.03)]
    learning_rate: f64,
    /// Temperature of the distributions over tokens at the first step
    #[arg(long, default_value_t = PromptConfig::default().temperature)]
    temperature: f64,
    /// Temperature at the last step
    #[arg(long, value_name = "TEMPERATURE", default_value_t = PromptConfig::default().final_temperature)]
    final_temperature: f64,
    /// Scale of the Gumbel noise at the first step; it is learned, within ±0.2. 0 turns it off
    #[arg(long, value_name = "SCALE", default_value_t = PromptConfig::default().noise, allow_negative_numbers = true)]
    noise: f64,
    /// Weight of the likeness of several prompts to each other, which is reduced
    #[arg(long, value_name = "WEIGHT", default_value_t = PromptConfig::default().dissimilarity)]
    dissimilarity: f64,
    /// Steps between measurements on held-out rows
    #[arg(long, value_name = "STEPS", default_value_t = 20)]
    eval_steps: u64,
    /// Rows held out to measure prompts on: a share below 1, or a number
    #[arg(long, value_name = "ROWS", default_value_t = 0.2, allow_negative_numbers = true)]
    test_size: f64,
    /// Maximum tokens of a row with its prompt; longer ones are left out [default: the model's context length]
    #[arg(long, value_name = "TOKENS")]
    max_length: Option<usize>,
    /// Seed of starts, noise and order
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Delete existing results in --out and start over instead of resuming
    #[arg(long)]
    restart: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// CPU threads [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
}

/// Maximum tokens of a row for a model that names no context length.
const WITHOUT_CONTEXT: usize = 1 << 20;

/// [`PromptRole`] as an argument.
#[derive(Clone, Copy, Default, clap::ValueEnum)]
enum Role {
    /// The system message, in place of a row's own
    #[default]
    System,
    /// The beginning of the user's first message
    User,
}

impl From<Role> for PromptRole {
    fn from(role: Role) -> Self {
        match role {
            Role::System => Self::System,
            Role::User => Self::User,
        }
    }
}

/// Runs the command.
pub fn run(args: PromptArgs) -> Outcome {
    let PromptCommand::Optimize(args) = args.command;
    super::set_threads(args.threads)?;
    let config = args.config()?;
    let progress = Progress::new();
    let earlier = if args.restart { EarlierRun::Restart } else { EarlierRun::Resume };
    let finish = train::train(Ranks::default(), &config, earlier, "prompt", &progress)?;
    print(&finish, args.format, &progress)
}

/// Prints the prompts of a run.
pub fn print(finish: &Finish, format: Format, progress: &Progress) -> Outcome {
    let (path, already) = match finish {
        Finish::Done { model, already, .. } => (model, *already),
        Finish::Stopped { step } => {
            progress.say(&format!("stopped after step {step}; the same command resumes from there"));
            if format == Format::Json {
                output::print_json(&finish.json())?;
            }
            return Ok(Exit::Interrupted);
        }
    };
    let optimized = Optimized::read(path)?;
    match format {
        Format::Json => output::print_json(&optimized)?,
        Format::Text => output::print(&format!("{}{}\n{}", path.display(), of_earlier(already), optimized.text()))?,
    }
    Ok(Exit::Success)
}

fn of_earlier(already: bool) -> &'static str {
    if already { " (already finished; --restart learns them again)" } else { "" }
}

impl OptimizeArgs {
    fn config(&self) -> Result<TrainConfig, Failure> {
        let given = model_dir(&self.model)?;
        let base = self.base.as_deref().map(model_dir).transpose()?;
        let dir = ModelDir::open(&given, base.as_deref())?;
        let weights = Config::from_dir(dir.weights())?;
        let adapter = dir.adapter().map(Path::to_owned);
        let loss = match weights.labels() {
            Some(_) => Loss::Reward(Default::default()),
            None => Loss::Sft(Default::default()),
        };
        let length = self.max_length.or(weights.spec().max_positions).unwrap_or(WITHOUT_CONTEXT);
        let builder = TrainConfig::builder(loss)
            .model(dir.weights())
            .train_files(&self.files)
            .output_dir(&self.out)
            .learning_rate(self.learning_rate)
            .lr_scheduler_type(Schedule::Constant)
            .max_steps(self.steps)
            .per_device_train_batch_size(self.batch_size)
            .eval_steps(self.eval_steps)
            .max_length(length)
            .device(Choice::Cpu)
            .seed(self.seed)
            .prompt(self.prompt());
        let builder = match self.test_size {
            share if share > 0.0 && share < 1.0 => builder.test_size(HoldOut::Share(share)),
            rows if rows >= 1.0 && rows.fract() == 0.0 => builder.test_size(HoldOut::Rows(rows as usize)),
            0.0 => builder,
            other => {
                return Err(Failure::user(format!(
                    "--test-size: expected a share below 1 or a whole number of rows, got {other}"
                )));
            }
        };
        let builder = match adapter {
            Some(adapter) => builder.adapter_name_or_path(adapter),
            None => builder,
        };
        builder.build().map_err(|error| Failure::user(error.to_string()))
    }

    fn prompt(&self) -> PromptConfig {
        PromptConfig {
            count: self.count,
            length: self.length,
            init: self.init.clone(),
            role: self.role.into(),
            temperature: self.temperature,
            final_temperature: self.final_temperature,
            noise: self.noise,
            dissimilarity: self.dissimilarity,
            forbidden_token_ids: self.forbid.clone(),
        }
    }
}
