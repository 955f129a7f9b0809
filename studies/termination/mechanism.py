"""Gradient weights on rejected answers over training, loss by loss, in the tiny development world.

    python3 studies/termination/mechanism.py OUT > studies/termination/results/mechanism.csv    # after run.sh screen OUT

Each loss trains from the same SFT model with a checkpoint every 15 steps; at each, `smpo logps` scores the same pairs and
`smpo explain` gives ∂L/∂ℓ of every token.
"""

import csv
import json
import subprocess
import sys
from pathlib import Path

import arms
from tiny import toml

SMPO = "target/release/smpo"
RATE, EVERY, PAIRS = 2e-4, 15, 64
LOSSES = [
    "sft", "dpo", "dpo-sft", "simpo-sft", "orpo", "npo-sft", "slime", "smpo", "smpo-mask", "smpo-floor4", "smpo-invert", "smpo-published",
    "smpo-anchor0.1",
]
# A token gives gradient if its weight is at least this share of the first mean weight on rejected tokens under SMPO.
SHARE = 0.01
COLUMNS = ["arm", "step", "eos_logp_chosen", "eos_logp_rejected", "push_on_terminator", "push_on_token", "share_on_terminator", "gives_gradient"]


def run(*arguments):
    subprocess.run([SMPO, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def train(base, pairs, arm, out):
    if (out / "model").exists():
        return
    settings = {
        "model_name_or_path": str(base), "output_dir": str(out), "dataset": str(pairs), "loss": arms.ARMS[arm], "learning_rate": RATE,
        "save_steps": EVERY, "save_total_limit": 100,
    }
    run("train", "configs/demo/control.toml", *(f"--set={key}={toml(value)}" for key, value in settings.items()))


def weights(model, base, pairs, arm, folder):
    """(logps, weight, is_terminator) of every token of `pairs`: those of chosen answers, those of rejected ones."""
    logps, config = folder / "logps.jsonl", folder / "loss.toml"
    reference = ["--reference", base] if arms.ARMS[arm]["kind"] in ("dpo", "npo") else []
    run("logps", model, pairs, "--out", logps, "--device", "cpu", *reference)
    config.write_text(f"loss = {toml(arms.ARMS[arm])}\n")
    explained = subprocess.run([SMPO, "explain", config, logps, "--format", "json"], check=True, capture_output=True, text=True).stdout
    by_pair = {pair["id"]: pair for pair in json.loads(explained)["pairs"]}
    sides = {"chosen": [], "rejected": []}
    for row in map(json.loads, logps.read_text().splitlines()):
        for side, tokens in sides.items():
            found = by_pair[row["id"]][f"{side}_weights"]
            tokens.extend(zip(row[side]["logps"], found, row[side]["is_terminator"], strict=True))
    return sides["chosen"], sides["rejected"]


def mean(values):
    return sum(values) / len(values)


def measure(chosen, rejected, scale):
    """A positive weight is a push: a step down the gradient lowers that log-prob."""
    on_terminators = [weight for _, weight, terminator in rejected if terminator]
    others = [weight for _, weight, terminator in rejected if not terminator]
    total = sum(map(abs, on_terminators + others))
    return {
        "eos_logp_chosen": mean([logp for logp, _, terminator in chosen if terminator]),
        "eos_logp_rejected": mean([logp for logp, _, terminator in rejected if terminator]),
        "push_on_terminator": mean(on_terminators) / scale,
        "push_on_token": mean(others) / scale,
        "share_on_terminator": sum(map(abs, on_terminators)) / total if total else 0.0,
        "gives_gradient": mean([abs(weight) >= SHARE * scale for _, weight, _ in rejected]),
    }


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out = Path(sys.argv[1])
    base = out / "screen" / "sft" / "start-1" / "model"
    world, folder = out / "worlds" / "dev-shortest", out / "mechanism"
    folder.mkdir(exist_ok=True)
    pairs = folder / "pairs.jsonl"
    with open(world / "preferences.jsonl") as rows:
        pairs.write_text("".join(row for row, _ in zip(rows, range(PAIRS))))
    scale = mean([abs(weight) for _, weight, _ in weights(base, base, pairs, "smpo", folder)[1]])
    writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for arm in LOSSES:
        train(base, world / "preferences.jsonl", arm, folder / arm)
        checkpoints = sorted((folder / arm / "checkpoints").glob("step-*/model"), key=lambda path: int(path.parent.name[5:]))
        last = int(json.loads((folder / arm / "metrics.jsonl").read_text().splitlines()[-1])["step"])
        models = [(0, base)] + [(int(path.parent.name[5:]), path) for path in checkpoints] + [(last, folder / arm / "model")]
        for step, model in models:
            found = measure(*weights(model, base, pairs, arm, folder), scale)
            writer.writerow({"arm": arm, "step": step} | {key: f"{value:.5g}" for key, value in found.items()})


if __name__ == "__main__":
    main()
