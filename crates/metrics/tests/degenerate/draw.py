"""Draws the 300 long answers, before any detector is run. README.md beside this file states the design.

    python draw.py SAMPLE CLONES sample.jsonl    # `first` or `second`: labels.jsonl without the labels
"""
import json
import random
import sys
import zlib
from collections import Counter, defaultdict

from answers import LONG, different

SEED = {"first": 20261128, "second": 20261130}
PLAIN = 150  # uniformly from all long answers
# Strata in this order, each without those before: upper bound of the repetition quantile, further answers drawn there.
ENRICHED = [("rep_0.3%", 0.003, 45), ("rep_1%", 0.01, 40), ("rep_3%", 0.03, 35)]
LONGEST = ("longest_2%", 0.02, 30)  # of the rest: among the longest 2 % of the long answers of their file
REST = "rest"
WINDOW, STEP = 1000, 500


def per_byte(text):
    return len(text) / len(zlib.compress(text.encode("utf-8", "surrogatepass"), 9))


def scores(text):
    """Characters per deflated byte: of the window that deflates best, and of the whole answer."""
    starts = [*range(0, len(text) - WINDOW, STEP), len(text) - WINDOW]
    return max(per_byte(text[s : s + WINDOW]) for s in starts), per_byte(text)


def quantiles(values):
    """Share of the values that are at least as large, ties broken by order."""
    order = sorted(range(len(values)), key=lambda i: -values[i])
    out = [0.0] * len(values)
    for rank, i in enumerate(order):
        out[i] = (rank + 1) / len(values)
    return out


def strata(pool):
    local, whole = zip(*(scores(a.text) for a in pool))
    repetition = [min(pair) for pair in zip(quantiles(local), quantiles(whole))]
    by_file = defaultdict(list)
    for i, a in enumerate(pool):
        by_file[a.file].append(i)
    longest = set()
    for members in by_file.values():
        members.sort(key=lambda i: -len(pool[i].text))
        longest.update(members[: round(len(members) * LONGEST[1])])
    for i, q in enumerate(repetition):
        name = next((name for name, bound, _ in ENRICHED if q <= bound), None)
        yield name or (LONGEST[0] if i in longest else REST)


def main(sample, clones, out):
    pool = [answer for answer in different(sample, clones) if len(answer.text) >= LONG]
    stratum = list(strata(pool))
    size = Counter(stratum)
    rng = random.Random(SEED[sample])
    plain = rng.sample(range(len(pool)), PLAIN)
    drawn = {i: "plain" for i in plain}
    for name, _, count in [*ENRICHED, LONGEST]:
        left = [i for i, s in enumerate(stratum) if s == name and i not in drawn]
        drawn.update((i, "enriched") for i in rng.sample(left, count))
    sampled = Counter(stratum[i] for i in drawn)
    order = sorted(drawn)
    rng.shuffle(order)  # the reader meets them in this order, without stratum or model
    with open(out, "w") as f:
        for number, i in enumerate(order):
            a = pool[i]
            row = {"n": number, "source": a.source, "file": a.file, "model": a.model, "question": a.question, "sha256": a.sha256,
                   "characters": len(a.text), "drawn": drawn[i], "stratum": stratum[i], "weight": round(size[stratum[i]] / sampled[stratum[i]], 3)}
            f.write(json.dumps(row) + "\n")
    print(f"{len(pool)} long answers; strata {dict(size)}; sampled {dict(sampled)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
