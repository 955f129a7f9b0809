//! Names of columns, each list from the name that wins.

use super::judged::LAYOUTS;

/// The question, as text or messages.
pub(super) const PROMPT: &[&str] = &["prompt", "question", "instruction", "query", "problem"];
/// The one answer.
pub(super) const COMPLETION: &[&str] = &["completion", "response", "output", "solution", "answer", "choices"];
/// A whole conversation, or the one before the answers.
pub(super) const CONVERSATION: &[&str] = &["messages", "conversation", "conversations", "trajectory"];
/// The better answer.
pub(super) const CHOSEN: &[&str] =
    &["chosen", "chosen_response", "chosen_messages", "chosen_conversations", "preferred_output", "response_j"];
/// The worse answer.
pub(super) const REJECTED: &[&str] = &[
    "rejected",
    "rejected_response",
    "rejected_messages",
    "rejected_conversations",
    "non_preferred_output",
    "response_k",
];
/// The columns by which a row is told from any other object.
pub(super) const OF_A_ROW: [&[&str]; 5] = [CHOSEN, REJECTED, COMPLETION, CONVERSATION, PROMPT];
/// The worse answer beside a conversation that ends in the better one (ms-swift).
pub(super) const REJECTED_ALONE: &[&str] = &["rejected_response", "rejected_messages"];
/// The beginning of both sides of a pair (Math-Step-DPO).
pub(super) const BEGINNING: &str = "initial_reason_steps";
/// Several answers, each with a reward (groups).
pub(super) const COMPLETIONS: &str = "completions";
/// The rewards of several answers.
pub(super) const REWARDS: &[&str] = &["rewards", "scores"];
/// The scores of both sides of a pair, as data sets have them that were scored.
pub(super) const SCORES: [[&str; 2]; 8] = [
    ["score_chosen", "score_rejected"],
    ["chosen_score", "rejected_score"],
    ["chosen_rating", "rejected_rating"],
    ["chosen-rating", "rejected-rating"],
    ["chosen_avg_rating", "rejected_avg_rating"],
    ["rating_chosen", "rating_rejected"],
    ["chosen_reward", "rejected_reward"],
    ["reward_chosen", "reward_rejected"],
];
/// The system message.
pub(super) const SYSTEM: &[&str] = &["system", "system_prompt"];
/// Desirable or not (KTO).
pub(super) const LABEL: &[&str] = &["label", "kto_tag"];
/// Names of what else is known of an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct About {
    pub finished: &'static str,
    pub finish_reason: &'static str,
    pub stop_reason: &'static str,
    pub reasoning: [&'static str; 3],
}

macro_rules! about {
    ($prefix:literal) => {
        About {
            finished: concat!($prefix, "finished"),
            finish_reason: concat!($prefix, "finish_reason"),
            stop_reason: concat!($prefix, "stop_reason"),
            reasoning: [
                concat!($prefix, "reasoning_content"),
                concat!($prefix, "reasoning"),
                concat!($prefix, "thinking"),
            ],
        }
    };
}

/// Of the answer of the object that holds it.
pub(super) const ABOUT_IT: About = about!("");
/// Of the sides of a pair, and of a completion, in columns beside them.
pub(super) const ABOUT_CHOSEN: About = about!("chosen_");
pub(super) const ABOUT_REJECTED: About = about!("rejected_");
pub(super) const ABOUT_COMPLETION: About = about!("completion_");
/// Reasoning before an answer; templates are given it under the first name.
pub(super) const REASONING: [&str; 3] = ABOUT_IT.reasoning;
/// A row's own id.
pub(super) const ID: &[&str] = &["id", "prompt_id", "question_id", "uuid", "idx"];
/// Pictures, sound and film.
pub(super) const MEDIA: &[&str] = &["images", "image", "audios", "audio", "videos", "video"];

/// Columns before or beside a conversation.
const BESIDE: &[&str] = &["history", "input", "context", "tools", "functions", COMPLETIONS];

/// True for a column that is a part of a conversation or its label, under every name.
pub(crate) fn is_carried(column: &str) -> bool {
    let of_pairs = [CHOSEN, REJECTED].into_iter().chain(LAYOUTS.iter().map(|layout| &layout.sides[..]));
    let others = [PROMPT, COMPLETION, CONVERSATION, REWARDS, SYSTEM, LABEL, BESIDE];
    of_pairs.chain(others).any(|names| names.contains(&column))
}

/// Columns that carry a part of the conversation or a label, which a row cannot be read without; the remedy where
/// nothing in a row of this layout takes them.
pub(super) const CARRIERS: &[(&str, &str)] = &[
    ("history", "give earlier turns as messages of `prompt`"),
    ("input", "join it to the prompt, or remove it"),
    ("context", "join it to the prompt, or remove it"),
    ("label", "remove it, or give the answer as `completion`"),
    ("kto_tag", "remove it, or give the answer as `completion`"),
    ("weight", "rows have no weights: remove it, and draw rows by `dataset_ratio`"),
    (
        "reasoning_content",
        "give it inside the message it belongs to, or as `chosen_reasoning` and `rejected_reasoning`",
    ),
    ("reasoning", "give it inside the message it belongs to, or as `chosen_reasoning` and `rejected_reasoning`"),
    ("thinking", "give it inside the message it belongs to, or as `chosen_reasoning` and `rejected_reasoning`"),
    ("chosen_reasoning", "give it beside `chosen`, or remove it"),
    ("rejected_reasoning", "give it beside `rejected`, or remove it"),
    ("finish_reason", "say whose end it is: `chosen_finish_reason`, `rejected_finish_reason`"),
    ("finished", "say whose end it is: `chosen_finished`, `rejected_finished`"),
    ("prompt", "keep one question"),
    ("question", "keep one question"),
    ("instruction", "keep one question"),
    ("query", "keep one question"),
    ("messages", "keep one conversation"),
    ("conversation", "keep one conversation"),
    ("conversations", "keep one conversation"),
    ("chosen", "keep one chosen answer"),
    ("chosen_response", "keep one chosen answer"),
    ("chosen_messages", "keep one chosen answer"),
    ("rejected", "keep one rejected answer"),
    ("rejected_response", "keep one rejected answer"),
    ("rejected_messages", "keep one rejected answer"),
    ("system", "keep one system message"),
    ("system_prompt", "keep one system message"),
];
