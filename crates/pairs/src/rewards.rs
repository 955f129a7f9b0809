//! Rewards of completions, on disk as soon as they exist: an interrupted run continues.

use std::ops::ControlFlow;
use std::path::Path;

use smpo_chat::Message;
use smpo_files::sha256;
use smpo_inference::{Item, RewardModel};

use crate::journal::{Journal, Line};
use crate::{Answered, Basket, PairsError};

/// Completions handed to the model at once; it may split them further.
const BATCH: usize = 64;

/// The reward of each completion, in their order, by a model whose weights have the hash `weights`; `None` for one that
/// failed, or that is longer than the model's context. `journal` is the file of rewards. The result is `None` when
/// `on_progress`, called with the completions done and in total, breaks; what is done is kept.
///
/// # Errors
/// The journal cannot be read or written, or the model fails.
pub fn rewards(
    model: &mut dyn RewardModel,
    weights: &str,
    basket: &Basket,
    completions: &[Answered<'_>],
    journal: &Path,
    on_progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Option<Vec<Option<f64>>>, PairsError> {
    let mut journal = Journal::open(journal)?;
    let conversations: Vec<Option<Conversation<'_>>> =
        completions.iter().map(|completion| Conversation::of(basket, completion, weights)).collect();
    let open: Vec<&Conversation<'_>> =
        conversations.iter().flatten().filter(|told| journal.verdict(&told.hash).is_none()).collect();
    let mut done = conversations.len() - open.len();
    for batch in open.chunks(BATCH) {
        if on_progress(done, conversations.len()).is_break() {
            return Ok(None);
        }
        let items: Vec<Item<'_>> =
            batch.iter().map(|told| Item { prompt: told.prompt, completion: &told.completion }).collect();
        let given =
            model.rewards(&items).map_err(|source| PairsError::Reward { prompt: batch[0].id.into(), source })?;
        let line = |(told, reward): (&&Conversation<'_>, Option<f64>)| {
            Some(Line { question: told.hash.clone(), verdict: reward?, reply: String::new() })
        };
        journal.append(batch.iter().zip(given).filter_map(line))?;
        done += batch.len();
    }
    let _ = on_progress(done, conversations.len());
    Ok(Some(conversations.iter().map(|told| journal.verdict(&told.as_ref()?.hash)).collect()))
}

/// A completion after its prompt.
struct Conversation<'a> {
    id: &'a str,
    prompt: &'a [Message],
    completion: Vec<Message>,
    hash: String,
}

impl<'a> Conversation<'a> {
    /// `None` for a completion that failed.
    fn of(basket: &'a Basket, answered: &Answered<'a>, weights: &str) -> Option<Self> {
        let id = answered.first.prompt_id.as_str();
        let prompt = &basket.prompt(id)?.messages;
        if answered.failed() {
            return None;
        }
        let completion = answered.messages();
        let hash = sha256(format!("{weights}\n{}", serde_json::json!([prompt, completion])).as_bytes());
        Some(Conversation { id, prompt, completion, hash })
    }
}
