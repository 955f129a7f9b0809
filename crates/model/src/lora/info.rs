//! Summary of an adapter directory, from its configuration and the header of its weight file.

use std::path::Path;

use super::LoraConfig;
use super::peft::{CONFIG, PREFIX, STEM, read_config};
use crate::error::Result;
use crate::layout::EXPERTS;
use crate::weights::{DtypeCounts, WeightDtype, WeightFile, WeightFiles};

/// Summary of an adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterInfo {
    /// Configuration; the targets are the layers it has weights for.
    pub config: LoraConfig,
    /// Number of parameters.
    pub parameters: usize,
    /// dtypes of its weights, most common first.
    pub dtypes: Vec<WeightDtype>,
}

impl AdapterInfo {
    /// Reads every weight of an adapter directory.
    ///
    /// # Errors
    /// When one is not a finite number, or a file is missing or damaged.
    pub fn check_values(dir: impl AsRef<Path>) -> Result<()> {
        WeightFiles::open(dir.as_ref(), STEM)?.check_values()
    }

    /// Reads a PEFT adapter directory, its weights excepted.
    ///
    /// # Errors
    /// When a file is missing or damaged, or the adapter's type or a feature of it is not supported.
    pub fn read(dir: impl AsRef<Path>) -> Result<Self> {
        let mut config = read_config(&dir.as_ref().join(CONFIG))?.lora;
        let file = WeightFile::in_directory(dir.as_ref(), STEM)?;
        let mut counts = DtypeCounts::default();
        for name in file.names() {
            // PEFT's copy of a base weight is no part of the adapter.
            let Some(own) = name.strip_prefix(PREFIX).filter(|name| !name.ends_with(".base_layer.weight")) else {
                continue;
            };
            let (shape, dtype) = file.describe(&name)?;
            counts.add(dtype, shape.iter().product());
            if let Some(module) = own.strip_suffix(".lora_A.weight") {
                config.targets.push(target(module));
            }
        }
        Ok(Self { config, parameters: counts.total(), dtypes: counts.commonest_first() })
    }
}

/// The layers of an adapter: a module, or all experts of a block where theirs are fused.
fn target(module: &str) -> String {
    let block = module.strip_suffix(".base_layer").unwrap_or(module);
    let all = EXPERTS.trim_end_matches('.');
    if block.ends_with(all) { format!("{block}.*") } else { module.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_is_described_without_its_weights() {
        let info = AdapterInfo::read(smpo_fixtures::golden("model", "peft-dora")).unwrap();
        let prefix = "model.layers.0";
        let mut targets = info.config.targets.clone();
        targets.sort();
        assert_eq!(targets, ["mlp.up_proj", "self_attn.k_proj", "self_attn.o_proj"].map(|t| format!("{prefix}.{t}")));
        assert_eq!((info.config.r, info.config.dora, info.config.rslora), (2, true, true));
        // r·(16 + out) and a magnitude an output, for outputs of 20, 8 and 16.
        assert_eq!(info.parameters, 2 * (16 + 20) + 20 + 2 * (16 + 8) + 8 + 2 * (16 + 16) + 16);
    }
}
