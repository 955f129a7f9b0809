//! A model's tokenizer, chat template and terminators in one.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use sha2::{Digest, Sha256};
use smpo_chat::{ChatTemplate, Message, Terminators};
use tokenizers::{PostProcessorWrapper, Tokenizer};

use crate::EncodeError;
use crate::byte_level::ByteLevel;
use crate::encoded::Encoded;
use crate::record::{Example, PreferencePair, TokenizedExample, TokenizedPair, TokenizedUnpaired, UnpairedExample};
use crate::turn_split::{self, Rendered};

/// Turns conversations into token ids, as the model will see them when it is used.
#[derive(Debug, Clone)]
pub struct ChatTokenizer {
    tokenizer: Tokenizer,
    /// A short way to the ids that the tokenizer gives.
    byte_level: Option<ByteLevel>,
    template: ChatTemplate,
    terminators: Terminators,
    /// The primary terminator, and its text where the tokenizer reads that text as the one token.
    end: (u32, Option<String>),
    suffix: String,
    special: HashSet<u32>,
    /// Finds the texts of special tokens; some tokenizers have a thousand.
    spelt: AhoCorasick,
    spelt_texts: Arc<[String]>,
    bos: Option<u32>,
    pad: Option<u32>,
}

/// A prompt and one completion as token ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptCompletion {
    /// The prompt, up to and with the header that opens the assistant's turn.
    pub prompt_ids: Vec<u32>,
    /// The completion; ends in exactly one terminator.
    pub completion_ids: Vec<u32>,
}

impl ChatTokenizer {
    /// Reads tokenizer.json, the chat template and the terminators of a model directory.
    ///
    /// # Errors
    /// When a file is missing or malformed, the template leaves out plain text, or nothing names a terminator.
    pub fn from_model_dir(dir: impl AsRef<Path>) -> Result<Self, EncodeError> {
        let dir = dir.as_ref();
        let template = ChatTemplate::from_model_dir(dir)?;
        Self::with_template(dir, template)
    }

    /// The same with another template than the directory's.
    ///
    /// # Errors
    /// As [`ChatTokenizer::from_model_dir`].
    pub fn with_template(dir: impl AsRef<Path>, template: ChatTemplate) -> Result<Self, EncodeError> {
        let dir = dir.as_ref();
        if template.drops_text() {
            return Err(EncodeError::DropsText { origin: template.origin().to_string() });
        }
        let tokenizer = load(&dir.join("tokenizer.json"))?;
        let mut terminators = Terminators::for_template(dir, &template)?;
        terminators.resolve(|token| tokenizer.token_to_id(token), |id| tokenizer.id_to_token(id));
        let Some(primary) = terminators.primary() else {
            return Err(EncodeError::NoTerminator { dir: dir.to_path_buf() });
        };
        let end = match (primary.id, &primary.token) {
            (Some(id), Some(text)) => {
                let one = tokenizer.encode(text.as_str(), false).is_ok_and(|read| read.get_ids() == [id]);
                (id, one.then(|| text.clone()))
            }
            _ => return Err(EncodeError::NoTerminator { dir: dir.to_path_buf() }),
        };
        let (special, spelt_texts): (HashSet<u32>, Vec<String>) = tokenizer
            .get_added_tokens_decoder()
            .into_iter()
            .filter(|(_, token)| token.special && !token.content.is_empty())
            .map(|(id, token)| (id, token.content))
            .unzip();
        let spelt = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(&spelt_texts)
            .map_err(|error| EncodeError::Tokenizer(error.to_string()))?;
        let named = |name| -> Result<Option<u32>, EncodeError> {
            Ok(smpo_chat::special_token(dir, name)?.and_then(|token| tokenizer.token_to_id(&token)))
        };
        let (bos, pad) = (named("bos_token")?, named("pad_token")?);
        let suffix = template.turn_suffix().unwrap_or_default();
        let byte_level = ByteLevel::of(&tokenizer);
        Ok(Self {
            tokenizer,
            byte_level,
            template,
            terminators,
            end,
            suffix,
            special,
            spelt,
            spelt_texts: spelt_texts.into(),
            bos,
            pad,
        })
    }

    /// The prompt, with the header that opens the assistant's turn: what the model is given to answer.
    ///
    /// # Errors
    /// When the template or the tokenizer fails.
    pub fn encode_prompt(&self, prompt: &[Message]) -> Result<Vec<u32>, EncodeError> {
        let text = self.template.render(prompt, true)?;
        Ok(self.encode(&[&text])?.swap_remove(0).ids)
    }

    /// A prompt and its completion: render(prompt + completion), split where render(prompt) ends.
    /// `prompt_ids` followed by `completion_ids` is the whole text as the tokenizer reads it; a token that
    /// straddles the split belongs to the completion.
    ///
    /// # Errors
    /// When the roles cannot be split, or the template or the tokenizer fails.
    pub fn encode_completion(
        &self,
        prompt: &[Message],
        completion: &[Message],
    ) -> Result<PromptCompletion, EncodeError> {
        let (prompt_ids, mut sides) = self.encode_sides(prompt, &[completion])?;
        Ok(PromptCompletion { prompt_ids, completion_ids: sides.swap_remove(0) })
    }

    /// A pair with one prompt for both sides.
    ///
    /// # Errors
    /// As [`ChatTokenizer::encode_completion`].
    pub fn encode_pair(&self, pair: &PreferencePair) -> Result<TokenizedPair, EncodeError> {
        let (prompt, mut sides) = self.encode_sides(&pair.prompt, &[&pair.chosen, &pair.rejected])?;
        let rejected = sides.swap_remove(1);
        let chosen = sides.swap_remove(0);
        Ok(TokenizedPair { id: pair.id.clone(), prompt, chosen, rejected })
    }

    /// An SFT example.
    ///
    /// # Errors
    /// As [`ChatTokenizer::encode_completion`].
    pub fn encode_example(&self, example: &Example) -> Result<TokenizedExample, EncodeError> {
        let ids = self.encode_completion(&example.prompt, &example.completion)?;
        Ok(TokenizedExample { id: example.id.clone(), prompt: ids.prompt_ids, completion: ids.completion_ids })
    }

    /// A labelled completion.
    ///
    /// # Errors
    /// As [`ChatTokenizer::encode_completion`].
    pub fn encode_unpaired(&self, row: &UnpairedExample) -> Result<TokenizedUnpaired, EncodeError> {
        let ids = self.encode_completion(&row.prompt, &row.completion)?;
        Ok(TokenizedUnpaired {
            id: row.id.clone(),
            prompt: ids.prompt_ids,
            completion: ids.completion_ids,
            label: row.label,
        })
    }

    /// The text of a row's sides as they are trained on: the whole, and how many bytes of it are prompt.
    ///
    /// # Errors
    /// When the roles cannot be split, or the template fails.
    pub fn render_completion(
        &self,
        prompt: &[Message],
        completion: &[Message],
    ) -> Result<(String, usize), EncodeError> {
        let mut rendered = self.render(prompt, &[completion])?;
        Ok((rendered.texts.swap_remove(0), rendered.split))
    }

    /// Ids as text, special tokens included.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, EncodeError> {
        self.tokenizer.decode(ids, false).map_err(|error| EncodeError::Tokenizer(error.to_string()))
    }

    /// A hash of all that decides which ids a text gets: the tokenizer, the template with its variables, and the
    /// terminators. Equal fingerprints give equal ids.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        let variables = self.template.variables();
        let parts = [
            // a tokenizer that loaded also serialises
            self.tokenizer.to_string(false).unwrap_or_default(),
            self.template.source().to_string(),
            serde_json::Value::Object(variables.clone()).to_string(),
            format!("{:?}", self.terminators.ids()),
        ];
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        smpo_files::hex(&hash.finalize())
    }

    /// Every token that ends a turn; ids and texts are all known.
    pub fn terminators(&self) -> &Terminators {
        &self.terminators
    }

    /// Whether an id ends a turn.
    pub fn is_terminator(&self, id: u32) -> bool {
        self.terminators.contains(id)
    }

    /// The chat template.
    pub fn template(&self) -> &ChatTemplate {
        &self.template
    }

    /// The tokenizer itself.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The id of the tokenizer's BOS token, where it has one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The id of the token that fills batches, where the model names one.
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }

    /// The first special token that a text spells out.
    pub fn special_token_in(&self, text: &str) -> Option<&str> {
        let found = self.spelt.find(text)?;
        Some(&self.spelt_texts[found.pattern().as_usize()])
    }

    /// Whether some completion begins with a token that is a merge of the prompt's last ones with its own text.
    pub(crate) fn straddles(&self, rest: &[u32], completions: &[Vec<u32>]) -> bool {
        let Ok(rest) = self.decode(rest) else { return false };
        completions.iter().any(|ids| {
            let first = ids.first().map(|&id| self.decode(&[id]).unwrap_or_default());
            first.is_some_and(|first| first.len() > rest.len() && first.starts_with(&rest))
        })
    }

    fn render(&self, prompt: &[Message], sides: &[&[Message]]) -> Result<Rendered, EncodeError> {
        let mut rendered = turn_split::render(&self.template, prompt, sides)?;
        for text in &mut rendered.texts {
            turn_split::end_turn(text, rendered.split, &self.suffix, &self.terminators);
            if let (_, Some(end)) = &self.end
                && !self.terminators.tokens().iter().any(|token| text[rendered.split..].ends_with(token))
            {
                text.push_str(end);
            }
        }
        Ok(rendered)
    }

    /// One prompt and any number of sides, split at one point.
    pub(crate) fn encode_sides(
        &self,
        prompt: &[Message],
        sides: &[&[Message]],
    ) -> Result<(Vec<u32>, Vec<Vec<u32>>), EncodeError> {
        let rendered = self.render(prompt, sides)?;
        let texts: Vec<&str> = rendered.texts.iter().map(String::as_str).collect();
        let mut read = Vec::with_capacity(sides.len());
        let mut prompt_length = usize::MAX;
        for encoded in self.encode(&texts)? {
            let length = encoded.before(rendered.split, |id| self.special.contains(&id));
            let mut ids = encoded.ids;
            self.end_in_one_terminator(&mut ids, length);
            prompt_length = prompt_length.min(length);
            read.push(ids);
        }
        // one split for all sides: a merge across the boundary on one side moves it on the others too
        if let Some((first, others)) = read.split_first() {
            for ids in others {
                let shared = first.iter().zip(ids).take_while(|(a, b)| a == b).count();
                prompt_length = prompt_length.min(shared);
            }
        }
        let prompt_ids = read.first().map_or_else(Vec::new, |ids| ids[..prompt_length].to_vec());
        let sides = read.into_iter().map(|ids| ids[prompt_length..].to_vec()).collect();
        Ok((prompt_ids, sides))
    }

    /// `ids[start..]` ends in exactly one terminator afterwards.
    fn end_in_one_terminator(&self, ids: &mut Vec<u32>, start: usize) {
        let last = match ids.last() {
            Some(&last) if ids.len() > start && self.is_terminator(last) => last,
            _ => self.end.0,
        };
        while ids.len() > start && ids.last().is_some_and(|&id| self.is_terminator(id)) {
            ids.pop();
        }
        ids.push(last);
    }

    /// Ids and byte offsets of texts; the template has written all special tokens, so none are added.
    fn encode(&self, texts: &[&str]) -> Result<Vec<Encoded>, EncodeError> {
        if let Some(encoded) = self.byte_level.as_ref().and_then(|short| short.encode(&self.tokenizer, texts)) {
            return Ok(encoded);
        }
        let whole = |text: &&str| self.tokenizer.encode(*text, false).map(Encoded::from);
        texts.iter().map(whole).collect::<Result<_, _>>().map_err(|error| EncodeError::Tokenizer(error.to_string()))
    }
}

fn load(path: &Path) -> Result<Tokenizer, EncodeError> {
    let wrong = |message: String| EncodeError::Load { path: PathBuf::from(path), message };
    let mut tokenizer = Tokenizer::from_file(path).map_err(|error| wrong(error.to_string()))?;
    // a tokenizer.json may carry the padding and truncation of whoever saved it
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(|error| wrong(error.to_string()))?;
    // adds special tokens, which the template does here, and trims white space off offsets, which then lie about it
    tokenizer.with_post_processor(None::<PostProcessorWrapper>);
    Ok(tokenizer)
}
