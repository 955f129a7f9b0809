//! Weights beside adapters: modules that are trained and saved whole (PEFT's `modules_to_save`), and rows of the embedding
//! (`trainable_token_indices`).

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Tensor, Var};

use super::biases::stored_name;
use super::peft::PREFIX;
use super::stored::AdapterFile;
use crate::decoder::Decoder;
use crate::error::{ModelError, Result, list};
use crate::layout::{EMBEDDING, HEAD};
use crate::matrix::Matrix;
use crate::name_pattern::NamePattern;
use crate::parameter::Parameter;
use crate::placement::Placement;
use crate::weights::{StoredTensor, WeightDtype};

/// Weights that are trained beside adapters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrainedBeside {
    /// Modules trained and saved whole, by names or their ends (`embed_tokens`, `lm_head`, `model.norm`). The head is the
    /// embedding where it is tied.
    pub modules: Vec<String>,
    /// Rows of the embedding that are trained and saved, by token id.
    pub tokens: Vec<u32>,
}

/// The same as an adapter's configuration has it.
#[derive(Debug, Default)]
pub(super) struct StoredBeside {
    /// `modules_to_save`.
    pub modules: Vec<String>,
    /// `trainable_token_indices`: token ids by module.
    pub tokens: BTreeMap<String, Vec<u32>>,
    /// `ensure_weight_tying`: a tied head stays the embedding, although the embedding is stored alone.
    pub tied: bool,
}

/// Suffix of the name of stored rows.
const ROWS: &str = "token_adapter.trainable_tokens_delta";

/// Name of a parameter without its last part: its module.
fn module(parameter: &str) -> &str {
    parameter.rsplit_once('.').map_or(parameter, |(module, _)| module)
}

/// Last part of a module's name.
fn end(module: &str) -> &str {
    module.rsplit('.').next().unwrap_or(module)
}

impl Decoder {
    /// Trains modules or rows of the embedding beside the adapters, which the model must have.
    ///
    /// # Errors
    /// When a name names no module, or one with an adapter, or a token is not below `V`.
    pub fn train_beside(&mut self, beside: &TrainedBeside) -> Result<()> {
        const WHAT: &str = "modules_to_save";
        let mut names: BTreeSet<String> = BTreeSet::new();
        for text in &beside.modules {
            let pattern = NamePattern::new(WHAT, text)?;
            let tied_head = self.head_is_tied() && pattern.names(HEAD);
            let named = |name: &str| pattern.names(module(name)) || tied_head && name == EMBEDDING;
            let known: Vec<&str> = self.can_be_trained().into_iter().map(|(name, _)| name).collect();
            let found: Vec<String> = known.iter().filter(|name| named(name)).map(|name| name.to_string()).collect();
            for linear in self.linears().into_iter().filter(|linear| pattern.names(&linear.module)) {
                linear.weight.refuse_training(WHAT)?;
            }
            if found.is_empty() {
                let ends = known.iter().map(|name| end(module(name)));
                let hint = smpo_suggest::did_you_mean(text, ends.chain([HEAD]));
                return Err(ModelError::input(WHAT, "the name of a module", format!("`{text}`{hint}")));
            }
            names.extend(found);
        }
        let vocabulary = self.spec().vocab_size;
        if let Some(token) = beside.tokens.iter().find(|token| **token as usize >= vocabulary) {
            let expected = format!("ids below the vocabulary of {vocabulary}");
            return Err(ModelError::input("trainable_token_indices", expected, token.to_string()));
        }
        if !beside.tokens.is_empty() && !names.insert(EMBEDDING.to_owned()) {
            let got = "the embedding in `modules_to_save` too";
            return Err(ModelError::input(
                "trainable_token_indices",
                "rows of an embedding that is not trained whole",
                got,
            ));
        }
        let adapted = self.linears().into_iter().filter(|linear| linear.adapter.is_some());
        if let Some(both) = adapted.map(|linear| linear.weight.name()).find(|name| names.contains(*name)) {
            let got = format!("`{}`, which has an adapter", module(both));
            return Err(ModelError::input(WHAT, "modules without adapters", got));
        }
        self.unpack(|name| names.contains(name))?;
        self.make_whole(|name| names.contains(name))?;
        let placement = self.placement();
        let mut result = Ok(());
        self.visit_mut(|parameter| {
            if result.is_ok() && names.contains(&parameter.name) {
                result = parameter.set_trainable(true, &placement);
            }
        });
        self.trained_tokens = beside.tokens.clone();
        result
    }

    /// Rows of the embedding that alone are trained; empty if it is trained whole or not at all.
    pub fn trained_tokens(&self) -> &[u32] {
        &self.trained_tokens
    }

    /// Those of `tokens` whose rows of the embedding are zero or equal to another's among them, if the embedding is not
    /// trained: rows of tokens that no training has seen.
    ///
    /// # Errors
    /// When a token is not below `V`.
    pub fn untrained_tokens(&self, tokens: &[u32]) -> Result<Vec<u32>> {
        if self.embedding_is_trained() || tokens.is_empty() {
            return Ok(Vec::new());
        }
        let mut alike: BTreeMap<Vec<u32>, Vec<u32>> = BTreeMap::new();
        for token in tokens {
            let row = self.embedding.row(*token as usize)?;
            alike.entry(row.iter().map(|value| value.to_bits()).collect()).or_default().push(*token);
        }
        let is_untrained = |(row, tokens): &(Vec<u32>, Vec<u32>)| tokens.len() > 1 || row.iter().all(|bits| *bits == 0);
        let mut found: Vec<u32> = alike.into_iter().filter(is_untrained).flat_map(|(_, tokens)| tokens).collect();
        found.sort_unstable();
        Ok(found)
    }

    /// The embedding's variable, if it or rows of it are trained.
    pub fn embedding_var(&self) -> Option<Var> {
        self.embedding.parameter().and_then(Parameter::var)
    }

    /// Makes rows of embedding and head for `new` tokens after the first `known`, each the mean of those, in the place of
    /// rows that no token had, and beyond them.
    ///
    /// # Errors
    /// When memory is exhausted.
    pub fn add_tokens(&mut self, known: usize, new: usize) -> Result<()> {
        if new == 0 {
            return Ok(());
        }
        let (tied, placement) = (self.head_is_tied(), self.placement());
        let enlarged = |matrix: &Matrix| -> Result<Matrix> {
            let tensor = with_new_rows(&*matrix.dense(&placement)?, &placement, known, new)?;
            Ok(Parameter { name: matrix.name().to_owned(), tensor }.into())
        };
        if !tied && self.spec().labels.is_none() {
            self.head.weight.refuse_training("added tokens")?;
            self.head.weight = enlarged(&self.head.weight)?;
        }
        self.embedding = enlarged(&self.embedding)?;
        if tied {
            self.head.weight = self.embedding.clone();
        }
        self.set_vocabulary(self.embedding.shape()?.0);
        Ok(())
    }

    /// Tensors of what is trained beside the adapters, under PEFT's names.
    pub(super) fn beside_tensors(&self, dtype: WeightDtype) -> Result<Vec<(String, StoredTensor)>> {
        let mut tensors = Vec::new();
        let biases: BTreeMap<&str, String> =
            self.linears().into_iter().filter_map(|l| Some((l.bias.as_ref()?.name.as_str(), stored_name(l)))).collect();
        for parameter in self.base_parameters().filter(|p| p.tensor.is_variable()) {
            let rows_only = parameter.name == EMBEDDING && !self.trained_tokens.is_empty();
            if rows_only {
                let ids = Tensor::new(&self.trained_tokens[..], parameter.tensor.device())?;
                let rows = parameter.tensor.detach().index_select(&ids, 0)?;
                let name = self.stored_name(&format!("{}.{ROWS}", module(EMBEDDING)));
                tensors.push((name, StoredTensor::new(&rows, dtype)?));
                continue;
            }
            let name = biases.get(parameter.name.as_str()).unwrap_or(&parameter.name);
            tensors.push((self.stored_name(name), StoredTensor::new(&parameter.tensor, dtype)?));
            if parameter.name == EMBEDDING && self.head_is_tied() {
                // PEFT would keep the base's head, which is no longer the embedding then.
                let head = self.stored_name(&format!("{HEAD}.weight"));
                tensors.push((head, StoredTensor::new(&parameter.tensor, dtype)?));
            }
        }
        Ok(tensors)
    }

    /// `modules_to_save` and `trainable_token_indices` of an adapter's configuration.
    pub(super) fn beside_config(&self) -> (Option<BTreeSet<String>>, Option<Vec<u32>>) {
        let is_bias = |p: &Parameter| p.name.ends_with(".bias");
        let is_whole = |p: &&Parameter| {
            p.tensor.is_variable() && !is_bias(p) && (p.name != EMBEDDING || self.trained_tokens.is_empty())
        };
        let whole: BTreeSet<&str> = self.base_parameters().filter(is_whole).map(|p| module(&p.name)).collect();
        // PEFT takes every module whose name ends in one of these, a dot before it or not: `norm` is any layernorm too.
        let others: Vec<&str> =
            self.base_parameters().map(|p| module(&p.name)).filter(|name| !whole.contains(name)).collect();
        let taken = |name: &str| others.iter().any(|other| other.ends_with(name));
        // The other half of a multimodal model has modules too.
        let shortest = |name: &str| match self.wrapped.is_some() || taken(end(name)) {
            true => self.stored_module(name),
            false => end(name).to_owned(),
        };
        let mut modules: BTreeSet<String> = whole.iter().map(|name| shortest(name)).collect();
        if self.head_is_tied() && whole.contains(module(EMBEDDING)) {
            modules.insert(HEAD.to_owned());
        }
        let tokens = (!self.trained_tokens.is_empty()).then(|| self.trained_tokens.clone());
        ((!modules.is_empty()).then_some(modules), tokens)
    }

    /// Reads what a file holds beside adapters and takes it out of `unread`. The model changes once all is read.
    pub(super) fn read_beside(
        &self,
        stored: &StoredBeside,
        file: &AdapterFile,
        unread: &mut BTreeSet<String>,
    ) -> Result<ReadBeside> {
        let placement = self.placement();
        let head = format!("{HEAD}.weight");
        let mut read = ReadBeside { keep_tied: stored.tied && self.head_is_tied(), ..ReadBeside::default() };
        let (vocabulary, width) = self.embedding.shape()?;
        let tied = self.head_is_tied().then(|| (head.as_str(), vec![vocabulary, width]));
        for (name, mut shape) in self.can_be_trained().into_iter().chain(tied) {
            let mut stored_name = format!("{PREFIX}{name}");
            // The bias of a layer with an adapter is inside of it.
            if let Some(layer) = name.strip_suffix(".bias")
                && unread.contains(&format!("{PREFIX}{layer}.base_layer.bias"))
            {
                stored_name = format!("{PREFIX}{layer}.base_layer.bias");
            }
            if unread.remove(&stored_name) {
                // An adapter of an enlarged vocabulary has more rows than its base.
                if (name == EMBEDDING || name == head)
                    && let [rows, width] = file.describe(&stored_name)?.0[..]
                    && rows > shape[0]
                    && width == shape[1]
                {
                    shape[0] = rows;
                }
                let values = file.read(&stored_name, &shape)?;
                read.whole.insert(name.to_owned(), placement.variable(values, &shape)?.into_inner());
            }
        }
        for (place, name) in [(module(EMBEDDING), EMBEDDING), (HEAD, head.as_str())] {
            let stored_name = format!("{PREFIX}{place}.{ROWS}");
            if !unread.remove(&stored_name) {
                continue;
            }
            let ids = stored.tokens.iter().find(|(key, _)| end(key) == end(place)).map(|(_, ids)| ids.clone());
            let ids = ids.ok_or_else(|| {
                ModelError::missing(
                    file.path().to_path_buf(),
                    format!("`trainable_token_indices` of `{place}` in adapter_config.json"),
                )
            })?;
            if let Some(id) = ids.iter().find(|id| **id as usize >= vocabulary) {
                let expected = format!("ids below the vocabulary of {vocabulary}");
                return Err(ModelError::input("trainable_token_indices", expected, id.to_string()));
            }
            let rows = file.read(&stored_name, &[ids.len(), width])?;
            read.rows.insert(name.to_owned(), (ids, rows));
        }
        // The rows of a tied head are those of the embedding.
        let has_rows = |wanted: &str| {
            let alike = |name: &String| end(module(name)) == end(wanted) || self.head_is_tied();
            read.rows.keys().chain(read.whole.keys()).any(alike)
        };
        let without_rows = stored.tokens.iter().filter(|(place, ids)| !ids.is_empty() && !has_rows(place));
        let without_rows: Vec<String> = without_rows.map(|(place, _)| format!("{place}.{ROWS}")).collect();
        if !without_rows.is_empty() {
            return Err(ModelError::missing(file.path().to_path_buf(), list(&without_rows)));
        }
        let has = |wanted: &String| {
            read.whole.keys().any(|name| end(module(name)) == end(wanted)) || self.head_is_tied() && stored.tied
        };
        let absent: Vec<&String> = stored.modules.iter().filter(|wanted| !has(wanted)).collect();
        if !absent.is_empty() {
            return Err(ModelError::missing(file.path().to_path_buf(), list(&absent)));
        }
        read.check_sizes(file, &head, self.spec().vocab_size)?;
        Ok(read)
    }

    /// Puts what was read into the model, trainable.
    pub(super) fn put_beside(&mut self, mut read: ReadBeside) -> Result<()> {
        let head = format!("{HEAD}.weight");
        if self.head_is_tied() {
            let same = match (read.whole.get(EMBEDDING), read.whole.get(&head)) {
                (Some(embedding), Some(head)) => equal(embedding, head)?,
                (None, None) => true,
                _ => read.keep_tied,
            };
            if same {
                if let Some(tensor) = read.whole.remove(&head) {
                    read.whole.entry(EMBEDDING.to_owned()).or_insert(tensor);
                }
            } else {
                self.untie_head()?;
                if let Some(head) = self.head.weight.parameter_mut() {
                    head.tensor = head.tensor.detach();
                }
            }
        }
        if let Some(rows) = read.whole.get(EMBEDDING).map(|tensor| tensor.dim(0)).transpose()? {
            self.set_vocabulary(rows);
        }
        for (name, (ids, values)) in std::mem::take(&mut read.rows) {
            let placement = self.placement();
            let tensor = match name == EMBEDDING {
                true => with_rows(&*self.embedding.dense(&placement)?, &placement, &ids, values)?,
                false => with_rows(&*self.head.weight.dense(&placement)?, &placement, &ids, values)?,
            };
            if name == EMBEDDING {
                self.trained_tokens = ids;
            }
            read.whole.insert(name, tensor);
        }
        self.change_matrices(|matrix| {
            if let Some(tensor) = read.whole.remove(matrix.name()) {
                *matrix = Parameter { name: matrix.name().to_owned(), tensor }.into();
            }
            Ok(())
        })?;
        self.visit_mut(|parameter| {
            if let Some(tensor) = read.whole.remove(&parameter.name) {
                parameter.tensor = tensor;
            }
        });
        Ok(())
    }
}

/// Weights that a file holds beside adapters.
#[derive(Default)]
pub(super) struct ReadBeside {
    whole: BTreeMap<String, Tensor>,
    /// Token ids and values of rows, by the parameter's name.
    rows: BTreeMap<String, (Vec<u32>, Vec<f32>)>,
    keep_tied: bool,
}

impl ReadBeside {
    /// Refuses an embedding of more rows than the base's `rows` without a head as large, and the other way round.
    fn check_sizes(&self, file: &AdapterFile, head: &str, rows: usize) -> Result<()> {
        let shape = |name: &str| self.whole.get(name).map(|tensor| tensor.dims().to_vec());
        let path = || file.path().to_path_buf();
        match (shape(EMBEDDING), shape(head)) {
            (Some(expected), Some(got)) if expected != got => {
                Err(ModelError::Shape { path: path(), tensor: head.to_owned(), expected, got })
            }
            (Some(alone), None) if alone[0] > rows && !self.keep_tied => {
                Err(ModelError::missing(path(), format!("`{PREFIX}{head}`")))
            }
            (None, Some(alone)) if alone[0] > rows => {
                Err(ModelError::missing(path(), format!("`{PREFIX}{EMBEDDING}`")))
            }
            _ => Ok(()),
        }
    }
}

/// A variable with the mean of the first `known` rows in the `new` rows after them.
fn with_new_rows(tensor: &Tensor, placement: &Placement, known: usize, new: usize) -> Result<Tensor> {
    let tensor = placement.place(tensor)?;
    let (rows, width) = tensor.dims2()?;
    let kept = tensor.narrow(0, 0, known.min(rows))?;
    let mean = kept.to_dtype(DType::F32)?.mean_keepdim(0)?.to_dtype(tensor.dtype())?;
    let means = mean.broadcast_as((known + new - known.min(rows), width))?.contiguous()?;
    let mut parts = vec![kept, means];
    if rows > known + new {
        parts.push(tensor.narrow(0, known + new, rows - known - new)?);
    }
    Ok(Var::from_tensor(&Tensor::cat(&parts, 0)?)?.into_inner())
}

fn equal(one: &Tensor, other: &Tensor) -> Result<bool> {
    Ok(one.dims() == other.dims() && one.flatten_all()?.eq(&other.flatten_all()?)?.min(0)?.to_scalar::<u8>()? == 1)
}

/// A variable with the values of `tensor`, and other ones in some rows.
fn with_rows(tensor: &Tensor, placement: &Placement, ids: &[u32], rows: Vec<f32>) -> Result<Tensor> {
    let (_, width) = tensor.dims2()?;
    let mut values = crate::placement::host_values(tensor)?;
    for (id, row) in ids.iter().zip(rows.chunks_exact(width)) {
        values[*id as usize * width..][..width].copy_from_slice(row);
    }
    Ok(placement.variable(values, tensor.dims())?.into_inner())
}
