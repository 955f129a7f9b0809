"""World and recipes of the real part of the study (PLAN-real.md), on preference pairs that the reader brings.

    python3 studies/termination/real.py OUT MODEL PAIRS.jsonl {development|confirm} [SEEDS] [KIND]
    smpo eval MODEL --engine native --batch 32 --suite OUT/WORLD/prompts.toml --out OUT/WORLD/before
    python3 studies/termination/real.py …                  # the same again: with the model's own answers as gold
    smpo run OUT/RECIPE.toml                               # each recipe; with more SEEDS later, only new runs are made

SEEDS: preference seeds, 1 to 3 (default 1). KIND: rejected shorter (default), longer, or of equal length. PAIRS.jsonl has
rows of prompt, chosen and rejected, each a text or messages. Pairs and prompts are split into development and confirmation by
a hash of their text. Nothing of the pairs is committed.
"""

import hashlib
import json
import sys
from pathlib import Path

import arms
import later
from tiny import arm_table, suite

PROMPTS = Path("evals/ood-chat.jsonl")
SLICES = ["one_word", "ends_at_once", "arithmetic", "long_list", "creative", "role_play", "structured", "endless"]
TRAIN, HELD_OUT, ASKED, CAP = 110, 50, 100, 192
LEARNING_RATES = [2e-4, 5e-5]  # the steeper first: it shows most
ARMS = {
    "development": [
        "sft", "dpo", "dpo-sft", "simpo-sft", "slime", "simper", "smpo", "smpo-mask", "smpo-invert", "smpo-bounded",
        "smpo-floor4", "smpo-invert-floor4", "smpo-published", "smpo-merge0.5", "smpo-anchor0.1", "smpo-mask-anchor0.1",
    ],
    "confirm": ["sft", "dpo", "smpo", "smpo-mask", "smpo-invert", "smpo-published", "smpo-mask-anchor0.1", "smpo-met-mask-anchor0.1"],
}
HALVES = {"development": "development", "confirm": "confirmation"}
# Real answers are longer than the tiny world's: the recipe of the first look.
SMPO = {"beta": 2.5, "target_margin": 0.5}
MET = {"beta": 2.5}  # its margin is to be met, not a place on a slope


def part(text):
    """The half of the data that a text belongs to, and its place in it."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return ("development" if int(digest[0], 16) < 8 else "confirmation"), digest


def of_kind(kind, chosen, rejected):
    ratio = len(rejected) / len(chosen)
    return {"shorter": ratio < 0.8, "longer": ratio > 1.25, "equal": 0.8 <= ratio <= 1.25}[kind]


def text(side):
    return side if isinstance(side, str) else "\n".join(message["content"] for message in side)


def pairs(path, kind, half):
    rows = []
    for row in map(json.loads, Path(path).read_text().splitlines()):
        prompt, chosen, rejected = (text(row[key]).strip() for key in ("prompt", "chosen", "rejected"))
        fits = len(prompt) < 400 and 40 <= len(chosen) <= 2000 and 10 <= len(rejected) <= 1700
        if fits and of_kind(kind, chosen, rejected) and part(prompt)[0] == half:
            rows.append((part(prompt)[1], {"prompt": prompt, "chosen": chosen, "rejected": rejected}))
    return [dict(id=digest[:12], **row) for digest, row in sorted(rows, key=lambda entry: entry[0])]


def prompts(half, before):
    """Prompts of the half; gold answers are the file's, else what the model itself answered and ended."""
    own = {}
    if before.exists():
        for sample in map(json.loads, before.read_text().splitlines()):
            if sample["finish_reason"] == "eos" and sample["completion"].strip():
                own[sample["prompt_id"]] = sample["completion"].strip()
    rows = []
    for row in map(json.loads, PROMPTS.read_text().splitlines()):
        if row.get("language") == "en" and row["slice"] in SLICES and part(row["id"])[0] == half:
            if row["id"] in own:
                row.setdefault("reference", own[row["id"]])
            rows.append((part(row["id"])[1], row))
    return [row for _, row in sorted(rows, key=lambda entry: entry[0])][:ASKED]


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def recipe(path, out, model, folder, names, rate, seeds):
    """Writes the recipe of all arms at one learning rate."""
    lines = [f'model = "{model}"', f'out = "{out}"', f"seeds = {list(range(1, seeds + 1))}", "jobs = 1", ""]
    for arm in names:
        loss = (arms.ARMS | later.LATER)[arm]
        if loss["kind"] == "smpo":
            loss = loss | (MET if arm in later.LATER else SMPO)
        settings = {
            "loss": loss, "learning_rate": rate, "dataset": f"{folder}/preferences.jsonl", "dataset_sample": "null",
            "max_length": 768, "per_device_train_batch_size": 4, "num_train_epochs": 2, "use_peft": True, "lora_r": 16,
            "lora_alpha": 32, "lora_dropout": 0.0, "lora_target_modules": "all-linear",
        }
        lines += arm_table(arm, rate, settings)
    lines += ["[eval]", f'suites = ["{folder}/suite.toml"]', 'engine = "native"', "batch = 32", ""]
    path.write_text("\n".join(lines))


def main():
    if len(sys.argv) < 5 or sys.argv[4] not in ARMS:
        sys.exit(__doc__)
    out, model, source, task = Path(sys.argv[1]), *sys.argv[2:5]
    seeds = int(sys.argv[5]) if len(sys.argv) > 5 else 1
    kind = sys.argv[6] if len(sys.argv) > 6 else "shorter"
    half = HALVES[task]
    folder = out / f"{task}-{kind}"
    folder.mkdir(parents=True, exist_ok=True)
    found = pairs(source, kind, half)
    held_out = found[:HELD_OUT]
    train = found[HELD_OUT : HELD_OUT + TRAIN]
    write(folder / "preferences.jsonl", train)
    write(folder / "held_out.jsonl", held_out)
    write(folder / "ood.jsonl", prompts(half, folder / "before" / "samples.jsonl"))
    suite(folder / "prompts.toml", folder.name, SLICES, CAP, pairs=False)
    suite(folder / "suite.toml", folder.name, SLICES, CAP)
    for rate in LEARNING_RATES:
        name = f"real-{task}-{kind}-{rate:g}"
        recipe(out / f"{name}.toml", out / name, model, folder, ARMS[task], rate, seeds)
    print(f"{len(train)} pairs to train on, {len(held_out)} held out, of {len(found)} that fit")


if __name__ == "__main__":
    main()
