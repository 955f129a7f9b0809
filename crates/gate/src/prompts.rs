//! The prompts of scored files: the same id must name the same text, and ids without texts deserve a warning.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};

use serde::Deserialize;
use smpo_files::is_file;
use smpo_results::{EvaluationDir, Message, read_jsonl};

use crate::error::GateError;
use crate::run::Run;

/// The prompt of a sample.
#[derive(Deserialize)]
struct Prompt {
    prompt_id: String,
    slice: String,
    #[serde(default)]
    messages: Vec<Message>,
}

/// Refuses runs in which one id names two prompts. Runs of one suite hash have the same ones; a prompt whose text one of
/// the runs does not know is taken for the same.
pub(crate) fn check_same(left: &Run, right: &Run) -> Result<(), GateError> {
    if left.manifest.suite.sha256 == right.manifest.suite.sha256 {
        return Ok(());
    }
    let read = |run: &Run| -> Result<BTreeMap<(String, String), Vec<Message>>, GateError> {
        let path = EvaluationDir::new(&run.dir).samples();
        if !is_file(&path).map_err(smpo_results::Error::from)? {
            return Err(GateError::Unfinished { dir: run.dir.clone(), missing: "samples.jsonl" });
        }
        let prompts: Vec<Prompt> = read_jsonl(&path, "sample")?;
        Ok(prompts.into_iter().map(|p| ((p.slice, p.prompt_id), p.messages)).collect())
    };
    let (ours, theirs) = (read(left)?, read(right)?);
    for (key, messages) in &ours {
        if theirs.get(key).is_some_and(|other| differ(messages, other)) {
            return Err(GateError::DifferentPrompt {
                left: left.dir.clone(),
                right: right.dir.clone(),
                prompt_id: key.1.clone(),
            });
        }
    }
    Ok(())
}

/// True for two texts that are known and not the same.
pub(crate) fn differ(left: &[Message], right: &[Message]) -> bool {
    !left.is_empty() && !right.is_empty() && left != right
}

/// True if some answer of the run comes with its prompt. A file that cannot be read is no reason for a warning.
pub(crate) fn known(run: &Run) -> bool {
    let Ok(file) = File::open(EvaluationDir::new(&run.dir).samples()) else { return true };
    let rows = BufReader::new(file).lines().map_while(Result::ok).filter(|line| !line.trim().is_empty());
    let mut prompts = rows.filter_map(|line| serde_json::from_str::<Prompt>(&line).ok());
    prompts.any(|prompt| !prompt.messages.is_empty())
}
