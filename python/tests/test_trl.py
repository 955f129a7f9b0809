"""The callback on a real run of TRL: the demo's base under DPO at a rate that breaks its ends."""

import json
from pathlib import Path

import pytest

pytest.importorskip("trl")

import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from smpo.trl import SmpoCallback, shipped_prompts  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402
from trl import DPOConfig, DPOTrainer  # noqa: E402


def pairs(demo: Path, count: int) -> Dataset:
    rows = [json.loads(line) for line in (demo / "preferences.jsonl").read_text().splitlines()[:count]]
    return Dataset.from_list([{key: row[key] for key in ("prompt", "chosen", "rejected")} for row in rows])


def trainer(demo: Path, out: Path, callback: SmpoCallback, rate: float, steps: int, **options) -> DPOTrainer:
    model = AutoModelForCausalLM.from_pretrained(demo / "base", dtype=torch.float32)
    config = DPOConfig(
        output_dir=str(out), max_steps=steps, per_device_train_batch_size=4, learning_rate=rate, beta=0.1, seed=1,
        report_to=[], logging_steps=1, use_cpu=True, save_steps=4, gradient_checkpointing=False, bf16=False, **options,
    )  # fmt: skip
    return DPOTrainer(
        model,
        args=config,
        train_dataset=pairs(demo, 64),
        processing_class=AutoTokenizer.from_pretrained(demo / "base"),
        callbacks=[callback],
    )


def ood(demo: Path, count: int) -> list:
    rows = [json.loads(line) for line in (demo / "ood.jsonl").read_text().splitlines()]
    return [row.get("messages") or row["prompt"] for row in rows[:: len(rows) // count][:count]]


def test_a_run_that_breaks_ends_raises_alarms(demo: Path, tmp_path: Path):
    callback = SmpoCallback(every=4, prompts=ood(demo, 24), max_new_tokens=32, stop_on_alarm=True)
    run = trainer(demo, tmp_path, callback, rate=3e-2, steps=40)
    with pytest.warns(UserWarning, match="smpo: alarm at step"):
        run.train()
    first, last = callback.figures[0], callback.figures[-1]
    assert first["step"] == 0 and last["step"] < 40, "stopped by the alarm"
    assert {"probe/eos_rate", "probe/loop_rate", "probe/length", "logps/chosen", "logps/rejected"} <= first.keys()
    assert "eos_logp/rejected" in first and -5 < first["eos_logp/rejected"] < 0
    assert callback.alarms[0]["kind"] in {"eos_on_rejected", "logps_fall", "probe_ends"}
    assert callback.alarms[0]["remedy"]
    written = [json.loads(line) for line in callback.metrics.read_text().splitlines()]
    assert written == callback.figures
    assert first in run.state.log_history
    samples = (tmp_path / "smpo" / "step-0" / "samples.jsonl").read_text().splitlines()
    assert len(samples) == 24


def test_a_probe_leaves_the_run_as_it_is_and_a_resumed_run_goes_on(demo: Path, tmp_path: Path):
    def weights(run: DPOTrainer) -> torch.Tensor:
        return torch.cat([parameter.detach().flatten() for parameter in run.model.parameters()])

    bare = trainer(demo, tmp_path / "bare", SmpoCallback(every=1000, prompts=[], pairs=0), rate=1e-4, steps=8)
    bare.train()
    callback = SmpoCallback(every=2, prompts=ood(demo, 4), max_new_tokens=8, pairs=2)
    run = trainer(demo, tmp_path / "probed", callback, rate=1e-4, steps=8)
    run.train()
    assert torch.equal(weights(bare), weights(run))
    assert [row["step"] for row in callback.figures] == [0, 2, 4, 6, 8]
    again = SmpoCallback(every=2, prompts=ood(demo, 4), max_new_tokens=8, pairs=2)
    resumed = trainer(demo, tmp_path / "probed", again, rate=1e-4, steps=8)
    resumed.train(resume_from_checkpoint=str(tmp_path / "probed" / "checkpoint-4"))
    assert [row["step"] for row in again.figures] == [0, 2, 4, 6, 8]
    assert again.figures[:3] == callback.figures[:3]


def test_shipped_prompts_are_conversations_of_every_kind():
    prompts = shipped_prompts(30)
    assert len(prompts) == 30
    assert all(messages[-1]["role"] == "user" for messages in prompts)
