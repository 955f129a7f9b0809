//! Description of a GGUF architecture, beside its model family.

use serde_json::Value;

use super::{GgufFile, Source};
use crate::error::{ModelError, Result};
use crate::families::Family;

/// Fields of config.json that only this family has.
type OwnFields = fn(&Source<'_>) -> Result<Vec<(&'static str, Value)>>;

/// True for the files of this family, where several have one architecture.
type Chosen = fn(&Source<'_>) -> Result<bool>;

/// Order of the rows of query and key weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    /// As in Hugging Face's files: the two halves of each head after each other.
    AsStored,
    /// The halves of each head interleaved, as llama.cpp's older rotary embedding takes them.
    Interleaved,
}

/// An architecture by its name in `general.architecture`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Architecture {
    pub name: &'static str,
    pub rows: Rows,
    pub fields: OwnFields,
    pub chosen: Chosen,
    /// Name of the norm before the feed-forward layer.
    pub feed_forward_norm: &'static str,
    /// True for routed experts.
    pub routed: bool,
}

impl Architecture {
    /// An architecture without anything particular.
    pub const fn plain(name: &'static str) -> Self {
        Self {
            name,
            rows: Rows::AsStored,
            fields: |_| Ok(Vec::new()),
            chosen: |_| Ok(true),
            feed_forward_norm: "ffn_norm",
            routed: false,
        }
    }

    /// The family of a file with its architecture.
    ///
    /// # Errors
    /// When the file names none, or one that is not supported.
    pub fn of(file: &GgufFile) -> Result<(Family, &'static Self)> {
        let name = file.architecture()?;
        let known = || Family::ALL.iter().filter_map(|family| Some((*family, family.gguf()?)));
        let source = Source::new(file)?;
        for (family, architecture) in known().filter(|(_, architecture)| architecture.name == name) {
            if (architecture.chosen)(&source)? {
                return Ok((family, architecture));
            }
        }
        let mut names: Vec<&str> = Vec::new();
        for (_, architecture) in known() {
            if !names.contains(&architecture.name) {
                names.push(architecture.name);
            }
        }
        let digits = |name: &str| name.chars().filter(char::is_ascii_digit).collect::<String>();
        let near = names.iter().copied().filter(|known| digits(known) == digits(name));
        Err(ModelError::UnknownFamily {
            path: file.path().to_path_buf(),
            name: name.to_string(),
            hint: smpo_suggest::did_you_mean(name, near),
            supported: format!("{} (`general.architecture`)", names.join(", ")),
        })
    }
}
