"""Arms that were thought of after the plan was frozen, from what the screens showed; AMENDMENT.md says why and how they are judged."""

from arms import SMPO, WINSOR

# The pair loss stops where the margin is met, `smooth_lower_bound`, so that steep rates do not overshoot; the terminator is kept
# by the EOS term, which stops with it, or by cross-entropy, which does not.
MET = SMPO | {"loss_type": "smooth_lower_bound", "target_margin": 1.0}
LATER = {
    "smpo-met": MET,
    "smpo-met-invert": MET | {"eos_term": "invert"},
    "smpo-met-anchor0.1": MET | {"eos_anchor": 0.1},
    "smpo-met-mask-anchor0.1": MET | {"eos_term": "mask", "eos_anchor": 0.1},
    "smpo-met-mask-anchor0.3": MET | {"eos_term": "mask", "eos_anchor": 0.3},
}

# The second amendment: the published recipe with the loss type and numbers of its authors' code, with and without the transforms.
AUTHORS = {"kind": "smpo", "loss_type": "smooth_lower_bound", "beta": 1.2, "target_margin": 0.35, "chosen_sft_ratio": 0.8}
LATER |= {
    "smpo-authors-regular": AUTHORS,
    "smpo-authors": AUTHORS | WINSOR | {"eos_term": "invert", "min_log_prob": -2.3},
}

# Chosen on development worlds: the one that kept most at every rate, the one with the published EOS term, and their loss without
# either, as a control.
CONFIRMED_LATER = ["smpo-met", "smpo-met-invert", "smpo-met-mask-anchor0.1"]
CONFIRMED_LATER += ["smpo-authors-regular", "smpo-authors"]
