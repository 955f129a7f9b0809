//! `smpo generate`: answers to a file of prompts.

use smpo_pairs::{Answered, responses};

use super::sampled::{BasketArgs, Sampled};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Format};
use crate::progress::Progress;

/// Answer a file of prompts: one conversation per prompt, follow-up questions included.
///
/// Writes OUT/responses.jsonl: the rows of the prompts with model, conversation, generated_message_indices,
/// finish_reason and completion_tokens, the layout of effective_llm_alignment. Greedy unless --temperature is given.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  smpo generate runs/smpo/model --prompts basket.jsonl --out answers")]
pub struct GenerateArgs {
    #[command(flatten)]
    basket: BasketArgs,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command.
pub fn run(mut args: GenerateArgs) -> Outcome {
    if let Some(samples) = args.basket.sampling.samples.filter(|samples| *samples != 1) {
        return Err(Failure::user(format!("--samples: `generate` gives one answer to each prompt, got {samples}")));
    }
    let progress = Progress::new();
    args.basket.sampling.temperature.get_or_insert(0.0);
    let Some(Sampled { basket, model, samples, follow_ups }) = args.basket.sample(|_| 1, &progress)? else {
        progress.say("stopped; the same command resumes");
        return Ok(Exit::Interrupted);
    };
    let answered = Answered::all(&basket, &samples, &follow_ups);
    let path = args.basket.out.join("responses.jsonl");
    let rows = responses::write_responses(&path, &basket, &answered, &model)?;
    let failed = basket.suite.prompts.len().saturating_sub(rows);
    match args.format {
        Format::Text => {
            let failed = if failed > 0 {
                format!("; {} failed, the same command retries what failed", smpo_suggest::counted(failed, "prompt"))
            } else {
                String::new()
            };
            let conversations = smpo_suggest::counted(rows, "conversation");
            output::print(&format!("{conversations}: {}{failed}", path.display()))?;
        }
        Format::Json => output::print_json(&serde_json::json!({
            "schema": 1, "model": model, "out": path, "conversations": rows, "failed": failed,
        }))?,
    }
    Ok(Exit::Success)
}
