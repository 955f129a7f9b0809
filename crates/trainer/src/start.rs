//! Which weights a run starts from or goes on from, and which of them it trains.

use smpo_model::{Config, Decoder, matches_pattern};

use crate::checkpoint::Checkpoint;
use crate::config::{AdapterStart, Init, TrainConfig};
use crate::error::TrainError;

/// The models of a run.
pub(crate) struct Models {
    /// What is trained: as step 0 sees it, or as the checkpoint left it.
    pub policy: Decoder,
    /// What a reference is: the model before training, adapters off. It shares the policy's memory where the policy's
    /// own weights are frozen; otherwise it is loaded when asked for.
    base: Option<Decoder>,
}

impl Models {
    /// Loads what step 0 or the step after `resumed` needs.
    pub(crate) fn load(
        config: &TrainConfig,
        model_config: &Config,
        resumed: Option<&Checkpoint>,
    ) -> Result<Self, TrainError> {
        let Some(adapter) = config.adapter() else {
            let mut policy = match resumed {
                Some(checkpoint) => Decoder::load(checkpoint.model())?,
                None => initial(config, model_config)?,
            };
            unfreeze(&mut policy, &config.unfreeze_layers_patterns)?;
            return Ok(Models { policy, base: None });
        };
        let base = initial(config, model_config)?;
        let mut policy = base.clone();
        match (resumed, adapter) {
            (Some(checkpoint), _) => policy.load_adapter(checkpoint.model())?,
            (None, AdapterStart::From(dir)) => policy.load_adapter(dir)?,
            (None, AdapterStart::Fresh(lora)) => policy.add_lora(&lora, config.seed)?,
        }
        Ok(Models { policy, base: Some(base.frozen()) })
    }

    /// The reference model.
    pub(crate) fn reference(&self, config: &TrainConfig, model_config: &Config) -> Result<Decoder, TrainError> {
        match &self.base {
            Some(base) => Ok(base.clone()),
            None => initial(config, model_config),
        }
    }
}

/// The weights that step 0 sees, adapters aside.
fn initial(config: &TrainConfig, model_config: &Config) -> Result<Decoder, TrainError> {
    Ok(match config.init {
        Init::Pretrained => Decoder::load(&config.model_name_or_path)?,
        Init::Random => {
            let std = config.embedding_std.unwrap_or(model_config.spec().initializer_range);
            Decoder::init_with_embedding_std(model_config, config.seed, std)?
        }
    })
}

/// Freezes all but the modules that the patterns match; trains everything where there are none.
fn unfreeze(decoder: &mut Decoder, patterns: &[String]) -> Result<(), TrainError> {
    if patterns.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = decoder.trainable().into_iter().map(|(name, _)| name).collect();
    let idle = patterns.iter().find(|pattern| !names.iter().any(|name| in_module(pattern, name)));
    if let Some(pattern) = idle {
        let modules = names.iter().flat_map(|name| modules(name)).flat_map(|module| module.rsplit('.').next());
        let near = modules.map(|end| (strsim::damerau_levenshtein(pattern, end), end)).min();
        let hint = near.filter(|(distance, _)| *distance <= 3).map(|(_, end)| format!(", did you mean `{end}`?"));
        return Err(TrainError::NoSuchModule { pattern: pattern.clone(), hint: hint.unwrap_or_default() });
    }
    Ok(decoder.set_trainable(|name| patterns.iter().any(|pattern| in_module(pattern, name)))?)
}

/// Whether a pattern matches a module that holds the parameter.
fn in_module(pattern: &str, parameter: &str) -> bool {
    modules(parameter).any(|module| matches_pattern(pattern, module))
}

/// `a.b.c.weight` is in `a.b.c`, `a.b` and `a`.
fn modules(parameter: &str) -> impl Iterator<Item = &str> {
    parameter.match_indices('.').map(|(at, _)| &parameter[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_names_a_module_around_the_parameter() {
        let parameter = "model.layers.3.mlp.up_proj.weight";
        for pattern in ["up_proj", "*.mlp.up_proj", "model.layers.3", "model.layers.3.*", "mlp", "model"] {
            assert!(in_module(pattern, parameter), "{pattern}");
        }
        for pattern in ["weight", "down_proj", "model.layers.30", "proj", "layers.3.mlp.up_proj.weight"] {
            assert!(!in_module(pattern, parameter), "{pattern}");
        }
    }
}
