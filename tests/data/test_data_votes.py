"""Votes between two answers: what is read without being told, what is refused, and the options that are offered."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hubdpo import load_preferences, prepare
from hubdpo.config.map_option import parse_map
from hubdpo.data.converters.vote_columns import mapped_vote, vote_of
from hubdpo.data.converters.vote_words import normalize, parse_labels, parse_vote
from hubdpo.data.detection.label_guess import Guess
from hubdpo.data.pairs.example import Rejection
from hubdpo.errors import ConfigError, DataError
from tests.data.made import lines


@pytest.mark.parametrize(
    ("value", "sides", "sign"),
    [
        ("A", ("response_a", "response_b"), 1), ("b", ("answer_A", "answer_B"), -1), ("left", ("x1", "x2"), 1),
        ("model_b", ("x", "y"), -1), ("response_2", ("response_1", "response_2"), -1), ("A>B", ("r_A", "r_B"), 1),
        ("[[B>>A]]", ("r_A", "r_B"), -1), ("b  >> a", ("r_a", "r_b"), -1),
        ("Response A\t= response B", ("r_a", "r_b"), 0), ("A=B", ("r_A", "r_B"), 0), ("B<A", ("r_A", "r_B"), 1),
        ("both_bad", ("x", "y"), 0),
        ("Tie", ("x", "y"), 0), ("tie (bothbad)", ("x", "y"), 0), ("both good", ("x", "y"), 0),
         ({"selected": "right"}, ("x", "y"), -1),
        ("1", ("r_1", "r_2"), None), (1, ("r_1", "r_2"), None), (True, ("r_a", "r_b"), None),
        ("C", ("r_a", "r_b"), None),
        ("A", ("r_1", "r_2"), 1), ("A", ("r_2", "r_1"), None), ("A", ("r_c", "r_d"), None),
        ("A>A", ("r_A", "r_B"), None), ("", ("x", "y"), None), (None, ("r_a", "r_b"), None),
        ("[[B]]", ("r_a", "r_b"), -1), ("[A]", ("left text", "right text"), 1),
        ("A>>B", ("left text", "right text"), 1),
        ("1>2", ("r_1", "r_2"), 1), ("1>2", ("r_0", "r_1"), None), ("A~B", ("r_1", "r_2"), 0),
        ("Response B", ("r_a", "r_b"), -1), ("Assistant A", ("r_1", "r_2"), 1), ("response 1", ("r_0", "r_1"), -1),
        ("response_a", ("answer_b", "answer_a"), -1), ("model_a", ("r_b", "r_a"), -1), ("A>B", ("r_b", "r_a"), -1),
        ("left", ("right text", "left text"), -1),
        ("left", ("r_b", "r_a"), None), ("first", ("second", "first"), -1), ("[[C]]", ("r_a", "r_b"), 0),
        ("[[C]]", ("r_c", "r_d"), 1), ("Both are fine, but B is better: [[B]]", ("r_a", "r_b"), -1),
        ("Both are fine, but the second is better by far", ("r_a", "r_b"), None), ("Both (bad)", ("r_a", "r_b"), 0),
        ("A says [[A]], B says [[B]]", ("r_a", "r_b"), None), ("[[A]] it is, [[A]]", ("r_1", "r_2"), 1),
    ],
)  # fmt: skip
def test_a_vote_is_read_where_its_words_name_a_side(value: Any, sides: tuple[str, str], sign: int | None) -> None:
    if sign is None:
        with pytest.raises(Rejection, match="unknown_label"):
            parse_vote(value, sides, None)
    else:
        vote = parse_vote(value, sides, None)
        assert (vote > 0) - (vote < 0) == sign


def test_several_values_may_mean_the_same() -> None:
    assert parse_labels("first=1,second=2,tie=0,tie=both") == {"1": "first", "2": "second", "0": "tie", "both": "tie"}
    assert parse_labels("first=-1,first=-2,second=1.0") == {"-1": "first", "-2": "first", "1": "second"}
    for text in ("first=1,second=2,tie=1", "tie=1,tie=2", "first=1,first=2"):
        with pytest.raises(ConfigError, match="--labels"):
            parse_labels(text)
    with pytest.raises(ConfigError, match="not filled in"):
        parse_labels("first=1,second=2,...=3")


@pytest.mark.parametrize(
    ("parse", "text", "hint"),
    [
        (parse_labels, "True=first,False=second", "--labels first=True,second=False"),
        (parse_labels, '"yes, a"=good,no=bad', "--labels 'good=\"yes, a\",bad=no'"),
        (parse_map, "q=prompt,a=chosen,b=rejected", "--map prompt=q,chosen=a,rejected=b"),
    ],
)
def test_what_stands_the_wrong_way_round_is_turned_in_the_hint(
    parse: Callable[[str], object], text: str, hint: str
) -> None:
    with pytest.raises(ConfigError, match="names a (side before its value|role before its column)") as caught:
        parse(text)
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("values", "sides", "labels"),
    [
        (["B", "A"], ("x 1", "x 2"), "first=A,second=B"), (["A", "B"], ("x b", "x a"), "first=B,second=A"),
        (["A is worse", "B is worse"], ("x a", "x b"), "first=...,second=..."),
        (["L", "R"], ("x left", "x right"), "first=L,second=R"),
        (["2", "1"], ("x a", "x b"), "first=1,second=2"), (["1", "0"], ("x 0", "x 1"), "first=0,second=1"),
        (["zeta_1", "alpha_2"], ("x 1", "x 2"), "first=zeta_1,second=alpha_2"),
        (["R", "L", "tie"], ("left x", "right x"), "first=L,second=R,tie=tie"),
        (["the B one", "the A one"], ("x a", "x b"), "first=the A one,second=the B one"),
        (["a better start", "the second"], ("x a", "x b"), "first=...,second=..."),
        (["0", "1", "2"], ("x 1", "x 2"), "first=...,second=..."), (["0", "1"], ("x 1", "x 2"), "first=...,second=..."),
        (["tie", "x", "y"], ("x a", "x b"), "first=...,second=...,tie=tie"),
        (["1"], ("x 1", "x 2"), "first=...,second=..."),
        (["A", "Answer B", "Answer A"], ("x a", "x b"), "first=A,first=Answer A,second=Answer B"),
        (["A", "zeta"], ("x a", "x b"), "first=...,second=..."),
        (["A, by far", "B, by far"], ("x a", "x b"), 'first="A, by far",second="B, by far"'),
        (["good", "bad"], None, "good=good,bad=bad"), (["no", "yes"], None, "good=yes,bad=no"),
        (["1", "2", "3"], None, "good=...,bad=..."), (["good", "bad", "hm"], None, "good=...,bad=..."),
        (["gut", "schlecht"], None, "good=...,bad=..."),
    ],
)  # fmt: skip
def test_labels_are_filled_in_where_the_values_say_what_they_mean(
    values: list[str], sides: tuple[str, str] | None, labels: str
) -> None:
    assert shlex.split(Guess(values, "choice", sides).labels) == ["--labels", labels]
    if "..." in labels:
        assert "look up which of" in Guess(values, "choice", sides).question
        with pytest.raises(ConfigError, match="not filled in"):
            parse_labels(labels)
    else:
        parse_labels(labels)


@pytest.mark.parametrize(
    ("column", "labels"),
    [
        ("a_is_better", "first=true,second=false"),
        ("a_is_worse", "first=...,second=..."),
        ("second_won", "first=false,second=true"),
        ("won", "first=...,second=..."),
    ],
)
def test_a_yes_is_of_the_side_that_the_column_names(column: str, labels: str) -> None:
    assert Guess(["false", "true"], column, ("r_a", "r_b")).labels == f"--labels {labels}"


@pytest.mark.parametrize(
    ("value", "spelt"),
    [(1, "1"), (1.0, "1"), ("1.0", "1"), (" 1 ", "1"), ("+1", "1"), ("-1.00", "-1"), ("0.0", "0"), (-0.0, "0"),
     ("1.", "1"),
     (True, "true"), ("TRUE", "true"), (0.5, "0.5"), ("1.5", "1.5"), ("01", "01"), (12345678.0, "12345678"),
     ("A", "A")],
)  # fmt: skip
def test_a_value_has_one_spelling(value: Any, spelt: str) -> None:
    assert normalize(value) == spelt
    assert parse_labels(f"first={value},second=x") == {spelt: "first", "x": "second"}


@pytest.mark.parametrize(
    ("sides", "row", "vote"),
    [
        (("r_a", "r_b"), {"model_a": "gpt", "model_b": "llama"}, 1),
        (("r_a", "r_b"), {"model_a": "x", "model_b": "GPT "}, -1),
        (("r_1", "r_2"), {"model1": "x", "model2": "gpt"}, -1),
        (("left r", "right r"), {"left_model": "gpt", "right_model": "x"}, 1),
        (("response_a", "response_b"), {"response_a_model": "x", "response_b_model": "gpt"}, -1),
        (("r_b", "r_a"), {"model_a": "gpt", "model_b": "llama"}, -1),
        (("r_2", "r_1"), {"model_a": "gpt", "model_b": "x"}, None),
        (("r_a", "r_b"), {"model_a": "x", "model_b": "gpt", "model_a_score": "gpt", "model_b_score": 2}, -1),
        (("r_a", "r_b"), {"winner_model_a": "gpt", "winner_model_b": "x"}, None),
        (("good", "text"), {"model_1": "x", "model_2": "gpt"}, -1),
        (("r_a", "r_b"), {"model_a": "x", "model_b": "y"}, None), (("r_a", "r_b"), {"model": "gpt"}, None),
        (("r_a", "r_b"), {"model_a": "gpt", "model_b": "x", "models a": "y", "models b": "gpt"}, None),
        (("r_a", "r_b"), {"model_a": "gpt", "model_b": "gpt"}, "same_model"),
        (("r_a", "r_b"), {"model_a": None, "model_b": "gpt"}, -1),
        (("r_a", "r_b"), {"r_a": "x", "r_b": " gpt"}, -1), (("r_a", "r_b"), {"r_a": "gpt", "r_b": "gpt"}, None),
    ],
)  # fmt: skip
def test_a_vote_may_be_the_name_of_a_model_or_the_answer_itself(
    sides: tuple[str, str], row: dict[str, Any], vote: Any
) -> None:
    if isinstance(vote, int):
        assert parse_vote("gpt", sides, None, row) == vote
    else:
        with pytest.raises(Rejection, match=vote or "unknown_label"):
            parse_vote("gpt", sides, None, row)


@pytest.mark.parametrize(
    ("value", "sides", "row", "sign"),
    [
        ("A", ("r_a", "r_b"), {"model_a": "B", "model_b": "A"}, None),
        ("[[a]]", ("r_a", "r_b"), {"model_a": "B", "model_b": "A"}, None),
        ("A>B", ("r_a", "r_b"), {"model_a": "B", "model_b": "A"}, None),
        ("B<A", ("r_a", "r_b"), {"model_a": "x", "model_b": "A"}, None),
        ("model_a", ("r_a", "r_b"), {"model_a": "model_b", "model_b": "model_a"}, None),
        ("A", ("r_a", "r_b"), {"r_a": "B", "r_b": "A"}, None), ("A", ("r_a", "r_b"), {"r_a": "x", "r_b": " a"}, None),
        ("A", ("r_a", "r_b"), {"model_a": "A", "model_b": "B"}, 1), ("A", ("r_a", "r_b"), {"r_a": "A", "r_b": "B"}, 1),
        ("B", ("r_a", "r_b"), {"model_a": "B", "model_b": "B"}, -1),
        ("B", ("r_a", "r_b"), {"model_a": "x", "model_b": "A"}, -1),
    ],
)  # fmt: skip
def test_a_word_of_one_side_that_is_a_name_of_the_other_is_no_vote(
    value: str, sides: tuple[str, str], row: dict[str, Any], sign: int | None
) -> None:
    if sign is None:
        with pytest.raises(Rejection, match="ambiguous_vote"):
            parse_vote(value, sides, None, row)
    else:
        assert parse_vote(value, sides, None, row) == sign


@pytest.mark.parametrize(
    ("row", "dropped"),
    [
        ({"response_1": "x", "response_2": "y", "winner": 1, "model_1": 2, "model_2": 1}, "ambiguous_vote"),
        ({"response_1": "2", "response_2": "1", "winner": 1}, None),
    ],
)
def test_the_number_of_a_side_may_be_the_name_of_a_model_but_hardly_an_answer(
    row: dict[str, Any], dropped: str | None
) -> None:
    if dropped:
        with pytest.raises(Rejection, match=dropped):
            vote_of(row, ("response_1", "response_2"), None)
    else:
        assert vote_of(row, ("response_1", "response_2"), None) == 1


@pytest.mark.parametrize(
    ("value", "labels", "sign"),
    [
        ("B", "first=one,second=two", -1), ("A=B", "first=one,second=two", 0), ("tie", "first=1,second=2", 0),
        ("Answer B", "first=A,second=B", -1), ("B", "first=B,second=A", 1), ("r_a", "first=B,second=A", None),
        ("tie", "first=B,second=A", None), ("tie", "first=1,second=2,tie=A", None), ("zeta", "first=1,second=2", None),
    ],
)  # fmt: skip
def test_words_keep_their_meaning_beside_labels_that_do_not_contradict_them(
    value: str, labels: str, sign: int | None
) -> None:
    if sign is None:
        with pytest.raises(Rejection, match="unknown_label"):
            parse_vote(value, ("r_a", "r_b"), parse_labels(labels))
    else:
        assert parse_vote(value, ("r_a", "r_b"), parse_labels(labels)) == sign


@pytest.mark.parametrize(("value", "reason"), [("B", "ambiguous_vote"), ("gpt", "unknown_label")])
def test_a_model_is_no_word_beside_labels(value: str, reason: str) -> None:
    with pytest.raises(Rejection, match=reason):
        parse_vote(value, ("r_a", "r_b"), parse_labels("first=1,second=2"), {"model_a": value, "model_b": "x"})


FLAGS = ("winner_model_a", "winner_model_b", "winner_tie")


@pytest.mark.parametrize(
    ("flags", "sign"),
    [
        ((1, 0, 0), 1), ((False, True, False), -1), (("0.0", "0.0", "1.0"), 0), (("True", "False", "False"), 1),
        ((0, 1.0, "0"), -1), ((0, 0, 0), "unknown_label"), ((1, 1, 0), "unknown_label"), ((2, 0, 0), "unknown_label"),
        ((1, 0, None), "missing_field"), ((1, 0, "x"), "unknown_label"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("labels", [None, {"1": "first", "0": "second"}])
def test_three_flags_are_read_together_whatever_labels_say(
    flags: tuple[Any, ...], sign: int | str, labels: dict[str, str] | None
) -> None:
    row = dict(zip(FLAGS, flags, strict=True))
    swapped = ("r_b", "r_a")
    if isinstance(sign, str):
        with pytest.raises(Rejection, match=sign):
            vote_of(row, ("r_a", "r_b"), labels)
        return
    assert vote_of(row, ("r_a", "r_b"), labels) == sign
    for name in FLAGS:
        assert mapped_vote(row, name, ("r_a", "r_b"), labels) == sign
        assert mapped_vote(row, name, swapped, labels) == -sign
        with pytest.raises(Rejection, match="unknown_label"):
            mapped_vote(row, name, ("one", "another"), labels)


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
    assert options[:3:2] + options[4:5] == ["--converter", "--map", "--labels"]
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
