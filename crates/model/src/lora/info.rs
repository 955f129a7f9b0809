//! What an adapter directory holds, from its configuration and the header of its weight file alone.

use std::path::Path;

use super::LoraConfig;
use super::peft::{CONFIG, PREFIX, WEIGHTS, read_config};
use crate::error::Result;
use crate::weights::{Element, ElementCounts, WeightFile};

/// An adapter at a glance.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterInfo {
    /// Its configuration; the targets are the layers it has weights for.
    pub config: LoraConfig,
    /// Numbers it holds.
    pub parameters: usize,
    /// The element types of its weights, the commonest first.
    pub elements: Vec<Element>,
}

impl AdapterInfo {
    /// Looks at a PEFT adapter directory. No weight is read.
    ///
    /// # Errors
    /// When a file is missing or damaged, or the adapter is of another kind or uses a feature that is not supported.
    pub fn read(dir: impl AsRef<Path>) -> Result<Self> {
        let mut config = read_config(&dir.as_ref().join(CONFIG))?;
        let file = WeightFile::open(&dir.as_ref().join(WEIGHTS))?;
        let mut counts = ElementCounts::default();
        for name in file.names() {
            let Some((module, _)) = name.strip_prefix(PREFIX).and_then(|name| name.split_once(".lora_")) else {
                continue;
            };
            let (shape, element) = file.describe(&name)?;
            counts.add(element, shape.iter().product());
            if name.ends_with(".lora_A.weight") {
                config.targets.push(module.to_string());
            }
        }
        Ok(Self { config, parameters: counts.total(), elements: counts.commonest_first() })
    }
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
