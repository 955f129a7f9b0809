"""One row of CSV per evaluated model of finished recipes.

    python3 studies/termination/collect.py OUT SCREEN… > studies/termination/results/NAME.csv
    python3 studies/termination/collect.py --prompts OUT SCREEN… > …    # one row per prompt or held-out pair, the primary measures
    python3 studies/termination/collect.py --early OUT SCREEN… > …      # one row per run: its metrics at the first fifth of training

OUT/SCREEN is the output directory of a recipe that tiny.py or real.py wrote.
"""

import csv
import json
import re
import sys
from pathlib import Path

METRICS = [
    "eos_rate", "loop_rate", "runaway_rate", "empty_rate", "same_answer", "exact_match", "stops_when_right", "length",
    "eos_logp_gold", "gold_nll", "pref_accuracy", "pref_accuracy_without_eos", "margin",
]
TRAINING = ["eos_logp/rejected", "clip/share_rejected", "logps/chosen", "logps/rejected"]
MODEL = ["screen", "arm", "learning_rate", "sft_seed", "seed"]
PRIMARY = ["eos_logp_gold", "eos_rate", "gold_nll", "pref_accuracy_without_eos"]
WINDOW = 10  # steps that the alarms average over
# What a pair loss's metrics.jsonl says of terminators and answers, by step.
WATCHED = ["eos_logp/chosen", "eos_logp/rejected", "logps/chosen", "logps/rejected"]
# ARM_RATE-SFT_SEED-SEED; the model before is start-SFT_SEED.
TRAINED = re.compile(r"(?P<arm>.+)_(?P<rate>[0-9.]+(?:e-[0-9]+)?)-(?:(?P<sft>\d+)-)?(?P<seed>\d+)$")
START = re.compile(r"start(?:-(?P<sft>\d+))?$")


def last(path):
    """The last row of a run's metrics that has a loss."""
    row = {}
    if path.exists():
        for line in path.read_text().splitlines():
            record = json.loads(line)
            if "loss" in record:
                row = record
    return row


def evaluations(out, screen):
    """Directory and model of every finished evaluation."""
    for file in sorted((out / screen).glob("eval/*/*/metrics.json")):
        name = file.parent.name
        trained, start = TRAINED.match(name), START.match(name)
        if trained:
            model = {"arm": trained["arm"], "learning_rate": trained["rate"], "sft_seed": trained["sft"] or 1, "seed": trained["seed"]}
        elif start:
            model = {"arm": "start", "sft_seed": start["sft"] or 1}
        else:
            sys.exit(f"{file}: expected a name as in ARM_RATE-SFT_SEED-SEED, got {name}")
        yield file.parent, {"screen": screen} | model


def shown(numbers):
    return {key: f"{value:.5g}" for key, value in numbers.items() if value is not None}


def models(out, screen):
    for folder, model in evaluations(out, screen):
        found = {}
        for entry in json.loads((folder / "metrics.json").read_text())["metrics"]:
            if entry["slice"] == "all" or entry["slice"] == "held_out":
                found.setdefault(entry["metric"], entry["value"])
        trace = last(out / screen / "train" / folder.name / "metrics.jsonl")
        yield model | shown({key: found.get(key) for key in METRICS} | {key: trace.get(key) for key in TRAINING})


def prompts(out, screen):
    for folder, model in evaluations(out, screen):
        for row in map(json.loads, (folder / "measurements.jsonl").read_text().splitlines()):
            values = {key: sum(found) / len(found) for key in PRIMARY if (found := row["values"].get(key))}
            yield model | {"prompt": row["prompt_id"]} | shown(values)


def early(out, screen):
    """Means over the steps before a fifth of training, from 15 % on, and over the first 5 %; and what the alarms see of the whole run."""
    for folder, model in evaluations(out, screen):
        path = out / screen / "train" / folder.name / "metrics.jsonl"
        steps = [row for line in (path.read_text().splitlines() if path.exists() else []) if "loss" in (row := json.loads(line))]
        if not steps or any(key not in steps[0] for key in WATCHED):
            continue
        last = steps[-1]["step"]
        numbers = {}
        for part, low, high in [("first", 0.0, 0.05), ("early", 0.15, 0.2)]:
            rows = [row for row in steps if low * last < row["step"] <= high * last]
            numbers |= {f"{part}/{key}": sum(row[key] for row in rows) / len(rows) for key in WATCHED}
        eos = [row["eos_logp/rejected"] for row in steps]
        means = [sum(eos[end - WINDOW : end]) / WINDOW for end in range(WINDOW, len(eos) + 1)]
        numbers |= {"lowest": min(means), "largest_fall": means[0] - min(means)}
        yield model | shown(numbers)


TASKS = {
    "--models": (models, [*MODEL, *METRICS, *TRAINING]),
    "--prompts": (prompts, [*MODEL, "prompt", *PRIMARY]),
    "--early": (early, [*MODEL, *(f"{part}/{key}" for part in ("first", "early") for key in WATCHED), "lowest", "largest_fall"]),
}


def main():
    task, *arguments = sys.argv[1:] if sys.argv[1:2] and sys.argv[1].startswith("--") else ["--models", *sys.argv[1:]]
    if task not in TASKS or len(arguments) < 2:
        sys.exit(__doc__)
    rows, columns = TASKS[task]
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    writer.writeheader()
    for screen in arguments[1:]:
        writer.writerows(rows(Path(arguments[0]), screen))


if __name__ == "__main__":
    main()
