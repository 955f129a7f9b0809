//! llama.cpp's names of tensors.

use crate::layout::{EMBEDDING, FINAL_NORM, HEAD};
use crate::spec::BlockNorms;

/// Modules of a block, Hugging Face's name and llama.cpp's.
const MODULES: [(&str, &str); 11] = [
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
];

/// Tensors beside the weights, which the configuration is read from.
pub(super) const BESIDE: [&str; 3] = ["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"];

/// Name of a tensor in a GGUF file, from its name in Hugging Face's; `None` for one that GGUF has no name for.
pub(super) fn gguf_name(name: &str, norms: &BlockNorms<&str>) -> Option<String> {
    if name == EMBEDDING {
        return Some("token_embd.weight".into());
    }
    if name == FINAL_NORM {
        return Some("output_norm.weight".into());
    }
    let (module, kind) = name.rsplit_once('.')?;
    if module == HEAD {
        return Some(format!("output.{kind}"));
    }
    let (block, module) = module.strip_prefix("model.layers.")?.split_once('.')?;
    let norms = [
        (norms.before_attention, "attn_norm"),
        (norms.after_attention, "post_attention_norm"),
        (norms.before_feed_forward, "ffn_norm"),
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
        assert_eq!(gguf_name(AFTER, &llama).unwrap(), "blk.11.ffn_norm.weight");
        assert_eq!(gguf_name(AFTER, &gemma).unwrap(), "blk.11.post_attention_norm.weight");
        assert_eq!(gguf_name("model.layers.0.self_attn.q_proj.bias", &llama).unwrap(), "blk.0.attn_q.bias");
        assert_eq!(gguf_name("lm_head.weight", &llama).unwrap(), "output.weight");
        assert_eq!(gguf_name("model.layers.0.other.weight", &llama), None);
    }
}
