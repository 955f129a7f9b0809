//! The decoder: embedding, blocks, final norm, head.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use candle_core::{Tensor, Var};
use smpo_kernels::{Balance, Gradients, HeadOptions, Segments, Tape, embedding};

use crate::angles::positional;
use crate::attention::{Attention, attend_packed};
use crate::batch::PackedBatch;
use crate::block::{AttentionInput, Block, Positional, Positions, Stream};
use crate::config::Config;
use crate::error::{ModelError, Result};
use crate::feed_forward::FeedForwardPass;
use crate::layout::{EMBEDDING, FINAL_NORM, HEAD, SCORE, block_prefix};
use crate::linear::{Linear, Product};
use crate::lora::{Adapter, Dropout, LoraConfig};
use crate::matrix::{Matrix, PackedParameter};
use crate::parameter::{Parameter, Parameters};
use crate::placement::Placement;
use crate::placement::refuse_device;
use crate::shards::{Peers, Shards};
use crate::spec::DecoderSpec;
use crate::storage::Storage;
use crate::weights::WeightFiles;
use crate::wrapper::Wrapped;

/// A language model with trainable parameters. Weights are float32 in host memory unless placed elsewhere.
///
/// Cloning shares the parameters.
#[derive(Debug, Clone)]
pub struct Decoder {
    config: Config,
    pub(crate) embedding: Matrix,
    pub(crate) blocks: Vec<Block>,
    pub(crate) norm: Parameter,
    /// Its weight is the embedding's tensor when the head is tied.
    pub(crate) head: Linear,
    pub(crate) lora: Option<LoraConfig>,
    /// Rows of the embedding that alone are trained, by token id; empty if it is trained whole or not at all.
    pub(crate) trained_tokens: Vec<u32>,
    /// Weights of the multimodal model whose text half this is.
    pub(crate) wrapped: Option<Arc<Wrapped>>,
    /// Blocks whose weights are in parts in several processes.
    pub(crate) shards: Option<Arc<Shards>>,
    placement: Placement,
}

impl Decoder {
    /// Loads a Hugging Face model directory; bfloat16 and float16 weights become float32. All parameters are trainable.
    ///
    /// # Errors
    /// When the configuration is not supported, or the weights are damaged or do not match it.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self> {
        Self::load_on(dir, &Placement::default())
    }

    /// As [`Decoder::load`], to a device and dtype. One tensor at a time is in host memory.
    ///
    /// # Errors
    /// As [`Decoder::load`], and when the device is out of memory.
    pub fn load_on(dir: impl AsRef<Path>, placement: &Placement) -> Result<Self> {
        Self::load_with(dir.as_ref(), placement, |spec, files| Ok((Parameters::load(spec, files, placement)?, None)))
    }

    /// As [`Decoder::load_on`], with every parameter frozen and the matrices in a storage of few bits. What is to be
    /// trained can be made trainable afterwards.
    ///
    /// # Errors
    /// As [`Decoder::load_on`], and when a module to skip is no valid pattern.
    pub fn load_frozen(dir: impl AsRef<Path>, placement: &Placement, storage: &Storage) -> Result<Self> {
        Self::load_with(dir.as_ref(), placement, |spec, files| {
            Ok((Parameters::load_frozen(spec, files, placement, storage)?, None))
        })
    }

    /// As [`Decoder::load_frozen`], but of every block only the part that this process keeps of `peers`, all of which do so: a
    /// block is gathered when it is used. What is made trainable afterwards is whole in each process.
    ///
    /// # Errors
    /// As [`Decoder::load_on`], and for weights in packed blocks.
    pub fn load_frozen_parts(dir: impl AsRef<Path>, placement: &Placement, peers: Arc<dyn Peers>) -> Result<Self> {
        Self::load_in_parts(dir.as_ref(), placement, false, peers)
    }

    /// As [`Decoder::load_frozen_parts`], with every parameter trainable: gradients of blocks are in parts too.
    ///
    /// # Errors
    /// As [`Decoder::load_frozen_parts`].
    pub fn load_parts(dir: impl AsRef<Path>, placement: &Placement, peers: Arc<dyn Peers>) -> Result<Self> {
        Self::load_in_parts(dir.as_ref(), placement, true, peers)
    }

    fn load_in_parts(dir: &Path, placement: &Placement, trained: bool, peers: Arc<dyn Peers>) -> Result<Self> {
        Self::load_with(dir, placement, |spec, files| {
            let place = [peers.rank(), peers.world()];
            let (parameters, blocks) = Parameters::load_parts(spec, files, placement, trained, place)?;
            Ok((parameters, Some(Shards::new(blocks, peers))))
        })
    }

    fn load_with(
        dir: &Path,
        placement: &Placement,
        load: impl FnOnce(&DecoderSpec, &WeightFiles) -> Result<(Parameters, Option<Arc<Shards>>)>,
    ) -> Result<Self> {
        let config = Config::from_dir(dir)?;
        refuse_device(config.spec(), placement)?;
        let (files, names) = config.open_weights(dir)?;
        let (parameters, shards) = load(config.spec(), &files)?;
        let mut decoder = Self::build(config, parameters, placement)?;
        decoder.wrapped = names.map(|names| Arc::new(Wrapped { names, files }));
        decoder.shards = shards;
        Ok(decoder)
    }

    /// As [`Decoder::init`], with every parameter frozen and the matrices in bfloat16 or packed.
    ///
    /// # Errors
    /// When a tensor cannot be created.
    pub fn init_frozen(config: &Config, seed: u64, placement: &Placement, storage: &Storage) -> Result<Self> {
        refuse_device(config.spec(), placement)?;
        Self::build(config.clone(), Parameters::draw_frozen(config.spec(), seed, placement, storage)?, placement)
    }

    /// A model with random weights: matrices and embedding from N(0, `initializer_range`²), the same for the same seed.
    ///
    /// # Errors
    /// When a tensor cannot be created.
    pub fn init(config: &Config, seed: u64) -> Result<Self> {
        Self::init_on(config, seed, None, &Placement::default())
    }

    /// As [`Decoder::init`], to a device and dtype, with another standard deviation for the embedding where one is given.
    ///
    /// # Errors
    /// When a tensor cannot be created.
    pub fn init_on(config: &Config, seed: u64, embedding_std: Option<f64>, placement: &Placement) -> Result<Self> {
        if let Some(architecture) = config.wrapper() {
            return Err(ModelError::input(
                "model to make anew",
                "the configuration of a text model",
                format!("that of a {architecture}, whose other half would be missing"),
            ));
        }
        refuse_device(config.spec(), placement)?;
        let embedding_std = embedding_std.unwrap_or(config.spec().initializer_range);
        let parameters = Parameters::draw(config.spec(), seed, embedding_std, placement)?;
        Self::build(config.clone(), parameters, placement)
    }

    fn build(config: Config, mut parameters: Parameters, placement: &Placement) -> Result<Self> {
        let spec = config.spec();
        let layers = spec.layers.iter().enumerate();
        let blocks = layers
            .map(|(index, layer)| Block::take(&mut parameters, spec, layer, &block_prefix(index)))
            .collect::<Result<_>>()?;
        let embedding = parameters.take_matrix(EMBEDDING)?;
        let head = match spec.tied {
            true => Linear { module: HEAD.into(), weight: embedding.clone(), bias: None, adapter: None },
            false => Linear::take(&mut parameters, if spec.labels.is_some() { SCORE } else { HEAD })?,
        };
        let norm = parameters.take(FINAL_NORM)?;
        let (lora, trained_tokens, wrapped, shards, placement) = (None, Vec::new(), None, None, placement.clone());
        Ok(Self { embedding, blocks, norm, head, config, lora, trained_tokens, wrapped, shards, placement })
    }

    /// Configuration of the model.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Decoder specification.
    pub fn spec(&self) -> &DecoderSpec {
        self.config.spec()
    }

    /// Device and dtype of activations and of all parameters, adapters included; on the CPU frozen matrices may be in fewer
    /// bits.
    pub fn placement(&self) -> Placement {
        self.placement.clone()
    }

    /// A copy on another device or in another dtype, with variables of its own for this one's variables.
    ///
    /// # Errors
    /// When memory is exhausted, or blocks are in parts in several processes.
    pub fn placed(&self, placement: &Placement) -> Result<Self> {
        refuse_device(self.spec(), placement)?;
        self.expect_whole("model to copy")?;
        let mut copy = self.clone();
        copy.placement = placement.clone();
        let mut result = Ok(());
        copy.visit_mut(|parameter| {
            if result.is_ok() {
                result = parameter.place(placement);
            }
        });
        result?;
        if !placement.is_host() {
            // No device has a kernel for these.
            copy.unpack(|_| true)?;
        }
        Ok(copy)
    }

    /// Hidden states after the final norm, (`N`, `H`).
    ///
    /// # Errors
    /// When a token id is not below `V`.
    pub fn hidden(&self, batch: &PackedBatch) -> Result<Tensor> {
        self.hidden_of(batch, &Pass::of(batch))
    }

    /// Hidden states after the final norm of the rows that predict a scored token, (`M`, `H`).
    ///
    /// # Errors
    /// When a token id is not below `V`.
    pub fn predicting(&self, batch: &PackedBatch) -> Result<Tensor> {
        self.hidden_of(batch, &Pass { keep: Some(batch.rows()), ..Pass::of(batch) })
    }

    /// Hidden states of a pass over a batch.
    pub(crate) fn hidden_of(&self, batch: &PackedBatch, pass: &Pass<'_>) -> Result<Tensor> {
        let mut attend = |layer: &_, heads| attend_packed(self.spec(), layer, &heads, batch.segments());
        self.run(batch.input_ids(), pass, &mut attend)
    }

    /// Embedding, all blocks with their attention, and the final norm.
    pub(crate) fn run(&self, ids: &[u32], pass: &Pass<'_>, attention: &mut impl Attention) -> Result<Tensor> {
        self.run_embedded(self.embed(ids)?, pass, attention)
    }

    /// All blocks on embedded tokens, and the final norm.
    pub(crate) fn run_embedded(
        &self,
        embedded: Tensor,
        pass: &Pass<'_>,
        attention: &mut impl Attention,
    ) -> Result<Tensor> {
        let positional = self.positional(pass)?;
        let mut stream = Stream::new(embedded);
        for index in 0..self.blocks.len() {
            Tape::mark(index);
            stream = self.run_block(index, stream, &positional, pass, attention)?;
        }
        Tape::mark(self.depth());
        self.finish(stream)
    }

    /// Runs one block.
    pub(crate) fn run_block(
        &self,
        index: usize,
        stream: Stream,
        positional: &Positional,
        pass: &Pass<'_>,
        attention: &mut impl Attention,
    ) -> Result<Stream> {
        self.fetch(index)?;
        let stream = self.attention_half(index, stream, positional, pass, attention)?;
        let block = &self.blocks[index];
        if block.is_frozen() && stream.rows() > self.feed_forward_rows(index) {
            return self.feed_forward_in_parts(index, stream, pass);
        }
        block.feed_forward_half(self.spec(), stream, pass.feed_forward(0, Product::Computed))
    }

    fn attention_half(
        &self,
        index: usize,
        stream: Stream,
        positional: &Positional,
        pass: &Pass<'_>,
        attention: &mut impl Attention,
    ) -> Result<Stream> {
        let layer = &self.spec().layers[index];
        let keep = pass.keep.filter(|_| index + 1 == self.blocks.len());
        let input = AttentionInput {
            stream,
            positions: Positions {
                angles: layer.rope.map(|rope| &positional.angles[rope]),
                query_factors: positional.query_factors.as_ref(),
            },
            keep,
            dropout: pass.dropout(),
            segments: pass.segments,
        };
        self.blocks[index].attention_half((self.spec(), layer), input, attention)
    }

    /// Runs a block up to its feed-forward layer, as [`Stream::joined`].
    pub(crate) fn run_attention(
        &self,
        index: usize,
        input: &Tensor,
        positional: &Positional,
        pass: &Pass<'_>,
        segments: &Segments,
    ) -> Result<Tensor> {
        let mut attend = |layer: &_, heads| attend_packed(self.spec(), layer, &heads, segments);
        self.attention_half(index, Stream::new(input.clone()), positional, pass, &mut attend)?.joined()
    }

    /// The feed-forward layer on some rows, from `first_row` on, of the output of [`Decoder::run_attention`]. It serves the
    /// backward pass: its values are unspecified.
    pub(crate) fn feed_forward_for_backward(
        &self,
        index: usize,
        rows: &Tensor,
        first_row: usize,
        pass: &Pass<'_>,
    ) -> Result<Tensor> {
        let stream = Stream::within_block(self.spec(), rows.clone())?;
        let pass = pass.feed_forward(first_row, Product::ForBackward);
        self.blocks[index].feed_forward_half(self.spec(), stream, pass)?.sum()
    }

    /// The feed-forward layer part by part: its intermediate values, several times wider than its input, never exist for
    /// all rows.
    fn feed_forward_in_parts(&self, index: usize, stream: Stream, pass: &Pass<'_>) -> Result<Stream> {
        let whole = stream.joined()?;
        let (rows, most) = (whole.dim(0)?, self.feed_forward_rows(index));
        let mut parts = Vec::new();
        for first in (0..rows).step_by(most) {
            let part = whole.narrow(0, first, most.min(rows - first))?;
            let stream = Stream::within_block(self.spec(), part)?;
            let pass = pass.feed_forward(first, Product::Computed);
            parts.push(self.blocks[index].feed_forward_half(self.spec(), stream, pass)?.sum()?);
        }
        Ok(Stream::new(Tensor::cat(&parts, 0)?))
    }

    /// Number of rows in one part of the feed-forward layer of a block.
    pub(crate) fn feed_forward_rows(&self, index: usize) -> usize {
        // DoRA's norms of a whole weight would be computed once per part. Experts have parts of their own: their tokens.
        let dora = self.lora.as_ref().is_some_and(|lora| lora.dora);
        let whole = dora || self.spec().layers[index].routed;
        match whole {
            true => usize::MAX,
            false => feed_forward_rows(self.spec().intermediate_size, self.placement.runs_kernels_of_a_device()),
        }
    }

    /// Index of the first block with a trained parameter, 0 if the embedding is trained; the depth if none is.
    pub(crate) fn first_trained_block(&self) -> usize {
        if self.embedding_is_trained() {
            return 0;
        }
        self.blocks.iter().position(|block| !block.is_frozen()).unwrap_or(self.blocks.len())
    }

    /// True if the embedding is trained.
    pub(crate) fn embedding_is_trained(&self) -> bool {
        self.embedding.is_trained()
    }

    /// Embeddings of the ids, (`N`, `H`), scaled if the family does.
    pub(crate) fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        self.scale_embedded(embedding(self.embedding.weight(), ids)?)
    }

    /// Rows of the embedding as the first block reads them.
    pub(crate) fn scale_embedded(&self, x: Tensor) -> Result<Tensor> {
        match self.spec().embedding_scale {
            Some(scale) => Ok((x * scale)?),
            None => Ok(x),
        }
    }

    /// The final norm.
    pub(crate) fn finish(&self, stream: Stream) -> Result<Tensor> {
        let (_, normed) = stream.normed(Some(&self.norm), self.spec())?;
        Ok(normed)
    }

    /// Tensors that depend on the positions of a pass.
    pub(crate) fn positional(&self, pass: &Pass<'_>) -> Result<Positional> {
        positional(self.spec(), pass.positions, pass.lengths, &self.placement())
    }

    /// Brings the weights of a block into memory.
    pub(crate) fn fetch(&self, block: usize) -> Result<()> {
        self.shards.as_ref().map_or(Ok(()), |shards| shards.fetch(block))
    }

    /// The range of a trained parameter's values that each process keeps, and those of this one, flat; `None` for one that is
    /// whole in memory.
    pub fn trained_part(&self, parameter: &Tensor) -> Option<(Vec<Range<usize>>, Tensor)> {
        self.shards.as_ref()?.trained_part(parameter)
    }

    /// Moves the gradients of the trained parts that this process keeps to `gradients`.
    pub fn take_gradients(&self, gradients: &mut Gradients) {
        if let Some(shards) = &self.shards {
            shards.take_gradients(gradients);
        }
    }

    /// Forgets the block that was gathered last, since its parts have new values.
    ///
    /// # Errors
    /// When a device has no memory left.
    pub fn forget_block(&self) -> Result<()> {
        self.shards.as_ref().map_or(Ok(()), |shards| shards.forget())
    }

    /// Adds the gradient of a block to that of all processes, where it is trained in parts.
    pub(crate) fn reduce(&self, block: usize, gradients: &mut Gradients) -> Result<()> {
        self.shards.as_ref().map_or(Ok(()), |shards| shards.reduce(block, gradients))
    }

    /// Brings the weights of the block into memory that has a tensor or module of that name, if one is in parts.
    ///
    /// # Errors
    /// When another process is gone.
    pub fn fetch_of(&self, name: &str) -> Result<()> {
        let Some(shards) = &self.shards else { return Ok(()) };
        shards.block_of(name).map_or(Ok(()), |block| shards.fetch(block))
    }

    /// The block of a parameter, if it is in parts.
    pub(crate) fn block_of(&self, parameter: &Parameter) -> Option<(Arc<Shards>, usize)> {
        let shards = self.shards.as_ref()?;
        Some((Arc::clone(shards), shards.block_of(&parameter.name)?))
    }

    /// Takes the parameters that `wanted` accepts out of those in parts: whole in this process, by themselves.
    pub(crate) fn make_whole(&mut self, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let Some(shards) = self.shards.clone() else { return Ok(()) };
        let mut result = Ok(());
        self.visit_mut(|parameter| {
            let block = shards.block_of(&parameter.name).filter(|_| result.is_ok() && wanted(&parameter.name));
            let Some(block) = block else { return };
            match shards.fetch(block).and_then(|()| Ok(parameter.tensor.copy()?)) {
                Ok(copy) => parameter.tensor = copy.detach(),
                Err(error) => result = Err(error),
            }
        });
        result
    }

    /// Refuses a model whose blocks are in parts in several processes.
    pub(crate) fn expect_whole(&self, what: &str) -> Result<()> {
        match self.shards {
            Some(_) => {
                Err(ModelError::input(what, "one that is whole in one process", "one in parts (zero_stage = 3)"))
            }
            None => Ok(()),
        }
    }

    /// Number of blocks.
    pub(crate) fn depth(&self) -> usize {
        self.blocks.len()
    }

    /// The head's input from hidden states: scaled as the logits are to be.
    pub(crate) fn head_input(&self, hidden: &Tensor) -> Result<Tensor> {
        match self.spec().logit_scale {
            Some(scale) => Ok((hidden * scale)?),
            None => Ok(hidden.clone()),
        }
    }

    /// The head's options for the fused log-probabilities.
    pub(crate) fn head_options(&self) -> HeadOptions {
        HeadOptions { soft_cap: self.spec().logit_soft_cap, ..HeadOptions::default() }
    }

    /// The model with every parameter frozen, sharing memory: forward passes record no graph, and updates of the
    /// original's variables are visible.
    pub fn frozen(&self) -> Self {
        let mut copy = self.clone();
        copy.visit_mut(|parameter| parameter.tensor = parameter.tensor.detach());
        copy
    }

    /// Trainable variables, by their names in the weight file.
    pub fn trainable(&self) -> Vec<(String, Var)> {
        self.base_parameters()
            .chain(self.linears().into_iter().filter_map(|l| l.adapter.as_ref()).flat_map(Adapter::parameters))
            .filter_map(|p| Some((p.name.clone(), p.var()?)))
            .collect()
    }

    /// The mark that a backward pass has reached once the gradient of each trainable parameter is whole, in the order of
    /// [`Decoder::trainable`]: the number of its block, for final norm and head the number of blocks. The embedding's, a tied
    /// head's too, is whole only at the end: it has none.
    pub fn gradient_marks(&self) -> Vec<Option<usize>> {
        let mut marks = HashMap::new();
        let mut put = |parameter: &Parameter, mark| {
            marks.insert(parameter.tensor.id(), mark);
        };
        for (index, block) in self.blocks.iter().enumerate() {
            block.vectors().for_each(|parameter| put(parameter, index));
            for linear in block.linears() {
                linear.parameters().for_each(|parameter| put(parameter, index));
            }
        }
        put(&self.norm, self.depth());
        self.head.parameters().for_each(|parameter| put(parameter, self.depth()));
        if let Some(embedding) = self.embedding.parameter() {
            marks.remove(&embedding.tensor.id());
        }
        self.trainable().into_iter().map(|(_, var)| marks.get(&var.id()).copied()).collect()
    }

    /// Makes exactly the parameters trainable whose names `wanted` accepts. Variables obtained before are stale.
    ///
    /// # Errors
    /// When a tensor cannot be created.
    pub fn set_trainable(&mut self, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let placement = self.placement();
        let mut result = Ok(());
        self.visit_mut(|parameter| {
            if result.is_ok() {
                result = parameter.set_trainable(wanted(&parameter.name), &placement);
            }
        });
        result
    }

    /// Number of parameters, adapters not counted; a tied head counts once.
    pub fn parameter_count(&self) -> usize {
        let packed = self.packed().map(|packed| packed.weight.shape()).map(|(rows, columns)| rows * columns);
        self.base_parameters().map(|p| p.tensor.elem_count()).chain(packed).sum()
    }

    /// Refuses another model whose parameters are not those of this one.
    ///
    /// # Errors
    /// With the first parameter of another name or shape.
    pub fn check_same_parameters(&self, other: &Self) -> Result<()> {
        let described = |p: &Parameter| format!("{} {:?}", p.name, p.tensor.dims());
        let (mut own, mut others) = (self.base_parameters(), other.base_parameters());
        loop {
            match (own.next().map(described), others.next().map(described)) {
                (None, None) => return Ok(()),
                (own, other) if own == other => {}
                (own, other) => {
                    let or_nothing = |p: Option<String>| p.unwrap_or_else(|| "nothing more".to_owned());
                    return Err(ModelError::input("parameter of the other model", or_nothing(own), or_nothing(other)));
                }
            }
        }
    }

    /// Moves every parameter towards that of another model, `other`·`share` + own·(1 − `share`). Adapters stay, and the
    /// result is frozen.
    ///
    /// # Errors
    /// When the other model has other parameters.
    pub fn mix(&mut self, other: &Self, share: f64) -> Result<()> {
        self.check_same_parameters(other)?;
        let others: HashMap<&str, &Tensor> = other.base_parameters().map(|p| (p.name.as_str(), &p.tensor)).collect();
        let placement = self.placement();
        let mut result = Ok(());
        self.visit_mut(|parameter| {
            let Some(other) = others.get(parameter.name.as_str()).filter(|_| result.is_ok()) else { return };
            let own = placement.place(&parameter.tensor);
            let mixed =
                own.and_then(|own| Ok((own.affine(1.0 - share, 0.0)? + placement.place(other)?.affine(share, 0.0)?)?));
            match mixed {
                Ok(mixed) => parameter.tensor = mixed.detach(),
                Err(error) => result = Err(error),
            }
        });
        result
    }

    /// Size in memory of all frozen and trained parameters, adapters included, in bytes.
    pub fn parameter_bytes(&self) -> usize {
        let adapters = self.linears().into_iter().filter_map(|l| l.adapter.as_ref()).flat_map(Adapter::parameters);
        let size = |p: &Parameter| p.tensor.elem_count() * p.tensor.dtype().size_in_bytes();
        self.base_parameters().chain(adapters).map(size).chain(self.packed().map(|packed| packed.weight.bytes())).sum()
    }

    /// The embedding and the weights of all linear layers, a tied head's once.
    pub(crate) fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        let tied = self.head_is_tied();
        let linears = self.linears().into_iter().filter(move |linear| !(tied && linear.module == HEAD));
        [&self.embedding].into_iter().chain(linears.map(|linear| &linear.weight))
    }

    /// Packed weights.
    pub(crate) fn packed(&self) -> impl Iterator<Item = &PackedParameter> {
        self.matrices().filter_map(|matrix| match matrix {
            Matrix::Packed(packed) => Some(&**packed),
            Matrix::Tensor(_) => None,
        })
    }

    /// Names and shapes of the parameters that can be trained: all but adapters and what is frozen in four bits.
    pub(crate) fn can_be_trained(&self) -> Vec<(&str, Vec<usize>)> {
        let packed = self.matrices().filter(|matrix| matrix.is_exact());
        let packed = packed.filter_map(|matrix| Some((matrix.name(), matrix.shape().ok()?)));
        let own = self.base_parameters().map(|p| (p.name.as_str(), p.tensor.dims().to_vec()));
        own.chain(packed.map(|(name, (rows, columns))| (name, vec![rows, columns]))).collect()
    }

    /// Replaces packed weights by frozen tensors of the same values.
    ///
    /// # Errors
    /// When memory is exhausted.
    pub fn dequantise(&mut self) -> Result<()> {
        let placement = self.placement();
        self.change_matrices(|matrix| matrix.unpack(&placement))
    }

    /// Replaces the blocks of a GGUF file by frozen tensors of the same values where `wanted` accepts the name.
    pub(crate) fn unpack(&mut self, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let placement = self.placement();
        self.change_matrices(|matrix| match matrix.is_exact() && wanted(matrix.name()) {
            true => matrix.unpack(&placement),
            false => Ok(()),
        })
    }

    /// Applies `change` once to the embedding and to every weight of a linear layer, and points a tied head at the embedding
    /// again.
    pub(crate) fn change_matrices(&mut self, mut change: impl FnMut(&mut Matrix) -> Result<()>) -> Result<()> {
        let tied = self.head_is_tied();
        change(&mut self.embedding)?;
        for linear in self.linears_mut() {
            if !(tied && linear.module == HEAD) {
                change(&mut linear.weight)?;
            }
        }
        if tied {
            self.head.weight = self.embedding.clone();
        }
        Ok(())
    }

    /// All parameters except adapters and packed weights, in the layout's order.
    pub(crate) fn base_parameters(&self) -> impl Iterator<Item = &Parameter> {
        let head = if self.head_is_tied() { None } else { Some(&self.head) };
        self.embedding
            .parameter()
            .into_iter()
            .chain(self.blocks.iter().flat_map(|block| {
                let linears = block.linears().into_iter().flat_map(Linear::base_parameters);
                linears.chain(block.vectors())
            }))
            .chain([&self.norm])
            .chain(head.into_iter().flat_map(Linear::base_parameters))
    }

    /// Applies `change` once to every parameter, adapters included, and points a tied head at the embedding again.
    pub(crate) fn visit_mut(&mut self, mut change: impl FnMut(&mut Parameter)) {
        let tied = self.head_is_tied();
        self.embedding.parameter_mut().into_iter().for_each(&mut change);
        change(&mut self.norm);
        for block in &mut self.blocks {
            block.vectors_mut().into_iter().for_each(&mut change);
        }
        for linear in self.linears_mut() {
            if !(tied && linear.module == HEAD) {
                linear.base_parameters_mut().for_each(&mut change);
            }
            if let Some(adapter) = &mut linear.adapter {
                adapter.parameters_mut().for_each(&mut change);
            }
        }
        if tied {
            self.head.weight = self.embedding.clone();
        }
    }

    /// All linear layers, the head last.
    pub(crate) fn linears(&self) -> Vec<&Linear> {
        self.blocks.iter().flat_map(Block::linears).chain([&self.head]).collect()
    }

    pub(crate) fn linears_mut(&mut self) -> Vec<&mut Linear> {
        self.blocks.iter_mut().flat_map(Block::linears_mut).chain([&mut self.head]).collect()
    }

    /// True if the head is the embedding.
    pub(crate) fn head_is_tied(&self) -> bool {
        self.config.spec().tied
    }

    /// Puts `config`, the same model with another head, and its head in place of this one's.
    pub(crate) fn replace_head(&mut self, config: Config, head: Linear) {
        (self.config, self.head) = (config, head);
    }

    /// Sets the padding token, which no head of labels reads.
    pub fn set_pad_token(&mut self, id: u32) {
        self.config.set_pad_token(id);
    }

    /// Records another number of tokens.
    pub(crate) fn set_vocabulary(&mut self, vocabulary: usize) {
        self.config = self.config.clone().with_vocabulary(vocabulary);
    }

    /// Gives the head a weight of its own, a copy of the embedding.
    pub(crate) fn untie_head(&mut self) -> Result<()> {
        let copy = self.embedding.dense(&self.placement)?.copy()?;
        let tensor = Var::from_tensor(&copy)?.into_inner();
        self.head.weight = Parameter { name: format!("{HEAD}.weight"), tensor }.into();
        self.config.untie();
        Ok(())
    }
}

/// Number of rows in one part of a feed-forward layer of width `inner`: on the CPU a few megabytes of intermediate values,
/// enough for full speed. A device has products of few rows to launch and no speed from them: there it is as many rows as
/// fill the largest GPU.
pub(crate) fn feed_forward_rows(inner: usize, on_device: bool) -> usize {
    const VALUES: usize = 1 << 21;
    const DEVICE_ROWS: usize = 8192;
    if on_device { DEVICE_ROWS } else { (VALUES / inner).max(512) }
}

/// Inputs of a forward pass besides the ids.
#[derive(Clone, Copy)]
pub(crate) struct Pass<'a> {
    /// Position of each token, (`N`).
    pub positions: &'a [u32],
    /// Length of each token's sequence, (`N`).
    pub lengths: &'a [usize],
    /// Sequences of the tokens.
    pub segments: &'a Segments,
    /// Rows of the last block's output; `None` is all.
    pub keep: Option<&'a [u32]>,
    /// Seed of the adapters' dropout; `None` disables it.
    pub dropout_seed: Option<u64>,
    /// Counts the load of experts.
    pub balance: Option<&'a Arc<Balance>>,
}

impl<'a> Pass<'a> {
    /// A pass over all rows of a batch, without dropout.
    pub fn of(batch: &'a PackedBatch) -> Self {
        Self {
            positions: batch.positions(),
            lengths: batch.lengths(),
            segments: batch.segments(),
            keep: None,
            dropout_seed: None,
            balance: None,
        }
    }

    /// The part of it through a feed-forward layer, on the rows from `first_row` on.
    pub fn feed_forward(&self, first_row: usize, last: Product) -> FeedForwardPass<'a> {
        let dropout = self.dropout().map(|dropout| dropout.at_row(first_row));
        FeedForwardPass { dropout, last, balance: self.balance }
    }

    /// Dropout of the adapters on all rows.
    pub fn dropout(&self) -> Option<Dropout> {
        self.dropout_seed.map(|seed| Dropout { seed, first_row: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_gets_many_rows_of_a_feed_forward_layer_at_a_time() {
        let decoder = Decoder::load(smpo_fixtures::golden("model", "qwen2")).unwrap();
        let inner = decoder.spec().intermediate_size;
        assert_eq!(decoder.feed_forward_rows(0), feed_forward_rows(inner, false));
        assert_eq!(smpo_kernels::emulate(|| decoder.feed_forward_rows(0)), 8192);
        assert_eq!([feed_forward_rows(8960, false), feed_forward_rows(8960, true)], [512, 8192]);
    }
}
