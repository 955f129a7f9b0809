//! The decoder: embedding, blocks, last norm, head.

use std::path::Path;

use candle_core::{Tensor, Var};
use smpo_kernels::{AttentionOptions, HeadOptions, Segments, attention, embedding, linear, selected_log_probs};

use crate::angles::angles;
use crate::batch::PackedBatch;
use crate::block::{Angles, Block, Heads, Stream, norm_options};
use crate::config::Config;
use crate::error::Result;
use crate::layout::{EMBEDDING, FINAL_NORM, HEAD, block_prefix};
use crate::linear::Linear;
use crate::parameter::{Parameter, Parameters};
use crate::spec::{DecoderSpec, LayerSpec};
use crate::weights::WeightFiles;

/// A language model whose every parameter can be trained. Weights are float32 on the CPU.
#[derive(Debug, Clone)]
pub struct Decoder {
    config: Config,
    embedding: Parameter,
    blocks: Vec<Block>,
    norm: Parameter,
    /// `None` when the head is the embedding.
    head: Option<Linear>,
}

impl Decoder {
    /// Loads a Hugging Face model directory; bfloat16 and float16 weights become float32. All parameters are trainable.
    ///
    /// # Errors
    /// When the configuration is not supported, or the weights are damaged or not those it describes.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let config = Config::from_dir(dir)?;
        let files = WeightFiles::open(dir, "model")?;
        let parameters = Parameters::load(config.spec(), &files)?;
        Self::build(config, parameters)
    }

    /// A model with fresh weights: matrices and embedding from N(0, `initializer_range`²), the same for the same seed.
    ///
    /// # Errors
    /// When a tensor cannot be made.
    pub fn init(config: &Config, seed: u64) -> Result<Self> {
        let std = config.spec().initializer_range;
        Self::init_with_embedding_std(config, seed, std)
    }

    /// As [`Decoder::init`], with another standard deviation for the embedding.
    ///
    /// # Errors
    /// When a tensor cannot be made.
    pub fn init_with_embedding_std(config: &Config, seed: u64, embedding_std: f64) -> Result<Self> {
        let parameters = Parameters::draw(config.spec(), seed, embedding_std)?;
        Self::build(config.clone(), parameters)
    }

    fn build(config: Config, mut parameters: Parameters) -> Result<Self> {
        let spec = config.spec();
        let blocks = (0..spec.layers.len())
            .map(|index| Block::take(&mut parameters, spec, &block_prefix(index)))
            .collect::<Result<_>>()?;
        let head = match spec.tied {
            true => None,
            false => Some(Linear::take(&mut parameters, HEAD)?),
        };
        Ok(Self { embedding: parameters.take(EMBEDDING)?, blocks, norm: parameters.take(FINAL_NORM)?, head, config })
    }

    /// The configuration it was made from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What drives it.
    pub fn spec(&self) -> &DecoderSpec {
        self.config.spec()
    }

    /// Hidden states after the last norm, (`N`, `H`).
    ///
    /// # Errors
    /// When a token id is not below `V`.
    pub fn hidden(&self, batch: &PackedBatch) -> Result<Tensor> {
        self.hidden_rows(batch, None)
    }

    /// The log-probability of each completion token given everything before it, in nats, (`M`) in the batch's order.
    ///
    /// The head runs on the `M` rows only, and what follows the last block's attention too: nothing else reaches them.
    ///
    /// # Errors
    /// When a token id is not below `V`.
    pub fn log_probs(&self, batch: &PackedBatch) -> Result<Tensor> {
        let hidden = self.hidden_rows(batch, Some(batch.rows()))?;
        let options = HeadOptions { soft_cap: self.spec().logit_soft_cap, ..HeadOptions::default() };
        Ok(selected_log_probs(&hidden, self.head_weight(), batch.targets(), options)?)
    }

    fn hidden_rows(&self, batch: &PackedBatch, rows: Option<&[u32]>) -> Result<Tensor> {
        self.run(batch.input_ids(), batch.positions(), batch.lengths(), rows, |layer, heads| {
            attend_packed(self.spec(), layer, &heads, batch.segments())
        })
    }

    /// Embeds, runs all blocks with `attend` as their attention, normalises; of the last block only the rows in `keep`.
    pub(crate) fn run(
        &self,
        ids: &[u32],
        positions: &[u32],
        lengths: &[usize],
        keep: Option<&[u32]>,
        mut attend: impl FnMut(&LayerSpec, Heads) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let spec = self.spec();
        let angles = self.angles(positions, lengths)?;
        let mut stream = self.embed(ids)?;
        let last = self.blocks.len() - 1;
        for (index, (block, layer)) in self.blocks.iter().zip(&spec.layers).enumerate() {
            let keep = keep.filter(|_| index == last);
            stream = block.forward(spec, stream, &angles[layer.rope], |heads| attend(layer, heads), keep)?;
        }
        self.finish(stream)
    }

    /// Embeddings of the ids, scaled if the family does.
    fn embed(&self, ids: &[u32]) -> Result<Stream> {
        let mut x = embedding(&self.embedding.tensor, ids)?;
        if let Some(scale) = self.spec().embedding_scale {
            x = (x * scale)?;
        }
        Ok(Stream::new(x))
    }

    fn finish(&self, stream: Stream) -> Result<Tensor> {
        let (_, normed) = stream.normed(&self.norm, norm_options(self.spec()))?;
        Ok(normed)
    }

    /// The angles of each of the spec's ropes.
    fn angles(&self, positions: &[u32], lengths: &[usize]) -> Result<Vec<Angles>> {
        self.spec().ropes.iter().map(|rope| angles(rope, positions, lengths)).collect()
    }

    /// Logits of hidden states, (`B`, `H`) to (`B`, `V`), capped if the family does.
    pub(crate) fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        let logits = linear(hidden, self.head_weight(), None)?;
        match self.spec().logit_soft_cap {
            None => Ok(logits),
            Some(cap) => Ok(((logits / cap)?.tanh()? * cap)?),
        }
    }

    /// The same model with every parameter frozen, sharing the memory: forward passes keep no graph, and updates of
    /// the original's variables show here too.
    pub fn frozen(&self) -> Self {
        let mut copy = self.clone();
        for parameter in copy.parameters_mut() {
            parameter.tensor = parameter.tensor.detach();
        }
        copy
    }

    fn head_weight(&self) -> &Tensor {
        match &self.head {
            Some(head) => &head.weight.tensor,
            None => &self.embedding.tensor,
        }
    }

    /// The variables that training changes, by their names in the weight file.
    pub fn trainable(&self) -> Vec<(String, Var)> {
        self.parameters().filter_map(|p| Some((p.name.clone(), p.var()?))).collect()
    }

    /// Makes exactly the parameters trainable whose names `wanted` accepts. Variables taken before are stale after it.
    ///
    /// # Errors
    /// When a tensor cannot be made.
    pub fn set_trainable(&mut self, wanted: impl Fn(&str) -> bool) -> Result<()> {
        for parameter in self.parameters_mut() {
            let trainable = wanted(&parameter.name);
            parameter.set_trainable(trainable)?;
        }
        Ok(())
    }

    /// How many numbers the model holds; a tied head counts once.
    pub fn parameter_count(&self) -> usize {
        self.parameters().map(|p| p.tensor.elem_count()).sum()
    }

    pub(crate) fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        [&self.embedding]
            .into_iter()
            .chain(self.blocks.iter().flat_map(|block| {
                let linears = block.linears().into_iter().flat_map(Linear::parameters);
                linears.chain(block.norms())
            }))
            .chain([&self.norm])
            .chain(self.head.iter().flat_map(Linear::parameters))
    }

    fn parameters_mut(&mut self) -> Vec<&mut Parameter> {
        let mut all = vec![&mut self.embedding, &mut self.norm];
        all.extend(self.head.iter_mut().flat_map(Linear::parameters_mut));
        for block in &mut self.blocks {
            all.extend(block.parameters_mut());
        }
        all
    }
}

/// Attention of packed tokens to their own segments.
pub(crate) fn attend_packed(
    spec: &DecoderSpec,
    layer: &LayerSpec,
    heads: &Heads,
    segments: &Segments,
) -> Result<Tensor> {
    let options =
        AttentionOptions { scale: spec.attention_scale, soft_cap: spec.attention_soft_cap, window: layer.window };
    Ok(attention(&heads.queries, &heads.keys, &heads.values, segments, options)?)
}
