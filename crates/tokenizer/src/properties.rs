//! Properties of encoded completions, for texts of any kind: the end of the turn and the split.

use std::sync::LazyLock;

use proptest::prelude::*;
use smpo_chat::{ChatTemplate, Message};
use smpo_fixtures::text;

use crate::ChatTokenizer;

static MODELS: LazyLock<Vec<ChatTokenizer>> = LazyLock::new(|| {
    ["chatml", "llama", "phi", "plain", "think"]
        .map(|name| ChatTokenizer::from_model_dir(smpo_fixtures::golden("tokenizer", name)).unwrap())
        .into()
});

/// Models whose template ends every turn, and the templates of `golden/masks.json`.
static ENDING: LazyLock<Vec<ChatTokenizer>> = LazyLock::new(|| {
    let text = std::fs::read_to_string(smpo_fixtures::golden("tokenizer", "masks.json")).unwrap();
    let masks: serde_json::Value = serde_json::from_str(&text).unwrap();
    let marked = masks["templates"].as_object().unwrap().iter().map(|(name, source)| {
        let case = masks["cases"].as_array().unwrap().iter().find(|case| case["template"] == **name).unwrap();
        let dir = smpo_fixtures::golden("tokenizer", case["model"].as_str().unwrap());
        let template = ChatTemplate::replacing(&dir, source.as_str().unwrap(), name).unwrap();
        ChatTokenizer::with_template(&dir, template).unwrap()
    });
    let own = ["chatml", "llama", "phi", "think"].map(|name| smpo_fixtures::golden("tokenizer", name));
    own.into_iter().map(|dir| ChatTokenizer::from_model_dir(dir).unwrap()).chain(marked).collect()
});

/// A text that no template changes but for the white space around it.
fn words() -> impl Strategy<Value = String> {
    proptest::collection::vec("[a-zа-я0-9.,?]{1,8}", 1..6).prop_map(|words| words.join(" "))
}

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

    /// Under each template that ends its turns, with blocks of its own or without.
    #[test]
    fn scored_tokens_are_what_the_assistant_said_and_its_terminators(
        turns in proptest::collection::vec((words(), words(), any::<bool>(), any::<bool>()), 1..4),
    ) {
        for model in ENDING.iter() {
            let mut messages: Vec<Message> = Vec::new();
            for (question, answer, finished, scored) in &turns {
                messages.push(Message::user(question));
                messages.push(Message { finished: *finished, scored: *scored, ..Message::assistant(answer) });
            }
            let (prompt, completion) = messages.split_at(1);
            let encoded = model.encode_completion(prompt, completion).unwrap();
            let said = completion.iter().filter(|message| message.role == "assistant" && message.scored);
            prop_assert_eq!(encoded.turns.len(), said.clone().count());
            for (turn, message) in encoded.turns.iter().zip(said) {
                let ids = &encoded.completion_ids[turn.tokens.clone()];
                prop_assert!(ends_once(model, ids));
                prop_assert_eq!(turn.cut.is_none(), message.finished);
                let written = &encoded.completion_ids[turn.tokens.start..turn.cut.unwrap_or(turn.tokens.end - 1)];
                let text = model.tokenizer().decode(written, false).unwrap();
                prop_assert_eq!(text.trim(), message.content.trim(), "{}", model.template().origin());
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
