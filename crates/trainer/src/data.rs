//! The rows of a run, as its configuration describes them.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use smpo_data::{
    Classes, Dataset, FileProgress, Preparation, Reading, RowKind, TokenCache, TokenizedFiles, Truncation,
};
use smpo_losses::{Loss, Pairing};
use smpo_tokenizer::ChatTokenizer;

use crate::config::TrainConfig;
use crate::error::TrainError;
use crate::event::Event;
use crate::run_dir::RunDir;

/// The data set of a configuration. `bos` is the tokenizer's BOS id, which truncation keeps.
pub fn dataset(config: &TrainConfig, bos: Option<u32>) -> Dataset {
    let kind = kind(&config.loss.loss);
    let labels = config.labels().filter(|_| kind == RowKind::Classified);
    Dataset {
        kind,
        files: config.dataset.clone(),
        ratios: config.dataset_ratio.clone(),
        test_size: config.test_size,
        classes: labels
            .map_or_else(Classes::default, |labels| Classes { names: labels.names, several: labels.multiple }),
        eval_files: config.eval_dataset.clone(),
        sample: config.dataset_sample,
        seed: config.seed,
        columns: config.dataset_columns.clone(),
        preparation: preparation(config),
        on_bad_rows: config.on_bad_rows,
        truncation: Truncation {
            max_length: Some(config.max_length),
            max_prompt_length: Some(config.max_prompt_length.unwrap_or(config.max_length / 2)),
            keep: config.truncation_mode,
            bos,
            unfinished: config.unfinished,
        },
    }
}

/// Reading and changes of a configuration's rows; the probe's prompts have its system message too.
pub(crate) fn preparation(config: &TrainConfig) -> Preparation {
    Preparation {
        reading: if kind(&config.loss.loss) == RowKind::Classified { Reading::Labels } else { Reading::Answers },
        train_on: config.train_on,
        system_prompt: config.system_prompt.clone(),
        system_role: config.model_support_system_role,
    }
}

/// Kind of rows that a loss is computed on.
fn kind(loss: &Loss) -> RowKind {
    match loss.pairing() {
        Pairing::SftOnly => RowKind::Examples,
        Pairing::Unpaired(_) => RowKind::Labelled,
        Pairing::Pooled(loss) if loss.takes_several_labels().is_some() => RowKind::Classified,
        Pairing::Pairwise(_) | Pairing::Pooled(_) => RowKind::Pairs,
        Pairing::Groupwise(_) => RowKind::Groups,
    }
}

/// Reads the files of a configuration's data set: from the token cache, or parsed, checked and tokenised. `None` when
/// interrupted.
///
/// # Errors
/// When a file cannot be opened; without `check`, also at the first bad row, unless they may be dropped.
pub(crate) fn tokenize<'a>(
    dataset: &'a Dataset,
    config: &TrainConfig,
    tokenizer: &'a ChatTokenizer,
    check: bool,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(Event<'_>),
) -> Result<Option<TokenizedFiles<'a>>, TrainError> {
    let dir = config.token_cache.clone().unwrap_or_else(|| RunDir::new(&config.output_dir).tokens());
    let mut on_progress = |progress: FileProgress<'_>| {
        watch(Event::Reading(progress));
        if stop.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let files = dataset.tokenize(tokenizer, &TokenCache::new(dir), check, &mut on_progress)?;
    if let Some(files) = &files
        && check
    {
        watch(Event::Checked(&files.reports));
    }
    Ok(files)
}
