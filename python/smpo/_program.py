"""The program: where it is, and one run of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any, Collection, Sequence, Union

Argument = Union[str, "os.PathLike[str]"]

#: Exit codes of a command that did its work: pass, fail, inconclusive.
DONE = frozenset({0, 1, 3})


class SmpoError(RuntimeError):
    """The program refused (exit code 2) or failed (4); the message is its own."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


def program() -> str:
    """Path of the program: `SMPO_BINARY`, that of this environment, else the first in PATH."""
    if named := os.environ.get("SMPO_BINARY"):
        return named
    name = "smpo.exe" if sys.platform == "win32" else "smpo"
    scripts = [sysconfig.get_path("scripts"), str(Path(sys.executable).parent)]
    user = sysconfig.get_preferred_scheme("user") if hasattr(sysconfig, "get_preferred_scheme") else None
    if user:
        scripts.append(sysconfig.get_path("scripts", scheme=user))
    for folder in scripts:
        if (found := Path(folder) / name).is_file():
            return str(found)
    if in_path := shutil.which(name):
        return in_path
    raise SmpoError(f"no program {name} in {', '.join(scripts)} or PATH; reinstall smpo, or set SMPO_BINARY", 4)


def run(
    arguments: Sequence[Argument], *, done: Collection[int] = (0,), stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs the program and returns what it wrote; any exit code that is not in `done` raises :class:`SmpoError`."""
    command = [program(), *(os.fspath(argument) for argument in arguments)]
    ran = subprocess.run(command, input=stdin, capture_output=True, text=True, encoding="utf-8", errors="replace")
    if ran.returncode not in done:
        # Remarks come before the error, which is the last to be said.
        said = ran.stderr.strip()
        message = said[said.rfind("error: ") :].removeprefix("error: ") if "error: " in said else said
        raise SmpoError(message or f"smpo ended with exit code {ran.returncode}", ran.returncode)
    return ran


def run_json(arguments: Sequence[Argument], *, done: Collection[int] = (0,)) -> Any:
    """The JSON that a command prints under `--format json`."""
    return json.loads(run([*arguments, "--format", "json"], done=done).stdout)
