//! A model's `config.json`, as transformers 4 and 5 write it, and the decoder it specifies.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::error::{ModelError, Result};
use crate::families::Family;
use crate::fields::Fields;
use crate::gguf::{GgufFile, config_json, is_gguf};
use crate::json_file;
use crate::labels::{ARCHITECTURE_END, Labels};
use crate::layout::HEAD;
use crate::spec::{DecoderSpec, ExpertLayout};
use crate::weights::WeightFiles;
use crate::wrapper::{TextNames, WRAPPERS, WrapperKind};

/// The fields of a model's configuration, and the file that they are of: `config.json`, or a GGUF file.
pub(crate) fn read_json(model: &Path) -> Result<(PathBuf, Value)> {
    if is_gguf(model)? {
        return Ok((model.to_path_buf(), config_json(&GgufFile::open(model)?)?));
    }
    let path = model.join("config.json");
    let value = json_file::read(&path)?;
    Ok((path, value))
}

/// A parsed `config.json`: family, decoder specification, and the fields as written.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    family: Family,
    spec: DecoderSpec,
    fields: Map<String, Value>,
    wrapper: Option<Wrapper>,
    labels: Option<Labels>,
}

/// The configuration around a text half's `text_config`.
#[derive(Debug, Clone, PartialEq)]
struct Wrapper {
    architecture: &'static str,
    fields: Map<String, Value>,
}

/// Field of a text half's configuration.
const TEXT: &str = "text_config";
const TIED: &str = "tie_word_embeddings";
const PAD: &str = "pad_token_id";
/// `quant_method` of experts in MXFP4.
const MXFP4: &str = "mxfp4";

impl Config {
    /// Reads `config.json` in a model directory, or what it would be from the metadata of a GGUF file.
    ///
    /// # Errors
    /// When the file is missing or not JSON, a field is missing or wrong, or the family or one of its features is not supported.
    pub fn from_dir(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let (path, value) = read_json(dir)?;
        Self::parse(&path, value, &|| {
            let files = WeightFiles::open(dir, "model").ok()?;
            let head = TextNames::of(&files)?.wrapped(&format!("{HEAD}.weight"));
            Some(files.contains(&head))
        })
    }

    /// The configuration that the metadata of a GGUF file describes.
    pub(crate) fn of_gguf(file: &GgufFile) -> Result<Self> {
        Self::parse(file.path(), config_json(file)?, &|| None)
    }

    /// Reads the same from a JSON value, for a model that is not on disk yet.
    ///
    /// # Errors
    /// As [`Config::from_dir`]; the file is then called `config.json`.
    pub fn from_json(value: Value) -> Result<Self> {
        Self::parse(Path::new("config.json"), value, &|| None)
    }

    /// `has_head` tells of a wrapper whether its weights have a head.
    fn parse(path: &Path, value: Value, has_head: &dyn Fn() -> Option<bool>) -> Result<Self> {
        let Value::Object(object) = value else {
            return Err(ModelError::Field {
                path: path.to_path_buf(),
                field: "(whole file)".into(),
                expected: "an object".into(),
                got: "another JSON value".into(),
            });
        };
        let outer = Fields::new(path, &object);
        let Some(kind) = wrapper_kind(&outer)? else {
            let family = Family::from_fields(&outer)?;
            refuse_unsupported(&outer)?;
            let spec = family.spec(&outer)?;
            refuse_mxfp4(&outer, &spec)?;
            let labels = is_classifier(&outer)?.then(|| Labels::read(&outer)).transpose()?;
            let plain = Self { family, spec, fields: object, wrapper: None, labels: None };
            return Ok(match labels {
                Some(labels) => plain.labelled(labels),
                None => plain,
            });
        };
        let mut text = match object.get(TEXT) {
            Some(Value::Object(text)) => text.clone(),
            _ => return Err(outer.missing(TEXT, "the configuration of the text half")),
        };
        text.entry("model_type").or_insert(json!(kind.text));
        // The wrapper's own field decides, by default true; weights with a head win over the default.
        let tied = outer.bool(TIED)?.unwrap_or_else(|| has_head() != Some(true));
        text.insert(TIED.into(), json!(tied));
        if is_classifier(&outer)? {
            return Err(outer.unsupported(format!("a classifier or reward model around a {}", kind.architecture)));
        }
        let family = Family::from_fields(&Fields::nested(path, &text, TEXT))?;
        for (name, value) in family.text_half_defaults() {
            text.entry(name).or_insert(value);
        }
        let fields = Fields::nested(path, &text, TEXT);
        refuse_unsupported(&outer)?;
        refuse_unsupported(&fields)?;
        let spec = family.spec(&fields)?;
        refuse_mxfp4(&outer, &spec)?;
        let wrapper = Some(Wrapper { architecture: kind.architecture, fields: object });
        Ok(Self { family, spec, fields: text, wrapper, labels: None })
    }

    /// Model family.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Decoder specification.
    pub fn spec(&self) -> &DecoderSpec {
        &self.spec
    }

    /// Class of the multimodal model whose text half this is.
    pub fn wrapper(&self) -> Option<&'static str> {
        self.wrapper.as_ref().map(|wrapper| wrapper.architecture)
    }

    /// Labels of the head, where it reads whole sequences.
    pub fn labels(&self) -> Option<&Labels> {
        self.labels.as_ref()
    }

    /// The same model with a head of labels in place of the one that predicts tokens.
    ///
    /// # Errors
    /// When transformers has no such class of the family, or the head has other labels already.
    pub fn with_labels(self, labels: Labels) -> Result<Self> {
        const WHAT: &str = "model to give a head of labels";
        if let Some(own) = &self.labels {
            return match own.count() == labels.count() {
                true => Ok(self.labelled(labels)),
                false => {
                    let expected = format!("one with {} of them, or a language model", labels.count());
                    Err(ModelError::input(WHAT, expected, format!("one with {}", own.count())))
                }
            };
        }
        if let Some(wrapper) = self.wrapper() {
            return Err(ModelError::input(WHAT, "a text model", format!("a {wrapper}")));
        }
        if self.family.classifier().is_none() {
            let known = Family::ALL.iter().filter(|family| family.classifier().is_some());
            let names = known.map(|family| family.name()).collect::<Vec<_>>().join(", ");
            let expected = format!("one of a family that has such a class in transformers: {names}");
            return Err(ModelError::input(WHAT, expected, self.family.name()));
        }
        Ok(self.labelled(labels))
    }

    fn labelled(mut self, labels: Labels) -> Self {
        labels.write(&mut self.fields);
        (self.spec.labels, self.spec.tied) = (Some(labels.count()), false);
        Self { labels: Some(labels), ..self }
    }

    /// The padding token, which no head of labels reads.
    pub fn pad_token(&self) -> Option<u32> {
        self.field(PAD).and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok())
    }

    /// The same with another padding token.
    pub(crate) fn set_pad_token(&mut self, id: u32) {
        self.fields.insert(PAD.into(), json!(id));
    }

    /// The weights of a directory, those of a text half under the names of a text model; and what they are called there.
    pub(crate) fn open_weights(&self, dir: &Path) -> Result<(WeightFiles, Option<TextNames>)> {
        let files = WeightFiles::open(dir, "model")?;
        if self.wrapper.is_none() {
            return Ok((files.into_single_experts(&self.spec)?, None));
        }
        let names = TextNames::require(&files)?;
        Ok((files.into_text_half(names), Some(names)))
    }

    /// A field as written, of the text half where the model is multimodal; `None` when absent.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.fields.get(name)
    }

    /// The same model with another number of tokens.
    #[must_use]
    pub fn with_vocabulary(mut self, vocabulary: usize) -> Self {
        self.spec.vocab_size = vocabulary;
        self.fields.insert("vocab_size".into(), json!(vocabulary));
        // Some wrappers repeat it.
        if let Some(size) = self.wrapper.as_mut().and_then(|wrapper| wrapper.fields.get_mut("vocab_size")) {
            *size = json!(vocabulary);
        }
        self
    }

    /// Records that the head has a weight of its own.
    pub(crate) fn untie(&mut self) {
        self.spec.tied = false;
    }

    /// The fields to save: those read, and those that older and newer readers need.
    ///
    /// transformers 5 moves `rope_theta` and the scaling into `rope_parameters`; transformers 4 and mistral.rs 0.8.1
    /// need them at the top level, so both are written.
    pub(crate) fn to_json(&self, dtype: &str) -> Value {
        let mut fields = self.fields.clone();
        // Weights are saved as floats.
        fields.remove("quantization_config");
        let mut outer = self.wrapper.as_ref().map(|wrapper| wrapper.fields.clone());
        if let Some(outer) = &mut outer {
            outer.remove("quantization_config");
        }
        let whole = outer.as_mut().unwrap_or(&mut fields);
        let classifier = self.labels.as_ref().and_then(|_| self.family.classifier());
        let text = classifier.unwrap_or(self.family.architecture());
        whole.insert("architectures".into(), json!([self.wrapper().unwrap_or(text)]));
        whole.insert("dtype".into(), json!(dtype));
        whole.insert("torch_dtype".into(), json!(dtype));
        // A head of labels is tied to nothing, whatever the field says.
        if self.labels.is_none() {
            whole.insert(TIED.into(), json!(self.spec.tied));
            fields.insert(TIED.into(), json!(self.spec.tied));
        }
        for (name, value) in self.family.fields_of_others(&self.spec) {
            fields.insert(name.into(), value);
        }
        if let Some(scaling) = self.rope_scaling() {
            fields.entry("rope_scaling").or_insert(scaling);
        }
        match outer {
            None => Value::Object(fields),
            Some(mut outer) => {
                outer.insert(TEXT.into(), Value::Object(fields));
                Value::Object(outer)
            }
        }
    }

    /// The rope scaling under the name transformers 4 uses; `None` without scaling.
    fn rope_scaling(&self) -> Option<Value> {
        let parameters = self.fields.get("rope_parameters")?.as_object()?;
        let scaled = match parameters.get("full_attention") {
            Some(nested) => nested.as_object()?,
            None => parameters,
        };
        let kind = scaled.get("rope_type").or_else(|| scaled.get("type"))?;
        if kind == "default" {
            return None;
        }
        let mut scaling = scaled.clone();
        // Both are at the top level.
        scaling.remove("rope_theta");
        scaling.remove("partial_rotary_factor");
        if self.family == Family::Phi3 {
            // transformers 4 accepts only `type` and the two lists; the length is at the top level too.
            scaling.remove("rope_type");
            scaling.remove("original_max_position_embeddings");
            scaling.insert("type".into(), kind.clone());
        } else {
            scaling.insert("rope_type".into(), kind.clone());
        }
        Some(Value::Object(scaling))
    }
}

/// True for a model whose head reads whole sequences.
fn is_classifier(fields: &Fields) -> Result<bool> {
    let classes = fields.strings("architectures")?.unwrap_or_default();
    Ok(classes.iter().any(|class| class.ends_with(ARCHITECTURE_END)))
}

/// Refuses what would have to be approximated, whatever the family.
fn refuse_unsupported(fields: &Fields) -> Result<()> {
    for name in ["quantization_config", "compression_config"] {
        if let Some(quantisation) = fields.get(name).filter(|quantisation| !is_read(quantisation)) {
            let method = quantisation_method(quantisation).unwrap_or(name);
            return Err(fields.unsupported(format!("a quantised model (`{name}`: {method})")));
        }
    }
    if fields.bool("is_causal")? == Some(false) {
        return Err(fields.unsupported("attention to later tokens (`is_causal`: false)"));
    }
    for name in ["attention_dropout", "resid_pdrop", "embd_pdrop"] {
        if fields.number(name)?.is_some_and(|p| p != 0.0) {
            return Err(fields.unsupported(format!("dropout in the base model (`{name}`)")));
        }
    }
    Ok(())
}

/// Refuses MXFP4 where experts are not all in one tensor.
fn refuse_mxfp4(fields: &Fields, spec: &DecoderSpec) -> Result<()> {
    const FIELD: &str = "quantization_config";
    let is_mxfp4 = fields.get(FIELD).is_some_and(|value| quantisation_method(value) == Some(MXFP4));
    match &spec.experts {
        Some(experts) if experts.layout == ExpertLayout::Stacked => Ok(()),
        _ if is_mxfp4 => Err(fields.unsupported(format!("a quantised model (`{FIELD}`: {MXFP4})"))),
        _ => Ok(()),
    }
}

/// The kind of multimodal model, if it is one whose text half is read.
fn wrapper_kind(fields: &Fields) -> Result<Option<&'static WrapperKind>> {
    let name = fields.str("model_type")?;
    Ok(WRAPPERS.iter().find(|kind| name == Some(kind.model_type)))
}

/// True for what is read: the four-bit weights of bitsandbytes, and experts in MXFP4.
fn is_read(quantisation: &Value) -> bool {
    let is_true = |name: &str| quantisation.get(name) == Some(&Value::Bool(true));
    match quantisation_method(quantisation) {
        Some("bitsandbytes") => is_true("load_in_4bit") || is_true("_load_in_4bit"),
        method => method == Some(MXFP4),
    }
}

fn quantisation_method(quantisation: &Value) -> Option<&str> {
    quantisation.get("quant_method").and_then(Value::as_str)
}
