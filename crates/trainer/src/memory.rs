//! Estimate of a run's memory, before it starts.

use std::fmt;
use std::path::Path;

use smpo_data::{Row, TokenizedCompletion};
use smpo_devices::{Choice, format_bytes};
use smpo_kernels::MomentFormat;
use smpo_losses::Pairing;
use smpo_model::{
    AdapterInfo, Config, DecoderSpec, FrozenStorage, LoraConfig, MemoryEstimate, ModelError, ModelInfo, Storage,
    StoredMatrices, TrainedBeside, TrainingShape,
};
use sysinfo::System;

use crate::config::{AdapterStart, MemoryCheck, Reference, TrainConfig};

/// Bounds of the default of `max_tokens_per_pack`: below, matrix products are too small to be efficient; above, nothing is
/// gained (`benches/README.md`).
const MIN_TOKENS: usize = 1024;
const MAX_TOKENS: usize = 2048;
const MAX_TOKENS_ON_GPU: usize = 8192;

/// Activations may always take this many bytes, however small the model.
const MIN_ACTIVATION_BYTES: u64 = 256 << 20;

/// Estimated memory of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryPlan {
    /// Tokens of the largest pack.
    pub tokens: usize,
    /// Completion tokens among them, at most.
    pub completion_tokens: usize,
    /// Adapters; `None` if the weights themselves are trained.
    pub lora: Option<LoraConfig>,
    /// Memory of the model that is trained, in bytes by use.
    pub estimate: MemoryEstimate,
    /// Reference model (KTO) or teacher kept beside the one that is trained, in bytes.
    pub reference: u64,
    /// True if that is a teacher.
    pub teaches: bool,
}

impl MemoryPlan {
    /// Plans a run whose longest row has `longest` tokens, of which `completions` are completion tokens.
    ///
    /// # Errors
    /// When a target of the adapters or a pattern names no layer, or an adapter to start from cannot be read.
    pub fn new(
        config: &TrainConfig,
        spec: &DecoderSpec,
        longest: usize,
        completions: usize,
    ) -> Result<Self, ModelError> {
        let (lora, layers) = (lora(config)?, layers(config));
        let step = longest.saturating_mul(config.batch_size());
        let tokens = max_tokens(config, spec)?.min(step).max(longest);
        let completion_tokens = (tokens as f64 * completions as f64 / longest as f64).ceil() as usize;
        let storage = config.storage();
        // float32 where the files cannot be read: loading reports that.
        let stored = ModelInfo::read(&config.model_name_or_path).map_or(StoredMatrices::FLOAT32, |info| info.matrices);
        let frozen = FrozenStorage { storage: &storage, stored };
        let shape = shape(config, lora.as_ref(), &layers, tokens, completion_tokens);
        let mut estimate =
            MemoryEstimate::new(spec, &TrainingShape { frozen, moments: config.optim.moments(), ..shape })?;
        if let Some(prompt) = &config.prompt {
            estimate.learn_prompts(spec, prompt.count * prompt.length);
        }
        let kept = config.loss.loss.needs_mismatched() && (lora.is_none() || config.reference() != Reference::Start);
        let second = kept || config.sync_ref_model;
        let reference = match config.teacher() {
            Some(teacher) => weights_of(config, &teacher)?,
            None if second => estimate.weights,
            None => 0,
        };
        let teaches = config.teacher().is_some();
        Ok(MemoryPlan { tokens, completion_tokens, lora, estimate, reference, teaches })
    }

    /// Plans a run from its configuration alone: rows as long as it allows.
    ///
    /// # Errors
    /// As for [`MemoryPlan::new`].
    pub fn of_longest(config: &TrainConfig, spec: &DecoderSpec) -> Result<Self, ModelError> {
        let prompt = config.max_prompt_length.unwrap_or(config.max_length / 2).min(config.max_length);
        let sides = match config.loss.loss.pairing() {
            Pairing::SftOnly | Pairing::Unpaired(_) => 1,
            // the least that a group has; more are known with the rows
            Pairing::Pairwise(_) | Pairing::Groupwise(_) => 2,
            Pairing::Pooled(loss) => 1 + usize::from(loss.compares_sides()),
        };
        let completions = sides * (config.max_length - prompt);
        Self::new(config, spec, prompt + completions, read_by_head(config, sides, completions))
    }

    /// Total, in bytes.
    pub fn total(&self) -> u64 {
        self.estimate.total() + self.reference
    }

    /// The total by use, as text.
    pub(crate) fn parts(&self) -> String {
        let MemoryEstimate { weights, gradients, optimizer, activations } = self.estimate;
        let mut parts = format!(
            "weights {}, gradients {}, moments {}, activations of a pack of {} tokens {}",
            format_bytes(weights),
            format_bytes(gradients),
            format_bytes(optimizer),
            self.tokens,
            format_bytes(activations)
        );
        if self.reference > 0 {
            let name = if self.teaches { "teacher" } else { "reference model" };
            parts.push_str(&format!(", {name} {}", format_bytes(self.reference)));
        }
        parts
    }
}

/// Maximum number of tokens of a pack: as configured, or as many as take no more memory than weights, gradients and
/// moments together.
pub(crate) fn max_tokens(config: &TrainConfig, spec: &DecoderSpec) -> Result<usize, ModelError> {
    if let Some(given) = config.max_tokens_per_pack {
        return Ok(given);
    }
    // As if all were float32: packs do not depend on the storage, nor do their results.
    let (lora, layers) = (lora(config)?, layers(config));
    let sample = MIN_TOKENS;
    let estimate = MemoryEstimate::new(spec, &shape(config, lora.as_ref(), &layers, sample, sample))?;
    let constant = estimate.weights + estimate.gradients + estimate.optimizer;
    let affordable = constant.max(MIN_ACTIVATION_BYTES) as f64 / (estimate.activations as f64 / sample as f64);
    Ok((affordable as usize).clamp(MIN_TOKENS, upper_bound(config.device)))
}

/// Upper bound of the default; `auto` counts as a GPU in a build for GPUs.
fn upper_bound(device: Choice) -> usize {
    match device {
        Choice::Cuda(_) => MAX_TOKENS_ON_GPU,
        Choice::Auto if cfg!(feature = "cuda") => MAX_TOKENS_ON_GPU,
        Choice::Auto | Choice::Cpu | Choice::Emulated => MAX_TOKENS,
    }
}

fn shape<'a>(
    config: &TrainConfig,
    lora: Option<&'a LoraConfig>,
    layers: &'a [String],
    tokens: usize,
    completion_tokens: usize,
) -> TrainingShape<'a> {
    TrainingShape {
        tokens,
        completion_tokens,
        lora,
        layers,
        checkpointing: config.gradient_checkpointing,
        frozen: FrozenStorage::FLOAT32,
        moments: MomentFormat::Single,
    }
}

/// Bytes of a teacher's weights in memory.
fn weights_of(config: &TrainConfig, dir: &Path) -> Result<u64, ModelError> {
    let teacher = config.open_reference(dir)?;
    let (spec, info) = (Config::from_dir(teacher.weights())?, ModelInfo::read(teacher.weights())?);
    FrozenStorage { storage: &Storage::default(), stored: info.matrices }.total(spec.spec())
}

/// Patterns of the weights that are trained: alone, or beside adapters.
fn layers(config: &TrainConfig) -> Vec<String> {
    if config.adapter().is_none() {
        return config.unfreeze_layers_patterns.clone();
    }
    let TrainedBeside { mut modules, tokens } = config.trained_beside();
    // The moments of its other rows are there too.
    modules.extend((!tokens.is_empty()).then(|| "embed_tokens".to_owned()));
    modules
}

fn lora(config: &TrainConfig) -> Result<Option<LoraConfig>, ModelError> {
    Ok(match config.adapter() {
        None => None,
        Some(AdapterStart::Fresh(lora)) => Some(lora),
        Some(AdapterStart::From(dir)) => Some(AdapterInfo::read(dir)?.config),
    })
}

/// Plans a run over `rows` from the longest of them; `None` without rows.
pub(crate) fn plan(config: &TrainConfig, spec: &DecoderSpec, rows: &[Row]) -> Result<Option<MemoryPlan>, ModelError> {
    longest(rows).map(|row| plan_of(config, spec, row)).transpose()
}

fn longest(rows: &[Row]) -> Option<&Row> {
    rows.iter().max_by_key(|row| row.packed_tokens())
}

fn plan_of(config: &TrainConfig, spec: &DecoderSpec, longest: &Row) -> Result<MemoryPlan, ModelError> {
    let completions = longest.completions().map(TokenizedCompletion::len).sum();
    let read = read_by_head(config, longest.completions().count(), completions);
    MemoryPlan::new(config, spec, longest.packed_tokens(), read)
}

/// Tokens of a row that its head reads: the last of each sequence, or all of the completions.
fn read_by_head(config: &TrainConfig, sequences: usize, completion_tokens: usize) -> usize {
    if config.loss.loss.pooled().is_some() { sequences } else { completion_tokens }
}

/// The shortage of a run over `rows` that would not fit into the free memory, with the first change of the configuration
/// that would make it fit; `None` without the memory check.
///
/// # Errors
/// As for [`MemoryPlan::new`].
pub(crate) fn shortage(
    config: &TrainConfig,
    spec: &DecoderSpec,
    rows: &[Row],
) -> Result<Option<MemoryShortage>, ModelError> {
    match longest(rows) {
        Some(longest) if config.memory_check != MemoryCheck::Off => shortage_of(config, spec, longest, free_memory()),
        _ => Ok(None),
    }
}

/// Bytes that this process can still allocate: those available to the system, or those left to its control group. The
/// page cache counts as free in both: the kernel gives it up before it refuses memory.
pub(crate) fn free_memory() -> u64 {
    let mut system = System::new();
    system.refresh_memory();
    let available = system.available_memory();
    system.cgroup_limits().map_or(available, |limits| available.min(limits.total_memory.saturating_sub(limits.rss)))
}

fn shortage_of(
    config: &TrainConfig,
    spec: &DecoderSpec,
    longest: &Row,
    free: u64,
) -> Result<Option<MemoryShortage>, ModelError> {
    let needed = plan_of(config, spec, longest)?;
    if needed.total() <= free {
        return Ok(None);
    }
    let mut remedy = None;
    for (text, changed) in remedies(config) {
        let total = plan_of(&changed, spec, longest)?.total();
        if total <= free {
            remedy = Some((text, total));
            break;
        }
    }
    let row = longest.id.clone();
    Ok(Some(MemoryShortage { needed, row, row_tokens: longest.packed_tokens(), free, remedy }))
}

/// Changes that save memory, the cheapest first.
fn remedies(config: &TrainConfig) -> Vec<(&'static str, TrainConfig)> {
    let small = TrainConfig { max_tokens_per_pack: Some(MIN_TOKENS), ..config.clone() };
    let recomputed = TrainConfig { gradient_checkpointing: true, ..small.clone() };
    let mut all = vec![
        ("max_tokens_per_pack = 1024", small),
        ("gradient_checkpointing = true and max_tokens_per_pack = 1024", recomputed.clone()),
    ];
    if config.adapter().is_none() && config.unfreeze_layers_patterns.is_empty() {
        let adapters = TrainConfig { use_peft: true, ..recomputed.clone() };
        all.push(("use_peft = true, gradient_checkpointing = true and max_tokens_per_pack = 1024", adapters.clone()));
        let packed = TrainConfig { load_in_4bit: true, ..adapters };
        let change =
            "use_peft = true, load_in_4bit = true, gradient_checkpointing = true and max_tokens_per_pack = 1024";
        all.push((change, packed));
    } else if config.adapter().is_some() && !config.load_in_4bit {
        let packed = TrainConfig { load_in_4bit: true, ..recomputed };
        all.push(("load_in_4bit = true, gradient_checkpointing = true and max_tokens_per_pack = 1024", packed));
    }
    all
}

/// More memory is needed than is free.
#[derive(Debug, PartialEq)]
pub struct MemoryShortage {
    needed: MemoryPlan,
    /// The longest row.
    row: String,
    row_tokens: usize,
    /// Free memory, in bytes.
    free: u64,
    /// A change that would make it fit, and the memory it would then take, in bytes.
    remedy: Option<(&'static str, u64)>,
}

impl fmt::Display for MemoryShortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "training would take about {} of memory ({}), {} are free; the longest row is {} with {} tokens; ",
            format_bytes(self.needed.total()),
            self.needed.parts(),
            format_bytes(self.free),
            self.row,
            self.row_tokens
        )?;
        match self.remedy {
            Some((change, total)) => write!(f, "with {change} it would take about {}", format_bytes(total))?,
            None => f.write_str(
                "lower max_length, or use a smaller model or a machine with more memory: no other setting is enough",
            )?,
        }
        f.write_str("; memory_check = \"off\" trains anyway")
    }
}

#[cfg(test)]
mod tests {
    use smpo_losses::Loss;

    use super::*;

    const GIB: u64 = 1 << 30;

    fn spec() -> DecoderSpec {
        let dir = tempfile::tempdir().unwrap();
        // Qwen2.5-1.5B
        let fields = r#"{"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "vocab_size": 151936,
            "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
            "num_key_value_heads": 2, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
            "hidden_act": "silu", "tie_word_embeddings": true}"#;
        std::fs::write(dir.path().join("config.json"), fields).unwrap();
        Config::from_dir(dir.path()).unwrap().spec().clone()
    }

    fn config() -> TrainConfig {
        let builder =
            TrainConfig::builder(Loss::Smpo(Default::default())).model("m").output_dir("o").train_files(["d.jsonl"]);
        builder.learning_rate(1e-5).build().unwrap()
    }

    fn row(tokens: usize) -> Row {
        let side = TokenizedCompletion::new(vec![0; tokens / 2], |_| false);
        Row {
            id: "pairs.jsonl:7".into(),
            prompt: vec![0],
            chosen: Some(side.clone()),
            rejected: Some(side),
            ..Row::default()
        }
    }

    #[test]
    fn the_cheapest_remedy_that_fits_is_named() {
        let (spec, config, row) = (spec(), config(), row(1000));
        let found = |free| shortage_of(&config, &spec, &row, free).unwrap();
        assert_eq!(found(64 * GIB), None);
        let weights = 1_543_714_304u64 * 4;
        let shortage = found(4 * weights + GIB).unwrap();
        assert_eq!(shortage.needed.estimate.weights, weights);
        assert_eq!(
            shortage.remedy.map(|(change, _)| change),
            Some("gradient_checkpointing = true and max_tokens_per_pack = 1024")
        );
        let text = found(10 * GIB).unwrap().to_string();
        assert!(text.contains("the longest row is pairs.jsonl:7 with 999 tokens; with use_peft = true"), "{text}");
        let text = found(GIB).unwrap().to_string();
        assert!(
            text.contains("about") && text.contains("lower max_length") && text.contains("1.0 GiB are free"),
            "{text}"
        );
    }

    #[test]
    fn packs_take_no_more_memory_than_the_rest() {
        let spec = spec();
        let plain = max_tokens(&config(), &spec).unwrap();
        assert_eq!(plain, MAX_TOKENS);
        let gpu = TrainConfig { device: Choice::Cuda(0), ..config() };
        assert_eq!(max_tokens(&gpu, &spec).unwrap(), MAX_TOKENS_ON_GPU);
        let given = TrainConfig { max_tokens_per_pack: Some(77), ..config() };
        assert_eq!(max_tokens(&given, &spec).unwrap(), 77);
        let batch = TrainConfig { per_device_train_batch_size: 64, ..config() };
        let estimate = MemoryPlan::new(&batch, &spec, 512, 512).unwrap();
        assert_eq!(estimate.tokens, plain);
        // A row that is longer is a pack of its own.
        let long = MemoryPlan::new(&TrainConfig { max_length: 20_000, ..config() }, &spec, 20_000, 10_000).unwrap();
        assert_eq!((long.tokens, long.completion_tokens), (20_000, 10_000));
    }
}
