//! Provenance: facts that all runs of a board share, and those of each run.

use std::collections::BTreeSet;

use smpo_results::{Board, RunManifest};

use crate::inert::short_line;
use crate::wording;

/// A field with its value, both on one line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fact {
    pub(crate) field: String,
    pub(crate) value: String,
}

/// One run of one entry.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) entry: String,
    pub(crate) source: String,
    pub(crate) arm: String,
    pub(crate) training_seed: String,
    pub(crate) weights: String,
    pub(crate) seed: String,
    pub(crate) fidelity: String,
    /// Facts that not all runs share.
    pub(crate) own: Vec<Fact>,
    /// Relative link to the full samples.
    pub(crate) samples: Option<String>,
}

/// The provenance of a board.
#[derive(Debug, Clone, Default)]
pub(crate) struct Provenance {
    pub(crate) shared: Vec<Fact>,
    pub(crate) runs: Vec<Run>,
}

fn fact(field: &str, value: impl AsRef<str>) -> Fact {
    Fact { field: field.to_owned(), value: short_line(value.as_ref(), 400) }
}

fn facts(run: &RunManifest) -> Vec<Fact> {
    let mut facts = vec![
        fact("Suite", &run.suite.name),
        fact("Suite SHA-256", &run.suite.sha256),
        fact("Prompts", wording::thousands(run.suite.prompts)),
        fact("Samples per prompt", run.samples_per_prompt.to_string()),
        fact(
            "Completions",
            if run.is_scored() { "generated elsewhere, scored here" } else { "sampled and measured here" },
        ),
    ];
    if let Some(pairs) = &run.suite.pairs_sha256 {
        facts.push(fact("Preference pairs SHA-256", pairs));
    }
    if let Some(sampler) = &run.sampler {
        facts.push(fact("Sampler", self::sampler(sampler)));
    }
    if let Some(cap) = run.cap {
        facts.push(fact("Cap", wording::count(cap as usize, "token")));
    }
    if let Some(set) = &run.terminators {
        let named: Vec<String> = set
            .ids
            .iter()
            .enumerate()
            .map(|(index, id)| match set.tokens.get(index) {
                Some(token) => format!("{token} ({id})"),
                None => id.to_string(),
            })
            .collect();
        facts.push(fact("Terminators", named.join(", ")));
    }
    if let Some(template) = &run.template_sha256 {
        facts.push(fact("Chat template SHA-256", template));
    }
    for (program, version) in &run.versions {
        facts.push(fact(&format!("Version of {}", short_line(program, 60)), version));
    }
    facts
}

pub(crate) fn sampler(sampler: &smpo_results::Sampler) -> String {
    if sampler.temperature == 0.0 {
        return "greedy".to_owned();
    }
    let mut parts = vec![format!("temperature {}", sampler.temperature)];
    parts.extend(sampler.top_k.map(|k| format!("top-k {k}")));
    parts.extend(sampler.top_p.map(|p| format!("top-p {p}")));
    parts.extend(sampler.min_p.map(|p| format!("min-p {p}")));
    parts.join(", ")
}

pub(crate) fn of(board: &Board) -> Provenance {
    let all: Vec<(&str, usize, &RunManifest, Option<&String>)> = board
        .entries
        .iter()
        .flat_map(|entry| {
            let runs = entry.provenance.iter().enumerate();
            runs.map(move |(index, run)| (entry.name.as_str(), index, run, entry.sample_files.get(index)))
        })
        .collect();
    let listed: Vec<Vec<Fact>> = all.iter().map(|(_, _, run, _)| facts(run)).collect();
    let sets: Vec<BTreeSet<&Fact>> = listed.iter().map(|facts| facts.iter().collect()).collect();
    let is_shared = |fact: &Fact| sets.iter().all(|set| set.contains(fact));
    let shared: Vec<Fact> =
        listed.first().map(|first| first.iter().filter(|fact| is_shared(fact)).cloned().collect()).unwrap_or_default();
    let runs = all
        .iter()
        .zip(&listed)
        .map(|((entry, _, run, samples), facts)| Run {
            entry: short_line(entry, 120),
            source: short_line(&run.model.source, 200),
            arm: run.model.arm.as_deref().map(|arm| short_line(arm, 60)).unwrap_or_default(),
            training_seed: run.model.training_seed.map(|seed| seed.to_string()).unwrap_or_default(),
            weights: run.model.weights_sha256.as_deref().map(|hash| short_line(hash, 64)).unwrap_or_default(),
            // completions from elsewhere have no known seed
            seed: if run.is_scored() { String::new() } else { run.seed.to_string() },
            fidelity: run.fidelity_max_abs_nats.map(|nats| format!("{nats:.1e} nats")).unwrap_or_default(),
            own: facts.iter().filter(|fact| !is_shared(fact)).cloned().collect(),
            samples: samples.and_then(|link| relative_link(link)),
        })
        .collect();
    Provenance { shared, runs }
}

/// A link that stays beside the page: percent-encoded, no scheme, no root, no parent. `None` for anything else.
pub(crate) fn relative_link(path: &str) -> Option<String> {
    let safe = !path.is_empty()
        && !path.starts_with(['/', '\\'])
        && path.split(['/', '\\']).all(|part| !part.is_empty() && part != "..")
        && !path.split('/').next().is_some_and(|first| first.contains(':'));
    safe.then(|| {
        path.bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                    char::from(byte).to_string()
                }
                _ => format!("%{byte:02X}"),
            })
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_beside_the_page() {
        assert_eq!(relative_link("samples/а b.jsonl").as_deref(), Some("samples/%D0%B0%20b.jsonl"));
        for outside in
            ["javascript:alert(1)", "/etc/passwd", "../x", "a/../../b", "//host/x", "https://x/y", "", "\\\\host"]
        {
            assert_eq!(relative_link(outside), None, "{outside}");
        }
    }
}
