"""World and recipe of the real part with pairs of the model's own completions (AMENDMENT-own.md), beside those of real.py.

    python3 studies/termination/own.py OUT MODEL
    smpo pairs MODEL --engine native --batch 32 --prompts OUT/confirm-own/prompts.toml --samples 8 --out OUT/confirm-own/pairs
    python3 studies/termination/own.py OUT MODEL            # the same again: with the pairs
    smpo run OUT/real-confirm-own-0.0002.toml

OUT is that of `real.py OUT MODEL … confirm`, with the model's own answers as gold: prompts and gold answers are taken from there. The prompts of the
pairs are of the development half.
"""

import json
import sys
from pathlib import Path

import real
from tiny import suite

ARMS = ["smpo", "dpo", "sft", "smpo-published"]
RATE = 2e-4
HELD_OUT, TRAIN = 40, 94


def asked():
    """English prompts of the development half, in the order of their hashes."""
    rows = [row for row in map(json.loads, real.PROMPTS.read_text().splitlines()) if row.get("language") == "en" and row["slice"] in real.SLICES]
    return sorted((row for row in rows if real.part(row["id"])[0] == "development"), key=lambda row: real.part(row["id"])[1])


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    out, model = Path(sys.argv[1]), sys.argv[2]
    folder = out / "confirm-own"
    folder.mkdir(parents=True, exist_ok=True)
    found = folder / "pairs/pairs.jsonl"
    if not found.exists():
        prompts = asked()
        real.write(folder / "ood.jsonl", prompts)
        suite(folder / "prompts.toml", "own", real.SLICES, real.CAP, pairs=False)
        print(f"{len(prompts)} prompts; next: smpo pairs, then this again")
        return
    rows = [json.loads(line) for line in found.read_text().splitlines()]
    train = rows[HELD_OUT : HELD_OUT + TRAIN]
    real.write(folder / "preferences.jsonl", train)
    real.write(folder / "held_out.jsonl", rows[:HELD_OUT])
    (folder / "ood.jsonl").write_bytes((out / "confirm-shorter/ood.jsonl").read_bytes())
    suite(folder / "suite.toml", folder.name, real.SLICES, real.CAP)
    name = f"real-{folder.name}-{RATE:g}"
    real.recipe(out / f"{name}.toml", out / name, model, folder, ARMS, RATE, 1)
    print(f"{len(train)} pairs to train on, {HELD_OUT} held out, of {len(rows)}")


if __name__ == "__main__":
    main()
