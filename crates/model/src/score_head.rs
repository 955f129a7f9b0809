//! A head of labels (`score`), which reads a whole sequence at its last token that is no padding, as the
//! `…ForSequenceClassification` classes of transformers do.

use std::path::Path;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::decoder::Decoder;
use crate::error::{ModelError, Result};
use crate::labels::Labels;
use crate::layout::SCORE;
use crate::linear::Linear;
use crate::parameter::{Parameter, normal};

/// Stream of the head's initial values, apart from those of random models and adapters of the same seed.
const STREAM: u64 = 1;

impl Decoder {
    /// Puts a new head of labels in place of the one that predicts tokens, its values from N(0, `initializer_range`²) as
    /// transformers draws them. A head of as many labels stays, under these names.
    ///
    /// # Errors
    /// When the family has no such class in transformers, or the model has a head of other labels.
    pub fn label_sequences(&mut self, labels: &Labels, seed: u64) -> Result<()> {
        let config = self.config().clone().with_labels(labels.clone())?;
        if self.config().labels().is_some() {
            let head = self.head.clone();
            self.replace_head(config, head);
            return Ok(());
        }
        let shape = [labels.count(), config.spec().hidden_size];
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(STREAM);
        let values = normal(&mut rng, shape[0] * shape[1], config.spec().initializer_range);
        let weight = Parameter::trainable(format!("{SCORE}.weight"), values, &shape, &self.placement())?;
        self.replace_head(config, Linear { module: SCORE.into(), weight: weight.into(), bias: None, adapter: None });
        Ok(())
    }

    /// Refuses a model whose head gives no tokens; `path` names it.
    ///
    /// # Errors
    /// [`ModelError::Head`].
    pub fn expect_language_model(&self, path: &Path) -> Result<()> {
        match self.config().labels() {
            None => Ok(()),
            Some(labels) => Err(ModelError::Head {
                path: path.to_path_buf(),
                expected: "a language model",
                got: labels.to_string(),
            }),
        }
    }

    /// The labels of the head; refuses a model whose head gives tokens. `path` names it.
    ///
    /// # Errors
    /// [`ModelError::Head`].
    pub fn expect_labels(&self, path: &Path) -> Result<&Labels> {
        self.config().labels().ok_or_else(|| ModelError::Head {
            path: path.to_path_buf(),
            expected: "a reward model or a classifier (a `…ForSequenceClassification` of transformers)",
            got: "a language model, which gives no rewards".to_owned(),
        })
    }
}
