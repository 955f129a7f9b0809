"""Golden values of groups for smpo-losses from an independent PyTorch implementation.

One completion at a time, with autograd through float64 tensors; advantages come from torch and its normal quantile.

    python generate_groups.py > golden_groups.json      # torch 2.15.0, Python 3.11, seed below
"""

import itertools
import json
import platform
import sys

import torch

from generate import rounded  # seeds torch, before this file does

SEED = 20261128
torch.manual_seed(SEED)
torch.set_default_dtype(torch.float64)


def completion(length, terminators, depth):
    logps = -depth * torch.rand(length).pow(3)
    reference = torch.minimum(logps + 0.5 * torch.randn(length), torch.zeros(length))
    flags = [t >= length - terminators for t in range(length)]
    return {"logps": logps.tolist(), "is_terminator": flags, "ref_logps": reference.tolist()}


def groups():
    # ties, a majority of equal rewards, negative ones, an unfinished completion, one that is a terminator alone
    rewards = [[0.1, 0.9, 0.5, 0.5], [0.0, 0.0, 1.0, 0.0, 0.0], [-3.0, -250.0], [2.0, 2.5, -1.0, 2.0, 7.0, 2.0, 0.25]]
    lengths = [[5, 7, 1, 4], [3, 8, 6, 2, 9], [4, 4], [6, 2, 5, 3, 7, 1, 8]]
    out = []
    for group, (values, sizes) in enumerate(zip(rewards, lengths)):
        members = []
        for index, (reward, length) in enumerate(zip(values, sizes)):
            unfinished = (group + index) % 4 == 3 and length > 1
            members.append({**completion(length, 0 if unfinished else 1, 4.0 + 2 * index), "reward": reward})
        out.append(members)
    return out


def advantages(cfg, rewards):
    rewards = torch.tensor(rewards)
    kind = cfg.get("advantage", "z_norm")
    if kind == "z_norm":
        values = (rewards - rewards.mean()) / rewards.std(correction=0)
    elif kind == "minmax":
        values = 2 * (rewards - rewards.min()) / (rewards.max() - rewards.min()) - 1
    elif kind == "quantile_norm":
        count = len(rewards)
        scores = torch.special.ndtri((torch.arange(count) + 0.5) / count)
        ordered = rewards.sort().values
        values = torch.stack([scores[ordered == reward].mean() for reward in rewards])
    else:
        centre = rewards.quantile(0.5)
        deviations = (rewards - centre).abs()
        mad = 1.482602218505602 * deviations.quantile(0.5)
        values = (rewards - centre) / (mad if mad > 0 else (torch.pi / 2) ** 0.5 * deviations.mean())
    clip = cfg.get("advantage_clip", 10.0)
    return values.clamp(-clip, clip).tolist()


def evaluate(cfg, data):
    members = [
        {**member, "group": index, "size": len(group), "advantage": advantage}
        for index, group in enumerate(data)
        for member, advantage in zip(group, advantages(cfg, [member["reward"] for member in group]))
    ]
    term = cfg.get("eos_term", "off")
    for member in members:
        member["raw"] = torch.tensor(member["logps"], requires_grad=True)
        member["end"] = torch.tensor(member["is_terminator"])
        values, counted = member["raw"], torch.ones(len(values := member["raw"]), dtype=torch.bool)
        turned = torch.zeros_like(counted)
        if member["advantage"] < 0 and term != "off":
            if term == "mask" and not member["end"].all():
                counted = ~member["end"]
            elif term == "invert":
                values, turned = torch.where(member["end"], -values, values), member["end"]
            elif term == "bounded":
                cap = torch.tensor(cfg.get("eos_penalty_cap", 2.3))
                values = torch.where(member["end"], torch.where(-values > cap, cap, -values), values)
                turned = member["end"]
        member.update(values=values, counted=counted, turned=turned)

    lower, upper = torch.tensor(-torch.inf), torch.tensor(torch.inf)
    if (q := cfg.get("lower_clip_percentile")) is not None:
        seen = [m["values"][m["counted"]].detach() for m in members if m["advantage"] < 0]
        lower = torch.quantile(torch.cat(seen), q)
    if (q := cfg.get("upper_clip_percentile")) is not None:
        upper = torch.quantile(torch.cat([m["raw"].detach() for m in members if m["advantage"] >= 0]), q)
    lower = torch.maximum(lower, torch.tensor(cfg.get("min_log_prob", -torch.inf)))

    g = torch.exp if cfg.get("loss_type", "prob_weighted") == "prob_weighted" else (lambda values: values)
    beta, total = cfg.get("kl_beta", 0.0), torch.zeros(())
    tokens = sum(len(member["logps"]) for member in members)
    parts = []
    for member in members:
        values = member["values"]
        if member["advantage"] < 0:
            values = torch.where(values < lower, lower, values)
        else:
            values = torch.where(values > upper, upper, values)
        terms = torch.where(member["turned"], -g(torch.where(member["turned"], -values, torch.zeros(()))), g(values))
        terms = -member["advantage"] * terms[member["counted"]]
        u = torch.tensor(member["ref_logps"]) - member["raw"]
        k3 = beta * (torch.exp(u) - u - 1)
        kind = cfg.get("normalization", "group")
        if kind == "group":
            part = (terms.mean() + k3.mean()) / member["size"] / len(data)
        elif kind == "grpo":
            part = (terms.mean() + k3.mean()) / len(members)
        elif kind == "bnpo":
            part = (terms.sum() + k3.sum()) / tokens
        else:
            part = (terms.sum() + k3.sum()) / cfg["dr_grpo_length"] / len(members)
        parts.append(part.item() * len(data))
        total = total + part
    grads = torch.autograd.grad(total, [member["raw"] for member in members])
    return {
        "loss": total.item(),
        "advantages": [member["advantage"] for member in members],
        "losses": parts,
        "weights": [grad.tolist() for grad in grads],
    }


def cases():
    for loss_type, advantage in itertools.product(
        ["prob_weighted", "reinforce"], ["z_norm", "minmax", "quantile_norm", "robust"]
    ):
        yield {"loss_type": loss_type, "advantage": advantage}
    for normalization in ["group", "grpo", "bnpo", "dr_grpo"]:
        length = {"dr_grpo_length": 16.0} if normalization == "dr_grpo" else {}
        yield {"normalization": normalization, **length}
        yield {"normalization": normalization, "kl_beta": 0.3, "loss_type": "reinforce", **length}
    for loss_type in ["prob_weighted", "reinforce"]:
        for term in [{"eos_term": "mask"}, {"eos_term": "invert"}, {"eos_term": "bounded", "eos_penalty_cap": 0.4}]:
            yield {"loss_type": loss_type, **term}
        yield {"loss_type": loss_type, "min_log_prob": -2.3}
        yield {"loss_type": loss_type, "lower_clip_percentile": 0.2, "upper_clip_percentile": 0.8, "winsor_scope": "step"}
        yield {
            "loss_type": loss_type,
            "eos_term": "invert",
            "lower_clip_percentile": 0.1,
            "min_log_prob": -2.3,
            "kl_beta": 0.05,
            "winsor_scope": "step",
        }
    yield {"advantage_clip": 0.7}


def main():
    data = rounded(groups())
    out = [{"config": {"kind": "gpo", **case}, "expected": rounded(evaluate(case, data))} for case in cases()]
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    json.dump({"seed": SEED, "versions": versions, "groups": data, "cases": out}, sys.stdout, separators=(",", ":"))


if __name__ == "__main__":
    main()
