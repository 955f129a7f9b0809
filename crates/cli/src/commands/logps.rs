//! `smpo logps`: teacher-forced log-probs of preference pairs and groups, token by token.

use std::path::{Path, PathBuf};

use serde_json::json;
use smpo_data::{
    Located, Problem, ReadError, Record, RowKind, Truncated, Truncation, Unfinished, encode_group, encode_pair, records,
};
use smpo_devices::on_device;
use smpo_losses::TokenEntropy;
use smpo_model::{Decoder, ModelDir, Placement, Storage};
use smpo_results::{LogpsRow, TokenLogps, write_jsonl};
use smpo_tokenizer::ChatTokenizer;
use smpo_trainer::{Row, RowLogps, TokenizedCompletion, check_vocabulary, row_logps, row_logps_with_entropy};

use crate::commands::device::DeviceArgs;
use crate::commands::named::named;
use crate::commands::scorer::{Scorer, max_length};
use crate::commands::template_variables::TemplateVariables;
use crate::exit::{Exit, Failure, OrFail, Outcome};
use crate::interrupt;
use crate::output::{self, Format};
use crate::outputs;
use crate::progress::Progress;
use crate::streams;

/// Compute teacher-forced log-probs of preference pairs or groups, token by token, in nats: of what the assistant wrote,
/// with the terminators of finished turns.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  smpo logps runs/smpo/model pairs.jsonl --reference runs/sft/model --out logps.jsonl"
)]
pub struct LogpsArgs {
    /// Model directory in Hugging Face format, GGUF file, or PEFT adapter directory
    model: PathBuf,
    /// Preference pairs, or groups of scored completions, in any format that `smpo train` reads; - is standard input
    #[arg(value_parser = streams::input())]
    pairs: PathBuf,
    /// JSONL file to write, one pair or group per line; - is standard output
    #[arg(long, value_name = "FILE", value_parser = streams::output())]
    out: PathBuf,
    /// Reference model or adapter; its log-probs are written as `ref_logps`
    #[arg(long, value_name = "DIR")]
    reference: Option<PathBuf>,
    /// Number of the model's whole distribution to write at each token, for losses that need it: `collision` for WPO
    /// (`use_weighting`), `top` for EAFT
    #[arg(long, value_enum)]
    entropy: Option<Entropy>,
    /// Base model of MODEL, if it is an adapter whose adapter_config.json does not name a directory
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// Maximum tokens of prompt and completion together [default: the model's context length]
    #[arg(long, value_name = "TOKENS")]
    max_length: Option<usize>,
    /// Maximum tokens of the prompt [default: no maximum; a prompt that leaves no room for a completion is an error]
    #[arg(long, value_name = "TOKENS")]
    max_prompt_length: Option<usize>,
    /// Treatment of completions that did not end, or that --max-length cuts
    #[arg(long, value_parser = named(Unfinished::ALL, Unfinished::name), default_value = "no_terminator")]
    unfinished: Unfinished,
    #[command(flatten)]
    variables: TemplateVariables,
    #[command(flatten)]
    device: DeviceArgs,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// CPU threads [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
}

/// The entropies of [`TokenEntropy`].
#[derive(Clone, Copy, clap::ValueEnum)]
enum Entropy {
    /// −log Σ p², as `collision_entropy`
    Collision,
    /// Entropy of the 20 likeliest tokens among themselves, as `top_entropy`
    Top,
}

impl From<Entropy> for TokenEntropy {
    fn from(entropy: Entropy) -> Self {
        match entropy {
            Entropy::Collision => Self::Collision,
            Entropy::Top => Self::Top,
        }
    }
}

/// Pairs per chunk; Ctrl-C is checked between chunks.
const CHUNK: usize = 8;

/// Maximum tokens per forward pass.
const MAX_TOKENS: usize = 4096;

/// Runs the command.
pub fn run(args: LogpsArgs) -> Outcome {
    super::set_threads(args.threads)?;
    outputs::check([&args.pairs, &args.model].into_iter().chain(&args.reference), &[("--out", Some(&args.out))])?;
    let progress = Progress::new();
    let Scorer { tokenizer, decoder, device, placement } =
        Scorer::load(&args.model, args.base.as_deref(), &args.variables, args.device, &progress)?;
    decoder.expect_language_model(&args.model)?;
    let reference = args
        .reference
        .as_deref()
        .map(|dir| on_device(&device, || reference(dir, &tokenizer, &placement)))
        .transpose()?;
    let truncation = Truncation {
        max_length: max_length(args.max_length, &decoder)?,
        max_prompt_length: args.max_prompt_length,
        bos: tokenizer.bos(),
        unfinished: args.unfinished,
        ..Truncation::default()
    };
    let rows = encode(&args.pairs, &tokenizer, &truncation, &progress)?;
    if rows.is_empty() {
        return Err(Failure::user(format!("{}: expected at least one row to score, got none", args.pairs.display())));
    }
    for model in [Some(&decoder), reference.as_ref()].into_iter().flatten() {
        check_vocabulary(rows.iter(), model.spec().vocab_size)
            .map_err(|error| Failure::user(format!("{}: {error}", args.pairs.display())))?;
    }
    let stage = progress.stage("logps", rows.len() as u64);
    let mut lines = Vec::with_capacity(rows.len());
    let entropy = args.entropy.map(TokenEntropy::from);
    for chunk in rows.chunks(CHUNK) {
        if interrupt::requested() {
            progress.say("stopped; nothing was written");
            return Ok(Exit::Interrupted);
        }
        let policy = on_device(&device, || row_logps_with_entropy(&decoder, chunk, MAX_TOKENS, entropy));
        let policy = policy.or_execution_error()?;
        let other = match &reference {
            Some(reference) => on_device(&device, || row_logps(reference, chunk, MAX_TOKENS)).or_execution_error()?,
            None => vec![RowLogps::default(); chunk.len()],
        };
        for ((row, policy), other) in chunk.iter().zip(policy).zip(other) {
            lines.push(line(row, policy, other, entropy));
        }
        stage.update(lines.len() as u64, "");
    }
    write_jsonl(&args.out, "row of log-probs", &lines).or_execution_error()?;
    stage.finish("done");
    let kind = if rows.iter().all(|row| row.group.is_empty()) { "pairs" } else { "rows" };
    let text = || format!("{}: {} {kind}", args.out.display(), lines.len());
    output::summary(Some(&args.out), args.format, text, &json!({"schema": 1, "out": args.out, "rows": lines.len()}))?;
    Ok(Exit::Success)
}

/// The pairs and groups of a file as rows, cut to length; says how many were cut or did not end.
fn encode(
    file: &Path,
    tokenizer: &ChatTokenizer,
    truncation: &Truncation,
    progress: &Progress,
) -> Result<Vec<Row>, Failure> {
    let (mut rows, mut cut, mut unfinished): (Vec<Row>, usize, usize) = (Vec::new(), 0, 0);
    for record in records(file)? {
        let Located { location, record, .. } = record?;
        let (row, truncated) = match &record {
            Record::Pair(pair) => encode_pair(pair, tokenizer, truncation)?,
            Record::Group(group) => encode_group(group, tokenizer, truncation)?,
            other => {
                let (expected, got) = (RowKind::Pairs.expected(), other.kind().name());
                return Err(ReadError { location, problem: Problem::WrongKind { expected, got } }.into());
            }
        };
        cut += usize::from(truncated.any());
        if row.completions().any(|side| !side.finished()) {
            unfinished += 1;
            if truncation.unfinished == Unfinished::Drop {
                continue;
            }
        }
        check_room(&row, truncated, truncation)?;
        rows.push(row);
    }
    let total = rows.len();
    if cut > 0 {
        progress.say(&format!("{} truncated", smpo_suggest::counted(cut, "row")));
    }
    if unfinished > 0 {
        let policy = truncation.unfinished.name();
        progress.say(&format!(
            "rows with a completion that did not end (--unfinished {policy}): {unfinished}; rows scored: {total}"
        ));
    }
    Ok(rows)
}

/// Refuses a row of which nothing is left of a completion.
fn check_room(row: &Row, truncated: Truncated, truncation: &Truncation) -> Result<(), Failure> {
    if !truncated.vanished {
        return Ok(());
    }
    let within = truncation.max_length.map_or_else(String::new, |length| format!(" in {length} tokens"));
    Err(Failure::user(format!(
        "row {}: nothing is left of a completion{within}, expected at least one token: the prompt takes all, or the \
         completion was cut before its first word; give --max-prompt-length, or leave the row out",
        row.id
    )))
}

fn line(row: &Row, policy: RowLogps, reference: RowLogps, entropy: Option<TokenEntropy>) -> LogpsRow {
    let tokens = |completion: &TokenizedCompletion, logps: Option<Vec<f64>>, ref_logps, entropies| {
        let (ids, is_terminator) = (completion.scored_ids().collect(), completion.is_terminator().to_vec());
        let (collision_entropy, top_entropy) = match entropy {
            Some(TokenEntropy::Top) => (None, entropies),
            Some(TokenEntropy::Collision) | None => (entropies, None),
        };
        let logps = logps.unwrap_or_default();
        TokenLogps { ids, logps, is_terminator, ref_logps, collision_entropy, top_entropy }
    };
    let side = |completion: &Option<TokenizedCompletion>, logps, ref_logps, entropies| {
        completion.as_ref().map(|completion| tokens(completion, logps, ref_logps, entropies))
    };
    let mut references = reference.group.into_iter();
    let grouped = row.group.iter().zip(policy.group);
    let completions =
        grouped.map(|(scored, logps)| tokens(&scored.completion, Some(logps), references.next(), None)).collect();
    LogpsRow {
        id: row.id.clone(),
        chosen: side(&row.chosen, policy.chosen, reference.chosen, policy.chosen_entropy),
        rejected: side(&row.rejected, policy.rejected, reference.rejected, policy.rejected_entropy),
        completions,
        rewards: row.group.iter().map(|scored| scored.reward).collect(),
        ..LogpsRow::default()
    }
}

/// Loads the reference; its vocabulary must be the model's.
fn reference(dir: &Path, tokenizer: &ChatTokenizer, placement: &Placement) -> Result<Decoder, Failure> {
    let model = ModelDir::open(dir, None)?;
    let other = ChatTokenizer::of_model(model.tokenizer(), model.adapter())?;
    if other.tokenizer().get_vocab(true) != tokenizer.tokenizer().get_vocab(true) {
        return Err(Failure::user(format!(
            "{}: expected a reference with the same vocabulary as the model, got another one",
            dir.display()
        )));
    }
    let decoder = model.load_frozen(placement, &Storage::default())?;
    decoder.expect_language_model(dir)?;
    Ok(decoder)
}
