//! `smpo import`: another trainer's configuration as one of this project.

use std::path::PathBuf;

use serde::Serialize;
use smpo_trainer::config::ImportedConfig;
use smpo_trainer::{ReadConfig, TrainConfig};

use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Format};
use crate::progress::Progress;

/// Print another trainer's configuration as one of smpo, with a comment at each adopted default.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smpo import their-dpo.yaml
  smpo import their-simpo.yaml --profile trl --set max_length=2048
  smpo import --trl-args dpo --model_name_or_path M --dataset_name pairs.jsonl --beta 0.2")]
pub struct ImportArgs {
    /// Configuration file of TRL, LLaMA-Factory, Halo, effective_llm_alignment or axolotl (docs/imports.md)
    #[arg(required_unless_present = "trl_args")]
    config: Option<PathBuf>,
    /// Trainer that the file is for: trl, llamafactory, halo, ela or axolotl [default: told by its keys]
    #[arg(long, value_name = "NAME", conflicts_with = "trl_args")]
    profile: Option<String>,
    /// Override a key, theirs or ours; repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// TRL's command line in place of a file: everything after `trl`
    #[arg(long, num_args = 1.., allow_hyphen_values = true, value_name = "ARGS", conflicts_with = "config")]
    trl_args: Vec<String>,
}

/// The result as JSON.
#[derive(Serialize)]
struct Written<'a> {
    schema: u32,
    profile: &'static str,
    method: &'static str,
    adopted: &'a [String],
    notes: &'a [String],
    config: &'a TrainConfig,
}

/// Version of the JSON.
const SCHEMA: u32 = 1;

/// Runs the command.
pub fn run(args: ImportArgs) -> Outcome {
    let ReadConfig { config, notes, import } = match &args.config {
        Some(path) => TrainConfig::read_as(path, args.profile.as_deref(), &args.set)?,
        None => TrainConfig::read_trl_args(&args.trl_args, &args.set)?,
    };
    let origin = args.config.as_ref().map_or_else(|| "--trl-args".to_owned(), |path| path.display().to_string());
    let Some(ImportedConfig { profile, method, text, adopted }) = import else {
        return Err(Failure::user(format!(
            "{origin}: expected a configuration of another trainer, got one of smpo; --profile names the trainer"
        )));
    };
    let progress = Progress::new();
    for note in &notes {
        progress.say(&format!("{origin}: {note}"));
    }
    match args.format {
        Format::Text => output::print(&text)?,
        Format::Json => {
            let written =
                Written { schema: SCHEMA, profile, method, adopted: &adopted, notes: &notes, config: &config };
            output::print_json(&written)?;
        }
    }
    Ok(Exit::Success)
}
