//! The prompts of scored files: the same id must name the same text, and ids without texts deserve a warning.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::hash::{BuildHasher, Hash, RandomState};
use std::io::{BufRead, BufReader};

use serde::Deserialize;
use smpo_files::is_file;
use smpo_results::{EvaluationDir, Message, for_each_jsonl};

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

/// 128 bits in place of a text, under keys of this process's own: nobody can make two texts that share them.
#[derive(Default)]
pub(crate) struct Digests([RandomState; 2]);

/// A text's bits.
pub(crate) type Digest = [u64; 2];

impl Digests {
    /// Bits of anything that can be compared.
    pub fn of(&self, value: impl Hash) -> Digest {
        [self.0[0].hash_one(&value), self.0[1].hash_one(&value)]
    }

    /// Bits of a prompt; none where it is not known. What the assistant said in it may be the model's own earlier answer.
    pub fn of_messages(&self, messages: &[Message]) -> Option<Digest> {
        let asked: Vec<&Message> = messages.iter().filter(|message| message.role != "assistant").collect();
        (!messages.is_empty()).then(|| self.of(asked))
    }
}

/// Refuses runs in which one id names two prompts. Runs of one suite hash have the same ones; a prompt whose text one of
/// the runs does not know is taken for the same.
pub(crate) fn check_same(left: &Run, right: &Run) -> Result<(), GateError> {
    if left.manifest.suite.sha256 == right.manifest.suite.sha256 {
        return Ok(());
    }
    let digests = Digests::default();
    let (ours, theirs) = (by_id(left, &digests)?, by_id(right, &digests)?);
    for (key, prompt) in &ours {
        if theirs.get(key).is_some_and(|other| differ(*prompt, *other)) {
            return Err(GateError::DifferentPrompt {
                left: left.dir.clone(),
                right: right.dir.clone(),
                prompt_id: key.1.clone(),
            });
        }
    }
    Ok(())
}

/// True if two runs have a prompt of the same text, whatever its id; false where their texts cannot be read.
pub(crate) fn share_a_text(left: &Run, right: &Run) -> bool {
    let digests = Digests::default();
    let texts = |run: &Run| by_id(run, &digests).into_iter().flat_map(BTreeMap::into_values).flatten();
    let ours: HashSet<Digest> = texts(left).collect();
    texts(right).any(|text| ours.contains(&text))
}

/// Digests of the texts of a run's prompts by slice and id.
fn by_id(run: &Run, digests: &Digests) -> Result<BTreeMap<(String, String), Option<Digest>>, GateError> {
    let path = EvaluationDir::new(&run.dir).samples();
    if !is_file(&path).map_err(smpo_results::Error::from)? {
        return Err(GateError::Unfinished { dir: run.dir.clone(), missing: "samples.jsonl" });
    }
    let mut prompts = BTreeMap::new();
    for_each_jsonl(&path, "sample", |prompt: Prompt| {
        prompts.insert((prompt.slice, prompt.prompt_id), digests.of_messages(&prompt.messages));
    })?;
    Ok(prompts)
}

/// True for two prompts that are known and not the same.
pub(crate) fn differ(left: Option<Digest>, right: Option<Digest>) -> bool {
    matches!((left, right), (Some(left), Some(right)) if left != right)
}

/// True if some answer of the run comes with its prompt. A file that cannot be read is no reason for a warning.
pub(crate) fn known(run: &Run) -> bool {
    let Ok(file) = File::open(EvaluationDir::new(&run.dir).samples()) else { return true };
    let rows = BufReader::new(file).lines().map_while(Result::ok).filter(|line| !line.trim().is_empty());
    let mut prompts = rows.filter_map(|line| serde_json::from_str::<Prompt>(&line).ok());
    prompts.any(|prompt| !prompt.messages.is_empty())
}
