//! Adding adapters to a decoder, and merging them into its weights.

use candle_core::Var;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{Adapter, AdapterOptions, LoraConfig, targets::resolve};
use crate::decoder::Decoder;
use crate::error::{ModelError, Result};
use crate::parameter::Parameter;

impl Decoder {
    /// Freezes the model and adds a new adapter to every linear layer that the targets name.
    ///
    /// # Errors
    /// When a target names no layer, a range of the configuration is wrong, or there are adapters already.
    pub fn add_lora(&mut self, config: &LoraConfig, seed: u64) -> Result<()> {
        config.check()?;
        self.refuse_second_adapter()?;
        let chosen = {
            let linears = self.linears();
            let modules: Vec<&str> = linears.iter().map(|l| l.module.as_str()).collect();
            resolve(&config.targets, &modules)?
        };
        self.set_trainable(|_| false)?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let placement = &self.placement();
        for (index, (linear, chosen)) in self.linears_mut().into_iter().zip(chosen).enumerate() {
            if chosen {
                let options = AdapterOptions { config, placement, stream: index as u64 };
                linear.adapter = Some(Adapter::new(&linear.module, &linear.weight, options, &mut rng)?);
            }
        }
        self.lora = Some(config.clone());
        Ok(())
    }

    /// Configuration of the adapters; `None` without adapters.
    pub fn lora(&self) -> Option<&LoraConfig> {
        self.lora.as_ref()
    }

    /// Sets the dropout of the adapters.
    pub fn set_lora_dropout(&mut self, dropout: f64) {
        if let Some(lora) = &mut self.lora {
            lora.dropout = dropout;
        }
        self.linears_mut()
            .into_iter()
            .filter_map(|linear| linear.adapter.as_mut())
            .for_each(|adapter| adapter.set_dropout(dropout));
    }

    /// Merges the adapters into the weights and removes them. All parameters are trainable then, as after loading; packed
    /// blocks are dequantised.
    ///
    /// # Errors
    /// When a tensor cannot be created.
    pub fn merge_lora(&mut self) -> Result<()> {
        // An adapted tied head is no longer the embedding.
        if self.head_is_tied() && self.head.adapter.is_some() {
            self.untie_head()?;
        }
        let placement = self.placement();
        for linear in self.linears_mut() {
            if linear.adapter.is_some() {
                let tensor = Var::from_tensor(&linear.merged(&placement)?)?.into_inner();
                linear.weight = Parameter { name: linear.weight.name().to_owned(), tensor }.into();
                linear.adapter = None;
            }
            linear.weight.unpack(&placement)?;
        }
        self.lora = None;
        self.trained_tokens = Vec::new();
        self.set_trainable(|_| true)
    }

    pub(super) fn refuse_second_adapter(&self) -> Result<()> {
        match self.lora {
            None => Ok(()),
            Some(_) => Err(ModelError::input(
                "model to adapt",
                "one without adapters; merge them first",
                "one that has adapters already",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::PackedBatch;
    use crate::families::Family;

    #[test]
    fn frozen_weights_cost_no_gradient() {
        for case in Family::ALL.iter().map(|family| family.module()) {
            for dora in [false, true] {
                let mut decoder = Decoder::load(smpo_fixtures::golden("model", case)).unwrap();
                let config = LoraConfig {
                    r: 2,
                    alpha: 4.0,
                    dropout: 0.0,
                    rslora: false,
                    dora,
                    targets: vec!["all-linear".into()],
                };
                decoder.add_lora(&config, 0).unwrap();
                let batch = PackedBatch::from_sequences([(&[1, 2, 3][..], &[4, 5][..])]).unwrap();
                let store = decoder.log_probs(&batch).unwrap().sum_all().unwrap().backward().unwrap();
                for parameter in decoder.base_parameters() {
                    assert!(store.get(&parameter.tensor).is_none(), "{case}: {}", parameter.name);
                }
            }
        }
    }
}
