//! Fields that families share, and the plain pre-norm decoder they start from.

use smpo_kernels::RotaryPairs;

use crate::error::Result;
use crate::fields::Fields;
use crate::rope::{RopeContext, RopeSpec};
use crate::spec::{
    Activation, Biases, BlockNorms, DecoderSpec, ExpertLayout, ExpertsSpec, LayerSpec, Projections, QkNorm,
};

/// More blocks than any model has.
const MAX_LAYERS: usize = 4096;

/// Widths, read alike by every family.
pub(super) struct Widths {
    pub hidden_size: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub layers: usize,
}

impl Widths {
    /// `default_head_dim`: value of an absent `head_dim`; `None` is `hidden_size / heads`.
    pub fn read(fields: &Fields, default_head_dim: Option<usize>) -> Result<Self> {
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
        // The layout lists every block before weights are read: a wrong number must not exhaust memory.
        let layers = fields.required_size("num_hidden_layers")?;
        if layers > MAX_LAYERS {
            return Err(fields.error("num_hidden_layers", &format!("at most {MAX_LAYERS}"), layers.to_string()));
        }
        Ok(Self { hidden_size, heads, kv_heads, head_dim, layers })
    }

    pub fn rope(&self, fields: &Fields) -> Result<RopeSpec> {
        RopeSpec::read(fields, &self.rope_context())
    }

    pub fn rope_context(&self) -> RopeContext {
        RopeContext {
            head_dim: self.head_dim,
            default_theta: 10_000.0,
            default_share: None,
            pairs: RotaryPairs::Halves,
            yarn_is_longrope: false,
        }
    }

    /// The plain pre-norm decoder, from which families differ.
    pub fn plain_spec(&self, fields: &Fields, rope: RopeSpec) -> Result<DecoderSpec> {
        Ok(DecoderSpec {
            vocab_size: fields.required_size("vocab_size")?,
            hidden_size: self.hidden_size,
            intermediate_size: fields.required_size("intermediate_size")?,
            experts: None,
            delta: None,
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            layers: uniform_layers(self.layers, None),
            ropes: vec![rope],
            norm_eps: fields.positive("rms_norm_eps")?.unwrap_or(1e-6),
            norm_plus_one: false,
            norm_centred: false,
            norms: BlockNorms::BEFORE,
            qk_norm: QkNorm::None,
            parallel: false,
            activation: activation(fields, "hidden_act", Activation::Silu)?,
            attention_scale: (self.head_dim as f64).powf(-0.5),
            attention_soft_cap: None,
            sinks: false,
            gated_attention: false,
            query_growth: None,
            logit_scale: None,
            logit_soft_cap: None,
            embedding_scale: None,
            residual_scale: None,
            projections: Projections::SEPARATE,
            biases: Biases::default(),
            tied: fields.bool("tie_word_embeddings")?.unwrap_or(false),
            labels: None,
            initializer_range: fields.number("initializer_range")?.unwrap_or(0.02),
            max_positions: fields.size("max_position_embeddings")?,
        })
    }
}

/// `count` equal blocks.
pub(super) fn uniform_layers(count: usize, window: Option<usize>) -> Vec<LayerSpec> {
    vec![LayerSpec { window, rope: Some(0), routed: false, delta: false }; count]
}

/// Blocks times experts beyond which no model is: the layout lists each before weights are read.
const MAX_EXPERTS: usize = 1 << 17;

/// Routed experts, whose weights are not normalised. `defaults` are width, experts of a token, experts, and the coefficient
/// of the load-balancing loss.
pub(super) fn routed_experts(
    fields: &Fields,
    layers: usize,
    width: &'static str,
    defaults: (usize, usize, usize, f64),
) -> Result<ExpertsSpec> {
    let (inner, default_per_token, default_count, coefficient) = defaults;
    let field = if fields.is_written("num_experts") { "num_experts" } else { "num_local_experts" };
    let count = fields.size(field)?.unwrap_or(default_count);
    if count > MAX_EXPERTS / layers {
        return Err(fields.error(field, &format!("at most {}", MAX_EXPERTS / layers), count.to_string()));
    }
    let per_token = fields.size("num_experts_per_tok")?.unwrap_or(default_per_token);
    if per_token > count {
        return Err(fields.error("num_experts_per_tok", &format!("at most {field} {count}"), per_token.to_string()));
    }
    let auxiliary = match fields.bool("output_router_logits")? {
        Some(true) => Some(fields.number("router_aux_loss_coef")?.unwrap_or(coefficient)),
        _ => None,
    };
    let intermediate_size = fields.size(width)?.unwrap_or(inner);
    let layout = ExpertLayout::Apart;
    Ok(ExpertsSpec { count, per_token, intermediate_size, normalise: false, biases: false, layout, auxiliary })
}

/// Activation named by `field`; a family allows one.
pub(super) fn activation(fields: &Fields, field: &'static str, only: Activation) -> Result<Activation> {
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

/// Sliding blocks, from `layer_types`, or by the family's rule when it is absent.
pub(super) fn sliding_layers(fields: &Fields, count: usize, rule: impl Fn(usize) -> bool) -> Result<Vec<bool>> {
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

/// Sliding window, in tokens: `default` where the field is absent; null is no window.
pub(super) fn window_or(fields: &Fields, default: usize) -> Result<Option<usize>> {
    match fields.size("sliding_window")? {
        Some(w) => Ok(Some(w)),
        None if fields.is_written("sliding_window") => Ok(None),
        None => Ok(Some(default)),
    }
}

/// Window of each block, and its rope: the first of the spec, or the second on blocks that slide where there are two.
pub(super) fn alternating_layers(sliding: Vec<bool>, window: Option<usize>, ropes: usize) -> Vec<LayerSpec> {
    sliding
        .into_iter()
        .map(|slides| LayerSpec {
            window: window.filter(|_| slides),
            rope: Some(usize::from(slides).min(ropes - 1)),
            routed: false,
            delta: false,
        })
        .collect()
}

/// Ropes of full blocks and of sliding ones, θ by default `defaults`; only the first is ever scaled. `sliding_theta` names
/// θ of sliding blocks at the top level.
pub(super) fn ropes_by_layer_type(
    fields: &Fields,
    widths: &Widths,
    defaults: (f64, f64),
    sliding_theta: &'static str,
) -> Result<Vec<RopeSpec>> {
    let (full, sliding) = match fields.object("rope_parameters")? {
        Some(p) => {
            let kinds = (p.object("full_attention")?, p.object("sliding_attention")?);
            if kinds.0.is_none() && kinds.1.is_none() {
                let expected = "`full_attention` and `sliding_attention`, a rope for each kind of block";
                return Err(fields.error("rope_parameters", expected, "one rope for all".to_owned()));
            }
            kinds
        }
        None => (None, None),
    };
    let written_theta = match full {
        Some(full) => full.positive("rope_theta")?,
        None => None,
    };
    let full = match fields.object("rope_scaling")? {
        Some(scaling) => Some(scaling),
        None => full,
    };
    let context = |default_theta| RopeContext { default_theta, ..widths.rope_context() };
    Ok(vec![
        RopeSpec::read_from(fields, full, &context(written_theta.unwrap_or(defaults.0)), "rope_theta")?,
        RopeSpec::read_from(fields, sliding, &context(defaults.1), sliding_theta)?,
    ])
}

/// Soft cap: `default` where the field is absent; null is no cap.
pub(super) fn cap_or(fields: &Fields, name: &'static str, default: Option<f64>) -> Result<Option<f64>> {
    match fields.positive(name)? {
        Some(c) => Ok(Some(c)),
        None if fields.is_written(name) => Ok(None),
        None => Ok(default),
    }
}
