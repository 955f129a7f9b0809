//! The chat template of a model directory, rendered as `transformers`' `apply_chat_template` renders it.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use minijinja::value::Value as TemplateValue;
use minijinja::{Environment, Error, ErrorKind};
use serde_json::{Map, Value};

use crate::bounded::{Exceeded, run_bounded};
use crate::environment::{FUEL, python_environment, refusal};
use crate::files::{self, ModelFiles, json_kind, malformed};
use crate::message::AsPassed;
use crate::python::values;
use crate::rewriting::generation_tags;
use crate::{ChatError, Conversation, Message, rewriting};

/// Output bytes a template may write, beside sixteen times its input.
const OUTPUT_BASE: usize = 16 << 20;
/// Bytes of a template's text; the largest in use have some ten thousand. Expressions nest as deep as it is long.
const LONGEST: usize = 256 << 10;
/// The template in its environment.
const PLAIN: &str = "chat_template";
/// The same with its `{% generation %}` blocks marked in the output.
const MARKED: &str = "marked chat_template";
/// Content of the probe's assistant message, to find the text that the template writes after it.
const PROBE: &str = "probe 5c1fd";

/// Variables that `transformers` passes to every template from the tokenizer's special tokens.
const SPECIAL_TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A compiled chat template. Cheap to clone, and safe to render from many threads.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    environment: Arc<Environment<'static>>,
    source: Arc<str>,
    origin: Arc<str>,
    variables: Map<String, Value>,
    has_generation_blocks: bool,
    /// The bound that a render passed, after which there is no other.
    exceeded: Arc<OnceLock<Exceeded>>,
}

impl ChatTemplate {
    /// The template of a model directory: chat_template.jinja, else chat_template.json, else `chat_template` in
    /// tokenizer_config.json (a string, or named templates, of which `default` is taken).
    ///
    /// # Errors
    /// If there is none, a file is unreadable, or the template does not parse.
    pub fn from_model_dir(dir: impl AsRef<Path>) -> Result<Self, ChatError> {
        Self::from_files(&ModelFiles::read(dir.as_ref())?)
    }

    /// A template given as text in place of a model directory's own, with the directory's special tokens as variables.
    ///
    /// # Errors
    /// If a file is unreadable or the template does not parse.
    pub fn replacing(dir: impl AsRef<Path>, source: impl Into<String>, origin: &str) -> Result<Self, ChatError> {
        Ok(Self::from_source(source, origin)?.with_special_tokens(&ModelFiles::read(dir.as_ref())?))
    }

    pub(crate) fn from_files(files: &ModelFiles) -> Result<Self, ChatError> {
        let (source, origin) = find(files)?;
        Ok(Self::from_source(source, &origin)?.with_special_tokens(files))
    }

    fn with_special_tokens(mut self, files: &ModelFiles) -> Self {
        for name in SPECIAL_TOKENS {
            if let Some(token) = files.special_token(name) {
                self.variables.insert(name.to_string(), Value::String(token));
            }
        }
        self
    }

    /// A template given as text; `origin` names it in errors.
    ///
    /// # Errors
    /// If it does not parse.
    pub fn from_source(source: impl Into<String>, origin: &str) -> Result<Self, ChatError> {
        let source = with_line_feeds(source.into());
        let refused = |message: String| ChatError::Parse { origin: origin.to_string(), message };
        if source.len() > LONGEST {
            return Err(refused(format!("expected at most {LONGEST} bytes, got {}", source.len())));
        }
        let guarded = rewriting::for_engine(&source).map_err(refused)?;
        let rewritten = generation_tags::rewrite(&guarded);
        let has_generation_blocks = rewritten != guarded;
        let mut templates = vec![(PLAIN, rewritten)];
        if has_generation_blocks {
            templates.push((MARKED, generation_tags::mark(&guarded)));
        }
        let compiled = run_bounded(move || {
            let mut environment = python_environment();
            let added = templates.into_iter().try_for_each(|(name, text)| environment.add_template_owned(name, text));
            added.map(|()| environment).map_err(|error| chain(&error))
        });
        let environment = compiled
            .map_err(|exceeded| ChatError::Unbounded { origin: origin.to_string(), bound: exceeded.bound() })?
            .map_err(refused)?;
        Ok(Self {
            environment: Arc::new(environment),
            source: source.into(),
            origin: origin.into(),
            variables: Map::new(),
            has_generation_blocks,
            exceeded: Arc::default(),
        })
    }

    /// The same template with one more variable, such as `enable_thinking` or `eos_token`.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.variables.insert(name.to_string(), value.into());
        self
    }

    /// The template's text as in the model directory, lines ended by line feeds, for hashes and records.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Variables beside the conversation: special tokens, and those set by [`ChatTemplate::with_variable`].
    pub fn variables(&self) -> &Map<String, Value> {
        &self.variables
    }

    /// The file it came from.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The same template with another name of its file.
    #[must_use]
    pub fn with_origin(mut self, origin: &str) -> Self {
        self.origin = origin.into();
        self
    }

    /// The same template with some more variables, as `apply_chat_template`'s keyword arguments.
    #[must_use]
    pub fn with_variables(mut self, variables: &Map<String, Value>) -> Self {
        self.variables.extend(variables.clone());
        self
    }

    /// The conversation as text; `add_generation_prompt` opens the assistant's next turn.
    ///
    /// # Errors
    /// If the template refuses the conversation, fails, or does not terminate.
    pub fn render<'a>(
        &self,
        conversation: impl Into<Conversation<'a>>,
        add_generation_prompt: bool,
    ) -> Result<String, ChatError> {
        self.run(PLAIN, conversation.into(), add_generation_prompt)
    }

    /// [`ChatTemplate::render`] of several conversations, each with or without the generation prompt, for less than each alone.
    pub fn render_all(&self, conversations: &[(Conversation<'_>, bool)]) -> Vec<Result<String, ChatError>> {
        self.run_all(PLAIN, conversations)
    }

    /// The bytes of [`ChatTemplate::render`], without a generation prompt, that the template's own `{% generation %}`
    /// blocks write: the assistant's part. `None` where it has none, or changes their text afterwards.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn generation_spans<'a>(
        &self,
        conversation: impl Into<Conversation<'a>>,
        text: &str,
    ) -> Result<Option<Vec<Range<usize>>>, ChatError> {
        if !self.has_generation_blocks {
            return Ok(None);
        }
        let marked = self.run(MARKED, conversation.into(), false)?;
        Ok(generation_tags::unmark(&marked).filter(|(plain, _)| plain == text).map(|(_, spans)| spans))
    }

    /// True if the template marks the assistant's part with `{% generation %}` blocks.
    pub fn has_generation_blocks(&self) -> bool {
        self.has_generation_blocks
    }

    /// Text that the template writes after the last assistant message, such as `"<|im_end|>\n"`; `None` if it renders no
    /// plain exchange of a user and an assistant.
    pub fn turn_suffix(&self) -> Option<String> {
        self.after_probe(&[])
    }

    /// The part of [`ChatTemplate::turn_suffix`] that it also writes when another turn follows: the end of the turn, not
    /// of the conversation.
    pub(crate) fn turn_closing(&self) -> Option<String> {
        let last = self.turn_suffix()?;
        let followed = self.after_probe(&[Message::user("again")])?;
        let shared = last.chars().zip(followed.chars()).take_while(|(a, b)| a == b);
        Some(shared.map(|(c, _)| c).collect())
    }

    /// True if it writes the assistant's content in parts (images and text), and leaves out the same content as a text.
    pub fn drops_text(&self) -> bool {
        let in_parts = |text: &str| serde_json::json!([{ "type": "text", "text": text }]);
        let texts = [Message::user("question"), Message::assistant(PROBE)];
        let parts = texts.clone().map(|message| {
            let content = in_parts(&message.content);
            message.with_field("content", content)
        });
        let writes = |messages: &[Message]| self.render(messages, false).ok().map(|text| text.contains(PROBE));
        writes(&texts) == Some(false) && writes(&parts) == Some(true)
    }

    fn after_probe(&self, next: &[Message]) -> Option<String> {
        let exchange = [Message::user("question"), Message::assistant(PROBE)];
        let led = [Message::system("be brief"), Message::user("question"), Message::assistant(PROBE)];
        [&exchange[..], &led[..]].into_iter().find_map(|messages| {
            let text = self.render(&[messages, next].concat()[..], false).ok()?;
            let end = text.rfind(PROBE)? + PROBE.len();
            Some(text[end..].to_string())
        })
    }

    fn run(
        &self,
        name: &'static str,
        conversation: Conversation<'_>,
        add_generation_prompt: bool,
    ) -> Result<String, ChatError> {
        self.run_all(name, &[(conversation, add_generation_prompt)]).swap_remove(0)
    }

    /// Renders on the worker, to which a job costs more than a small text does.
    fn run_all(&self, name: &'static str, texts: &[(Conversation<'_>, bool)]) -> Vec<Result<String, ChatError>> {
        let unbounded = |bound| Err(ChatError::Unbounded { origin: self.origin.to_string(), bound });
        if let Some(exceeded) = self.exceeded.get() {
            return texts.iter().map(|_| unbounded(exceeded.bound())).collect();
        }
        let sized = texts.iter().map(|(conversation, add_generation_prompt)| {
            let Conversation { messages, inputs } = *conversation;
            let size = messages.iter().map(Message::size).sum::<usize>() + inputs.size();
            (self.context(*conversation, *add_generation_prompt), size)
        });
        let jobs: Vec<(BTreeMap<String, TemplateValue>, usize)> = sized.collect();
        let environment = Arc::clone(&self.environment);
        let rendered = run_bounded(move || {
            let render = |(context, size): (BTreeMap<String, TemplateValue>, usize)| {
                let limit = OUTPUT_BASE + 16 * size;
                let mut out = BoundedText { bytes: Vec::with_capacity(size + 256), limit, full: false };
                let result = environment
                    .get_template(name)
                    .and_then(|template| template.render_captured_to(context, &mut out).map(drop));
                result.map(|()| out.bytes).map_err(|error| (error, out.full.then_some(limit)))
            };
            jobs.into_iter().map(render).collect::<Vec<_>>()
        });
        let text = |rendered: Result<Vec<u8>, (Error, Option<usize>)>| match rendered {
            // minijinja writes only `str`, so this cannot be anything but UTF-8
            Ok(bytes) => String::from_utf8(bytes)
                .map_err(|error| ChatError::Render { origin: self.origin.to_string(), message: error.to_string() }),
            Err((_, Some(limit))) => unbounded(format!("{limit} bytes of output")),
            Err((error, None)) => Err(self.explain(&error)),
        };
        match rendered {
            Ok(rendered) => rendered.into_iter().map(text).collect(),
            Err(exceeded) => {
                let _ = self.exceeded.set(exceeded);
                texts.iter().map(|_| unbounded(exceeded.bound())).collect()
            }
        }
    }

    /// The variables of a render.
    fn context(
        &self,
        Conversation { messages, inputs }: Conversation<'_>,
        add_generation_prompt: bool,
    ) -> BTreeMap<String, TemplateValue> {
        let passed = values::from_context;
        let own = inputs.chat_template_kwargs.iter();
        let mut context: BTreeMap<String, TemplateValue> = self
            .variables
            .iter()
            .chain(own)
            .map(|(name, value)| (name.clone(), passed(&TemplateValue::from_serialize(value))))
            .collect();
        let listed = |items: &[Value]| passed(&TemplateValue::from_serialize((!items.is_empty()).then_some(items)));
        let messages = messages.iter().map(|message| passed(&TemplateValue::from_serialize(AsPassed(message))));
        context.insert("messages".into(), values::list(messages.collect()));
        context.insert("tools".into(), listed(&inputs.tools));
        context.insert("documents".into(), listed(&inputs.documents));
        context.insert("add_generation_prompt".into(), add_generation_prompt.into());
        context
    }

    fn explain(&self, error: &Error) -> ChatError {
        let origin = self.origin.to_string();
        match error.kind() {
            ErrorKind::OutOfFuel => ChatError::Unbounded { origin, bound: format!("{FUEL} instructions") },
            _ => match refusal(error) {
                Some(message) => ChatError::Refused { origin, message },
                None => ChatError::Render { origin, message: chain(error) },
            },
        }
    }
}

/// A template with line feeds at the ends of lines, as Jinja reads every template.
fn with_line_feeds(source: String) -> String {
    match source.contains('\r') {
        true => source.replace("\r\n", "\n").replace('\r', "\n"),
        false => source,
    }
}

/// The template's text and its file, searched in the order of `transformers`.
fn find(files: &ModelFiles) -> Result<(String, String), ChatError> {
    let path = files.dir.join("chat_template.jinja");
    if let Some(text) = files::text(&path)? {
        return Ok((text, path.display().to_string()));
    }
    let path = files.dir.join("chat_template.json");
    if let Some(text) = files::object(&path)?.get("chat_template").and_then(Value::as_str) {
        return Ok((text.to_string(), path.display().to_string()));
    }
    let path = files.dir.join("tokenizer_config.json");
    let origin = format!("{} (chat_template)", path.display());
    match files.tokenizer_config.get("chat_template") {
        None | Some(Value::Null) => Err(ChatError::NoTemplate { dir: files.dir.clone() }),
        Some(Value::String(text)) => Ok((text.clone(), origin)),
        Some(Value::Array(named)) => {
            let text_of = |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str).map(str::to_string);
            let named = named.iter().filter_map(|entry| Some((text_of(entry, "name"), text_of(entry, "template")?)));
            default_of(named.collect(), &path).map(|text| (text, origin))
        }
        Some(Value::Object(named)) => {
            let named = named.iter().filter_map(|(name, text)| Some((Some(name.clone()), text.as_str()?.to_string())));
            default_of(named.collect(), &path).map(|text| (text, origin))
        }
        Some(other) => Err(malformed(&path, "`chat_template` as a string or named templates", json_kind(other).into())),
    }
}

/// The template called `default`; a lone one needs no name.
fn default_of(mut named: Vec<(Option<String>, String)>, path: &Path) -> Result<String, ChatError> {
    let chosen = match named.iter().position(|(name, _)| name.as_deref() == Some("default")) {
        None if named.len() == 1 => Some(0),
        chosen => chosen,
    };
    chosen.map(|index| named.swap_remove(index).1).ok_or_else(|| {
        let names: Vec<&str> = named.iter().filter_map(|(name, _)| name.as_deref()).collect();
        malformed(path, "a chat template named `default`", format!("templates named {names:?}"))
    })
}

/// An error with its causes on one line.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// A writer with an output limit, which bounds the memory that a template can use.
struct BoundedText {
    bytes: Vec<u8>,
    limit: usize,
    full: bool,
}

impl io::Write for BoundedText {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.limit {
            self.full = true;
            return Err(io::Error::other("output limit"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
