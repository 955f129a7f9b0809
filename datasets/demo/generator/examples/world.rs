//! Writes preference pairs, held-out pairs and out-of-distribution prompts of another seed than the demo's:
//!
//! ```text
//! cargo run --release -p smpo-synth --example world -- DIR SEED [shortest|longest|equal|cut]
//! ```

use std::error::Error;
use std::path::Path;

use smpo_synth::{demo, ood, preference};

fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: world DIR SEED [shortest|longest|equal|cut]";
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (out, seed) = (arguments.first().ok_or(usage)?, arguments.get(1).ok_or(usage)?);
    let seed: u64 = seed.parse().map_err(|_| format!("SEED: expected a whole number, got {seed:?}; {usage}"))?;
    let given = arguments.get(2).map_or("shortest", String::as_str);
    let rejected = preference::Rejected::ALL.iter().find(|(name, _)| *name == given);
    let (_, rejected) = rejected.ok_or_else(|| format!("unknown kind of rejected answer {given:?}; {usage}"))?;

    let mut pairs = preference::pairs_against(*rejected, demo::PAIR_SEED + seed, demo::PAIRS + demo::HELD_OUT);
    let held_out = pairs.split_off(demo::PAIRS);
    let out = Path::new(out);
    std::fs::create_dir_all(out)?;
    std::fs::write(out.join("preferences.jsonl"), demo::pairs_jsonl("pref", &pairs))?;
    std::fs::write(out.join("held_out.jsonl"), demo::pairs_jsonl("held", &held_out))?;
    std::fs::write(out.join("ood.jsonl"), demo::ood_jsonl(&ood::prompts(demo::OOD_SEED + seed, demo::OOD_PROMPTS)))?;
    Ok(())
}
