//! Families: how each one's `config.json` becomes a [`DecoderSpec`]. One file a family.
//!
//! Defaults for absent fields are those of the family's configuration class in transformers 5.

mod gemma2;
mod gemma3;
mod llama;
mod mistral;
mod phi3;
mod qwen2;
mod qwen3;

use serde_json::{Value, json};

use crate::error::{ModelError, Result};
use crate::fields::Fields;
use crate::rope::{RopeContext, RopeScaling, RopeSpec};
use crate::spec::{Activation, Biases, DecoderSpec, LayerSpec, NormPlacement, Projections};

/// The families this crate maps, by `model_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Llama 2, 3, 3.1 and later (`llama`).
    Llama,
    /// Qwen2 and Qwen2.5 (`qwen2`).
    Qwen2,
    /// Qwen3, dense (`qwen3`).
    Qwen3,
    /// Mistral and Mistral Nemo (`mistral`).
    Mistral,
    /// Phi-3 and Phi-4 (`phi3`).
    Phi3,
    /// Gemma 2 (`gemma2`).
    Gemma2,
    /// Gemma 3, text only (`gemma3_text`).
    Gemma3Text,
}

impl Family {
    /// All families.
    pub const ALL: [Self; 7] =
        [Self::Llama, Self::Qwen2, Self::Qwen3, Self::Mistral, Self::Phi3, Self::Gemma2, Self::Gemma3Text];

    /// The name in `model_type`.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Mistral => "mistral",
            Self::Phi3 => "phi3",
            Self::Gemma2 => "gemma2",
            Self::Gemma3Text => "gemma3_text",
        }
    }

    /// The class name that transformers, vLLM and mistral.rs look for in `architectures`.
    pub fn architecture(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Phi3 => "Phi3ForCausalLM",
            Self::Gemma2 => "Gemma2ForCausalLM",
            Self::Gemma3Text => "Gemma3ForCausalLM",
        }
    }

    pub(crate) fn from_fields(fields: &Fields) -> Result<Self> {
        let name =
            fields.str("model_type")?.ok_or_else(|| fields.missing("model_type", "the name of a model family"))?;
        Self::ALL.into_iter().find(|f| f.model_type() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::model_type);
            ModelError::UnknownFamily {
                path: fields.path.to_path_buf(),
                name: name.to_string(),
                hint: smpo_suggest::did_you_mean(name, known),
                supported: known.join(", "),
            }
        })
    }

    pub(crate) fn spec(self, fields: &Fields) -> Result<DecoderSpec> {
        let spec = match self {
            Self::Llama => llama::spec(fields),
            Self::Qwen2 => qwen2::spec(fields),
            Self::Qwen3 => qwen3::spec(fields),
            Self::Mistral => mistral::spec(fields),
            Self::Phi3 => phi3::spec(fields),
            Self::Gemma2 => gemma2::spec(fields),
            Self::Gemma3Text => gemma3::spec(fields),
        }?;
        if !spec.heads.is_multiple_of(spec.kv_heads) {
            return Err(fields.error(
                "num_key_value_heads",
                &format!("a divisor of num_attention_heads {}", spec.heads),
                spec.kv_heads.to_string(),
            ));
        }
        Ok(spec)
    }

    /// Rope fields that readers other than transformers 5 need at the top level.
    pub(crate) fn top_level_rope(self, spec: &DecoderSpec) -> Vec<(&'static str, Value)> {
        let rope = &spec.ropes[0];
        let mut fields = vec![("rope_theta", json!(rope.theta))];
        match self {
            Self::Gemma3Text => fields.push(("rope_local_base_freq", json!(spec.ropes[1].theta))),
            Self::Phi3 => {
                fields.push(("partial_rotary_factor", json!(rope.rotary_dim as f64 / spec.head_dim as f64)));
                if let RopeScaling::LongRope { original_length, .. } = &rope.scaling {
                    fields.push(("original_max_position_embeddings", json!(original_length)));
                }
            }
            _ => {}
        }
        fields
    }
}

/// More blocks than any model has.
const MOST_LAYERS: usize = 4096;

/// Widths that every family reads alike.
struct Widths {
    hidden_size: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    layers: usize,
}

impl Widths {
    /// `default_head_dim`: what an absent `head_dim` means; `None` is `hidden_size / heads`.
    fn read(fields: &Fields, default_head_dim: Option<usize>) -> Result<Self> {
        let hidden_size = fields.required_size("hidden_size")?;
        let heads = fields.required_size("num_attention_heads")?;
        let kv_heads = fields.size("num_key_value_heads")?.unwrap_or(heads);
        let head_dim = match (fields.size("head_dim")?, default_head_dim) {
            (Some(d), _) => d,
            (None, Some(d)) if !fields.is_written("head_dim") => d,
            (None, _) if hidden_size % heads == 0 => hidden_size / heads,
            (None, _) => {
                return Err(fields.error(
                    "num_attention_heads",
                    &format!("a divisor of hidden_size {hidden_size}, or a `head_dim`"),
                    heads.to_string(),
                ));
            }
        };
        // Every block is listed before weights are looked at: a wrong number must not fill the memory.
        let layers = fields.required_size("num_hidden_layers")?;
        if layers > MOST_LAYERS {
            return Err(fields.error("num_hidden_layers", &format!("at most {MOST_LAYERS}"), layers.to_string()));
        }
        Ok(Self { hidden_size, heads, kv_heads, head_dim, layers })
    }

    fn rope(&self, fields: &Fields) -> Result<RopeSpec> {
        RopeSpec::read(fields, &self.rope_context())
    }

    fn rope_context(&self) -> RopeContext {
        RopeContext { head_dim: self.head_dim, default_theta: 10_000.0, yarn_is_longrope: false }
    }

    /// The plain pre-norm decoder; families change what differs.
    fn plain_spec(&self, fields: &Fields, rope: RopeSpec) -> Result<DecoderSpec> {
        Ok(DecoderSpec {
            vocab_size: fields.required_size("vocab_size")?,
            hidden_size: self.hidden_size,
            intermediate_size: fields.required_size("intermediate_size")?,
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            layers: uniform_layers(self.layers, None),
            ropes: vec![rope],
            norm_eps: fields.positive("rms_norm_eps")?.unwrap_or(1e-6),
            norm_plus_one: false,
            norms: NormPlacement::Pre,
            qk_norm: false,
            activation: activation(fields, "hidden_act", Activation::Silu)?,
            attention_scale: (self.head_dim as f64).powf(-0.5),
            attention_soft_cap: None,
            logit_soft_cap: None,
            embedding_scale: None,
            projections: Projections::Separate,
            biases: Biases::default(),
            tied: fields.bool("tie_word_embeddings")?.unwrap_or(false),
            initializer_range: fields.number("initializer_range")?.unwrap_or(0.02),
            max_positions: fields.size("max_position_embeddings")?,
        })
    }
}

/// All blocks alike.
fn uniform_layers(count: usize, window: Option<usize>) -> Vec<LayerSpec> {
    vec![LayerSpec { window, rope: 0 }; count]
}

/// The activation that `field` names; a family allows one.
fn activation(fields: &Fields, field: &'static str, only: Activation) -> Result<Activation> {
    let found = match fields.str(field)? {
        None => return Ok(only),
        Some("silu" | "swish") => Activation::Silu,
        Some("gelu_pytorch_tanh" | "gelu_tanh") => Activation::GeluTanh,
        Some(other) => {
            return Err(fields.unsupported(format!("activation `{other}` (`{field}`)")));
        }
    };
    if found == only { Ok(found) } else { Err(fields.unsupported(format!("{found:?} as `{field}` in this family"))) }
}

/// Which blocks slide, from `layer_types`, or from the family's rule when it is absent.
fn sliding_layers(fields: &Fields, count: usize, rule: impl Fn(usize) -> bool) -> Result<Vec<bool>> {
    let Some(types) = fields.strings("layer_types")? else {
        return Ok((0..count).map(rule).collect());
    };
    if types.len() != count {
        return Err(fields.error(
            "layer_types",
            &format!("num_hidden_layers {count} entries"),
            format!("{} entries", types.len()),
        ));
    }
    types
        .into_iter()
        .map(|t| match t {
            "full_attention" => Ok(false),
            "sliding_attention" => Ok(true),
            other => Err(fields.unsupported(format!("layer type `{other}`"))),
        })
        .collect()
}

/// The window when the field is absent (the class default) or written; null is no window.
fn window_or(fields: &Fields, default: usize) -> Result<Option<usize>> {
    match fields.size("sliding_window")? {
        Some(w) => Ok(Some(w)),
        None if fields.is_written("sliding_window") => Ok(None),
        None => Ok(Some(default)),
    }
}

/// A soft cap when the field is absent (the class default) or written; null is no cap.
fn cap_or(fields: &Fields, name: &'static str, default: Option<f64>) -> Result<Option<f64>> {
    match fields.positive(name)? {
        Some(c) => Ok(Some(c)),
        None if fields.is_written(name) => Ok(None),
        None => Ok(default),
    }
}
