//! The directory of a tokenizer's files.

use std::path::{Path, PathBuf};

use smpo_chat::{ChatError, ChatTemplate};
use smpo_gguf::GgufError;
use tempfile::TempDir;

use crate::TokenizerError;

/// The directory of a tokenizer's files: a model's own, or a temporary one with those that a GGUF file describes.
#[derive(Debug)]
pub(crate) struct Home {
    /// The model, for messages.
    pub model: PathBuf,
    dir: PathBuf,
    temporary: Option<TempDir>,
}

impl Home {
    /// The directory of a model's files.
    ///
    /// # Errors
    /// When a GGUF file is damaged, describes no tokenizer that is read, or no files can be written.
    pub fn of(model: &Path) -> Result<Self, TokenizerError> {
        let home = |dir: &Path, temporary| Self { model: model.to_path_buf(), dir: dir.to_path_buf(), temporary };
        if !smpo_gguf::is_gguf(model)? {
            return Ok(home(model, None));
        }
        if let Some(beside) = smpo_gguf::tokenizer_home(model)? {
            return Ok(home(&beside, None));
        }
        let temporary = TempDir::with_prefix("smpo-tokenizer-").map_err(|source| GgufError::Io {
            path: std::env::temp_dir(),
            action: "write",
            source,
        })?;
        smpo_gguf::write_companions(model, temporary.path())?;
        let dir = temporary.path().to_path_buf();
        Ok(home(&dir, Some(temporary)))
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn tokenizer(&self) -> PathBuf {
        self.dir.join("tokenizer.json")
    }

    /// The file of the tokenizer, for messages.
    pub fn shown(&self) -> PathBuf {
        if self.temporary.is_some() { self.model.clone() } else { self.tokenizer() }
    }

    /// The model's own chat template.
    pub fn template(&self) -> Result<ChatTemplate, TokenizerError> {
        match (ChatTemplate::from_model_dir(&self.dir), &self.temporary) {
            (Err(ChatError::NoTemplate { .. }), Some(_)) => {
                Err(ChatError::NoTemplate { dir: self.model.clone() }.into())
            }
            (template, Some(_)) => {
                Ok(template?.with_origin(&format!("{} (tokenizer.chat_template)", self.model.display())))
            }
            (template, None) => Ok(template?),
        }
    }
}
