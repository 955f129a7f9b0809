"""Tables and figures of the study out of results/*.csv.

    python3 studies/termination/report.py table NAME RATE    # results/NAME.csv at one learning rate
    python3 studies/termination/report.py kinds RATE         # arms by kind of rejected answer at one learning rate
    python3 studies/termination/report.py development    # table of the screens, rates chosen by the selection rule
    python3 studies/termination/report.py freeze         # the same rule, written to frozen.json
    python3 studies/termination/report.py confirm        # differences with intervals, and claims, of the confirming runs; then by arm
    python3 studies/termination/report.py matched        # the confirming runs at equal preference accuracy
    python3 studies/termination/report.py real [WORLD]   # the same of a real model, by seed and prompt: results/WORLD-prompts.csv, `real` by default
    python3 studies/termination/report.py gold [WORLD]   # the same without intervals, by where the gold answers are from
    python3 studies/termination/report.py held-out [WORLD]    # log-probs of held-out pairs, differences from the model before: results/WORLD-held-out.csv
    python3 studies/termination/report.py early          # if the first fifth of training tells the end
    python3 studies/termination/report.py margins        # gold EOS log p lost against the share of answers that end
    python3 studies/termination/report.py figures        # docs/study/*.svg
"""

import csv
import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

import arms
import figures
import later
import matched
import stats

HERE = Path(__file__).parent
NAMES = {"screen", "arm", "prompt", "pair"}  # which may look like numbers
LEARNED = 0.80  # preference accuracy without EOS that the selection rule asks for


def read(*names):
    rows = []
    for name in names:
        with open(HERE / "results" / f"{name}.csv") as file:
            for row in csv.DictReader(file):
                rows.append({key: value if key in NAMES else number(value) for key, value in row.items()})
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
    for arm in ["start", *arms.SCREENED_BY_KIND, *later.LATER]:
        of = [found[screen, arm, None if arm == "start" else rate] for screen in screens]
        shown = [" / ".join(f"{average(group, key):.{decimals}f}" for key, decimals in BY_KIND) if group else "–" for group in of]
        lines.append(f"| {arm} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def figure(rows, chosen, screen):
    """Preference without EOS against gold EOS log p, every arm at its chosen rate."""
    points = []
    for (name, arm, rate), group in cells(rows).items():
        if name == screen and (rate is None or rate == chosen[arm][0]):
            points.append((average(group, "pref_accuracy_without_eos"), average(group, "eos_logp_gold"), arm, kind_of(arm)))
    lowest = min(-6.0, *(max(point[1], -12.0) for point in points))
    return figures.scatter(
        points,
        ("held-out preference accuracy, terminators left out", 0.2, 1.02, [0.2, 0.4, 0.6, 0.8, 1.0]),
        ("log p of the terminator after gold answers, nats", lowest, 0.0, range(int(lowest), 1, 2)),
        f"{screen}: learning against stopping; lowest drawn at {lowest:g}",
    )


def kind_of(arm):
    return "start" if arm == "start" else "ours" if "anchor" in arm else "smpo" if arm.startswith("smpo") else "other"


def rates_figure(rows, title):
    """Drift against the terminator's loss, means over worlds and seeds of differences from the model before: of each arm that ran at
    both rates a line from the lower to the higher, where its name stands."""
    before = {(row["screen"], row["sft_seed"]): row for row in rows if row["arm"] == "start"}
    found = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["arm"] != "start":
            start = before[row["screen"], row["sft_seed"]]
            found[row["arm"]][row["learning_rate"]].append([row[key] - start[key] for key in ("gold_nll", "eos_logp_gold")])
    points, links = [], []
    for arm, rates in found.items():
        if len(rates) > 1:
            ends = [tuple(statistics.mean(column) for column in zip(*rates[rate])) for rate in sorted(rates)]
            points += [(*end, arm if end is ends[-1] else "", kind_of(arm)) for end in ends]
            links.append((ends, kind_of(arm)))
    lowest = int(min(point[1] for point in points)) - 1
    highest = max(0.3, *(point[1] + 0.3 for point in points))
    most = int(max(point[0] for point in points) / 0.05 + 1) * 0.05
    step = max(0.05, round(most / 6, 2))
    return figures.scatter(
        points,
        ("cross-entropy of gold answers without their terminator, nats more than before", -0.02, most * 1.15, [step * tick for tick in range(int(most / step) + 1)]),
        ("log p of the terminator after gold answers, nats more than before", lowest, highest, range(lowest, int(highest) + 1)),
        title,
        links,
    )


# Arms of the figure of curves: what is common, what is published, what is ours.
CURVES = [
    "sft", "dpo", "dpo-sft", "simpo-sft", "orpo", "kto", "smpo", "smpo-mask", "smpo-invert", "smpo-published", "smpo-mask-anchor0.1",
    "smpo-met-mask-anchor0.1", "unlikelihood-sft",
]


def curves_figure(rows):
    """The terminator against the margin: of each arm a line from the model before over its three learning rates, its name at the steepest."""
    found = {arm: points for arm, points in matched.curves(rows, "margin", "eos_logp_gold").items() if arm in CURVES}
    points = [(*point, arm if point is line[-1] else "", kind_of(arm)) for arm, line in found.items() for point in line]
    return figures.scatter(
        points,
        ("held-out margin, nats per token", -0.2, 7.5, range(0, 8)),
        ("log p of the terminator after gold answers, nats", -6.5, 0.0, range(-6, 1)),
        "screen: from the model before over 5e-5, 2e-4 and 5e-4",
        [(line, kind_of(arm)) for arm, line in found.items()],
    )


# The declared family: measure, and the margin by which it may be worse. All are better when higher.
EOS_MARGINS = {"eos_logp_gold": 0.5, "eos_rate": 0.05}
LEARNING = ("pref_accuracy_without_eos", 0.05)
DRIFT = ("gold_nll", 0.10)  # lower is better


# Worlds of real models: file of results, part of the screen's name, label.
REAL = [
    ("real", "shorter-0.0002", "SmolLM2, rejected shorter"),
    ("real", "shorter-5e-05", "the same, a quarter of the rate"),
    ("lengths-shorter", "", "SmolLM2, a quarter as long"),
    ("lengths-equal", "", "SmolLM2, as long"),
    ("mirrored", "", "SmolLM2, rejected longer"),
    ("own", "", "SmolLM2, its own completions"),
    ("mixed", "", "SmolLM2, shorter and its own"),
    ("gemma", "shorter-0.0002", "Gemma 3, rejected shorter"),
    ("gemma", "shorter-5e-05", "the same, a quarter of the rate"),
]
IN_WORDS = {
    "start": "before", "smpo": "SMPO", "dpo": "DPO", "sft": "SFT", "smpo-invert": "EOS term alone", "smpo-published": "published",
    "smpo-met-mask-anchor0.1": "anchored SMPO",
}


def ends_figure(results):
    """Answers that end of 100, each run a circle, in every world of the real models that has `results`."""
    found = []
    for name, part, label in REAL:
        if name in results:
            rows = [row for row in read(name) if part in row["screen"]]
            found.append((label, {shown: [100 * row["eos_rate"] for row in rows if row["arm"] == arm] for arm, shown in IN_WORDS.items()}))
    axis = ("answers that end, of 100", 0.0, 100.0, range(0, 101, 20))
    return figures.dots(found, list(IN_WORDS.values()), axis, "Answers that end before and after training, by pairs and loss")


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
        if before  # a seed that the baseline does not have says nothing of the difference
    ]
    return len(table), *stats.crossed(table)


SHARES = ["keeps", "learns", "stays"]


def claims(rows, differ):
    """For each world, arm and rate: runs, differences with 95 % intervals, and if the arm keeps the terminator, learns, and stays."""
    rows = cells(rows)
    trained = sorted((cell for cell in rows if cell[2] is not None), key=lambda cell: (cell[0], cell[2], order(cell[1])))
    found, p_values = [], []
    for cell in trained:
        screen, arm, rate = cell
        start = (screen, "start", None)
        # SMPO at the same rate; at the lowest it was confirmed at for an arm whose own rate is another
        smpo = min((other for other in trained if other[:2] == (screen, "smpo")), key=lambda other: (other[2] != rate, other[2]))
        line = {"world": screen, "rate": rate, "arm": arm}
        for key, baseline in [*((key, start) for key in EOS_MARGINS), (LEARNING[0], smpo), (DRIFT[0], start)]:
            line["runs"], estimate, drawn = differ(rows, cell, baseline, key)
            line[key] = (estimate, *stats.interval(drawn))
            if key in EOS_MARGINS:
                p_values.append(stats.p_inferior(drawn, EOS_MARGINS[key]))
        line["learns"] = line[LEARNING[0]][1] > -LEARNING[1]
        line["stays"] = line[DRIFT[0]][2] < DRIFT[1]
        found.append(line)
    adjusted = iter(stats.holm(p_values))
    for line in found:
        line["keeps"] = all([next(adjusted) < 0.05 for _ in EOS_MARGINS])
    return found


MEASURES = {"eos_logp_gold": "gold EOS log p", "eos_rate": "ended", LEARNING[0]: "accuracy without EOS", DRIFT[0]: "gold NLL"}


def signed(value):
    return f"{value:+.2f}".replace("-", "−")


def detail(found):
    lines = ["| world | lr | arm | runs | " + " | ".join([*MEASURES.values(), *SHARES]) + " |", "|---" * 11 + "|"]
    for line in found:
        numbers = [f"{signed(mean)} [{signed(low)}, {signed(high)}]" for mean, low, high in (line[key] for key in MEASURES)]
        claimed = ["yes" if line[claim] else "no" for claim in SHARES]
        lines.append(" | ".join([f"| {line['world']} | {line['rate']:g} | {line['arm']} | {line['runs']}", *numbers, *claimed]) + " |")
    return "\n".join(lines)


def summary(found):
    """One line per arm and rate: differences averaged over worlds, and the number of worlds in which each claim holds."""
    grouped = defaultdict(list)
    for line in found:
        grouped[line["rate"], line["arm"]].append(line)
    lines = ["| lr | arm | worlds | runs | " + " | ".join([*MEASURES.values(), *SHARES]) + " |", "|---" * 11 + "|"]
    for (rate, arm), group in sorted(grouped.items(), key=lambda item: (item[0][0], order(item[0][1]))):
        numbers = [signed(sum(line[key][0] for line in group) / len(group)) for key in MEASURES]
        claimed = [str(sum(line[claim] for line in group)) for claim in SHARES]
        runs = sum(line["runs"] for line in group)
        lines.append(" | ".join([f"| {rate:g} | {arm} | {len(group)} | {runs}", *numbers, *claimed]) + " |")
    return "\n".join(lines)


# Slices whose gold answers are the suite's, words, numbers and short phrases; the others' are the model's own.
BARE = ("one_word", "ends_at_once", "arithmetic")


def by_arm(rows, item):
    """Rows of the model before by what they are of, and those of each arm and rate by seed."""
    before, arms = {}, defaultdict(lambda: defaultdict(dict))
    for row in rows:
        of = before if row["arm"] == "start" else arms[row["arm"], row["learning_rate"]][row["seed"]]
        of[row[item]] = row
    return before, {key: list(runs.values()) for key, runs in arms.items()}


def gold(rows):
    """Mean differences of the real model's arms from the model before, over prompts with bare gold answers and over the others."""
    before, arms = by_arm(rows, "prompt")
    keys = ["eos_logp_gold", "eos_rate", DRIFT[0]]
    lines = ["| lr | arm | " + " | ".join(f"{MEASURES[key]}, {kind}" for kind in ("bare", "its own") for key in keys) + " |", "|---" * 8 + "|"]
    for (arm, rate), runs in sorted(arms.items(), key=lambda item: (item[0][1], order(item[0][0]))):
        shown = []
        for bare in (True, False):
            for key in keys:
                rows = [(row, before[prompt]) for run in runs for prompt, row in run.items() if prompt.startswith(BARE) == bare]
                changes = [now[key] - then[key] for now, then in rows if None not in (now[key], then[key])]
                shown.append(signed(statistics.mean(changes)))
        lines.append(f"| {rate:g} | {arm} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


HELD_OUT = {
    "accuracy": "accuracy", "accuracy_without_eos": "without EOS", "eos_logp_chosen": "EOS log p, chosen",
    "eos_logp_rejected": "EOS log p, rejected", "chosen_nll": "NLL of chosen without EOS",
}


def held_out(rows):
    """Means over held-out pairs and seeds, and differences from the model before with 95 % intervals over pairs."""
    before, arms = by_arm(rows, "pair")
    lines = ["| arm | lr | pairs | " + " | ".join(HELD_OUT.values()) + " |", "|---" * (len(HELD_OUT) + 3) + "|"]
    for (arm, rate), runs in {("start", None): [before], **arms}.items():
        shown = []
        for key in HELD_OUT:
            mean = f"{average([row for run in runs for row in run.values()], key):.2f}".replace("-", "−")
            if arm != "start":
                changes = [{pair: row[key] - before[pair][key] for pair, row in run.items()} for run in runs]
                low, high = stats.interval(stats.crossed(changes)[1])
                mean += f" [{signed(low)}, {signed(high)}]"
            shown.append(mean)
        lines.append(f"| {arm} | {'' if rate is None else f'{rate:g}'} | {len(before)} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


# What of the first fifth of a run may tell if the terminator is lost at its end: lower is worse.
PREDICTORS = {
    "log p of the rejected terminator": lambda row: row["early/eos_logp/rejected"],
    "its change since the first steps": lambda row: row["early/eos_logp/rejected"] - row["first/eos_logp/rejected"],
    "log p of the chosen terminator": lambda row: row["early/eos_logp/chosen"],
    "change of the mean log p of rejected answers": lambda row: row["early/logps/rejected"] - row["first/logps/rejected"],
}


def ended(names):
    """(screen, SFT seed) and metrics at the first fifth of every run of a pair loss, and if it lost the terminator in the end."""
    outcomes, before = {}, {}
    model = lambda row: tuple(row[key] for key in ("screen", "arm", "learning_rate", "sft_seed", "seed"))
    for row in read(*names):
        (before if row["arm"] == "start" else outcomes)[model(row) if row["arm"] != "start" else (row["screen"], row["sft_seed"])] = row
    runs = []
    for row in read("early"):
        if outcome := outcomes.get(model(row)):
            cluster = (row["screen"], row["sft_seed"])
            change = outcome["eos_logp_gold"] - before[cluster]["eos_logp_gold"]
            runs.append((cluster, row, change < -EOS_MARGINS["eos_logp_gold"]))
    return runs


def early(development, confirmation):
    lines = ["| at 20 % of training | AUC, development | AUC, confirmation | threshold | losses found | false alarms |", "|---" * 6 + "|"]
    for title, value in PREDICTORS.items():
        scored = [[(cluster, value(row), lost) for cluster, row, lost in runs] for runs in (development, confirmation)]
        aucs = [(stats.auc(runs), *stats.interval(stats.resampled(runs, stats.auc))) for runs in scored]
        # The threshold is chosen on development runs, and judged on the others.
        rates = lambda runs, limit: [
            sum(score <= limit for _, score, lost in runs if lost == of) / max(1, sum(lost == of for _, _, lost in runs)) for of in (True, False)
        ]
        limit = max((score for _, score, _ in scored[0]), key=lambda limit: (lambda found, false: found - false)(*rates(scored[0], limit)))
        found, false = rates(scored[1], limit)
        shown = " | ".join(f"{auc:.2f} [{low:.2f}, {high:.2f}]" for auc, low, high in aucs)
        lines.append(f"| {title} | {shown} | {limit:.2f} | {found:.0%} | {false:.0%} |")
    count = lambda runs: f"{len(runs)} runs, {sum(lost for _, _, lost in runs)} lost the terminator"
    return "\n".join([*lines, "", f"Development: {count(development)}. Confirmation: {count(confirmation)}."])


# Rules for an alarm on the log p of the rejected terminator, averaged over the alarms' window, at any step of a run.
RULES = {"below −4.6 and fallen by 1 nat": lambda row: row["lowest"] < -4.6 and row["largest_fall"] > 1} | {
    f"fallen by {fall:g} nats": (lambda fall: lambda row: row["largest_fall"] > fall)(fall) for fall in (0.5, 1.0, 1.5, 2.0, 3.0)
}


def alarms(development, confirmation):
    lines = ["| alarm | losses found, development | false alarms | losses found, confirmation | false alarms |", "|---" * 5 + "|"]
    for title, rule in RULES.items():
        shares = []
        for runs in (development, confirmation):
            for of in (True, False):
                raised = [rule(row) for _, row, lost in runs if lost == of]
                shares.append(f"{sum(raised)} of {len(raised)} ({sum(raised) / max(1, len(raised)):.0%})")
        lines.append(f"| {title} | " + " | ".join(shares) + " |")
    return "\n".join(lines)


LOST_NATS = [(0.25, None), (0.5, 0.25), (0.75, 0.5), (1.0, 0.75), (2.0, 1.0), (None, 2.0)]


def margins(groups):
    """How much less often answers end, by the nats of gold EOS log p that a run lost; `groups` are rows of several kinds of runs."""
    lines = ["| gold EOS log p lost, nats | " + " | ".join(f"{name}: runs, ended less (median), by more than 5 points" for name in groups) + " |"]
    lines.append("|---" * (len(groups) + 1) + "|")
    for high, low in LOST_NATS:
        title = f"less than {high}" if low is None else f"{low} to {high}" if high else f"more than {low}"
        cells_of = []
        for rows in groups.values():
            before = {(row["screen"], row["sft_seed"]): row for row in rows if row["arm"] == "start"}
            falls = []
            for row in rows:
                start = before[row["screen"], row["sft_seed"]]
                lost = start["eos_logp_gold"] - row["eos_logp_gold"]
                if row["arm"] != "start" and (low is None or lost >= low) and (high is None or lost < high):
                    falls.append(start["eos_rate"] - row["eos_rate"])
            beyond = sum(fall > EOS_MARGINS["eos_rate"] for fall in falls)
            cells_of.append(f"{len(falls)}, {100 * statistics.median(falls):.1f} points, {beyond}" if falls else "–")
        lines.append(f"| {title} | " + " | ".join(cells_of) + " |")
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
    return ["start", *arms.ARMS, *later.LATER].index(arm)


def main():
    task = sys.argv[1] if len(sys.argv) > 1 else ""
    results = lambda pattern: sorted(path.stem for path in (HERE / "results").glob(pattern))
    world = sys.argv[2] if len(sys.argv) > 2 else "real"
    has = lambda kind: len(sys.argv) < 4 and f"{world}-{kind}" in results(f"*-{kind}.csv")
    development, confirmation = results("screen*.csv"), results("confirm*.csv")
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
        found = claims(read(*confirmation), by_seed)
        print(detail(found), summary(found), sep="\n\n")
    elif task == "matched":
        print(matched.table(read(*confirmation), order, signed))
    elif task in ("real", "gold") and has("prompts"):
        rows = read(f"{world}-prompts")
        print(gold(rows) if task == "gold" else detail(claims(rows, by_prompt)))
    elif task == "held-out" and has("held-out"):
        print(held_out(read(f"{world}-held-out")))
    elif task == "early":
        runs = ended(development), ended(confirmation)
        print(early(*runs), alarms(*runs), sep="\n\n")
    elif task == "margins":
        print(margins({"development": read(*development), "confirmation": read(*confirmation)}))
    elif task == "figures":
        rows = read(*development)
        chosen = choose(rows)
        folder = HERE.parent.parent / "docs" / "study"
        folder.mkdir(exist_ok=True)
        for screen in sorted({row["screen"] for row in rows}):
            (folder / f"{screen}.svg").write_text(figure(rows, chosen, screen))
        (folder / "curves.svg").write_text(curves_figure(read("screen")))
        for name, title in {"confirm": "confirming runs", "real": "SmolLM2-135M-Instruct"}.items():
            rows = read(*results(f"{name}-*.csv" if name == "confirm" else f"{name}.csv"))
            if len({row["learning_rate"] for row in rows} - {None}) > 1:
                (folder / f"{name}.svg").write_text(rates_figure(rows, f"{title}: each arm from 5e-5 to 2e-4"))
        (folder / "ends.svg").write_text(ends_figure(results("*.csv")))
        for key in MECHANISM:
            (folder / f"mechanism-{key.replace('_', '-')}.svg").write_text(mechanism(read("mechanism"), key))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
