//! A model on disk: a directory of weights, a GGUF file, or a PEFT adapter on one of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};
use smpo_files::is_file;

use crate::decoder::Decoder;
use crate::error::{ModelError, Result};
use crate::fields::Fields;
use crate::gguf::is_gguf;
use crate::json_file;
use crate::lora::ADAPTER_CONFIG;
use crate::placement::Placement;
use crate::save::TOKENIZER_FILES;
use crate::shards::Peers;
use crate::storage::Storage;
use crate::weights;

/// Location of a model: a directory in Hugging Face format or a GGUF file, with or without a PEFT adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelDir {
    weights: PathBuf,
    adapter: Option<PathBuf>,
    /// Directory of the tokenizer where it is not the model's own.
    tokenizer: Option<PathBuf>,
}

impl ModelDir {
    /// Opens a model or adapter directory, or a GGUF file. An adapter's base is `base`, or else the model that its
    /// configuration names, as written or relative to the adapter. Of a GGUF file, `base` is a directory whose tokenizer is
    /// taken in place of its own.
    ///
    /// # Errors
    /// When `dir` is none of them, the base is not found, or a base is given for a model directory.
    pub fn open(dir: impl AsRef<Path>, base: Option<&Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let config = dir.join(ADAPTER_CONFIG);
        if is_file(&config)? {
            let weights = match base {
                Some(base) if is_model(base)? => base.to_path_buf(),
                Some(base) => return Err(no_model(base)),
                None => named_base(dir, &config)?,
            };
            return Ok(Self { weights, adapter: Some(dir.to_path_buf()), tokenizer: None });
        }
        if is_gguf(dir)? {
            return Ok(Self { weights: dir.to_path_buf(), adapter: None, tokenizer: base.map(Path::to_path_buf) });
        }
        if !is_file(&dir.join("config.json"))? {
            return Err(no_model(dir));
        }
        match base {
            None => Ok(Self { weights: dir.to_path_buf(), adapter: None, tokenizer: None }),
            Some(_) => Err(ModelError::input(
                "base model",
                "an adapter to put on it",
                format!("a directory without {ADAPTER_CONFIG}: {}", dir.display()),
            )),
        }
    }

    /// The directory or GGUF file of the full weights: the base where there is an adapter.
    pub fn weights(&self) -> &Path {
        &self.weights
    }

    /// The adapter's directory.
    pub fn adapter(&self) -> Option<&Path> {
        self.adapter.as_deref()
    }

    /// The model whose tokenizer is taken: the weights', or another one's that was given with a GGUF file.
    pub fn tokenizer(&self) -> &Path {
        self.tokenizer.as_deref().unwrap_or(&self.weights)
    }

    /// The model of the tokenizer's files that an exported adapter takes along: its own where it has any.
    pub fn tokenizer_files(&self) -> &Path {
        let has_files = |dir: &&Path| TOKENIZER_FILES.iter().any(|name| dir.join(name).is_file());
        self.adapter().filter(has_files).unwrap_or_else(|| self.tokenizer())
    }

    /// Fingerprint of the weights, and of the adapter's: other weights have another one.
    ///
    /// # Errors
    /// When a file is missing or damaged.
    pub fn fingerprint(&self) -> Result<String> {
        let weights = weights::fingerprint(&self.weights, "model")?;
        match &self.adapter {
            Some(adapter) => Ok(format!("{weights}+{}", weights::fingerprint(adapter, "adapter_model")?)),
            None => Ok(weights),
        }
    }

    /// Loads the weights and the adapter; then only the adapter is trainable.
    ///
    /// # Errors
    /// As [`Decoder::load`] and [`Decoder::load_adapter`].
    pub fn load(&self) -> Result<Decoder> {
        self.load_on(&Placement::default())
    }

    /// Loads the weights and the adapter, all frozen, the weights in a storage of few bits.
    ///
    /// # Errors
    /// As [`Decoder::load_frozen`] and [`Decoder::load_adapter`].
    pub fn load_frozen(&self, placement: &Placement, storage: &Storage) -> Result<Decoder> {
        Ok(self.adapted(Decoder::load_frozen(&self.weights, placement, storage)?)?.frozen())
    }

    /// As [`ModelDir::load_frozen`], with the weights of blocks in parts.
    ///
    /// # Errors
    /// As [`Decoder::load_frozen_parts`] and [`Decoder::load_adapter`].
    pub fn load_frozen_parts(&self, placement: &Placement, peers: Arc<dyn Peers>) -> Result<Decoder> {
        Ok(self.adapted(Decoder::load_frozen_parts(&self.weights, placement, peers)?)?.frozen())
    }

    /// As [`ModelDir::load`], to a device and dtype.
    ///
    /// # Errors
    /// As [`Decoder::load_on`] and [`Decoder::load_adapter`].
    pub fn load_on(&self, placement: &Placement) -> Result<Decoder> {
        self.adapted(Decoder::load_on(&self.weights, placement)?)
    }

    fn adapted(&self, mut decoder: Decoder) -> Result<Decoder> {
        if let Some(adapter) = &self.adapter {
            decoder.label_as_adapter(adapter)?;
            decoder.load_adapter(adapter)?;
        }
        Ok(decoder)
    }
}

/// True for a directory with full weights, and for a GGUF file.
fn is_model(path: &Path) -> Result<bool> {
    Ok(is_file(&path.join("config.json"))? || is_gguf(path)?)
}

fn no_model(dir: &Path) -> ModelError {
    let trained = ["config.json", "adapter_config.json"].iter().any(|name| dir.join("model").join(name).is_file());
    let got = match (dir.is_dir(), dir.exists()) {
        (true, _) if trained => "a training run; its model is the directory `model` in it",
        (true, _) => "a directory without config.json and adapter_config.json",
        (false, true) => "a file",
        (false, false) => "nothing of that name",
    };
    ModelError::NoModel { path: dir.to_path_buf(), got }
}

/// The directory that an adapter names as its base.
fn named_base(adapter: &Path, config: &Path) -> Result<PathBuf> {
    let object: Map<String, Value> = json_file::read(config)?;
    let fields = Fields::new(config, &object);
    const FIELD: &str = "base_model_name_or_path";
    let expected = "the directory of the base model; name it with --base";
    let named = fields.str(FIELD)?.filter(|name| !name.is_empty()).ok_or_else(|| fields.missing(FIELD, expected))?;
    for candidate in [PathBuf::from(named), adapter.join(named)] {
        if is_model(&candidate)? {
            return Ok(candidate);
        }
    }
    Err(fields.error(FIELD, expected, format!("{named:?}, which is no model directory here")))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn golden(case: &str) -> PathBuf {
        smpo_fixtures::golden("model", case)
    }

    #[test]
    fn an_adapter_is_found_with_its_base() {
        let plain = ModelDir::open(golden("qwen2"), None).unwrap();
        assert_eq!((plain.weights(), plain.adapter()), (&*golden("qwen2"), None));
        assert_eq!(plain.load().unwrap().lora(), None);
        let given = ModelDir::open(golden("peft-lora"), Some(&golden("qwen2"))).unwrap();
        assert_eq!((given.weights(), given.adapter()), (&*golden("qwen2"), Some(&*golden("peft-lora"))));
        assert!(given.load().unwrap().lora().is_some());
        // It names "qwen2"; a base beside the adapter is found by a relative name.
        let temp = TempDir::new().unwrap();
        let (adapter, base) = (temp.path().join("adapter"), temp.path().join("adapter/qwen2"));
        fs::create_dir_all(&base).unwrap();
        fs::copy(golden("peft-lora").join(ADAPTER_CONFIG), adapter.join(ADAPTER_CONFIG)).unwrap();
        let refusal = ModelDir::open(&adapter, None).unwrap_err().to_string();
        assert!(
            refusal.contains("field `base_model_name_or_path`: expected the directory of the base model"),
            "{refusal}"
        );
        fs::write(base.join("config.json"), "{}").unwrap();
        let found = ModelDir::open(&adapter, None).unwrap();
        assert_eq!((found.weights(), found.tokenizer_files()), (&*base, &*base));
        fs::write(adapter.join("tokenizer.json"), "{}").unwrap();
        assert_eq!(found.tokenizer_files(), adapter);
    }

    #[test]
    fn a_path_that_is_no_model_is_refused() {
        let refusal = |dir: &Path, base: Option<&Path>| ModelDir::open(dir, base).unwrap_err().to_string();
        let absent = golden("absent");
        assert!(
            refusal(&absent, None)
                .ends_with("absent: expected a model directory or a GGUF file, got nothing of that name")
        );
        let parent = golden("");
        assert!(refusal(&parent, None).contains("got a directory without config.json and adapter_config.json"));
        let run = tempfile::tempdir().unwrap();
        std::fs::create_dir(run.path().join("model")).unwrap();
        std::fs::write(run.path().join("model/config.json"), "{}").unwrap();
        assert!(refusal(run.path(), None).contains("got a training run; its model is the directory `model` in it"));
        assert!(refusal(&golden("peft-lora"), Some(&absent)).contains("absent: expected a model directory"));
        assert!(refusal(&golden("qwen2"), Some(&golden("qwen3"))).starts_with("base model: expected an adapter"));
    }
}
