//! Granite 4, dense: Granite 3 whose feed-forward layers are called shared experts. Its hybrids (Mamba 2) and routed
//! experts are refused.

use super::Widths;
use super::granite::granite_spec;
use crate::error::Result;
use crate::fields::Fields;
use crate::spec::{Biases, DecoderSpec, FeedForward, Projections};

pub(super) fn spec(fields: &Fields) -> Result<DecoderSpec> {
    let experts =
        fields.number("num_local_experts")?.unwrap_or(if fields.is_written("num_local_experts") { 0.0 } else { 8.0 });
    if experts != 0.0 {
        return Err(fields.unsupported(format!("a mixture of experts (`num_local_experts` = {experts})")));
    }
    let types = fields.strings("layer_types")?.or(fields.strings("layers_block_type")?);
    match types {
        Some(types) if types.iter().all(|kind| ["attention", "full_attention"].contains(kind)) => {}
        Some(_) => return Err(fields.unsupported("a Mamba block (`layer_types`)")),
        None => return Err(fields.unsupported("Mamba blocks, which is what no `layer_types` means,")),
    }
    let widths = Widths::read(fields, None)?;
    let rotates = match fields.str("position_embedding_type")? {
        Some("rope") => true,
        None | Some("nope") => false,
        Some(other) => return Err(fields.unsupported(format!("`position_embedding_type` {other:?}"))),
    };
    let attention_bias = fields.bool("attention_bias")?.unwrap_or(false);
    let mut spec = granite_spec(fields, &widths, widths.rope(fields)?)?;
    spec.layers.iter_mut().for_each(|layer| layer.rope = layer.rope.filter(|_| rotates));
    Ok(DecoderSpec {
        intermediate_size: fields.size("shared_intermediate_size")?.unwrap_or(1024),
        biases: Biases { qkv: attention_bias, output: attention_bias, mlp: false },
        projections: Projections { feed_forward: FeedForward::Shared, ..Projections::SEPARATE },
        ..spec
    })
}
