//! The probe's prompts: the files that evaluation suites have, read for what a probe needs.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use smpo_chat::Message;
use smpo_data::order;
use smpo_tokenizer::{ChatTokenizer, TokenizerError};

use crate::config::{ProbeConfig, TrainConfig};
use crate::error::{TrainError, io};

/// One prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prompt {
    /// The row's own id, or its line.
    pub id: String,
    /// The conversation as the model sees it, with the header that opens its turn.
    pub ids: Vec<u32>,
    /// The gold answer as a completion, with its terminator.
    pub gold: Option<Vec<u32>>,
}

/// Other fields are those of an evaluation: slices, languages.
#[derive(Deserialize)]
struct Row {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    prompt: Option<String>,
    #[serde(default)]
    messages: Option<Vec<Message>>,
    #[serde(default)]
    reference: Option<String>,
}

/// Epoch number under which prompts are drawn: no training epoch has it.
const DRAW: u64 = u64::MAX - 2;

/// Reads the file, draws what is wanted with the seed, in file order, and tokenises it, with the run's system message.
pub(super) fn read(
    probe: &ProbeConfig,
    config: &TrainConfig,
    tokenizer: &ChatTokenizer,
) -> Result<Vec<Prompt>, TrainError> {
    let path = &probe.prompts;
    let text = fs::read_to_string(path).map_err(io(path, "read"))?;
    let lines: Vec<(usize, &str)> = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).collect();
    if lines.is_empty() {
        return Err(at(path, 1, "expected a prompt on every line, got an empty file".to_owned()));
    }
    let mut drawn = order(lines.len(), DRAW, config.seed);
    drawn.truncate(probe.max_prompts);
    drawn.sort_unstable();
    // The rows that are not drawn are read too: a file is right or wrong as a whole.
    let mut rows: Vec<(usize, Row)> = Vec::with_capacity(lines.len());
    for (index, line) in &lines {
        rows.push((index + 1, parse(path, index + 1, line)?));
    }
    drawn.into_iter().map(|index| prompt((path, rows[index].0), &rows[index].1, config, tokenizer)).collect()
}

fn parse(path: &Path, line: usize, text: &str) -> Result<Row, TrainError> {
    let row: Row = serde_json::from_str(text).map_err(|error| at(path, line, format!("expected a prompt: {error}")))?;
    match (&row.prompt, &row.messages) {
        (Some(_), None) => Ok(row),
        (None, Some(messages)) if messages.last().is_some_and(|last| last.role != "assistant") => Ok(row),
        (None, Some(_)) => {
            Err(at(path, line, "`messages`: expected a list that does not end with the assistant".to_owned()))
        }
        (None, None) => Err(at(path, line, "expected `prompt` or `messages`, got neither".to_owned())),
        (Some(_), Some(_)) => Err(at(path, line, "expected `prompt` or `messages`, got both".to_owned())),
    }
}

fn prompt(
    (path, line): (&Path, usize),
    row: &Row,
    config: &TrainConfig,
    tokenizer: &ChatTokenizer,
) -> Result<Prompt, TrainError> {
    let mut messages = match (&row.prompt, &row.messages) {
        (Some(prompt), _) => vec![Message::user(prompt)],
        (None, messages) => messages.clone().unwrap_or_default(),
    };
    crate::data::preparation(config).put_system(&mut messages);
    let refused = |error: TokenizerError| at(path, line, error.to_string());
    let gold = match &row.reference {
        Some(text) => Some(tokenizer.encode_completion(&messages, &[Message::assistant(text)]).map_err(refused)?),
        None => None,
    };
    Ok(Prompt {
        id: row.id.clone().unwrap_or_else(|| format!("line {line}")),
        ids: tokenizer.encode_prompt(&messages).map_err(refused)?,
        gold: gold.map(|gold| gold.completion_ids),
    })
}

fn at(path: &Path, line: usize, message: String) -> TrainError {
    TrainError::config(path, Some(line), message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use smpo_data::TokenCache;
    use smpo_fixtures::demo;
    use smpo_losses::Loss;

    use super::*;
    use crate::config::TrainConfigBuilder;

    /// A template without a system turn.
    const NO_SYSTEM: &str = "{%- for message in messages %}{%- if message.role == 'system' %}\
        {{- raise_exception('System role not supported') }}{%- endif %}\
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{%- endfor %}\
        {%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}";

    fn conversations() -> Vec<(&'static str, Vec<Message>)> {
        vec![
            ("plain", vec![Message::user("Why?")]),
            ("system", vec![Message::system("Be kind."), Message::user("Why?")]),
            ("turns", vec![Message::user("Why?"), Message::assistant("So."), Message::user("And now?")]),
        ]
    }

    fn config(with: impl FnOnce(TrainConfigBuilder) -> TrainConfigBuilder, dir: &Path) -> TrainConfig {
        let builder =
            TrainConfig::builder(Loss::Sft(Default::default())).model(demo("base")).output_dir(dir.join("out"));
        with(builder.train_files([dir.join("rows.jsonl")]).learning_rate(1e-4)).build().unwrap()
    }

    /// Ids of the probe's prompts and of the prompts of training rows with the same messages.
    fn probed_and_trained(
        tokenizer: &ChatTokenizer,
        with: impl FnOnce(TrainConfigBuilder) -> TrainConfigBuilder,
    ) -> Result<[Vec<Vec<u32>>; 2], TrainError> {
        let dir = tempfile::tempdir().unwrap();
        let (mut probe, mut rows) = (String::new(), String::new());
        for (id, messages) in conversations() {
            probe += &format!("{}\n", json!({"id": id, "messages": messages}));
            let answer = [Message::assistant("Because.")];
            rows += &format!("{}\n", json!({"id": id, "prompt": messages, "completion": answer}));
        }
        fs::write(dir.path().join("probe.jsonl"), probe).unwrap();
        fs::write(dir.path().join("rows.jsonl"), rows).unwrap();
        let config = config(with, dir.path());
        let prompts = read(&ProbeConfig::new(dir.path().join("probe.jsonl")), &config, tokenizer)?;
        let dataset = crate::data::dataset(&config, tokenizer.bos());
        let cache = TokenCache::new(dir.path().join("tokens"));
        let files = dataset.tokenize(tokenizer, &cache, false, &mut |_| std::ops::ControlFlow::Continue(()))?.unwrap();
        let rows = files.rows()?.train;
        let trained = |id: &str| rows.iter().find(|row| row.id == id).unwrap().prompt.to_vec();
        let trained = prompts.iter().map(|prompt| trained(&prompt.id)).collect();
        Ok([prompts.into_iter().map(|prompt| prompt.ids).collect(), trained])
    }

    #[test]
    fn prompts_have_the_system_message_of_training_rows() {
        let tokenizer = ChatTokenizer::from_model_dir(demo("base")).unwrap();
        let [without, _] = probed_and_trained(&tokenizer, |config| config).unwrap();
        let [probed, trained] = probed_and_trained(&tokenizer, |config| config.system_prompt("Be brief.")).unwrap();
        assert_eq!(probed, trained);
        assert!(probed[0] != without[0] && probed[1] == without[1], "a row's own system message stays");
    }

    #[test]
    fn a_template_without_a_system_turn_gets_the_message_in_the_question() {
        let tokenizer = ChatTokenizer::with_template_text(demo("base"), NO_SYSTEM, "a test").unwrap();
        let refused = probed_and_trained(&tokenizer, |config| config).unwrap_err().to_string();
        assert!(refused.contains("System role not supported"), "{refused}");
        let [probed, trained] =
            probed_and_trained(&tokenizer, |config| config.model_support_system_role(false)).unwrap();
        assert_eq!(probed, trained);
        let told = |config: TrainConfigBuilder| config.model_support_system_role(false).system_prompt("Be brief.");
        let [probed, trained] = probed_and_trained(&tokenizer, told).unwrap();
        assert_eq!(probed, trained);
        assert!(tokenizer.decode(&probed[0]).unwrap().contains("Be brief.\nWhy?"));
    }
}
