//! [`ChatTokenizer`] against an independent reading of the same directories: the template through `minijinja` and the
//! ids through `tokenizers`, both used directly, with nothing of this project between.

use std::fs;
use std::path::{Path, PathBuf};

use minijinja::{Environment, context};
use proptest::prelude::*;
use serde_json::Value;
use smpo_chat::Message;
use smpo_fixtures::{demo, golden};
use smpo_tokenizer::ChatTokenizer;
use tokenizers::Tokenizer;

/// Tokenizer and template of a model directory, read straight.
struct Independent {
    tokenizer: Tokenizer,
    template: String,
    special: Value,
}

impl Independent {
    fn read(dir: &Path) -> Self {
        let config = fs::read_to_string(dir.join("tokenizer_config.json")).unwrap();
        let special: Value = serde_json::from_str(&config).unwrap();
        let template = match fs::read_to_string(dir.join("chat_template.jinja")) {
            Ok(text) => text,
            Err(_) => match &special["chat_template"] {
                Value::Array(named) => {
                    let default = named.iter().find(|entry| entry["name"] == "default").unwrap();
                    default["template"].as_str().unwrap().to_owned()
                }
                text => text.as_str().unwrap().to_owned(),
            },
        };
        let tokenizer = Tokenizer::from_file(dir.join("tokenizer.json")).unwrap();
        Independent { tokenizer, template, special }
    }

    fn render(&self, messages: &[Message], add_generation_prompt: bool) -> String {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        let special = |name: &str| self.special[name].as_str().unwrap_or_default();
        let (bos_token, eos_token) = (special("bos_token"), special("eos_token"));
        environment
            .render_str(&self.template, context! { messages, add_generation_prompt, bos_token, eos_token })
            .unwrap()
    }

    fn ids(&self, text: &str) -> Vec<u32> {
        self.tokenizer.encode(text, false).unwrap().get_ids().to_vec()
    }
}

fn model_dirs() -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> =
        ["chatml", "llama", "phi", "plain", "think"].map(|model| golden("tokenizer", model)).to_vec();
    dirs.push(demo("base"));
    dirs.push(golden("inference", "qwen2"));
    dirs
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~\n]{1,40}", "\\PC{1,20}", Just("Привет 🙂 e\u{301}".to_owned())]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn prompts_and_completions_have_the_ids_of_minijinja_and_tokenizers(
        turns in proptest::collection::vec(text(), 1..4), answer in text(),
    ) {
        let mut prompt: Vec<Message> = turns
            .iter()
            .enumerate()
            .map(|(at, turn)| if at % 2 == 0 { Message::user(turn) } else { Message::assistant(turn) })
            .collect();
        if prompt.len().is_multiple_of(2) {
            prompt.pop();
        }
        for dir in model_dirs() {
            let ours = ChatTokenizer::from_model_dir(&dir).unwrap();
            let straight = Independent::read(&dir);
            let opened = straight.render(&prompt, true);
            prop_assert_eq!(&ours.render_prompt(&prompt).unwrap(), &opened, "{}", dir.display());
            prop_assert_eq!(ours.encode_prompt(&prompt).unwrap(), straight.ids(&opened), "{}", dir.display());

            // Up to the terminator, which ours appends or keeps once, prompt and completion are the whole text's ids.
            let ids = ours.encode_completion(&prompt, &[Message::assistant(&answer)]).unwrap();
            let (last, content) = ids.completion_ids.split_last().unwrap();
            prop_assert!(ours.is_terminator(*last));
            let whole = straight.render(&[&prompt[..], &[Message::assistant(&answer)]].concat(), false);
            let expected = straight.ids(&whole);
            let got = [&ids.prompt_ids[..], content].concat();
            let same = got.iter().zip(&expected).take_while(|(a, b)| a == b).count();
            // `plain` writes two line ends after a turn, which are cut and may have merged with the text's own.
            prop_assert!(same + 2 >= got.len() || expected[same..].iter().any(|id| ours.is_terminator(*id)),
                "{}: {:?} against {:?}", dir.display(), got, expected);
        }
    }
}

#[test]
fn a_completion_decodes_to_the_text_of_tokenizers() {
    for dir in model_dirs() {
        let ours = ChatTokenizer::from_model_dir(&dir).unwrap();
        let straight = Independent::read(&dir);
        let prompt = [Message::user("Two plus two?")];
        let ids = ours.encode_completion(&prompt, &[Message::assistant("The answer is 4.")]).unwrap();
        let text = ours.decode_completion(&ids.prompt_ids, &ids.completion_ids).unwrap();
        let (_, content) = ids.completion_ids.split_last().unwrap();
        let expected = straight.tokenizer.decode(content, false).unwrap();
        // Decoders strip the space before a text's first word, which `decode_completion` keeps.
        assert_eq!(text.trim_start(), expected.trim_start(), "{}", dir.display());
        assert!(text.contains("The answer is 4."), "{}: {text:?}", dir.display());
    }
}
