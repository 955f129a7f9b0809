"""The arms of the study: one loss table each, in `ARMS`."""

SMPO = {"kind": "smpo", "loss_type": "sigmoid", "beta": 1.4, "target_margin": 0.4, "chosen_sft_ratio": 1.0}
WINSOR = {"lower_clip_percentile": 0.02}

# Baselines at the settings of their papers or authors' code.
BASELINES = {
    "sft": {"kind": "sft"},
    "dpo": {"kind": "dpo", "beta": 0.1},
    "dpo-sft": {"kind": "dpo", "beta": 0.1, "rpo_alpha": 1.0},
    "dpop": {"kind": "dpo", "beta": 0.1, "dpop_lambda": 50.0},
    "ipo": {"kind": "dpo", "loss_type": "ipo_norm", "beta": 0.1},
    "apo-zero": {"kind": "dpo", "loss_type": "apo_zero", "beta": 0.1},
    "cal-dpo": {"kind": "dpo", "loss_type": "cal", "beta": 0.01},
    "bdpo": {"kind": "dpo", "beta": 0.1, "bdpo_lambda": 0.5},
    "simpo": {"kind": "simpo", "beta": 2.0, "gamma": 1.0},
    "simpo-sft": {"kind": "simpo", "beta": 2.0, "gamma": 1.0, "sft_weight": 1.0},
    "cpo": {"kind": "cpo", "beta": 0.1},
    "orpo": {"kind": "orpo", "lambda": 0.1},
    "kto": {"kind": "kto", "beta": 0.1},
    "simper": {"kind": "simper"},
    "slime": {"kind": "slime"},
    "repo": {"kind": "repo", "gamma": 0.5},
    "npo-sft": {"kind": "npo", "beta": 0.1, "sft_weight": 1.0},
    "unlikelihood-sft": {"kind": "unlikelihood"},
}

# SMPO under the EOS terms and floors, winsorizing alone, and the published recipe with all three.
EOS_TERMS = ["off", "mask", "bounded", "invert"]
FLOORS = {"": None, "-floor6": -6.0, "-floor4": -4.0, "-floor2.3": -2.3}


def _transformed():
    arms = {}
    for term in EOS_TERMS:
        for suffix, floor in FLOORS.items():
            loss = dict(SMPO)
            if term != "off":
                loss["eos_term"] = term
            if floor is not None:
                loss["min_log_prob"] = floor
            arms["smpo" + ("" if term == "off" else f"-{term}") + suffix] = loss
    arms["smpo-winsor"] = SMPO | WINSOR
    arms["smpo-published"] = SMPO | WINSOR | {"eos_term": "invert", "min_log_prob": -2.3}
    return arms


# Remedies that the method's authors name beside the loss.
REMEDIES = {
    "smpo-beta0.5": SMPO | {"beta": 0.5},
    "smpo-merge0.5": SMPO,
}

# Candidates: the EOS term off or masked, and cross-entropy on terminators that no met margin switches off.
CANDIDATES = {
    f"smpo{'-mask' if mask else ''}-anchor{weight}": SMPO | ({"eos_term": "mask"} if mask else {}) | {"eos_anchor": weight}
    for mask in (False, True)
    for weight in (0.03, 0.1, 0.3)
}

# Parts of training configurations that belong to an arm besides its loss.
MERGED = {"smpo-merge0.5": 0.5}

ARMS = BASELINES | _transformed() | REMEDIES | CANDIDATES


# Arms that are screened with other kinds of rejected answers too.
SCREENED_BY_KIND = [
    "sft", "dpo", "dpo-sft", "simpo", "simpo-sft", "orpo", "kto", "simper", "slime", "bdpo", "smpo", "smpo-floor4",
    "smpo-mask", "smpo-invert", "smpo-bounded", "smpo-invert-floor4", "smpo-published", "smpo-merge0.5",
    "smpo-anchor0.1", "smpo-mask-anchor0.1",
]

# Confirmed: these, and the rival that kept the terminator in the screen against short rejected answers.
CONFIRMED = [*SCREENED_BY_KIND, "unlikelihood-sft"]

# Confirmed at a fourfold rate too, 2e-4, at which every arm has learned the preference and losses of the terminator show.
STEEPER_RATE = 2e-4
STEEPER = [
    "sft", "dpo-sft", "simpo-sft", "orpo", "smpo", "smpo-mask", "smpo-invert", "smpo-published", "smpo-merge0.5",
    "smpo-mask-anchor0.1",
]
