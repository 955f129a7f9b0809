//! The models of a run: the policy, from its initial weights or a checkpoint, and the reference.

use smpo_model::{Config, Decoder, Placement, Storage, TrainedBeside};

use crate::added_tokens::AddedTokens;
use crate::checkpoint::Checkpoint;
use crate::config::{AdapterStart, Init, Reference, TrainConfig};
use crate::error::TrainError;

/// The models of a run.
pub(crate) struct Models {
    /// The model that is trained: at step 0, or of the checkpoint.
    pub policy: Decoder,
    /// The model without adapters, if there are some: the policy's own frozen weights, in the same memory.
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
                None if config.unfreeze_layers_patterns.is_empty() => {
                    initial(config, model_config, placement, Use::Trained)?
                }
                None => initial(config, model_config, placement, Use::Frozen)?,
            };
            if !config.unfreeze_layers_patterns.is_empty() {
                policy.train_only(&config.unfreeze_layers_patterns)?;
            }
            if config.freeze_router {
                policy.freeze_routers()?;
            }
            return Ok(Models { policy, base: None });
        };
        let base = initial(config, model_config, placement, Use::Frozen)?;
        let mut policy = base.clone();
        match (resumed, adapter) {
            (Some(checkpoint), _) => {
                policy.load_adapter(checkpoint.model()).map_err(|error| checkpoint.unreadable(error))?;
            }
            (None, AdapterStart::From(dir)) => policy.load_adapter(dir)?,
            (None, AdapterStart::Fresh(lora)) => policy.add_lora(&lora, config.seed)?,
        }
        if let Some(dropout) = config.continued_dropout() {
            policy.set_lora_dropout(dropout);
        }
        let beside = config.trained_beside();
        if resumed.is_none() && beside != TrainedBeside::default() {
            policy.train_beside(&beside)?;
        }
        if config.freeze_router {
            policy.freeze_routers()?;
        }
        Ok(Models { policy, base: Some(base.frozen()) })
    }

    /// The reference that follows the policy, as it was before the first step or after the steps of a checkpoint.
    pub(crate) fn following_reference(
        &self,
        config: &TrainConfig,
        model_config: &Config,
        resumed: Option<&Checkpoint>,
        placement: &Placement,
    ) -> Result<Decoder, TrainError> {
        let mut reference = match resumed {
            Some(checkpoint) => {
                Decoder::load_on(checkpoint.reference(), placement).map_err(|error| checkpoint.unreadable(error))?
            }
            None => self.reference(config, model_config, placement)?,
        };
        // all its weights move, so an adapter of it becomes part of them
        if reference.lora().is_some() {
            reference.merge_lora()?;
        }
        reference.dequantise()?;
        self.policy.check_same_parameters(&reference)?;
        Ok(reference.frozen())
    }

    /// The reference model.
    pub(crate) fn reference(
        &self,
        config: &TrainConfig,
        model_config: &Config,
        placement: &Placement,
    ) -> Result<Decoder, TrainError> {
        if let Reference::Model(dir) = config.reference() {
            let reference = config.open_reference(&dir)?.load_frozen(placement, &Storage::default())?;
            let (expected, got) = (model_config.spec().vocab_size, reference.spec().vocab_size);
            if got < expected {
                return Err(TrainError::ReferenceVocabulary { model: dir, expected, got });
            }
            return Ok(reference);
        }
        match (&self.base, config.adapter()) {
            (Some(base), Some(AdapterStart::From(dir))) => {
                let mut reference = base.clone();
                reference.load_adapter(dir)?;
                Ok(reference.frozen())
            }
            (Some(base), _) => Ok(base.clone()),
            (None, _) => Ok(initial(config, model_config, placement, Use::Frozen)?.frozen()),
        }
    }
}

/// Use of the weights of a model.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// All are trained.
    Trained,
    /// None is, or a part of them.
    Frozen,
}

/// The model at step 0, without adapters.
fn initial(
    config: &TrainConfig,
    model_config: &Config,
    placement: &Placement,
    weights: Use,
) -> Result<Decoder, TrainError> {
    let mut model = match (config.init, weights) {
        (Init::Pretrained, Use::Trained) => Decoder::load_on(&config.model_name_or_path, placement)?,
        (Init::Pretrained, Use::Frozen) => {
            Decoder::load_frozen(&config.model_name_or_path, placement, &config.storage())?
        }
        (Init::Random, _) => Decoder::init_on(model_config, config.seed, config.embedding_std, placement)?,
    };
    if let Some(labels) = config.labels() {
        model.label_sequences(&labels, config.seed)?;
    }
    let added = AddedTokens::of(config)?;
    let rows = added.rows(model.spec().vocab_size);
    model.add_tokens(rows.start, rows.len())?;
    Ok(model)
}
