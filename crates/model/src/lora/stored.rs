//! Names of an adapter's tensors in its file: PEFT's prefix before those of the modules as transformers has them in
//! memory, which in a multimodal model are not those of the text model alone.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::rc::Rc;

use super::Adapter;
use super::fused_experts::{self, ExpertPart};
use super::peft::{PREFIX, STEM};
use crate::decoder::Decoder;
use crate::error::{ModelError, Result};
use crate::spec::DecoderSpec;
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

/// An adapter's weight file, its tensors under the names of a text model, experts one by one.
pub(super) struct AdapterFile {
    file: WeightFile,
    tensors: BTreeMap<String, Stored>,
    /// Fused tensors that were read last, by their names: those of a block are read expert by expert.
    recent: RefCell<VecDeque<(String, Rc<Vec<f32>>)>>,
}

/// Fused tensors of a block: A and B of gate and up, and of down.
const FUSED: usize = 4;

/// Place of a tensor in the file.
enum Stored {
    Whole(String),
    Part(ExpertPart),
}

impl AdapterFile {
    /// Opens the weights of an adapter's directory.
    pub fn open(dir: &Path, spec: &DecoderSpec) -> Result<Self> {
        let file = WeightFile::in_directory(dir, STEM)?;
        let text_name = |stored: &str| {
            let module = stored.strip_prefix(PREFIX)?;
            // The head of a text model and that of a text half in memory have one name.
            let renamed = TextNames::ALL.into_iter().find_map(|names| names.unwrapped(module))?;
            Some(format!("{PREFIX}{renamed}"))
        };
        let mut tensors = BTreeMap::new();
        for stored in file.names() {
            let name = text_name(&stored).unwrap_or_else(|| stored.clone());
            let parts = fused_experts::parts(&file, spec, &name, &stored)?;
            if parts.is_empty() {
                tensors.insert(name, Stored::Whole(stored));
            }
            tensors.extend(parts.into_iter().map(|(name, part)| (name, Stored::Part(part))));
        }
        Ok(Self { tensors, file, recent: RefCell::default() })
    }

    pub fn path(&self) -> &Path {
        self.file.path()
    }

    pub fn names(&self) -> impl Iterator<Item = String> {
        self.tensors.keys().cloned()
    }

    /// The name by which patterns find the adapter of `module`, if that is not its own.
    pub fn fused_parameter(&self, module: &str) -> Option<&str> {
        match self.tensors.get(&format!("{PREFIX}{}", Adapter::names(module)[0])) {
            Some(Stored::Part(part)) => Some(&part.parameter),
            _ => None,
        }
    }

    /// Shape and dtype of a tensor that is whole.
    pub fn describe(&self, name: &str) -> Result<(Vec<usize>, WeightDtype)> {
        match self.stored(name)? {
            Stored::Whole(stored) => self.file.describe(stored),
            Stored::Part(_) => Err(self.missing(name)),
        }
    }

    pub fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        match self.stored(name)? {
            Stored::Whole(stored) => self.file.read(stored, shape),
            Stored::Part(part) => Ok(part.values(&self.fused(part, shape)?, shape)),
        }
    }

    /// All values of the fused tensor that a part of `shape` is of.
    fn fused(&self, part: &ExpertPart, shape: &[usize]) -> Result<Rc<Vec<f32>>> {
        let mut recent = self.recent.borrow_mut();
        if let Some((_, values)) = recent.iter().find(|(name, _)| name == part.tensor()) {
            return Ok(Rc::clone(values));
        }
        let values = Rc::new(self.file.read(part.tensor(), &part.whole_shape(shape))?);
        recent.truncate(FUSED - 1);
        recent.push_front((part.tensor().to_owned(), Rc::clone(&values)));
        Ok(values)
    }

    fn stored(&self, name: &str) -> Result<&Stored> {
        self.tensors.get(name).ok_or_else(|| self.missing(name))
    }

    fn missing(&self, name: &str) -> ModelError {
        ModelError::MissingTensors { path: self.file.path().to_path_buf(), names: format!("`{name}`") }
    }
}
