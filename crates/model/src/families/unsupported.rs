//! Families that are not read, and what sets them apart from those that are.

/// `model_type`s, and the feature that the decoder lacks. Text models stand by their own names.
const LACKING: [(&[&str], &str); 12] = [
    (&["kimi_linear"], "linear attention (a gated delta rule)"),
    (&["gemma3n_text", "gemma3n"], "embeddings for each layer and alternating updates (AltUp)"),
    (&["gemma4_text", "gemma4"], "embeddings for each layer, and keys that serve as values"),
    (&["llama4_text", "llama4"], "routed experts and attention in chunks"),
    (
        &[
            "qwen2_moe",
            "qwen3_vl_moe_text",
            "mixtral",
            "granitemoe",
            "granitemoeshared",
            "glm4_moe",
            "phimoe",
            "olmoe",
            "cohere2_moe",
            "hy_v3",
            "ernie4_5_moe",
            "minimax",
            "minimax_m2",
            "mistral4",
        ],
        "routed experts",
    ),
    (&["deepseek_v2", "deepseek_v3", "deepseek_v32", "glm_moe_dsa"], "latent attention and routed experts"),
    (&["lfm2", "lfm2_moe"], "short convolutions in place of attention"),
    (
        &["falcon_h1", "nemotron_h", "bamba", "zamba2", "jamba", "mamba", "mamba2", "falcon_mamba"],
        "state-space blocks (Mamba)",
    ),
    (
        &["gpt2", "gpt_neo", "gpt_bigcode", "opt", "bloom", "mpt"],
        "learned positions or ALiBi, and a feed-forward layer without a gate",
    ),
    (
        &["gpt_neox", "gptj", "phi", "falcon", "starcoder2", "nemotron", "stablelm"],
        "norms with biases and a feed-forward layer without a gate",
    ),
    (&["phi4mm", "phi4_multimodal"], "adapters inside the model, switched by the kind of input"),
    (&["qwen2_vl_text", "qwen2_5_vl_text", "qwen3_vl_text", "glm4v_text"], "rotary positions in three dimensions"),
];

/// The same of families that docs/families.md describes.
const DESCRIBED: [(&[&str], &str); 1] =
    [(&["qwen3_next", "qwen3_5_moe", "qwen3_5_moe_text"], "routed experts beside a shared one")];

/// The feature by which a model of another family differs; `None` for an unknown one.
pub(super) fn lacking(model_type: &str) -> Option<&'static str> {
    find(&LACKING, model_type).or_else(|| described(model_type))
}

/// The same, if docs/families.md describes the family.
pub(super) fn described(model_type: &str) -> Option<&'static str> {
    find(&DESCRIBED, model_type)
}

fn find(families: &[(&[&str], &'static str)], model_type: &str) -> Option<&'static str> {
    families.iter().find(|(names, _)| names.contains(&model_type)).map(|(_, feature)| *feature)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::Family;
    use crate::wrapper::WRAPPERS;

    #[test]
    fn no_family_that_is_read_is_listed() {
        let read =
            Family::ALL.iter().map(|family| family.model_type()).chain(WRAPPERS.iter().map(|kind| kind.model_type));
        for name in read {
            assert_eq!(lacking(name), None, "{name} is read now: take it out of the list");
        }
    }
}
