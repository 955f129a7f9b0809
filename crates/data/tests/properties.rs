//! Properties of truncation and order, for rows of any text.

use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use smpo_chat::Message;
use smpo_data::{PreferencePair, PromptKeep, TokenizedPair, TrainingRow, Truncation, order};
use smpo_tokenizer::ChatTokenizer;

static MODELS: LazyLock<Vec<ChatTokenizer>> = LazyLock::new(|| {
    ["chatml", "llama", "phi", "plain", "think"]
        .iter()
        .map(|name| {
            let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tokenizer/tests/golden").join(name);
            ChatTokenizer::from_model_dir(dir).unwrap()
        })
        .collect()
});

/// Texts with what breaks splits and ends: white space at the edges, merges across the boundary, terminators spelt
/// out, combining marks, NUL, other scripts.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\n".to_string()),
        Just(" ".to_string()),
        Just("The answer is 4.".to_string()),
        Just("<|im_end|>".to_string()),
        Just("</s>".to_string()),
        Just("<|end|>".to_string()),
        Just("<think>".to_string()),
        Just("</think>".to_string()),
        Just("Привет".to_string()),
        Just("e\u{301}🙂\u{200d}\u{0}".to_string()),
        "[ -~]{0,12}".prop_map(|text: String| text),
        any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

fn pair() -> impl Strategy<Value = PreferencePair> {
    (proptest::collection::vec(text(), 0..3), text(), text(), text()).prop_map(|(turns, question, chosen, rejected)| {
        let mut prompt = Vec::new();
        for turn in turns {
            prompt.push(Message::user(turn.clone()));
            prompt.push(Message::assistant(turn));
        }
        prompt.push(Message::user(question));
        PreferencePair {
            id: "row".into(),
            prompt,
            chosen: vec![Message::assistant(chosen)],
            rejected: vec![Message::assistant(rejected)],
        }
    })
}

/// The last token ends the turn, and the one before it does not.
fn ends_once(model: &ChatTokenizer, ids: &[u32]) -> bool {
    match ids {
        [] => false,
        [only] => model.is_terminator(*only),
        [.., before, last] => model.is_terminator(*last) && !model.is_terminator(*before),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn truncation_never_takes_the_terminator(
        pair in pair(),
        max_length in proptest::option::of(2usize..60),
        max_prompt_length in proptest::option::of(1usize..40),
        keep_start in any::<bool>(),
    ) {
        for model in MODELS.iter() {
            let whole = pair.encode(model).unwrap();
            let keep = if keep_start { PromptKeep::KeepStart } else { PromptKeep::KeepEnd };
            let bounds = Truncation { max_length, max_prompt_length, keep, bos: model.bos() };
            let mut cut = whole.clone();
            let lost = bounds.apply_pair(&mut cut);
            check_bounds(model, &bounds, &whole, &cut)?;
            let before = whole.prompt.len() + whole.chosen.len() + whole.rejected.len();
            let after = cut.prompt.len() + cut.chosen.len() + cut.rejected.len();
            prop_assert_eq!(lost.prompt + lost.completion, before - after);
            let mut again = cut.clone();
            prop_assert!(!bounds.apply_pair(&mut again).any(), "a second cut takes nothing");
        }
    }

    #[test]
    fn an_order_visits_every_row_once(rows in 0usize..200, epoch in any::<u64>(), seed in any::<u64>()) {
        let mut visited = order(rows, epoch, seed);
        prop_assert_eq!(&visited, &order(rows, epoch, seed));
        visited.sort_unstable();
        prop_assert_eq!(visited, (0..rows).collect::<Vec<_>>());
    }
}

fn check_bounds(
    model: &ChatTokenizer,
    bounds: &Truncation,
    whole: &TokenizedPair,
    cut: &TokenizedPair,
) -> Result<(), TestCaseError> {
    let begins_with_bos = model.bos().is_some() && whole.prompt.first().copied() == model.bos();
    let least = if begins_with_bos { 2 } else { 1 };
    prop_assert!(cut.prompt.len() >= least.min(whole.prompt.len()));
    if begins_with_bos {
        prop_assert_eq!(cut.prompt.first().copied(), model.bos());
    }
    if let Some(max) = bounds.max_prompt_length {
        prop_assert!(cut.prompt.len() <= max.max(least));
    }
    match bounds.keep {
        PromptKeep::KeepStart => prop_assert!(whole.prompt.starts_with(&cut.prompt)),
        PromptKeep::KeepEnd => prop_assert!(whole.prompt.ends_with(&cut.prompt[usize::from(begins_with_bos)..])),
    }
    for (before, after) in [(&whole.chosen, &cut.chosen), (&whole.rejected, &cut.rejected)] {
        prop_assert!(ends_once(model, after), "{after:?}");
        prop_assert_eq!(after.last(), before.last());
        prop_assert!(before.starts_with(&after[..after.len() - 1]));
        if let Some(max) = bounds.max_length {
            prop_assert!(cut.prompt.len() + after.len() <= max.max(least + 1));
            // the completion only gives way when the prompt has nothing left to give
            if after.len() < before.len() {
                prop_assert_eq!(cut.prompt.len(), least.min(whole.prompt.len()));
            }
        }
    }
    Ok(())
}
