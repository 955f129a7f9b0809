"""Tables and figures of the study out of results/*.csv.

    python3 studies/termination/report.py table NAME RATE    # results/NAME.csv at one learning rate
    python3 studies/termination/report.py kinds RATE         # arms by kind of rejected answer at one learning rate
    python3 studies/termination/report.py development    # table of the screens, rates chosen by the selection rule
    python3 studies/termination/report.py freeze         # the same rule, written to frozen.json
    python3 studies/termination/report.py confirm        # differences with intervals, and verdicts, of the confirming runs
    python3 studies/termination/report.py real           # the same of the real model, by seed and prompt
    python3 studies/termination/report.py figures        # docs/study/*.svg
"""

import csv
import json
import sys
from collections import defaultdict
from pathlib import Path

import arms
import figures
import stats

HERE = Path(__file__).parent
LEARNED = 0.80  # preference accuracy without EOS that the selection rule asks for


def read(*names):
    rows = []
    for name in names:
        with open(HERE / "results" / f"{name}.csv") as file:
            for row in csv.DictReader(file):
                rows.append({key: number(value) for key, value in row.items()})
    return rows


def number(text):
    try:
        return float(text)
    except ValueError:
        return text or None


def cells(rows):
    """{(screen, arm, rate): rows}."""
    grouped = defaultdict(list)
    for row in rows:
        grouped[row["screen"], row["arm"], row["learning_rate"]].append(row)
    return grouped


def average(rows, key):
    values = [row[key] for row in rows if row.get(key) is not None]
    return sum(values) / len(values) if values else None


def choose(rows):
    """The learning rate of each arm, by the selection rule of PLAN.md, and if it reached the accuracy."""
    by_rate = defaultdict(lambda: defaultdict(list))
    for (_, arm, rate), group in cells(rows).items():
        if rate is not None:
            by_rate[arm][rate].extend(group)
    chosen = {}
    for arm, rates in by_rate.items():
        learned = {rate: average(group, "pref_accuracy_without_eos") for rate, group in rates.items()}
        enough = [rate for rate in rates if learned[rate] >= LEARNED]
        if enough:
            best = max(enough, key=lambda rate: average(rates[rate], "eos_logp_gold"))
        else:
            best = max(rates, key=lambda rate: learned[rate])
        chosen[arm] = (best, bool(enough))
    return chosen


SHOWN = [
    ("pref_accuracy", "accuracy", 2), ("pref_accuracy_without_eos", "without EOS", 2), ("eos_logp_gold", "gold EOS log p", 2),
    ("eos_rate", "ended", 3), ("loop_rate", "loops", 3), ("length", "tokens", 0), ("gold_nll", "gold NLL", 2),
    ("exact_match", "exact", 2), ("same_answer", "same", 2), ("empty_rate", "empty", 2),
]


def table(rows, chosen):
    lines = ["| screen | arm | lr | " + " | ".join(title for _, title, _ in SHOWN) + " |", "|---" * (len(SHOWN) + 3) + "|"]
    for (screen, arm, rate), group in sorted(cells(rows).items(), key=lambda item: (item[0][0], order(item[0][1]))):
        if rate is not None and rate != chosen.get(arm, (rate,))[0]:
            continue
        figures = [average(group, key) for key, _, _ in SHOWN]
        shown = ["–" if value is None else f"{value:.{decimals}f}" for value, (_, _, decimals) in zip(figures, SHOWN)]
        lines.append(f"| {screen} | {arm} | {'' if rate is None else f'{rate:g}'} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


BY_KIND = [("pref_accuracy_without_eos", 2), ("eos_logp_gold", 2), ("eos_rate", 2), ("gold_nll", 2)]


def kinds(rows, rate):
    """Arms that were screened with every kind of rejected answer, a column for each kind."""
    found = cells(rows)
    screens = ["screen", "screen-longest", "screen-equal", "screen-cut"]
    lines = ["| arm | " + " | ".join(screens) + " |", "|---" * 5 + "|"]
    for arm in ["start", *arms.SCREENED_BY_KIND]:
        of = [found[screen, arm, None if arm == "start" else rate] for screen in screens]
        shown = [" / ".join(f"{average(group, key):.{decimals}f}" for key, decimals in BY_KIND) if group else "–" for group in of]
        lines.append(f"| {arm} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def figure(rows, chosen, screen):
    """Preference without EOS against gold EOS log p, every arm at its chosen rate."""
    points = []
    for (name, arm, rate), group in cells(rows).items():
        if name == screen and (rate is None or rate == chosen[arm][0]):
            kind = "start" if rate is None else "ours" if "anchor" in arm else "smpo" if arm.startswith("smpo") else "other"
            points.append((average(group, "pref_accuracy_without_eos"), average(group, "eos_logp_gold"), arm, kind))
    lowest = min(-6.0, *(max(point[1], -12.0) for point in points))
    return figures.scatter(
        points,
        ("held-out preference accuracy, terminators left out", 0.2, 1.02, [0.2, 0.4, 0.6, 0.8, 1.0]),
        ("log p of the terminator after gold answers, nats", lowest, 0.0, range(int(lowest), 1, 2)),
        f"{screen}: learning against stopping; lowest drawn at {lowest:g}",
    )


# The declared family: measure, and the margin by which it may be worse. All are better when higher.
EOS_MARGINS = {"eos_logp_gold": 0.5, "eos_rate": 0.05}
LEARNING = ("pref_accuracy_without_eos", 0.05)
DRIFT = ("gold_nll", 0.10)  # lower is better


def by_seed(rows, cell, baseline, key):
    """Difference of two (screen, arm, rate) with 95 % interval, drawn by SFT seed and preference seed; the model before has none of those."""
    of = lambda cell: {(row["sft_seed"], row["seed"]): row[key] for row in rows[cell]}
    other = of(baseline)
    pairs = [(sft, seed, value - other.get((sft, seed), other.get((sft, None)))) for (sft, seed), value in of(cell).items()]
    return len(pairs), *stats.bootstrap(stats.clusters(pairs))


def by_prompt(rows, cell, baseline, key):
    """The same, drawn by preference seed and prompt, of rows for each prompt or held-out pair."""
    def of(cell):
        values = defaultdict(dict)
        for row in rows[cell]:
            if row[key] is not None:
                values[row["seed"]][row["prompt"]] = row[key]
        return values

    other = of(baseline)
    table = [
        {prompt: value - before[prompt] for prompt, value in values.items() if prompt in before}
        for seed, values in of(cell).items()
        for before in [other.get(seed) or other[None]]
    ]
    return len(table), *stats.crossed(table)


def claims(rows, differ):
    """One line per world, arm and rate: differences with 95 % intervals, and if the arm keeps the terminator, learns, and stays."""
    rows = cells(rows)
    order_of = lambda cell: (cell[0], cell[2], order(cell[1]))
    trained = sorted((cell for cell in rows if cell[2] is not None), key=order_of)
    cases = []
    for cell in trained:
        for key, margin in EOS_MARGINS.items():
            _, estimate, drawn = differ(rows, cell, (cell[0], "start", None), key)
            cases.append((cell, key, estimate, stats.interval(drawn), stats.p_inferior(drawn, margin)))
    adjusted = stats.holm([case[-1] for case in cases])
    kept = {(cell, key): p < 0.05 for (cell, key, *_), p in zip(cases, adjusted)}
    lines = [
        "| world | lr | arm | runs | gold EOS log p | ended | accuracy without EOS | gold NLL | keeps | learns | stays |",
        "|---" * 11 + "|",
    ]
    shown = {(cell, key): f"{estimate:+.2f} [{low:+.2f}, {high:+.2f}]" for cell, key, estimate, (low, high), _ in cases}
    for cell in trained:
        screen, arm, rate = cell
        # SMPO at the same rate; at the lowest it was confirmed at for an arm whose own rate is another
        baseline = min((other for other in trained if other[:2] == (screen, "smpo")), key=lambda other: (other[2] != rate, other[2]))
        runs, estimate, drawn = differ(rows, cell, baseline, LEARNING[0])
        low, high = stats.interval(drawn)
        _, drift, drawn = differ(rows, cell, (screen, "start", None), DRIFT[0])
        drift_low, drift_high = stats.interval(drawn)
        claimed = [all(kept[cell, key] for key in EOS_MARGINS), low > -LEARNING[1], drift_high < DRIFT[1]]
        lines.append(
            f"| {screen} | {rate:g} | {arm} | {runs} | {shown[cell, 'eos_logp_gold']} | {shown[cell, 'eos_rate']} | "
            f"{estimate:+.2f} [{low:+.2f}, {high:+.2f}] | {drift:+.2f} [{drift_low:+.2f}, {drift_high:+.2f}] | "
            + " | ".join("yes" if claim else "no" for claim in claimed) + " |"
        )
    return "\n".join(lines)


MECHANISM = {
    "push_on_terminator": ("push on the rejected terminator, first mean push of SMPO = 1", -2.0, 3.0, range(-2, 4)),
    "gives_gradient": ("share of rejected tokens that give gradient", 0.0, 1.0, [0.0, 0.25, 0.5, 0.75, 1.0]),
    "eos_logp_rejected": ("log p of the rejected terminator, nats", -25.0, 0.0, range(-25, 1, 5)),
}


def mechanism(rows, key):
    series = {}
    for row in rows:
        series.setdefault(row["arm"], []).append((row["step"], row[key]))
    return figures.lines(series, ("optimizer step", 0, 150, range(0, 151, 30)), MECHANISM[key], MECHANISM[key][0])


def order(arm):
    return ["start", *arms.ARMS].index(arm)


def main():
    task = sys.argv[1] if len(sys.argv) > 1 else ""
    development = sorted(path.stem for path in (HERE / "results").glob("screen*.csv"))
    if task == "table" and len(sys.argv) == 4:
        rows = read(sys.argv[2])
        print(table(rows, {row["arm"]: (float(sys.argv[3]), True) for row in rows}))
    elif task == "kinds" and len(sys.argv) == 3:
        print(kinds(read(*development), float(sys.argv[2])))
    elif task in ("development", "freeze"):
        rows = read(*development)
        chosen = choose(rows)
        if task == "freeze":
            frozen = {arm: rate for arm, (rate, _) in sorted(chosen.items(), key=lambda item: order(item[0]))}
            (HERE / "frozen.json").write_text(json.dumps(frozen, indent=2) + "\n")
        else:
            print(table(rows, chosen))
            print("\nNo rate reaches the accuracy:", ", ".join(arm for arm, (_, enough) in chosen.items() if not enough) or "none")
    elif task == "confirm":
        print(claims(read(*sorted(path.stem for path in (HERE / "results").glob("confirm*.csv"))), by_seed))
    elif task == "real":
        print(claims(read("real-prompts"), by_prompt))
    elif task == "figures":
        rows = read(*development)
        chosen = choose(rows)
        folder = HERE.parent.parent / "docs" / "study"
        folder.mkdir(exist_ok=True)
        for screen in sorted({row["screen"] for row in rows}):
            (folder / f"{screen}.svg").write_text(figure(rows, chosen, screen))
        for key in MECHANISM:
            (folder / f"mechanism-{key.replace('_', '-')}.svg").write_text(mechanism(read("mechanism"), key))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
