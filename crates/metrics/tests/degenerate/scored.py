"""Flags of `smpo score` by answer: what the two detectors of repetition say of each text."""
import json
import pathlib

DETECTORS = ("loop_rate", "runaway_rate")


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def flags(scored):
    """Detectors that flag a text, by its SHA-256, in an output of `smpo score` on `answers.py`'s file."""
    measurements = rows(pathlib.Path(scored) / "measurements.jsonl")
    return {row["prompt_id"]: [name for name in DETECTORS if row["values"].get(name) == [1.0]] for row in measurements}
