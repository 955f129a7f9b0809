//! Conversions of values, by subject.

pub(crate) mod adapters;
pub(crate) mod axolotl;
pub(crate) mod dataset_info;
pub(crate) mod factory;
pub(crate) mod hub_names;
pub(crate) mod losses;
pub(crate) mod mixture;
pub(crate) mod run;
pub(crate) mod sources;
pub(crate) mod templates;
