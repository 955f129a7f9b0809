//! Winsorizing: the tokens that a quantile is taken over, those of a moving window among them.

use std::collections::VecDeque;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::Transforms;
use super::eos_term::EosTerm;
use super::quantile::quantile;
use crate::batch::{Batch, Completion};
use crate::state::LossState;

/// Tokens that a quantile is taken over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", try_from = "ScopeSpelling")]
pub enum WinsorScope {
    /// Those of the micro-batch: the published semantics. At micro-batch size 1 this is a quantile per sequence.
    #[default]
    Microbatch,
    /// Those of the optimizer step: independent of how the step is split.
    Step,
    /// The last N seen, the current step's included, in the order of the batch; independent of the split as well.
    Window(usize),
}

/// `"step"`, `"window:4096"` or `{ window = 4096 }`.
#[derive(Deserialize)]
#[serde(untagged)]
enum ScopeSpelling {
    Name(String),
    Table(ScopeTable),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScopeTable {
    window: usize,
}

impl JsonSchema for WinsorScope {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "WinsorScope".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"oneOf": [
            {"type": "string", "pattern": "^(microbatch|step|window: *[0-9]+)$"},
            {
                "type": "object",
                "properties": {"window": {"type": "integer", "minimum": 1}},
                "required": ["window"],
                "additionalProperties": false
            }
        ]})
    }
}

impl TryFrom<ScopeSpelling> for WinsorScope {
    type Error = String;

    fn try_from(spelling: ScopeSpelling) -> Result<Self, String> {
        let name = match spelling {
            ScopeSpelling::Table(ScopeTable { window }) => return Ok(Self::Window(window)),
            ScopeSpelling::Name(name) => name,
        };
        match name.as_str() {
            "microbatch" => Ok(Self::Microbatch),
            "step" => Ok(Self::Step),
            other => other
                .strip_prefix("window:")
                .and_then(|tokens| tokens.trim().parse().ok())
                .map(Self::Window)
                .ok_or_else(|| format!("expected `microbatch`, `step` or {{ window = N }}, got `{other}`")),
        }
    }
}

/// The quantiles that a run of consecutive pairs is clipped at. They are constants of the objective, not part of its
/// gradient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// Number of pairs that they apply to.
    pub pairs: usize,
    /// Lower bound of rejected ℓ, in nats; −∞ if winsorizing is off.
    pub rejected: f64,
    /// Upper bound of chosen ℓ, in nats; +∞ if winsorizing is off.
    pub chosen: f64,
}

/// The bounds of all pairs, in order.
pub(crate) fn bounds(transforms: &Transforms, batch: &Batch<'_>, state: &mut LossState) -> Vec<Bounds> {
    let whole = [batch.pairs.len()];
    let splits = match transforms.winsor_scope {
        WinsorScope::Microbatch if !batch.microbatches.is_empty() => batch.microbatches,
        _ => &whole,
    };
    let mut rest = batch.pairs;
    let mut pool = Vec::new();
    let mut of_split = |size: &usize| {
        let (pairs, tail) = rest.split_at(*size);
        rest = tail;
        let mut bounds = Bounds { pairs: *size, rejected: f64::NEG_INFINITY, chosen: f64::INFINITY };
        if let Some(q) = transforms.lower_clip_percentile {
            pool.clear();
            for rejected in pairs.iter().filter_map(|pair| pair.rejected.as_ref()) {
                after_eos_term(transforms, rejected, &mut pool);
            }
            let found = scoped_quantile(transforms.winsor_scope, &mut pool, &mut state.rejected, q);
            bounds.rejected = found.unwrap_or(bounds.rejected);
        }
        if let Some(q) = transforms.upper_clip_percentile {
            pool.clear();
            for chosen in pairs.iter().filter_map(|pair| pair.chosen.as_ref()) {
                pool.extend(chosen.logps);
            }
            let found = scoped_quantile(transforms.winsor_scope, &mut pool, &mut state.chosen, q);
            bounds.chosen = found.unwrap_or(bounds.chosen);
        }
        bounds
    };
    splits.iter().map(&mut of_split).collect()
}

fn after_eos_term(transforms: &Transforms, completion: &Completion<'_>, pool: &mut Vec<f64>) {
    let start = pool.len();
    pool.extend(completion.logps);
    let term = transforms.eos_term.on(completion.is_terminator);
    if term == EosTerm::Off {
        return;
    }
    // Terminators are few, so the common token is copied in bulk and they are patched. Backwards, so that removing one
    // moves none that is still to come.
    for (t, _) in completion.is_terminator.iter().enumerate().rev().filter(|(_, terminator)| **terminator) {
        match term.apply(completion.logps[t], transforms.eos_penalty_cap) {
            Some((value, _)) => pool[start + t] = value,
            None => drop(pool.remove(start + t)),
        }
    }
}

fn scoped_quantile(scope: WinsorScope, pool: &mut Vec<f64>, window: &mut VecDeque<f64>, q: f64) -> Option<f64> {
    if let WinsorScope::Window(tokens) = scope {
        window.extend(pool.iter());
        window.drain(..window.len().saturating_sub(tokens));
        pool.clear();
        pool.extend(window.iter());
    }
    quantile(pool, q)
}
