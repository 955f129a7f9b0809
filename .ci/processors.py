#!/usr/bin/env python3
"""The same commands on this processor and on older ones that QEMU emulates; called by `.ci/nightly processors`.

    .ci/processors.py SMPO DIR

Each processor gives the same bytes with one thread and with two. Between processors numbers may differ in rounding: the largest
differences are printed and bounded. Needs `qemu-x86_64` (Debian: qemu-user).
"""
import json
import os
import shutil
import struct
import subprocess
import sys
from array import array
from pathlib import Path

SMPO, DIR = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
ROOT = Path(__file__).resolve().parent.parent
BASE = ROOT / "datasets/demo"
# With AVX2 and FMA; with SSE4.2 alone.
PROCESSORS = {"this": [], "Haswell": ["qemu-x86_64", "-cpu", "Haswell"], "Nehalem": ["qemu-x86_64", "-cpu", "Nehalem"]}
# Relative differences of figures of training, absolute ones of weights, log-probs and metrics: which of them is bounded, and by what.
# Of weights the mean: AdamW's first steps are as long as the learning rate whatever a gradient's size, so the sign of one that is all
# rounding moves its weight by that.
BOUNDS = {"figures": ("largest", 1e-3), "weights": ("mean", 1e-8), "log-probs": ("largest", 1e-3), "metrics": ("largest", 1e-9)}
failures = []


def expect(holds, message):
    print(("ok    " if holds else "FAILED ") + message, flush=True)
    if not holds:
        failures.append(message)


def run(processor, threads, *words):
    environment = {**os.environ, "RAYON_NUM_THREADS": str(threads)}
    command = [*PROCESSORS[processor], str(SMPO), *map(str, words)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    if done.returncode not in (0, 3):
        sys.exit(f"{processor}: {words[0]} ended with {done.returncode}: {done.stderr[-500:]}")


def first(name, count):
    path = DIR / name
    path.write_text("".join((BASE / name).read_text().splitlines(keepends=True)[:count]))
    return path


def weights(path):
    """The float32 values of a safetensors file by name."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    values = {}
    for name, tensor in header.items():
        begin, end = tensor["data_offsets"]
        if tensor["dtype"] != "F32":
            sys.exit(f"{path}: expected float32 weights, got {tensor['dtype']}")
        values[name] = array("f", data[8 + length + begin : 8 + length + end])
    return values


def results(processor, threads):
    """What the commands give: figures of training, weights, log-probs of sampled tokens, texts, metrics; and all of it as bytes."""
    out = DIR / "out"
    shutil.rmtree(out, ignore_errors=True)
    config = DIR / "train.toml"
    config.write_text(f"""
model_name_or_path = "{BASE}/base"
output_dir = "{out}/run"
dataset = "{DIR}/preferences.jsonl"
max_length = 64
per_device_train_batch_size = 2
max_steps = 2
learning_rate = 2e-4
[loss]
kind = "smpo"
lower_clip_percentile = 0.05
""")
    run(processor, threads, "train", config)
    run(processor, threads, "eval", BASE / "base", "--suite", DIR / "ood.jsonl", "--out", out / "eval", "--engine", "native", "--samples", "2", "--cap", "8")
    run(processor, threads, "score", out / "eval/samples.jsonl", "--out", out / "scored")
    steps = [json.loads(line) for line in open(out / "run/metrics.jsonl")]
    for step in steps:
        step.pop("tokens_per_s", None)
    samples = [json.loads(line) for line in open(out / "eval/samples.jsonl")]
    return {
        "figures": [value for step in steps for value in step.values() if isinstance(value, float)],
        "weights": [value for values in weights(out / "run/model/model.safetensors").values() for value in values],
        "log-probs": [value for sample in samples for value in sample.get("logps") or []],
        "texts": [sample["completion"] for sample in samples],
        "metrics": [estimate[key] for estimate in json.loads((out / "scored/metrics.json").read_text())["metrics"] for key in ("value", "ci_low", "ci_high")],
    }


def difference(kind, a, b):
    """The mean and the largest difference."""
    if len(a) != len(b):
        return {"mean": float("inf"), "largest": float("inf")}
    scale = (lambda x: max(abs(x), 1e-6)) if kind == "figures" else (lambda _: 1.0)
    differences = [abs(x - y) / scale(x) for x, y in zip(a, b)]
    return {"mean": sum(differences) / max(1, len(differences)), "largest": max(differences, default=0.0)}


def main():
    if not shutil.which("qemu-x86_64"):
        print("not run: no qemu-x86_64")
        sys.exit(75)
    DIR.mkdir(parents=True, exist_ok=True)
    first("preferences.jsonl", 4)
    first("ood.jsonl", 2)
    found = {}
    for processor in PROCESSORS:
        found[processor] = results(processor, 1)
        expect(results(processor, 2) == found[processor], f"{processor}: the same bytes with two threads")
    for processor in list(PROCESSORS)[1:]:
        same = found[processor]["texts"] == found["this"]["texts"]
        print(f"{processor}: sampled texts {'are the same' if same else 'differ'}")
        for kind, (bounded, bound) in BOUNDS.items():
            if kind in ("log-probs", "metrics") and not same:
                continue
            by = difference(kind, found["this"][kind], found[processor][kind])
            message = f"{kind} differ by {by['mean']:.2g} in the mean, {by['largest']:.2g} at most"
            expect(by[bounded] <= bound, f"{processor}: {message}; bound of the {bounded} {bound:g}")
    sys.exit(bool(failures))


main()
