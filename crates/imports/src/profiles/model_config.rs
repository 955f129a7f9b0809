//! TRL's `ModelConfig`: adapters and quantisation, which Halo and effective_llm_alignment have too.

use crate::convert::adapters;
use crate::profile::Literal::{Real, Whole};
use crate::profile::{Default, Group, converted, default, nothing, refused, same, sets};

/// The keys.
pub(crate) const KEYS: &[Group] = &[
    Group::Keys(&[
        same("use_peft"),
        same("lora_r").of_adapters(),
        same("lora_alpha").of_adapters(),
        same("lora_dropout").of_adapters(),
        same("lora_target_modules").of_adapters(),
        sets("lora_modules_to_save", "modules_to_save").of_adapters(),
        same("modules_to_save").of_adapters(),
        same("use_rslora").of_adapters(),
        same("use_dora").of_adapters(),
        nothing("lora_task_type"),
        refused("lora_target_parameters", &[], "adapters are on layers here: name them in `lora_target_modules`"),
        refused("load_in_8bit", &["false"], "--set load_in_8bit=false trains adapters on the base as it is"),
        converted("load_in_4bit", "load_in_4bit", adapters::four_bit),
        converted("bnb_4bit_quant_type", "bnb_4bit_quant_type", adapters::four_bit_detail),
        converted("use_bnb_nested_quant", "bnb_4bit_use_double_quant", adapters::four_bit_detail),
    ]),
    Group::Nothing(&["bnb_4bit_quant_storage"]),
];

/// The defaults.
pub(crate) const DEFAULTS: &[Default] = &[
    default("lora_r", Whole(16)).of_adapters(),
    default("lora_alpha", Whole(32)).of_adapters(),
    default("lora_dropout", Real(0.05)).of_adapters(),
];
