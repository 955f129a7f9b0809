//! The type: loading it from a model directory, and its parts.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use smpo_chat::{ChatError, ChatTemplate, Terminators};
use smpo_files::{FileError, exists, is_file};
use tokenizers::{PostProcessorWrapper, Tokenizer};

use crate::TokenizerError;
use crate::byte_level::ByteLevel;
use crate::home::Home;
use crate::special_tokens::SpecialTokens;

/// A model's tokenizer, chat template and terminators.
#[derive(Debug, Clone)]
pub struct ChatTokenizer {
    files: Arc<Files>,
    pub(crate) tokenizer: Tokenizer,
    /// Fast path to the ids that `tokenizer` gives.
    pub(crate) byte_level: Option<ByteLevel>,
    pub(crate) template: ChatTemplate,
    pub(crate) terminators: Terminators,
    terminator_ids: Vec<u32>,
    /// The primary terminator's id, and its text where the tokenizer encodes that text as this one token.
    pub(crate) end: (u32, Option<String>),
    /// Text that the template writes after the last assistant message.
    pub(crate) suffix: String,
    pub(crate) special: SpecialTokens,
    pub(crate) around: Around,
    bos: Option<u32>,
    pad: Option<u32>,
}

/// Special tokens that a tokenizer puts around a text that no template renders.
#[derive(Debug, Clone, Default)]
pub(crate) struct Around {
    pub before: Vec<u32>,
    pub after: Vec<u32>,
}

impl Around {
    fn of(tokenizer: &Tokenizer) -> Self {
        const PROBE: &str = "a";
        let encode = |special| tokenizer.encode_fast(PROBE, special);
        let (Ok(bare), Ok(whole)) = (encode(false), encode(true)) else { return Self::default() };
        let (bare, whole) = (bare.get_ids(), whole.get_ids());
        match whole.windows(bare.len().max(1)).position(|window| window == bare) {
            Some(at) => Self { before: whole[..at].to_vec(), after: whole[at + bare.len()..].to_vec() },
            None => Self::default(),
        }
    }
}

/// Files that name terminators, BOS and padding.
const SETTINGS: [&str; 4] =
    ["tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "config.json"];

/// The directories of a tokenizer's files.
#[derive(Debug)]
struct Files {
    tokenizer: Home,
    /// Directory that names terminators, BOS and padding, where it is another one.
    settings: Option<Home>,
}

impl Files {
    fn settings(&self) -> &Home {
        self.settings.as_ref().unwrap_or(&self.tokenizer)
    }
}

impl ChatTokenizer {
    /// Reads `tokenizer.json`, the chat template and the terminators of a model directory, or those that a GGUF file
    /// describes.
    ///
    /// # Errors
    /// When a file is missing or malformed, the template leaves out plain text, or nothing names a terminator.
    pub fn from_model_dir(model: impl AsRef<Path>) -> Result<Self, TokenizerError> {
        let tokenizer = Home::of(model.as_ref())?;
        let template = match (tokenizer.template(), other_tokenizer(&tokenizer.tokenizer())?) {
            // Where neither is there, a template alone would not help.
            (Err(TokenizerError::Chat(ChatError::NoTemplate { .. })), Some(problem)) => {
                return Err(TokenizerError::Unusable { path: tokenizer.tokenizer(), problem });
            }
            (template, _) => template?,
        };
        Self::load(Arc::new(Files { tokenizer, settings: None }), template)
    }

    /// As [`ChatTokenizer::from_model_dir`], with another template than the model's.
    ///
    /// # Errors
    /// As [`ChatTokenizer::from_model_dir`].
    pub fn with_template(model: impl AsRef<Path>, template: ChatTemplate) -> Result<Self, TokenizerError> {
        Self::load(Arc::new(Files { tokenizer: Home::of(model.as_ref())?, settings: None }), template)
    }

    /// As [`ChatTokenizer::with_template`], with the template as text; `origin` names it in errors.
    ///
    /// # Errors
    /// As [`ChatTokenizer::from_model_dir`].
    pub fn with_template_text(model: impl AsRef<Path>, text: &str, origin: &str) -> Result<Self, TokenizerError> {
        let tokenizer = Home::of(model.as_ref())?;
        let template = ChatTemplate::replacing(tokenizer.dir(), text, origin)?;
        Self::load(Arc::new(Files { tokenizer, settings: None }), template)
    }

    /// The tokenizer of a model with or without a PEFT adapter. Of the adapter's directory come `tokenizer.json`, where it has
    /// one, the template, where it has one, and with it the terminators, where it names any; the rest is that of the weights.
    ///
    /// # Errors
    /// As [`ChatTokenizer::from_model_dir`].
    pub fn of_model(weights: &Path, adapter: Option<&Path>) -> Result<Self, TokenizerError> {
        let Some(adapter) = adapter else { return Self::from_model_dir(weights) };
        let own = Home::of(adapter)?;
        let has_tokenizer = is_file(&own.tokenizer())?;
        let (files, template) = match own.template() {
            Ok(template) if has_tokenizer => (Files { tokenizer: own, settings: None }, template),
            Ok(template) => {
                // a template alone says nothing of terminators
                let there = SETTINGS.iter().map(|name| is_file(&own.dir().join(name)));
                let says = there.collect::<Result<Vec<_>, _>>()?.contains(&true);
                (Files { tokenizer: Home::of(weights)?, settings: Some(own).filter(|_| says) }, template)
            }
            Err(TokenizerError::Chat(ChatError::NoTemplate { .. })) => {
                let base = Home::of(weights)?;
                let template = base.template()?;
                let files = match has_tokenizer {
                    true => Files { tokenizer: own, settings: Some(base) },
                    false => Files { tokenizer: base, settings: None },
                };
                (files, template)
            }
            Err(error) => return Err(error),
        };
        Self::load(Arc::new(files), template)
    }

    /// The same under more variables of the chat template, such as `enable_thinking`; its files are read again.
    ///
    /// # Errors
    /// As [`ChatTokenizer::from_model_dir`].
    pub fn with_variables(self, variables: &Map<String, Value>) -> Result<Self, TokenizerError> {
        if variables.is_empty() {
            return Ok(self);
        }
        Self::load(self.files, self.template.with_variables(variables))
    }

    fn load(files: Arc<Files>, template: ChatTemplate) -> Result<Self, TokenizerError> {
        if template.drops_text() {
            return Err(TokenizerError::DropsText { origin: template.origin().to_string() });
        }
        let (tokenizer, around) = read(&files.tokenizer)?;
        let dir = files.settings().dir();
        let mut terminators = Terminators::for_template(dir, &template)?;
        terminators.resolve(|token| tokenizer.token_to_id(token), |id| tokenizer.id_to_token(id));
        let no_terminator = || TokenizerError::NoTerminator { dir: files.settings().model.clone() };
        let primary = terminators.primary().ok_or_else(no_terminator)?;
        let (Some(id), Some(text)) = (primary.id, &primary.token) else { return Err(no_terminator()) };
        let one = tokenizer.encode_fast(text.as_str(), false).is_ok_and(|encoding| encoding.get_ids() == [id]);
        let end = (id, one.then(|| text.clone()));
        let named = |name| -> Result<Option<u32>, TokenizerError> {
            Ok(smpo_chat::special_token(dir, name)?.and_then(|token| tokenizer.token_to_id(&token)))
        };
        Ok(Self {
            bos: named("bos_token")?,
            pad: named("pad_token")?,
            byte_level: ByteLevel::of(&tokenizer),
            special: SpecialTokens::of(&tokenizer)?,
            suffix: template.turn_suffix().unwrap_or_default(),
            terminator_ids: terminators.ids(),
            tokenizer,
            around,
            template,
            terminators,
            end,
            files,
        })
    }

    /// A hash over everything that decides the ids of a text: the tokenizer, what it puts around a text, the template with its
    /// variables, and the terminators. Equal fingerprints give equal ids.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        let variables = self.template.variables();
        let parts = [
            // a tokenizer that loaded also serialises
            self.tokenizer.to_string(false).unwrap_or_default(),
            format!("{:?} {:?}", self.around.before, self.around.after),
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

    /// Every token that ends a turn, the primary one first; ids and texts are all known.
    pub fn terminators(&self) -> &Terminators {
        &self.terminators
    }

    /// Ids of [`ChatTokenizer::terminators`], in the same order.
    pub fn terminator_ids(&self) -> &[u32] {
        &self.terminator_ids
    }

    /// True if `id` ends a turn.
    pub fn is_terminator(&self, id: u32) -> bool {
        self.terminator_ids.contains(&id)
    }

    /// The chat template.
    pub fn template(&self) -> &ChatTemplate {
        &self.template
    }

    /// The underlying tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Id of the BOS token, where the model names one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Id of the padding token, where the model names one.
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }

    /// The first special token that `text` spells out.
    pub fn special_token_in(&self, text: &str) -> Option<&str> {
        self.special.find(text)
    }
}

/// A tokenizer that adds no special tokens, and those that it would add.
fn read(home: &Home) -> Result<(Tokenizer, Around), TokenizerError> {
    let path = &*home.tokenizer();
    let wrong = |message: String| TokenizerError::Load { path: home.shown(), message };
    // opening a pipe would wait for its writer, and a device has no end
    if smpo_files::exists(path)? && !smpo_files::is_file(path)? {
        return Err(wrong("expected a regular file, got a pipe, a device or a directory".into()));
    }
    if smpo_files::is_lfs_pointer_file(path) {
        return Err(TokenizerError::Unusable { path: path.to_path_buf(), problem: smpo_files::LFS_POINTER.into() });
    }
    if let Some(problem) = other_tokenizer(path)? {
        return Err(TokenizerError::Unusable { path: path.to_path_buf(), problem });
    }
    let bytes = std::fs::read(path).map_err(FileError::at(path, "read"))?;
    // some editors write a byte order mark, which says nothing
    let json = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
    let mut tokenizer = Tokenizer::from_bytes(json).map_err(|error| wrong(error.to_string()))?;
    // a tokenizer.json may carry the padding and truncation of whoever saved it
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(|error| wrong(error.to_string()))?;
    let around = Around::of(&tokenizer);
    // adds special tokens, which the template does here, and trims white space off offsets, which then lie about it
    tokenizer.with_post_processor(None::<PostProcessorWrapper>);
    Ok((tokenizer, around))
}

/// The way out where there is no `tokenizer.json`, by what lies in its place.
fn other_tokenizer(path: &Path) -> Result<Option<String>, FileError> {
    const SAVE: &str = "make tokenizer.json with transformers: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)";
    if exists(path)? {
        return Ok(None);
    }
    let there = |name: &str| path.with_file_name(name).is_file();
    Ok(Some(match () {
        () if there("tokenizer.model") => format!("there is none, but a SentencePiece tokenizer.model; {SAVE}"),
        () if there("tekken.json") => {
            "there is none, but Mistral's tekken.json; take tokenizer.json from the model's repository in Hugging Face \
             format, or serve the model and give the server's URL"
                .to_owned()
        }
        () if there("vocab.json") && there("merges.txt") => {
            format!("there is none, but vocab.json and merges.txt; {SAVE}")
        }
        () => "there is none; copy it, with the chat template, from the model that this one was trained from, or save the \
               tokenizer beside the weights"
            .to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens that a tokenizer puts around a text are among its ids.
    #[test]
    fn the_fingerprint_has_what_is_put_around_a_text() {
        let plain = ChatTokenizer::from_model_dir(smpo_fixtures::demo("base")).unwrap();
        let mut around = plain.clone();
        around.around.before.push(0);
        assert_ne!(plain.fingerprint(), around.fingerprint());
        assert_eq!(plain.fingerprint(), plain.clone().fingerprint());
    }

    #[test]
    fn a_byte_order_mark_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let plain = std::fs::read_to_string(smpo_fixtures::demo("base").join("tokenizer.json")).unwrap();
        std::fs::write(dir.path().join("tokenizer.json"), format!("\u{feff}{plain}")).unwrap();
        let (read, _) = read(&Home::of(dir.path()).unwrap()).unwrap();
        assert_eq!(read.get_vocab_size(true), Tokenizer::from_bytes(plain).unwrap().get_vocab_size(true));
    }
}
