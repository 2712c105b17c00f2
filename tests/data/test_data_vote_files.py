"""Whole files of comparisons, arena battles and labelled answers: each ends in right pairs, or in one clear line."""

from __future__ import annotations

import csv
import shlex
from pathlib import Path
from typing import Any

import pytest

from hubdpo import load_preferences, prepare
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.errors import ConfigError, DataError, HubdpoError
from tests.data.made import lines

Rows = list[dict[str, Any]]
AB, N12, N01 = ("response_a", "response_b"), ("answer_1", "answer_2"), ("completion_0", "completion_1")
COUNT = 6


def battles(sides: tuple[str, str], **columns: tuple[Any, Any]) -> Rows:
    """Return rows in which the good answer stands first and second in turn; columns have a value for each."""
    return [
        {"prompt": f"question {i}", sides[i % 2]: f"good {i}", sides[1 - i % 2]: f"bad {i}",
         **{name: values[i % 2] for name, values in columns.items()}} for i in range(COUNT)
    ]  # fmt: skip


def labelled(good: Any, bad: Any, column: str = "label", answer: str = "completion", asked: str = "prompt") -> Rows:
    return [
        {asked: f"question {i}", answer: f"{'good' if better else 'bad'} {i}", column: good if better else bad}
        for i in range(COUNT) for better in (False, True)
    ]  # fmt: skip


def listed(**values: Any) -> Rows:
    return [{"prompt": f"question {i}", "responses": [f"bad {i}", f"good {i}"], **values} for i in range(COUNT)]


def write(path: Path, rows: Rows) -> Path:
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_bytes(lines(rows))
    return path


def prepared(path: Path, **options: Any) -> PrepareManifest:
    return prepare(source=str(path), output_dir=path.parent / "out", test_size=0, overwrite=True, **options)


def assert_right(path: Path, count: int = COUNT) -> None:
    pairs = [row for table in load_preferences(path.parent / "out").values() for row in table]
    assert len(pairs) == count
    assert all(row["chosen"][0]["content"].startswith("good") for row in pairs)
    assert all(row["rejected"][0]["content"].startswith("bad") for row in pairs)


READ: dict[str, tuple[str, Rows]] = {
    "letters": ("jsonl", battles(AB, preference=("A", "B"))),
    "letters beside numbers": ("jsonl", battles(N12, verdict=("A", "B"))),
    "brackets": ("jsonl", battles(N12, verdict=("[[A]]", "[[B]]"))),
    "nouns": ("jsonl", battles(AB, winner=("Assistant A", "Assistant B"))),
    "the column": ("jsonl", battles(N12, better=("answer_1", "answer_2"))),
    "the answer": ("jsonl", [{**row, "choice": f"good {i}"} for i, row in enumerate(battles(AB))]),
    "models": ("jsonl", battles(AB, winner=("x", "y"), model_a=("x", "z"), model_b=("z", "y"))),
    "models of a table": ("csv", battles(N12, winner=("x", "y"), model_1=("x", "x"), model_2=("y", "y"))),
    "pandas": ("csv", battles(N12, winner=("1.0", "2.0"))),
    "pandas, from 0": ("csv", battles(N01, better_response_id=("0.0", "1.0"))),
    "pandas, SHP": ("csv", battles(("human_ref_A", "human_ref_B"), labels=("1.0", "0.0"))),
    "three people": ("jsonl", battles(AB, annotator1=("B", "A"), annotator2=("A", "B"), annotator3=("A", "B"))),
    "the scores of columns": ("jsonl", battles(AB, response_a_score=(3, 1), response_b_score=(2, 2))),
    "the ranks of columns": ("jsonl", battles(AB, rank_a=(1, 2), rank_b=(2, 1))),
    "a strength beside a vote": ("jsonl", battles(AB, preference_strength=(3, 3), preference=("A", "B"))),
    "a strength beside a choice": ("jsonl", battles(AB, preference_strength=(1, 2), choice=("A", "B"))),
    "a strength beside a preferred response": (
        "csv",
        battles(AB, overall_preference=(1, 2), preferred_response=("A", "B")),
    ),
    "HelpSteer3": ("jsonl", battles(("response1", "response2"), overall_preference=(-2, 3))),
    "flags": ("csv", battles(AB, winner_model_a=(True, False), winner_model_b=(False, True), winner_tie=(False,) * 2)),
    "turns": (
        "jsonl",
        [
            {
                "prompt": [f"q {i}", "and?"],
                AB[i % 2]: ["same", f"good {i}"],
                AB[1 - i % 2]: ["same", f"bad {i}"],
                "winner": "AB"[i % 2],
            }
            for i in range(COUNT)
        ],
    ),
    "KTO": ("csv", labelled("1.0", "0.0")),
    "KTO in capitals": ("csv", labelled("TRUE", "FALSE")),
    "KTO with a minus": ("jsonl", labelled(1, -1)),
    "good and bad": ("jsonl", labelled("Good", "bad", answer="response")),
    "desirable": ("jsonl", labelled("desirable", "undesirable")),
    "a topic beside": ("jsonl", [{**row, "label": "math"} for row in labelled(True, False, "kto_tag")]),
    "thumbs": ("jsonl", labelled("thumbs_up", "thumbs-down", "kto_tag")),
    "emoji": ("jsonl", labelled("👍🏽", "👎", asked="question", answer="answer")),
    "Chinese": ("jsonl", labelled("好", "坏")),
    "a column of thumbs": ("jsonl", labelled(True, False, "thumbs_up", "output", "instruction")),
    "scores": ("jsonl", listed(scores=["1", "2"])),
    "rewards": ("jsonl", listed(rewards=[-0.5, 0.1])),
    "ranks": ("jsonl", listed(rank=[2, 1])),
}


@pytest.mark.parametrize("name", READ)
def test_a_file_whose_words_are_plain_is_read(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kind, rows = READ[name]
    path = write(tmp_path / f"raw.{kind}", rows)
    prepared(path)
    assert_right(path)
    assert ("not used" in capsys.readouterr().err) == ("strength" in name or name.endswith("beside"))


PASTED: dict[str, Rows] = {
    "numbers": battles(AB, winner=(1, 2)),
    "numbers of judges beside letters": battles(AB, preference=(1, 2)),
    "index": battles(N01, choice=(0, 1)),
    "a column for one side": battles(AB, a_is_better=(True, False)),
    "a column of any name": battles(("left text", "right text"), chosen=("left", "right")),
    "names with a side": battles(N12, choice=("zeta-1", "alpha-2")),
    "yes": labelled("yes", "no"),
    "1 beside columns of any data": labelled(1, 0, asked="question", answer="answer"),
}


def options_of(hint: str) -> dict[str, str]:
    words = shlex.split(hint)
    return {word[2:]: words[place + 1] for place, word in enumerate(words) if word.startswith("--")}


@pytest.mark.parametrize("name", PASTED)
def test_a_refused_file_is_read_with_what_the_hint_says(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "raw.jsonl", PASTED[name])
    with pytest.raises(DataError) as caught:
        prepared(path)
    prepared(path, **options_of(caught.value.hint or ""))
    assert_right(path)


OPEN: dict[str, tuple[Rows, str]] = {
    "0 and 1 of answers 1 and 2": (battles(N12, winner=(0, 1)), "`0`, `1`"),
    "minus": (battles(AB, preference=(1, -1)), "`-1`, `1`"),
    "0 and 1 of judges": (battles(AB, preference=(0, 1)), "`0`, `1`"),
    "0, 1 and 2": (battles(N12, winner=(0, 1)) + battles(N12, winner=(2, 2))[:1], "`0`, `1`, `2`"),
    "SHP's column beside others": (battles(AB, labels=(0, 1)), "`0`, `1`"),
    "always the first, and a 0": (battles(AB, preference=(1, 1)) * 4 + battles(AB, preference=(0, 1))[:1], "`0`, `1`"),
    "a scale of 5": (battles(N12, preference=(1, 2)) * 9 + battles(N12, preference=(5, 5))[:1], "`1`, `2`, `5`"),
    "strengths with a sign": (battles(AB, preference_strength=(-1, 1)), "`-1`, `1`"),
    "a third label": (labelled(1, 0) * 9 + labelled(2, 2)[:1], "`0`, `1`, `2`"),
    "no integers": (battles(N12, choice=(0.5, 1.5)), "`0.5`, `1.5`"),
    "words": (battles(AB, winner=("zeta", "alpha")), "`alpha`, `zeta`"),
    "other labels": (labelled("gut", "schlecht"), "`gut`, `schlecht`"),
    "ratings": (labelled(5, 1), "`1`, `5`"),
    "0 beside minus": (labelled(1, -1) + labelled(1, 0), "`-1`, `0`, `1`"),
}


@pytest.mark.parametrize("name", OPEN)
def test_values_that_say_nothing_are_named_and_the_hint_must_be_filled_in(name: str, tmp_path: Path) -> None:
    rows, values = OPEN[name]
    path = write(tmp_path / "raw.jsonl", rows)
    with pytest.raises(DataError, match="its values are") as caught:
        prepared(path)
    assert caught.value.message.endswith(f"its values are {values}")
    with pytest.raises(ConfigError, match="not filled in"):
        prepared(path, **options_of(caught.value.hint or ""))


STRENGTHS = {
    "a strength": (battles(AB, preference_strength=(1, 3)), "vote=..."),
    "a rating": (battles(N12, overall_preference=(1, 7)), "vote=..."),
    "a share": (battles(AB, overall_preference=(0.2, 0.9)), "vote=..."),
    "a binary vote": (battles(("response1", "response2"), overall_preference=(0, 1)), "vote=..."),
    "HelpSteer's columns": (battles(("response_1", "response_2"), preference_strength=(1, 2)), "vote=..."),
    "beside a vote": (battles(AB, preference_strength=(1, 2), picked=("A", "B")), "vote=picked"),
}


@pytest.mark.parametrize("name", STRENGTHS)
def test_a_strength_that_is_never_negative_is_no_vote(name: str, tmp_path: Path) -> None:
    rows, vote = STRENGTHS[name]
    path = write(tmp_path / "raw.jsonl", rows)
    with pytest.raises(DataError, match="is never negative, so it does not say which") as caught:
        prepared(path)
    assert vote in (caught.value.hint or "")
    if "..." not in vote:
        prepared(path, **options_of(caught.value.hint or ""))
        assert_right(path)


def test_flags_that_say_nothing_lead_to_no_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = battles(AB, winner_model_a=(1, 0), winner_model_b=(0, 1), winner_tie=(0, 0))
    rows += battles(AB, winner_model_a=(0, 1), winner_model_b=(0, 1), winner_tie=(0, 0))
    path = write(tmp_path / "raw.jsonl", rows)
    assert prepared(path).funnel.dropped == {"unknown_label": COUNT}
    assert_right(path)
    told = capsys.readouterr().err
    assert "`0/0/0` (3), `1/1/0` (3)" in told
    assert "--labels" not in told.replace("\n", " ").split("hint:")[1]
    with pytest.raises(ConfigError, match="does not apply to the flags"):
        prepared(path, labels="first=1,second=0")


@pytest.mark.parametrize("labels", [None, "first=A,second=B,tie=0"])
def test_values_that_nothing_explains_are_named(
    labels: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "raw.jsonl", battles(AB, winner=("A", "B")) + battles(AB, winner=("Answer X", "Y"))[:3])
    assert prepared(path, labels=labels).funnel.dropped == {"unknown_label": 3}
    told = " ".join(capsys.readouterr().err.split())
    assert "`winner` has values of unknown meaning: `Answer X` (2), `Y` (1)" in told
    assert "(counted in the first 9 rows)" in told
    added = "--labels 'first=A,second=B,tie=0,...=Answer X,...=Y'"
    assert (added if labels else "--labels first=...,second=...") in told
    assert ("`--labels` names `0`, which none of the first 9 rows has" in told) == bool(labels)


def test_a_mapping_may_have_commas_in_columns_and_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"what, then?": "q", " left": "good", "right=": "bad"}
    path = write(tmp_path / "raw.jsonl", [{**row, "vote": "yes, the first"}, {**row, "vote": "well, no"}])
    columns = {"prompt": "what, then?", "first": " left", "second": "right=", "vote": "vote"}
    labels = {"first": "yes, the first", "second": "no"}
    assert prepared(path, map=columns, labels=labels).funnel.kept == 1
    added = """--labels 'first="yes, the first",second=no,...="well, no"'"""
    assert added in " ".join(capsys.readouterr().err.split())


def test_labels_are_told_where_words_stay_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "raw.jsonl", battles(AB, winner=("A", "B")) + battles(AB, winner=("Alpha", "Zeta")))
    prepared(path, labels="first=Alpha,second=Zeta", dedupe="none")
    assert_right(path, 2 * COUNT)
    assert "of unknown meaning" not in capsys.readouterr().err
    path = write(
        tmp_path / "raw.jsonl", labelled(5, 1) + [{**row, "prompt": "x"} for row in labelled("good", "bad")[:2]]
    )
    prepared(path, labels="good=5,bad=1")
    assert_right(path, COUNT + 1)
    path = write(tmp_path / "raw.jsonl", labelled("bad", "good") + labelled("correct", "x")[:2])
    assert prepared(path, labels="good=bad,bad=good").funnel.dropped == {"unknown_label": 2}


@pytest.mark.parametrize(
    ("rows", "labels"),
    [
        (battles(N12, choice=(" 1 ", "+2")), "first=1.0,second=2"),
        (battles(N12, choice=(1.0, 2.0)), "first=1,second=2"),
        (battles(AB, a_won=(True, False), vote=(True, False)), "first=TRUE,second=False"),
        (battles(AB, annotator1=(9, 7), annotator2=(7, 9), annotator3=(7, 9)), "first=7,second=9"),
        (battles(AB, choice=("Alpha", "Zeta")), "first=Alpha,first=x,second=Zeta"),
        (labelled("ja", "nein"), "good=ja,bad=nein"), (labelled(5, 1.0), "good=4,good=5,bad=1,bad=2,tie=3"),
        (labelled(True, False)[:0] + labelled("bad", "good"), "good=bad,bad=good"),
    ],
)  # fmt: skip
def test_what_labels_say_is_done(rows: Rows, labels: str, tmp_path: Path) -> None:
    path = write(tmp_path / "raw.jsonl", rows)
    prepared(path, labels=labels)
    assert_right(path)


def test_what_labels_call_a_tie_or_leave_out_is_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "raw.jsonl", [*labelled(5, 1), *labelled(3, 4)])
    manifest = prepared(path, labels="good=5,bad=1,tie=3")
    assert manifest.funnel.dropped == {"tie": COUNT, "unknown_label": COUNT}
    assert_right(path)


def test_models_are_found_with_a_map(tmp_path: Path) -> None:
    rows = battles(("left reply", "right reply"), best=("x", "z"), model_left=("x", "y"), model_right=("y", "z"))
    path = write(tmp_path / "raw.jsonl", rows)
    prepared(path, map="prompt=prompt,first=left reply,second=right reply,vote=best")
    assert_right(path)


def test_the_models_of_a_file_are_used_where_its_own_votes_name_them(tmp_path: Path) -> None:
    for name, winner in (("a", ("A", "B")), ("b", ("x", "y")), ("c", ("A", "B"))):
        write(tmp_path / f"{name}.jsonl", battles(AB, winner=winner, model_a=("x", "x"), model_b=("y", "y")))
    manifest = prepared(tmp_path / "b.jsonl", dedupe="none")
    assert not manifest.unused_columns
    both = [str(tmp_path / f"{name}.jsonl") for name in "abc"]
    manifest = prepare(source=both, output_dir=tmp_path / "out", overwrite=True, dedupe="none")
    assert manifest.unused_columns == {"model_a": 2 * COUNT, "model_b": 2 * COUNT}


@pytest.mark.parametrize(
    ("rows", "labels", "error", "hint"),
    [
        (labelled("ja", "nein"), "first=ja,second=nein", ConfigError, "--labels good=...,bad=..."),
        (labelled(1, 0), "first=1,second=0", ConfigError, "--labels good=1,bad=0"),
        (battles(AB, winner=("A", "B")), "good=A,bad=B", ConfigError, "--labels first=A,second=B"),
        (battles(AB, winner=("A", "B")), "first=X,second=Y", DataError, "--labels first=A,second=B"),
        (
            battles(AB, winner=("yes", "no")),
            "first=True,second=False",
            DataError,
            'labels: {first: "yes", second: "no"}',
        ),
    ],
)
def test_labels_that_do_not_fit_are_told_with_those_that_do(
    rows: Rows, labels: str, error: type[HubdpoError], hint: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "raw.jsonl", rows)
    with pytest.raises(error, match="--labels") as caught:
        prepared(path, labels=labels)
    assert (caught.value.hint or "").endswith(hint)


def test_labels_that_nobody_reads_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "raw.jsonl", [{"prompt": "q", "chosen": "good", "rejected": "bad"}])
    prepared(path, labels="first=1,second=2")
    assert "`--labels` is not used: no vote or label is read by preference" in capsys.readouterr().err


@pytest.mark.parametrize(("form", "names"), [(None, AB), ("map", AB), ("map", ("left text", "right text"))])
@pytest.mark.parametrize("votes", [("A>B", "A<B"), ("A>>B", "B>>A"), ("[[A>B]]", "[[B>A]]"), ("[[A]]", "[[B]]")])
def test_words_are_the_same_with_a_map(
    votes: tuple[str, str], form: str | None, names: tuple[str, str], tmp_path: Path
) -> None:
    rows = [*battles(names, verdict=votes), *battles(names, verdict=("A=B", "tie"))]
    path = write(tmp_path / "raw.jsonl", rows)
    options = {"map": f"prompt=prompt,first={names[0]},second={names[1]},vote=verdict"} if form else {}
    assert prepared(path, **options).funnel.dropped == {"tie": COUNT}
    assert_right(path)


@pytest.mark.parametrize(
    ("rows", "dropped"),
    [
        (listed(scores=[2, 2]), "tie"), (listed(scores=[1]), "lists_differ"), (listed(ranks=[1]), "lists_differ"),
        (listed(scores=[1, None]), "unscored"), (listed(ranks=[1, "N/A"]), "unscored"),
        ([{**row, "responses": ["one"]} for row in listed(scores=[1])], "single_answer"),
        ([{**row, "responses": ["one"]} for row in listed(ranks=[1])], "single_answer"),
        ([{**row, "responses": ["one", "one"]} for row in listed(scores=[1, 2])], "identical_answers"),
        ([{"instruction": "q", "completions": [{"response": "a", "overall_score": 4}]}] * 3, "single_answer"),
        ([{"instruction": "q", "completions": [{"response": "a", "overall_score": 4},
                                               {"response": "b", "overall_score": None}]}] * 3, "unscored"),
        (battles(AB, winner=("x", "x"), model_a=("x", "x"), model_b=("x", "x")), "same_model"),
    ],
)  # fmt: skip
def test_a_file_of_rows_that_teach_nothing_says_why(rows: Rows, dropped: str, tmp_path: Path) -> None:
    path = write(tmp_path / "raw.jsonl", rows)
    with pytest.raises(DataError, match=f"no row can be used of {len(rows)} read: {dropped} {len(rows)}") as caught:
        prepared(path)
    assert "--explain" not in (caught.value.hint or "")


@pytest.mark.parametrize("name", ["ranking", "best"])
def test_a_list_of_answers_without_numbers_is_told(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "raw.jsonl", listed(**{name: [1, 0]}))
    with pytest.raises(DataError, match="a list of answers each"):
        prepared(path)
