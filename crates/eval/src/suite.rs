//! A suite: prompts, sampler settings and held-out pairs. Suites are data.
//!
//! ```toml
//! name = "ood-chat"
//! prompts = "ood-chat.jsonl"     # beside this file
//! slices = ["arithmetic", "poem"] # optional: every slice that the prompts use, no other
//! cap = 512                       # tokens, terminator included
//! samples_per_prompt = 1
//! seed = 17
//! pairs = "held-out.jsonl"        # optional: preference pairs for pref_accuracy and margin
//!
//! [sampler]
//! temperature = 0.8
//! ```
//!
//! A plain file of prompts (see [`crate::prompts`]) is a suite too, with the defaults of [`Suite::DEFAULT_CAP`] and
//! temperature 0.8.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use smpo_files::{Sha256Sum, line_at, sha256_file};
use smpo_inference::Sampler;
use smpo_results::SuiteInfo;

use crate::input_error::InputError;
use crate::prompts::{Prompt, Strictness, parse_prompts, read_prompts};
use crate::shipped;
use crate::slices::reserved;

/// Prompts and sampler settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Suite {
    /// Name in reports.
    pub name: String,
    /// In file order; ids are unique.
    pub prompts: Vec<Prompt>,
    /// Sampler.
    pub sampler: Sampler,
    /// Cap on generated tokens, terminator included.
    pub cap: u32,
    /// Samples of each prompt.
    pub samples_per_prompt: u32,
    /// Sampling seed.
    pub seed: u64,
    /// Held-out preference pairs.
    pub pairs: Option<PathBuf>,
}

/// The TOML file.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct SuiteFile {
    name: String,
    prompts: PathBuf,
    slices: Option<Vec<String>>,
    cap: u32,
    #[serde(default = "one")]
    samples_per_prompt: u32,
    #[serde(default)]
    seed: u64,
    pairs: Option<PathBuf>,
    sampler: Sampler,
}

/// Largest number of samples of a prompt: all of them are in memory.
const MOST_SAMPLES: u32 = 10_000;

const FIELDS: [&str; 8] = ["name", "prompts", "slices", "cap", "samples_per_prompt", "seed", "pairs", "sampler"];

fn one() -> u32 {
    1
}

impl Suite {
    /// Cap of a plain file of prompts.
    pub const DEFAULT_CAP: u32 = 512;
    /// Temperature of a plain file of prompts.
    pub const DEFAULT_TEMPERATURE: f64 = 0.8;

    /// Reads a suite: `.toml`, or else a plain file of prompts; or takes a shipped one by its name, where no file has it.
    ///
    /// # Errors
    /// [`InputError`], with the line.
    pub fn read(path: &Path) -> Result<Suite, InputError> {
        Suite::read_as(path, Strictness::Plain)
    }

    /// Reads the prompts of completions that are there: questions of several turns too.
    ///
    /// # Errors
    /// [`InputError`], with the line.
    pub fn read_answered(path: &Path) -> Result<Suite, InputError> {
        Suite::read_as(path, Strictness::Answered)
    }

    fn read_as(path: &Path, plain: Strictness<'_>) -> Result<Suite, InputError> {
        if shipped::is_name(path) {
            return match shipped::suite(path) {
                Some(shipped) => Suite::parse(path, shipped.suite, |file, strictness| {
                    parse_prompts(file, shipped.prompts.as_bytes().to_vec(), strictness)
                }),
                None => {
                    Err(InputError::whole(path, format!("no such file; the suites that ship: {}", shipped::list())))
                }
            };
        }
        if path.extension().is_some_and(|extension| extension == "toml") {
            Suite::read_toml(path)
        } else {
            Suite::read_plain(path, plain)
        }
    }

    fn read_toml(path: &Path) -> Result<Suite, InputError> {
        let text = std::fs::read_to_string(path).map_err(|source| InputError::Io { path: path.to_owned(), source })?;
        Suite::parse(path, &text, read_prompts)
    }

    /// The suite of a TOML file; `prompts` reads those that it names.
    fn parse(
        path: &Path,
        text: &str,
        prompts: impl FnOnce(&Path, Strictness<'_>) -> Result<Vec<Prompt>, InputError>,
    ) -> Result<Suite, InputError> {
        let file: SuiteFile = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_at(text, span.start));
            InputError::line(path, line, explain(&error))
        })?;
        let whole = |problem: String| InputError::whole(path, problem);
        let mut declared = file.slices.iter().flatten();
        if let Some(problem) = declared.clone().find_map(|slice| reserved(slice)) {
            return Err(whole(problem));
        }
        let dir = path.parent().unwrap_or(Path::new(""));
        let prompts = prompts(&dir.join(&file.prompts), Strictness::Suite { slices: file.slices.as_deref() })?;
        if let Some(unused) = declared.find(|slice| !prompts.iter().any(|prompt| prompt.slice == **slice)) {
            return Err(whole(format!(
                "the slice {unused:?} is declared, but no prompt is in it; remove it or add prompts"
            )));
        }
        let suite = Suite {
            name: file.name,
            prompts,
            sampler: file.sampler,
            cap: file.cap,
            samples_per_prompt: file.samples_per_prompt,
            seed: file.seed,
            pairs: file.pairs.map(|pairs| dir.join(pairs)),
        };
        suite.check().map_err(whole)?;
        Ok(suite)
    }

    fn read_plain(path: &Path, strictness: Strictness<'_>) -> Result<Suite, InputError> {
        Ok(Suite::plain(path, read_prompts(path, strictness)?))
    }

    /// The prompts of a plain file, under its name, with default settings.
    pub fn plain(path: &Path, prompts: Vec<Prompt>) -> Suite {
        let name = path.file_stem().map_or_else(|| "prompts".into(), |stem| stem.to_string_lossy().into_owned());
        Suite {
            name,
            prompts,
            sampler: Sampler::temperature(Self::DEFAULT_TEMPERATURE),
            cap: Self::DEFAULT_CAP,
            samples_per_prompt: 1,
            seed: 0,
            pairs: None,
        }
    }

    /// Checks the numbers, also after a caller has changed some.
    ///
    /// # Errors
    /// A message with field, range and value.
    pub fn check(&self) -> Result<(), String> {
        let problem = |field: &str, expected: &str, got: &dyn std::fmt::Display| {
            Err(format!("{field}: expected {expected}, got {got}"))
        };
        if self.cap == 0 {
            return problem("cap", "at least 1 token", &self.cap);
        }
        if !(1..=MOST_SAMPLES).contains(&self.samples_per_prompt) {
            return problem("samples_per_prompt", &format!("1 to {MOST_SAMPLES}"), &self.samples_per_prompt);
        }
        self.sampler.check().map_err(|error| error.to_string())
    }

    /// Name, size and hashes for the manifest.
    ///
    /// # Errors
    /// The file of held-out pairs cannot be read.
    pub fn info(&self) -> Result<SuiteInfo, InputError> {
        let pairs_sha256 = self.pairs.as_deref().map(sha256_file).transpose().map_err(smpo_results::Error::from)?;
        Ok(SuiteInfo {
            name: self.name.clone(),
            sha256: hash_prompts(&self.prompts),
            prompts: self.prompts.len(),
            pairs_sha256,
        })
    }
}

/// SHA-256 over every field of the prompts that affects a measurement, in order.
pub fn hash_prompts<'a>(prompts: impl IntoIterator<Item = &'a Prompt>) -> String {
    let mut hash = PromptHash::default();
    prompts.into_iter().for_each(|prompt| hash.add(prompt));
    hash.hex()
}

/// [`hash_prompts`] of prompts that come one by one.
#[derive(Debug, Default)]
pub(crate) struct PromptHash(Sha256Sum);

impl PromptHash {
    pub fn add(&mut self, prompt: &Prompt) {
        let mut line = serde_json::json!([
            prompt.id,
            prompt.slice,
            prompt.messages.iter().map(|message| [&message.role, &message.content]).collect::<Vec<_>>(),
            prompt.reference,
            prompt.language,
            prompt.closed,
        ]);
        // only where there are any, so that hashes of earlier releases stand
        if let (Some(fields), false) = (line.as_array_mut(), prompt.extra_body.is_empty()) {
            fields.push(prompt.extra_body.clone().into());
        }
        self.0.add(format!("{line}\n").as_bytes());
    }

    pub fn hex(self) -> String {
        self.0.hex()
    }
}

/// The parser's message, with "did you mean" for an unknown field.
fn explain(error: &toml::de::Error) -> String {
    let message = smpo_suggest::expected_and_got(error.message().trim());
    let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
    let known = FIELDS.into_iter().chain(["temperature", "top_k", "top_p", "min_p"]);
    let hint = unknown.map(|field| smpo_suggest::did_you_mean(field, known)).unwrap_or_default();
    message + &hint
}
