//! `smpo export`: an adapter merged into its base, or saved as a PEFT adapter.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Serialize;
use smpo_model::{AdapterInfo, AdapterSaveOptions, ModelDir, ModelInfo, SaveOptions, WeightDtype};

use super::named;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Format};
use crate::progress::Progress;

/// Merge a LoRA adapter into its base model, or save it as a PEFT adapter.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smpo export runs/smpo/model --out exported
  smpo export runs/smpo/model --as adapter --base Qwen2.5-1.5B-Instruct --dtype bfloat16 --out adapter")]
pub struct ExportArgs {
    /// PEFT adapter directory, model directory in Hugging Face format, or GGUF file
    model: PathBuf,
    /// Output directory
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Export full weights or an adapter
    #[arg(long = "as", value_enum, default_value_t)]
    kind: Kind,
    /// Base model of the adapter, if adapter_config.json does not name a directory; an exported adapter records it
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// Dtype of the saved weights [default: unchanged]
    #[arg(long, value_parser = named::dtype())]
    dtype: Option<WeightDtype>,
    /// Maximum size of a weight shard, in GB
    #[arg(long, value_name = "GB", default_value_t = 5.0)]
    max_shard_size: f64,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// CPU threads [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
}

/// Kind of model to export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Kind {
    /// Full weights, adapter merged into its base
    #[default]
    Full,
    /// PEFT adapter
    Adapter,
}

/// The result as JSON.
#[derive(Serialize)]
struct Written<'a> {
    schema: u32,
    out: &'a Path,
    kind: &'static str,
    parameters: usize,
    dtype: &'static str,
}

/// Version of the JSON.
const SCHEMA: u32 = 1;

/// Runs the command.
pub fn run(args: ExportArgs) -> Outcome {
    super::set_threads(args.threads)?;
    if !(args.max_shard_size > 0.0 && args.max_shard_size.is_finite()) {
        return Err(Failure::user(format!(
            "--max-shard-size: expected a number of gigabytes above zero, got {}",
            args.max_shard_size
        )));
    }
    let dir = ModelDir::open(&args.model, args.base.as_deref())?;
    let progress = Progress::new();
    let written = match args.kind {
        Kind::Full => full(&args, &dir, &progress)?,
        Kind::Adapter => adapter(&args, &dir, &progress)?,
    };
    match args.format {
        Format::Json => output::print_json(&written)?,
        Format::Text => output::print(&format!(
            "{}: {} of {} parameters in {}",
            args.out.display(),
            if args.kind == Kind::Full { "full weights" } else { "an adapter" },
            written.parameters,
            written.dtype
        ))?,
    }
    Ok(Exit::Success)
}

fn full<'a>(args: &'a ExportArgs, dir: &ModelDir, progress: &Progress) -> Result<Written<'a>, Failure> {
    let info = ModelInfo::read(dir.weights())?;
    let dtype = args.dtype.or(info.dtypes.first().copied()).unwrap_or_default();
    progress.say(&format!("loading {}", args.model.display()));
    let mut decoder = dir.load()?;
    decoder.merge_lora()?;
    progress.say(&format!("writing {}", args.out.display()));
    let options = SaveOptions {
        source: Some(dir.weights().to_path_buf()),
        overlay: dir.adapter().map(Path::to_path_buf),
        dtype,
        shard_bytes: Some((args.max_shard_size * 1e9) as u64),
    };
    decoder.save(&args.out, &options)?;
    super::say_left_behind(dir.weights(), progress);
    let parameters = decoder.parameter_count();
    Ok(Written { schema: SCHEMA, out: &args.out, kind: "full", parameters, dtype: dtype.name() })
}

fn adapter<'a>(args: &'a ExportArgs, dir: &ModelDir, progress: &Progress) -> Result<Written<'a>, Failure> {
    let Some(source) = dir.adapter() else {
        return Err(Failure::user(format!(
            "{}: expected an adapter to export as one, got full weights",
            args.model.display()
        )));
    };
    let info = AdapterInfo::read(source)?;
    let dtype = args.dtype.or(info.dtypes.first().copied()).unwrap_or_default();
    progress.say(&format!("loading {}", args.model.display()));
    let decoder = dir.load()?;
    let options = AdapterSaveOptions {
        base_model: dir.weights().display().to_string(),
        source: Some(dir.tokenizer_files().to_path_buf()),
        dtype,
    };
    decoder.save_adapter(&args.out, &options)?;
    Ok(Written { schema: SCHEMA, out: &args.out, kind: "adapter", parameters: info.parameters, dtype: dtype.name() })
}
