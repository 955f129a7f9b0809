//! Estimate of a run's memory, before it starts.

use std::fmt;
use std::path::Path;

use smpo_data::{Row, TokenizedCompletion};
use smpo_devices::format_bytes;
use smpo_kernels::MomentFormat;
use smpo_losses::Pairing;
use smpo_model::{
    AdapterInfo, Config, DecoderSpec, FrozenStorage, LoraConfig, MemoryEstimate, ModelError, ModelInfo, Storage,
    StoredMatrices, TrainedBeside, TrainingShape, WeightDtype,
};

use crate::config::{AdapterStart, MemoryCheck, Reference, TrainConfig};
use crate::memory_budget::{GPU_SHARE, MemoryBudget};

/// Bounds of the default of `max_tokens_per_pack`: below, matrix products are too small to be efficient; above, nothing is
/// gained (`benches/README.md`).
const MIN_TOKENS: usize = 1024;
const MAX_TOKENS: usize = 2048;
const MAX_TOKENS_ON_GPU: usize = 32_768;

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
    /// Plans a run in `budget` whose longest row has `longest` tokens, of which `completions` are completion tokens.
    ///
    /// # Errors
    /// When a target of the adapters or a pattern names no layer, or an adapter to start from cannot be read.
    pub fn new(
        config: &TrainConfig,
        spec: &DecoderSpec,
        budget: MemoryBudget,
        longest: usize,
        completions: usize,
    ) -> Result<Self, ModelError> {
        let step = longest.saturating_mul(config.batch_size());
        let tokens = max_tokens(config, spec, budget)?.min(step).max(longest);
        let completion_tokens = (tokens as f64 * completions as f64 / longest as f64).ceil() as usize;
        Self::of_pack(config, spec, budget, tokens, completion_tokens)
    }

    /// Plans a run whose largest pack has so many tokens.
    fn of_pack(
        config: &TrainConfig,
        spec: &DecoderSpec,
        budget: MemoryBudget,
        tokens: usize,
        completion_tokens: usize,
    ) -> Result<Self, ModelError> {
        let (lora, layers) = (lora(config)?, layers(config));
        let storage = config.storage();
        // float32 where the files cannot be read: loading reports that.
        let stored = ModelInfo::read(&config.model_name_or_path).map_or(StoredMatrices::FLOAT32, |info| info.matrices);
        let frozen = FrozenStorage { storage: &storage, stored };
        let shape = shape(config, lora.as_ref(), &layers, tokens, completion_tokens);
        let (moments, device) = (config.optim.moments(), budget.device_dtype(config));
        let processes = if config.zero_stage == 3 { budget.ranks() } else { 1 };
        let mut estimate = MemoryEstimate::new(spec, &TrainingShape { frozen, moments, device, processes, ..shape })?;
        if config.zero_stage > 0 {
            estimate.optimizer = estimate.optimizer.div_ceil(budget.ranks() as u64);
        }
        if let Some(prompt) = &config.prompt {
            estimate.learn_prompts(spec, prompt.count * prompt.length);
        }
        if let (Some(probe), Some(dtype)) = (&config.probe, device) {
            // In turn with steps, one sequence at a time at least.
            let prompt = config.max_prompt_length.unwrap_or(config.max_length / 2);
            let sampling = spec.sampling_bytes(dtype, 1) + (prompt + probe.max_new_tokens) * spec.cached_bytes(dtype);
            estimate.activations = estimate.activations.max(sampling as u64);
        }
        let kept = config.loss.loss.needs_mismatched() && (lora.is_none() || config.reference() != Reference::Start);
        let second = kept || config.sync_ref_model;
        let reference = match config.teacher() {
            Some(teacher) => weights_of(config, &teacher, device, processes)?,
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
    pub fn of_longest(config: &TrainConfig, spec: &DecoderSpec, budget: MemoryBudget) -> Result<Self, ModelError> {
        let prompt = config.max_prompt_length.unwrap_or(config.max_length / 2).min(config.max_length);
        let sides = match config.loss.loss.pairing() {
            Pairing::SftOnly | Pairing::Unpaired(_) => 1,
            // the least that a group has; more are known with the rows
            Pairing::Pairwise(_) | Pairing::Groupwise(_) => 2,
            Pairing::Pooled(loss) => 1 + usize::from(loss.compares_sides()),
        };
        let completions = sides * (config.max_length - prompt);
        Self::new(config, spec, budget, prompt + completions, read_by_head(config, sides, completions))
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

/// Maximum number of tokens of a pack: as configured; on a GPU as many as its free memory has room for; else as many as take
/// no more memory than weights, gradients and moments together.
pub(crate) fn max_tokens(config: &TrainConfig, spec: &DecoderSpec, budget: MemoryBudget) -> Result<usize, ModelError> {
    if let Some(given) = config.max_tokens_per_pack {
        return Ok(given);
    }
    if budget.is_gpu() {
        return tokens_in(config, spec, budget);
    }
    // As if all were float32: packs do not depend on the storage, nor do their results.
    let (lora, layers) = (lora(config)?, layers(config));
    let sample = MIN_TOKENS;
    let estimate = MemoryEstimate::new(spec, &shape(config, lora.as_ref(), &layers, sample, sample))?;
    let constant = estimate.weights + estimate.gradients + estimate.optimizer;
    let affordable = constant.max(MIN_ACTIVATION_BYTES) as f64 / (estimate.activations as f64 / sample as f64);
    Ok((affordable as usize).clamp(MIN_TOKENS, MAX_TOKENS))
}

/// The largest power of two of tokens whose pack fits into a GPU's memory: a little more or less memory, as between two
/// starts of a run, makes the same packs.
fn tokens_in(config: &TrainConfig, spec: &DecoderSpec, budget: MemoryBudget) -> Result<usize, ModelError> {
    let bytes = (budget.free() as f64 * GPU_SHARE) as u64;
    let mut tokens = MAX_TOKENS_ON_GPU;
    while tokens > MIN_TOKENS && MemoryPlan::of_pack(config, spec, budget, tokens, tokens)?.total() > bytes {
        tokens /= 2;
    }
    Ok(tokens)
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
        device: None,
        processes: 1,
    }
}

/// Bytes of a teacher's weights in memory.
fn weights_of(
    config: &TrainConfig,
    dir: &Path,
    device: Option<WeightDtype>,
    processes: usize,
) -> Result<u64, ModelError> {
    let teacher = config.open_reference(dir)?;
    let (spec, info) = (Config::from_dir(teacher.weights())?, ModelInfo::read(teacher.weights())?);
    FrozenStorage { storage: &Storage::default(), stored: info.matrices }.total(spec.spec(), device, processes)
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
pub(crate) fn plan(
    config: &TrainConfig,
    spec: &DecoderSpec,
    budget: MemoryBudget,
    rows: &[Row],
) -> Result<Option<MemoryPlan>, ModelError> {
    longest(rows).map(|row| plan_of(config, spec, budget, row)).transpose()
}

fn longest(rows: &[Row]) -> Option<&Row> {
    rows.iter().max_by_key(|row| row.packed_tokens())
}

fn plan_of(
    config: &TrainConfig,
    spec: &DecoderSpec,
    budget: MemoryBudget,
    longest: &Row,
) -> Result<MemoryPlan, ModelError> {
    let completions = longest.completions().map(TokenizedCompletion::len).sum();
    let read = read_by_head(config, longest.completions().count(), completions);
    MemoryPlan::new(config, spec, budget, longest.packed_tokens(), read)
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
    budget: MemoryBudget,
    rows: &[Row],
) -> Result<Option<MemoryShortage>, ModelError> {
    match longest(rows) {
        Some(longest) if config.memory_check != MemoryCheck::Off => shortage_of(config, spec, budget, longest),
        _ => Ok(None),
    }
}

fn shortage_of(
    config: &TrainConfig,
    spec: &DecoderSpec,
    budget: MemoryBudget,
    longest: &Row,
) -> Result<Option<MemoryShortage>, ModelError> {
    let needed = plan_of(config, spec, budget, longest)?;
    if needed.total() <= budget.free() {
        return Ok(None);
    }
    let mut remedy = None;
    for (text, changed) in remedies(config, budget) {
        let total = plan_of(&changed, spec, budget, longest)?.total();
        if total <= budget.free() {
            remedy = Some((text, total));
            break;
        }
    }
    let row = longest.id.clone();
    Ok(Some(MemoryShortage { needed, row, row_tokens: longest.packed_tokens(), budget, remedy }))
}

type Change = (&'static str, fn(TrainConfig) -> TrainConfig);

/// Changes that save memory, each beside those before it, the cheapest first; then such with weights in parts.
fn remedies(config: &TrainConfig, budget: MemoryBudget) -> Vec<(String, TrainConfig)> {
    let whole = config.adapter().is_none() && config.unfreeze_layers_patterns.is_empty();
    let half: Change = ("bf16 = true", |config| TrainConfig { bf16: true, ..config });
    let dealt: Change = ("zero_stage = 1", |config| TrainConfig { zero_stage: 1, ..config });
    let in_parts: Change = ("zero_stage = 3", |config| TrainConfig { zero_stage: 3, ..config });
    let small: Change =
        ("max_tokens_per_pack = 1024", |config| TrainConfig { max_tokens_per_pack: Some(MIN_TOKENS), ..config });
    let recomputed: Change =
        ("gradient_checkpointing = true", |config| TrainConfig { gradient_checkpointing: true, ..config });
    let adapted: Change = ("use_peft = true", |config| TrainConfig { use_peft: true, ..config });
    let packed: Change = ("load_in_4bit = true", |config| TrainConfig { load_in_4bit: true, ..config });

    let halves = budget.is_gpu() && config.requested_dtype() == WeightDtype::F32;
    let packs = (whole || config.adapter().is_some()) && !config.load_in_4bit;
    let several = budget.ranks() > 1;
    let given = |change: Change, given: bool| given.then_some(change);
    let first = [
        given(half, halves),
        given(dealt, several && config.zero_stage == 0),
        Some(small),
        Some(recomputed),
        given(adapted, whole),
        given(packed, packs),
    ];
    let parts = several && config.zero_stage < 3;
    let second = [
        given(half, halves),
        given(recomputed, !config.gradient_checkpointing),
        Some(in_parts),
        Some(small),
        given(adapted, whole),
    ];
    let mut all = one_by_one(config, first);
    if parts {
        all.extend(one_by_one(config, second).into_iter().filter(|(_, changed)| changed.validate().is_ok()));
    }
    all
}

/// The configuration after the first change, after the first two, and so on.
fn one_by_one<const N: usize>(config: &TrainConfig, changes: [Option<Change>; N]) -> Vec<(String, TrainConfig)> {
    let mut changed = config.clone();
    let mut names: Vec<&str> = Vec::new();
    let each = changes.into_iter().flatten().map(|(name, change)| {
        changed = change(changed.clone());
        names.insert(0, name);
        (smpo_suggest::list(&names), changed.clone())
    });
    each.collect()
}

/// More memory is needed than is free.
#[derive(Debug, PartialEq)]
pub struct MemoryShortage {
    needed: MemoryPlan,
    /// The longest row.
    row: String,
    row_tokens: usize,
    budget: MemoryBudget,
    /// A change that would make it fit, and the memory it would then take, in bytes.
    remedy: Option<(String, u64)>,
}

impl fmt::Display for MemoryShortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "training would take about {} of memory ({}), {}; the longest row is {} with {} tokens; ",
            format_bytes(self.needed.total()),
            self.needed.parts(),
            self.budget,
            self.row,
            self.row_tokens
        )?;
        let larger = if self.budget.is_gpu() { "GPU" } else { "machine" };
        match &self.remedy {
            Some((change, total)) => write!(f, "with {change} it would take about {}", format_bytes(*total))?,
            None => write!(
                f,
                "lower max_length, or use a smaller model or a {larger} with more memory: no other setting is enough"
            )?,
        }
        f.write_str("; memory_check = \"off\" trains anyway")
    }
}

#[cfg(test)]
mod tests {
    use smpo_devices::{GpuMemory, Kind};
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

    fn host(free: u64) -> MemoryBudget {
        MemoryBudget::host().with_free(free)
    }

    fn gpu(free: u64, total: u64) -> MemoryBudget {
        MemoryBudget::of_gpu(Kind::Cuda(0), GpuMemory { free, total })
    }

    #[test]
    fn the_cheapest_remedy_that_fits_is_named() {
        let (spec, config, row) = (spec(), config(), row(1000));
        let found = |free| shortage_of(&config, &spec, host(free), &row).unwrap();
        assert_eq!(found(64 * GIB), None);
        let weights = 1_543_714_304u64 * 4;
        let shortage = found(4 * weights + GIB).unwrap();
        assert_eq!(shortage.needed.estimate.weights, weights);
        assert_eq!(
            shortage.remedy.map(|(change, _)| change).as_deref(),
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
    fn a_gpu_is_asked_for_its_own_memory_in_its_own_dtype() {
        let (spec, single, row) = (spec(), config(), row(1000));
        let half = TrainConfig { bf16: true, ..config() };
        let adapted = TrainConfig { use_peft: true, ..half.clone() };
        let found = |config: &TrainConfig, budget| shortage_of(config, &spec, budget, &row).unwrap();
        // However little the host has: 1.5 billion weights under adapters fit a card of 24 GiB, and all of them one of 80.
        assert_eq!(found(&adapted, gpu(23 * GIB, 24 * GIB)), None);
        assert_eq!(found(&half, gpu(79 * GIB, 80 * GIB)), None);
        let text = found(&half, gpu(22 * GIB, 24 * GIB)).unwrap().to_string();
        let expected =
            "22.0 GiB of the GPU's 24.0 GiB are free; the longest row is pairs.jsonl:7 with 999 tokens; with";
        assert!(text.contains(expected) && text.contains("use_peft = true"), "{text}");
        // A card of 24 GiB that others fill is too small as well.
        let text = found(&adapted, gpu(GIB, 24 * GIB)).unwrap().to_string();
        assert!(text.contains("a smaller model or a GPU with more memory: no other setting is enough"), "{text}");
        let remedy = |config: &TrainConfig, budget| found(config, budget).and_then(|found| found.remedy).unwrap().0;
        let float32 = TrainConfig { use_peft: true, ..single.clone() };
        let weights = 1_543_714_304u64;
        assert_eq!(remedy(&float32, gpu(4 * weights, 8 * weights)), "bf16 = true");
        let expected = "load_in_4bit = true, gradient_checkpointing = true and max_tokens_per_pack = 1024";
        assert_eq!(remedy(&adapted, gpu(5 * weights / 2, 8 * weights)), expected);
        assert_eq!(single.dtype(Kind::Cuda(0)), WeightDtype::F32);
    }

    #[test]
    fn ranks_share_the_moments_where_that_is_configured() {
        let (spec, config, row) = (spec(), config(), row(1000));
        let budget = |free: u64| host(free).shared_by(8);
        let alone = plan_of(&config, &spec, budget(0), &row).unwrap();
        let dealt = TrainConfig { zero_stage: 1, ..config.clone() };
        let shared = plan_of(&dealt, &spec, budget(0), &row).unwrap();
        assert_eq!(shared.estimate.optimizer, alone.estimate.optimizer / 8);
        assert_eq!(alone.total() - shared.total(), alone.estimate.optimizer / 8 * 7);
        let short = shortage_of(&config, &spec, budget(shared.total()), &row).unwrap().unwrap();
        assert_eq!(short.remedy, Some(("zero_stage = 1".to_owned(), shared.total())));
        assert_eq!(shortage_of(&dealt, &spec, budget(shared.total()), &row).unwrap(), None);
    }

    #[test]
    fn ranks_keep_parts_of_blocks_where_that_is_configured() {
        let (spec, row) = (spec(), row(1000));
        let config = TrainConfig { gradient_checkpointing: true, ..config() };
        let of = |ranks: usize, zero_stage: u8| {
            let config = TrainConfig { zero_stage, ..config.clone() };
            plan_of(&config, &spec, host(0).shared_by(ranks), &row).unwrap().estimate
        };
        let (whole, parts) = (of(8, 1), of(8, 3));
        assert_eq!((whole.optimizer, whole.activations), (parts.optimizer, parts.activations));
        let embedding = 4 * (spec.vocab_size * spec.hidden_size) as u64;
        let block = (whole.weights - embedding) / spec.layers.len() as u64;
        let expected = embedding + (whole.weights - embedding) / 8;
        for (got, copies) in [(parts.weights, 2), (parts.gradients, 3)] {
            assert!(got.abs_diff(expected + copies * block) < block / 100, "{got}: {expected}, {copies} of {block}");
        }
        assert_eq!(of(1, 3), of(1, 0));
    }

    #[test]
    fn ranks_of_one_machine_share_its_memory_but_no_gpu() {
        let budget = host(12 * GIB).beside(4);
        assert_eq!(budget.free(), 3 * GIB);
        assert_eq!(budget.to_string(), "3.0 GiB are free for each of 4 ranks of a machine");
        assert_eq!(host(12 * GIB).beside(1), host(12 * GIB));
        assert_eq!(gpu(12 * GIB, 24 * GIB).beside(4), gpu(12 * GIB, 24 * GIB));
    }

    #[test]
    fn packs_take_no_more_memory_than_the_rest() {
        let spec = spec();
        let budget = host(64 * GIB);
        let plain = max_tokens(&config(), &spec, budget).unwrap();
        assert_eq!(plain, MAX_TOKENS);
        let given = TrainConfig { max_tokens_per_pack: Some(77), ..config() };
        assert_eq!(max_tokens(&given, &spec, budget).unwrap(), 77);
        assert_eq!(max_tokens(&given, &spec, gpu(0, GIB)).unwrap(), 77);
        let batch = TrainConfig { per_device_train_batch_size: 64, ..config() };
        let estimate = MemoryPlan::new(&batch, &spec, budget, 512, 512).unwrap();
        assert_eq!(estimate.tokens, plain);
        // A row that is longer is a pack of its own.
        let long = TrainConfig { max_length: 20_000, ..config() };
        let long = MemoryPlan::new(&long, &spec, budget, 20_000, 10_000).unwrap();
        assert_eq!((long.tokens, long.completion_tokens), (20_000, 10_000));
    }

    #[test]
    fn packs_of_a_gpu_are_as_large_as_its_free_memory_has_room_for() {
        let spec = spec();
        let adapted = TrainConfig { use_peft: true, bf16: true, ..config() };
        let tokens = |config: &TrainConfig, free| max_tokens(config, &spec, gpu(free, 141 * GIB)).unwrap();
        assert_eq!(tokens(&adapted, 139 * GIB), MAX_TOKENS_ON_GPU);
        let steps: Vec<usize> = [6, 8, 12, 16, 24, 40, 80].map(|free| tokens(&adapted, free * GIB)).into();
        assert!(steps.is_sorted() && steps[0] < 4096 && steps[6] > 8192, "{steps:?}");
        assert!(steps.iter().all(|tokens| tokens.is_power_of_two()), "{steps:?}");
        // The estimate of such a pack fits, that of twice as many tokens does not.
        for free in [8 * GIB, 24 * GIB] {
            let total = |tokens| {
                let config = TrainConfig {
                    max_tokens_per_pack: Some(tokens),
                    per_device_train_batch_size: 64,
                    ..adapted.clone()
                };
                MemoryPlan::new(&config, &spec, gpu(free, 141 * GIB), 512, 512).unwrap().total() as f64
            };
            let (tokens, bytes) = (tokens(&adapted, free), GPU_SHARE * free as f64);
            assert!(total(tokens) <= bytes && total(2 * tokens) > bytes, "{free}: {tokens}");
        }
        let float32 = TrainConfig { bf16: false, ..adapted.clone() };
        assert!(tokens(&float32, 24 * GIB) < tokens(&adapted, 24 * GIB));
        let recomputed = TrainConfig { gradient_checkpointing: true, ..adapted.clone() };
        assert!(tokens(&recomputed, 12 * GIB) > tokens(&adapted, 12 * GIB));
    }
}
