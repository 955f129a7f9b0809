//! Adapters on disk as PEFT writes them: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use serde_json::{Map, Value, json};

use super::beside::{ReadBeside, StoredBeside};
use super::biases::TrainedBiases;
use super::fingerprint::BaseFingerprints;
use super::fuse::FusedAdapter;
use super::named::NamedTargets;
use super::patterns::NamePatterns;
use super::stored::AdapterFile;
use super::{Adapter, AdapterOptions, AdapterValues, LoraConfig, Start};
use crate::decoder::Decoder;
use crate::error::{ModelError, Result, list};
use crate::fields::Fields;
use crate::json_file;
use crate::layout::{EXPERTS, HEAD};
use crate::parameter::Parameter;
use crate::placement::host_values;
use crate::save::{copy_tokenizer_files, write_directory, write_json};
use crate::spec::ExpertLayout;
use crate::weights::{StoredTensor, WeightDtype, write_tensors};

/// PEFT's prefix of the base model's names.
pub(crate) const PREFIX: &str = "base_model.model.";
pub(crate) const CONFIG: &str = "adapter_config.json";
/// `task_type` of an adapter whose model has a head of labels.
pub(crate) const SEQUENCES: &str = "SEQ_CLS";
pub(crate) const WEIGHTS: &str = "adapter_model.safetensors";
/// Name of the weights without their ending.
pub(super) const STEM: &str = "adapter_model";

/// Options of saving an adapter.
#[derive(Debug, Clone, Default)]
pub struct AdapterSaveOptions {
    /// Base model, as the adapter's configuration names it.
    pub base_model: String,
    /// Model directory of the tokenizer and chat template to copy.
    pub source: Option<PathBuf>,
    /// dtype of the weights.
    pub dtype: WeightDtype,
}

impl Decoder {
    /// Writes the adapters and what is trained beside them to `dir`, which must be absent or empty, as PEFT does, with the
    /// fingerprints of their base.
    ///
    /// # Errors
    /// When the model has no adapters or trains weights under them, `dir` holds something, or a file cannot be written.
    pub fn save_adapter(&self, dir: impl AsRef<Path>, options: &AdapterSaveOptions) -> Result<()> {
        let Some(config) = self.lora() else {
            return Err(ModelError::input("model to save as an adapter", "one with adapters", "one without"));
        };
        let adapted = self.linears().into_iter().filter(|linear| linear.adapter.is_some());
        let both: Vec<&str> = adapted
            .map(|linear| &linear.weight)
            .filter(|weight| weight.is_trained())
            .map(|weight| weight.name())
            .collect();
        if !both.is_empty() {
            return Err(ModelError::input(
                "model to save as an adapter",
                "frozen weights under the adapters; merge them and save the whole model",
                format!("trainable ones: {}", list(&both)),
            ));
        }
        write_directory(dir.as_ref(), |staging| {
            let (mut tensors, mut bases) = (Vec::new(), BaseFingerprints::default());
            let fused = self.fused_adapters()?;
            for linear in self.linears() {
                let Some(adapter) = &linear.adapter else { continue };
                // What is left of a base after an adapter's start is none to be known by.
                if adapter.start.is_none() {
                    self.fetch_of(&linear.module)?;
                    bases.add(&linear.module, &linear.weight)?;
                }
                if fused.iter().any(|one| one.modules.contains(&linear.module)) {
                    continue;
                }
                for part in adapter.parameters() {
                    let stored = StoredTensor::new(&part.tensor, options.dtype)?;
                    tensors.push((self.stored_name(&part.name), stored));
                }
            }
            for (name, tensor) in fused.iter().flat_map(|one| &one.tensors) {
                tensors.push((self.stored_name(name), StoredTensor::new(tensor, options.dtype)?));
            }
            tensors.extend(self.beside_tensors(options.dtype)?);
            write_tensors(&staging.join(WEIGHTS), tensors)?;
            bases.write(staging)?;
            self.write_labels(staging)?;
            write_json(&staging.join(CONFIG), &self.adapter_config(config, &fused, &options.base_model))?;
            match &options.source {
                Some(source) => copy_tokenizer_files(source, staging),
                None => Ok(()),
            }
        })
    }

    fn adapter_config(&self, config: &LoraConfig, fused: &[FusedAdapter], base_model: &str) -> Value {
        let (modules_to_save, trainable_token_indices) = self.beside_config();
        let single = |module: &String| !fused.iter().any(|one| one.modules.contains(module));
        let linears = self.linears();
        let adapters = || {
            let linears = linears.iter().filter(|linear| single(&linear.module));
            linears.filter_map(|linear| Some((&linear.module, linear.adapter.as_ref()?)))
        };
        let mut ranks: BTreeMap<String, usize> = adapters()
            .map(|(module, a)| (self.stored_module(module), a.rank()))
            .filter(|(_, r)| *r != config.r)
            .collect();
        let mut alphas: BTreeMap<String, Value> = adapters()
            .filter(|(_, a)| a.alpha != config.alpha)
            .map(|(module, a)| (self.stored_module(module), alpha_in_json(a.alpha)))
            .collect();
        for one in fused {
            let alpha = config.alpha_of(one.scale, one.rank);
            if (one.rank, alpha) != (config.r, config.alpha) {
                ranks.insert(one.parameter.clone(), one.rank);
                alphas.insert(one.parameter.clone(), alpha_in_json(alpha));
            }
        }
        let start = adapters().find_map(|(_, a)| a.start);
        let parameters = self.adapted_parameters(fused);
        // PEFT has no dropout for parameters.
        let dropout = if parameters.is_empty() { config.dropout } else { 0.0 };
        json!({
            "peft_type": "LORA",
            "task_type": if self.spec().labels.is_some() { SEQUENCES } else { "CAUSAL_LM" },
            "base_model_name_or_path": base_model,
            "inference_mode": true,
            "r": config.r,
            "lora_alpha": alpha_in_json(config.alpha),
            "lora_dropout": dropout,
            "use_rslora": config.rslora,
            "use_dora": config.dora,
            "target_modules": self.adapted_modules(&|module| single(module) && !self.is_parameter(module)),
            "target_parameters": (!parameters.is_empty()).then_some(parameters),
            "bias": self.trained_biases(),
            "fan_in_fan_out": false,
            "init_lora_weights": start.map_or(json!(true), |start| json!(start.name())),
            "modules_to_save": modules_to_save,
            "trainable_token_indices": trainable_token_indices,
            "layers_to_transform": null,
            "layers_pattern": null,
            "rank_pattern": ranks,
            "alpha_pattern": alphas
        })
    }

    /// The shortest names that match exactly the adapted layers: `q_proj` if all of that name are adapted. In a multimodal
    /// model the other half may have layers of that name: the whole names then.
    /// `wanted` tells of an adapted layer whether it is one of them.
    fn adapted_modules(&self, wanted: &dyn Fn(&String) -> bool) -> BTreeSet<String> {
        fn end(module: &str) -> &str {
            module.rsplit('.').next().unwrap_or(module)
        }
        let linears = self.linears();
        let partly: BTreeSet<&str> = linears.iter().filter(|l| l.adapter.is_none()).map(|l| end(&l.module)).collect();
        let whole = |module: &str| self.wrapped.is_some() || partly.contains(end(module));
        linears
            .iter()
            .filter(|l| l.adapter.is_some() && wanted(&l.module))
            .map(|l| if whole(&l.module) { self.stored_module(&l.module) } else { end(&l.module).to_string() })
            .collect()
    }

    /// True for a router that is no linear layer in transformers: PEFT adapts its weight as a parameter.
    fn is_parameter(&self, module: &str) -> bool {
        let experts = self.spec().experts.as_ref();
        experts.is_some_and(|of| of.layout == ExpertLayout::Stacked && module.ends_with(of.layout.router()))
    }

    /// True for a layer that has a module of its own in every release of transformers: experts and routers do not.
    fn is_linear_in_peft(&self, module: &str) -> bool {
        let experts = self.spec().experts.as_ref();
        !module.contains(EXPERTS) && experts.is_none_or(|of| !module.ends_with(of.layout.router()))
    }

    /// Adapted parameters of modules that are no linear layers in transformers.
    fn adapted_parameters(&self, fused: &[FusedAdapter]) -> BTreeSet<String> {
        let linears = self.linears();
        let adapted = linears.iter().filter(|linear| linear.adapter.is_some() && self.is_parameter(&linear.module));
        let routers = adapted.map(|linear| linear.weight.name().to_owned());
        routers.chain(fused.iter().map(|one| one.parameter.clone())).collect()
    }

    /// Freezes the model and adds a PEFT adapter, which can be trained further.
    ///
    /// # Errors
    /// When a file is missing or damaged, the adapter's type or a feature of it is not supported, or
    /// its tensors do not fit this model.
    pub fn load_adapter(&mut self, dir: impl AsRef<Path>) -> Result<()> {
        let dir = dir.as_ref();
        self.refuse_second_adapter()?;
        let stored = read_config(&dir.join(CONFIG))?;
        self.check_head_of(dir)?;
        let file = AdapterFile::open(dir, self.spec())?;
        let (adapters, beside) = self.read_adapters(&stored, &file, &BaseFingerprints::read(dir)?)?;
        let mut config = stored.lora;
        let linears = self.linears();
        config.targets = adapters.iter().map(|(index, _)| linears[*index].module.clone()).collect();
        self.set_trainable(|_| false)?;
        let mut linears = self.linears_mut();
        for (index, ReadAdapter { adapter, rest }) in adapters {
            if let Some(rest) = rest {
                let name = linears[index].weight.name().to_owned();
                linears[index].weight = Parameter { name, tensor: rest }.into();
            }
            linears[index].adapter = Some(adapter);
        }
        self.lora = Some(config);
        self.put_beside(beside)?;
        self.train_biases(stored.biases)
    }

    /// The adapters in the file, each with the index of its linear layer, and the weights beside them; any other tensor is
    /// refused.
    fn read_adapters(
        &self,
        stored: &StoredConfig,
        file: &AdapterFile,
        bases: &BaseFingerprints,
    ) -> Result<(Vec<(usize, ReadAdapter)>, ReadBeside)> {
        if stored.start.is_some() {
            self.expect_whole("base of adapters that start as a part of it")?;
        }
        let mut unread: BTreeSet<String> = file.names().collect();
        let mut adapters = Vec::new();
        let (linears, placement) = (self.linears(), self.placement());
        for (index, linear) in linears.iter().enumerate() {
            let [a, b, magnitude] = Adapter::names(&linear.module).map(|name| format!("{PREFIX}{name}"));
            // PEFT keeps a copy of the head's own weight beside its adapter; it must be this model's.
            let (outputs, inputs) = linear.weight.shape()?;
            let base = format!("{PREFIX}{}.base_layer.weight", linear.module);
            if [&a, &base].into_iter().any(|name| unread.contains(name)) {
                self.fetch_of(&linear.module)?;
            }
            let copy_differs = unread.remove(&base)
                && file.read(&base, &[outputs, inputs])? != host_values(&*linear.weight.dense(&placement)?)?;
            let parts = [&a, &b].map(|name| unread.remove(name));
            if parts == [false, false] {
                continue;
            }
            let named = file.fused_parameter(&linear.module).unwrap_or(&linear.module);
            let config = stored.of_layer(&self.stored_module(named))?;
            let Some((config, [a, b])) = file.adapter(&linear.module, config, [outputs, inputs])? else { continue };
            let config = &config;
            if copy_differs || bases.contradict(&linear.module, &linear.weight)? {
                let tensor = linear.weight.name().to_owned();
                return Err(ModelError::OtherBase { path: file.path().to_path_buf(), tensor });
            }
            let magnitude = match config.dora {
                true => {
                    unread.remove(&magnitude);
                    Some(file.read(&magnitude, &[outputs])?)
                }
                false => None,
            };
            let options = AdapterOptions { config, placement: &placement, stream: index as u64 };
            let values = AdapterValues { a, b, magnitude };
            let mut adapter = Adapter::from_values(&linear.module, &linear.weight, options, values)?;
            adapter.start = stored.start;
            if stored.start.is_some() && linear.module == HEAD && self.head_is_tied() {
                let got = "one of a head that is the embedding";
                return Err(ModelError::input("adapter whose start is taken out of the base", "one of layers", got));
            }
            let rest = match stored.start {
                Some(start) => {
                    let base = host_values(&*linear.weight.dense(&placement)?)?;
                    let rest = start.rest(&base, inputs, config.r, config.scale());
                    Some(placement.variable(rest, &[outputs, inputs])?.into_inner().detach())
                }
                None => None,
            };
            adapters.push((index, ReadAdapter { adapter, rest }));
        }
        let beside = self.read_beside(&stored.beside, file, &mut unread)?;
        if !unread.is_empty() {
            let names: Vec<&String> = unread.iter().collect();
            return Err(ModelError::ExtraTensors { path: file.path().to_path_buf(), names: list(&names) });
        }
        if adapters.is_empty() {
            return Err(ModelError::missing(file.path().to_path_buf(), "any adapter"));
        }
        let adapted: BTreeSet<usize> = adapters.iter().map(|(index, _)| *index).collect();
        let bare = linears.iter().enumerate().filter(|(index, _)| !adapted.contains(index));
        let bare = bare.map(|(_, linear)| &linear.module).filter(|module| self.is_linear_in_peft(module));
        let is_whole = |module: &&String| stored.beside.modules.iter().any(|whole| module.ends_with(whole.as_str()));
        let bare: Vec<String> =
            bare.filter(|module| !is_whole(module)).map(|module| self.stored_module(module)).collect();
        stored.targets.check(file.path(), &bare)?;
        Ok((adapters, beside))
    }
}

/// Fields that do not affect the computation, or that the tensors' names imply.
const IGNORED: [&str; 15] = [
    "task_type",
    "base_model_name_or_path",
    "inference_mode",
    "auto_mapping",
    "revision",
    "peft_version",
    "target_modules",
    "target_parameters",
    "exclude_modules",
    "save_embedding_layers",
    "layers_to_transform",
    "layers_pattern",
    "runtime_config",
    "megatron_core",
    "qalora_group_size",
];

/// Fields that are read.
const READ: [&str; 13] = [
    "peft_type",
    "r",
    "lora_alpha",
    "rank_pattern",
    "alpha_pattern",
    "lora_dropout",
    "use_rslora",
    "use_dora",
    "bias",
    "init_lora_weights",
    "modules_to_save",
    "trainable_token_indices",
    "ensure_weight_tying",
];

/// An adapter in a file.
struct ReadAdapter {
    adapter: Adapter,
    /// The weight without the part that the adapter began as.
    rest: Option<Tensor>,
}

/// An adapter's configuration.
pub(super) struct StoredConfig {
    pub lora: LoraConfig,
    /// `rank_pattern`.
    ranks: NamePatterns<usize>,
    /// `alpha_pattern`.
    alphas: NamePatterns<f64>,
    start: Option<Start>,
    biases: TrainedBiases,
    beside: StoredBeside,
    targets: NamedTargets,
}

impl StoredConfig {
    /// The configuration of one layer's adapter.
    fn of_layer(&self, module: &str) -> Result<LoraConfig> {
        let (r, alpha) = (self.ranks.of(module), self.alphas.of(module));
        let config = self.lora.of_layer(r.unwrap_or(self.lora.r), alpha.unwrap_or(self.lora.alpha));
        config.check()?;
        Ok(config)
    }
}

/// PEFT and vLLM read an integer; an integral value is written as one.
fn alpha_in_json(alpha: f64) -> Value {
    if alpha.fract() == 0.0 { json!(alpha as i64) } else { json!(alpha) }
}

pub(super) fn read_config(path: &Path) -> Result<StoredConfig> {
    let object: Map<String, Value> = json_file::read(path)?;
    let fields = Fields::new(path, &object);
    match fields.str("peft_type")? {
        Some("LORA") => {}
        other => return Err(fields.unsupported(format!("adapter type `{}`", other.unwrap_or("none")))),
    }
    // Disabled features are null, false or empty; any other value of a field not read here would change the result.
    for (name, value) in &object {
        let off = match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(items) => items.is_empty(),
            _ => false,
        };
        if !off && !IGNORED.contains(&name.as_str()) && !READ.contains(&name.as_str()) {
            return Err(
                fields.unsupported(format!("adapter option `{name}`{}", smpo_suggest::did_you_mean(name, READ)))
            );
        }
    }
    let biases = TrainedBiases::read(&fields)?;
    let start = read_start(&fields)?;
    // PEFT computes with both as they are: null is no number there, and no default.
    for name in ["lora_alpha", "lora_dropout"] {
        if fields.is_written(name) && fields.get(name).is_none() {
            return Err(fields.error(name, "a number", "null".to_owned()));
        }
    }
    let lora = LoraConfig {
        r: fields.required_size("r")?,
        alpha: fields.positive("lora_alpha")?.unwrap_or(8.0),
        dropout: fields.number("lora_dropout")?.unwrap_or(0.0),
        rslora: fields.bool("use_rslora")?.unwrap_or(false),
        dora: fields.bool("use_dora")?.unwrap_or(false),
        targets: Vec::new(),
        ..LoraConfig::default()
    };
    lora.check()?;
    if start.is_some() && lora.dora {
        return Err(fields.unsupported("`use_dora` beside `init_lora_weights` that change the base".to_owned()));
    }
    let rank = |value: &Value| value.as_u64().and_then(|r| usize::try_from(r).ok()).filter(|r| *r > 0);
    let ranks = NamePatterns::read(&fields, "rank_pattern", "a rank of at least 1", rank)?;
    let alpha = |value: &Value| value.as_f64().filter(|alpha| *alpha > 0.0 && alpha.is_finite());
    let alphas = NamePatterns::read(&fields, "alpha_pattern", "a number above zero", alpha)?;
    // Of a model with a head of labels PEFT names the heads of all architectures.
    let of_others =
        |name: &&str| fields.get("task_type").and_then(Value::as_str) == Some(SEQUENCES) && *name == "classifier";
    let modules = fields.strings("modules_to_save")?.unwrap_or_default();
    let beside = StoredBeside {
        modules: modules.into_iter().filter(|name| !of_others(name)).map(str::to_owned).collect(),
        tokens: stored_tokens(&fields)?,
        tied: fields.bool("ensure_weight_tying")?.unwrap_or(false),
    };
    Ok(StoredConfig { lora, ranks, alphas, start, biases, beside, targets: NamedTargets::read(&fields) })
}

/// `init_lora_weights`: how the adapter began. Only a start that takes a part out of the base matters to what it computes.
fn read_start(fields: &Fields) -> Result<Option<Start>> {
    let Some(Value::String(method)) = fields.get("init_lora_weights") else { return Ok(None) };
    let start = Start::ALL.into_iter().find(|start| start.name() == method);
    // The others change the base too, by data outside the adapter.
    if start.is_none() && !["gaussian", "orthogonal", "eva"].contains(&method.as_str()) {
        return Err(fields.unsupported(format!("an adapter whose base was changed (`init_lora_weights` = `{method}`)")));
    }
    Ok(start)
}

/// `trainable_token_indices`: a list of the embedding's rows, or lists by module.
fn stored_tokens(fields: &Fields) -> Result<BTreeMap<String, Vec<u32>>> {
    const FIELD: &str = "trainable_token_indices";
    let Some(value) = fields.get(FIELD) else { return Ok(BTreeMap::new()) };
    let by_module = match value {
        Value::Object(_) => serde_json::from_value(value.clone()),
        list => serde_json::from_value(list.clone()).map(|ids| BTreeMap::from([("embed_tokens".to_owned(), ids)])),
    };
    by_module.map_err(|_| fields.wrong(FIELD, "a list of token ids, or lists by module", value))
}
