"""Golden values of the losses of whole sequences (reward models, classifiers), in PyTorch with autograd.

    python generate_pooled.py > golden_pooled.json      # torch 2.15.0, Python 3.11, seed below
"""

import json
import platform
import sys

import torch
import torch.nn.functional as F

SEED = 20261128
torch.manual_seed(SEED)
torch.set_default_dtype(torch.float64)

REWARDS = {
    "plain": {"chosen": [1.25, -0.5, 3.0, 0.0], "rejected": [0.75, 0.5, -2.0, 0.0], "margin": None},
    "margins": {"chosen": [1.25, -0.5, 3.0, 0.0], "rejected": [0.75, 0.5, -2.0, 0.0], "margin": [0.5, 1.0, 0.0, -0.25]},
    "far": {"chosen": [80.0, -900.0], "rejected": [-70.0, 900.0], "margin": None},
}


def reward(config, batch):
    chosen = torch.tensor(batch["chosen"], requires_grad=True)
    rejected = torch.tensor(batch["rejected"], requires_grad=True)
    margin = torch.tensor(batch["margin"] or [0.0] * len(chosen))
    rows = -F.logsigmoid(chosen - rejected - margin)
    rows = rows + config.get("center_rewards_coefficient", 0.0) * (chosen + rejected) ** 2
    loss = rows.mean()
    loss.backward()
    return {
        "loss": loss.item(),
        "rows": rows.tolist(),
        "chosen_weights": chosen.grad.tolist(),
        "rejected_weights": rejected.grad.tolist(),
        "accuracy": (chosen > rejected).double().mean().item(),
        "mean": torch.cat([chosen, rejected]).mean().item(),
    }


VALUES = {
    "plain": [[1.25, -0.5, 3.0], [0.0, 0.0, 0.0], [-2.0, 0.75, 0.5], [0.1, 0.2, -0.3]],
    "far": [[80.0, -900.0, 3.0], [-70.0, 900.0, 0.0], [0.0, 0.0, 700.0], [1.0, 2.0, 3.0]],
}
ONE = [[2], [1], [0], [1]]
SEVERAL = [[0, 2], [], [1], [0, 1, 2]]


def classification(values, labels, several):
    z = torch.tensor(values, requires_grad=True)
    if several:
        target = torch.zeros_like(z)
        for row, of_row in enumerate(labels):
            target[row, of_row] = 1.0
        rows = F.binary_cross_entropy_with_logits(z, target, reduction="none").mean(-1)
        loss = torch.nn.BCEWithLogitsLoss()(z, target)
    else:
        target = torch.tensor([label for (label,) in labels])
        rows = F.cross_entropy(z, target, reduction="none")
        loss = torch.nn.CrossEntropyLoss()(z, target)
    loss.backward()
    return {"loss": loss.item(), "rows": rows.tolist(), "weights": z.grad.tolist()}


def label_cases():
    for several, labels in [(False, ONE), (True, SEVERAL)]:
        config = {"kind": "classification", "labels": ["a", "b", "c"]}
        if several:
            config["problem_type"] = "multi_label_classification"
        for name, values in VALUES.items():
            expected = classification(values, labels, several)
            name = f"{name}, {'several labels' if several else 'one label'}"
            yield {"name": name, "config": config, "values": values, "labels": labels, "expected": expected}


def main():
    cases = []
    for config in [{"kind": "reward"}, {"kind": "reward", "center_rewards_coefficient": 0.01}]:
        for name, batch in REWARDS.items():
            cases.append({"config": config, "batch": batch, "expected": reward(config, batch), "name": name})
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    json.dump({"seed": SEED, "versions": versions, "rewards": cases, "labels": list(label_cases())}, sys.stdout, separators=(",", ":"))


if __name__ == "__main__":
    main()
