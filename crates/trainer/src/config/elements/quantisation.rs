//! Four bits for the frozen weights under adapters.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smpo_model::{FourBitOptions, FourBitType, Storage};

use crate::config::builder::setters;
use crate::config::check::Problems;
use crate::config::{Init, TrainConfig, TrainConfigBuilder};

/// The sixteen numbers of four bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QuantType {
    /// Quantiles of a normal distribution.
    #[default]
    Nf4,
    /// Floats of two bits of exponent and one of fraction.
    Fp4,
}

impl TrainConfigBuilder {
    setters! {
        load_in_4bit: bool,
        bnb_4bit_quant_type?: QuantType,
        bnb_4bit_use_double_quant: bool,
        llm_int8_skip_modules[]: String,
        dequantize: bool,
    }
}

impl TrainConfig {
    /// Storage of the weights that are not trained.
    pub fn storage(&self) -> Storage {
        if self.dequantize {
            return Storage::Dequantised;
        }
        if !self.load_in_4bit {
            return Storage::AsStored;
        }
        Storage::FourBit(FourBitOptions {
            kind: match self.bnb_4bit_quant_type.unwrap_or_default() {
                QuantType::Nf4 => FourBitType::Nf4,
                QuantType::Fp4 => FourBitType::Fp4,
            },
            double: self.bnb_4bit_use_double_quant,
            skip: self.llm_int8_skip_modules.clone(),
        })
    }

    pub(in crate::config) fn check_quantisation(&self, problems: &mut Problems) {
        for (key, given) in [
            ("bnb_4bit_quant_type", self.bnb_4bit_quant_type.is_some()),
            ("bnb_4bit_use_double_quant", self.bnb_4bit_use_double_quant),
            ("llm_int8_skip_modules", !self.llm_int8_skip_modules.is_empty()),
        ] {
            if given && !self.load_in_4bit {
                problems.refuse(&[key, "load_in_4bit"], format!("`{key}` has no effect without load_in_4bit = true"));
            }
        }
        problems.exclusive(("dequantize", self.dequantize), ("load_in_4bit", self.load_in_4bit));
        if self.dequantize && self.init == Init::Random {
            let message = "`dequantize` is for weights that are read: it excludes init = \"random\"".to_owned();
            problems.refuse(&["dequantize", "init"], message);
        }
        if !self.load_in_4bit {
            return;
        }
        if !self.use_peft && self.adapter_name_or_path.is_none() {
            let message = "`load_in_4bit` is for weights under adapters: set use_peft = true".to_owned();
            problems.refuse(&["load_in_4bit", "use_peft", "adapter_name_or_path"], message);
        }
        if self.init == Init::Random {
            let message = "`load_in_4bit` quantises a model's weights: it excludes init = \"random\"".to_owned();
            problems.refuse(&["load_in_4bit", "init"], message);
        }
    }
}
