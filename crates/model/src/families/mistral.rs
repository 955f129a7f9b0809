//! Mistral and Mistral Nemo: one window on every block; `head_dim` need not be `hidden_size / heads`.

use super::{Widths, uniform_layers, window_or};
use crate::error::Result;
use crate::fields::Fields;
use crate::spec::DecoderSpec;

pub(super) fn spec(fields: &Fields) -> Result<DecoderSpec> {
    let widths = Widths::read(fields, None)?;
    if let Some(types) = fields.strings("layer_types")? {
        return Err(fields.unsupported(format!("`layer_types` {types:?} in this family")));
    }
    Ok(DecoderSpec {
        layers: uniform_layers(widths.layers, window_or(fields, 4096)?),
        ..widths.plain_spec(fields, widths.rope(fields)?)?
    })
}
