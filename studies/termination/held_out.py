"""One row of CSV per held-out pair and model of the real part, from `smpo logps MODEL OUT/WORLD/held_out.jsonl --max-length 768`.

    python3 studies/termination/held_out.py start=LOGPS.jsonl ARM_RATE-SEED=LOGPS.jsonl … > studies/termination/results/real-held-out.csv
"""

import csv
import json
import sys
from pathlib import Path

from collect import TRAINED

COLUMNS = ["arm", "learning_rate", "seed", "pair", "accuracy", "accuracy_without_eos", "eos_logp_chosen", "eos_logp_rejected", "chosen_nll"]


def mean(values):
    return sum(values) / len(values)


def measures(pair):
    sides = {}
    for side in ("chosen", "rejected"):
        tokens = list(zip(pair[side]["logps"], pair[side]["is_terminator"]))
        sides[side] = [mean([logp for logp, end in tokens if end in kept]) for kept in ((True, False), (False,), (True,))]
    (chosen, chosen_text, chosen_end), (rejected, rejected_text, rejected_end) = sides["chosen"], sides["rejected"]
    return [int(chosen > rejected), int(chosen_text > rejected_text), *(f"{value:.5g}" for value in (chosen_end, rejected_end, -chosen_text))]


def main():
    if len(sys.argv) < 2 or not all("=" in argument for argument in sys.argv[1:]):
        sys.exit(__doc__)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    for argument in sys.argv[1:]:
        name, path = argument.split("=", 1)
        trained = TRAINED.match(name)
        model = [trained["arm"], trained["rate"], trained["seed"]] if trained else [name, "", ""]
        for pair in map(json.loads, Path(path).read_text().splitlines()):
            writer.writerow([*model, pair["id"], *measures(pair)])


if __name__ == "__main__":
    main()
