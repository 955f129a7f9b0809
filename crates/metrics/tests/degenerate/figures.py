"""Recall and precision of `loop_rate` and `runaway_rate` on the labelled answers.

    python figures.py SAMPLE SCORED    # SCORED: the output of `smpo score` on the answers of `first` or `second`
"""
import pathlib
import random
import sys

from scored import DETECTORS, flags, rows

HERE = pathlib.Path(__file__).parent
REPEATS = ("loop", "runaway", "recovered")
LEGITIMATE = ("ok", "template", "asked")


def weighted(rows, wanted):
    total = sum(row["weight"] for row in rows)
    return sum(row["weight"] for row in rows if wanted(row)) / total if total else float("nan")


def interval(sample, share, draws=2000):
    """95 % percentile interval, answers drawn again within their strata."""
    rng = random.Random(1)
    strata = {}
    for row in sample:
        strata.setdefault(row["stratum"], []).append(row)
    values = sorted(share([r for rows in strata.values() for r in rng.choices(rows, k=len(rows))]) for _ in range(draws))
    return values[int(0.025 * draws)], values[int(0.975 * draws)]


def show(name, sample, among, wanted):
    chosen = [row for row in sample if among(row)]
    hits = sum(map(wanted, chosen))
    low, high = interval(sample, lambda rows: weighted([r for r in rows if among(r)], wanted))
    print(f"{name}: {hits} of {len(chosen)}, {hits / max(len(chosen), 1):.1%}; "
          f"weighted {weighted(chosen, wanted):.1%} [{low:.1%}, {high:.1%}]")


def main(name, scored):
    found = flags(scored)
    sample = rows(HERE / name / "labels.jsonl")
    for row in sample:
        row["flags"] = found[row["sha256"]]

    def by(*names):
        return lambda row: any(name in row["flags"] for name in names)

    def degenerate(row):
        return row["label"] in REPEATS

    def clear(row):
        return degenerate(row) and not row["arguable"]

    show("degenerate", sample, lambda row: True, degenerate)
    for name, among in (("clearly degenerate", clear), ("degenerate, arguable ones too", degenerate)):
        show(f"recall, {name}, either detector", sample, among, by(*DETECTORS))
        for detector in DETECTORS:
            show(f"recall, {name}, {detector}", sample, among, by(detector))
    show("flags that are true", sample, by(*DETECTORS), lambda row: row["label"] not in LEGITIMATE)
    show("legitimate answers flagged", sample, lambda row: row["label"] in LEGITIMATE, by(*DETECTORS))
    show("forms, tables, lists and refrains flagged", sample, lambda row: row["label"] in ("template", "asked"), by(*DETECTORS))
    for row in sample:
        if degenerate(row) != bool(row["flags"]):
            print(f"  {'missed' if degenerate(row) else 'flagged'} {row['n']}: {row['label']}"
                  f"{', arguable' if row['arguable'] else ''}, weight {row['weight']}: {row['note']}")

    if (HERE / name / "flags.jsonl").exists():
        read = rows(HERE / name / "flags.jsonl")
        true = sum(row["true"] for row in read)
        print(f"flags of all files read: {true} of {len(read)} true, {true / len(read):.1%}")
        for row in read:
            if not row["true"]:
                print(f"  false {row['n']}: {', '.join(row['detectors'])}: {row['note']}")


if __name__ == "__main__":
    main(*sys.argv[1:])
