//! Names of an adapter's tensors in its file: PEFT's prefix before those of the modules as transformers has them in
//! memory, which in a multimodal model are not those of the text model alone.

use std::collections::BTreeMap;
use std::path::Path;

use super::peft::PREFIX;
use crate::decoder::Decoder;
use crate::error::{ModelError, Result};
use crate::weights::{WeightDtype, WeightFile};
use crate::wrapper::TextNames;

impl Decoder {
    /// A module's name as PEFT has it.
    pub(super) fn stored_module(&self, module: &str) -> String {
        match self.wrapped {
            Some(_) => TextNames::IN_MEMORY.wrapped(module),
            None => module.to_string(),
        }
    }

    /// A tensor's name as PEFT has it.
    pub(super) fn stored_name(&self, name: &str) -> String {
        format!("{PREFIX}{}", self.stored_module(name))
    }
}

/// An adapter's weight file, its tensors under the names of a text model.
pub(super) struct AdapterFile {
    file: WeightFile,
    /// Name in the file by the text model's name.
    names: BTreeMap<String, String>,
}

impl AdapterFile {
    pub fn open(path: &Path) -> Result<Self> {
        let file = WeightFile::open(path)?;
        let text_name = |stored: &str| {
            let module = stored.strip_prefix(PREFIX)?;
            // The head of a text model and that of a text half in memory have one name.
            let renamed = TextNames::ALL.into_iter().find_map(|names| names.unwrapped(module))?;
            Some(format!("{PREFIX}{renamed}"))
        };
        let names =
            file.names().into_iter().map(|stored| (text_name(&stored).unwrap_or_else(|| stored.clone()), stored));
        Ok(Self { names: names.collect(), file })
    }

    pub fn path(&self) -> &Path {
        self.file.path()
    }

    pub fn names(&self) -> impl Iterator<Item = String> {
        self.names.keys().cloned()
    }

    pub fn describe(&self, name: &str) -> Result<(Vec<usize>, WeightDtype)> {
        self.file.describe(self.stored(name)?)
    }

    pub fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        self.file.read(self.stored(name)?, shape)
    }

    fn stored(&self, name: &str) -> Result<&str> {
        self.names.get(name).map(String::as_str).ok_or_else(|| ModelError::MissingTensors {
            path: self.file.path().to_path_buf(),
            names: format!("`{name}`"),
        })
    }
}
