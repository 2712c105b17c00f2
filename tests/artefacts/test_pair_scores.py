"""The scores of held-out pairs as a file, which in a repo may come from anybody."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest

from hubdpo.artefacts.formats import pair_scores
from hubdpo.artefacts.formats.pair_scores import COUNTS, from_lines, to_lines
from hubdpo.errors import ArtefactError

NAME = "eval_pairs.jsonl"
SUMS = ("base_chosen", "base_rejected", "adapter_chosen", "adapter_rejected")
START = ("start_chosen", "start_rejected")


def columns(*names: str, pairs: int = 3) -> dict[str, Any]:
    counts = {name: np.arange(1, pairs + 1) for name in COUNTS}
    return counts | {name: -np.arange(1, pairs + 1) / 7 for name in names}


@pytest.mark.parametrize("names", [SUMS, (*SUMS, *START)])
def test_scores_are_read_as_they_were_written(names: tuple[str, ...]) -> None:
    given = columns(*names)
    found = from_lines(to_lines(given), NAME)
    assert [*found] == [*given]
    assert all((found[name] == values).all() for name, values in given.items())


def test_scores_of_very_many_pairs_are_cut_and_said_to_be(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pair_scores, "MOST_PAIRS", 2)
    assert from_lines(to_lines(columns(*SUMS)), NAME)["row"].tolist() == [1, 2]
    assert "of 3 held-out pairs, the scores of the first 2 are kept" in capsys.readouterr().err


ROW = {name: values.tolist()[0] for name, values in columns(*SUMS, pairs=1).items()}
HOSTILE = {
    "nothing": b"",
    "no JSON": b"{",
    "a list": b"[1, 2]",
    "infinity": orjson.dumps(ROW).replace(b"-0.14285714285714285", b"Infinity"),
    "too large a number": orjson.dumps(ROW).replace(b"-0.14285714285714285", b"1e999"),
    "text": orjson.dumps(ROW | {"row": "<img src=x>"}),
    "a text more": orjson.dumps(ROW | {"text": "a"}),
    "a number less": orjson.dumps({name: value for name, value in ROW.items() if name != "base_chosen"}),
    "a row before the first": orjson.dumps(ROW | {"row": -1}),
    "an answer of no tokens": orjson.dumps(ROW | {"chosen_tokens": 0}),
    "more pairs than are read": (orjson.dumps(ROW) + b"\n") * 9,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_any_other_file_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_scores, "MOST_PAIRS", 8)
    assert from_lines(orjson.dumps(ROW), NAME)
    with pytest.raises(ArtefactError, match=NAME):
        from_lines(HOSTILE[kind], NAME)
