//! Rotary embeddings from the metadata, and from the tensors of factors beside it.

use std::f64::consts::TAU;

use serde_json::{Map, Value, json};

use super::Source;
use crate::error::Result;

/// Growth of queries with their position.
pub(crate) const TEMPERATURE: &str = "attention.temperature_scale";

/// The fields of rotary embeddings, as transformers 4 names them.
pub(super) fn fields(source: &Source<'_>, head_dim: u64) -> Result<Map<String, Value>> {
    let theta = source.number("rope.freq_base")?.unwrap_or(10_000.0);
    let rotary = source.whole("rope.dimension_count")?.unwrap_or(head_dim);
    let mut fields = Map::new();
    fields.insert("rope_theta".into(), json!(theta));
    if rotary != head_dim {
        fields.insert("partial_rotary_factor".into(), json!(rotary as f64 / head_dim as f64));
    }
    let phi3 = longrope(source)?;
    if let Some((_, original)) = &phi3 {
        // Beside the scaling, which has no room for it in transformers 4.
        fields.insert("original_max_position_embeddings".into(), json!(original));
    }
    let scaling = match phi3 {
        Some((scaling, _)) => Some(scaling),
        None => match llama3(source, theta, rotary)? {
            Some(scaling) => Some(scaling),
            None => scaling(source)?,
        },
    };
    fields.extend(scaling.map(|scaling| ("rope_scaling".to_string(), scaling)));
    Ok(fields)
}

/// Scaling by numbers of the metadata, as `rope_scaling`.
pub(crate) fn scaling(source: &Source<'_>) -> Result<Option<Value>> {
    let factor = || -> Result<f64> {
        let factor = source.number("rope.scaling.factor")?;
        factor.ok_or_else(|| source.missing("rope.scaling.factor", "a number above zero"))
    };
    let original = || source.required("rope.scaling.original_context_length");
    match source.text("rope.scaling.type")? {
        None => Ok(source.number("rope.scale_linear")?.filter(|factor| *factor != 1.0).map(linear)),
        Some("none") => Ok(None),
        Some("linear") => Ok(Some(linear(factor()?))),
        Some("yarn") => {
            let factor = factor()?;
            // The usual one, which llama.cpp computes by itself, is also written out.
            let usual = 0.1 * factor.max(1.0).ln() + 1.0;
            let is_usual = |given: f64| given == 1.0 || (given - usual).abs() < 1e-5;
            if source.number("rope.scaling.attn_factor")?.is_some_and(|given| !is_usual(given)) {
                let feature = format!("another number than {usual} with yarn");
                return Err(source.unsupported("rope.scaling.attn_factor", feature));
            }
            let mut yarn = json!({
                "rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original()?
            });
            if let Some(all) = source.number("rope.scaling.yarn_log_multiplier")?.filter(|all| *all != 0.0) {
                yarn["mscale"] = json!(1.0);
                yarn["mscale_all_dim"] = json!(all);
            }
            if let Some(beta) = source.number(TEMPERATURE)? {
                yarn["llama_4_scaling_beta"] = json!(beta);
            }
            for (key, name) in [("yarn_beta_fast", "beta_fast"), ("yarn_beta_slow", "beta_slow")] {
                if let Some(value) = source.number(&format!("rope.scaling.{key}"))? {
                    yarn[name] = json!(value);
                }
            }
            Ok(Some(yarn))
        }
        Some(other) => Err(source.unsupported("rope.scaling.type", format!("{other:?} (linear and yarn are read)"))),
    }
}

fn linear(factor: f64) -> Value {
    json!({"rope_type": "linear", "factor": factor})
}

/// Phi-3's scaling by two factors per frequency, and the context length without it.
fn longrope(source: &Source<'_>) -> Result<Option<(Value, u64)>> {
    let long = source.factors("rope_factors_long.weight")?;
    let (Some(long), Some(short)) = (long, source.factors("rope_factors_short.weight")?) else { return Ok(None) };
    let original = source.required("rope.scaling.original_context_length")?;
    let mut scaling = json!({"type": "longrope", "short_factor": short, "long_factor": long});
    // Readers compute the usual factor on attention from the two lengths.
    let stretch = (source.required("context_length")? as f64 / original as f64).max(1.0);
    let usual = (1.0 + stretch.ln() / (original as f64).ln()).sqrt();
    if let Some(given) = source.number("rope.scaling.attn_factor")?.filter(|given| (given - usual).abs() > 1e-5) {
        scaling["attention_factor"] = json!(given);
    }
    Ok(Some((scaling, original)))
}

/// Llama 3's scaling by a factor per frequency.
fn llama3(source: &Source<'_>, theta: f64, rotary: u64) -> Result<Option<Value>> {
    let Some(factors) = source.factors("rope_freqs.weight")? else { return Ok(None) };
    if factors.iter().all(|factor| *factor == 1.0) {
        return Ok(None);
    }
    let context = source.required("context_length")?;
    // The same factors at every length are the same computation.
    let any = || {
        json!({
            "rope_type": "longrope", "short_factor": factors, "long_factor": factors, "attention_factor": 1.0,
            "original_max_position_embeddings": context
        })
    };
    Ok(Some(parameters(&factors, theta, rotary).unwrap_or_else(any)))
}

/// The parameters of Llama 3's scaling that give these factors; `None` where none of the usual ones do.
fn parameters(factors: &[f64], theta: f64, rotary: u64) -> Option<Value> {
    const LENGTHS: std::ops::RangeInclusive<u32> = 10..=18;
    let (low, high) = (1.0, 4.0);
    let factor = factors.iter().copied().fold(1.0, f64::max);
    let expected = |length: f64, index: usize| {
        let wave = TAU * theta.powf(2.0 * index as f64 / rotary as f64);
        let smooth = (length / wave - low) / (high - low);
        match wave {
            wave if wave < length / high => 1.0,
            wave if wave > length / low => factor,
            _ => 1.0 / ((1.0 - smooth) / factor + smooth),
        }
    };
    let fits = |length: &u64| {
        let near = |(index, got): (usize, &f64)| (expected(*length as f64, index) / got - 1.0).abs() < 1e-4;
        factors.iter().enumerate().all(near)
    };
    // 8192 first: factors that several lengths give are those of Llama 3.1 and later.
    let length = std::iter::once(8192).chain(LENGTHS.map(|power| 1 << power)).find(fits)?;
    Some(json!({
        "rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high,
        "original_max_position_embeddings": length
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameters_of_llama_3_are_found_again() {
        // Of 8 frequencies at θ = 500000 with Llama 3.2's parameters, computed in float32.
        let length = 8192.0;
        let factors: Vec<f64> = (0..8)
            .map(|index| {
                let wave = TAU * 500_000f64.powf(index as f64 / 8.0);
                let smooth = (length / wave - 1.0) / 3.0;
                let factor = if wave < length / 4.0 {
                    1.0
                } else if wave > length {
                    32.0
                } else {
                    1.0 / ((1.0 - smooth) / 32.0 + smooth)
                };
                f64::from(factor as f32)
            })
            .collect();
        let found = parameters(&factors, 500_000.0, 16).unwrap();
        assert_eq!((&found["factor"], &found["original_max_position_embeddings"]), (&json!(32.0), &json!(8192)));
        assert_eq!(parameters(&[1.0, 2.0, 3.0, 2.0], 10_000.0, 8), None);
    }
}
