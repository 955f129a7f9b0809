//! How much memory a run takes, before it takes it.

use std::fmt;

use smpo_data::{Row, TokenizedCompletion};
use smpo_devices::Choice;
use smpo_losses::Pairing;
use smpo_model::{AdapterInfo, DecoderSpec, LoraConfig, MemoryEstimate, ModelError, TrainingShape};
use sysinfo::System;

use crate::config::{AdapterStart, MemoryCheck, TrainConfig};

/// Bounds of the default of `max_tokens_per_pack`: fewer tokens starve the matrix products, more gain nothing, which a
/// GPU comes to later than a processor (`benches/README.md`).
const FEWEST_TOKENS: usize = 1024;
const MOST_TOKENS: usize = 2048;
const MOST_TOKENS_ON_A_GPU: usize = 8192;

/// Activations may always take this much: it is little beside what the program needs anyway.
const FREE_FOR_ACTIVATIONS: u64 = 256 << 20;

/// What is in memory while a run trains, in float32.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryPlan {
    /// Tokens of the largest pack.
    pub tokens: usize,
    /// How many of them are completion tokens, at most.
    pub completion_tokens: usize,
    /// Adapters, if the run trains them.
    pub lora: Option<LoraConfig>,
    /// What training the model takes.
    pub estimate: MemoryEstimate,
    /// A second model that is kept beside the one that is trained (KTO), in bytes.
    pub reference: u64,
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
        let lora = lora(config)?;
        let step = longest.saturating_mul(config.batch_size());
        let tokens = max_tokens(config, spec)?.min(step).max(longest);
        let completion_tokens = (tokens as f64 * completions as f64 / longest as f64).ceil() as usize;
        let estimate = MemoryEstimate::new(spec, &shape(config, lora.as_ref(), tokens, completion_tokens))?;
        let second = config.loss.loss.needs_mismatched() && lora.is_none();
        let reference = if second { estimate.weights } else { 0 };
        Ok(MemoryPlan { tokens, completion_tokens, lora, estimate, reference })
    }

    /// Plans a run of which nothing but the configuration is known: rows as long as it allows.
    ///
    /// # Errors
    /// As for [`MemoryPlan::new`].
    pub fn of_longest(config: &TrainConfig, spec: &DecoderSpec) -> Result<Self, ModelError> {
        let prompt = config.max_prompt_length.unwrap_or(config.max_length / 2).min(config.max_length);
        let sides = match config.loss.loss.pairing() {
            Pairing::SftOnly | Pairing::Unpaired(_) => 1,
            Pairing::Pairwise(_) => 2,
        };
        let completions = sides * (config.max_length - prompt);
        Self::new(config, spec, prompt + completions, completions)
    }

    /// All of it, in bytes.
    pub fn total(&self) -> u64 {
        self.estimate.total() + self.reference
    }
}

/// Tokens of a pack at most: as configured, or as many as take no more memory than what is there anyway.
pub(crate) fn max_tokens(config: &TrainConfig, spec: &DecoderSpec) -> Result<usize, ModelError> {
    if let Some(given) = config.max_tokens_per_pack {
        return Ok(given);
    }
    let lora = lora(config)?;
    let sample = FEWEST_TOKENS;
    let estimate = MemoryEstimate::new(spec, &shape(config, lora.as_ref(), sample, sample))?;
    let standing = estimate.weights + estimate.gradients + estimate.optimizer;
    let affordable = standing.max(FREE_FOR_ACTIVATIONS) as f64 / (estimate.activations as f64 / sample as f64);
    Ok((affordable as usize).clamp(FEWEST_TOKENS, most_tokens(config.device)))
}

/// `auto` counts as what the build was made for.
fn most_tokens(device: Choice) -> usize {
    match device {
        Choice::Cuda(_) => MOST_TOKENS_ON_A_GPU,
        Choice::Auto if cfg!(feature = "cuda") => MOST_TOKENS_ON_A_GPU,
        Choice::Auto | Choice::Cpu | Choice::Emulated => MOST_TOKENS,
    }
}

fn shape<'a>(
    config: &'a TrainConfig,
    lora: Option<&'a LoraConfig>,
    tokens: usize,
    completion_tokens: usize,
) -> TrainingShape<'a> {
    let layers = &config.unfreeze_layers_patterns;
    TrainingShape { tokens, completion_tokens, lora, layers, checkpointing: config.gradient_checkpointing }
}

fn lora(config: &TrainConfig) -> Result<Option<LoraConfig>, ModelError> {
    Ok(match config.adapter() {
        None => None,
        Some(AdapterStart::Fresh(lora)) => Some(lora),
        Some(AdapterStart::From(dir)) => Some(AdapterInfo::read(dir)?.config),
    })
}

/// The shortage of a run on `rows` that would not fit into the memory that is free, with the first change of the
/// configuration that would make it fit; `None` without the memory check.
///
/// # Errors
/// As for [`MemoryPlan::new`].
pub(crate) fn shortage(
    config: &TrainConfig,
    spec: &DecoderSpec,
    rows: &[Row],
) -> Result<Option<MemoryShortage>, ModelError> {
    match rows.iter().max_by_key(|row| row.packed_tokens()) {
        Some(longest) if config.memory_check != MemoryCheck::Off => shortage_of(config, spec, longest, free_memory()),
        _ => Ok(None),
    }
}

/// Bytes that this process can still get: what the system has, or what its control group leaves.
fn free_memory() -> u64 {
    let mut system = System::new();
    system.refresh_memory();
    let available = system.available_memory();
    system.cgroup_limits().map_or(available, |limits| available.min(limits.free_memory))
}

fn shortage_of(
    config: &TrainConfig,
    spec: &DecoderSpec,
    longest: &Row,
    free: u64,
) -> Result<Option<MemoryShortage>, ModelError> {
    let completions = longest.completions().map(TokenizedCompletion::len).sum();
    let plan = |config: &TrainConfig| MemoryPlan::new(config, spec, longest.packed_tokens(), completions);
    let needed = plan(config)?;
    if needed.total() <= free {
        return Ok(None);
    }
    let mut remedy = None;
    for (text, changed) in remedies(config) {
        let total = plan(&changed)?.total();
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
    let small = TrainConfig { max_tokens_per_pack: Some(FEWEST_TOKENS), ..config.clone() };
    let again = TrainConfig { gradient_checkpointing: true, ..small.clone() };
    let mut all = vec![
        ("max_tokens_per_pack = 1024", small),
        ("gradient_checkpointing = true and max_tokens_per_pack = 1024", again.clone()),
    ];
    if config.adapter().is_none() && config.unfreeze_layers_patterns.is_empty() {
        let adapters = TrainConfig { use_peft: true, ..again };
        all.push(("use_peft = true, gradient_checkpointing = true and max_tokens_per_pack = 1024", adapters));
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
    /// Bytes.
    free: u64,
    /// A change that would make it fit, and what it would then take in bytes.
    remedy: Option<(&'static str, u64)>,
}

impl fmt::Display for MemoryShortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64);
        let MemoryPlan { tokens, estimate, reference, .. } = &self.needed;
        write!(
            f,
            "training would take about {} of memory (weights {}, gradients {}, moments {}, activations of a pack of \
             {tokens} tokens {}",
            gib(self.needed.total()),
            gib(estimate.weights),
            gib(estimate.gradients),
            gib(estimate.optimizer),
            gib(estimate.activations)
        )?;
        if *reference > 0 {
            write!(f, ", reference model {}", gib(*reference))?;
        }
        write!(f, "), {} are free; the longest row is {} with {} tokens; ", gib(self.free), self.row, self.row_tokens)?;
        match self.remedy {
            Some((change, total)) => write!(f, "with {change} it would take about {}", gib(total))?,
            None => f.write_str(
                "lower max_length, or use a smaller model or a machine with more memory: no other setting is enough",
            )?,
        }
        f.write_str("; memory_check = \"off\" trains all the same")
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use smpo_model::Config;

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

    fn config(extra: &str) -> TrainConfig {
        let text = format!(
            "model_name_or_path = \"m\"\ndataset = \"d.jsonl\"\noutput_dir = \"o\"\nlearning_rate = 1e-5\n{extra}\n[loss]\nkind = \"smpo\""
        );
        TrainConfig::parse(&text, Path::new("c.toml"), &[]).unwrap()
    }

    fn row(tokens: usize) -> Row {
        let side = TokenizedCompletion::new(vec![0; tokens / 2], |_| false);
        Row { id: "pairs.jsonl:7".into(), prompt: vec![0], chosen: Some(side.clone()), rejected: Some(side) }
    }

    #[test]
    fn the_cheapest_remedy_that_fits_is_named() {
        let (spec, config, row) = (spec(), config(""), row(1000));
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
    fn packs_take_no_more_than_what_is_there_anyway() {
        let spec = spec();
        let plain = max_tokens(&config(""), &spec).unwrap();
        assert_eq!(plain, MOST_TOKENS);
        assert_eq!(max_tokens(&config("device = \"cuda\""), &spec).unwrap(), MOST_TOKENS_ON_A_GPU);
        assert_eq!(max_tokens(&config("max_tokens_per_pack = 77"), &spec).unwrap(), 77);
        let estimate = MemoryPlan::new(&config("per_device_train_batch_size = 64"), &spec, 512, 512).unwrap();
        assert_eq!(estimate.tokens, plain);
        // A row that is longer is a pack of its own.
        let long = MemoryPlan::new(&config("max_length = 20000"), &spec, 20_000, 10_000).unwrap();
        assert_eq!((long.tokens, long.completion_tokens), (20_000, 10_000));
    }
}
