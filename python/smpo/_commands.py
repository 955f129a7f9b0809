"""`score`, `evaluate` and `gate` with Python's values in place of files."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Union

from ._program import DONE, Argument, run_json

Path_ = Union[str, "os.PathLike[str]"]
#: Answers: rows as dictionaries, or the file that has them.
Records = Union[Path_, Iterable[Mapping[str, Any]]]
#: A table by its columns, as `pandas.DataFrame` takes it.
Columns = Dict[str, List[Any]]

COLUMNS = ("metric", "slice", "value", "ci_low", "ci_high", "n", "unit", "better", "primary")


class Verdict(Dict[str, Any]):
    """A verdict as `smpo gate --out` writes it, with its decision as attributes."""

    @property
    def decision(self) -> str:
        """`pass`, `fail` or `inconclusive`."""
        return str(self["verdict"])

    @property
    def passed(self) -> bool:
        """True if every primary metric is shown to meet its requirement."""
        return self.decision == "pass"

    @property
    def failed(self) -> bool:
        """True if a primary metric is shown to have regressed."""
        return self.decision == "fail"

    @property
    def reasons(self) -> list[str]:
        """The findings on primary metrics that decided."""
        metrics = self.get("metrics", [])
        decisive = [m for m in metrics if m.get("primary") and m.get("verdict") == self.decision]
        return [f"{m['metric']} ({m['slice']}): {m['reason']}" for m in decisive]

    def __str__(self) -> str:
        head = f"{self['candidate']} against {self['baseline']}: {self.decision}"
        return "\n  ".join([head, *([] if self.passed else self.reasons)])


def score(
    records: Records,
    *,
    name: str | None = None,
    prompts: Records | None = None,
    out: Path_ | None = None,
) -> Columns:
    """Metrics of answers that exist: one row a model, metric and slice, as columns.

    A record has a prompt and a completion under any usual name, and `finish_reason` (`stop`, `length`) where it is
    known: without it, ends are not judged. `out` keeps the results for :func:`gate` and `smpo leaderboard`.
    """
    with tempfile.TemporaryDirectory(prefix="smpo-") as work:
        arguments: list[Argument] = ["score", _file(records, work, "answers"), "--out", out or Path(work) / "scored"]
        if name is None and not _is_path(records):
            name = "model"
        if name is not None:
            arguments += ["--name", name]
        if prompts is not None:
            arguments += ["--prompts", _file(prompts, work, "prompts")]
        return _columns(run_json(arguments))


def evaluate(model: Path_, suite: Path_, out: Path_, **options: Any) -> Columns:
    """Samples answers of `model` (a directory, a GGUF file, a server's URL) to a suite, and measures them.

    Options are those of `smpo eval --help`: `cap=64` is `--cap 64`, `no_fidelity_check=True` is `--no-fidelity-check`.
    An evaluation that was interrupted goes on, a finished one is read.
    """
    arguments: list[Argument] = ["eval", model, "--suite", suite, "--out", out, *_options(options)]
    return _columns([run_json(arguments)])


def gate(
    baseline: Records | Sequence[Path_],
    candidate: Records | Sequence[Path_],
    *,
    policy: Path_ = "default",
    **options: Any,
) -> Verdict:
    """Tests a candidate for regressions against a baseline, prompt by prompt.

    Each side is an evaluation (the `out` of :func:`score` or :func:`evaluate`), a list of them, one a training seed, or
    records, which are scored first. Options are those of `smpo gate --help`, such as `junit="gate.xml"`.
    """
    with tempfile.TemporaryDirectory(prefix="smpo-") as work:
        arguments: list[Argument] = ["gate"]
        for side, given in (("baseline", baseline), ("candidate", candidate)):
            arguments += [f"--{side}", *_evaluations(given, Path(work), side)]
        arguments += ["--policy", policy, *_options(options)]
        return Verdict(run_json(arguments, done=DONE))


def _evaluations(given: Any, work: Path, side: str) -> list[Path_]:
    """Directories of one side of a gate."""
    if isinstance(given, (str, os.PathLike)):
        return [given]
    entries: list[Any] = list(given)
    if entries and all(map(_is_path, entries)):
        return entries
    score(entries, name=side, out=work / side)
    return [work / side]


def _is_path(given: Any) -> bool:
    return isinstance(given, (str, os.PathLike))


def _file(records: Records, work: str, name: str) -> Path_:
    """The file of records; those in memory are written to one."""
    if isinstance(records, (str, os.PathLike)):
        return records
    path = Path(work) / f"{name}.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(dict(record)) + "\n")
    return path


def _options(options: Mapping[str, Any]) -> list[Argument]:
    """Keyword arguments as options of a command."""
    arguments: list[Argument] = []
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if value is None or value is False:
            continue
        if value is True:
            arguments.append(flag)
        elif isinstance(value, (list, tuple)):
            for each in value:
                arguments += [flag, _text(each)]
        else:
            arguments += [flag, _text(value)]
    return arguments


def _text(value: Any) -> Argument:
    return value if isinstance(value, (str, os.PathLike)) else str(value)


def _columns(models: Iterable[Mapping[str, Any]]) -> Columns:
    rows = [(model["model"], row) for model in models for row in model["metrics"]]
    columns: Columns = {"model": [name for name, _ in rows]}
    columns.update({column: [row.get(column) for _, row in rows] for column in COLUMNS})
    return columns
