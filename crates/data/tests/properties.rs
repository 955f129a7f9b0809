//! Properties of truncation and order, and of the split of a pair, for rows of any text.

use std::sync::LazyLock;

use proptest::prelude::*;
use smpo_chat::{Message, TemplateInputs};
use smpo_data::{PreferencePair, TokenizedCompletion, Truncation, TruncationMode, Unfinished, encode_pair, order};
use smpo_fixtures::text;
use smpo_tokenizer::{ChatTokenizer, PromptCompletions};

static MODELS: LazyLock<Vec<ChatTokenizer>> = LazyLock::new(|| {
    ["chatml", "llama", "phi", "plain", "think"]
        .map(|name| ChatTokenizer::from_model_dir(smpo_fixtures::golden("tokenizer", name)).unwrap())
        .into()
});

fn answer() -> impl Strategy<Value = Message> {
    (text(), any::<bool>()).prop_map(|(text, finished)| Message { finished, ..Message::assistant(text) })
}

fn pair() -> impl Strategy<Value = PreferencePair> {
    (proptest::collection::vec(text(), 0..3), text(), answer(), answer()).prop_map(
        |(turns, question, chosen, rejected)| {
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
                chosen: vec![chosen],
                rejected: vec![rejected],
                margin: None,
            }
        },
    )
}

fn encode(model: &ChatTokenizer, pair: &PreferencePair) -> PromptCompletions {
    model.encode_completions(&pair.prompt, &[&pair.chosen, &pair.rejected]).unwrap()
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
    fn each_side_is_cut_by_its_own_length_and_has_a_terminator_only_where_it_ended(
        pair in pair(),
        max_length in proptest::option::of(2usize..60),
        max_prompt_length in proptest::option::of(1usize..40),
        keep_start in any::<bool>(),
        unfinished in proptest::sample::select(Unfinished::ALL.to_vec()),
    ) {
        for model in MODELS.iter() {
            let whole = encode(model, &pair);
            let keep = if keep_start { TruncationMode::KeepStart } else { TruncationMode::KeepEnd };
            let bounds = Truncation { max_length, max_prompt_length, keep, bos: model.bos(), unfinished };
            let (row, lost) = encode_pair(&pair, model, &bounds).unwrap();
            check_prompt(model, &bounds, &whole.prompt_ids, &row.prompt)?;
            let room = max_length.map_or(usize::MAX, |max| max.saturating_sub(row.prompt.len()));
            let mut cut = 0;
            for (side, completion) in row.completions().enumerate() {
                cut += check_side(model, &whole, side, completion, room, unfinished)?;
            }
            prop_assert_eq!((lost.prompt, lost.completion), (whole.prompt_ids.len() - row.prompt.len(), cut));
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

fn check_prompt(model: &ChatTokenizer, bounds: &Truncation, prompt: &[u32], cut: &[u32]) -> Result<(), TestCaseError> {
    let begins_with_bos = model.bos().is_some() && prompt.first().copied() == model.bos();
    let least = if begins_with_bos { 2 } else { 1 };
    let most = bounds.max_prompt_length.unwrap_or(usize::MAX).max(least);
    prop_assert_eq!(cut.len(), prompt.len().min(most), "cut to max_prompt_length and to nothing else");
    if begins_with_bos {
        prop_assert_eq!(cut.first().copied(), model.bos());
    }
    match bounds.keep {
        TruncationMode::KeepStart => prop_assert!(prompt.starts_with(cut)),
        TruncationMode::KeepEnd => prop_assert!(prompt.ends_with(&cut[usize::from(begins_with_bos)..])),
    }
    Ok(())
}

/// Compares a side of a row with its whole encoding; returns the tokens it lost to its length.
fn check_side(
    model: &ChatTokenizer,
    whole: &PromptCompletions,
    side: usize,
    completion: &TokenizedCompletion,
    room: usize,
    unfinished: Unfinished,
) -> Result<usize, TestCaseError> {
    let ids = &whole.completion_ids[side];
    let [turn] = &whole.turns[side][..] else { panic!("one turn") };
    prop_assert_eq!(&turn.tokens, &(0..ids.len()));
    prop_assert!(ends_once(model, ids), "{:?}", ids);
    let keeps = unfinished == Unfinished::KeepTerminator;
    let written = turn.cut.filter(|_| !keeps).unwrap_or(ids.len());
    let mut expected = ids[..written.min(room)].to_vec();
    if keeps
        && written > room
        && let Some(last) = expected.last_mut()
    {
        *last = ids[ids.len() - 1];
    }
    prop_assert_eq!(completion.ids(), &expected[..]);
    prop_assert_eq!(completion.finished(), turn.cut.is_none() && ids.len() <= room);
    prop_assert_eq!(completion.len(), expected.len(), "one turn is scored whole");
    Ok(written - expected.len())
}
