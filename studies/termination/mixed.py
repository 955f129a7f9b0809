"""World and recipe of the real part with pairs of others and of the model's own completions together (AMENDMENT-mixed.md), beside those of own.py.

    python3 studies/termination/mixed.py OUT MODEL
    smpo run OUT/real-confirm-mixed-0.0002.toml

OUT is that of `own.py OUT MODEL`, with its pairs: those, the pairs of others, prompts and gold answers are taken from there.
"""

import json
import sys
from pathlib import Path

import real
from tiny import suite

ARMS = ["smpo", "dpo", "smpo-invert", "smpo-met-mask-anchor0.1"]
RATE = 2e-4


def messages(row):
    """A row of texts as one of messages, as those of the model's own completions are."""
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    return row | {side: [{"role": role, "content": row[side]}] for side, role in roles.items() if isinstance(row[side], str)}


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    out, model = Path(sys.argv[1]), sys.argv[2]
    folder = out / "confirm-mixed"
    folder.mkdir(parents=True, exist_ok=True)
    both = [json.loads(line) for world in ("shorter", "own") for line in (out / f"confirm-{world}/preferences.jsonl").read_text().splitlines()]
    real.write(folder / "preferences.jsonl", map(messages, both))
    for file in ("held_out.jsonl", "ood.jsonl"):
        (folder / file).write_bytes((out / "confirm-shorter" / file).read_bytes())
    suite(folder / "suite.toml", folder.name, real.SLICES, real.CAP)
    name = f"real-{folder.name}-{RATE:g}"
    real.recipe(out / f"{name}.toml", out / name, model, folder, ARMS, RATE, 1)
    print(f"{len(both)} pairs to train on")


if __name__ == "__main__":
    main()
