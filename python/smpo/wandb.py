"""A run of smpo in Weights & Biases, by its own client: `python -m smpo.wandb runs/dpo --project dpo`.

Metrics of every step, the configuration, and artefacts; the same run there each time (`wandb.json` in the run directory has
its id and the last step that was sent). Server, key and `WANDB_MODE=offline` are the client's own settings; a run that was
recorded offline goes up with `wandb sync`.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any, Sequence

from ._program import SmpoError

#: The run's id and progress, below the run directory.
STATE = "wandb.json"


def log(
    run: str | os.PathLike[str],
    *,
    project: str = "smpo",
    artifacts: Sequence[str | os.PathLike[str]] = (),
    **options: Any,
) -> str:
    """Sends what W&B lacks of the run directory `run`; gives the run's id there.

    Options are those of `wandb.init`, such as `entity` and `tags`.
    """
    import wandb

    directory = Path(run)
    metrics = directory / "metrics.jsonl"
    if not metrics.is_file():
        raise SmpoError(f"{directory}: expected a run directory of `smpo train`, with metrics.jsonl in it", 2)
    for path in map(Path, artifacts):
        if not path.exists():
            raise SmpoError(f"{path}: no such file or directory", 2)
    state_file = directory / STATE
    state = json.loads(state_file.read_text()) if state_file.is_file() else {"schema": 1, "id": None, "sent": -1}
    settings: dict[str, Any] = {"project": project, "name": directory.resolve().name, "config": _config(directory)}
    settings.update(options)
    with wandb.init(id=state["id"], resume="allow", **settings) as remote:
        state["id"] = remote.id
        for line in metrics.read_text(encoding="utf-8").splitlines():
            figures = {name: value for name, value in json.loads(line).items() if value is not None}
            step = figures.pop("step")
            if step > state["sent"]:
                remote.log(figures, step=step)
                state["sent"] = step
        for path in map(Path, artifacts):
            artifact = wandb.Artifact(_artifact_name(path), type="smpo")
            artifact.add_dir(str(path)) if path.is_dir() else artifact.add_file(str(path))
            remote.log_artifact(artifact)
        beside = state_file.with_name(STATE + ".tmp")
        beside.write_text(json.dumps(state) + "\n")
        beside.replace(state_file)
        return str(state["id"])


def _artifact_name(path: Path) -> str:
    """A name in W&B's alphabet: letters, digits, `-`, `_` and `.`."""
    name = path.resolve().name
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in name) or "artifact"


def _config(directory: Path) -> dict[str, Any]:
    """The configuration: by its tables where this Python reads TOML, else as text."""
    path = directory / "config.toml"
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8")
    try:
        import tomllib  # Python 3.11
    except ImportError:
        return {"config.toml": text}
    return dict(tomllib.loads(text))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m smpo.wandb", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("run", help="run directory")
    parser.add_argument("--project", default="smpo", help="project of W&B [default: smpo]")
    parser.add_argument("--artifact", action="append", default=[], metavar="PATH", help="file or folder; repeatable")
    given = parser.parse_args()
    try:
        print(log(given.run, project=given.project, artifacts=given.artifact))
    except SmpoError as error:
        parser.exit(error.exit_code, f"error: {error}\n")


if __name__ == "__main__":
    main()
