//! Rotary embeddings of a `config.json`.

use smpo_kernels::RotaryPairs;

use super::{RopeScaling, RopeSpec};
use crate::error::Result;
use crate::fields::Fields;

/// A family's defaults for its rope fields.
pub(crate) struct RopeContext {
    /// Width of one head.
    pub head_dim: usize,
    /// θ of an absent `rope_theta`.
    pub default_theta: f64,
    /// Share of rotated dimensions of an absent `partial_rotary_factor`; `None` where all are rotated, and the field, which
    /// transformers then does not read, is refused.
    pub default_share: Option<f64>,
    /// Dimensions that turn together.
    pub pairs: RotaryPairs,
    /// True for Phi-3, whose configurations call LongRoPE `su` or `yarn`.
    pub yarn_is_longrope: bool,
}

impl RopeSpec {
    /// Reads `rope_theta`, `rope_scaling`, `partial_rotary_factor` (transformers 4) or `rope_parameters` (5).
    /// When both are written, `rope_scaling` wins, as in transformers 5.
    pub(crate) fn read(fields: &Fields, context: &RopeContext) -> Result<Self> {
        let nested = match fields.object("rope_scaling")? {
            Some(scaling) => Some(scaling),
            None => fields.object("rope_parameters")?,
        };
        Self::read_from(fields, nested, context, "rope_theta")
    }

    /// As [`RopeSpec::read`], with the nested object and the top-level name of θ given.
    pub(crate) fn read_from(
        fields: &Fields,
        nested: Option<Fields>,
        context: &RopeContext,
        theta_field: &'static str,
    ) -> Result<Self> {
        let parameters = fields.object("rope_parameters")?;
        let from_nested = |name: &'static str| -> Result<Option<f64>> {
            match nested {
                Some(n) => n.positive(name),
                None => Ok(None),
            }
        };
        let mut theta = from_nested("rope_theta")?.or(fields.positive(theta_field)?);
        let mut partial = from_nested("partial_rotary_factor")?.or(fields.positive("partial_rotary_factor")?);
        // `rope_scaling` won, but θ and the share may be in `rope_parameters` only.
        if let Some(p) = parameters {
            theta = theta.or(p.positive("rope_theta")?);
            partial = partial.or(p.positive("partial_rotary_factor")?);
        }
        let theta = theta.unwrap_or(context.default_theta);
        if context.default_share.is_none() && partial.is_some_and(|share| share != 1.0) {
            return Err(fields.unsupported("`partial_rotary_factor` in this family"));
        }
        let partial = partial.or(context.default_share).unwrap_or(1.0);
        let rotary_dim = (context.head_dim as f64 * partial) as usize;
        if rotary_dim == 0 || !rotary_dim.is_multiple_of(2) || rotary_dim > context.head_dim {
            return Err(fields.error(
                "partial_rotary_factor",
                &format!("a share of head_dim {} that is even and not zero", context.head_dim),
                format!("{partial}, which is {rotary_dim} dimensions"),
            ));
        }
        let scaling = match nested {
            Some(n) => RopeScaling::read(fields, &n, context, rotary_dim)?,
            None => RopeScaling::None,
        };
        Ok(Self { theta, rotary_dim, pairs: context.pairs, scaling })
    }
}

/// The fields of one rope scaling.
struct ScalingFields<'a> {
    /// Top level of `config.json`.
    fields: &'a Fields<'a>,
    /// `rope_scaling` or `rope_parameters`.
    nested: &'a Fields<'a>,
    rotary_dim: usize,
}

impl RopeScaling {
    fn read(fields: &Fields, nested: &Fields, context: &RopeContext, rotary_dim: usize) -> Result<Self> {
        let kind = match nested.str("rope_type")? {
            Some(kind) => kind,
            None => nested.str("type")?.unwrap_or("default"),
        };
        let scaling = ScalingFields { fields, nested, rotary_dim };
        match kind {
            "su" | "yarn" if context.yarn_is_longrope => scaling.longrope(),
            "default" => Ok(Self::None),
            "linear" => Ok(Self::Linear { factor: scaling.factor()? }),
            "llama3" => scaling.llama3(),
            "yarn" => scaling.yarn(),
            "longrope" => scaling.longrope(),
            other => Err(fields.unsupported(format!("rope scaling `{other}`"))),
        }
    }
}

impl ScalingFields<'_> {
    fn factor(&self) -> Result<f64> {
        self.nested.positive("factor")?.ok_or_else(|| self.nested.missing("factor", "a number above zero"))
    }

    /// Context length before scaling. The top level wins over the nested object, as in transformers (Phi-3 writes it
    /// there).
    fn original_length(&self) -> Result<usize> {
        const FIELD: &str = "original_max_position_embeddings";
        let found =
            self.fields.size(FIELD)?.or(self.nested.size(FIELD)?).or(self.fields.size("max_position_embeddings")?);
        found.ok_or_else(|| self.nested.missing(FIELD, "a number of tokens"))
    }

    /// The factor, or without one the ratio of the context lengths.
    fn stretch(&self, original_length: usize) -> Result<f64> {
        match self.nested.positive("factor")? {
            Some(factor) => Ok(factor),
            None => Ok(self.fields.required_size("max_position_embeddings")? as f64 / original_length as f64),
        }
    }

    fn llama3(&self) -> Result<RopeScaling> {
        let number = |name: &'static str| -> Result<f64> {
            self.nested.positive(name)?.ok_or_else(|| self.nested.missing(name, "a number above zero"))
        };
        let (low, high) = (number("low_freq_factor")?, number("high_freq_factor")?);
        if high <= low {
            let expected = format!("more than low_freq_factor {low}");
            return Err(self.nested.error("high_freq_factor", &expected, high.to_string()));
        }
        Ok(RopeScaling::Llama3 {
            factor: self.factor()?,
            low_freq_factor: low,
            high_freq_factor: high,
            original_length: self.original_length()?,
        })
    }

    fn yarn(&self) -> Result<RopeScaling> {
        let nested = self.nested;
        let original_length = self.original_length()?;
        let factor = self.stretch(original_length)?;
        let magnitude = |m: f64| {
            if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 }
        };
        let attention_factor = match nested.positive("attention_factor")? {
            Some(given) => given,
            None => match (nested.number("mscale")?, nested.number("mscale_all_dim")?) {
                (Some(m), Some(all)) if m != 0.0 && all != 0.0 => magnitude(m) / magnitude(all),
                _ => magnitude(1.0),
            },
        };
        Ok(RopeScaling::Yarn {
            factor,
            attention_factor,
            beta_fast: nested.positive("beta_fast")?.unwrap_or(32.0),
            beta_slow: nested.positive("beta_slow")?.unwrap_or(1.0),
            truncate: nested.bool("truncate")?.unwrap_or(true),
            original_length,
        })
    }

    fn longrope(&self) -> Result<RopeScaling> {
        let nested = self.nested;
        let original_length = self.original_length()?;
        let divisors = |name: &'static str| -> Result<Vec<f64>> {
            let count = self.rotary_dim / 2;
            let expected = format!("{count} numbers above zero");
            let values = nested.numbers(name)?.ok_or_else(|| nested.missing(name, &expected))?;
            if values.len() != count || values.iter().any(|v| *v <= 0.0) {
                return Err(nested.error(name, &expected, format!("{} numbers", values.len())));
            }
            Ok(values)
        };
        let factor = self.stretch(original_length)?;
        let attention_factor = match nested.positive("attention_factor")? {
            Some(given) => given,
            None if factor <= 1.0 => 1.0,
            None => (1.0 + factor.ln() / (original_length as f64).ln()).sqrt(),
        };
        Ok(RopeScaling::LongRope {
            short: divisors("short_factor")?,
            long: divisors("long_factor")?,
            attention_factor,
            original_length,
        })
    }
}
