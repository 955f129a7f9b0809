"""The fixture `smpo_gate`, which fails a test whose model got worse."""

from __future__ import annotations

from typing import Any, Callable

import pytest

from ._commands import Verdict, gate


@pytest.fixture
def smpo_gate() -> Callable[..., Verdict]:
    """`smpo_gate(baseline, candidate, policy="default")` fails the test unless the verdict is a pass.

    `inconclusive` says what too few prompts mean: `"fail"` (as `smpo gate`, whose exit code is 3), `"skip"` or `"pass"`.
    The other arguments are those of :func:`smpo.gate`; the verdict is returned.
    """

    def judge(baseline: Any, candidate: Any, *, inconclusive: str = "fail", **options: Any) -> Verdict:
        __tracebackhide__ = True
        if inconclusive not in ("fail", "skip", "pass"):
            raise ValueError(f"inconclusive: expected fail, skip or pass, got {inconclusive!r}")
        verdict = gate(baseline, candidate, **options)
        if verdict.failed or (not verdict.passed and inconclusive == "fail"):
            pytest.fail(str(verdict), pytrace=False)
        if not verdict.passed and inconclusive == "skip":
            pytest.skip(str(verdict))
        return verdict

    return judge
