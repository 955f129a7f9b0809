//! `smpo model info`: the facts of a model directory.

use serde::Serialize;
use smpo_chat::Terminators;
use smpo_model::{AdapterInfo, ModelDir, ModelInfo, Packed, WeightDtype};
use smpo_tokenizer::ChatTokenizer;

use super::{InfoArgs, text};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Format};
use smpo_trainer::memory_plans::{self, NamedPlan};

/// Version of the JSON.
const SCHEMA: u32 = 1;

/// Facts of a model directory.
#[derive(Serialize)]
pub struct Facts {
    schema: u32,
    pub model: String,
    pub family: &'static str,
    pub architecture: &'static str,
    /// Class of the multimodal model whose text half this is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wrapper: Option<&'static str>,
    /// Number of parameters; a tied head counts once.
    pub parameters: usize,
    pub tied: bool,
    /// Routed experts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experts: Option<Experts>,
    /// Gated delta nets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta_nets: Option<DeltaNets>,
    pub layers: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub vocab_size: usize,
    /// Context length, in tokens.
    pub context: Option<usize>,
    /// Parameters stored in four bits.
    #[serde(skip_serializing_if = "is_zero")]
    pub four_bit: usize,
    /// Their format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub four_bit_format: Option<&'static str>,
    /// Dtypes of the other weights, the most frequent first.
    pub dtypes: Vec<&'static str>,
    pub stored_bytes: u64,
    pub shards: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<Adapter>,
    #[serde(flatten)]
    pub chat: Chat,
    pub memory: Vec<NamedPlan>,
}

/// Routed experts of a model.
#[derive(Serialize)]
pub struct Experts {
    /// Blocks that have them.
    pub layers: usize,
    /// Experts of a block.
    pub count: usize,
    /// Experts that a token passes through.
    pub per_token: usize,
    /// Width of an expert.
    pub intermediate_size: usize,
    /// Parameters that a token passes through.
    pub active_parameters: usize,
}

/// Gated delta nets of a model, in the place of attention.
#[derive(Serialize)]
pub struct DeltaNets {
    /// Blocks that have one.
    pub layers: usize,
    pub key_heads: usize,
    pub value_heads: usize,
    pub key_dim: usize,
    pub value_dim: usize,
}

/// A PEFT adapter on the model.
#[derive(Serialize)]
pub struct Adapter {
    pub base: String,
    pub parameters: usize,
    pub r: usize,
    pub alpha: f64,
    pub dropout: f64,
    pub use_rslora: bool,
    pub use_dora: bool,
    /// Adapted layers.
    pub modules: Vec<String>,
}

/// Tokenizer and chat template; or the error, which does not keep the weights from being trained.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Chat {
    Usable {
        terminators: Terminators,
        bos: Option<String>,
        pad: Option<String>,
        template: String,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<String>,
    },
    Unusable {
        chat_error: String,
    },
}

/// Runs the command.
pub fn run(args: InfoArgs) -> Outcome {
    if args.tokens == 0 {
        return Err(Failure::user("--tokens: expected at least 1, got 0"));
    }
    if args.ranks == 0 {
        return Err(Failure::user("--ranks: expected at least 1, got 0"));
    }
    let dir = ModelDir::open(&args.model, args.base.as_deref())?;
    let info = ModelInfo::read(dir.weights())?;
    let adapter = dir.adapter().map(AdapterInfo::read).transpose()?;
    ModelInfo::check_values(dir.weights())?;
    dir.adapter().map(AdapterInfo::check_values).transpose()?;
    let memory = match &args.config {
        Some(path) => vec![memory_plans::configured(&info.spec, path, args.ranks)?],
        None => {
            let adapter = adapter.as_ref().map(|adapter| &adapter.config);
            memory_plans::usual(&info, adapter, args.tokens, args.ranks)?
        }
    };
    let spec = &info.spec;
    let facts = Facts {
        schema: SCHEMA,
        model: args.model.display().to_string(),
        family: info.family.model_type(),
        architecture: info.architecture(),
        wrapper: info.wrapper,
        parameters: info.parameters,
        tied: spec.tied,
        experts: experts(&info),
        delta_nets: delta_nets(&info),
        layers: spec.layers.len(),
        hidden_size: spec.hidden_size,
        intermediate_size: spec.intermediate_size,
        heads: spec.heads,
        kv_heads: spec.kv_heads,
        head_dim: spec.head_dim,
        vocab_size: spec.vocab_size,
        context: info.context,
        four_bit: info.four_bit,
        four_bit_format: match info.matrices.packed {
            _ if info.four_bit == 0 => None,
            Packed::Mxfp4 => Some("MXFP4"),
            _ => Some("bitsandbytes"),
        },
        dtypes: match info.ggml_types.is_empty() {
            true => info.dtypes.iter().map(|dtype| WeightDtype::name(*dtype)).collect(),
            false => info.ggml_types.clone(),
        },
        stored_bytes: info.stored_bytes,
        shards: info.shards,
        adapter: adapter.map(|adapter| Adapter {
            base: dir.weights().display().to_string(),
            parameters: adapter.parameters,
            r: adapter.config.r,
            alpha: adapter.config.alpha,
            dropout: adapter.config.dropout,
            use_rslora: adapter.config.rslora,
            use_dora: adapter.config.dora,
            modules: adapter.config.targets,
        }),
        chat: chat(&dir),
        memory,
    };
    match args.format {
        Format::Json => output::print_json(&facts)?,
        Format::Text => output::print(&text::page(&facts))?,
    }
    Ok(Exit::Success)
}

fn experts(info: &ModelInfo) -> Option<Experts> {
    let spec = &info.spec;
    let experts = spec.experts.as_ref()?;
    Some(Experts {
        layers: spec.layers.iter().filter(|layer| layer.routed).count(),
        count: experts.count,
        per_token: experts.per_token,
        intermediate_size: experts.intermediate_size,
        active_parameters: info.parameters - spec.idle_parameters(),
    })
}

fn delta_nets(info: &ModelInfo) -> Option<DeltaNets> {
    let heads = info.spec.delta.as_ref()?.heads;
    Some(DeltaNets {
        layers: info.spec.layers.iter().filter(|layer| layer.delta).count(),
        key_heads: heads.key_heads,
        value_heads: heads.value_heads,
        key_dim: heads.key_dim,
        value_dim: heads.value_dim,
    })
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

fn chat(dir: &ModelDir) -> Chat {
    match ChatTokenizer::of_model(dir.tokenizer(), dir.adapter()) {
        Ok(tokenizer) => {
            let token = |id: Option<u32>| id.and_then(|id| tokenizer.tokenizer().id_to_token(id));
            Chat::Usable {
                warnings: tokenizer.terminators().ordinary().iter().map(ToString::to_string).collect(),
                terminators: tokenizer.terminators().clone(),
                bos: token(tokenizer.bos()),
                pad: token(tokenizer.pad()),
                template: tokenizer.template().origin().to_string(),
            }
        }
        Err(error) => Chat::Unusable { chat_error: error.to_string() },
    }
}
