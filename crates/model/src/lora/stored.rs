//! Names of an adapter's tensors in its file: PEFT's prefix before those of the modules as transformers has them in
//! memory, which in a multimodal model are not those of the text model alone.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::rc::Rc;

use super::fused_experts::{self, ExpertPart};
use super::peft::{PREFIX, STEM};
use super::{Adapter, LoraConfig};
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
    /// Ranks that a layer uses, by the name of its fused B and the first of its outputs.
    ranks: RefCell<BTreeMap<(String, usize), Vec<usize>>>,
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
        Ok(Self { tensors, file, recent: RefCell::default(), ranks: RefCell::default() })
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
            Stored::Part(_) => Err(self.missing(name)),
        }
    }

    /// The adapter of a module, of a layer's `outputs` and `inputs`, and its configuration. Ranks of a fused adapter that the layer
    /// does not use are left out; `None` if it uses none.
    pub fn adapter(
        &self,
        module: &str,
        config: LoraConfig,
        [outputs, inputs]: [usize; 2],
    ) -> Result<Option<(LoraConfig, [Vec<f32>; 2])>> {
        let [a_name, b_name, _] = Adapter::names(module).map(|name| format!("{PREFIX}{name}"));
        let rank = config.r;
        let (Stored::Part(a), Stored::Part(b)) = (self.stored(&a_name)?, self.stored(&b_name)?) else {
            let values = [self.read(&a_name, &[rank, inputs])?, self.read(&b_name, &[outputs, rank])?];
            return Ok(Some((config, values)));
        };
        let (all_a, all_b) = (self.fused(a, &a.shape_of_a(rank, inputs))?, self.fused(b, &b.shape_of_b(rank))?);
        let (tensor, first) = b.layer();
        let mut known = self.ranks.borrow_mut();
        let ranks = known.entry((tensor.to_owned(), first)).or_insert_with(|| b.used_ranks(&all_b, rank, outputs));
        let values = [a.a(&all_a, ranks, [rank, inputs]), b.b(&all_b, ranks, [rank, outputs])];
        Ok((!ranks.is_empty()).then(|| (config.with_rank(ranks.len()), values)))
    }

    /// All values of the fused tensor that a part is of.
    fn fused(&self, part: &ExpertPart, shape: &[usize]) -> Result<Rc<Vec<f32>>> {
        let mut recent = self.recent.borrow_mut();
        if let Some((_, values)) = recent.iter().find(|(name, _)| name == part.tensor()) {
            return Ok(Rc::clone(values));
        }
        let values = Rc::new(self.file.read(part.tensor(), shape)?);
        recent.truncate(FUSED - 1);
        recent.push_front((part.tensor().to_owned(), Rc::clone(&values)));
        Ok(values)
    }

    fn stored(&self, name: &str) -> Result<&Stored> {
        self.tensors.get(name).ok_or_else(|| self.missing(name))
    }

    fn missing(&self, name: &str) -> ModelError {
        ModelError::missing(self.file.path().to_path_buf(), format!("`{name}`"))
    }
}
