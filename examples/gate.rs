//! Gates a candidate evaluation against a baseline, without the command line.
//!
//! ```sh
//! cargo run --release --example gate -- runs/sft/eval runs/smpo/eval default
//! ```

use std::error::Error;
use std::path::Path;

use smpo_gate::{DecideOptions, Policy, Run, decide};
use smpo_report::verdict::text;
use smpo_results::Verdict;

/// The verdict on the evaluation directory `candidate` against `baseline`, under a shipped policy or a policy file.
pub fn run(baseline: &Path, candidate: &Path, policy: &str) -> Result<Verdict, Box<dyn Error>> {
    let policy = Policy::load(policy)?;
    // One evaluation directory per training seed on each side.
    let (baseline, candidate) = (vec![Run::load(baseline)?], vec![Run::load(candidate)?]);
    let verdict = decide(&policy, baseline, candidate, DecideOptions::default())?;
    println!("{}", text::render(&verdict, text::Style::default()));
    Ok(verdict)
}

#[allow(dead_code, reason = "the tests include this file for `run` alone")]
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [baseline, candidate, policy] = &arguments[..] else { return Err("expected BASELINE CANDIDATE POLICY".into()) };
    let verdict = run(Path::new(baseline), Path::new(candidate), policy)?;
    std::process::exit(u8::from(verdict.exit_code).into())
}
