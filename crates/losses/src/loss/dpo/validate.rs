//! Ranges and combinations of the keys.

use super::{DpoConfig, DpoLossType, FDivergence};
use crate::error::ConfigError;
use crate::factors::GateEstimate;
use crate::function::{LossFunction, require};

const KIND: &str = DpoConfig::KIND;

/// Every number in its range.
pub(super) fn ranges(config: &DpoConfig) -> Result<(), ConfigError> {
    let in_unit = |value: f64| value > 0.0 && value <= 1.0;
    require(KIND, "beta", "finite and greater than 0", config.beta, config.beta > 0.0)?;
    let epsilon = config.label_smoothing;
    require(KIND, "label_smoothing", "in [0, 0.5)", epsilon, (0.0..0.5).contains(&epsilon))?;
    let alpha = config.f_alpha_divergence_coef;
    require(KIND, "f_alpha_divergence_coef", "finite and greater than 0", alpha, alpha > 0.0)?;
    require(KIND, "discopop_tau", "finite and greater than 0", config.discopop_tau, config.discopop_tau > 0.0)?;
    require(KIND, "shift_lambda", "in (0, 1]", config.shift_lambda, in_unit(config.shift_lambda))?;
    require(KIND, "balance", "in (0, 1]", config.balance, in_unit(config.balance))?;
    if let Some(lambda) = config.bdpo_lambda {
        require(KIND, "bdpo_lambda", "in (0, 1)", lambda, lambda > 0.0 && lambda < 1.0)?;
    }
    for (field, weight) in [("rpo_alpha", config.rpo_alpha), ("dpop_lambda", config.dpop_lambda)] {
        if let Some(weight) = weight {
            require(KIND, field, "finite and at least 0", weight, weight >= 0.0)?;
        }
    }
    if let Some(alpha) = config.gate_alpha {
        require(KIND, "gate_alpha", "finite and greater than 0", alpha, alpha > 0.0)?;
    }
    if let Some(tau) = config.gate_tau {
        require(KIND, "gate_tau", "in [0, 1]", tau, (0.0..=1.0).contains(&tau))?;
    }
    if let Some(alpha) = config.ld_alpha {
        require(KIND, "ld_alpha", "in [0, 1]", alpha, (0.0..=1.0).contains(&alpha))?;
    }
    for weight in config.loss_weights.iter().flatten() {
        require(KIND, "loss_weights", "finite and at least 0", *weight, *weight >= 0.0)?;
    }
    Ok(())
}

/// Keys that contradict each other or have no effect beside others.
pub(super) fn combinations(config: &DpoConfig) -> Result<(), ConfigError> {
    let types = config.loss_type.as_slice();
    let any = |holds: fn(DpoLossType) -> bool| types.iter().any(|loss_type| holds(*loss_type));
    let no_effect = |field, because| Err(ConfigError::NoEffect { kind: KIND, field, because });
    let mismatch = |field: &str, expected, got: String| {
        Err(ConfigError::Mismatch { kind: KIND, field: field.to_owned(), expected, got })
    };
    if types.is_empty() {
        return mismatch("loss_type", "at least one loss type".to_owned(), "an empty list".to_owned());
    }
    if let Some(weights) = &config.loss_weights
        && weights.len() != types.len()
    {
        return mismatch(
            "loss_weights",
            format!("{} weights, one per `loss_type`", types.len()),
            weights.len().to_string(),
        );
    }
    factors(config)?;
    constants(config)?;
    let smoothing = config.label_smoothing > 0.0;
    if smoothing && !any(DpoLossType::smooths) {
        return no_effect("label_smoothing", "unless `loss_type` is \"sigmoid\", \"robust\", \"exo_pair\" or \"aot\"");
    }
    if !smoothing && types.contains(&DpoLossType::ExoPair) {
        return mismatch("label_smoothing", "above 0 with `exo_pair`, such as 1e-3".to_owned(), "0".to_owned());
    }
    if config.f_divergence_type != FDivergence::ReverseKl && !types.iter().all(|loss_type| loss_type.takes_divergence())
    {
        return no_effect("f_divergence_type", "with a loss type that is no function of one difference of scores");
    }
    if config.average_log_prob && any(DpoLossType::is_per_token) {
        return no_effect("average_log_prob", "beside a loss type that is per token itself");
    }
    if any(DpoLossType::sorts) && (config.dpop_lambda.is_some() || config.bdpo_lambda.is_some()) {
        let field = if config.dpop_lambda.is_some() { "dpop_lambda" } else { "bdpo_lambda" };
        return no_effect(field, "beside `aot` and `aot_unpaired`, which sort plain log-ratios");
    }
    if config.bdpo_lambda.is_some() && config.reference_free {
        return no_effect("bdpo_lambda", "beside `reference_free`: there is nothing to mix with");
    }
    if config.dpop_lambda.is_some() && config.reference_free {
        return no_effect("dpop_lambda", "beside `reference_free`: logp never exceeds a reference of 0");
    }
    if config.sampo_seed.is_some() && config.ld_alpha.is_some() {
        return no_effect("sampo_seed", "beside `ld_alpha`: a loss has one length control");
    }
    if config.average_log_prob && (config.sampo_seed.is_some() || config.ld_alpha.is_some()) {
        return no_effect("average_log_prob", "beside `ld_alpha` or `sampo_seed`: a loss has one length control");
    }
    Ok(())
}

/// Constants of one loss type or divergence, given where there is none that reads them.
fn constants(config: &DpoConfig) -> Result<(), ConfigError> {
    let default = DpoConfig::default();
    let types = config.loss_type.as_slice();
    let no_effect = |field, because| Err(ConfigError::NoEffect { kind: KIND, field, because });
    if config.discopop_tau != default.discopop_tau && !types.contains(&DpoLossType::Discopop) {
        return no_effect("discopop_tau", "unless `loss_type` is \"discopop\"");
    }
    if config.shift_lambda != default.shift_lambda && !types.contains(&DpoLossType::Shift) {
        return no_effect("shift_lambda", "unless `loss_type` is \"shift\"");
    }
    let alpha = config.f_alpha_divergence_coef;
    let is_default = alpha == default.f_alpha_divergence_coef || alpha == FORMER_ALPHA;
    if !is_default && config.f_divergence_type != FDivergence::AlphaDivergence {
        return no_effect("f_alpha_divergence_coef", "unless `f_divergence_type` is \"alpha_divergence\"");
    }
    Ok(())
}

/// The α that TRL's configurations had by default before 1.0: files that list every key have it.
const FORMER_ALPHA: f64 = 1.0;

/// Keys of the factors that have no gradient.
fn factors(config: &DpoConfig) -> Result<(), ConfigError> {
    let types = config.loss_type.as_slice();
    let mismatch = |field: &str, expected: &str, got: &str| {
        let (field, expected, got) = (field.to_owned(), expected.to_owned(), got.to_owned());
        Err(ConfigError::Mismatch { kind: KIND, field, expected, got })
    };
    if config.use_weighting && types.iter().any(|loss_type| loss_type.sorts()) {
        return mismatch("use_weighting", "false beside `aot` and `aot_unpaired`, which pair sides anew", "true");
    }
    if config.use_weighting && types.contains(&DpoLossType::Sft) {
        let expected = "false beside the loss type `sft`, which is no loss of a pair; `rpo_alpha` adds the same term";
        return mismatch("use_weighting", expected, "true");
    }
    match (config.gate_alpha, config.gate_tau) {
        (Some(_), None) => mismatch("gate_tau", "a number beside `gate_alpha`", "nothing"),
        (None, Some(_)) => mismatch("gate_alpha", "a number beside `gate_tau`", "nothing"),
        (None, None) if config.gate_estimate != GateEstimate::Seq => {
            let because = "without `gate_alpha` and `gate_tau`";
            Err(ConfigError::NoEffect { kind: KIND, field: "gate_estimate", because })
        }
        _ => Ok(()),
    }
}
