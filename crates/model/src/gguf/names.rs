//! llama.cpp's names of tensors.

use crate::layout::{EMBEDDING, EXPERTS, FINAL_NORM, HEAD, SINKS};
use crate::spec::BlockNorms;

/// Modules of a block, Hugging Face's name and llama.cpp's.
const MODULES: [(&str, &str); 13] = [
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.qkv_proj", "attn_qkv"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.gate_up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("mlp.gate", "ffn_gate_inp"),
    ("mlp.router", "ffn_gate_inp"),
];

/// Layers of an expert, which one tensor has of all experts of a block.
const EXPERT_LAYERS: [(&str, &str); 3] =
    [("gate_proj", "ffn_gate_exps"), ("up_proj", "ffn_up_exps"), ("down_proj", "ffn_down_exps")];

/// Tensors beside the weights, which the configuration is read from.
pub(super) const BESIDE: [&str; 3] = ["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"];

/// A tensor's place in a GGUF file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GgufPlace {
    pub name: String,
    /// The expert, in a tensor of all.
    pub expert: Option<usize>,
}

/// Place of a tensor in a GGUF file, from its name in Hugging Face's; `None` for one that GGUF has no name for.
/// `feed_forward_norm` is the architecture's name of the norm before the feed-forward layer.
pub(super) fn gguf_place(name: &str, norms: &BlockNorms<&str>, feed_forward_norm: &str) -> Option<GgufPlace> {
    if let Some((block, rest)) = name.split_once(EXPERTS) {
        let (expert, rest) = rest.split_once('.')?;
        let (layer, kind) = rest.split_once('.')?;
        let block = block.strip_prefix("model.layers.")?;
        let (_, own) = EXPERT_LAYERS.iter().find(|(known, _)| *known == layer)?;
        return Some(GgufPlace { name: format!("blk.{block}.{own}.{kind}"), expert: Some(expert.parse().ok()?) });
    }
    Some(GgufPlace { name: gguf_name(name, norms, feed_forward_norm)?, expert: None })
}

fn gguf_name(name: &str, norms: &BlockNorms<&str>, feed_forward_norm: &str) -> Option<String> {
    if name == EMBEDDING {
        return Some("token_embd.weight".into());
    }
    if name == FINAL_NORM {
        return Some("output_norm.weight".into());
    }
    if let Some(block) = name.strip_suffix(SINKS).and_then(|block| block.strip_prefix("model.layers.")) {
        return Some(format!("blk.{block}attn_sinks.weight"));
    }
    let (module, kind) = name.rsplit_once('.')?;
    if module == HEAD {
        return Some(format!("output.{kind}"));
    }
    let (block, module) = module.strip_prefix("model.layers.")?.split_once('.')?;
    let norms = [
        (norms.before_attention, "attn_norm"),
        (norms.after_attention, "post_attention_norm"),
        (norms.before_feed_forward, feed_forward_norm),
        (norms.after_feed_forward, "post_ffw_norm"),
    ];
    let norm = norms.iter().find(|(known, _)| *known == Some(module)).map(|(_, own)| *own);
    let own = norm.or_else(|| MODULES.iter().find(|(known, _)| *known == module).map(|(_, own)| *own))?;
    Some(format!("blk.{block}.{own}.{kind}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_norm_is_named_by_its_place() {
        const AFTER: &str = "model.layers.11.post_attention_layernorm.weight";
        let llama = BlockNorms::BEFORE;
        let gemma = BlockNorms {
            after_attention: Some("post_attention_layernorm"),
            before_feed_forward: None,
            ..llama.clone()
        };
        let name = |name: &str, norms| gguf_place(name, norms, "ffn_norm").map(|place| (place.name, place.expert));
        let whole = |name: &str| Some((name.to_owned(), None));
        assert_eq!(name(AFTER, &llama), whole("blk.11.ffn_norm.weight"));
        assert_eq!(name(AFTER, &gemma), whole("blk.11.post_attention_norm.weight"));
        assert_eq!(name("model.layers.0.self_attn.q_proj.bias", &llama), whole("blk.0.attn_q.bias"));
        assert_eq!(name("model.layers.4.self_attn.sinks", &llama), whole("blk.4.attn_sinks.weight"));
        assert_eq!(name("lm_head.weight", &llama), whole("output.weight"));
        assert_eq!(name("model.layers.0.other.weight", &llama), None);
        let expert = name("model.layers.2.mlp.experts.5.up_proj.bias", &llama);
        assert_eq!(expert, Some(("blk.2.ffn_up_exps.bias".to_owned(), Some(5))));
        assert_eq!(name("model.layers.2.mlp.experts.5.other.bias", &llama), None);
    }
}
