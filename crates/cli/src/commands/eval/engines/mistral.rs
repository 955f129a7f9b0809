//! mistral.rs: several engines with one request each.

use std::path::Path;

use anyhow::Context;
use smpo_devices::Kind;
use smpo_files::sha256;
use smpo_inference::{Generator, MistralConfig, MistralEngine};

use super::{Engines, blame_engine, boxed};
use crate::commands::device;
use crate::commands::eval::evaluation::Evaluation;
use crate::commands::eval::forward::Forward;
use crate::commands::eval::weights;
use crate::exit::{Blame, Failure};

/// Weights up to here are small enough to be loaded once per core.
const SMALL_BYTES: u64 = 256 << 20;

/// A directory, an adapter or a GGUF file.
pub fn engines(
    model: &Path,
    evaluation: &Evaluation,
    forward: anyhow::Result<Forward>,
    weights_sha256: Option<String>,
) -> Result<Engines, Failure> {
    let cuda = match evaluation.device.open().map_err(device::blame)?.kind() {
        Kind::Cuda(index) => Some(index),
        Kind::Cpu | Kind::Emulated => None,
    };
    let config = MistralConfig { base: evaluation.base.clone(), threads: evaluation.threads, cuda };
    // Copies of the weights side by side are for cores, not for one GPU.
    let instances = evaluation.instances.unwrap_or_else(|| if cuda.is_some() { 1 } else { instances(model) });
    let engines = MistralEngine::load_instances(model, &config, instances)
        .map_err(|error| point_to_native(blame_engine(error), forward.is_ok()))?;
    let first = engines.first().context("expected at least one engine").execution()?;
    Ok(Engines {
        info: first.engine(),
        terminators: Some(first.tokenizer().terminators().into()),
        template_sha256: Some(sha256(first.tokenizer().template().source().as_bytes())),
        weights_sha256,
        forward,
        generators: boxed(engines),
        one_unless_checked: false,
    })
}

/// What mistral.rs refuses or would get wrong, this program's own decoder may know.
fn point_to_native(failure: Failure, known: bool) -> Failure {
    let hint = |error: anyhow::Error| match known {
        true => anyhow::anyhow!("{error:#}; --engine native reads this model"),
        false => error,
    };
    match failure {
        Failure::Usage(error) => Failure::Usage(hint(error)),
        Failure::Execution(error) => Failure::Execution(hint(error)),
    }
}

/// One per core for small weights, else one.
fn instances(model: &Path) -> usize {
    let sizes = weights::files(model).into_iter().filter_map(|file| std::fs::metadata(file).ok());
    let bytes: u64 = sizes.map(|metadata| metadata.len()).sum();
    if bytes <= SMALL_BYTES { std::thread::available_parallelism().map_or(1, usize::from) } else { 1 }
}
