//! Adding adapters to a decoder, and merging them into its weights.

use candle_core::Var;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{Adapter, AdapterOptions, AdapterValues, LoraConfig, Start, targets::resolve};
use crate::decoder::Decoder;
use crate::error::{ModelError, Result};
use crate::layout::HEAD;
use crate::linear::Linear;
use crate::parameter::Parameter;
use crate::placement::host_values;

impl Decoder {
    /// Freezes the model and adds a new adapter to every linear layer that the targets name. One that starts as a part of its
    /// base leaves the rest of it there, in the placement's dtype.
    ///
    /// # Errors
    /// When a target or pattern names no layer, a range of the configuration is wrong, there are adapters already, or one of
    /// a head that is the embedding would take a part out of it.
    pub fn add_lora(&mut self, config: &LoraConfig, seed: u64) -> Result<()> {
        config.check()?;
        self.refuse_second_adapter()?;
        let (adapted, modules): (Vec<usize>, Vec<String>) = {
            let linears = self.linears();
            let modules: Vec<&str> = linears.iter().map(|l| l.module.as_str()).collect();
            let chosen = resolve(&config.targets, &modules)?;
            let adapted = modules.iter().enumerate().filter(|(index, _)| chosen[*index]);
            adapted.map(|(index, module)| (index, module.to_string())).unzip()
        };
        let start = config.init.start();
        let layers = config.of_modules(&modules)?;
        if start.is_some() && self.head_is_tied() && modules.iter().any(|module| module == HEAD) {
            let got = "a head that is the embedding";
            return Err(ModelError::input("adapters that take a part out of the base", "layers", got));
        }
        self.set_trainable(|_| false)?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let placement = &self.placement();
        if start.is_some() {
            self.expect_whole("base of adapters that start as a part of it")?;
        }
        let shards = self.shards.clone().filter(|_| config.dora);
        let mut linears = self.linears_mut();
        for (index, config) in adapted.into_iter().zip(&layers) {
            if let Some((shards, block)) = shards.as_ref().and_then(|s| Some((s, s.block_of(&linears[index].module)?)))
            {
                shards.fetch(block)?;
            }
            let (linear, options) = (&mut *linears[index], AdapterOptions { config, placement, stream: index as u64 });
            match start {
                Some(start) => take_out(linear, start, options)?,
                None => linear.adapter = Some(Adapter::new(&linear.module, &linear.weight, options, &mut rng)?),
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
        self.expect_whole("model to merge")?;
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
        }
        self.dequantise()?;
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

/// Gives a layer an adapter that starts as a part of its weight, and leaves the rest of the weight there, frozen.
fn take_out(linear: &mut Linear, start: Start, options: AdapterOptions<'_>) -> Result<()> {
    let (outputs, inputs) = linear.weight.shape()?;
    let base = host_values(&*linear.weight.dense(options.placement)?)?;
    let parts = start.parts(&base, inputs, options.config.r, options.config.scale());
    let values = AdapterValues { a: parts.a, b: parts.b, magnitude: None };
    let mut adapter = Adapter::from_values(&linear.module, &linear.weight, options, values)?;
    adapter.start = Some(start);
    let tensor = options.placement.variable(parts.rest, &[outputs, inputs])?.into_inner().detach();
    linear.weight = Parameter { name: linear.weight.name().to_owned(), tensor }.into();
    linear.adapter = Some(adapter);
    Ok(())
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
                let config =
                    LoraConfig { r: 2, alpha: 4.0, dora, targets: vec!["all-linear".into()], ..LoraConfig::default() };
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
