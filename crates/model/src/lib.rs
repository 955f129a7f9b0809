//! One trainable decoder, the model families mapped to it, weights and LoRA.
