//! The models of a run: the policy, from its initial weights or a checkpoint, and the reference.

use smpo_model::{Config, Decoder, Placement};

use crate::checkpoint::Checkpoint;
use crate::config::{AdapterStart, Init, TrainConfig};
use crate::error::TrainError;

/// The models of a run.
pub(crate) struct Models {
    /// The model that is trained: at step 0, or of the checkpoint.
    pub policy: Decoder,
    /// The reference: the model before training, adapters off. It shares the policy's memory if the policy's own weights
    /// are frozen; otherwise it is loaded when needed.
    base: Option<Decoder>,
}

impl Models {
    /// Loads the models for step 0, or for the step after `resumed`.
    pub(crate) fn load(
        config: &TrainConfig,
        model_config: &Config,
        resumed: Option<&Checkpoint>,
        placement: &Placement,
    ) -> Result<Self, TrainError> {
        let Some(adapter) = config.adapter() else {
            let mut policy = match resumed {
                Some(checkpoint) => {
                    Decoder::load_on(checkpoint.model(), placement).map_err(|error| checkpoint.unreadable(error))?
                }
                None => initial(config, model_config, placement)?,
            };
            if !config.unfreeze_layers_patterns.is_empty() {
                policy.train_only(&config.unfreeze_layers_patterns)?;
            }
            return Ok(Models { policy, base: None });
        };
        let base = initial(config, model_config, placement)?;
        let mut policy = base.clone();
        match (resumed, adapter) {
            (Some(checkpoint), _) => {
                policy.load_adapter(checkpoint.model()).map_err(|error| checkpoint.unreadable(error))?;
            }
            (None, AdapterStart::From(dir)) => policy.load_adapter(dir)?,
            (None, AdapterStart::Fresh(lora)) => policy.add_lora(&lora, config.seed)?,
        }
        Ok(Models { policy, base: Some(base.frozen()) })
    }

    /// The reference model.
    pub(crate) fn reference(
        &self,
        config: &TrainConfig,
        model_config: &Config,
        placement: &Placement,
    ) -> Result<Decoder, TrainError> {
        match &self.base {
            Some(base) => Ok(base.clone()),
            None => initial(config, model_config, placement),
        }
    }
}

/// The model at step 0, without adapters.
fn initial(config: &TrainConfig, model_config: &Config, placement: &Placement) -> Result<Decoder, TrainError> {
    Ok(match config.init {
        Init::Pretrained => Decoder::load_on(&config.model_name_or_path, placement)?,
        Init::Random => Decoder::init_on(model_config, config.seed, config.embedding_std, placement)?,
    })
}
