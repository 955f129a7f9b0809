//! `config.json` from the metadata of a file.

use serde_json::{Map, Value, json};

use super::{Architecture, GgufFile, Source, rope};
use crate::error::Result;

/// The fields of config.json that the metadata of a file describes. An absent number of special tokens is null: the
/// defaults of transformers are those of one published model.
pub(crate) fn config_json(file: &GgufFile) -> Result<Value> {
    let (family, architecture) = Architecture::of(file)?;
    let source = Source::new(file)?;
    if !architecture.routed && source.whole("expert_count")?.is_some_and(|count| count > 0) {
        return Err(source.unsupported("expert_count", "a mixture of experts (dense models alone are read)"));
    }
    let embedding = file
        .tensor("token_embd.weight")
        .ok_or_else(|| file.metadata().error("token_embd.weight", "the embedding", "no tensor of that name"))?;
    let heads = source.required("attention.head_count")?;
    let head_dim = source.head_width()?;
    if let Some(other) = source.whole("attention.value_length")?.filter(|width| *width != head_dim) {
        return Err(source.error("attention.value_length", format!("{head_dim}, as of keys"), other));
    }
    let mut fields = Map::new();
    for (name, value) in [
        ("architectures", json!([family.architecture()])),
        ("model_type", json!(family.model_type())),
        ("vocab_size", json!(embedding.shape()[0])),
        ("hidden_size", json!(source.required("embedding_length")?)),
        ("intermediate_size", json!(source.required("feed_forward_length")?)),
        ("num_hidden_layers", json!(source.blocks()?)),
        ("num_attention_heads", json!(heads)),
        ("num_key_value_heads", json!(source.whole("attention.head_count_kv")?.unwrap_or(heads))),
        ("head_dim", json!(head_dim)),
        ("max_position_embeddings", json!(source.required("context_length")?)),
        epsilon(&source)?,
        ("attention_bias", json!(file.tensor("blk.0.attn_q.bias").is_some())),
        ("mlp_bias", json!(file.tensor("blk.0.ffn_up.bias").is_some())),
        ("tie_word_embeddings", json!(file.tensor("output.weight").is_none())),
        ("bos_token_id", special_token(file, "bos")?),
        ("eos_token_id", special_token(file, "eos")?),
        ("pad_token_id", special_token(file, "padding")?),
    ] {
        fields.insert(name.into(), value);
    }
    fields.extend(rope::fields(&source, head_dim)?);
    let own = (architecture.fields)(&source)?;
    fields.extend(own.into_iter().map(|(name, value)| (name.to_string(), value)));
    Ok(Value::Object(fields))
}

/// The norms' ε by its name in config.json; that of norms with a mean where the file has it alone.
fn epsilon(source: &Source<'_>) -> Result<(&'static str, Value)> {
    const KEY: &str = "attention.layer_norm_rms_epsilon";
    if let Some(epsilon) = source.number(KEY)? {
        return Ok(("rms_norm_eps", json!(epsilon)));
    }
    let centred = source.number("attention.layer_norm_epsilon")?;
    Ok(("layer_norm_eps", json!(centred.ok_or_else(|| source.missing(KEY, "a number above zero"))?)))
}

/// Id of a special token within the vocabulary, else null.
fn special_token(file: &GgufFile, role: &str) -> Result<Value> {
    Ok(json!(file.metadata().whole(&format!("tokenizer.ggml.{role}_token_id"))?))
}
