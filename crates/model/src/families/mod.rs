//! Model families: from a Hugging Face `config.json` to a [`DecoderSpec`]. One file and one row of the table a family.
//!
//! Defaults for absent fields are those of the family's configuration class in transformers 5.

mod gemma2;
mod gemma3;
mod llama;
mod mistral;
mod phi3;
mod plain;
mod qwen2;
mod qwen3;

use plain::{Widths, activation, cap_or, sliding_layers, uniform_layers, window_or};
use serde_json::{Value, json};

use crate::error::{ModelError, Result};
use crate::fields::Fields;
use crate::spec::DecoderSpec;

/// Extra rope fields of a family's `config.json`.
type RopeFields = fn(&DecoderSpec) -> Vec<(&'static str, Value)>;

/// Definition of a family.
struct Definition {
    name: &'static str,
    module: &'static str,
    model_type: &'static str,
    architecture: &'static str,
    spec: fn(&Fields) -> Result<DecoderSpec>,
    rope_fields: Option<RopeFields>,
}

macro_rules! families {
    (@optional) => { None };
    (@optional $rope_fields:path) => { Some($rope_fields) };
    ($($variant:ident: $name:literal, $module:ident, $model_type:literal, $architecture:literal
       $(, rope_fields = $rope_fields:path)?;)+) => {
        /// The supported model families.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Family {
            $(#[doc = concat!($name, ", `model_type` \"", $model_type, "\".")] $variant,)+
        }

        impl Family {
            /// All families.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            fn definition(self) -> &'static Definition {
                match self {
                    $(Self::$variant => &Definition {
                        name: $name,
                        module: stringify!($module),
                        model_type: $model_type,
                        architecture: $architecture,
                        spec: $module::spec,
                        rope_fields: families!(@optional $($rope_fields)?),
                    },)+
                }
            }
        }
    };
}

// Variant: name, file here and golden model, `model_type`, class in `architectures`.
families! {
    Llama: "Llama", llama, "llama", "LlamaForCausalLM";
    Qwen2: "Qwen2", qwen2, "qwen2", "Qwen2ForCausalLM";
    Qwen3: "Qwen3", qwen3, "qwen3", "Qwen3ForCausalLM";
    Mistral: "Mistral", mistral, "mistral", "MistralForCausalLM";
    Phi3: "Phi-3", phi3, "phi3", "Phi3ForCausalLM", rope_fields = phi3::rope_fields;
    Gemma2: "Gemma 2", gemma2, "gemma2", "Gemma2ForCausalLM";
    Gemma3Text: "Gemma 3 text", gemma3, "gemma3_text", "Gemma3ForCausalLM", rope_fields = gemma3::rope_fields;
}

/// A wrapper's text model, or the name that was mistyped. A name with other digits is another model, not a typo.
fn hint(fields: &Fields, name: &str, known: &[&str]) -> String {
    if let Ok(Some(text)) = fields.object("text_config") {
        let inner = text.str("model_type").ok().flatten().unwrap_or("unnamed");
        return format!(" (a wrapper around the text model `{inner}`; save its language model alone)");
    }
    let digits = |name: &str| name.chars().filter(char::is_ascii_digit).collect::<String>();
    smpo_suggest::did_you_mean(name, known.iter().copied().filter(|known| digits(known) == digits(name)))
}

impl Family {
    /// Name in documentation.
    pub fn name(self) -> &'static str {
        self.definition().name
    }

    /// Name of the family's file under `families/` and of its golden model under `tests/golden/`.
    pub fn module(self) -> &'static str {
        self.definition().module
    }

    /// Value of `model_type`.
    pub fn model_type(self) -> &'static str {
        self.definition().model_type
    }

    /// Class name in `architectures`, by which transformers, vLLM and mistral.rs choose the model.
    pub fn architecture(self) -> &'static str {
        self.definition().architecture
    }

    pub(crate) fn from_fields(fields: &Fields) -> Result<Self> {
        let name =
            fields.str("model_type")?.ok_or_else(|| fields.missing("model_type", "the name of a model family"))?;
        Self::ALL.iter().copied().find(|family| family.model_type() == name).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|family| family.model_type()).collect();
            ModelError::UnknownFamily {
                path: fields.path.to_path_buf(),
                name: name.to_string(),
                hint: hint(fields, name, &known),
                supported: known.join(", "),
            }
        })
    }

    pub(crate) fn spec(self, fields: &Fields) -> Result<DecoderSpec> {
        let spec = (self.definition().spec)(fields)?;
        if !spec.heads.is_multiple_of(spec.kv_heads) {
            return Err(fields.error(
                "num_key_value_heads",
                &format!("a divisor of num_attention_heads {}", spec.heads),
                spec.kv_heads.to_string(),
            ));
        }
        Ok(spec)
    }

    /// Rope fields that readers other than transformers 5 need at the top level of `config.json`.
    pub(crate) fn top_level_rope(self, spec: &DecoderSpec) -> Vec<(&'static str, Value)> {
        let mut fields = vec![("rope_theta", json!(spec.ropes[0].theta))];
        fields.extend(self.definition().rope_fields.map(|extra| extra(spec)).into_iter().flatten());
        fields
    }
}
