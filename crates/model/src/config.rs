//! A model's `config.json`, as transformers 4 and 5 write it, and the decoder it specifies.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};
use smpo_files::FileError;

use crate::error::{ModelError, Result};
use crate::families::Family;
use crate::fields::Fields;
use crate::spec::DecoderSpec;

/// A parsed `config.json`: family, decoder specification, and the fields as written.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    family: Family,
    spec: DecoderSpec,
    fields: Map<String, Value>,
}

impl Config {
    /// Reads `config.json` in a model directory.
    ///
    /// # Errors
    /// When the file is missing or not JSON, a field is missing or wrong, or the family or one of its features is not supported.
    pub fn from_dir(dir: impl AsRef<Path>) -> Result<Self> {
        let path = dir.as_ref().join("config.json");
        let text = fs::read_to_string(&path).map_err(FileError::at(&path, "read"))?;
        let value = serde_json::from_str(&text).map_err(|source| ModelError::Json { path: path.clone(), source })?;
        Self::parse(&path, value)
    }

    /// Reads the same from a JSON value, for a model that is not on disk yet.
    ///
    /// # Errors
    /// As [`Config::from_dir`]; the file is then called `config.json`.
    pub fn from_json(value: Value) -> Result<Self> {
        Self::parse(Path::new("config.json"), value)
    }

    fn parse(path: &Path, value: Value) -> Result<Self> {
        let Value::Object(object) = value else {
            return Err(ModelError::Field {
                path: path.to_path_buf(),
                field: "(whole file)".into(),
                expected: "an object".into(),
                got: "another JSON value".into(),
            });
        };
        let fields = Fields::new(path, &object);
        let family = Family::from_fields(&fields)?;
        for name in ["quantization_config", "compression_config"] {
            if fields.get(name).is_some() {
                return Err(fields.unsupported(format!("a quantised model (`{name}`)")));
            }
        }
        for name in ["attention_dropout", "resid_pdrop", "embd_pdrop"] {
            if fields.number(name)?.is_some_and(|p| p != 0.0) {
                return Err(fields.unsupported(format!("dropout in the base model (`{name}`)")));
            }
        }
        let spec = family.spec(&fields)?;
        Ok(Self { family, spec, fields: object })
    }

    /// Model family.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Decoder specification.
    pub fn spec(&self) -> &DecoderSpec {
        &self.spec
    }

    /// A field as written; `None` when absent.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.fields.get(name)
    }

    /// The same model with another number of tokens.
    #[must_use]
    pub fn with_vocabulary(mut self, vocabulary: usize) -> Self {
        self.spec.vocab_size = vocabulary;
        self.fields.insert("vocab_size".into(), json!(vocabulary));
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
        fields.insert("architectures".into(), json!([self.family.architecture()]));
        fields.insert("dtype".into(), json!(dtype));
        fields.insert("torch_dtype".into(), json!(dtype));
        fields.insert("tie_word_embeddings".into(), json!(self.spec.tied));
        for (name, value) in self.family.top_level_rope(&self.spec) {
            fields.insert(name.into(), value);
        }
        if let Some(scaling) = self.rope_scaling() {
            fields.entry("rope_scaling").or_insert(scaling);
        }
        Value::Object(fields)
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
