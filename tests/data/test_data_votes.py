"""Votes between two answers: what is read without being told, what is refused, and the options that are offered."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from hubdpo import load_preferences, prepare
from hubdpo.data.converters.columns import parse_map
from hubdpo.data.converters.votes import named_vote, parse_labels
from hubdpo.data.preference import Rejection
from hubdpo.data.vote_hints import labels_for
from hubdpo.errors import ConfigError, DataError
from tests.data.made import lines


@pytest.mark.parametrize(
    ("value", "sides", "sign"),
    [
        ("A", ("response_a", "response_b"), 1), ("b", ("answer_A", "answer_B"), -1), ("left", ("x1", "x2"), 1),
        ("model_b", ("x", "y"), -1), ("response_2", ("response_1", "response_2"), -1), ("A>B", ("r_A", "r_B"), 1),
        ("[[B>>A]]", ("r_A", "r_B"), -1), ("A=B", ("r_A", "r_B"), 0), ("B<A", ("r_A", "r_B"), 1),
        ("both_bad", ("x", "y"), 0),
        ("Tie", ("x", "y"), 0), ("tie (bothbad)", ("x", "y"), 0), ("both good", ("x", "y"), 0),
         ({"selected": "right"}, ("x", "y"), -1),
        ("1", ("r_1", "r_2"), None), (1, ("r_1", "r_2"), None), (True, ("r_a", "r_b"), None),
        ("C", ("r_a", "r_b"), None),
        ("A", ("r_1", "r_2"), None), ("A>A", ("r_A", "r_B"), None), ("", ("x", "y"), None),
        (None, ("r_a", "r_b"), None),
    ],
)  # fmt: skip
def test_a_vote_is_read_where_its_words_name_a_side(value: Any, sides: tuple[str, str], sign: int | None) -> None:
    if sign is None:
        with pytest.raises(Rejection, match="unknown_label"):
            named_vote(value, sides, None)
    else:
        vote = named_vote(value, sides, None).value
        assert (vote > 0) - (vote < 0) == sign


def test_several_values_may_be_ties() -> None:
    assert parse_labels("first=1,second=2,tie=0,tie=both") == {"1": "first", "2": "second", "0": "tie", "both": "tie"}
    for text in ("first=1,first=2,second=3", "first=1,second=2,tie=1", "tie=1,tie=2"):
        with pytest.raises(ConfigError, match="--labels"):
            parse_labels(text)


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (["B", "A"], "--labels first=A,second=B"), (["0", "1", "2"], "--labels first=1,second=2,tie=0"),
        (["tie", "x", "y"], "--labels first=x,second=y,tie=tie"), (["B>A", "A>B"], "--labels 'first=A>B,second=B>A'"),
        (["1"], "--labels first=1,second=SECOND"), ([], "--labels first=FIRST,second=SECOND"),
    ],
)  # fmt: skip
def test_labels_are_filled_in_from_the_values(values: list[str], labels: str) -> None:
    assert labels_for(values) == labels


VOTED = [
    {"request": f"What is {i}?", "left answer": "good" if i % 2 else "bad", "right answer": "bad" if i % 2 else "good",
     "verdict": "L" if i % 2 else "R", "model_left": "m", "model_right": "n"} for i in range(8)
]  # fmt: skip


def test_columns_of_unknown_names_with_a_vote_get_options_that_work(tmp_path: Path) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines(VOTED))
    with pytest.raises(DataError, match="no converter fits") as caught:
        prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out")
    hint = caught.value.hint or ""
    assert "chosen" not in hint
    options = shlex.split(hint)
    assert options[:3:2] + options[4:5] == ["--format", "--map", "--labels"]
    prepare(
        source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", map=options[3], labels=options[5], test_size=0
    )
    assert {row["chosen"][0]["content"] for row in load_preferences(tmp_path / "out")["train"]} == {"good"}


@pytest.mark.parametrize(
    "row",
    [
        {"ask": "q", "completion_x_1": "a b c", "completion_x_2": "d e f", "human_choice": 1},
        {"q": "q", "answer A": "abc", "answer B": "def", "best": "A"},
        {"instruction": "q", "response-1": "a b", "response-2": "c d", "ranking": [{"rank": 1, "value": "response-1"}]},
    ],
)
def test_two_answers_and_a_vote_are_never_given_a_map_of_better_and_worse(tmp_path: Path, row: dict[str, Any]) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines([row] * 3))
    with pytest.raises(DataError, match="two answers") as caught:
        prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out")
    assert not re.search("chosen=|rejected=", f"{caught.value.message} {caught.value.hint}")


@pytest.mark.parametrize("text", ["prompt=a,first=b,second=c", "prompt=a,first=b,second=c,vote=d,vote=e"])
def test_a_map_of_votes_must_name_all_four(text: str) -> None:
    with pytest.raises(ConfigError, match="--map"):
        parse_map(text)


def test_a_mapped_vote_of_unknown_meaning_is_refused_with_its_values(tmp_path: Path) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines(VOTED))
    with pytest.raises(DataError, match="its values are `L`, `R`") as caught:
        prepare(
            source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out",
            map="prompt=request,first=left answer,second=right answer,vote=verdict",
        )  # fmt: skip
    assert "--labels first=L,second=R" in (caught.value.hint or "")
