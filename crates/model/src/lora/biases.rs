//! Biases that are trained beside adapters (PEFT's `bias`).

use crate::decoder::Decoder;
use crate::error::Result;
use crate::fields::Fields;
use crate::linear::Linear;

/// The biases that an adapter trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TrainedBiases {
    None,
    /// Those of layers with an adapter.
    Adapted,
    All,
}

impl TrainedBiases {
    pub fn read(fields: &Fields) -> Result<Self> {
        match fields.str("bias")? {
            None | Some("none") => Ok(Self::None),
            Some("lora_only") => Ok(Self::Adapted),
            Some("all") => Ok(Self::All),
            Some(other) => Err(fields.unsupported(format!("`bias` = `{other}`"))),
        }
    }
}

impl Decoder {
    /// Makes biases trainable beside the adapters.
    pub(super) fn train_biases(&mut self, biases: TrainedBiases) -> Result<()> {
        let placement = self.placement();
        if !matches!(biases, TrainedBiases::None) {
            self.make_whole(|name| name.ends_with(".bias"))?;
        }
        for linear in self.linears_mut() {
            let trained = match biases {
                TrainedBiases::None => false,
                TrainedBiases::Adapted => linear.adapter.is_some(),
                TrainedBiases::All => true,
            };
            if let Some(bias) = linear.bias.as_mut().filter(|_| trained) {
                bias.set_trainable(true, &placement)?;
            }
        }
        Ok(())
    }

    /// `bias` of an adapter's configuration.
    pub(super) fn trained_biases(&self) -> &'static str {
        let is_trained = |linear: &&Linear| {
            // a module that is trained whole is named as such
            !linear.weight.is_trained() && linear.bias.as_ref().is_some_and(|bias| bias.tensor.is_variable())
        };
        let trained: Vec<&Linear> = self.linears().into_iter().filter(is_trained).collect();
        if trained.is_empty() {
            "none"
        } else if trained.iter().all(|linear| linear.adapter.is_some()) {
            "lora_only"
        } else {
            "all"
        }
    }
}

/// Name of a linear layer's bias in an adapter's file, without PEFT's prefix: a layer with an adapter is inside of it.
pub(super) fn stored_name(linear: &Linear) -> String {
    let inside = if linear.adapter.is_some() { ".base_layer" } else { "" };
    format!("{}{inside}.bias", linear.module)
}
