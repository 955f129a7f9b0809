//! OLMo 3: OLMo 2 with a window on three of four blocks, which are never scaled to longer contexts.

use super::olmo2::olmo_spec;
use super::{Widths, alternating_layers, ropes_by_layer_type, sliding_layers, window_or};
use crate::error::Result;
use crate::fields::Fields;
use crate::spec::DecoderSpec;

pub(super) fn spec(fields: &Fields) -> Result<DecoderSpec> {
    const THETA: f64 = 500_000.0;
    let widths = Widths::read(fields, None)?;
    let window = window_or(fields, 4096)?;
    let sliding = sliding_layers(fields, widths.layers, |i| (i + 1) % 4 != 0)?;
    let ropes = ropes_by_layer_type(fields, &widths, (THETA, THETA), "rope_theta")?;
    let layers = alternating_layers(sliding, window, ropes.len());
    let plain = olmo_spec(fields, &widths, ropes[0].clone())?;
    Ok(DecoderSpec { layers, ropes, ..plain })
}
