//! Model families: from a Hugging Face `config.json` to a [`DecoderSpec`]. One file and one row of the table a family.
//!
//! Defaults for absent fields are those of the family's configuration class in transformers 5.

mod cohere2;
mod gemma2;
mod gemma3;
mod glm4;
mod gpt_oss;
mod granite;
mod granite4;
mod llama;
mod ministral3;
mod mistral;
mod olmo2;
mod olmo3;
mod phi3;
mod plain;
mod qwen2;
mod qwen3;
mod qwen3_5;
mod qwen3_moe;
mod smollm3;
mod unsupported;

use plain::{
    Widths, activation, alternating_layers, cap_or, ropes_by_layer_type, routed_experts, sliding_layers,
    uniform_layers, window_or,
};
use serde_json::{Value, json};
use unsupported::{described, lacking};

use crate::error::{ModelError, Result};
use crate::fields::Fields;
use crate::gguf::Architecture;
use crate::spec::DecoderSpec;
use crate::wrapper::WRAPPERS;

/// Fields of a family's `config.json` under the names that other readers need.
type FurtherFields = fn(&DecoderSpec) -> Vec<(&'static str, Value)>;

/// Fields that a wrapper's `text_config` leaves out where they are the configuration class's defaults.
type TextDefaults = fn() -> Vec<(&'static str, Value)>;

/// Definition of a family.
struct Definition {
    name: &'static str,
    module: &'static str,
    model_type: &'static str,
    architecture: &'static str,
    classifier: Option<&'static str>,
    spec: fn(&Fields) -> Result<DecoderSpec>,
    further_fields: Option<FurtherFields>,
    text_defaults: Option<TextDefaults>,
    gguf: Option<Architecture>,
}

macro_rules! families {
    (@optional) => { None };
    (@optional $value:literal) => { Some($value) };
    (@optional $value:path) => { Some($value) };
    ($($variant:ident: $name:literal, $module:ident, $model_type:literal, $architecture:literal
       $(, classifier = $classifier:literal)? $(, further_fields = $further_fields:path)? $(, text_defaults = $text_defaults:path)? $(, gguf = $gguf:path)?;)+) => {
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
                        classifier: families!(@optional $($classifier)?),
                        spec: $module::spec,
                        further_fields: families!(@optional $($further_fields)?),
                        text_defaults: families!(@optional $($text_defaults)?),
                        gguf: families!(@optional $($gguf)?),
                    },)+
                }
            }
        }
    };
}

// Variant: name, file here and golden model, `model_type`, class in `architectures`. Then, where the family has them: the
// class with a head of labels, further fields at the top level of config.json, and its GGUF architecture (that of older Mistral files is Llama's, that of
// Granite 4 is Granite 3's).
families! {
    Llama: "Llama", llama, "llama", "LlamaForCausalLM", classifier = "LlamaForSequenceClassification", gguf = llama::GGUF;
    Qwen2: "Qwen2", qwen2, "qwen2", "Qwen2ForCausalLM", classifier = "Qwen2ForSequenceClassification", gguf = qwen2::GGUF;
    Qwen3: "Qwen3", qwen3, "qwen3", "Qwen3ForCausalLM", classifier = "Qwen3ForSequenceClassification", gguf = qwen3::GGUF;
    Qwen3Moe: "Qwen3-MoE", qwen3_moe, "qwen3_moe", "Qwen3MoeForCausalLM", classifier = "Qwen3MoeForSequenceClassification", further_fields = qwen3_moe::further_fields, gguf = qwen3_moe::GGUF;
    GptOss: "gpt-oss", gpt_oss, "gpt_oss", "GptOssForCausalLM", classifier = "GptOssForSequenceClassification", further_fields = gpt_oss::further_fields, gguf = gpt_oss::GGUF;
    Qwen35: "Qwen3.5", qwen3_5, "qwen3_5_text", "Qwen3_5ForCausalLM", classifier = "Qwen3_5TextForSequenceClassification", further_fields = qwen3_5::rope_fields,
        text_defaults = qwen3_5::text_defaults;
    Mistral: "Mistral", mistral, "mistral", "MistralForCausalLM", classifier = "MistralForSequenceClassification", gguf = mistral::GGUF;
    Phi3: "Phi-3", phi3, "phi3", "Phi3ForCausalLM", classifier = "Phi3ForSequenceClassification", further_fields = phi3::rope_fields, gguf = phi3::GGUF;
    Gemma2: "Gemma 2", gemma2, "gemma2", "Gemma2ForCausalLM", classifier = "Gemma2ForSequenceClassification", gguf = gemma2::GGUF;
    Gemma3Text: "Gemma 3 text", gemma3, "gemma3_text", "Gemma3ForCausalLM", classifier = "Gemma3TextForSequenceClassification", further_fields = gemma3::rope_fields,
        text_defaults = gemma3::text_defaults, gguf = gemma3::GGUF;
    SmolLm3: "SmolLM3", smollm3, "smollm3", "SmolLM3ForCausalLM", classifier = "SmolLM3ForSequenceClassification", gguf = smollm3::GGUF;
    Olmo2: "OLMo 2", olmo2, "olmo2", "Olmo2ForCausalLM", classifier = "Olmo2ForSequenceClassification", gguf = olmo2::GGUF;
    Olmo3: "OLMo 3", olmo3, "olmo3", "Olmo3ForCausalLM", classifier = "Olmo3ForSequenceClassification", gguf = olmo3::GGUF;
    Granite: "Granite 3", granite, "granite", "GraniteForCausalLM", gguf = granite::GGUF;
    Granite4: "Granite 4 without experts", granite4, "granitemoehybrid", "GraniteMoeHybridForCausalLM";
    Glm4: "GLM-4", glm4, "glm4", "Glm4ForCausalLM", classifier = "Glm4ForSequenceClassification", further_fields = glm4::rope_fields, gguf = glm4::GGUF;
    Ministral3: "Ministral 3", ministral3, "ministral3", "Ministral3ForCausalLM", classifier = "Ministral3ForSequenceClassification", gguf = ministral3::GGUF;
    Cohere2: "Cohere 2", cohere2, "cohere2", "Cohere2ForCausalLM", gguf = cohere2::GGUF;
}

/// Other models of transformers 5.24 whose names look like a supported one mistyped.
const OTHERS: [&str; 11] = [
    "flava",
    "glm4v",
    "granite_swa",
    "internvl_vision",
    "ministral",
    "mllama",
    "molmo2",
    "pixtral",
    "qwen2_vl",
    "qwen3_asr",
    "qwen3_vl",
];

/// The part that is missing, a wrapper's text model, what sets another family apart, or the name that was mistyped. A name with other digits is another
/// model, not a typo.
fn hint(fields: &Fields, name: &str, known: &[&str]) -> String {
    if let Some(part) = described(name) {
        return format!(" (what is missing are its {part}: docs/families.md)");
    }
    if let Ok(Some(text)) = fields.object("text_config") {
        let inner = text.str("model_type").ok().flatten().unwrap_or("unnamed");
        let reason = match (lacking(inner).or(lacking(name)), known.contains(&inner)) {
            (Some(feature), _) => format!(", which has {feature}"),
            (None, true) => ", which is read by itself: save the text model alone".to_owned(),
            (None, false) => ", which is not read either".to_owned(),
        };
        return format!(" (a wrapper around the text model `{inner}`{reason})");
    }
    if let Some(feature) = lacking(name) {
        return format!(" (it has {feature})");
    }
    if OTHERS.contains(&name) {
        return String::new();
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

    /// Class name of the model with a head of labels in place of the one that predicts tokens; `None` where transformers has
    /// none.
    pub fn classifier(self) -> Option<&'static str> {
        self.definition().classifier
    }

    /// The family's architecture in GGUF files; `None` where it has none of its own.
    pub(crate) fn gguf(self) -> Option<&'static Architecture> {
        self.definition().gguf.as_ref()
    }

    pub(crate) fn from_fields(fields: &Fields) -> Result<Self> {
        let name =
            fields.str("model_type")?.ok_or_else(|| fields.missing("model_type", "the name of a model family"))?;
        Self::ALL.iter().copied().find(|family| family.model_type() == name).ok_or_else(|| {
            let families: Vec<&str> = Self::ALL.iter().map(|family| family.model_type()).collect();
            let wrappers: Vec<&str> = WRAPPERS.iter().map(|kind| kind.model_type).collect();
            let known = [&families[..], &wrappers].concat();
            ModelError::UnknownFamily {
                path: fields.path.to_path_buf(),
                name: name.to_string(),
                hint: hint(fields, name, &known),
                supported: format!("{}, and the text halves of {}", families.join(", "), wrappers.join(", ")),
            }
        })
    }

    /// Defaults of a wrapper's `text_config`.
    pub(crate) fn text_half_defaults(self) -> Vec<(&'static str, Value)> {
        self.definition().text_defaults.map(|defaults| defaults()).unwrap_or_default()
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

    /// Fields that readers other than transformers 5 need at the top level of `config.json`.
    pub(crate) fn fields_of_others(self, spec: &DecoderSpec) -> Vec<(&'static str, Value)> {
        let mut fields = vec![("rope_theta", json!(spec.ropes[0].theta))];
        fields.extend(self.definition().further_fields.map(|extra| extra(spec)).into_iter().flatten());
        fields
    }
}
