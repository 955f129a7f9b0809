//! The models of a run: the policy, from its initial weights or a checkpoint, and the reference.

use std::path::Path;
use std::sync::Arc;

use smpo_model::{Config, Decoder, ModelError, Peers, Placement, Storage, TrainedBeside};

use crate::added_tokens::AddedTokens;
use crate::checkpoint::Checkpoint;
use crate::config::{AdapterStart, Init, Reference, TrainConfig};
use crate::error::TrainError;

/// The place of a run's models.
pub(crate) struct Home {
    /// Device and dtype.
    pub placement: Placement,
    /// Ranks among which the weights of blocks are shared out.
    pub peers: Option<Arc<dyn Peers>>,
}

impl Home {
    /// A model whose weights are all trained.
    fn load(&self, dir: &Path) -> Result<Decoder, ModelError> {
        match &self.peers {
            Some(peers) => Decoder::load_parts(dir, &self.placement, Arc::clone(peers)),
            None => Decoder::load_on(dir, &self.placement),
        }
    }

    /// A model whose weights are frozen.
    fn load_frozen(&self, dir: &Path, storage: &Storage) -> Result<Decoder, ModelError> {
        match &self.peers {
            Some(peers) => Decoder::load_frozen_parts(dir, &self.placement, Arc::clone(peers)),
            None => Decoder::load_frozen(dir, &self.placement, storage),
        }
    }
}

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
        home: &Home,
    ) -> Result<Self, TrainError> {
        let Some(adapter) = config.adapter() else {
            let all = config.unfreeze_layers_patterns.is_empty();
            let mut policy = match resumed {
                Some(checkpoint) => {
                    // Parts of what is trained alone have gradients that are summed.
                    let loaded = match all || home.peers.is_none() {
                        true => home.load(&checkpoint.model()),
                        false => home.load_frozen(&checkpoint.model(), &Storage::default()),
                    };
                    loaded.map_err(|error| checkpoint.unreadable(error))?
                }
                None => initial(config, model_config, home, if all { Use::Trained } else { Use::Frozen })?,
            };
            if !config.unfreeze_layers_patterns.is_empty() {
                policy.train_only(&config.unfreeze_layers_patterns)?;
            }
            if config.freeze_router {
                policy.freeze_routers()?;
            }
            return Ok(Models { policy, base: None });
        };
        let base = initial(config, model_config, home, Use::Frozen)?;
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
        home: &Home,
    ) -> Result<Decoder, TrainError> {
        let mut reference = match resumed {
            Some(checkpoint) => Decoder::load_on(checkpoint.reference(), &home.placement)
                .map_err(|error| checkpoint.unreadable(error))?,
            None => self.reference(config, model_config, home)?,
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
        home: &Home,
    ) -> Result<Decoder, TrainError> {
        if let Reference::Model(dir) = config.reference() {
            let reference = config.open_reference(&dir)?;
            let reference = match &home.peers {
                Some(peers) => reference.load_frozen_parts(&home.placement, Arc::clone(peers))?,
                None => reference.load_frozen(&home.placement, &Storage::default())?,
            };
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
            (None, _) => Ok(initial(config, model_config, home, Use::Frozen)?.frozen()),
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
fn initial(config: &TrainConfig, model_config: &Config, home: &Home, weights: Use) -> Result<Decoder, TrainError> {
    let mut model = match (config.init, weights) {
        (Init::Pretrained, Use::Trained) => home.load(&config.model_name_or_path)?,
        (Init::Pretrained, Use::Frozen) => home.load_frozen(&config.model_name_or_path, &config.storage())?,
        (Init::Random, _) => Decoder::init_on(model_config, config.seed, config.embedding_std, &home.placement)?,
    };
    if let Some(labels) = config.labels() {
        model.label_sequences(&labels, config.seed)?;
    }
    let added = AddedTokens::of(config)?;
    let rows = added.rows(model.spec().vocab_size);
    model.add_tokens(rows.start, rows.len())?;
    Ok(model)
}
