//! `smpo logps`: teacher-forced log-probs of preference pairs, token by token.

use std::path::{Path, PathBuf};

use smpo_data::{Truncation, encode_pair, read_pairs};
use smpo_devices::on_device;
use smpo_model::{Decoder, ModelDir, Placement};
use smpo_results::{LogpsRow, TokenLogps, write_jsonl};
use smpo_tokenizer::ChatTokenizer;
use smpo_trainer::{Row, RowLogps, TokenizedCompletion, row_logps};

use crate::commands::device::DeviceArgs;
use crate::exit::{Exit, Failure, OrFail, Outcome};
use crate::interrupt;
use crate::output;
use crate::progress::Progress;

/// Compute teacher-forced log-probs of preference pairs, token by token, in nats, terminator included.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  smpo logps runs/smpo/model pairs.jsonl --reference runs/sft/model --out logps.jsonl"
)]
pub struct LogpsArgs {
    /// Model directory in Hugging Face format, or a PEFT adapter directory
    model: PathBuf,
    /// Preference pairs, in any format that `smpo train` reads
    pairs: PathBuf,
    /// JSONL file to write, one pair per line
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Reference model or adapter; its log-probs are written as `ref_logps`
    #[arg(long, value_name = "DIR")]
    reference: Option<PathBuf>,
    /// Base model of MODEL, if it is an adapter whose adapter_config.json does not name a directory
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// Maximum tokens of prompt and completion together [default: the model's context length]
    #[arg(long, value_name = "TOKENS")]
    max_length: Option<usize>,
    #[command(flatten)]
    device: DeviceArgs,
    /// CPU threads [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
}

/// Pairs per chunk; Ctrl-C is checked between chunks.
const CHUNK: usize = 8;

/// Maximum tokens per forward pass.
const MAX_TOKENS: usize = 4096;

/// Runs the command.
pub fn run(args: LogpsArgs) -> Outcome {
    super::set_threads(args.threads)?;
    let model = ModelDir::open(&args.model, args.base.as_deref())?;
    let tokenizer = ChatTokenizer::from_model_dir(model.tokenizer_dir()).or_user_error()?;
    let progress = Progress::new();
    let device = args.device.open(&progress)?;
    let placement = Placement { device: device.device().clone(), ..Placement::default() };
    let decoder = model.load_on(&placement)?.frozen();
    let reference = args.reference.as_deref().map(|dir| reference(dir, &tokenizer, &placement)).transpose()?;
    let positions = decoder.spec().max_positions;
    if let (Some(given), Some(positions)) = (args.max_length, positions)
        && given > positions
    {
        return Err(Failure::user(format!(
            "--max-length: expected at most the model's context length of {positions} tokens, got {given}"
        )));
    }
    let truncation =
        Truncation { max_length: args.max_length.or(positions), bos: tokenizer.bos(), ..Truncation::default() };
    let (mut rows, mut cut): (Vec<Row>, usize) = (Vec::new(), 0);
    for pair in read_pairs(&args.pairs)? {
        let (row, truncated) = encode_pair(&pair, &tokenizer, &truncation)?;
        cut += usize::from(truncated.any());
        rows.push(row);
    }
    if cut > 0 {
        progress.say(&format!("{cut} of {} pairs were truncated", rows.len()));
    }

    let stage = progress.stage("logps", rows.len() as u64);
    let mut lines = Vec::with_capacity(rows.len());
    for chunk in rows.chunks(CHUNK) {
        if interrupt::requested() {
            progress.say("stopped; nothing was written");
            return Ok(Exit::Interrupted);
        }
        let policy = on_device(&device, || row_logps(&decoder, chunk, MAX_TOKENS)).or_execution_error()?;
        let other = match &reference {
            Some(reference) => on_device(&device, || row_logps(reference, chunk, MAX_TOKENS)).or_execution_error()?,
            None => vec![RowLogps::default(); chunk.len()],
        };
        for ((row, policy), other) in chunk.iter().zip(policy).zip(other) {
            lines.push(line(row, policy, other));
        }
        stage.update(lines.len() as u64, "");
    }
    write_jsonl(&args.out, "pair of log-probs", &lines).or_execution_error()?;
    stage.finish("done");
    output::print(&format!("{}: {} pairs", args.out.display(), lines.len()))?;
    Ok(Exit::Success)
}

fn line(row: &Row, policy: RowLogps, reference: RowLogps) -> LogpsRow {
    let side = |completion: &Option<TokenizedCompletion>, logps: Option<Vec<f64>>, ref_logps| {
        let completion = completion.as_ref()?;
        let (ids, is_terminator) = (completion.ids().to_vec(), completion.is_terminator().to_vec());
        Some(TokenLogps { ids, logps: logps.unwrap_or_default(), is_terminator, ref_logps })
    };
    LogpsRow {
        id: row.id.clone(),
        chosen: side(&row.chosen, policy.chosen, reference.chosen),
        rejected: side(&row.rejected, policy.rejected, reference.rejected),
        ..LogpsRow::default()
    }
}

/// Loads the reference; its vocabulary must be the model's.
fn reference(dir: &Path, tokenizer: &ChatTokenizer, placement: &Placement) -> Result<Decoder, Failure> {
    let model = ModelDir::open(dir, None)?;
    let other = ChatTokenizer::from_model_dir(model.tokenizer_dir()).or_user_error()?;
    if other.tokenizer().get_vocab(true) != tokenizer.tokenizer().get_vocab(true) {
        return Err(Failure::user(format!(
            "{}: expected a reference with the same vocabulary as the model, got another one",
            dir.display()
        )));
    }
    Ok(model.load_on(placement)?.frozen())
}
