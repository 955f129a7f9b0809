"""Hierarchical bootstrap and Holm's correction: the standard library alone."""

import random
from bisect import bisect_left, bisect_right
from collections import defaultdict

DRAWS, SEED = 10_000, 1


def mean(values):
    return sum(values) / len(values)


def clusters(values):
    """One list per SFT seed, of the values of its preference seeds; `values` are (sft_seed, seed, value)."""
    found = defaultdict(list)
    for sft, _, value in sorted(values):
        found[sft].append(value)
    return list(found.values())


def bootstrap(groups):
    """Mean over groups of their means, and the sorted means of draws of groups and of values within them."""
    rng = random.Random(SEED)
    drawn = []
    for _ in range(DRAWS):
        sample = rng.choices(groups, k=len(groups))
        drawn.append(mean([mean(rng.choices(group, k=len(group))) for group in sample]))
    return mean([mean(group) for group in groups]), sorted(drawn)


def crossed(table):
    """As `bootstrap`, of the same prompts under every seed: draws of seeds, then of prompts. `table` has {prompt: value} of each seed."""
    rng = random.Random(SEED)
    prompts = sorted(set.intersection(*map(set, table)))
    drawn = []
    for _ in range(DRAWS):
        seeds = rng.choices(table, k=len(table))
        sample = rng.choices(prompts, k=len(prompts))
        drawn.append(mean([mean([values[prompt] for prompt in sample]) for values in seeds]))
    return mean([mean([values[prompt] for prompt in prompts]) for values in table]), sorted(drawn)


def auc(runs):
    """Probability that a lost run scores lower than one that is not; `runs` are (cluster, score, lost). None without both."""
    lost, kept = [sorted(score for _, score, of in runs if of == which) for which in (True, False)]
    if not lost or not kept:
        return None
    above = sum(len(kept) - (bisect_left(kept, score) + bisect_right(kept, score)) / 2 for score in lost)
    return above / len(lost) / len(kept)


def resampled(runs, statistic, draws=1_000):
    """Sorted values of a statistic over draws of whole clusters."""
    rng = random.Random(SEED)
    by_cluster = defaultdict(list)
    for run in runs:
        by_cluster[run[0]].append(run)
    names = sorted(by_cluster)
    drawn = [statistic([run for name in rng.choices(names, k=len(names)) for run in by_cluster[name]]) for _ in range(draws)]
    return sorted(value for value in drawn if value is not None)


def interval(drawn, level=0.95):
    low = int((1 - level) / 2 * len(drawn))
    return drawn[low], drawn[-low - 1]


def p_inferior(drawn, margin):
    """One-sided p of a difference (higher is better) of at most −margin: the share of draws there, at least 1/(draws + 1)."""
    return (sum(value <= -margin for value in drawn) + 1) / (len(drawn) + 1)


def holm(p_values):
    """Adjusted p-values, in the order given."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted
