//! The profiles, one file each.

mod axolotl;
mod ela;
mod halo;
mod llamafactory;
mod model_config;
mod transformers;
mod trl;

use crate::profile::Profile;

/// Every profile, in the order of the documentation.
pub static PROFILES: [&Profile; 5] =
    [&trl::TRL, &llamafactory::LLAMA_FACTORY, &halo::HALO, &ela::ELA, &axolotl::AXOLOTL];
