//! Formats of completion files: one table, their detection and their readers.

mod alpaca_eval;
mod api;
mod arena_hard;
mod batch;
mod fastchat;
mod helm;
mod inspect;
mod lm_eval;
mod openai_evals;
mod own;
mod plain;
mod promptfoo;

pub(super) use inspect::of_archive;
pub(super) use plain::passed_over;

use std::path::Path;
use std::str::FromStr;

use smpo_results::Message;

use super::record::Record;
use crate::conversation::of_json_text;
use crate::input_error::InputError;
use crate::json_rows::Row;

/// FastChat's completion of a failed API call (`API_ERROR_OUTPUT`).
const FAILED: &str = "$ERROR$";

/// Lists in a document that hold its rows.
const ENVELOPES: [&str; 8] = ["data", "rows", "results", "samples", "outputs", "predictions", "responses", "examples"];

/// The completions of a file, or the reason why it holds none.
pub(super) enum Read {
    /// Completions, each with its line.
    Records(Vec<(usize, Record)>),
    /// A file of the format without completions.
    Skipped(String),
}

/// The reader of a format's rows.
enum Reader {
    /// Each row for itself.
    Row(fn(&Row) -> Result<Vec<Record>, String>),
    /// All rows together.
    File(ReadFile),
}

/// A reader of all rows of a file, each with its line.
type ReadFile = fn(&Path, &[(usize, Row)]) -> Result<Read, InputError>;

/// One entry of the table.
struct Format {
    format: InputFormat,
    id: &'static str,
    files: &'static str,
    fits: fn(&Row) -> bool,
    reader: Reader,
}

/// Declares [`InputFormat`] and the table of its readers, in the order of detection.
macro_rules! formats {
    ($($variant:ident, $id:literal, $module:ident, $reader:expr, $files:literal;)*) => {
        /// A format of completions.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum InputFormat {
            $(#[doc = $files] $variant,)*
        }

        impl InputFormat {
            /// Every format, in the order of detection.
            pub const ALL: &[InputFormat] = &[$(InputFormat::$variant),*];
        }

        static TABLE: &[Format] = &[$(Format {
            format: InputFormat::$variant,
            id: $id,
            files: $files,
            fits: $module::fits,
            reader: $reader,
        }),*];
    };
}

formats! {
    Smpo, "smpo", own, Reader::Row(own::records), "this project's own `samples.jsonl`";
    FastChat, "fastchat", fastchat, Reader::Row(fastchat::records), "FastChat, MT-bench and Arena `model_answer/*.jsonl`; prompts: `question.jsonl`";
    ArenaHard, "arena_hard", arena_hard, Reader::Row(arena_hard::records), "Arena-Hard-Auto `model_answer/*.jsonl`";
    Batch, "batch", batch, Reader::Row(batch::records), "output of a batch of OpenAI (chat, Responses), Azure, Mistral, vLLM, Anthropic or Gemini; prompts: the batch's input";
    LmEval, "lm_eval", lm_eval, Reader::File(lm_eval::read), "lm-evaluation-harness `samples_*.jsonl` of generation tasks";
    Inspect, "inspect", inspect, Reader::Row(inspect::records), "inspect logs, `.eval` and `.json`";
    Promptfoo, "promptfoo", promptfoo, Reader::Row(promptfoo::records), "promptfoo's `results.json`";
    Helm, "helm", helm, Reader::Row(helm::records), "HELM's `scenario_state.json`";
    OpenAiEvals, "openai_evals", openai_evals, Reader::File(openai_evals::read), "logs of openai/evals";
    Api, "api", api, Reader::Row(api::records), "bodies of API responses, one a line: OpenAI, Anthropic, Gemini, Ollama, llama.cpp";
    AlpacaEval, "alpaca_eval", alpaca_eval, Reader::Row(alpaca_eval::records), "AlpacaEval `model_outputs.json`";
    Plain, "plain", plain, Reader::Row(plain::records), "a prompt and a completion under any usual name (Ragas, DeepEval, lighteval, LLaMA-Factory), a response of an API in a field (batches of Vertex and Bedrock), or conversations that end with the assistant (TRL, ShareGPT, flexeval)";
}

impl InputFormat {
    fn entry(self) -> &'static Format {
        &TABLE[self as usize]
    }

    /// Name on the command line.
    pub fn id(self) -> &'static str {
        self.entry().id
    }

    /// True for a format whose completion goes by any of several names.
    pub(super) fn has_any_field(self) -> bool {
        matches!(self, InputFormat::AlpacaEval | InputFormat::Plain)
    }

    /// The files of the format, in Markdown.
    pub fn files(self) -> &'static str {
        self.entry().files
    }

    /// The format of a file with these rows, and the rows: those of a list inside where the document is an envelope.
    pub(super) fn detect(rows: Vec<(usize, Row)>) -> Result<(Self, Vec<(usize, Row)>), String> {
        if let Some(format) = rows.iter().find_map(|(_, row)| Self::of_row(row)) {
            return Ok((format, rows));
        }
        let [(_, document)] = rows.as_slice() else { return Err(unknown(&rows[0].1)) };
        let enveloped = |name: &&str| {
            let rows = document.get(*name)?.as_array()?.iter().map(|row| row.as_object().cloned());
            let rows: Vec<(usize, Row)> =
                rows.collect::<Option<Vec<_>>>()?.into_iter().enumerate().map(|(i, row)| (i + 1, row)).collect();
            Some((Self::of_row(&rows.first()?.1)?, rows))
        };
        ENVELOPES.iter().find_map(enveloped).ok_or_else(|| unknown(document))
    }

    /// The format of a file with such a row.
    pub(super) fn of_row(row: &Row) -> Option<Self> {
        TABLE.iter().find(|entry| (entry.fits)(row)).map(|entry| entry.format)
    }

    /// The completions of some rows; `None` where the format takes all rows of a file together.
    pub(super) fn read_rows(
        self,
        path: &Path,
        rows: &[(usize, Row)],
    ) -> Result<Option<Vec<(usize, Record)>>, InputError> {
        match self.entry().reader {
            Reader::Row(records) => each(path, rows, records).map(Some).map_err(|error| self.remarked(error)),
            Reader::File(_) => Ok(None),
        }
    }

    fn remarked(self, error: InputError) -> InputError {
        error.with_remark(&format!(" (read as {})", self.id()))
    }

    pub(super) fn read(self, path: &Path, rows: &[(usize, Row)]) -> Result<Read, InputError> {
        match self.entry().reader {
            Reader::Row(records) => Ok(Read::Records(each(path, rows, records)?)),
            Reader::File(read) => read(path, rows),
        }
        .map_err(|error| self.remarked(error))
    }
}

/// The completions of each row, with its line.
fn each(
    path: &Path,
    rows: &[(usize, Row)],
    records: impl Fn(&Row) -> Result<Vec<Record>, String>,
) -> Result<Vec<(usize, Record)>, InputError> {
    let mut all = Vec::with_capacity(rows.len());
    for (line, row) in rows {
        let found = records(row).map_err(|problem| InputError::line(path, *line, problem))?;
        all.extend(found.into_iter().map(|record| (*line, record)));
    }
    Ok(all)
}

/// The conversation of a prompt that a log holds as a text.
fn prompt_of_text(text: &str) -> Vec<Message> {
    of_json_text(text).unwrap_or_else(|| vec![Message::user(text)])
}

fn unknown(row: &Row) -> String {
    let fields: Vec<&str> = row.keys().map(String::as_str).take(12).collect();
    let known: Vec<&str> = InputFormat::ALL.iter().map(|format| format.id()).collect();
    format!(
        "no known format of completions has the fields {}; expected one of {}; a file of your own needs `completion`, and \
         `prompt` or `id`",
        fields.join(", "),
        known.join(", ")
    )
}

impl FromStr for InputFormat {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        // the name of `batch` when OpenAI's were the only ones
        let name = if name == "openai_batch" { "batch" } else { name };
        Self::ALL.iter().copied().find(|format| format.id() == name).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|format| format.id()).collect();
            let hint = smpo_suggest::did_you_mean(name, known.iter().copied());
            format!("unknown format {name:?}{hint}: expected one of {}", known.join(", "))
        })
    }
}
