"""Hierarchical bootstrap, Holm's correction: the standard library alone."""

import random
from collections import defaultdict

DRAWS, SEED = 10_000, 1


def by_cluster(values):
    """{sft_seed: [value per preference seed]} of (sft_seed, seed, value)."""
    clusters = defaultdict(list)
    for sft, _, value in sorted(values):
        clusters[sft].append(value)
    return list(clusters.values())


def mean(values):
    return sum(values) / len(values)


def bootstrap(clusters, draws=DRAWS, seed=SEED):
    """Mean over clusters of their means, and the sorted means of draws of clusters and of values within them."""
    rng = random.Random(seed)
    estimate = mean([mean(cluster) for cluster in clusters])
    drawn = []
    for _ in range(draws):
        sample = [rng.choice(clusters) for _ in clusters]
        drawn.append(mean([mean([rng.choice(cluster) for _ in cluster]) for cluster in sample]))
    return estimate, sorted(drawn)


def interval(drawn, level=0.95):
    low = int((1 - level) / 2 * len(drawn))
    return drawn[low], drawn[-low - 1]


def non_inferior(drawn, margin):
    """One-sided p of a difference (higher is better) at most −margin: the share of draws there, at least 1/(draws + 1)."""
    return (sum(value <= -margin for value in drawn) + 1) / (len(drawn) + 1)


def holm(p_values):
    """Adjusted p-values, in the order given."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted
