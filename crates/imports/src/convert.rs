//! Conversions of values, by subject.

pub(crate) mod adapters;
pub(crate) mod axolotl;
pub(crate) mod axolotl_entry;
pub(crate) mod dataset_info;
pub(crate) mod dataset_rows;
pub(crate) mod factory;
pub(crate) mod hub_names;
pub(crate) mod lengths;
pub(crate) mod losses;
pub(crate) mod mixture;
pub(crate) mod run;
pub(crate) mod sources;
pub(crate) mod templates;
