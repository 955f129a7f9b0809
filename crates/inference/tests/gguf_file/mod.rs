//! Hugging Face's tiny Qwen 2 written as a GGUF file in float32.

use std::fs;
use std::path::Path;

use serde_json::Value;

fn text(out: &mut Vec<u8>, value: &str) {
    out.extend((value.len() as u64).to_le_bytes());
    out.extend(value.as_bytes());
}

/// llama.cpp's name of a tensor of Hugging Face's Qwen 2.
fn gguf_name(name: &str) -> String {
    let name = name.strip_prefix("model.").unwrap_or(name).replace("layers.", "blk.");
    [
        ("embed_tokens", "token_embd"),
        ("lm_head", "output"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
    ]
    .into_iter()
    .find_map(|(from, to)| name.contains(&format!("{from}.")).then(|| name.replace(from, to)))
    .unwrap_or_else(|| name.replace("norm.", "output_norm."))
}

/// The model as GGUF version 3 (ggml/docs/gguf.md).
pub fn gguf(model: &Path) -> Vec<u8> {
    let config: Value = serde_json::from_slice(&fs::read(model.join("config.json")).expect("readable")).expect("JSON");
    let weights = fs::read(model.join("model.safetensors")).expect("readable");
    let header = u64::from_le_bytes(weights[..8].try_into().expect("8 bytes")) as usize;
    let tensors: Value = serde_json::from_slice(&weights[8..8 + header]).expect("JSON");
    let tensors: Vec<(&String, &Value)> =
        tensors.as_object().expect("object").iter().filter(|(name, _)| *name != "__metadata__").collect();

    let mut metadata = Vec::new();
    let mut count = 0u64;
    let mut entry = |key: &str, kind: u32, value: &dyn Fn(&mut Vec<u8>)| {
        text(&mut metadata, key);
        metadata.extend(kind.to_le_bytes());
        value(&mut metadata);
        count += 1;
    };
    const U32: u32 = 4;
    const F32: u32 = 6;
    const STRING: u32 = 8;
    entry("general.architecture", STRING, &|out| text(out, "qwen2"));
    for (key, field) in [
        ("block_count", "num_hidden_layers"),
        ("embedding_length", "hidden_size"),
        ("feed_forward_length", "intermediate_size"),
        ("context_length", "max_position_embeddings"),
        ("attention.head_count", "num_attention_heads"),
        ("attention.head_count_kv", "num_key_value_heads"),
    ] {
        let value = config[field].as_u64().expect("a number") as u32;
        entry(&format!("qwen2.{key}"), U32, &|out| out.extend(value.to_le_bytes()));
    }
    let epsilon = config["rms_norm_eps"].as_f64().expect("a number") as f32;
    entry("qwen2.attention.layer_norm_rms_epsilon", F32, &|out| out.extend(epsilon.to_le_bytes()));
    entry("qwen2.rope.freq_base", F32, &|out| out.extend(10000f32.to_le_bytes()));

    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend(count.to_le_bytes());
    out.extend(metadata);
    let mut data: Vec<u8> = Vec::new();
    for (name, tensor) in tensors {
        text(&mut out, &gguf_name(name));
        let shape: Vec<u64> =
            tensor["shape"].as_array().expect("a shape").iter().map(|size| size.as_u64().expect("a size")).collect();
        out.extend((shape.len() as u32).to_le_bytes());
        for size in shape.iter().rev() {
            out.extend(size.to_le_bytes());
        }
        // Type 0 is F32; every tensor starts at a multiple of 32.
        out.extend(0u32.to_le_bytes());
        data.resize(data.len().next_multiple_of(32), 0);
        out.extend((data.len() as u64).to_le_bytes());
        let offset = |index: usize| tensor["data_offsets"][index].as_u64().expect("an offset") as usize + 8 + header;
        data.extend(&weights[offset(0)..offset(1)]);
    }
    out.resize(out.len().next_multiple_of(32), 0);
    out.extend(data);
    out
}
