"""Arms at equal preference: each arm's path from the model before over its learning rates, read where it crosses a value."""

from collections import defaultdict

import stats

# What is equal, and its value: held-out accuracy without the terminator, and with it.
EQUAL = [("pref_accuracy_without_eos", 0.9), ("pref_accuracy_without_eos", 0.95), ("pref_accuracy", 0.95)]
READ = ["eos_logp_gold", "eos_rate", "gold_nll"]


def paths(rows):
    """{arm: {(world, SFT seed): rows of the model before and of each rate, in order}}."""
    before, found = {}, defaultdict(lambda: defaultdict(list))
    for row in rows:
        place = (row["screen"], row["sft_seed"])
        if row["arm"] == "start":
            before[place] = row
        else:
            found[row["arm"]][place].append(row)
    return {
        arm: {place: [before[place], *sorted(group, key=lambda row: row["learning_rate"])] for place, group in places.items()}
        for arm, places in found.items()
    }


def crossing(path, key, value):
    """The measures where a path first comes to a value, linear between two of its rows; None if it does not."""
    for low, high in zip(path, path[1:]):
        if low[key] < value <= high[key]:
            share = (value - low[key]) / (high[key] - low[key])
            return {measure: low[measure] + share * (high[measure] - low[measure]) for measure in READ}
    return None


def differences(places, key, value):
    """Change of each measure from the model before, at the crossing; one row for each world and SFT seed that has it."""
    crossings = [(path[0], at) for path in places.values() if (at := crossing(path, key, value))]
    return [{measure: at[measure] - start[measure] for measure in READ} for start, at in crossings]


def table(rows, order, signed):
    """Changes at each value of `EQUAL`, mean over worlds and SFT seeds; the terminator's with a 95 % interval over them."""
    title = {"pref_accuracy_without_eos": "accuracy without EOS", "pref_accuracy": "accuracy"}
    lines = ["| arm | " + " | ".join(f"at {title[key]} {value:g}" for key, value in EQUAL) + " |", "|---" * (len(EQUAL) + 1) + "|"]
    for arm, places in sorted(paths(rows).items(), key=lambda item: order(item[0])):
        cells = []
        for key, value in EQUAL:
            found = differences(places, key, value)
            if len(found) < len(places):
                cells.append(f"in {len(found)} of {len(places)}" if found else "not reached")
                continue
            mean, drawn = stats.bootstrap([[row["eos_logp_gold"]] for row in found])
            low, high = stats.interval(drawn)
            others = " / ".join(signed(stats.mean([row[measure] for row in found])) for measure in ("eos_rate", "gold_nll"))
            cells.append(f"{signed(mean)} [{signed(low)}, {signed(high)}] / {others}")
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def curves(rows, key, measure):
    """{arm: [(x, y)]}: means over worlds and SFT seeds of the model before and of each rate."""
    found = {}
    for arm, places in paths(rows).items():
        steps = list(zip(*places.values(), strict=True))
        found[arm] = [tuple(stats.mean([row[name] for row in step]) for name in (key, measure)) for step in steps]
    return found
