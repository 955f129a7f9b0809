"""Golden values for smpo-losses from TRL itself: its trainers' loss functions, called on given token log-probs.

The functions are those of the installed package, with a stand-in for the trainer and for the model, whose outputs are the
log-probs of each batch; token weights are autograd's of TRL's own graph.

    python generate_trl.py > golden_trl.json      # trl 1.16.0, torch 2.15.0, Python 3.11, seed below
"""

import json
import platform
import sys
from collections import defaultdict
from types import SimpleNamespace

import torch
import trl
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.kto_trainer import KTOTrainer

from generate import rounded  # seeds torch, before this file does

SEED = 20261128
torch.manual_seed(SEED)
torch.set_default_dtype(torch.float64)


def completion(length):
    logps = (-6.0 * torch.rand(length).pow(3)).clamp(max=-1e-3)
    reference = (logps + 0.5 * torch.randn(length)).clamp(max=-1e-3)
    # −log Σ p²: between 0 and twice the token's own −log p
    entropy = -2.0 * logps * torch.rand(length)
    return {"logps": logps.tolist(), "ref_logps": reference.tolist(), "entropy": entropy.tolist()}


def batches():
    lengths = {"plain": [(5, 7), (9, 4), (3, 3), (6, 11), (1, 2), (8, 8)], "two": [(4, 6), (7, 3)]}
    of = lambda sides: [{"chosen": completion(c), "rejected": completion(r)} for c, r in sides]
    return {name: of(sides) for name, sides in lengths.items()}


class Rows:
    """Chosen rows over rejected ones, padded: the layout of TRL's collator after one prompt token."""

    def __init__(self, pairs, dtype):
        self.pairs = pairs
        sides = [pair["chosen"] for pair in pairs] + [pair["rejected"] for pair in pairs]
        width = max(len(side["logps"]) for side in sides)
        pad = lambda key: torch.tensor([side[key] + [0.0] * (width - len(side[key])) for side in sides], dtype=dtype)
        self.logps, self.reference, self.entropy = pad("logps").requires_grad_(), pad("ref_logps"), pad("entropy")
        self.lengths = torch.tensor([len(side["logps"]) for side in sides])
        self.mask = (torch.arange(width)[None, :] < self.lengths[:, None]).long()

    def inputs(self):
        first = torch.zeros(len(self.mask), 1, dtype=torch.long)
        completion_mask = torch.cat([first, self.mask], 1)
        ids = torch.ones_like(completion_mask)
        return {"input_ids": ids, "attention_mask": ids, "completion_mask": completion_mask}

    def model(self, **_):
        # TRL's fused head gives 0 where there is no label
        logps = self.logps * self.mask
        nothing = torch.zeros_like(logps)
        return SimpleNamespace(
            log_probs=logps,
            log_sum_sq_probs=-self.entropy,
            entropy=nothing,
            mean_logits=nothing,
            is_top1=nothing.bool(),
        )

    def result(self, loss):
        (grad,) = torch.autograd.grad(loss, self.logps)
        rows = [grad[i, : self.lengths[i]].tolist() for i in range(len(grad))]
        count = len(self.pairs)
        return {"loss": loss.item(), "chosen_weights": rows[:count], "rejected_weights": rows[count:]}


def accelerator():
    same = lambda value: value
    return SimpleNamespace(device=torch.device("cpu"), gather=same, gather_for_metrics=same)


def trainer(**arguments):
    return SimpleNamespace(
        model=SimpleNamespace(training=False),
        accelerator=accelerator(),
        aux_loss_enabled=False,
        precompute_ref_logps=True,
        _metrics={"eval": defaultdict(list)},
        _total_train_tokens=0,
        **arguments,
    )


def dpo(rows, arguments):
    defaults = {
        "beta": 0.1,
        "loss_types": ["sigmoid"],
        "ld_alpha": None,
        "f_divergence_type": "reverse_kl",
        "f_alpha_divergence_coef": 0.5,
        "label_smoothing": 0.0,
        "use_weighting": False,
        "args": SimpleNamespace(discopop_tau=0.05),
    }
    given = {**defaults, **arguments}
    given.setdefault("loss_weights", [1.0] * len(given["loss_types"]))
    inputs = rows.inputs()
    if given["ld_alpha"] is None:
        reference = (rows.reference * rows.mask).sum(1)
    else:
        half = len(rows.mask) // 2
        shared = torch.minimum(rows.lengths[:half], rows.lengths[half:]).repeat(2)[:, None]
        weight = torch.where(rows.mask.cumsum(1) <= shared, 1.0, given["ld_alpha"])
        reference = (rows.reference * rows.mask * weight).sum(1)
    inputs["ref_chosen_logps"], inputs["ref_rejected_logps"] = reference.chunk(2)
    return DPOTrainer._compute_loss(trainer(**given), rows.model, inputs, False)


def kto(rows, arguments):
    defaults = {"beta": 0.1, "loss_type": "kto", "desirable_weight": 1.0, "undesirable_weight": 1.0}
    given = {**defaults, "calculate_KL": True, "_tp_size": 1, **arguments}
    given["calculate_KL"] = given["loss_type"] == "kto"
    half = len(rows.mask) // 2
    inputs = rows.inputs()
    inputs["label"] = torch.tensor([True] * half + [False] * half)
    inputs["ref_logps"] = (rows.reference * rows.mask).sum(1)
    # one completion of another prompt, more likely under the policy by 0.4 nats
    inputs["ref_KL_logps"] = torch.tensor([-1.9])
    stand_in = trainer(**given)
    stand_in._compute_kl_logps = lambda *_: torch.tensor([-1.5])
    return KTOTrainer._compute_loss(stand_in, rows.model, inputs, False)


def scores(rows, mean):
    total = (rows.logps * rows.mask).sum(1)
    return (total / rows.lengths if mean else total).chunk(2)


def chosen_nll(rows):
    half = len(rows.mask) // 2
    return -(rows.logps * rows.mask)[:half].sum() / rows.mask[:half].sum()


def cpo(rows, arguments):
    defaults = {"beta": 0.1, "loss_type": "sigmoid", "label_smoothing": 0.0, "cpo_alpha": 1.0}
    given = {**defaults, "simpo_gamma": 0.5, "alpha": 0.0, **arguments}
    stand_in = SimpleNamespace(accelerator=accelerator(), **given)
    losses, _, _ = CPOTrainer.cpo_loss(stand_in, *scores(rows, given["loss_type"] in ["ipo", "simpo"]))
    return losses.mean() + given["cpo_alpha"] * chosen_nll(rows)


def orpo(rows, arguments):
    stand_in = SimpleNamespace(accelerator=accelerator(), beta=arguments.get("beta", 0.1))
    losses = ORPOTrainer.odds_ratio_loss(stand_in, *scores(rows, True))[0]
    return chosen_nll(rows) - losses.mean()


def cases():
    """Our configuration, TRL's trainer and its arguments."""
    of_dpo = lambda ours, **theirs: ({"kind": "dpo", **ours}, dpo, theirs)
    alike = ["sigmoid", "hinge", "nca_pair", "bco_pair", "sppo_hard", "aot", "aot_unpaired", "apo_zero", "apo_down"]
    for name in [*alike, "discopop", "sigmoid_norm"]:
        yield of_dpo({"loss_type": name}, loss_types=[name])
    yield of_dpo({"loss_type": "ipo_norm"}, loss_types=["ipo"])
    for name in ["exo_pair", "robust", "aot"]:
        yield of_dpo({"loss_type": name, "label_smoothing": 0.1}, loss_types=[name], label_smoothing=0.1)
    listed = {"loss_type": ["sigmoid", "bco_pair", "sft"], "loss_weights": [0.8, 0.2, 1.0]}
    yield of_dpo(listed, loss_types=listed["loss_type"], loss_weights=listed["loss_weights"])
    for name in ["forward_kl", "js_divergence", "alpha_divergence"]:
        yield of_dpo({"f_divergence_type": name}, f_divergence_type=name)
    yield of_dpo({"ld_alpha": 0.3, "beta": 0.4}, ld_alpha=0.3, beta=0.4)
    yield of_dpo({"use_weighting": True}, use_weighting=True)
    weighted = {"use_weighting": True, "beta": 0.3}
    yield of_dpo({**weighted, "loss_type": ["sigmoid", "apo_zero"]}, loss_types=["sigmoid", "apo_zero"], **weighted)
    for loss_type in ["sigmoid", "hinge", "ipo"]:
        yield {"kind": "cpo", "loss_type": loss_type}, cpo, {"loss_type": loss_type}
    yield {"kind": "cpo", "label_smoothing": 0.1, "cpo_alpha": 0.5}, cpo, {"label_smoothing": 0.1, "cpo_alpha": 0.5}
    yield {"kind": "cpo", "alpha": 0.02}, cpo, {"alpha": 0.02}
    simpo = {"kind": "simpo", "beta": 2.0, "gamma": 1.0, "sft_weight": 0.0}
    theirs = {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 1.0, "cpo_alpha": 0.0}
    yield simpo, cpo, theirs
    yield {**simpo, "alpha": 0.25}, cpo, {**theirs, "alpha": 0.25}
    yield {**simpo, "sft_weight": 1.0}, cpo, {**theirs, "cpo_alpha": 1.0}
    yield {"kind": "orpo", "lambda": 0.1}, orpo, {}
    yield {"kind": "kto"}, kto, {}
    weights = {"desirable_weight": 1.33, "undesirable_weight": 0.7, "beta": 0.3}
    yield {"kind": "kto", **weights}, kto, weights
    yield {"kind": "kto", "loss_type": "apo_zero_unpaired"}, kto, {"loss_type": "apo_zero_unpaired"}


def main():
    data = rounded(batches())
    out = []
    for config, function, arguments in cases():
        for batch in data:
            # TRL's alpha divergence knows no float64
            single = config.get("f_divergence_type") == "alpha_divergence"
            rows = Rows(data[batch], torch.float32 if single else torch.float64)
            expected = rows.result(function(rows, arguments))
            out.append({"config": config, "batch": batch, "expected": rounded(expected)})
    versions = {"trl": trl.__version__, "torch": torch.__version__, "python": platform.python_version()}
    json.dump({"seed": SEED, "versions": versions, "batches": data, "cases": out}, sys.stdout, separators=(",", ":"))


if __name__ == "__main__":
    main()
