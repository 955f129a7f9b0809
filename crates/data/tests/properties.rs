//! Properties of truncation and order, and of the split of a pair, for rows of any text.

use std::sync::LazyLock;

use proptest::prelude::*;
use smpo_chat::{Message, TemplateInputs};
use smpo_data::{PreferencePair, Truncated, Truncation, TruncationMode, order};
use smpo_fixtures::text;
use smpo_tokenizer::{ChatTokenizer, PromptCompletions};

static MODELS: LazyLock<Vec<ChatTokenizer>> = LazyLock::new(|| {
    ["chatml", "llama", "phi", "plain", "think"]
        .map(|name| ChatTokenizer::from_model_dir(smpo_fixtures::golden("tokenizer", name)).unwrap())
        .into()
});

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
            inputs: TemplateInputs::default(),
            chosen: vec![Message::assistant(chosen)],
            rejected: vec![Message::assistant(rejected)],
        }
    })
}

fn encode(model: &ChatTokenizer, pair: &PreferencePair) -> PromptCompletions {
    model.encode_completions(&pair.prompt, &[&pair.chosen, &pair.rejected]).unwrap()
}

fn truncate(bounds: &Truncation, ids: &mut PromptCompletions) -> Truncated {
    bounds.apply(&mut ids.prompt_ids, &mut ids.completion_ids.iter_mut().collect::<Vec<_>>())
}

fn tokens(ids: &PromptCompletions) -> usize {
    ids.prompt_ids.len() + ids.completion_ids.iter().map(Vec::len).sum::<usize>()
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
    fn a_pair_splits_no_later_than_either_side_alone(pair in pair()) {
        for model in MODELS.iter() {
            let ids = encode(model, &pair);
            for (at, messages) in [&pair.chosen, &pair.rejected].into_iter().enumerate() {
                let side = &ids.completion_ids[at];
                let alone = model.encode_completion(&pair.prompt, messages).unwrap();
                prop_assert!(ids.prompt_ids.len() <= alone.prompt_ids.len());
                if let Some(lengths) = &ids.alone_prompt_lengths {
                    prop_assert_eq!(lengths[at], alone.prompt_ids.len());
                }
                prop_assert_eq!(
                    [&ids.prompt_ids[..], side].concat(),
                    [alone.prompt_ids, alone.completion_ids].concat()
                );
            }
        }
    }

    #[test]
    fn truncation_never_takes_the_terminator(
        pair in pair(),
        max_length in proptest::option::of(2usize..60),
        max_prompt_length in proptest::option::of(1usize..40),
        keep_start in any::<bool>(),
    ) {
        for model in MODELS.iter() {
            let whole = encode(model, &pair);
            let keep = if keep_start { TruncationMode::KeepStart } else { TruncationMode::KeepEnd };
            let bounds = Truncation { max_length, max_prompt_length, keep, bos: model.bos() };
            let mut cut = whole.clone();
            let lost = truncate(&bounds, &mut cut);
            check_bounds(model, &bounds, &whole, &cut)?;
            prop_assert_eq!(lost.prompt + lost.completion, tokens(&whole) - tokens(&cut));
            prop_assert!(!truncate(&bounds, &mut cut.clone()).any(), "a second cut takes nothing");
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
    whole: &PromptCompletions,
    cut: &PromptCompletions,
) -> Result<(), TestCaseError> {
    let (prompt, cut_prompt) = (&whole.prompt_ids, &cut.prompt_ids);
    let begins_with_bos = model.bos().is_some() && prompt.first().copied() == model.bos();
    let least = if begins_with_bos { 2 } else { 1 };
    prop_assert!(cut_prompt.len() >= least.min(prompt.len()));
    if begins_with_bos {
        prop_assert_eq!(cut_prompt.first().copied(), model.bos());
    }
    if let Some(max) = bounds.max_prompt_length {
        prop_assert!(cut_prompt.len() <= max.max(least));
    }
    match bounds.keep {
        TruncationMode::KeepStart => prop_assert!(prompt.starts_with(cut_prompt)),
        TruncationMode::KeepEnd => prop_assert!(prompt.ends_with(&cut_prompt[usize::from(begins_with_bos)..])),
    }
    for (before, after) in whole.completion_ids.iter().zip(&cut.completion_ids) {
        prop_assert!(ends_once(model, after), "{after:?}");
        prop_assert_eq!(after.last(), before.last());
        prop_assert!(before.starts_with(&after[..after.len() - 1]));
        if let Some(max) = bounds.max_length {
            prop_assert!(cut_prompt.len() + after.len() <= max.max(least + 1));
            // the completion only gives way when the prompt has nothing left to give
            if after.len() < before.len() {
                prop_assert_eq!(cut_prompt.len(), least.min(prompt.len()));
            }
        }
    }
    Ok(())
}
