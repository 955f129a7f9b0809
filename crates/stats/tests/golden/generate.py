"""Reference values for tests/golden.rs, from SciPy and statsmodels.

    python generate.py > golden.json

Where neither library has a method, the reference is a derivation that shares no formula with the crate:
Tango's interval maximises the constrained multinomial likelihood numerically; Newcombe's method 10 is
checked against the published worked example in tests/published.rs as well.
"""

import json
import math
import sys

import numpy as np
import scipy
import statsmodels
from scipy import optimize, stats
from statsmodels.duration.survfunc import SurvfuncRight
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import NormalIndPower, TTestPower
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import ttost_paired

SEED = 20261123
rng = np.random.default_rng(SEED)
out = {
    "versions": {
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "statsmodels": statsmodels.__version__,
    },
    "seed": SEED,
}

# one share
cases = []
for x, n, level in [(0, 1, 0.95), (0, 20, 0.95), (1, 29, 0.95), (15, 148, 0.95), (81, 263, 0.9), (20, 20, 0.95), (799, 805, 0.99)]:
    wilson = proportion_confint(x, n, alpha=1 - level, method="wilson")
    exact = proportion_confint(x, n, alpha=1 - level, method="beta")
    exact = [0.0 if math.isnan(exact[0]) else exact[0], 1.0 if math.isnan(exact[1]) else exact[1]]
    cases.append({"successes": x, "n": n, "confidence": level, "wilson": list(wilson), "clopper_pearson": exact})
out["proportion"] = cases


# paired binary
def likelihood_z(a, b, c, d, delta):
    """Score statistic for P(second) - P(first) = delta, the constrained estimate found numerically."""
    n = a + b + c + d
    low, high = max(0.0, -delta), min(1.0, (1.0 - delta) / 2.0)

    def minus_log_likelihood(q):  # q = P(first only), P(second only) = q + delta
        value = 0.0
        for count, p in [(b, q), (c, q + delta), (a + d, 1 - 2 * q - delta)]:
            if count:
                value -= count * math.log(max(p, 1e-300))
        return value

    best = optimize.minimize_scalar(minus_log_likelihood, bounds=(low, high), method="bounded", options={"xatol": 1e-13})
    q = best.x
    variance = n * (2 * q + delta - delta * delta)
    return (c - b - n * delta) / math.sqrt(variance)


def tango(a, b, c, d, level):
    n, z = a + b + c + d, stats.norm.ppf(0.5 + level / 2)
    middle = (c - b) / n
    low = optimize.brentq(lambda x: likelihood_z(a, b, c, d, x) - z, -1 + 1e-9, middle - 1e-9 if b + c == 0 else middle)
    high = optimize.brentq(lambda x: likelihood_z(a, b, c, d, x) + z, middle + 1e-9 if b + c == 0 else middle, 1 - 1e-9)
    return [low, high]


def newcombe(a, b, c, d, level):
    n = a + b + c + d
    l1, u1 = proportion_confint(a + b, n, alpha=1 - level, method="wilson")
    l2, u2 = proportion_confint(a + c, n, alpha=1 - level, method="wilson")
    p1, p2 = (a + b) / n, (a + c) / n
    cross = a * d - b * c
    cross = max(cross - n / 2, 0) if cross > 0 else cross
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    phi = cross / math.sqrt(margins) if margins else 0.0
    first, second = np.array([[1, -phi], [-phi, 1]]), p2 - p1
    low = np.array([p2 - l2, u1 - p1])
    high = np.array([u2 - p2, p1 - l1])
    return [second - math.sqrt(max(low @ first @ low, 0)), second + math.sqrt(max(high @ first @ high, 0))]


cases = []
for a, b, c, d in [(1, 1, 7, 12), (43, 0, 1, 0), (200, 11, 2, 30), (450, 3, 49, 0), (240, 0, 0, 0), (30, 12, 12, 46), (95, 0, 5, 0), (5, 90, 3, 2)]:
    table = [[a, b], [c, d]]
    exact = min(1.0, mcnemar(table, exact=True).pvalue)
    # mid-p: half the probability of what was observed, in each tail
    mid = exact - stats.binom.pmf(b, b + c, 0.5) if b != c else 1.0
    cases.append({
        "table": [a, b, c, d],
        "exact": exact,
        "mid_p": mid,
        "second_smaller": stats.binom.cdf(c, b + c, 0.5) - 0.5 * stats.binom.pmf(c, b + c, 0.5),
        "confidence": 0.95,
        "tango": tango(a, b, c, d, 0.95),
        "newcombe": newcombe(a, b, c, d, 0.95),
    })
out["paired_binary"] = cases

# bootstrap: the interval from given replicates, in SciPy's own arithmetic
values = np.round(rng.exponential(1.0, 40) - 0.4, 6)
replicates = np.array([rng.choice(values, 40).mean() for _ in range(400)])
estimate = values.mean()
jackknife = np.array([np.delete(values, i).mean() for i in range(40)])
u = 39 * (jackknife.mean() - jackknife)
a_hat = (np.sum(u**3) / 40**3) / (6 * (np.sum(u**2) / 40**2) ** 1.5)
share = ((replicates < estimate).mean() + (replicates <= estimate).mean()) / 2
z0 = stats.norm.ppf(share)
ends = []
for tail in (0.025, 0.975):
    z = stats.norm.ppf(tail)
    level = stats.norm.cdf(z0 + (z0 + z) / (1 - a_hat * (z0 + z)))
    ends.append(float(np.percentile(replicates, 100 * level)))
scipy_bca = stats.bootstrap((values,), np.mean, n_resamples=200_000, method="BCa", batch=10_000, rng=np.random.default_rng(SEED))
out["bootstrap"] = {
    "values": values.tolist(),
    "replicates": replicates.tolist(),
    "acceleration": a_hat,
    "bca": ends,
    "scipy_bca": [float(scipy_bca.confidence_interval.low), float(scipy_bca.confidence_interval.high)],
    "scipy_standard_error": float(scipy_bca.standard_error),
}

# sign flip: all patterns
cases = []
for size in (5, 10, 12):
    d = np.round(rng.normal(0.4, 1.0, size), 3)
    p = {}
    for alternative in ("two-sided", "less", "greater"):
        p[alternative] = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative=alternative).pvalue
    cases.append({"differences": d.tolist(), "two_sided": p["two-sided"], "less": p["less"], "greater": p["greater"]})
out["sign_flip"] = cases

# several tests
p = np.round(rng.uniform(0, 0.2, 12), 5)
p[3] = p[7]
out["multiplicity"] = {
    "p": p.tolist(),
    "holm": multipletests(p, method="holm")[1].tolist(),
    "bh": multipletests(p, method="fdr_bh")[1].tolist(),
}

# survival
time = np.minimum(np.ceil(rng.exponential(60, 80)), 120)
status = ((time < 120) & (rng.uniform(size=80) < 0.9)).astype(int)
curve = SurvfuncRight(time, status)
edges = np.concatenate([[0], curve.surv_times, [100.0]])
inside = curve.surv_times < 100
steps = np.concatenate([[1.0], curve.surv_prob[inside]])
grid = np.concatenate([[0.0], curve.surv_times[inside], [100.0]])
rmst = float(np.sum(steps * np.diff(grid)))
area = np.array([np.sum(steps[i + 1 :] * np.diff(grid)[i + 1 :]) for i in range(inside.sum())])
deaths, risk = curve.n_events[inside], curve.n_risk[inside]
rmst_se = float(np.sqrt(np.sum(area**2 * deaths / (risk * (risk - deaths)))))
log_log = stats.ecdf(stats.CensoredData(uncensored=time[status == 1], right=time[status == 0])).sf.confidence_interval(0.95, method="log-log")
out["survival"] = {
    "time": time.tolist(),
    "ended": status.tolist(),
    "times": curve.surv_times.tolist(),
    "survival": curve.surv_prob.tolist(),
    "standard_error": curve.surv_prob_se.tolist(),
    "at_risk": [int(x) for x in curve.n_risk],
    "ended_at": [int(x) for x in curve.n_events],
    "horizon": 100.0,
    "restricted_mean": rmst,
    "restricted_mean_se": rmst_se,
    "log_log_at_30": [float(log_log.low.evaluate(30.0)), float(log_log.high.evaluate(30.0))],
}

# power
cases = []
for effect, alpha, power in [(0.2, 0.05, 0.8), (0.5, 0.025, 0.8), (0.1, 0.05, 0.9), (0.35, 0.025, 0.95)]:
    n = TTestPower().solve_power(effect_size=effect, alpha=alpha, power=power, alternative="larger")
    cases.append({"effect": effect, "alpha": alpha, "power": power, "n": math.ceil(float(n))})
out["paired_mean_n"] = cases

# distributions
out["student"] = [
    {"p": p, "df": df, "quantile": float(stats.t.ppf(p, df)), "cdf_at_2": float(stats.t.cdf(2.0, df))}
    for p, df in [(0.975, 1), (0.95, 2.5), (0.975, 29), (0.6, 4), (0.025, 7), (0.95, 1e6)]
]

# two-way components: paired seeds, three seeds × 40 prompts, from statsmodels' ANOVA table
import pandas as pd  # noqa: E402
from statsmodels.formula.api import ols  # noqa: E402
from statsmodels.stats.anova import anova_lm  # noqa: E402

cells = np.round(0.3 + rng.normal(0, 0.2, (3, 1)) + rng.normal(0, 0.5, (1, 40)) + rng.normal(0, 0.3, (3, 40)), 6)
frame = pd.DataFrame([{"s": s, "p": q, "y": cells[s, q]} for s in range(3) for q in range(40)])
table = anova_lm(ols("y ~ C(s) + C(p)", frame).fit())
ms = table["sum_sq"] / table["df"]
v_seed, v_prompt, v_rest = ms["C(s)"] / 120, ms["C(p)"] / 120, ms["Residual"] / 120
variance = max(v_seed + v_prompt - v_rest, v_seed, v_prompt)
df = variance**2 / (v_seed**2 / 2 + v_prompt**2 / 39)
value = float(cells.mean())
out["hierarchical"] = {
    "cells": cells.tolist(),
    "value": value,
    "standard_error": math.sqrt(variance),
    "df": float(df),
    "two_sided": float(2 * stats.t.sf(abs(value) / math.sqrt(variance), df)),
}

# detectable effects
cases = []
for error, alpha, power in [(0.02, 0.05, 0.8), (0.31, 0.025, 0.9), (1.7, 0.05, 0.95)]:
    # one z test of a mean over 100 prompts with this standard error
    effect = NormalIndPower(ddof=0).solve_power(nobs1=100, alpha=alpha, power=power, ratio=0, alternative="larger")
    cases.append({"standard_error": error, "alpha": alpha, "power": power, "detectable": float(effect) * error * 10.0})
out["line_detectable"] = cases

cases = []
for discordant, n, alpha, power in [(0.02, 250, 0.05, 0.8), (0.1, 600, 0.025, 0.8), (0.0, 60, 0.05, 0.9), (0.3, 12, 0.05, 0.8)]:
    def missing(d):
        # power of the z test on b - c, its variance under "no difference" and under d (Connor 1987)
        total = max(discordant, d)
        null, other = stats.norm(0, math.sqrt(total / n)), stats.norm(d, math.sqrt(max(total - d * d, 1e-300) / n))
        return other.sf(null.ppf(1 - alpha)) - power
    cases.append({"discordant": discordant, "n": n, "alpha": alpha, "power": power, "detectable": float(optimize.brentq(missing, 1e-9, 1 - 1e-9, xtol=1e-13))})
out["mcnemar_detectable"] = cases

# equivalence
cases = []
for size, shift, margin in [(12, 0.1, 0.5), (40, -0.2, 0.4), (150, 0.0, 0.1), (30, 0.6, 0.5)]:
    d = np.round(rng.normal(shift, 0.6, size), 4)
    p, (lower, lower_p, _), (upper, upper_p, _) = ttost_paired(d, np.zeros(size), -margin, margin)
    cases.append({"differences": d.tolist(), "margin": margin, "p": float(p), "lower": float(lower_p), "upper": float(upper_p)})
out["tost_paired"] = cases

cases = []
for a, b, c, d, margin in [(450, 3, 9, 38, 0.02), (240, 0, 0, 0, 0.02), (30, 12, 12, 46, 0.1), (200, 11, 2, 30, 0.05), (95, 0, 5, 0, 0.05)]:
    lower = float(stats.norm.sf(likelihood_z(a, b, c, d, -margin)))
    upper = float(stats.norm.cdf(likelihood_z(a, b, c, d, margin)))
    cases.append({"table": [a, b, c, d], "margin": margin, "lower": lower, "upper": upper})
out["tost_tango"] = cases

# power of the score test: the shown tables of every number of discordant pairs, summed
def score_power(first_only, second_only, margin, n, alpha):
    z, discordant, power = stats.norm.isf(alpha), first_only + second_only, 0.0
    for d in range(int(stats.binom.isf(1 - 1e-14, n, discordant)), int(stats.binom.isf(1e-14, n, discordant)) + 1):
        shown, not_shown = -1, d + 1  # losses: the score falls in them
        while not_shown - shown > 1:
            b = (shown + not_shown) // 2
            if likelihood_z(n - d, b, d - b, 0, -margin) > z:
                shown = b
            else:
                not_shown = b
        power += stats.binom.pmf(d, n, discordant) * stats.binom.cdf(shown, d, first_only / discordant)
    return float(power)


cases = []
for first_only, second_only, margin, n, alpha in [
    # up to 150 discordant pairs are expected, of ten million prompts too
    (0.02, 0.01, 0.03, 300, 0.05), (0.2, 0.25, 0.1, 120, 0.025), (5e-6, 5e-6, 2.5e-6, 10_000_000, 0.05),
    # more
    (0.3, 0.1, 0.25, 500, 0.05), (0.3, 0.0, 0.36, 600, 0.05), (0.5, 0.2, 0.35, 300, 0.05), (0.1, 0.2, 0.03, 600, 0.001),
]:
    power = score_power(first_only, second_only, margin, n, alpha)
    cases.append({"first_only": first_only, "second_only": second_only, "margin": margin, "n": n, "alpha": alpha, "power": power})
out["tango_power"] = cases

# all of k samples good: draws without replacement
out["all_of"] = [
    {"good": good, "n": n, "k": k, "p": float(stats.hypergeom(n, good, k).pmf(k))}
    for good, n, k in [(4, 4, 4), (3, 4, 4), (3, 4, 2), (7, 10, 3), (0, 5, 1), (16, 16, 8), (15, 16, 8)]
]

json.dump(out, sys.stdout, indent=1)
print()
