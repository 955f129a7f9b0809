"""A callback that watches a run of TRL (or of any transformers `Trainer`) as `smpo train` watches its own.

Every `every` steps the model completes prompts unlike the training data, in this process and on its own device; `smpo
score` measures how many completions end, loop and how long they are. On some preference pairs the log-probs of chosen,
rejected and of the token that ends rejected answers are measured too. `smpo watch` raises the alarms of `smpo train` on
these figures: the first sign of a model that unlearns to stop comes long before the loss shows anything.

>>> from smpo.trl import SmpoCallback
>>> trainer = DPOTrainer(model, args, train_dataset=pairs, callbacks=[SmpoCallback(every=50)])

Below `<output_dir>/smpo`: `metrics.jsonl` (`smpo plot` draws it), `alarms.jsonl`, and the completions of each probe
(`smpo leaderboard <output_dir>/smpo/step-* --out board`).
"""

from __future__ import annotations

import contextlib
import json
import warnings
from itertools import islice
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping, NamedTuple, Sequence

import torch
from transformers import TrainerCallback

from ._program import Argument, run, run_json

#: Figures of a probe, by the metrics of `smpo score`.
REPORTED = ("eos_rate", "loop_rate", "length")

Messages = Sequence[Mapping[str, str]]


class Pair(NamedTuple):
    """A preference pair as token ids, both answers with their ends."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]


def shipped_prompts(count: int) -> list[Messages]:
    """Prompts of the suite `ood-smoke`, evenly over its slices."""
    text = Path(__file__).with_name("ood-smoke.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    step = max(1, len(rows) // count)
    return [row.get("messages") or [{"role": "user", "content": row["prompt"]}] for row in rows[::step][:count]]


class SmpoCallback(TrainerCallback):
    """Probes the model every `every` steps, before the first and after the last, and raises alarms.

    Args:
        every: Steps between probes.
        prompts: Texts or conversations to complete; by default `max_prompts` of the shipped suite `ood-smoke`.
        max_prompts: Number of shipped prompts.
        max_new_tokens: Cap of a completion.
        temperature: Sampling temperature; 0 is greedy.
        pairs: Number of training pairs to measure log-probs on, from a dataset that TRL has tokenised (DPO, CPO…); 0
            leaves them out.
        alarms: Bounds, as in `[alarms]` of a configuration of smpo (docs/configuration.md): `{"probe_fall": 0.1}`.
        stop_on_alarm: End the training at the first alarm.
        seed: Seed of the completions; they leave the run's own random numbers alone.
        out: Directory of results, `<output_dir>/smpo` by default.
    """

    def __init__(
        self,
        every: int = 100,
        prompts: Iterable[str | Messages] | None = None,
        max_prompts: int = 32,
        max_new_tokens: int = 128,
        temperature: float = 0.8,
        pairs: int = 16,
        alarms: Mapping[str, float] | None = None,
        stop_on_alarm: bool = False,
        seed: int = 0,
        batch_size: int = 8,
        out: str | Path | None = None,
    ) -> None:
        if every < 1:
            raise ValueError(f"every: expected at least 1, got {every}")
        given = shipped_prompts(max_prompts) if prompts is None else prompts
        self.prompts = [[{"role": "user", "content": p}] if isinstance(p, str) else list(p) for p in given]
        self.every, self.pairs, self.stop_on_alarm = every, pairs, stop_on_alarm
        self.max_new_tokens, self.temperature, self.seed = max_new_tokens, temperature, seed
        self.batch_size = batch_size
        # Probes are few: each figure is compared as it is, unless the caller averages.
        self.bounds: dict[str, float] = {"window": 1, **(alarms or {})}
        self.out = None if out is None else Path(out)
        self.measured: list[Pair] = []
        #: The alarms raised so far, each with `step`, `kind`, `what` and `remedy`.
        self.alarms: list[dict[str, Any]] = []
        #: The figures of each probe, with `step`.
        self.figures: list[dict[str, float]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
        self.out = self.out or Path(args.output_dir) / "smpo"
        self.measured = list(islice(_pairs(objects.get("train_dataloader")), self.pairs))
        if state.is_world_process_zero:
            self._resume(state.global_step)
        if state.global_step == 0:
            self._probe(state, control, objects)

    def on_step_end(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            self._probe(state, control, objects)

    @property
    def metrics(self) -> Path:
        """The file of figures, a JSON object a probe."""
        assert self.out is not None, "training has not begun"
        return self.out / "metrics.jsonl"

    def _resume(self, step: int) -> None:
        """Takes the probes up to `step` of an interrupted run; those after it are taken again."""
        self.figures = []
        if step > 0 and self.metrics.is_file():
            rows = map(json.loads, self.metrics.read_text(encoding="utf-8").splitlines())
            self.figures = [row for row in rows if row["step"] <= step]
        assert self.out is not None
        self.out.mkdir(parents=True, exist_ok=True)
        self._write(self.metrics, self.figures)
        self.alarms = self._raised() if self.figures else []

    def _probe(self, state: Any, control: Any, objects: Mapping[str, Any]) -> None:
        if not state.is_world_process_zero:
            return
        model, tokenizer = objects["model"], _tokenizer(objects["processing_class"])
        with _measuring(model, self.seed):
            figures: dict[str, float] = {"step": state.global_step}
            figures.update(self._score(self._complete(model, tokenizer), state.global_step))
            figures.update(_log_probs(model, self.measured, _terminators(model, tokenizer)))
        self.figures.append(figures)
        self._write(self.metrics, self.figures)
        state.log_history.append(dict(figures))
        known = len(self.alarms)
        self.alarms = self._raised()
        assert self.out is not None
        self._write(self.out / "alarms.jsonl", self.alarms)
        for alarm in self.alarms[known:]:
            warnings.warn(f"smpo: alarm at step {alarm['step']}: {alarm['what']}; {alarm['remedy']}", stacklevel=2)
        if self.alarms[known:] and self.stop_on_alarm:
            control.should_training_stop = True

    def _complete(self, model: Any, tokenizer: Any) -> list[dict[str, Any]]:
        """One completion a prompt, as rows of `samples.jsonl`."""
        ends = _terminators(model, tokenizer)
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(ends)
        sampling = {"do_sample": False} if self.temperature == 0 else {"do_sample": True, "temperature": self.temperature}
        rows: list[dict[str, Any]] = []
        for start in range(0, len(self.prompts), self.batch_size):
            batch = self.prompts[start : start + self.batch_size]
            ids = [_prompt_ids(tokenizer, messages) for messages in batch]
            width = max(map(len, ids))
            padded = torch.tensor([[pad] * (width - len(row)) + row for row in ids], device=model.device)
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids], device=model.device)
            written = model.generate(
                input_ids=padded, attention_mask=mask, max_new_tokens=self.max_new_tokens, use_cache=True,
                eos_token_id=sorted(ends), pad_token_id=pad, top_k=0, top_p=1.0, **sampling,
            )  # fmt: skip
            for place, tokens in enumerate(written[:, width:].tolist()):
                end = next((i for i, token in enumerate(tokens) if token in ends), None)
                kept = tokens if end is None else tokens[: end + 1]
                rows.append({
                    "schema": 1, "prompt_id": f"probe-{start + place}", "slice": "probe", "sample": 0,
                    "messages": batch[place], "token_ids": kept, "tokens": len(kept), "cap": self.max_new_tokens,
                    "completion": tokenizer.decode(kept if end is None else kept[:-1], skip_special_tokens=False),
                    "finish_reason": "length" if end is None else "eos",
                })  # fmt: skip
        return rows

    def _score(self, rows: list[dict[str, Any]], step: int) -> dict[str, float]:
        if not rows:
            return {}
        assert self.out is not None
        answers, name = self.out / "completions.jsonl", f"step-{step}"
        self._write(answers, rows)
        arguments: list[Argument] = ["score", answers, "--input-format", "smpo", "--name", name, "--out", self.out / name]
        [scored] = run_json(arguments)
        answers.unlink()
        overall = {m["metric"]: m["value"] for m in scored["metrics"] if m["slice"] == "all"}
        return {f"probe/{metric}": overall[metric] for metric in REPORTED if overall.get(metric) is not None}

    def _raised(self) -> list[dict[str, Any]]:
        """Every alarm on the figures so far."""
        bounds = [f"--set={key}={value}" for key, value in self.bounds.items()]
        # From standard input: a file without any figure that is watched would be an error.
        figures = self.metrics.read_text(encoding="utf-8")
        said = run(["watch", "-", "--format", "json", *bounds], done=(0, 1), stdin=figures).stdout
        return [json.loads(line) for line in said.splitlines()]

    @staticmethod
    def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
        """Replaces a file of JSON lines as a whole."""
        beside = path.with_name(path.name + ".tmp")
        beside.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        beside.replace(path)


@contextlib.contextmanager
def _measuring(model: Any, seed: int) -> Iterator[None]:
    """Evaluation mode without gradients, under random numbers of its own; all is as before afterwards."""
    training = model.training
    devices = [model.device] if model.device.type == "cuda" else []
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            yield
    finally:
        model.train(training)


def _tokenizer(processing_class: Any) -> Any:
    """The tokenizer of a processor, or the tokenizer itself."""
    return getattr(processing_class, "tokenizer", processing_class)


def _terminators(model: Any, tokenizer: Any) -> set[int]:
    """Tokens that end an answer: those of the generation config, and the tokenizer's."""
    ends: set[int] = set()
    for given in (getattr(model.generation_config, "eos_token_id", None), tokenizer.eos_token_id):
        ends.update(given if isinstance(given, (list, tuple)) else [] if given is None else [given])
    if not ends:
        raise ValueError("neither the generation config nor the tokenizer has an eos_token_id: no answer could end")
    return ends


def _prompt_ids(tokenizer: Any, messages: Messages) -> list[int]:
    """A conversation as the model sees it, up to the header of its answer; a model without a template sees the text."""
    if tokenizer.chat_template:
        text = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    return list(tokenizer("\n".join(m["content"] for m in messages) or " ")["input_ids"])


def _pairs(dataloader: Any) -> Iterator[Pair]:
    """The pairs of a dataset that TRL has tokenised; none of other datasets."""
    dataset = getattr(dataloader, "dataset", None)
    columns = set(getattr(dataset, "column_names", None) or ())
    for prompt, chosen, rejected in (
        ("prompt_ids", "chosen_ids", "rejected_ids"),
        ("prompt_input_ids", "chosen_input_ids", "rejected_input_ids"),
    ):
        if dataset is not None and {prompt, chosen, rejected} <= columns:
            for row in dataset:
                if row[chosen] and row[rejected]:
                    yield Pair(row[prompt], row[chosen], row[rejected])
            return


def _log_probs(model: Any, pairs: Sequence[Pair], ends: set[int]) -> dict[str, float]:
    """Means over pairs: log-prob per token of chosen and rejected, and of the end of rejected answers, in nats."""
    measured: dict[str, list[float]] = {"logps/chosen": [], "logps/rejected": [], "eos_logp/rejected": []}
    for pair in pairs:
        rejected = _of_answer(model, pair.prompt, pair.rejected)
        measured["logps/chosen"].append(_of_answer(model, pair.prompt, pair.chosen).mean().item())
        measured["logps/rejected"].append(rejected.mean().item())
        # Templates write a line break after the end of a turn.
        last = next((i for i, token in reversed(list(enumerate(pair.rejected))) if token in ends), None)
        if last is not None:
            measured["eos_logp/rejected"].append(rejected[last].item())
    return {name: sum(values) / len(values) for name, values in measured.items() if values}


def _of_answer(model: Any, prompt: list[int], answer: list[int]) -> torch.Tensor:
    """Log-prob of each token of an answer."""
    ids = torch.tensor([prompt + answer], device=model.device)
    logits: torch.Tensor = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].float()
    return logits.log_softmax(-1).gather(-1, ids[0, len(prompt) :, None])[:, 0]
