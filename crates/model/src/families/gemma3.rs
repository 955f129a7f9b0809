//! Gemma 3, text only: as Gemma 2 without caps, with query and key norms, and another rotary base on sliding blocks.

use serde_json::{Value, json};

use super::gemma2::gemma_spec;
use super::{Widths, sliding_layers, window_or};
use crate::error::Result;
use crate::fields::Fields;
use crate::rope::{RopeContext, RopeSpec};
use crate::spec::{DecoderSpec, LayerSpec};

pub(super) fn spec(fields: &Fields) -> Result<DecoderSpec> {
    let widths = Widths::read(fields, Some(256))?;
    let window = window_or(fields, 4096)?;
    // Before `layer_types`: every `sliding_window_pattern`-th block attends to the whole sequence.
    let pattern = fields.size("sliding_window_pattern")?.unwrap_or(6);
    let layers = sliding_layers(fields, widths.layers, |i| (i + 1) % pattern != 0)?
        .into_iter()
        .map(|slides| LayerSpec { window: window.filter(|_| slides), rope: usize::from(slides) })
        .collect();
    Ok(DecoderSpec { qk_norm: true, ..gemma_spec(fields, &widths, layers, ropes(fields, &widths)?, (None, None))? })
}

/// Ropes of full blocks and of sliding ones; only the first is ever scaled.
fn ropes(fields: &Fields, widths: &Widths) -> Result<Vec<RopeSpec>> {
    let (full, sliding) = match fields.object("rope_parameters")? {
        Some(p) => (p.object("full_attention")?, p.object("sliding_attention")?),
        None => (None, None),
    };
    let full = match fields.object("rope_scaling")? {
        Some(scaling) => Some(scaling),
        None => full,
    };
    let global = RopeContext { default_theta: full_theta(fields)?, ..widths.rope_context() };
    Ok(vec![
        RopeSpec::read_from(fields, full, &global, "rope_theta")?,
        RopeSpec::read_from(fields, sliding, &widths.rope_context(), "rope_local_base_freq")?,
    ])
}

/// θ of full blocks where neither `rope_scaling` nor the top level has one.
fn full_theta(fields: &Fields) -> Result<f64> {
    if let Some(p) = fields.object("rope_parameters")?
        && let Some(full) = p.object("full_attention")?
        && let Some(theta) = full.positive("rope_theta")?
    {
        return Ok(theta);
    }
    Ok(1_000_000.0)
}

/// θ of sliding blocks.
pub(super) fn rope_fields(spec: &DecoderSpec) -> Vec<(&'static str, Value)> {
    vec![("rope_local_base_freq", json!(spec.ropes[1].theta))]
}
