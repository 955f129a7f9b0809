"""Flags of `smpo score` by answer: what the two detectors of repetition say of each text."""
import hashlib
import json
import pathlib

DETECTORS = ("loop_rate", "runaway_rate")


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def flags(scored):
    """Detectors that flag a text, by its SHA-256, over all outputs of `smpo score` below a folder."""
    found = {}
    for samples in sorted(pathlib.Path(scored).rglob("samples.jsonl")):
        values = {row["prompt_id"]: row["values"] for row in rows(samples.with_name("measurements.jsonl"))}
        for sample in rows(samples):
            sha = hashlib.sha256(sample["completion"].encode("utf-8", "surrogatepass")).hexdigest()
            of_prompt = values[sample["prompt_id"]]
            found[sha] = [name for name in DETECTORS if name in of_prompt and of_prompt[name][sample["sample"]] == 1.0]
    return found
