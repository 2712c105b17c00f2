"""A dataset with tool calls is published, verified and loaded as any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset

from hubdpo import load_preferences, prepare, push
from hubdpo.errors import ArtefactError
from tests.data.made import lines
from tests.data.made_tools import TOOL, call, calls, row, say

TOKEN = "hf_" + "QwErTyUiOpAsDfGhJkLzXcVbNmQwErTyUi"


def test_a_dataset_with_tool_calls_is_published_and_loaded(repo_id: str, tmp_path: Path) -> None:
    rows = [row(1, tools=[TOOL]), row(2, tools=[TOOL], chosen=[calls(call())])]
    (tmp_path / "raw.jsonl").write_bytes(lines(rows))
    prepare(
        source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", test_size=0, license="mit", language=["en"]
    )
    release = push(folder=tmp_path / "out", repo=repo_id, version="1.0.0")
    assert release.tag == "v1.0.0"
    assert list(load_preferences(repo_id, revision="v1.0.0")["train"]) == rows
    assert list(load_dataset(repo_id, split="train", revision="v1.0.0", cache_dir=str(tmp_path / "cache"))) == rows


@pytest.mark.parametrize(
    "holds",
    [
        {"chosen": [say("assistant", f"It is {TOKEN}.")]},
        {"chosen": [calls(call(f"first line\n{TOKEN}"))]},
        {"tools": [{**TOOL, "note": TOKEN}]},
    ],
)
def test_credentials_in_json_are_not_published(repo_id: str, tmp_path: Path, holds: dict[str, Any]) -> None:
    rows = [row(1, tools=[TOOL]), row(2), row(3, **holds)]
    (tmp_path / "raw.jsonl").write_bytes(lines(rows))
    prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", test_size=0, license="mit")
    with pytest.raises(ArtefactError, match=r"row 3 of .* holds a Hugging Face Token"):
        push(folder=tmp_path / "out", repo=repo_id, version="1.0.0")
