//! `measurements.jsonl`: the metric values of one prompt. The unit of every comparison is the prompt.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One prompt's values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// [`crate::SCHEMA_VERSION`] of the writer.
    pub schema: u32,
    /// Id of the prompt (or held-out pair).
    pub prompt_id: String,
    /// Its slice; held-out preference pairs have the slice `held_out`.
    pub slice: String,
    /// Metric id to values: one per sample for sampled metrics (`eos_rate`, `loop_rate`…), one for
    /// teacher-forced ones (`eos_logp_gold`, `pref_accuracy`…). A metric that does not apply is absent.
    pub values: BTreeMap<String, Vec<f64>>,
}
