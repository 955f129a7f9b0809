//! A model that scores texts: its tokenizer, and its frozen decoder on a device.

use std::path::Path;

use smpo_devices::{OpenDevice, on_device};
use smpo_model::{Decoder, ModelDir, Placement, Storage};
use smpo_tokenizer::ChatTokenizer;

use super::device::DeviceArgs;
use super::template_variables::TemplateVariables;
use crate::exit::Failure;
use crate::progress::Progress;

/// A loaded model.
pub struct Scorer {
    /// Its tokenizer, with the given template variables.
    pub tokenizer: ChatTokenizer,
    /// Its decoder, nothing trained.
    pub decoder: Decoder,
    /// The device that it is on.
    pub device: OpenDevice,
    /// Its placement there.
    pub placement: Placement,
}

impl Scorer {
    /// Loads a model directory, an adapter on its base, or a GGUF file.
    pub fn load(
        model: &Path,
        base: Option<&Path>,
        variables: &TemplateVariables,
        device: DeviceArgs,
        progress: &Progress,
    ) -> Result<Self, Failure> {
        let model = ModelDir::open(model, base)?;
        let tokenizer = ChatTokenizer::of_model(model.tokenizer(), model.adapter())?;
        let tokenizer = variables.apply(tokenizer)?;
        let device = device.open(progress)?;
        let placement = Placement { device: device.device().clone(), ..Placement::default() };
        let decoder = on_device(&device, || model.load_frozen(&placement, &Storage::default()))?;
        Ok(Scorer { tokenizer, decoder, device, placement })
    }
}

/// `--max-length`: tokens of a row at most, as given or the model's context length.
pub fn max_length(given: Option<usize>, decoder: &Decoder) -> Result<Option<usize>, Failure> {
    match (given, decoder.spec().max_positions) {
        (Some(given), Some(positions)) if given > positions => Err(Failure::user(format!(
            "--max-length: expected at most the model's context length of {positions} tokens, got {given}"
        ))),
        (given, positions) => Ok(given.or(positions)),
    }
}
