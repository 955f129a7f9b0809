//! `smpo convert`: a GGUF file as a Hugging Face directory.

use std::path::{Path, PathBuf};

use serde::Serialize;
use smpo_model::gguf::{convert, is_gguf};
use smpo_model::{ModelInfo, SaveOptions, WeightDtype};

use super::named;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Format};
use crate::progress::Progress;

/// Convert a GGUF file to a model directory in Hugging Face format: weights dequantised, with configuration, tokenizer and
/// chat template.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  smpo convert SmolLM2-135M-Instruct.Q4_1.gguf smollm2")]
pub struct ConvertArgs {
    /// GGUF file; of a split model any part
    model: PathBuf,
    /// Output directory
    #[arg(value_name = "DIR")]
    out: PathBuf,
    /// Dtype of the saved weights; float32 keeps dequantised values as they are [default: that of most weights, bfloat16
    /// for quantised ones]
    #[arg(long, value_parser = named::dtype())]
    dtype: Option<WeightDtype>,
    /// Maximum size of a weight shard, in GB
    #[arg(long, value_name = "GB", default_value_t = 5.0)]
    max_shard_size: f64,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// The result as JSON.
#[derive(Serialize)]
struct Converted<'a> {
    schema: u32,
    out: &'a Path,
    family: &'static str,
    parameters: usize,
    /// Types of the tensors in the GGUF file.
    from: &'a [&'static str],
    dtype: &'static str,
}

/// Version of the JSON.
const SCHEMA: u32 = 1;

/// Runs the command.
pub fn run(args: ConvertArgs) -> Outcome {
    let ConvertArgs { model, out, dtype, max_shard_size, format } = &args;
    if !(*max_shard_size > 0.0 && max_shard_size.is_finite()) {
        return Err(Failure::user(format!(
            "--max-shard-size: expected a number of gigabytes above zero, got {max_shard_size}"
        )));
    }
    if !is_gguf(model)? {
        let got = if model.is_dir() {
            "a directory"
        } else if model.exists() {
            "another file"
        } else {
            "no file"
        };
        return Err(Failure::user(format!("{}: expected a GGUF file, got {got}", model.display())));
    }
    let progress = Progress::new();
    let info = ModelInfo::read(model)?;
    let dtype = dtype.or(info.dtypes.first().copied()).unwrap_or_default();
    progress.say(&format!("writing {}", out.display()));
    let shard_bytes = Some((max_shard_size * 1e9) as u64);
    convert(model, out, &SaveOptions { dtype, shard_bytes, ..SaveOptions::default() })?;
    let converted = Converted {
        schema: SCHEMA,
        out,
        family: info.family.model_type(),
        parameters: info.parameters,
        from: &info.ggml_types,
        dtype: dtype.name(),
    };
    match format {
        Format::Json => output::print_json(&converted)?,
        Format::Text => output::print(&format!(
            "{}: {} parameters in {}, from {}",
            out.display(),
            converted.parameters,
            converted.dtype,
            smpo_suggest::list(converted.from)
        ))?,
    }
    Ok(Exit::Success)
}
