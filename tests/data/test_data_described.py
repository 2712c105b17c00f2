"""Sources described by their columns, in options and in `sources` of a config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from hubdpo import load_preferences, prepare
from hubdpo.errors import ConfigError, DataError
from tests.data.made import lines

TALK = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}, {"role": "user", "content": "Q"}]
RENAMED = [{"who": "cust", "says": "Why?"}, {"who": "agent", "says": "So."}, {"who": "cust", "says": "Q"}]
SYSTEM = {"role": "system", "content": "S"}
Q = [{"role": "user", "content": "Q"}]


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def prepared(folder: Path, raw: Any, **options: Any) -> list[tuple[Any, str, str]]:
    """Return (prompt, chosen, rejected) of the pairs that a description makes of rows."""
    (folder / "raw.jsonl").write_bytes(lines(raw))
    prepare(source=folder / "raw.jsonl", output_dir=folder / "out", test_size=0, **options)
    pairs = load_preferences(folder / "out")["train"]
    return [(pair["prompt"], pair["chosen"][0]["content"], pair["rejected"][0]["content"]) for pair in pairs]


TWO: dict[str, Any] = {"q": "Q", "one": "good", "two": "bad"}
LIST: dict[str, Any] = {"q": "Q", "all": [{"text": "bad", "s": 1}, {"text": "good", "s": 3}]}
THREE: dict[str, Any] = {"q": "Q", "all": ["bad", "good", "worse"]}
PAIR: dict[str, Any] = {"prompt": "q", "chosen": "one", "rejected": "two"}
SIDES: dict[str, Any] = {"prompt": "q", "answers": ["one", "two"]}
ONE_PAIR: list[tuple[str, dict[str, Any], dict[str, Any], Any]] = [
    ("columns", TWO, PAIR, Q),
    ("a nested prompt", {**TWO, "q": {"a.b": 0, "full": {"text": "Q"}}}, {**PAIR, "prompt": "q.full.text"}, Q),
    ("an item of a list", {**TWO, "q": ["x", {"v": "Q"}]}, {**PAIR, "prompt": "q.1.v"}, Q),
    ("the last item of a list", {**TWO, "q": ["x", {"v": "Q"}]}, {**PAIR, "prompt": "q.-1.v"}, Q),
    ("JSON inside a text", {**TWO, "q": '{"turns": ["Q"]}'}, {**PAIR, "prompt": "q.turns.0"}, Q),
    ("a column with a dot", {**TWO, "my.q": "Q"}, {**PAIR, "prompt": "my.q"}, Q),
    ("two texts", {**TWO, "more": "R"}, {**PAIR, "prompt": ["q", "more"]}, [{"role": "user", "content": "Q\nR"}]),
    ("an empty second text", {**TWO, "more": ""}, {**PAIR, "prompt": ["q", "more"]}, Q),
    ("a system prompt", {**TWO, "s": "S"}, {**PAIR, "system": "s"}, [SYSTEM, *Q]),
    ("history in pairs", {**TWO, "h": [["Why?", "So."]]}, {**PAIR, "history": "h"}, TALK),
    ("history in messages", {**TWO, "h": TALK[:2]}, {**PAIR, "history": "h"}, TALK),
    ("a history that holds the question", {**TWO, "h": TALK}, {**PAIR, "prompt": [], "history": "h"}, TALK),
    ("messages", {**TWO, "q": TALK}, PAIR, TALK),
    ("whole conversations", {"one": [*TALK, *said("good")], "two": [*TALK, *said("bad")]},
     {"chosen": "one", "rejected": "two"}, TALK),
    ("a conversation and another answer", {"one": [*TALK, *said("good")], "two": "bad"},
     {"chosen": "one", "rejected": "two"}, TALK),
    ("keys of messages", {**TWO, "q": RENAMED},
     {**PAIR, "role_key": "who", "content_key": "says", "roles": {"cust": "user", "agent": "assistant"}}, TALK),
    ("two scores", {**TWO, "a": 2, "b": "1"}, {**SIDES, "scores": ["a", "b"]}, Q),
    ("two ranks", {**TWO, "a": 1, "b": 2}, {**SIDES, "ranks": ["a", "b"]}, Q),
    ("a list with scores", LIST, {"prompt": "q", "answers": "all[].text", "scores": "all[].s"}, Q),
    ("a list in a text", {"q": "Q", "all": '["bad", "good"]', "s": "[1, 2]"},
     {"prompt": "q", "answers": "all", "scores": "s"}, Q),
    ("a vote that names a column", {**TWO, "v": "one"}, {**SIDES, "vote": "v"}, Q),
    ("values of a vote", {**TWO, "v": 7}, {**SIDES, "vote": "v", "first": [7, 8], "second": 9}, Q),
    ("three votes", {**TWO, "v": "x", "w": "x", "u": "y"},
     {**SIDES, "vote": ["v", "w", "u"], "first": "x", "second": "y"}, Q),
    ("a list of votes", {**TWO, "v": [{"of": "x"}, {"of": "x"}, {"of": "y"}]},
     {**SIDES, "vote": "v[].of", "first": "x", "second": "y"}, Q),
    ("a number of an answer", {**LIST, "v": 1}, {"prompt": "q", "answers": "all[].text", "vote": "v", "first": 0}, Q),
    ("a number counted from 1", {**LIST, "v": "2"},
     {"prompt": "q", "answers": "all[].text", "vote": "v", "first": 1}, Q),
    ("scores of a pair", {**TWO, "a": 2, "b": 1}, {**PAIR, "scores": ["a", "b"]}, Q),
    ("a margin", {**TWO, "m": 0.5}, {**PAIR, "margin": "m"}, Q),
    ("rows in a list", {"id": 1, "data": {"items": [TWO]}}, {**PAIR, "rows": "data.items"}, Q),
]  # fmt: skip


@pytest.mark.parametrize(("row", "options", "prompt"), [pytest.param(*case[1:], id=case[0]) for case in ONE_PAIR])
def test_a_description_reads_a_pair(tmp_path: Path, row: Any, options: dict[str, Any], prompt: Any) -> None:
    assert prepared(tmp_path, [row], **options) == [(prompt, "good", "bad")]


@pytest.mark.parametrize(("row", "options", "prompt"), [pytest.param(*case[1:], id=case[0]) for case in ONE_PAIR])
def test_a_source_in_a_list_is_read_as_by_options(
    tmp_path: Path, row: Any, options: dict[str, Any], prompt: Any
) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines([row]))
    prepare(sources=[{"path": str(tmp_path / "raw.jsonl"), **options}], output_dir=tmp_path / "out", test_size=0)
    (pair,) = load_preferences(tmp_path / "out")["train"]
    assert (pair["prompt"], pair["chosen"], pair["rejected"]) == (prompt, said("good"), said("bad"))


def test_a_vote_for_one_of_several_makes_a_pair_with_each_other(tmp_path: Path) -> None:
    pairs = prepared(tmp_path, [{**THREE, "best": 1}], prompt="q", answers="all", vote="best", first=0)
    assert pairs == [(Q, "good", "bad"), (Q, "good", "worse")]


@pytest.mark.parametrize(("first", "votes", "hint"), [(1, [1, 0], "--first 0"), (0, [1, 3], "--first 1")])
def test_a_number_that_no_answer_has_is_refused(tmp_path: Path, first: int, votes: list[int], hint: str) -> None:
    rows = [{**THREE, "best": vote} for vote in votes]
    with pytest.raises(DataError) as caught:
        prepared(tmp_path, rows, prompt="q", answers="all", vote="best", first=first)
    assert f"a vote of `best` is {votes[1]}, and 3 answers counted from {first}" in caught.value.message
    assert hint.removeprefix("--first ") in str(caught.value.hint)
    assert prepared(tmp_path, rows, prompt="q", answers="all", vote="best", first=first, tie=votes[1])


def test_single_answers_of_a_description_are_paired(tmp_path: Path) -> None:
    rows = [{"q": "Q", "a": "bad", "liked": "no"}, {"q": "Q", "a": "good", "liked": "yes"}]
    pairs = prepared(tmp_path, rows, prompt="q", answer="a", label="liked", good="yes", bad="no")
    assert pairs == [(Q, "good", "bad")]


def test_single_answers_with_scores_are_paired(tmp_path: Path) -> None:
    rows = [{"q": "Q", "a": "bad", "s": 1}, {"q": "Q", "a": "good", "s": "2,5"}, {"q": "Q", "a": "so", "s": 2}]
    assert prepared(tmp_path, rows, prompt="q", answer="a", scores="s") == [(Q, "good", "bad")]


DROPPED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({**TWO, "m": 0}, {**PAIR, "margin": "m"}, "tie"),
    ({**TWO, "m": -1}, {**PAIR, "margin": "m"}, "inverted"),
    ({**TWO, "m": 0.1}, {**PAIR, "margin": "m", "min_margin": 0.2}, "below_margin"),
    ({**TWO, "a": 1, "b": 2}, {**PAIR, "scores": ["a", "b"]}, "inverted"),
    ({**TWO, "a": 2, "b": 1}, {**PAIR, "ranks": ["a", "b"]}, "inverted"),
    ({**TWO, "a": None, "b": 1}, {**PAIR, "scores": ["a", "b"]}, "unscored"),
    ({**TWO, "v": 3}, {**SIDES, "vote": "v", "first": 1, "second": 2, "tie": [3, 4]}, "tie"),
    ({**THREE, "v": "x"}, {"prompt": "q", "answers": "all", "vote": "v", "first": 0}, "unknown_label"),
    ({**THREE, "v": "x"}, {"prompt": "q", "answers": "all", "vote": "v", "first": 0, "tie": "x"}, "tie"),
    ({**THREE, "v": [0, 1]}, {"prompt": "q", "answers": "all", "vote": "v", "first": 0}, "tie"),
    ({**TWO, "q": 5}, PAIR, "wrong_type"),
    ({**TWO, "q": ["x"], "s": 3}, {**PAIR, "system": "s"}, "wrong_type"),
    ({**LIST, "n": [1]}, {"prompt": "q", "answers": "all[].text", "scores": "n"}, "lists_differ"),
    ({"q": "Q", "all": ["x"], "n": [1]}, {"prompt": "q", "answers": "all", "scores": "n"}, "single_answer"),
]


@pytest.mark.parametrize(("row", "options", "reason"), DROPPED)
def test_a_row_without_a_preference_is_counted(tmp_path: Path, row: Any, options: dict[str, Any], reason: str) -> None:
    good = {**row, "q": "Q", "s": "S", "a": 2, "b": 1, "m": 1, "v": 1, "all": [{"text": "x"}, {"text": "y"}]}
    good |= {"n": [2, 1]}
    if "ranks" in options:
        good |= {"a": 1, "b": 2}
    if options.get("answers") == "all":
        good |= {"all": ["x", "y"]}
    (tmp_path / "raw.jsonl").write_bytes(lines([good, row]))
    manifest = prepare(source=tmp_path / "raw.jsonl", output_dir=tmp_path / "out", test_size=0, **options)
    assert manifest.funnel.dropped == {reason: 1}


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"prompt": "q"}, "`prompt` is named without the answers", "`chosen` and `rejected`"),
    ({"chosen": "a"}, "`chosen` is given without `rejected`", "COLUMN"),
    ({**PAIR, "answers": ["a", "b"]}, "the answers are named twice", "leave `answers` out"),
    ({**SIDES}, "nothing says which answer is better", "scores, ranks, vote"),
    ({**SIDES, "scores": ["a", "b"], "vote": "v"}, "both `scores` and `vote`", "scores, ranks, vote"),
    ({**SIDES, "scores": "a"}, "`scores` names 1 columns for 2", "one for each answer"),
    ({**SIDES, "label": "a"}, "`label` does not go with `answers`", "leave `label` out"),
    ({**SIDES, "vote": "v", "good": "x", "bad": "y"}, "`good` is a value of `label`", "name `label`"),
    ({**SIDES, "vote": "v", "first": "x"}, "`first` without `second` is the number", "`second`"),
    ({**SIDES, "vote": "v", "second": "x"}, "`second` is given without `first`", "`first` as well"),
    ({**SIDES, "vote": "v", "first": "x", "second": ["y", "x"]}, "`x` means both `first` and `second`", "one meaning"),
    ({**SIDES, "vote": "v", "first": "...", "second": 1}, "not filled in", "look it up"),
    ({**PAIR, "prompt": "..."}, "not filled in", "name a column"),
    ({**PAIR, "roles": {"x": "boss"}}, "no known role", "system, user"),
    ({**PAIR, "converter": "preference"}, "converter", "leave"),
]


@pytest.mark.parametrize(("options", "message", "hint"), REFUSED)
def test_a_description_that_says_two_things_is_refused(options: dict[str, Any], message: str, hint: str) -> None:
    for given in ({"source": "x", **options}, {"sources": [{"path": "x", **options}]}):
        with pytest.raises(ConfigError) as caught:
            prepare(output_dir="d", **given)  # type: ignore[arg-type]
        assert message in caught.value.message
        assert hint in str(caught.value.hint)


@pytest.mark.parametrize(
    ("question", "place", "message", "hint"),
    [
        ({"text": "q"}, "qestion.text", "no row has a column `qestion`", "question.text"),
        (
            {"full_text": "q"},
            "question.fulltext",
            "no row has a value at `question.fulltext`; the members there are `full_text`",
            "question.full_text",
        ),
    ],
)
def test_a_missing_place_is_told_with_the_one_that_was_meant(
    tmp_path: Path, question: dict[str, str], place: str, message: str, hint: str
) -> None:
    with pytest.raises(DataError) as caught:
        prepared(tmp_path, [{"question": question, "a": "x", "b": "y"}], prompt=place, chosen="a", rejected="b")
    assert message in caught.value.message
    assert hint in str(caught.value.hint)


def test_sources_of_several_shapes_are_joined_with_a_funnel_each(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines([TWO, {**TWO, "q": None}]))
    (tmp_path / "b.jsonl").write_bytes(lines([{**LIST, "v": 1}, {**LIST, "q": "other", "v": 0}]))
    sources = [
        {"path": str(tmp_path / "a.jsonl"), **PAIR},
        {"path": str(tmp_path / "b.jsonl"), "prompt": "q", "answers": "all[].text", "vote": "v", "first": 0},
    ]
    manifest = prepare(sources=sources, output_dir=tmp_path / "out", test_size=0)
    assert [(source.read, source.kept, source.dropped) for source in manifest.sources] == [
        (2, 1, {"missing_field": 1}),
        (2, 1, {"duplicate_pair": 1}),  # of the pair in a.jsonl
    ]


def test_a_limit_and_a_weight_are_options_too(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines([{**TWO, "q": f"Q{n}"} for n in range(9)]))
    options: dict[str, Any] = {**PAIR, "max_rows": 4, "weight": 3, "test_size": 0}
    manifest = prepare(source=tmp_path / "a.jsonl", output_dir=tmp_path / "out", **options)
    assert manifest.splits == {"train": 12}
    assert manifest.funnel.dropped == {"over_max_rows": 5}
    assert {"max_rows": 4, "weight": 3.0}.items() <= manifest.config.items()


def test_one_file_may_be_described_twice(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines([{**TWO, "other": "Q2"}]))
    path = str(tmp_path / "a.jsonl")
    prepare(sources=[{"path": path, **PAIR}, {"path": path, **PAIR, "prompt": "other"}], output_dir=tmp_path / "out",
            test_size=0)  # fmt: skip
    assert [pair["prompt"][0]["content"] for pair in load_preferences(tmp_path / "out")["train"]] == ["Q", "Q2"]


def test_the_hint_for_a_source_in_a_list_is_written_as_its_keys(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines([{**TWO, "v": 7}, {**TWO, "v": 9}]))
    path = str(tmp_path / "a.jsonl")
    with pytest.raises(DataError) as caught:
        prepare(sources=[{"path": path, **SIDES, "vote": "v"}], output_dir=tmp_path / "out")
    assert "first: '...'" in str(caught.value.hint) and "--labels" not in str(caught.value.hint)


def test_prepare_records_the_descriptions_without_paths_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines([TWO]))
    prepare(sources=[{"path": str(tmp_path / "a.jsonl"), **PAIR}], output_dir=tmp_path / "out", test_size=0)
    config = orjson.loads((tmp_path / "out" / "prepare.json").read_bytes())["config"]
    assert config["sources"] == [{"chosen": "one", "path": ["a.jsonl"], "prompt": ["q"], "rejected": "two"}]


def test_a_description_gives_the_same_bytes_for_any_number_of_workers(tmp_path: Path) -> None:
    rows = [{"q": {"t": f"question {i}"}, "all": [{"text": f"a{i}", "s": i % 3 - 0.5}, {"text": f"b{i}", "s": 1}]}
            for i in range(300)]  # fmt: skip
    for part in range(3):
        (tmp_path / f"{part}.jsonl").write_bytes(lines(rows[part::3]))
    made = []
    for workers in (1, 2):
        prepare(source=[tmp_path / f"{part}.jsonl" for part in range(3)], output_dir=tmp_path / str(workers),
                prompt="q.t", answers="all[].text", scores="all[].s", num_proc=workers)  # fmt: skip
        made.append({p.name: p.read_bytes() for p in (tmp_path / str(workers) / "data").iterdir()})
    assert made[0] == made[1]
