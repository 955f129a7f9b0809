"""Worlds and recipes of the real part with rejected answers of two lengths to the same chosen answers (AMENDMENT-lengths.md), beside those of real.py.

    python3 studies/termination/lengths.py OUT MODEL PAIRS.jsonl…
    smpo run OUT/real-confirm-lengths-{shorter,equal}-0.0002.toml

OUT is that of `real.py OUT MODEL … confirm`, with the model's own answers as gold: prompts and gold answers are taken from there. PAIRS.jsonl, one file for
each author of rejected answers, have the same chosen answer to a prompt.
"""

import math
import sys
from pathlib import Path

import real
from tiny import suite

ARMS = ["smpo", "smpo-invert", "smpo-met-mask-anchor0.1", "dpo"]
RATE = 2e-4
HELD_OUT = 28  # of 122 that fit, so that as many are trained on as in the other real worlds
# Rejected length as a part of the chosen one: below or between, and what it comes nearest to.
KINDS = {"shorter": (0.0, 0.5, 0.25), "equal": (0.8, 1.25, 1.0)}


def answers(sources):
    """Prompt -> its chosen answer and the rejected ones, of pairs as long as those of real.py."""
    found = {}
    for source in sources:
        for kind in ("shorter", "equal", "longer"):
            for half in real.HALVES.values():
                for row in real.pairs(source, kind, half):
                    chosen, rejected = found.setdefault(row["prompt"], (row["chosen"], []))
                    if row["chosen"] != chosen:
                        sys.exit(f"{source}: another chosen answer to {row['prompt']!r} than in an earlier file")
                    rejected.append(row["rejected"])
    return found


def of_kind(kind, chosen, rejected):
    """The rejected answer of this kind that is nearest to its length, or None."""
    low, high, wanted = KINDS[kind]
    ratio = lambda answer: len(answer) / len(chosen)
    fitting = [answer for answer in rejected if low <= ratio(answer) < high]
    return min(fitting, key=lambda answer: abs(math.log(ratio(answer) / wanted)), default=None)


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    out, model, sources = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    worlds = {kind: [] for kind in KINDS}
    found = answers(sources)
    for prompt in sorted(found, key=lambda prompt: real.part(prompt)[1], reverse=True):
        chosen, rejected = found[prompt]
        sides = {kind: of_kind(kind, chosen, rejected) for kind in KINDS}
        if all(sides.values()):
            for kind, side in sides.items():
                worlds[kind].append({"id": real.part(prompt)[1][:12], "prompt": prompt, "chosen": chosen, "rejected": side})
    for kind, rows in worlds.items():
        folder = out / f"confirm-lengths-{kind}"
        folder.mkdir(parents=True, exist_ok=True)
        train = rows[HELD_OUT:]
        real.write(folder / "preferences.jsonl", train)
        real.write(folder / "held_out.jsonl", rows[:HELD_OUT])
        (folder / "ood.jsonl").write_bytes((out / "confirm-shorter/ood.jsonl").read_bytes())
        suite(folder / "suite.toml", folder.name, real.SLICES, real.CAP)
        name = f"real-{folder.name}-{RATE:g}"
        real.recipe(out / f"{name}.toml", out / name, model, folder, ARMS, RATE, 1)
        print(f"{kind}: {len(train)} pairs to train on, {HELD_OUT} held out")


if __name__ == "__main__":
    main()
