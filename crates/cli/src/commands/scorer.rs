//! A model that scores texts: its tokenizer, and its frozen decoder on a device.

use std::path::Path;

use smpo_devices::{OpenDevice, on_device};
use smpo_model::{Decoder, ModelDir, Placement, Storage};
use smpo_tokenizer::ChatTokenizer;

use super::device::DeviceArgs;
use super::template_variables::TemplateVariables;
use crate::exit::{Failure, OrFail};
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
        let tokenizer = ChatTokenizer::of_model(model.tokenizer(), model.adapter()).or_user_error()?;
        let tokenizer = variables.apply(tokenizer).or_user_error()?;
        let device = device.open(progress)?;
        let placement = Placement { device: device.device().clone(), ..Placement::default() };
        let decoder = on_device(&device, || model.load_frozen(&placement, &Storage::default()))?;
        Ok(Scorer { tokenizer, decoder, device, placement })
    }
}
