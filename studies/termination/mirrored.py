"""World and recipe of the real part with the sides of its pairs exchanged (AMENDMENT-mirrored.md), beside that of real.py.

    python3 studies/termination/mirrored.py OUT MODEL PAIRS.jsonl
    smpo run OUT/real-confirm-mirrored-0.0002.toml

OUT is that of `real.py OUT MODEL PAIRS.jsonl confirm`, with the model's own answers as gold: prompts and gold answers are taken from there.
"""

import sys
from pathlib import Path

import real
from tiny import suite

ARMS = ["smpo", "smpo-met-mask-anchor0.1", "smpo-invert", "smpo-published", "dpo", "smpo-mask-anchor0.1"]
RATE = 2e-4


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    out, model, source = Path(sys.argv[1]), *sys.argv[2:]
    folder = out / "confirm-mirrored"
    folder.mkdir(parents=True, exist_ok=True)
    found = [row | {"chosen": row["rejected"], "rejected": row["chosen"]} for row in real.pairs(source, "shorter", "confirmation")]
    real.write(folder / "preferences.jsonl", found[real.HELD_OUT : real.HELD_OUT + real.TRAIN])
    real.write(folder / "held_out.jsonl", found[: real.HELD_OUT])
    (folder / "ood.jsonl").write_bytes((out / "confirm-shorter/ood.jsonl").read_bytes())
    suite(folder / "suite.toml", folder.name, real.SLICES, real.CAP)
    name = f"real-confirm-mirrored-{RATE:g}"
    real.recipe(out / f"{name}.toml", out / name, model, folder, ARMS, RATE, 1)


if __name__ == "__main__":
    main()
