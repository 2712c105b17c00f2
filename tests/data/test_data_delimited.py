"""CSV and its kin: words for missing values, spaces, numbers, and the line of a row that has several."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pandas._libs.parsers import STR_NA_VALUES

from hubdpo import load_preferences, prepare
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.data.converters import ConvertOptions
from hubdpo.data.converters.cells import MISSING
from hubdpo.data.pairs.example import Rejection, ScoredAnswer, number_of
from hubdpo.data.raw.raw_file import HEAD_BYTES
from hubdpo.data.raw.text.delimited import form_of
from hubdpo.errors import DataError
from tests.data.made import find_converter


def make(tmp_path: Path, text: str, name: str = "raw.csv", **options: Any) -> PrepareManifest:
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    manifest = prepare(source=str(tmp_path / name), output_dir=tmp_path / "out", test_size=0, **options)
    assert manifest is not None
    return manifest


def kept(tmp_path: Path) -> list[list[list[tuple[str, str]]]]:
    found = load_preferences(tmp_path / "out")["train"]
    return [
        [[(m["role"], m["content"]) for m in row[name]] for name in ("prompt", "chosen", "rejected")] for row in found
    ]


def losses(tmp_path: Path) -> list[tuple[int, str]]:
    found = map(json.loads, (tmp_path / "out" / "rejected.jsonl").read_text().splitlines())
    return [(loss["line"], loss["reason"]) for loss in found]


def test_the_words_for_missing_values_are_those_of_pandas() -> None:
    assert set(STR_NA_VALUES) - {""} | {r"\N"} == MISSING


@pytest.mark.parametrize("word", sorted(MISSING))
@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_a_word_for_a_missing_value_is_none_of_the_text(
    tmp_path: Path, word: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    mark = "\t" if kind == "tsv" else ","
    rows = [
        ["instruction", "input", "system", "score_chosen", "score_rejected", "chosen", "rejected"],
        ["q0", word, word, word, "1", "a", "b"], ["q1", "x", "s", "2", "1", f"{word}!", "b"],
        ["q2", "x", "s", "2", "1", word, "b"], ["q3", "x", "s", "2", "1", "a", word],
        [word, word, "s", "2", "1", "a", "b"],
        *([f"q{n}", "x", "s", "2", "1", "a", "b"] for n in (5, 6)),
    ]  # fmt: skip
    manifest = make(tmp_path, "".join(mark.join(row) + "\n" for row in rows), f"raw.{kind}")
    assert kept(tmp_path)[:2] == [
        [[("user", "q0")], [("assistant", "a")], [("assistant", "b")]],
        [[("system", "s"), ("user", "q1\nx")], [("assistant", f"{word}!")], [("assistant", "b")]],
    ]
    assert losses(tmp_path) == [(number, "missing_field") for number in (4, 5, 6)]
    counts = {name: 1 + (name == "input") for name in rows[0] if name != "score_rejected"}
    assert manifest.repaired == {f"null_text_in_{name}": count for name, count in counts.items()}
    assert manifest.unused_columns == {"score_rejected": 1}
    assert "warning: `nan`, `None`, `NULL` and the like in a CSV are missing" in capsys.readouterr().err
    frame = pd.read_csv(tmp_path / f"raw.{kind}", sep=mark)
    assert word == r"\N" or frame.isna().sum().sum() == sum(manifest.repaired.values())


@pytest.mark.parametrize("word", ["none", "Nan", "NULL ", "nil", "", "missing", "-"])
def test_other_words_stay_text(tmp_path: Path, word: str) -> None:
    manifest = make(tmp_path, f"prompt,chosen,rejected,system\nq,{word}x,b,{word}\n")
    assert manifest.repaired == {}
    assert kept(tmp_path)[0][0] == [*([("system", word)] if word else []), ("user", "q")]


def test_such_words_are_text_where_a_file_can_say_null(tmp_path: Path) -> None:
    (tmp_path / "raw.jsonl").write_text(json.dumps({"prompt": "NA", "chosen": "None", "rejected": "nan"}))
    prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", test_size=0)
    assert kept(tmp_path) == [[[("user", "NA")], [("assistant", "None")], [("assistant", "nan")]]]


def test_odd_names_of_columns_are_not_written_down(tmp_path: Path) -> None:
    manifest = make(tmp_path, "prompt,chosen,rejected,a|`b`,c;d\nq,a,b,nan,nan\n")
    assert manifest.repaired == {"null_text_in_other_columns": 1}


@pytest.mark.parametrize("column", ["winner", "choice", "annotator1", "Final verdict"])
def test_a_vote_may_say_none(tmp_path: Path, column: str) -> None:
    mapped = {"map": f"prompt=prompt,first=response_a,second=response_b,vote={column}"}
    votes = "".join(f"q{n},a{n},b{n},{vote},1,2\n" for n, vote in enumerate(("A", "None", "B", "A")))
    text = f"prompt,response_a,response_b,{column},score_a,score_b\n{votes}"
    manifest = make(tmp_path, text, **(mapped if column == "Final verdict" else {}))
    assert (manifest.funnel.dropped, manifest.repaired) == ({"tie": 1}, {})


def test_labels_reach_a_word_for_no_preference(tmp_path: Path) -> None:
    text = "prompt,response_a,response_b,winner\nq1,a,b,x\nq2,a,b,y\nq3,a,b,NA\nq4,a,b,NaN\n"
    manifest = make(tmp_path, text, labels="first=x,second=y,tie=NA")
    assert manifest.funnel.dropped == {"missing_field": 1, "tie": 1}


@pytest.mark.parametrize("column", ["chosen", "preferred_response", "winning_answer"])
def test_an_answer_that_won_is_no_vote(tmp_path: Path, column: str) -> None:
    rows = "".join(f"q{n},{answer},b\n" for n, answer in enumerate(("a", "None", "c")))
    mapped = f"prompt=prompt,chosen={column},rejected=rejected"
    manifest = make(tmp_path, f"prompt,{column},rejected\n{rows}", map=mapped)
    assert manifest.funnel.dropped == {"missing_field": 1}


SPACED = {
    "header": ("prompt, chosen,rejected \nq1,a,b\n", ("q1", "a", "b"), "spaces around the names"),
    "all": ("prompt, chosen, rejected\nq1, a, b c\n", ("q1", "a", "b c"), "the space behind each comma"),
    "quotes": ('prompt, chosen, rejected\nq1, "a,""x""", "b"\n', ("q1", 'a,"x"', "b"), "the space behind each comma"),
    "indent": ("prompt, chosen, rejected\nq1,  a,b\nq2, a,b\n", ("q1", "  a", "b"), "spaces around the names"),
    "semicolons": ("prompt; chosen; rejected\nq1; a; b\n", ("q1", "a", "b"), "the space behind each semicolon"),
    "declared": ("sep=;\nprompt; chosen; rejected\nq1; a; b\n", ("q1", "a", "b"), "the space behind each semicolon"),
    "blank": ("\n prompt,chosen ,rejected\n\nq1,a,b\n", ("q1", "a", "b"), "spaces around the names"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPACED)
def test_spaces_around_the_names_of_columns_are_none_of_them(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text, (prompt, chosen, rejected), told = SPACED[name]
    make(tmp_path, text)
    assert kept(tmp_path)[0] == [[("user", prompt)], [("assistant", chosen)], [("assistant", rejected)]]
    assert capsys.readouterr().err.count(told) == 1


def test_a_mapped_column_needs_no_space(tmp_path: Path) -> None:
    make(tmp_path, "ask, yes, no\nq1,a,b\n", map="prompt=ask,chosen=yes,rejected=no")
    assert kept(tmp_path)[0][1] == [("assistant", "a")]


def test_spaces_that_tell_two_columns_apart_stay() -> None:
    assert form_of(b"a, a,b \n1,2,3\n", ".csv").names == ["a", " a", "b "]
    assert form_of(b"a , b\n1,2\n", ".csv").names == ["a", "b"]


def test_the_last_record_of_a_cut_head_is_not_looked_at() -> None:
    text = b"a, b\n1, " + b"x" * HEAD_BYTES + b"\n3,"
    assert form_of(text, ".csv").spaced
    assert not form_of(b"a, b\n1, x\n3,", ".csv").spaced


def test_a_row_of_several_lines_is_named_by_its_first(tmp_path: Path) -> None:
    text = 'prompt,chosen,rejected\nq0,"a\n\nb",c\n\nq1,"x\ny\nz",\n"q\n2",a,b\nq3,"x\n\n",b,c,d\nq4,a,""\n'
    make(tmp_path, text)
    assert losses(tmp_path) == [(6, "empty_answer"), (11, "malformed_line"), (14, "empty_answer")]
    make(tmp_path, "sep=,\n" + text)
    assert [line for line, _ in losses(tmp_path)] == [7, 12, 15]


def test_a_broken_row_is_named_by_its_first_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the row that begins on line 3: unexpected end"):
        make(tmp_path, 'prompt,chosen,rejected\nq,a,b\nq1,"a,\nb\n\nc')


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1.0", 1), (" 1 ", 1), ("-2", -2), ("1e1", 10), ("1,5", 1.5), ("-0,125", -0.125), (" 2,25 ", 2.25),
        ("0,1", 0.1),
        ("1,500", None), ("1.234,5", None), ("1,234.5", None), ("1,2,3", None), (",5", None), ("4/5", None), ("", None),
        ("nan", None), ("inf", None), (float("nan"), None), (True, None), ("high", None),
    ],
)  # fmt: skip
def test_numbers_written_as_text_are_read_or_refused(text: Any, number: float | None) -> None:
    if number is not None:
        assert number_of(text) == number
        return
    with pytest.raises(Rejection, match="wrong_type"):
        number_of(text)


def test_scores_of_a_csv_are_compared_as_numbers(tmp_path: Path) -> None:
    text = "prompt;chosen;rejected;score_chosen;score_rejected\nq0;a;b;1,5;2,5\nq1;a;b;10.0;9.0\nq2;a;b; 3 ;3.0\n"
    manifest = make(tmp_path, text)
    assert (manifest.funnel.kept, manifest.funnel.dropped) == (1, {"inverted": 1, "tie": 1})
    assert kept(tmp_path)[0][0] == [("user", "q1")]


@pytest.mark.parametrize(
    ("label", "score"),
    [("TRUE", 1), ("1.0", 1), (1.0, 1), (" True", 1), (True, 1), (1, 1), ("FALSE", 0), ("0.0", 0), (0.0, 0), (False, 0),
     ("2", None), (0.5, None), ("yes", None), ([1], None)],
)  # fmt: skip
def test_labels_of_single_answers_are_read_as_excel_and_pandas_write_them(label: Any, score: float | None) -> None:
    row = {"prompt": "q", "completion": "a", "label": label}
    if score is None:
        with pytest.raises(Rejection, match="unknown_label"):
            find_converter("unpaired").bind(ConvertOptions())(row)
        return
    made = find_converter("unpaired").bind(ConvertOptions())(row)
    assert isinstance(made, ScoredAnswer)
    assert made.score == score


@pytest.mark.parametrize("turn", [1, "1", "1.0", 1.0])
def test_the_turn_that_was_judged_is_a_number_however_it_is_written(turn: Any) -> None:
    def talk(word: str) -> list[dict[str, str]]:
        return [
            {"role": role, "content": text}
            for role, text in (("user", "q"), ("assistant", word), ("user", "more"), ("assistant", word * 2))
        ]

    row = {"conversation_a": talk("a"), "conversation_b": talk("b"), "winner": "model_a", "turn": turn}
    made: Any = find_converter("voted").bind(ConvertOptions())(row)
    assert (len(made.prompt), made.chosen[0]["content"]) == (1, "a")


def test_quotes_escaped_by_a_backslash_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the CSV is broken") as caught:
        make(tmp_path, 'prompt,chosen,rejected\nq,"she said \\"hi\\" to me","b"\n')
    assert caught.value.hint == 'write a quote in a text as "", not as \\"'
