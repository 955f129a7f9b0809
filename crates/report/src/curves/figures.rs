//! Sections and titles of the figures. Figures that are not listed come last under their own names.

use std::collections::BTreeSet;

use super::chart::Chart;
use super::{Run, Section};

type Listed = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const SECTIONS: &[Listed] = &[
    (
        "Does the model still stop?",
        "The terminator on rejected answers is what a preference loss pushes down first; the probe shows what comes of it \
         on prompts unlike the training data.",
        &[
            ("eos_logp/rejected", "log p of EOS on rejected, nats"),
            ("eos_logp/chosen", "log p of EOS on chosen, nats"),
            ("eos_logp/rejected_min", "lowest log p of EOS on rejected, nats"),
            ("probe/eos_rate", "probe: completions that end"),
            ("probe/loop_rate", "probe: completions that loop"),
            ("probe/length", "probe: length, tokens"),
            ("probe/eos_logp", "probe: log p of EOS, teacher-forced, nats"),
        ],
    ),
    (
        "Is the preference learned?",
        "On training rows, and on rows that are never trained on. Accuracies and margins of log p are the model's own; those \
         of rewards are the loss's, on transformed log-probs.",
        &[
            ("logps/accuracies", "pairs with the larger mean log p on chosen"),
            ("logps/accuracies_without_eos", "the same without terminators"),
            ("logps/margins", "margin of the mean log p, nats"),
            ("eval_logps/accuracies", "held out: accuracy by log p"),
            ("eval_logps/accuracies_without_eos", "held out: the same without terminators"),
            ("eval_logps/margins", "held out: margin of the mean log p, nats"),
            ("rewards/accuracies", "pairs with the larger reward on chosen"),
            ("rewards/margins", "margin of the rewards"),
            ("eval_rewards/accuracies", "held out: pairs with the larger reward on chosen"),
            ("eval_rewards/margins", "held out: margin of the rewards"),
            ("accuracy", "texts of which exactly the labels were found"),
            ("f1/macro", "mean F1 of the labels"),
            ("f1/micro", "F1 of all labels together"),
            ("eval_accuracy", "held out: texts of which exactly the labels were found"),
            ("eval_f1/macro", "held out: mean F1 of the labels"),
            ("eval_f1/micro", "held out: F1 of all labels together"),
            ("eval_loss", "held out: loss"),
            ("eval_eos_logp/rejected", "held out: log p of EOS on rejected, nats"),
        ],
    ),
    (
        "Loss",
        "The objective and its parts, as weighted in it.",
        &[
            ("loss", "loss"),
            ("po_loss", "pair loss"),
            ("sft_chosen_loss", "cross-entropy on chosen"),
            ("sft_rejected_loss", "cross-entropy on rejected"),
            ("eos_anchor_loss", "cross-entropy on terminators"),
        ],
    ),
    (
        "Log-probs",
        "Mean per token, in nats. Both falling together is displacement: the model prefers neither answer.",
        &[
            ("logps/chosen", "log p of chosen"),
            ("logps/rejected", "log p of rejected"),
            ("rewards/chosen", "reward of chosen"),
            ("rewards/rejected", "reward of rejected"),
            ("kl", "KTO's baseline, or k3 of groups, nats"),
            ("distill/divergence", "divergence from the teacher"),
            ("distill/agreement", "share of tokens on which both agree"),
            ("group/reward", "reward of a group's completions"),
            ("group/reward_std", "its deviation in a group"),
        ],
    ),
    (
        "Clipping and optimizer",
        "",
        &[
            ("clip/share_rejected", "share of rejected tokens clipped"),
            ("clip/bound", "lower bound on rejected, nats"),
            ("clip/share_chosen", "share of chosen tokens clipped"),
            ("clip/bound_chosen", "upper bound on chosen, nats"),
            ("target_margin", "target margin γ"),
            ("lr", "learning rate"),
            ("grad_norm", "gradient norm before clipping"),
            ("tokens_per_s", "tokens per second"),
            ("loss_scale", "loss scale of float16"),
            ("skipped_steps", "steps skipped"),
        ],
    ),
];

/// Figures without a chart.
const NOT_DRAWN: &[&str] = &["step", "epoch"];

pub(super) fn sections(runs: &[Run]) -> Vec<Section> {
    let listed: BTreeSet<&str> =
        SECTIONS.iter().flat_map(|(_, _, figures)| figures.iter().map(|(name, _)| *name)).collect();
    let rest: BTreeSet<&str> = runs
        .iter()
        .flat_map(|run| &run.series)
        .map(|series| series.name.as_str())
        .filter(|name| !listed.contains(name) && !NOT_DRAWN.contains(name))
        .collect();
    let mut sections: Vec<Section> = SECTIONS
        .iter()
        .map(|(title, about, figures)| Section {
            title,
            about,
            charts: figures.iter().filter_map(|(name, title)| Chart::new(title, name, runs)).collect(),
        })
        .collect();
    let charts = rest.into_iter().filter_map(|name| Chart::new(name, name, runs)).collect();
    sections.push(Section { title: "Everything else", about: "", charts });
    sections.retain(|section| !section.charts.is_empty());
    sections
}
