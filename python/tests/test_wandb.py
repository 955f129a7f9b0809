"""A run in Weights & Biases' offline format, read back by W&B's own messages."""

import json
import time
from pathlib import Path

import pytest

pytest.importorskip("wandb")

from smpo import SmpoError  # noqa: E402
from smpo.wandb import log  # noqa: E402


def records(path: Path):
    """The records of a file: LevelDB's log format after a header of 7 bytes."""
    data, at, record = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def recorded(folder: Path) -> list:
    """The rows of every offline run below a folder: step and loss."""
    from wandb.proto import wandb_internal_pb2

    rows = []
    for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        for data in records(path):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "history":
                row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
                rows.append((row["_step"], row["loss"]))
    return rows


def test_a_run_is_recorded_once_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "dpo"
    run.mkdir()
    (run / "config.toml").write_text('seed = 1\n[loss]\nkind = "dpo"\n')
    lines = [json.dumps({"step": step, "loss": 1 / step, "grad_norm": None}) + "\n" for step in range(1, 7)]
    (run / "metrics.jsonl").write_text("".join(lines[:4]))
    first = log(run, artifacts=[run / "config.toml"])
    (run / "metrics.jsonl").write_text("".join(lines))
    time.sleep(1.1)  # W&B names an offline record by the second
    assert log(run) == first
    expected = [(step, 1 / step) for step in range(1, 7)]
    for _ in range(100):  # W&B's service writes the record a little later
        if recorded(tmp_path) == expected:
            break
        time.sleep(0.1)
    assert recorded(tmp_path) == expected
    with pytest.raises(SmpoError, match="expected a run directory"):
        log(tmp_path)
