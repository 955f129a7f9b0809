//! Completions generated elsewhere, in the formats in use.
//!
//! | format | file |
//! |---|---|
//! | `smpo` | this project's own `samples.jsonl` |
//! | `fastchat` | FastChat and Arena `model_answer/*.jsonl` |
//! | `alpaca_eval` | AlpacaEval `model_outputs.json` |
//! | `lm_eval` | lm-evaluation-harness `samples_*.jsonl` of generation tasks |
//! | `openai_batch` | output of an OpenAI batch (vLLM's `run_batch` too) |
//! | `plain` | `{"prompt": …, "completion": …}` lines, or conversations that end with the assistant |
//!
//! Fields that a format lacks are unknown, never guessed: without a finish reason there is no `eos_rate`.

mod alpaca_eval;
mod assemble;
mod directories;
mod fastchat;
mod finish;
mod format;
mod lm_eval;
mod openai_batch;
mod own;
mod plain;

use std::path::{Path, PathBuf};

use smpo_results::{
    EvaluationDir, FinishReason, Message, ModelInfo, Observed, RunManifest, SCHEMA_VERSION, Sample, files,
};

pub use assemble::{ModelCompletions, assemble};
pub use directories::directories;
pub use format::InputFormat;

use crate::input_error::InputError;
use crate::json_rows;
use crate::measure::Measured;
use crate::runner::write_results;

/// One completion of a file.
#[derive(Debug, Clone, PartialEq)]
struct Record {
    model: Option<String>,
    id: Option<String>,
    sample: Option<u32>,
    slice: Option<String>,
    messages: Vec<Message>,
    reference: Option<String>,
    closed: bool,
    language: Option<String>,
    completion: String,
    token_ids: Option<Vec<u32>>,
    logps: Option<Vec<f32>>,
    terminator_logps: Option<Vec<f32>>,
    finish_reason: FinishReason,
    tokens: Option<u32>,
    cap: Option<u32>,
    error: Option<String>,
}

impl Record {
    /// A completion; everything else is unknown.
    fn new(completion: String) -> Self {
        Record {
            model: None,
            id: None,
            sample: None,
            slice: None,
            messages: Vec::new(),
            reference: None,
            closed: false,
            language: None,
            completion,
            token_ids: None,
            logps: None,
            terminator_logps: None,
            finish_reason: FinishReason::Unknown,
            tokens: None,
            cap: None,
            error: None,
        }
    }

    /// No completion: the engine that the file comes from failed.
    fn failed(error: impl Into<String>) -> Self {
        Record { finish_reason: FinishReason::Error, error: Some(error.into()), ..Record::new(String::new()) }
    }
}

/// A file of completions.
#[derive(Debug, Clone, PartialEq)]
pub struct CompletionFile {
    path: PathBuf,
    /// The format, given or detected.
    pub format: InputFormat,
    records: Vec<(usize, Record)>,
}

impl CompletionFile {
    /// Reads a file, detecting its format by content unless one is given.
    ///
    /// # Errors
    /// [`InputError`], with the line.
    pub fn read(path: &Path, format: Option<InputFormat>) -> Result<Self, InputError> {
        let rows = json_rows::read(path)?;
        let (first_line, first) = &rows[0];
        let format = match format {
            Some(format) => format,
            None => InputFormat::detect(first).map_err(|problem| InputError::line(path, *first_line, problem))?,
        };
        let mut records = Vec::with_capacity(rows.len());
        for (line, row) in &rows {
            let parsed = match format {
                InputFormat::Smpo => own::records(row),
                InputFormat::FastChat => fastchat::records(row),
                InputFormat::AlpacaEval => alpaca_eval::records(row),
                InputFormat::LmEval => lm_eval::records(row, path),
                InputFormat::OpenAiBatch => openai_batch::records(row),
                InputFormat::Plain => plain::records(row),
            };
            let parsed = parsed
                .map_err(|problem| InputError::line(path, *line, format!("{problem} (read as {})", format.id())))?;
            records.extend(parsed.into_iter().map(|record| (*line, record)));
        }
        if format == InputFormat::LmEval {
            lm_eval::drop_repeated_filters(&mut records);
        }
        Ok(CompletionFile { path: path.to_owned(), format, records })
    }
}

/// Computes metrics on one model's completions and writes an evaluation directory.
///
/// # Errors
/// [`files::Error`]: a file cannot be written.
pub fn write(dir: &EvaluationDir, model: &ModelCompletions) -> Result<(RunManifest, Measured), files::Error> {
    let caps: Vec<Option<u32>> = model.samples.iter().filter(|sample| sample.error.is_none()).map(|s| s.cap).collect();
    let cap = caps.first().copied().flatten().filter(|&cap| caps.iter().all(|&other| other == Some(cap)));
    let manifest = RunManifest {
        schema: SCHEMA_VERSION,
        kind: "score".into(),
        model: ModelInfo {
            source: model.sources.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "),
            name: model.name.clone(),
            weights_sha256: None,
            arm: None,
            training_seed: None,
        },
        suite: model.suite.clone(),
        sampler: None,
        cap,
        samples_per_prompt: model.samples.iter().map(|sample| sample.sample + 1).max().unwrap_or(1),
        terminators: None,
        template_sha256: None,
        seed: 0,
        versions: [("smpo".to_owned(), env!("CARGO_PKG_VERSION").to_owned())].into(),
        fidelity_max_abs_nats: None,
        observed: Observed::default(),
    };
    files::write_jsonl::<Sample>(&dir.samples(), "sample", &model.samples)?;
    let measured = write_results(dir, &manifest, &model.samples, Vec::new())?;
    Ok((manifest, measured))
}
