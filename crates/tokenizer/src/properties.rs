//! Properties of encoded completions, for texts of any kind: the end of the turn and the split.

use std::sync::LazyLock;

use proptest::prelude::*;
use smpo_chat::Message;
use smpo_fixtures::text;

use crate::ChatTokenizer;

static MODELS: LazyLock<Vec<ChatTokenizer>> = LazyLock::new(|| {
    ["chatml", "llama", "phi", "plain", "think"]
        .map(|name| ChatTokenizer::from_model_dir(smpo_fixtures::golden("tokenizer", name)).unwrap())
        .into()
});

/// Up to two turns and a question.
fn prompt() -> impl Strategy<Value = Vec<Message>> {
    (proptest::collection::vec(text(), 0..3), text()).prop_map(|(turns, question)| {
        let turns = turns.into_iter().flat_map(|turn| [Message::user(turn.clone()), Message::assistant(turn)]);
        turns.chain([Message::user(question)]).collect()
    })
}

/// True if the last token ends the turn and the one before it does not.
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
    fn completions_end_in_one_terminator_and_join_to_the_whole(prompt in prompt(), sides in (text(), text())) {
        for model in MODELS.iter() {
            let sides = [[Message::assistant(&sides.0)], [Message::assistant(&sides.1)]];
            let ids = model.encode_completions(&prompt, &[&sides[0], &sides[1]]).unwrap();
            for (messages, side) in sides.iter().zip(&ids.completion_ids) {
                prop_assert!(ends_once(model, side), "{side:?}");
                if !sides.iter().any(|side| side[0].content.contains('<')) {
                    let ends = side.iter().filter(|&&id| model.is_terminator(id)).count();
                    prop_assert_eq!(ends, 1);
                }
                let whole = model.render((&prompt).into(), &[messages]).unwrap().texts.remove(0);
                let read = model.tokenizer().encode(whole, false).unwrap();
                prop_assert_eq!([&ids.prompt_ids[..], side].concat(), read.get_ids());
            }
        }
    }

    #[test]
    fn two_completions_split_no_later_than_either_alone(prompt in prompt(), sides in (text(), text())) {
        for model in MODELS.iter() {
            let sides = [[Message::assistant(&sides.0)], [Message::assistant(&sides.1)]];
            let ids = model.encode_completions(&prompt, &[&sides[0], &sides[1]]).unwrap();
            for (messages, side) in sides.iter().zip(&ids.completion_ids) {
                let alone = model.encode_completion(&prompt, messages).unwrap();
                prop_assert!(ids.prompt_ids.len() <= alone.prompt_ids.len());
                prop_assert_eq!(
                    [&ids.prompt_ids[..], side].concat(),
                    [alone.prompt_ids, alone.completion_ids].concat()
                );
            }
        }
    }
}
