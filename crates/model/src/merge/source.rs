//! The tensors of one model to be merged: without copies and buffers that its configuration implies.

use std::path::Path;

use crate::config::Config;
use crate::error::{ModelError, Result, list};
use crate::json_file;
use crate::layout::{EMBEDDING, HEAD};
use crate::parameter::is_rotary_buffer;
use crate::weights::WeightFiles;
use crate::wrapper::TextNames;

/// Opens a model directory. A stored head that is tied to the embedding is left out; one that differs from it is refused.
pub(super) fn open(dir: &Path) -> Result<WeightFiles> {
    let mut files = WeightFiles::open(dir, "model")?;
    files.retain(|name| !is_rotary_buffer(name));
    let Some((head, embedding)) = tied_head(dir, &files) else { return Ok(files) };
    let (shape, _) = files.describe(&embedding)?;
    if files.read(&head, &shape)? != files.read(&embedding, &shape)? {
        let path = files.owner(&head)?.path().to_path_buf();
        return Err(ModelError::TiedHeadDiffers { path, head, embedding });
    }
    files.retain(|name| name != head);
    Ok(files)
}

/// Names of a stored head and of the embedding that the configuration ties it to.
fn tied_head(dir: &Path, files: &WeightFiles) -> Option<(String, String)> {
    // Of a family that is not supported the field alone is known.
    let said = || {
        let fields: serde_json::Value = json_file::read(&dir.join("config.json")).ok()?;
        fields.get("tie_word_embeddings")?.as_bool()
    };
    let tied = Config::from_dir(dir).ok().map(|config| config.spec().tied).or_else(said);
    let head = format!("{HEAD}.weight");
    let (head, embedding) = match TextNames::of(files) {
        Some(names) => (names.wrapped(&head), names.wrapped(EMBEDDING)),
        None => (head, EMBEDDING.to_owned()),
    };
    (tied == Some(true) && files.contains(&head) && files.contains(&embedding)).then_some((head, embedding))
}

/// Refuses models that do not have the same tensors.
pub(super) fn check_alike(first: &WeightFiles, other: &WeightFiles) -> Result<()> {
    let missing: Vec<&str> = first.names().filter(|n| !other.contains(n)).collect();
    let extra: Vec<&str> = other.names().filter(|n| !first.contains(n)).collect();
    let is_head = |names: &[&str]| matches!(names, [name] if name.ends_with("lm_head.weight"));
    match (is_head(&missing) && extra.is_empty(), is_head(&extra) && missing.is_empty()) {
        (true, _) => return Err(heads_differ(other, first)),
        (_, true) => return Err(heads_differ(first, other)),
        _ => {}
    }
    if !missing.is_empty() {
        return Err(ModelError::missing(other.dir().to_path_buf(), list(&missing)));
    }
    if !extra.is_empty() {
        return Err(ModelError::ExtraTensors { path: other.dir().to_path_buf(), names: list(&extra) });
    }
    for name in first.names() {
        let (expected, _) = first.describe(name)?;
        let (got, _) = other.describe(name)?;
        if expected != got {
            let path = other.dir().to_path_buf();
            return Err(ModelError::Shape { path, tensor: name.to_string(), expected, got });
        }
    }
    Ok(())
}

fn heads_differ(tied: &WeightFiles, untied: &WeightFiles) -> ModelError {
    ModelError::input(
        "models to merge",
        "heads of one kind",
        format!(
            "the embedding as the head in {} and a head of its own in {}; untie the first: set `tie_word_embeddings` to \
             false and store a copy of the embedding as `lm_head.weight`",
            tied.dir().display(),
            untied.dir().display()
        ),
    )
}
