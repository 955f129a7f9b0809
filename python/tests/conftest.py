"""The repository's demo as test data; the program is that of `SMPO_BINARY`, or the installed one."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

DEMO = Path(__file__).parents[2] / "datasets" / "demo"


@pytest.fixture
def demo() -> Path:
    """The demo's data and base model."""
    return DEMO
