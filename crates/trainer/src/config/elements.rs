//! The keys by subject, one file each: their types, setters, ranges and derived values.

pub(super) mod adapter;
pub(super) mod alarms;
pub(super) mod checkpoints;
pub(super) mod data;
pub(super) mod device;
pub(super) mod evaluation;
pub(super) mod experts;
pub(super) mod lengths;
pub(super) mod memory;
pub(super) mod model;
pub(super) mod optimizer;
pub(super) mod probe;
pub(super) mod prompt;
pub(super) mod quantisation;
pub(super) mod reporting;
pub(super) mod schedule;
mod sharding;
pub(super) mod tokenizer;
