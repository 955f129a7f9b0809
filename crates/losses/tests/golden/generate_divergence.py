"""Golden values of distillation for smpo-losses from an independent PyTorch implementation, gradients by autograd.

    python generate_divergence.py > golden_divergence.json      # torch 2.15.0, Python 3.11, seed below
"""

import json
import platform
import sys

import torch
import torch.nn.functional as F

SEED = 20261129
torch.manual_seed(SEED)
torch.set_default_dtype(torch.float64)


def divergence(cfg, student, teacher, label):
    tau, kind = cfg["temperature"], cfg["divergence"]
    log_p, log_q = F.log_softmax(student / tau, -1), F.log_softmax(teacher / tau, -1)
    p, q = log_p.exp(), log_q.exp()
    if kind == "forward_kl":
        return tau**2 * F.kl_div(log_p, log_q, log_target=True, reduction="sum")
    if kind == "reverse_kl":
        return tau**2 * F.kl_div(log_q, log_p, log_target=True, reduction="sum")
    if kind == "jensen_shannon":
        beta = cfg["mixture"]
        log_m = (beta * q + (1 - beta) * p).log()
        of_teacher = F.kl_div(log_m, log_q, log_target=True, reduction="sum")
        return beta * of_teacher + (1 - beta) * F.kl_div(log_m, log_p, log_target=True, reduction="sum")
    entropy = -(q * log_p).sum()
    if kind == "soft_cross_entropy":
        return entropy
    return (1 - torch.exp(-q[label] / p[label])) * entropy


def main():
    cases = []
    for kind in ["forward_kl", "reverse_kl", "jensen_shannon", "soft_cross_entropy", "slim"]:
        for index, temperature in enumerate([1.0, 2.0, 0.7]):
            for mixture in [0.5, 0.1, 0.9] if kind == "jensen_shannon" else [0.5]:
                width = 5 + 4 * index
                # as a model gives them: float32
                student = (3 * torch.randn(width)).float().double().requires_grad_()
                teacher = (3 * torch.randn(width)).float().double()
                label = int(torch.randint(width, ()))
                cfg = {"divergence": kind, "temperature": temperature, "mixture": mixture}
                value = divergence(cfg, student, teacher, label)
                nll = F.cross_entropy(student, torch.tensor(label))
                weights = {"divergence": 0.3, "nll": 0.7}
                total = weights["divergence"] * value + weights["nll"] * nll
                (gradient,) = torch.autograd.grad(total, student)
                cases.append(
                    {
                        **cfg,
                        "student": student.tolist(),
                        "teacher": teacher.tolist(),
                        "label": label,
                        "expected": {"divergence": value.item(), "logp": -nll.item(), "gradient": gradient.tolist()},
                    }
                )
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    json.dump({"seed": SEED, "versions": versions, "cases": cases}, sys.stdout, separators=(",", ":"))


if __name__ == "__main__":
    main()
