"""Pairs with tool calls and tools are trained and scored as the base's template renders them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hubdpo import prepare, train
from hubdpo.artefacts.manifests.evaluation import EvalReport
from hubdpo.artefacts.manifests.manifest import EVAL_FILE
from hubdpo.errors import ConfigError
from tests.data.made import lines
from tests.data.made_tools import TOOL, base_with_tools, call, calls, row, say


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Histories with a call, answers that call, and answers with a call and its result inside."""
    rows = [row(i, tools=[TOOL]) for i in range(12)]
    rows += [row(i, tools=[TOOL], chosen=[calls(call())]) for i in range(12, 20)]
    inside = [calls(call()), say("tool", "06:10"), say("assistant", "At six.", reasoning_content="06:10 is six.")]
    rows += [row(i, chosen=inside) for i in range(20, 28)]
    (tmp_path / "raw.jsonl").write_bytes(lines(rows))
    prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "data", test_size=0.3)
    return tmp_path / "data"


def run(data: Path, base: Path, folder: Path) -> Any:
    return train(
        model_name_or_path=str(base), dataset=str(data), output_dir=folder, max_steps=2, max_length=512,
        gradient_accumulation_steps=1, load_in_4bit=False, save_steps=2, eval_steps=2,
    )  # fmt: skip


def test_all_pairs_are_trained_and_scored_with_their_calls(data: Path, tiny_base: Path, tmp_path: Path) -> None:
    manifest = run(data, base_with_tools(tiny_base, tmp_path / "base"), tmp_path / "run")
    counts = manifest.tokenization
    assert counts["pairs"] == counts["rows"] == manifest.dataset.train_pairs
    assert counts["turns_in_answer"] > 0 and not any(name.startswith("dropped") for name in counts)
    report = EvalReport.read(tmp_path / "run" / EVAL_FILE)
    assert report.pairs == manifest.dataset.test_pairs > 0


def test_no_pair_is_trained_without_its_tools(data: Path, tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the chat template does not show") as caught:
        run(data, tiny_base, tmp_path / "run")
    assert "does not show the tools" in caught.value.message and "does not show tool calls" in caught.value.message
    assert "Qwen3" in str(caught.value.hint)
