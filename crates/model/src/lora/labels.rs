//! Labels of an adapter's model, in a file beside PEFT's two: PEFT keeps the head of labels, but not their names. Other
//! programs ignore the file.

use std::path::Path;

use serde_json::{Map, Value};

use super::peft::{CONFIG, PREFIX, SEQUENCES};
use super::stored::AdapterFile;
use crate::decoder::Decoder;
use crate::error::{ModelError, Result, list};
use crate::fields::Fields;
use crate::json_file;
use crate::labels::Labels;
use crate::layout::SCORE;
use crate::save::write_json;

/// Name of the file.
pub(crate) const LABELS_FILE: &str = "smpo_labels.json";

const PAD: &str = "pad_token_id";

impl Decoder {
    /// Writes the labels of the head beside an adapter, if it has such a head.
    pub(super) fn write_labels(&self, dir: &Path) -> Result<()> {
        let Some(labels) = self.config().labels() else { return Ok(()) };
        let mut fields = Map::new();
        labels.write(&mut fields);
        if let Some(pad) = self.config().pad_token() {
            fields.insert(PAD.into(), pad.into());
        }
        write_json(&dir.join(LABELS_FILE), &Value::Object(fields))
    }

    /// Refuses an adapter whose head of labels this model lacks.
    pub(super) fn check_head_of(&self, adapter: &Path) -> Result<()> {
        if self.spec().labels.is_none() && is_of_sequences(adapter)? {
            let got =
                format!("one of a reward model or classifier (`task_type` is {SEQUENCES}): {}", adapter.display());
            return Err(ModelError::input("adapter", "one of a language model", got));
        }
        Ok(())
    }

    /// Gives a base the head of labels that its adapter was trained with, if the adapter is one of such a model.
    pub(crate) fn label_as_adapter(&mut self, adapter: &Path) -> Result<()> {
        if !is_of_sequences(adapter)? {
            return Ok(());
        }
        let path = adapter.join(LABELS_FILE);
        if let Some(labels) = labels_of_adapter(adapter)? {
            self.label_sequences(&labels, 0)?;
            let pad = json_file::read::<Map<String, Value>>(&path)?.get(PAD).and_then(Value::as_u64);
            if let Some(pad) = pad.and_then(|id| u32::try_from(id).ok()) {
                self.set_pad_token(pad);
            }
            return Ok(());
        }
        let file = AdapterFile::open(adapter, self.spec())?;
        let head = format!("{PREFIX}{SCORE}.weight");
        if !file.names().any(|name| name == head) {
            return Err(ModelError::missing(file.path().to_path_buf(), list(&[head])));
        }
        let count = file.describe(&head)?.0.first().copied().unwrap_or_default();
        self.label_sequences(&Labels::numbered(count, false), 0)
    }
}

/// Labels of the head that an adapter was trained with, where a file beside it says so.
///
/// # Errors
/// When the file is unreadable.
pub fn labels_of_adapter(adapter: &Path) -> Result<Option<Labels>> {
    let path = adapter.join(LABELS_FILE);
    if !smpo_files::is_file(&path)? {
        return Ok(None);
    }
    let object: Map<String, Value> = json_file::read(&path)?;
    Labels::read(&Fields::new(&path, &object)).map(Some)
}

/// True for an adapter of a model with a head of labels.
fn is_of_sequences(adapter: &Path) -> Result<bool> {
    let fields: Map<String, Value> = json_file::read(&adapter.join(CONFIG))?;
    Ok(fields.get("task_type").and_then(Value::as_str) == Some(SEQUENCES))
}
