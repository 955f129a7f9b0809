//! OLMo 2: norms after attention and after the feed-forward layer alone; those of queries and keys span all heads.

use super::Widths;
use crate::error::Result;
use crate::fields::Fields;
use crate::gguf::{Architecture, Source};
use crate::rope::RopeSpec;
use crate::spec::{Biases, BlockNorms, DecoderSpec, QkNorm};

pub(super) const GGUF: Architecture = Architecture {
    // With a window it is OLMo 3.
    chosen: |source| Ok(gguf_window(source)?.is_none()),
    ..Architecture::plain("olmo2")
};

pub(super) fn spec(fields: &Fields) -> Result<DecoderSpec> {
    let widths = Widths::read(fields, None)?;
    olmo_spec(fields, &widths, widths.rope(fields)?)
}

/// The decoder of OLMo 2 and 3.
pub(super) fn olmo_spec(fields: &Fields, widths: &Widths, rope: RopeSpec) -> Result<DecoderSpec> {
    let attention_bias = fields.bool("attention_bias")?.unwrap_or(false);
    Ok(DecoderSpec {
        norm_eps: fields.positive("rms_norm_eps")?.unwrap_or(1e-5),
        norms: BlockNorms {
            before_attention: None,
            after_attention: Some("post_attention_layernorm"),
            before_feed_forward: None,
            after_feed_forward: Some("post_feedforward_layernorm"),
        },
        qk_norm: QkNorm::AllHeads,
        biases: Biases { qkv: attention_bias, output: attention_bias, mlp: false },
        ..widths.plain_spec(fields, rope)?
    })
}

/// Sliding window of a GGUF file, in tokens.
pub(super) fn gguf_window(source: &Source<'_>) -> Result<Option<u64>> {
    Ok(source.whole("attention.sliding_window")?.filter(|window| *window > 0))
}
