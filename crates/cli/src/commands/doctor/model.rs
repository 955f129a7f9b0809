//! A model: its weights, template and terminators, the memory to train it, its speed.

use std::path::Path;

use smpo_devices::{Choice, format_bytes};
use smpo_model::{ModelDir, ModelInfo, WeightDtype};
use smpo_report::inert::short_line;
use smpo_report::wording::thousands;
use smpo_tokenizer::ChatTokenizer;
use smpo_trainer::{MemoryBudget, memory_plans};

use super::{Check, ModelReport, speed};
use crate::progress::Progress;

/// Tokens of the packs that memory is estimated for.
const TOKENS: usize = 2048;

/// Maximum characters of a token or a template's name.
const WIDEST: usize = 60;

/// Checks a model; `flops` is the speed of training steps.
pub fn report(path: &Path, flops: Option<f64>, measure: bool, progress: &Progress) -> ModelReport {
    let mut report = ModelReport { path: path.display().to_string(), checks: Vec::new(), speed: None };
    let opened = ModelDir::open(path, None).and_then(|dir| ModelInfo::read(dir.weights()).map(|info| (dir, info)));
    let (dir, info) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            report.checks.push(Check::error("weights", error));
            return report;
        }
    };
    report.checks.push(weights(&info));
    let tokenizer = ChatTokenizer::of_model(dir.tokenizer(), dir.adapter());
    report.checks.extend(chat(&tokenizer));
    report.checks.extend(tokenizer.iter().flat_map(|tokenizer| beyond_embedding(tokenizer, info.spec.vocab_size)));
    report.checks.push(training(&info));
    if measure {
        let generated = match &tokenizer {
            Ok(tokenizer) if info.spec.labels.is_none() => speed::generation(&dir, &info, tokenizer, progress),
            _ => Ok(None),
        };
        let tokens_per_s = match generated {
            Ok(speed) => speed,
            Err(error) => {
                report.checks.push(Check::error("generation", error));
                None
            }
        };
        report.speed = Some(speed::ModelSpeed::new(&info, flops, tokens_per_s));
    }
    report
}

fn weights(info: &ModelInfo) -> Check {
    let dtypes: Vec<&str> = match info.ggml_types.is_empty() {
        true => info.dtypes.iter().map(|dtype| WeightDtype::name(*dtype)).collect(),
        false => info.ggml_types.clone(),
    };
    let context = info.context.map_or_else(|| "unknown".to_owned(), thousands);
    Check::ok(
        "weights",
        format!(
            "{}, {} parameters, {}, {}, context {context} tokens",
            info.family.model_type(),
            thousands(info.parameters),
            smpo_suggest::list(&dtypes),
            format_bytes(info.stored_bytes)
        ),
    )
}

fn chat(tokenizer: &Result<ChatTokenizer, smpo_tokenizer::TokenizerError>) -> Vec<Check> {
    let tokenizer = match tokenizer {
        Ok(tokenizer) => tokenizer,
        Err(error) => return vec![Check::error("template", error)],
    };
    let terminators = tokenizer.terminators();
    let token = |id: Option<u32>, token: Option<&str>| {
        let id = id.map_or_else(|| "?".to_owned(), |id| id.to_string());
        format!("'{}' ({id})", short_line(token.unwrap_or("?"), WIDEST))
    };
    let ends: Vec<String> = terminators.entries().iter().map(|end| token(end.id, end.token.as_deref())).collect();
    let mut checks = vec![
        Check::ok("template", short_line(tokenizer.template().origin(), WIDEST)),
        Check::ok("terminators", ends.join(", ")),
    ];
    let ordinary = terminators.ordinary().iter().map(|end| {
        Check::warning(
            "terminators",
            end.to_string(),
            "train and evaluate with a template that ends turns by a special token",
        )
    });
    checks.extend(ordinary);
    checks
}

/// Tokens that the embedding has no row for: of terminators an error, of others a warning.
fn beyond_embedding(tokenizer: &ChatTokenizer, rows: usize) -> Vec<Check> {
    let mut checks = Vec::new();
    for end in tokenizer.terminators().entries() {
        if let Some(id) = end.id.filter(|id| *id as usize >= rows) {
            let token = short_line(end.token.as_deref().unwrap_or("?"), WIDEST);
            checks.push(Check::error("terminators", format!("'{token}' is {id}, and the embedding has {rows} rows")));
        }
    }
    let tokens = tokenizer.tokenizer().get_vocab_size(true);
    if checks.is_empty() && tokens > rows {
        let found = format!("{tokens} tokens, and the embedding has {rows} rows");
        checks.push(Check::warning(
            "tokenizer",
            found,
            "texts with the tokens beyond are refused: is it this model's tokenizer?",
        ));
    }
    checks
}

/// The ways to train that fit into free memory.
fn training(info: &ModelInfo) -> Check {
    let plans = match memory_plans::usual(info, None, TOKENS, 1) {
        Ok(plans) => plans,
        Err(error) => return Check::error("memory to train", error),
    };
    let free = Choice::Auto.open().map_or_else(|_| MemoryBudget::host(), |device| MemoryBudget::of(&device)).free();
    let checkpointed = || plans.iter().filter(|plan| plan.gradient_checkpointing);
    let list = |fits: bool| {
        let listed = checkpointed().filter(|plan| (plan.total_bytes <= free) == fits);
        let listed: Vec<String> =
            listed.map(|plan| format!("{} {}", plan.training, format_bytes(plan.total_bytes))).collect();
        listed.join(", ")
    };
    let (fits, too_much) = (list(true), list(false));
    match (fits.is_empty(), too_much.is_empty()) {
        (false, true) => Check::ok("memory to train", format!("fits: {fits}")),
        (false, false) => Check::ok("memory to train", format!("fits: {fits}; does not: {too_much}")),
        (true, _) => Check::warning(
            "memory to train",
            format!("nothing fits into {}: {too_much}", format_bytes(free)),
            "take a smaller model, or shorter packs (`smpo model info MODEL --tokens 512`)",
        ),
    }
}
