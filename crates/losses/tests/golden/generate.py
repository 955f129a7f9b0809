"""Golden values for smpo-losses from an independent PyTorch implementation.

Every objective is written here as in its paper, on padded (B, T) float64 tensors with row masks and torch.where, and
the token weights come from autograd. Nothing is shared with the Rust code but the formulas' sources.

    python generate.py > golden.json      # torch 2.15.0, Python 3.11, seed below
"""

import json
import platform
import sys

import torch
import torch.nn.functional as F

SEED = 20261123
torch.manual_seed(SEED)
torch.set_default_dtype(torch.float64)
MODIFIED = {"eos_term": "invert", "lower_clip_percentile": 0.02, "min_log_prob": -2.3}


# ---------------------------------------------------------------- batches


def completion(length, terminators=1, depth=6.0, certain=False):
    logps = -depth * torch.rand(length).pow(3)
    if certain:
        logps = torch.zeros(length)
    reference = logps + 0.5 * torch.randn(length)
    reference = torch.minimum(reference, torch.zeros(length))
    flags = [False] * length
    for k in range(terminators):
        flags[length - 1 - k] = True
    # not drawn: the numbers before it stay as they are
    entropy = [0.1 + (5 * t + length) % 7 * 0.4 for t in range(length)]
    return {"logps": logps.tolist(), "is_terminator": flags, "ref_logps": reference.tolist(), "entropy": entropy}


def batches():
    plain = [(completion(c), completion(r)) for c, r in [(5, 7), (9, 4), (3, 3), (6, 11), (1, 2), (8, 8)]]
    # Rejected sides that are nothing but terminators, one with two of them, and rejected preferred by far.
    odd = [
        (completion(4), completion(1)),
        (completion(7, depth=12.0), completion(5, terminators=2, depth=0.5)),
        (completion(2), completion(2, terminators=2)),
        (completion(3, depth=0.1), completion(6, depth=12.0)),
    ]
    ties = []
    for length in (4, 6):
        c, r = completion(length), completion(length)
        r["logps"] = [-3.0] * (length - 1) + [-0.5]
        ties.append((c, r))
    as_pairs = lambda sides: [{"chosen": c, "rejected": r} for c, r in sides]
    return {"plain": as_pairs(plain), "odd": as_pairs(odd), "ties": as_pairs(ties)}


def padded(side, pairs, key):
    """(B, T) values of one side, padded with something that would show if it were read."""
    width = max(len(pair[side]["logps"]) for pair in pairs) + 1
    fill = False if key == "is_terminator" else -77.0
    rows = [pair[side][key] + [fill] * (width - len(pair[side][key])) for pair in pairs]
    return torch.tensor(rows, dtype=torch.bool if key == "is_terminator" else torch.float64)


def row_mask(side, pairs):
    lengths = torch.tensor([len(pair[side]["logps"]) for pair in pairs])
    width = int(lengths.max()) + 1
    return torch.arange(width)[None, :] < lengths[:, None]


# ---------------------------------------------------------------- transforms


class Side:
    def __init__(self, name, pairs):
        self.mask = row_mask(name, pairs)
        self.raw = padded(name, pairs, "logps").requires_grad_()
        self.reference = padded(name, pairs, "ref_logps")
        self.terminator = padded(name, pairs, "is_terminator") & self.mask
        self.entropy = padded(name, pairs, "entropy")
        self.counted = self.mask
        self.policy = self.raw

    def totals(self, values):
        return torch.where(self.counted, values, torch.zeros(())).sum(1)

    def lengths(self):
        return self.counted.sum(1)


def eos_term(cfg, values, side):
    term = cfg.get("eos_term", "off")
    if term == "invert":
        return torch.where(side.terminator, -values, values)
    if term == "bounded":
        cap = torch.tensor(cfg.get("eos_penalty_cap", 2.3))
        # where, not minimum: minimum would split the gradient at a tie
        inverted = torch.where(-values > cap, cap, -values)
        return torch.where(side.terminator, inverted, values)
    return values


def transform(cfg, chosen, rejected, microbatches, memory):
    """Sets .policy, .reference and .counted; gives the effective lower bounds and both clipped masks."""
    if cfg.get("eos_term", "off") == "mask":
        only = (rejected.mask == rejected.terminator).all(1, keepdim=True)
        rejected.counted = torch.where(only, rejected.mask, rejected.mask & ~rejected.terminator)
    rejected.policy = eos_term(cfg, rejected.raw, rejected)
    rejected.reference = eos_term(cfg, rejected.reference, rejected)

    count = len(rejected.mask)
    scope = cfg.get("winsor_scope", "microbatch")
    groups = [list(range(count))]
    if scope == "microbatch" and microbatches:
        groups, start = [], 0
        for size in microbatches:
            groups.append(list(range(start, start + size)))
            start += size

    def quantiles(side, q, name):
        bounds = torch.zeros(count, 1)
        for rows in groups:
            seen = torch.cat([side.policy[i][side.counted[i]] for i in rows]).detach()
            if isinstance(scope, dict):
                seen = torch.cat([memory.get(name, torch.zeros(0)), seen])[-scope["window"] :]
                memory[name] = seen
            bounds[rows] = torch.quantile(seen, q, interpolation="linear")
        return bounds

    clipped_rejected = torch.zeros_like(rejected.mask)
    lower = torch.full((count, 1), -torch.inf)
    if (q := cfg.get("lower_clip_percentile")) is not None:
        lower = quantiles(rejected, q, "rejected")
        below = rejected.counted & (rejected.policy < lower)
        clipped_rejected = clipped_rejected | below
        rejected.policy = torch.where(below, lower, rejected.policy)
        rejected.reference = torch.where(rejected.reference < lower, lower, rejected.reference)
    if (floor := cfg.get("min_log_prob")) is not None:
        floor = torch.tensor(floor)
        below = rejected.counted & (rejected.policy < floor)
        clipped_rejected = clipped_rejected | below
        rejected.policy = torch.where(below, floor, rejected.policy)
        rejected.reference = torch.where(rejected.reference < floor, floor, rejected.reference)
        lower = torch.maximum(lower, floor)
    clipped_chosen = torch.zeros_like(chosen.mask)
    if (q := cfg.get("upper_clip_percentile")) is not None:
        upper = quantiles(chosen, q, "chosen")
        clipped_chosen = chosen.counted & (chosen.policy > upper)
        chosen.policy = torch.where(clipped_chosen, upper, chosen.policy)
        chosen.reference = torch.where(chosen.reference > upper, upper, chosen.reference)
    on_rejected = cfg.get("lower_clip_percentile") is not None or cfg.get("min_log_prob") is not None
    return {
        "bound": lower[[rows[0] for rows in groups]].mean().item() if on_rejected else None,
        "share_rejected": (clipped_rejected.sum() / rejected.counted.sum()).item() if on_rejected else None,
        "share_chosen": (clipped_chosen.sum() / chosen.counted.sum()).item() if "upper_clip_percentile" in cfg else None,
    }


# ---------------------------------------------------------------- losses


def means(side):
    return side.totals(side.policy) / side.lengths()


def token_nll(side):
    return -side.raw[side.mask].mean()


def smpo(cfg, chosen, rejected, margin):
    beta = cfg.get("beta", 1.2)
    gamma = cfg.get("target_margin", 0.35) if margin is None else margin
    rho = cfg.get("chosen_sft_ratio", 0.8)
    s_plus, s_minus = means(chosen), means(rejected)
    delta = s_plus - s_minus - gamma
    kind = cfg.get("loss_type", "smooth_lower_bound")
    if kind == "smooth_lower_bound":
        loss = F.relu(-beta * delta).square()
    elif kind == "smooth_double_bound":
        loss = F.relu(-beta * delta).square() + F.relu(beta * (delta - cfg.get("margin_delta", 0.2))).square()
    elif kind == "sigmoid":
        loss = -F.logsigmoid(beta * delta)
    elif kind == "hinge":
        loss = F.relu(-beta * delta)
    elif kind == "ipo":
        loss = (beta * delta).square()
    sft = (rho * token_nll(chosen), (1 - rho) * token_nll(rejected))
    return loss, sft, (beta * s_plus, beta * s_minus)


def shared_length(values, side, other, alpha):
    """LD-DPO: full weight up to the shorter of the two lengths, alpha beyond."""
    shared = torch.minimum(side.lengths(), other.lengths())[:, None]
    position = side.counted.cumsum(1)
    weight = torch.where(position <= shared, torch.tensor(1.0), torch.tensor(float(alpha)))
    return torch.where(side.counted, weight * values, torch.zeros(())).sum(1)


def dpo(cfg, chosen, rejected, margin):
    beta = cfg.get("beta", 0.1)

    def score(side, other, values):
        if cfg.get("ld_alpha") is not None:
            return shared_length(values, side, other, cfg["ld_alpha"])
        total = side.totals(values)
        return total / side.lengths() if cfg.get("average_log_prob") else total

    pi_plus, pi_minus = score(chosen, rejected, chosen.policy), score(rejected, chosen, rejected.policy)
    ref_plus, ref_minus = score(chosen, rejected, chosen.reference), score(rejected, chosen, rejected.reference)
    if cfg.get("reference_free"):
        ref_plus, ref_minus = torch.zeros_like(ref_plus), torch.zeros_like(ref_minus)
    a, b = pi_plus - ref_plus, pi_minus - ref_minus
    if "gate_alpha" in cfg:
        # the value of b with a gradient scaled by the gate
        g = gate(cfg, rejected)[: len(b)]
        b = g * b + (1 - g) * b.detach()
    if (lam := cfg.get("dpop_lambda")) is not None:
        a = a - lam * F.relu(ref_plus - pi_plus)
    if (lam := cfg.get("bdpo_lambda")) is not None:
        b = torch.log(lam * torch.exp(b) + (1 - lam))
    a, b = divergence(cfg, a), divergence(cfg, b)
    kinds = cfg.get("loss_type", "sigmoid")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    weights = cfg.get("loss_weights", [1.0] * len(kinds))
    lengths = (chosen.lengths(), rejected.lengths())
    policy, reference = pi_plus - pi_minus, ref_plus - ref_minus
    loss = sum(w * dpo_pair(cfg, kind, a, b, lengths, policy, reference) for kind, w in zip(kinds, weights))
    sft_weight = cfg.get("rpo_alpha", 0.0) + sum(w for kind, w in zip(kinds, weights) if kind == "sft")
    sft = (sft_weight * token_nll(chosen), torch.zeros(()))
    if cfg.get("use_weighting"):
        loss = loss * (policy_weight(chosen) * policy_weight(rejected)).detach()
    return loss, sft, (beta * (pi_plus - ref_plus), beta * (pi_minus - ref_minus))


def policy_weight(side):
    """WPO: exp of the mean of log p − log Σ p², of all tokens as they are."""
    log_sum_squares = -side.entropy
    aligned = torch.where(side.mask, side.raw - log_sum_squares, torch.zeros(()))
    return torch.exp(aligned.sum(1) / side.mask.sum(1))


def gate(cfg, rejected):
    """Gate-DPO: a sigmoid of a probability of rejected, of all tokens as they are."""
    rows = [torch.exp(rejected.raw[i][rejected.mask[i]]) for i in range(len(rejected.mask))]
    if cfg.get("gate_estimate", "seq") == "seq":
        p = torch.stack([row.log().mean().exp() for row in rows])
    else:
        p = torch.stack([torch.quantile(row, 0.1) for row in rows])
    return torch.sigmoid(cfg["gate_alpha"] * (p - cfg["gate_tau"])).detach()


def divergence(cfg, r):
    kind = cfg.get("f_divergence_type", "reverse_kl")
    if kind == "forward_kl":
        return 1 - torch.exp(-r)
    if kind == "js_divergence":
        t = torch.exp(r)
        return torch.log(2 * t / (t + 1))
    if kind == "alpha_divergence":
        power = cfg.get("f_alpha_divergence_coef", 0.5) - 1
        return (torch.exp(r) ** power - 1) / power
    if kind == "squared":
        return r / torch.exp(r)
    return r


def dpo_pair(cfg, kind, a, b, lengths, policy, reference):
    """One DPO-style loss per pair; names and formulas of TRL 1.16 where it has the loss."""
    beta, eps = cfg.get("beta", 0.1), cfg.get("label_smoothing", 0.0)
    h = a - b

    def smoothed(z):
        return -(1 - eps) * F.logsigmoid(z) - eps * F.logsigmoid(-z)

    if kind == "sigmoid":
        return smoothed(beta * h)
    if kind == "sigmoid_norm":
        return -F.logsigmoid(beta * (a / lengths[0] - b / lengths[1]))
    if kind == "hinge":
        return F.relu(1 - beta * h)
    if kind == "ipo":
        return (h - 1 / (2 * beta)).square()
    if kind == "ipo_norm":
        return (a / lengths[0] - b / lengths[1] - 1 / (2 * beta)).square()
    if kind == "exo_pair":
        q = torch.stack([torch.sigmoid(beta * h), torch.sigmoid(-beta * h)])
        p = torch.tensor([[1 - eps], [eps]])
        return (q * (q.log() - p.log())).sum(0)
    if kind == "nca_pair":
        return -F.logsigmoid(beta * a) - 0.5 * F.logsigmoid(-beta * a) - 0.5 * F.logsigmoid(-beta * b)
    if kind == "robust":
        clean, flipped = -F.logsigmoid(beta * h), -F.logsigmoid(-beta * h)
        return ((1 - eps) * clean - eps * flipped) / (1 - 2 * eps)
    if kind == "bco_pair":
        return -F.logsigmoid(beta * a) - F.logsigmoid(-beta * b)
    if kind == "sppo_hard":
        return (a - 0.5 / beta).square() + (b + 0.5 / beta).square()
    if kind == "aot":
        by_rank = smoothed(beta * (policy.sort()[0] - reference.sort()[0]))
        return by_rank[policy.argsort().argsort()]
    if kind == "aot_unpaired":
        by_rank = smoothed(beta * (a.sort()[0] - b.sort()[0]))
        return by_rank[a.argsort().argsort()]
    if kind == "apo_zero":
        return 1 - torch.sigmoid(beta * a) + torch.sigmoid(beta * b)
    if kind == "apo_down":
        return torch.sigmoid(beta * a) + 1 - torch.sigmoid(beta * h)
    if kind == "discopop":
        m = torch.sigmoid(beta * h / cfg.get("discopop_tau", 0.05))
        return (1 - m) * -F.logsigmoid(beta * h) + m * torch.exp(-beta * h)
    if kind == "cal":
        return -F.logsigmoid(h) + (a - 0.5 / beta).square() + (b + 0.5 / beta).square()
    if kind == "shift":
        return -F.logsigmoid(beta * (a - cfg.get("shift_lambda", 0.75) * b))
    if kind == "balanced":
        return -F.logsigmoid(beta * torch.minimum(a, -cfg.get("balance", 0.5) * b))
    if kind == "sft":
        return torch.zeros_like(h)
    raise ValueError(kind)


def alpha_reward(cfg, s):
    alpha = cfg.get("alpha", 0.0)
    return s if alpha == 0 else (1 - torch.exp(s) ** -alpha) / alpha


def confident_means(side):
    """ConfPO: the mean over tokens below the mean probability of their completion."""
    p = torch.exp(side.raw.detach())
    mean = torch.where(side.counted, p, torch.zeros(())).sum(1) / side.lengths()
    below = side.counted & (p < mean[:, None])
    below = torch.where(below.any(1, keepdim=True), below, side.counted)
    return torch.where(below, side.policy, torch.zeros(())).sum(1) / below.sum(1)


def simpo(cfg, chosen, rejected, margin):
    beta = cfg.get("beta", 2.0)
    gamma = cfg.get("gamma", 1.0) if margin is None else margin
    score = confident_means if cfg.get("token_selection") == "less_confident" else means
    s_plus, s_minus = alpha_reward(cfg, score(chosen)), alpha_reward(cfg, score(rejected))
    loss = -F.logsigmoid(beta * s_plus - beta * s_minus - gamma)
    return loss, (cfg.get("sft_weight", 0.0) * token_nll(chosen), torch.zeros(())), (beta * s_plus, beta * s_minus)


def lmpo(cfg, chosen, rejected, memory):
    """The authors' code, with their running means divided by their weight so far, as Adam does it."""
    beta, gamma = cfg.get("beta", 2.5), cfg.get("gamma", 1.375)
    s_plus, s_minus = means(chosen), means(rejected)
    length = (chosen.lengths() + rejected.lengths()) / 2
    p_plus = torch.exp(s_plus.clamp(max=0) * length / chosen.lengths())
    p_minus = torch.exp(s_minus.clamp(max=0) * length / rejected.lengths())
    margin = ((1 - p_plus) * (1 - (p_plus - p_minus) ** 5) / 2).detach()
    mean, std, weight = memory.get("margins", (0.0, 0.0, 0.0))
    mean, std, weight = 0.9 * mean + 0.1 * margin.mean(), 0.9 * std + 0.1 * margin.std(), 0.9 * weight + 0.1
    memory["margins"] = (mean, std, weight)
    z = (margin - mean / weight) / (std / weight)
    gap = beta * (s_plus - s_minus) - cfg.get("margin_weight", 0.2) * z
    loss = -torch.log(1 / (1 + torch.exp(torch.tensor(gamma)) * torch.exp(-gap)))
    return loss, (torch.zeros(()), torch.zeros(())), (beta * s_plus, beta * s_minus)


def sft(cfg, chosen):
    kind = cfg.get("loss_type", "nll")
    logp, entropy = chosen.raw[chosen.mask], chosen.entropy[chosen.mask]
    if kind == "neg_p":
        return -torch.exp(logp).mean()
    weight = torch.ones_like(logp)
    if kind == "dft":
        weight = torch.exp(logp).detach()
    if kind == "eaft":
        weight = (entropy / 3.0) ** cfg.get("eaft_alpha", 1.0)
    return -(weight * logp).mean()


def cpo(cfg, chosen, rejected, margin):
    beta = cfg.get("beta", 0.1)
    kind, eps = cfg.get("loss_type", "sigmoid"), cfg.get("label_smoothing", 0.0)
    plus, minus = chosen.totals(chosen.policy), rejected.totals(rejected.policy)
    if kind == "ipo":
        plus, minus = means(chosen), means(rejected)
    plus, minus = alpha_reward(cfg, plus), alpha_reward(cfg, minus)
    if kind == "hinge":
        loss = F.relu(1 - beta * (plus - minus))
    elif kind == "ipo":
        loss = (plus - minus - 1 / (2 * beta)).square()
    else:
        loss = -(1 - eps) * F.logsigmoid(beta * (plus - minus)) - eps * F.logsigmoid(-beta * (plus - minus))
    return loss, (cfg.get("cpo_alpha", 1.0) * token_nll(chosen), torch.zeros(())), (beta * plus, beta * minus)


def orpo(cfg, chosen, rejected, margin):
    lam = cfg.get("lambda", 0.1)
    s_plus, s_minus = means(chosen), means(rejected)

    def log_odds(s):
        # Past p = 1 − 2⁻²⁴ the odds go on with derivative 1, as the Rust documentation states.
        edge = torch.tensor(-(2.0**-24))
        inside = torch.where(s < edge, s, torch.tensor(-1.0))
        odds = inside - torch.log(-torch.expm1(inside))
        return torch.where(s < edge, odds, s - torch.log(-torch.expm1(edge)))

    loss = -lam * F.logsigmoid(log_odds(s_plus) - log_odds(s_minus))
    return loss, (token_nll(chosen), torch.zeros(())), (lam * s_plus, lam * s_minus)


def simper(cfg, chosen, rejected, margin):
    plus, minus = torch.exp(means(chosen)), torch.exp(means(rejected))
    return minus - plus, (torch.zeros(()), torch.zeros(())), (plus, minus)


def repo(cfg, chosen, rejected, margin):
    gamma = cfg.get("gamma", 0.5) if margin is None else margin
    plus, minus = means(chosen), means(rejected)
    return F.relu(gamma - (plus - minus)), (torch.zeros(()), torch.zeros(())), (plus, minus)


def npo(cfg, chosen, rejected, margin):
    beta = cfg.get("beta", 0.1)
    plus = chosen.totals(chosen.policy) - chosen.totals(chosen.reference)
    minus = rejected.totals(rejected.policy) - rejected.totals(rejected.reference)
    loss = 2 / beta * torch.log(1 + torch.exp(beta * minus))
    return loss, (cfg.get("sft_weight", 1.0) * token_nll(chosen), torch.zeros(())), (beta * plus, beta * minus)


def over_tokens(cfg, side, function):
    """The mean of a function over a completion's tokens, without terminators that an EOS term is on."""
    seen = side.mask & ~side.terminator if cfg.get("eos_term", "off") != "off" else side.mask
    if cfg.get("eos_term") == "mask":
        only = (side.mask == side.terminator).all(1, keepdim=True)
        seen = torch.where(only, side.mask, seen)
    values = function(torch.where(seen, side.policy, torch.tensor(-1.0)))
    return torch.where(seen, values, torch.zeros(())).sum(1) / seen.sum(1).clamp(min=1)


def unlikelihood(cfg, chosen, rejected, margin):
    loss = cfg.get("rank_alpha", 1.0) * over_tokens(cfg, rejected, lambda l: -torch.log(1 - torch.exp(l)))
    sft = (cfg.get("sft_weight", 1.0) * token_nll(chosen), torch.zeros(()))
    return loss, sft, (means(chosen), means(rejected))


def slime(cfg, chosen, rejected, margin):
    s_plus, s_minus = means(chosen), means(rejected)
    delta = s_plus - s_minus
    fade = torch.sigmoid(-cfg.get("steepness", 2.5) * (delta - cfg.get("soft_margin", 1.0)))
    loss = F.relu(cfg.get("hard_margin", 1.5) - delta) * fade - cfg.get("chosen_weight", 0.8) * s_plus
    power, threshold = cfg.get("floor_power", 2.5), cfg.get("floor_threshold", 0.5)
    floor = over_tokens(cfg, rejected, lambda l: F.softplus(-l - threshold) ** power)
    loss = loss + cfg.get("floor_weight", 5e-4) * floor
    return loss, (torch.zeros(()), torch.zeros(())), (s_plus, s_minus)


def gpo(cfg, pairs, chosen, rejected):
    """A pair is a group of two, with rewards 1 and 0; generate_groups.py has larger ones."""
    quartile = torch.special.ndtri(torch.tensor(0.75)).item()
    size = {"z_norm": 1.0, "minmax": 1.0, "quantile_norm": quartile, "robust": quartile}[cfg.get("advantage", "z_norm")]
    size = min(size, cfg.get("advantage_clip", 10.0))
    count, beta = len(pairs), cfg.get("kl_beta", 0.0)
    tokens = (chosen.mask.sum() + rejected.mask.sum()).item()
    loss, rewards = torch.zeros(count), []
    for side, name, advantage in [(chosen, "chosen", size), (rejected, "rejected", -size)]:
        weighted = cfg.get("loss_type", "prob_weighted") == "prob_weighted"
        g = torch.exp if weighted else (lambda values: values)
        term = cfg.get("eos_term", "off") in ("invert", "bounded") and name == "rejected"
        turned = side.terminator if term else torch.zeros_like(side.terminator)
        values = torch.where(turned, -g(torch.where(turned, -side.policy, torch.zeros(()))), g(side.policy))
        reference = padded(name, pairs, "ref_logps")
        u = torch.where(side.mask, reference - side.raw, torch.zeros(()))
        k3 = torch.exp(u) - u - 1
        sums, lengths = side.totals(values), side.lengths()
        kl_sums, kl_lengths = k3.sum(1), side.mask.sum(1)
        kind = cfg.get("normalization", "group")
        if kind in ("group", "grpo"):
            part = -advantage * sums / lengths / 2 + beta * kl_sums / kl_lengths / 2
        elif kind == "bnpo":
            part = (-advantage * sums + beta * kl_sums) * count / tokens
        else:
            part = (-advantage * sums + beta * kl_sums) / (2 * cfg["dr_grpo_length"])
        loss = loss + part
        rewards.append(sums / lengths)
    return loss, (torch.zeros(()), torch.zeros(())), rewards


def kto(cfg, chosen, rejected, mismatched):
    beta = cfg.get("beta", 0.1)
    baseline = torch.zeros(())
    if cfg.get("kl_baseline", "mismatched") == "mismatched" and cfg.get("loss_type", "kto") == "kto":
        ratios = [sum(c["logps"]) - sum(c["ref_logps"]) for c in mismatched]
        baseline = torch.tensor(ratios).mean().clamp(min=0)
    plus = chosen.totals(chosen.policy) - chosen.totals(chosen.reference)
    minus = rejected.totals(rejected.policy) - rejected.totals(rejected.reference)
    good = cfg.get("desirable_weight", 1.0) * (1 - torch.sigmoid(beta * (plus - baseline)))
    bad = cfg.get("undesirable_weight", 1.0) * (1 - torch.sigmoid(beta * (baseline - minus)))
    # Here every example has both sides, so the mean over completions is the mean over pairs of the two's mean.
    return (good + bad) / 2, (torch.zeros(()), torch.zeros(())), (beta * plus, beta * minus)


def evaluate(cfg, pairs, microbatches, memory, margin, mismatched):
    chosen, rejected = Side("chosen", pairs), Side("rejected", pairs)
    clip = transform(cfg, chosen, rejected, microbatches, memory)
    kind = cfg["kind"]
    if kind == "sft":
        per_pair, parts, rewards = torch.zeros(len(pairs)), (sft(cfg, chosen), torch.zeros(())), None
    elif kind == "distill":
        # the part that is a function of log-probs; generate_divergence.py has the other
        part = (1 - cfg.get("alpha", 0.5)) * token_nll(chosen)
        per_pair, parts, rewards = torch.zeros(len(pairs)), (part, torch.zeros(())), None
    elif kind == "kto":
        per_pair, parts, rewards = kto(cfg, chosen, rejected, mismatched)
    elif kind == "gpo":
        per_pair, parts, rewards = gpo(cfg, pairs, chosen, rejected)
    elif kind == "lmpo":
        per_pair, parts, rewards = lmpo(cfg, chosen, rejected, memory)
    else:
        losses = {"smpo": smpo, "dpo": dpo, "simpo": simpo, "cpo": cpo, "orpo": orpo}
        losses |= {"simper": simper, "repo": repo, "npo": npo, "unlikelihood": unlikelihood, "slime": slime}
        per_pair, parts, rewards = losses[kind](cfg, chosen, rejected, margin)
    total = per_pair.mean() + parts[0] + parts[1]
    grads = torch.autograd.grad(total, [chosen.raw, rejected.raw], allow_unused=True)

    def weights(side, grad):
        grad = torch.zeros_like(side.raw) if grad is None else grad
        assert not grad[~side.mask].any(), "padding has a gradient"
        return [grad[i][side.mask[i]].tolist() for i in range(len(pairs))]

    return {
        "loss": total.item(),
        "po_loss": per_pair.mean().item(),
        "sft_chosen_loss": parts[0].item(),
        "sft_rejected_loss": parts[1].item(),
        "pairs": per_pair.tolist(),
        "chosen_rewards": rewards[0].tolist() if rewards else None,
        "rejected_rewards": rewards[1].tolist() if rewards else None,
        "chosen_weights": weights(chosen, grads[0]),
        "rejected_weights": weights(rejected, grads[1]),
        **clip,
    }


# ---------------------------------------------------------------- cases


def cases():
    smpo_types = ["smooth_lower_bound", "smooth_double_bound", "sigmoid", "hinge", "ipo"]
    for kind in smpo_types:
        yield {"config": {"kind": "smpo", "loss_type": kind}, "batch": "plain"}
        yield {"config": {"kind": "smpo", "loss_type": kind, "beta": 1.6, **MODIFIED}, "batch": "odd"}
    base = {"kind": "smpo", "loss_type": "sigmoid"}
    yield {"config": base, "batch": "plain", "margin": 0.01}
    yield {"config": {**base, "chosen_sft_ratio": 1.0}, "batch": "ties"}
    for term in [{"eos_term": "mask"}, {"eos_term": "invert"}, {"eos_term": "bounded", "eos_penalty_cap": 0.4}]:
        for batch in ["plain", "odd"]:
            yield {"config": {**base, **term}, "batch": batch}
    for q in [0.02, 0.2, 0.5]:
        yield {"config": {**base, "lower_clip_percentile": q}, "batch": "plain", "microbatches": [2, 3, 1]}
        yield {"config": {**base, "lower_clip_percentile": q, "winsor_scope": "step"}, "batch": "plain", "microbatches": [2, 3, 1]}
        yield {"config": {**base, "lower_clip_percentile": q, "eos_term": "mask"}, "batch": "odd", "microbatches": [1, 1, 1, 1]}
        yield {"config": {**base, "lower_clip_percentile": q}, "batch": "ties"}
    for window in [10, 60]:
        scope = {"winsor_scope": {"window": window}, "lower_clip_percentile": 0.3, "upper_clip_percentile": 0.8}
        yield {"config": {**base, **scope}, "batch": "odd", "before": ["plain", "ties"]}
    yield {"config": {**base, "min_log_prob": -2.3}, "batch": "plain"}
    yield {"config": {**base, "upper_clip_percentile": 0.9}, "batch": "plain", "microbatches": [3, 3]}
    everything = {"lower_clip_percentile": 0.3, "upper_clip_percentile": 0.7, "min_log_prob": -2.3, "eos_term": "bounded"}
    yield {"config": {"kind": "smpo", **everything}, "batch": "plain"}

    dpo_variants = [
        {},
        {"label_smoothing": 0.1},
        {"loss_type": "hinge", "beta": 0.5},
        {"loss_type": "ipo"},
        {"loss_type": "ipo", "average_log_prob": True},
        {"rpo_alpha": 0.7},
        {"dpop_lambda": 5.0, "beta": 0.3},
        {"ld_alpha": 0.3, "beta": 0.4},
        {"reference_free": True},
        {"loss_type": "sigmoid_norm"},
        {"loss_type": "ipo_norm"},
        {"loss_type": "exo_pair", "label_smoothing": 0.05},
        {"loss_type": "nca_pair"},
        {"loss_type": "robust", "label_smoothing": 0.2},
        {"loss_type": "bco_pair"},
        {"loss_type": "sppo_hard", "beta": 0.3},
        {"loss_type": "aot"},
        {"loss_type": "aot", "label_smoothing": 0.1},
        {"loss_type": "aot_unpaired"},
        {"loss_type": "apo_zero"},
        {"loss_type": "apo_down"},
        {"loss_type": "discopop"},
        {"loss_type": "cal", "beta": 0.4},
        {"loss_type": "shift", "shift_lambda": 0.6},
        {"loss_type": "balanced", "balance": 0.7, "beta": 0.5},
        {"loss_type": ["sigmoid", "bco_pair", "sft"], "loss_weights": [0.8, 0.2, 1.0]},
        {"loss_type": ["aot", "sft"]},
        {"f_divergence_type": "forward_kl"},
        {"f_divergence_type": "js_divergence", "loss_type": "ipo_norm"},
        {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.7},
        {"f_divergence_type": "squared"},
        {"bdpo_lambda": 0.3},
        {"use_weighting": True},
        {"use_weighting": True, "loss_type": "ipo", "rpo_alpha": 0.5},
        {"gate_alpha": 20.0, "gate_tau": 0.2},
        {"gate_alpha": 50.0, "gate_tau": 0.05, "gate_estimate": "q10", "loss_type": "cal", "beta": 0.4},
    ]
    others = [
        {"kind": "simpo"},
        {"kind": "simpo", "sft_weight": 0.5, "gamma": 0.3},
        {"kind": "simpo", "alpha": 0.25},
        {"kind": "simpo", "alpha": -0.5},
        {"kind": "simpo", "token_selection": "less_confident"},
        {"kind": "lmpo"},
        {"kind": "lmpo", "gamma": 0.2, "beta": 2.0, "margin_weight": 1.0},
        {"kind": "cpo"},
        {"kind": "cpo", "label_smoothing": 0.1},
        {"kind": "cpo", "loss_type": "hinge"},
        {"kind": "cpo", "loss_type": "ipo"},
        {"kind": "cpo", "alpha": 0.02},
        {"kind": "simper"},
        {"kind": "repo"},
        {"kind": "npo"},
        {"kind": "npo", "sft_weight": 0.3, "beta": 0.4},
        {"kind": "unlikelihood", "rank_alpha": 0.7},
        {"kind": "slime"},
        {"kind": "slime", "floor_weight": 0.5},
        {"kind": "orpo"},
        {"kind": "kto"},
        {"kind": "kto", "loss_type": "apo_zero_unpaired"},
        {"kind": "kto", "kl_baseline": "zero", "desirable_weight": 1.33, "undesirable_weight": 0.7},
        {"kind": "gpo"},
        {"kind": "gpo", "loss_type": "reinforce", "advantage": "quantile_norm", "normalization": "grpo"},
        {"kind": "gpo", "kl_beta": 0.1, "advantage": "robust", "normalization": "bnpo"},
        {"kind": "gpo", "advantage": "minmax", "advantage_clip": 0.4, "normalization": "dr_grpo", "dr_grpo_length": 12.0, "kl_beta": 0.02},
    ]
    for config in [{"kind": "dpo", **variant} for variant in dpo_variants] + others:
        yield {"config": config, "batch": "plain"}
        yield {"config": {**config, **everything, "winsor_scope": "step"}, "batch": "odd"}
        yield {"config": {**config, "min_log_prob": -2.3}, "batch": "plain"}
    yield {"config": {"kind": "lmpo"}, "batch": "odd", "before": ["plain", "ties"]}
    for variant in [{}, {"loss_type": "dft"}, {"loss_type": "neg_p"}, {"loss_type": "eaft"}]:
        yield {"config": {"kind": "sft", **variant}, "batch": "plain"}
    yield {"config": {"kind": "sft", "loss_type": "eaft", "eaft_alpha": 0.5}, "batch": "odd"}
    yield {"config": {"kind": "distill", "alpha": 0.3}, "batch": "odd"}


def rounded(value):
    if isinstance(value, float):
        return float(f"{value:.12g}")
    if isinstance(value, list):
        return [rounded(item) for item in value]
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return value


def main():
    data = rounded(batches())
    mismatched = rounded([completion(n) for n in (3, 5, 4)])
    out = []
    for case in cases():
        memory = {}
        for earlier in case.get("before", []):
            evaluate(case["config"], data[earlier], [], memory, None, mismatched)
        expected = evaluate(
            case["config"], data[case["batch"]], case.get("microbatches", []), memory, case.get("margin"), mismatched
        )
        out.append({**case, "expected": rounded(expected)})
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    document = {"seed": SEED, "versions": versions, "batches": data, "mismatched": mismatched, "cases": out}
    json.dump(document, sys.stdout, separators=(",", ":"))


if __name__ == "__main__":
    main()
