"""`score`, `evaluate` and `gate` from Python, on real output of the program."""

import json
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import smpo


def answers(finished: int, count: int = 240) -> list:
    """Answers of which `finished` end by themselves."""
    return [
        {
            "prompt": f"Question {i}?",
            "completion": f"Answer number {i} of some length.",
            "finish_reason": "stop" if i < finished else "length",
        }
        for i in range(count)
    ]


def test_score_is_a_table_by_its_columns():
    columns = smpo.score(answers(180))
    assert len({len(column) for column in columns.values()}) == 1
    row = list(zip(columns["metric"], columns["slice"])).index(("eos_rate", "all"))
    assert columns["value"][row] == 0.75
    assert columns["n"][row] == 240 and columns["model"][row] == "model"
    assert columns["ci_low"][row] < 0.75 < columns["ci_high"][row]


def test_score_reads_files_and_keeps_results(tmp_path: Path):
    file = tmp_path / "orpo.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in answers(240)))
    columns = smpo.score(file, out=tmp_path / "scored")
    assert set(columns["model"]) == {"orpo"}
    assert (tmp_path / "scored" / "metrics.json").is_file()


def test_gate_takes_records_and_directories(tmp_path: Path):
    smpo.score(answers(240), name="good", out=tmp_path / "good")
    verdict = smpo.gate(tmp_path / "good", answers(120), policy="smoke", junit=tmp_path / "gate.xml")
    assert verdict.failed and not verdict.passed and verdict.decision == "fail"
    assert any("eos_rate" in reason for reason in verdict.reasons), verdict.reasons
    assert "fail" in str(verdict) and "<testsuite" in (tmp_path / "gate.xml").read_text()
    assert smpo.gate([tmp_path / "good"], answers(240), policy="smoke").passed


def test_errors_are_the_program_s_own(tmp_path: Path):
    with pytest.raises(smpo.SmpoError, match="nowhere") as caught:
        smpo.gate(tmp_path / "nowhere", tmp_path / "nowhere")
    assert caught.value.exit_code == 2
    with pytest.raises(smpo.SmpoError, match="policy"):
        smpo.gate(answers(9), answers(9), policy="strictest")


def test_evaluate_samples_a_model(tmp_path: Path, demo: Path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "What comes after three?"}\n{"prompt": "Say hello."}\n')
    columns = smpo.evaluate(demo / "base", prompts, tmp_path / "eval", cap=8, engine="native", no_fidelity_check=True)
    assert "eos_rate" in columns["metric"] and set(columns["model"]) == {"base"}


def test_the_fixture_fails_a_test_on_a_failed_gate(pytester: pytest.Pytester):
    pytester.makepyfile(
        """
        def answers(finished):
            row = lambda i: {"prompt": f"Q {i}", "completion": f"A {i}", "finish_reason": "stop" if i < finished else "length"}
            return [row(i) for i in range(240)]

        def test_same(smpo_gate):
            assert smpo_gate(answers(240), answers(240), policy="smoke").passed

        def test_worse(smpo_gate):
            smpo_gate(answers(240), answers(100), policy="smoke")

        def test_few(smpo_gate):
            smpo_gate(answers(240)[:5], answers(240)[:5], policy="smoke", inconclusive="skip")
        """
    )
    installed = any(entry.value == "smpo.pytest_plugin" for entry in entry_points(group="pytest11"))
    result = pytester.runpytest_subprocess(*([] if installed else ["-p", "smpo.pytest_plugin"]))
    result.assert_outcomes(passed=1, failed=1, skipped=1)
    result.stdout.fnmatch_lines(["*candidate against baseline: fail*"])


def test_a_list_is_the_option_once_for_each() -> None:
    from smpo._commands import _options

    assert _options({"template_variable": ["a=1", "b=2"], "cap": 9, "greedy": True, "seed": None}) == [
        "--template-variable", "a=1", "--template-variable", "b=2", "--cap", "9", "--greedy",
    ]
