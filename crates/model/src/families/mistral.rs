//! Mistral and Mistral Nemo: one window on every block; `head_dim` need not be `hidden_size / heads`.

use serde_json::{Value, json};

use super::{Widths, uniform_layers, window_or};
use crate::error::Result;
use crate::fields::Fields;
use crate::gguf::{Architecture, Rows, Source, TEMPERATURE};
use crate::spec::DecoderSpec;

pub(super) const GGUF: Architecture = Architecture {
    rows: Rows::Interleaved,
    fields: gguf_fields,
    // With a temperature it is Ministral 3.
    chosen: |source| Ok(source.number(TEMPERATURE)?.is_none()),
    ..Architecture::plain("mistral3")
};

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

fn gguf_fields(source: &Source<'_>) -> Result<Vec<(&'static str, Value)>> {
    Ok(vec![("sliding_window", json!(source.whole("attention.sliding_window")?.filter(|window| *window > 0)))])
}
