//! One trainable decoder, the model families mapped to it, weights and LoRA.
//!
//! A [`Config`] is a Hugging Face `config.json`; its [`Family`] turns it into a [`DecoderSpec`], and that alone drives
//! the [`Decoder`]. Adding a family is one file under `families/` and a row of the table there.
//!
//! Shapes: `N` packed tokens, `M` rows that predict a completion token, `H` hidden size, `V` vocabulary.
//! Log-probabilities are in nats.

mod angles;
mod attention;
mod batch;
mod block;
mod config;
mod decode;
mod decoder;
mod delta_net;
mod embedded;
mod error;
mod experts;
mod families;
mod feed_forward;
mod fields;
mod flops;
pub mod gguf;
mod info;
mod json_file;
mod labels;
mod layout;
mod linear;
mod logits;
mod lora;
mod matrix;
mod memory_estimate;
mod merge;
mod model_dir;
mod name_pattern;
mod parameter;
mod placement;
mod rope;
mod save;
mod score;
mod score_head;
mod shards;
mod spec;
mod stacked;
mod storage;
mod trainable;
mod weights;
mod wrapper;

pub use batch::{PackedBatch, PackedBatchBuilder};
pub use config::Config;
pub use decode::{DeviceDecoder, DeviceFeed, DeviceSequence, Feed, PackedDecoder, Scratch, Sequence, SequenceCache};
pub use decoder::Decoder;
pub use embedded::ScoredEmbeddings;
pub use error::{ModelError, Result};
pub use families::Family;
pub use flops::Flops;
pub use info::ModelInfo;
pub use labels::Labels;
pub use layout::{Role, Slot, layout};
pub use logits::{HeadStates, TrainedStates, Visit};
pub use lora::{AdapterInfo, AdapterSaveOptions, LoraConfig, LoraInit, TrainedBeside, labels_of_adapter};
pub use memory_estimate::{FrozenStorage, MemoryEstimate, Packed, StoredMatrices, TrainingShape};
pub use merge::{MergeMethod, MergeReport, merge};
pub use model_dir::ModelDir;
pub use placement::Placement;
pub use rope::{Frequencies, RopeScaling, RopeSpec};
pub use save::{SaveOptions, TOKENIZER_FILES, copy_tokenizer_files, files_left_behind};
pub use score::{ScoreOptions, Scored};
pub use shards::{OwnParts, PeerError, Peers};
pub use smpo_kernels::{DrawnToken, FourBitType, TokenDraw};
pub use spec::{
    Activation, Biases, BlockNorms, DecoderSpec, ExpertLayout, ExpertsSpec, FeedForward, LayerSpec, Projections,
    QkNorm, QueryGrowth,
};
pub use storage::{FourBitOptions, Storage};
pub use weights::WeightDtype;
