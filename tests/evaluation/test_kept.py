"""What is kept of an evaluation is read back as it was written, and nothing else is taken for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import TypeAdapter

from hubdpo.evaluation.answers import ANSWERS
from hubdpo.evaluation.judge.ask import VERDICTS
from hubdpo.evaluation.kept import Kept
from hubdpo.evaluation.lm_eval import BENCHMARKS
from hubdpo.evaluation.scoring import SCORES

TASK = {
    "metrics": {"acc": 0.5}, "each": {"acc": [0, 1]}, "version": 1, "shots": None, "examples": 2, "higher_is_better": {}
}  # fmt: skip
SOUND: list[tuple[TypeAdapter[Any], dict[str, Any]]] = [
    (SCORES, {"sum": -12.5}),
    (ANSWERS, {"row": 3, "model": "base", "text": "", "tokens": 0, "ended": True}),
    (VERDICTS, {"verdict": None, "replies": ["?", "!"], "tokens": [3, 4], "is_whole": True, "served": "m"}),
    (VERDICTS, {"verdict": "tie", "replies": ["Verdict: tie"]}),
    (BENCHMARKS, {"sums": TASK}),
]
EDITED: list[tuple[TypeAdapter[Any], Any]] = [
    (SCORES, {}), (SCORES, {"sum": None}), (SCORES, {"sum": "1.5"}), (SCORES, [1]), (SCORES, "sum"),
    (ANSWERS, {"text": "a", "tokens": -1, "ended": True}), (ANSWERS, {"text": "a", "tokens": 1}),
    (ANSWERS, {"text": None, "tokens": 1, "ended": False}),
    (VERDICTS, {"replies": ["Verdict: A"]}), (VERDICTS, {"verdict": "C", "replies": ["c"]}),
    (VERDICTS, {"verdict": "A", "replies": []}), (VERDICTS, {"verdict": "A", "replies": ["A"], "tokens": [1]}),
    (BENCHMARKS, {"sums": {**TASK, "metrics": {"acc": "high"}}}), (BENCHMARKS, {"sums": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "result"), SOUND)
def test_a_result_comes_back(shape: TypeAdapter[Any], result: dict[str, Any], tmp_path: Path) -> None:
    Kept(tmp_path / "kept", shape).add({"a": result})
    assert Kept(tmp_path / "kept", shape).get("a") == result


@pytest.mark.parametrize(("shape", "result"), EDITED)
def test_a_line_that_was_edited_is_left_out_and_counted(
    shape: TypeAdapter[Any], result: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = {"key": "a", **result} if isinstance(result, dict) else result
    (tmp_path / "kept").write_bytes(orjson.dumps(line) + b"\n")
    assert Kept(tmp_path / "kept", shape).get("a") is None
    assert "1 line cannot be read, and will be computed again" in " ".join(capsys.readouterr().err.split())
