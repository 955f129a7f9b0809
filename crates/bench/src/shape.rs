//! Model sizes: published configurations, for models with random weights.

use serde_json::{Value, json};
use smpo_model::Config;

use crate::error::BenchError;

/// A model's sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Two blocks of 64: a check that the bench runs, not a measurement.
    Tiny,
    /// Six blocks of 256, a vocabulary of 8,192: 6 million parameters in the blocks.
    SixMillion,
    /// The same blocks with Qwen's vocabulary of 151,936: nearly all parameters are in the head.
    SixMillionWideHead,
    /// Twelve blocks of 768, a vocabulary of 32,768.
    HundredMillion,
    /// Qwen2.5-0.5B.
    Qwen25Half,
    /// Qwen2.5-1.5B.
    Qwen25OneAndHalf,
    /// Qwen2.5-7B.
    Qwen25Seven,
}

impl Shape {
    /// All shapes, smallest first.
    pub const ALL: [Self; 7] = [
        Self::Tiny,
        Self::SixMillion,
        Self::SixMillionWideHead,
        Self::HundredMillion,
        Self::Qwen25Half,
        Self::Qwen25OneAndHalf,
        Self::Qwen25Seven,
    ];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::SixMillion => "6m",
            Self::SixMillionWideHead => "6m-wide-head",
            Self::HundredMillion => "100m",
            Self::Qwen25Half => "qwen2.5-0.5b",
            Self::Qwen25OneAndHalf => "qwen2.5-1.5b",
            Self::Qwen25Seven => "qwen2.5-7b",
        }
    }

    /// Model configuration, parsed from the fields of its `config.json`.
    ///
    /// # Errors
    /// None that a caller can cause.
    pub fn config(self) -> Result<Config, BenchError> {
        // hidden, feed-forward, blocks, heads, key heads, vocabulary, tied
        let (hidden, inner, layers, heads, kv_heads, vocabulary, tied) = match self {
            Self::Tiny => (64, 128, 2, 4, 2, 512, true),
            Self::SixMillion => (256, 672, 6, 8, 2, 8192, false),
            Self::SixMillionWideHead => (256, 672, 6, 8, 2, 151_936, false),
            Self::HundredMillion => (768, 2048, 12, 12, 2, 32_768, true),
            Self::Qwen25Half => (896, 4864, 24, 14, 2, 151_936, true),
            Self::Qwen25OneAndHalf => (1536, 8960, 28, 12, 2, 151_936, true),
            Self::Qwen25Seven => (3584, 18_944, 28, 28, 4, 152_064, false),
        };
        let value: Value = json!({
            "model_type": "qwen2",
            "architectures": ["Qwen2ForCausalLM"],
            "hidden_act": "silu",
            "hidden_size": hidden,
            "intermediate_size": inner,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "vocab_size": vocabulary,
            "max_position_embeddings": 32_768,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1_000_000.0,
            "initializer_range": 0.02,
            "tie_word_embeddings": tied,
            "use_sliding_window": false,
        });
        Ok(Config::from_json(value)?)
    }
}

#[cfg(test)]
mod tests {
    use smpo_model::layout;

    use super::*;

    #[test]
    fn shapes_have_the_published_numbers_of_parameters() {
        // The model cards: 0.49 B, 1.54 B and 7.61 B parameters.
        let published = [
            (Shape::Qwen25Half, 494_032_768),
            (Shape::Qwen25OneAndHalf, 1_543_714_304),
            (Shape::Qwen25Seven, 7_615_616_512usize),
        ];
        for (shape, published) in published {
            let config = shape.config().unwrap();
            let count: usize = layout(config.spec()).iter().map(|slot| slot.shape.iter().product::<usize>()).sum();
            assert_eq!(count, published, "{}", shape.name());
        }
    }
}
