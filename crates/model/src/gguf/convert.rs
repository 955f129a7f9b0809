//! A GGUF file as a Hugging Face directory, one tensor in memory at a time.

use std::borrow::Cow;
use std::cell::RefCell;
use std::path::Path;

use safetensors::{Dtype, View};

use super::GgufWeights;
use crate::config::Config;
use crate::error::{ModelError, Result};
use crate::save::{SaveOptions, copy_tokenizer_files, write_directory, write_json, write_weights};
use crate::weights::{OutputValues, WeightDtype, stack_experts};

/// Writes the model of a GGUF file to `dir`, which must be absent or empty: `config.json`, weights in the wanted dtype,
/// tokenizer, chat templates and generation settings.
///
/// # Errors
/// When the file is damaged or its architecture, tensors or tokenizer are of a kind that is not read, `dir` is not empty, or
/// a file cannot be written.
pub fn convert(gguf: &Path, dir: &Path, options: &SaveOptions) -> Result<()> {
    let weights = GgufWeights::open(gguf)?;
    let config = Config::of_gguf(weights.file())?;
    let failure = RefCell::new(None);
    write_directory(dir, |staging| {
        // First: a tokenizer that is not read shows before the weights are written.
        copy_tokenizer_files(gguf, staging)?;
        write_json(&staging.join("config.json"), &config.to_json(options.dtype.name()))?;
        let tensors = weights.names().filter_map(|name| {
            let (shape, _) = weights.describe(name)?;
            let tensor = Converted { weights: &weights, name, shape, dtype: options.dtype, failure: &failure };
            Some((name.to_string(), tensor))
        });
        let tensors = stack_experts(Some(config.spec()), tensors.collect());
        let written = write_weights(staging, tensors, options.shard_bytes);
        written.map_err(|error| failure.take().unwrap_or(error))
    })
}

/// A tensor that is dequantised while it is written.
struct Converted<'a> {
    weights: &'a GgufWeights,
    name: &'a str,
    shape: &'a [usize],
    dtype: WeightDtype,
    failure: &'a RefCell<Option<ModelError>>,
}

impl Converted<'_> {
    fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

impl View for Converted<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype.safetensors()
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = Vec::with_capacity(self.data_len());
        self.dtype.encode(&self.values(), &mut bytes);
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.count() * self.dtype.bytes()
    }
}

impl OutputValues for Converted<'_> {
    fn output_dtype(&self) -> WeightDtype {
        self.dtype
    }

    fn values(&self) -> Vec<f32> {
        // The trait is infallible: the error is kept, and the writer refuses a tensor that is too short.
        self.weights.read_part(self.name, 0..self.count()).unwrap_or_else(|error| {
            self.failure.replace(Some(error));
            Vec::new()
        })
    }
}
