//! Labels of a classifier where its configuration does not name them: those of the run that is resumed, of the model that
//! training starts from, or of the data.

use std::borrow::Cow;
use std::fs;

use smpo_data::Classes;
use smpo_losses::Loss;
use smpo_losses::loss::classification::{ClassificationConfig, ProblemType};
use smpo_model::{Config, Labels, labels_of_adapter};

use crate::config::TrainConfig;
use crate::error::TrainError;
use crate::run_dir::RunDir;

/// Labels that a message lists.
const LISTED: usize = 20;

/// The configuration with the labels of the run, where it trains a classifier.
///
/// # Errors
/// When no row has a label, or the configuration contradicts the model or the data.
pub(crate) fn resolved(config: &TrainConfig) -> Result<Cow<'_, TrainConfig>, TrainError> {
    let Loss::Classification(keys) = &config.loss.loss else { return Ok(Cow::Borrowed(config)) };
    let refuse = |message: String| TrainError::config(&config.output_dir.join("config.toml"), None, message);
    let of_start = of_start(config)?;
    if let Some(labels) = of_start.as_ref().filter(|labels| !keys.labels.is_empty() && labels.names != keys.labels) {
        return Err(refuse(format!(
            "`loss.labels` is {}, and the classifier that training starts from has {}: its head gives one value a label in \
             that order; leave `labels` out, or start from a language model",
            listed(&keys.labels),
            listed(&labels.names)
        )));
    }
    let found = match (keys.labels.is_empty(), earlier(config)) {
        (false, _) => Classes { names: keys.labels.clone(), several: keys.is_multiple() },
        (true, Some(earlier)) => Classes { several: earlier.is_multiple(), names: earlier.labels },
        (true, None) => match of_start {
            Some(Labels { names, multiple }) => Classes { names, several: multiple },
            None => of_data(config)?,
        },
    };
    if let Some(number) = keys.num_labels.filter(|number| *number != found.names.len()) {
        return Err(refuse(format!(
            "`loss.num_labels` is {number}: expected as many labels as there are, got {} of them, {}",
            found.names.len(),
            listed(&found.names)
        )));
    }
    let several = if found.several { ProblemType::MultiLabel } else { ProblemType::SingleLabel };
    let keys = ClassificationConfig {
        labels: found.names,
        problem_type: keys.problem_type.or(Some(several)),
        num_labels: keys.num_labels,
    };
    let mut config = config.clone();
    config.loss.loss = keys.into();
    config.loss.validate()?;
    Ok(Cow::Owned(config))
}

/// Labels of the classifier, or the adapter of one, that training starts from, if they have names.
fn of_start(config: &TrainConfig) -> Result<Option<Labels>, TrainError> {
    let labels = match &config.adapter_name_or_path {
        Some(adapter) => labels_of_adapter(adapter)?,
        // what is wrong with the directory is told where it is loaded
        None => Config::from_dir(&config.model_name_or_path).ok().and_then(|model| model.labels().cloned()),
    };
    Ok(labels.filter(Labels::has_names))
}

/// The configuration of the run that the directory holds.
fn earlier(config: &TrainConfig) -> Option<ClassificationConfig> {
    let path = RunDir::new(&config.output_dir).config();
    let text = fs::read_to_string(&path).ok()?;
    match TrainConfig::parse(&text, &path, &[]).ok()?.loss.loss {
        Loss::Classification(keys) => Some(keys).filter(|keys| !keys.labels.is_empty()),
        _ => None,
    }
}

/// Labels of all rows, those held out too.
fn of_data(config: &TrainConfig) -> Result<Classes, TrainError> {
    let files = [&config.dataset[..], &config.eval_dataset].concat();
    let found = Classes::of_files(&files, &config.dataset_columns).map_err(smpo_data::DatasetError::from)?;
    match found.names.is_empty() {
        false => Ok(found),
        true => {
            let file = files.first().cloned().unwrap_or_default();
            let expected = "rows with labels (`text` or `messages`, `label` or `labels`)";
            Err(TrainError::config(&file, None, format!("expected {expected}, got none")))
        }
    }
}

fn listed(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(LISTED).map(|name| format!("{name:?}")).collect();
    let more = if names.len() > LISTED { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}
