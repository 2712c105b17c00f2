"""Several sources: each is detected by itself, counted by itself, and none is lost in silence."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from hubdpo import load_preferences, prepare
from hubdpo.artefacts.manifests.manifest import PREPARE_FILE
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.data.converters.formats.scored import HELPSTEER
from hubdpo.data.raw import pieces
from hubdpo.errors import DataError
from tests.data.made import contents, lines, rows


def preference(n: int) -> dict[str, Any]:
    return rows(n + 1)[n]


def sharegpt(n: int) -> dict[str, Any]:
    return {
        "conversations": [{"from": "human", "value": f"question {n}"}],
        "chosen": {"from": "gpt", "value": f"good {n}"}, "rejected": {"from": "gpt", "value": f"bad {n}"},
    }  # fmt: skip


def openai(n: int) -> dict[str, Any]:
    def said(role: str, text: str) -> list[dict[str, str]]:
        return [{"role": role, "content": text}]

    return {
        "input": {"messages": said("user", f"question {n}")},
        "preferred_output": said("assistant", f"good {n}"), "non_preferred_output": said("assistant", f"bad {n}"),
    }  # fmt: skip


def alpaca(n: int) -> dict[str, Any]:
    return {"instruction": f"question {n}", "input": "", "chosen": f"good {n}", "rejected": f"bad {n}"}


def helpful(n: int) -> dict[str, Any]:
    """Two answers with scores in one row."""
    return {"prompt": f"question {n}", "responses": [f"good {n}", f"bad {n}"], "scores": [5, 1]}


def rated(n: int) -> list[dict[str, Any]]:
    """Two rows with an answer each."""
    return [
        {"prompt": f"question {n}", "completion": f"{word} {n}", "label": word == "good"} for word in ("bad", "good")
    ]


SHAPES = {"preference": preference, "sharegpt": sharegpt, "openai": openai, "alpaca": alpaca, "scored": helpful}


def write(path: Path, values: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lines(values))


def pairs_of(folder: Path) -> list[tuple[str, str, str]]:
    return sorted(
        (row["prompt"][-1]["content"], row["chosen"][0]["content"], row["rejected"][0]["content"])
        for table in load_preferences(folder).values()
        for row in table.to_list()
    )


@pytest.mark.parametrize("seed", range(6))
def test_any_mixture_of_shapes_in_files_of_their_own_gives_all_pairs(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 700)
    draw = random.Random(seed)
    wanted, converters, number = [], [], 0
    for file in range(draw.randint(2, 6)):
        name = draw.choice([*SHAPES, "unpaired"])
        count = draw.randint(1, 12)
        made = [rated(n) if name == "unpaired" else [SHAPES[name](n)] for n in range(number, number + count)]
        write(tmp_path / "in" / f"{file}.jsonl", [row for some in made for row in some])
        wanted += [(f"question {n}", f"good {n}", f"bad {n}") for n in range(number, number + count)]
        converters.append(name)
        number += count
    manifest = prepare(source=str(tmp_path / "in"), output_dir=tmp_path / "out", num_proc=1)
    assert pairs_of(tmp_path / "out") == sorted(wanted)
    assert [source.converter for source in manifest.sources] == converters
    assert sum(source.kept or 0 for source in manifest.sources) == manifest.funnel.kept == number
    assert sum(source.read or 0 for source in manifest.sources) == manifest.funnel.read
    assert manifest.funnel.adds_up()
    prepare(source=str(tmp_path / "in"), output_dir=tmp_path / "three", num_proc=3)
    assert contents(tmp_path / "out") == contents(tmp_path / "three")


def test_each_source_is_told_with_its_converter_and_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.jsonl", [preference(n) for n in range(20)])
    write(tmp_path / "b.jsonl", [sharegpt(n) for n in range(15, 27)])
    prepare(source=[str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")], output_dir=tmp_path / "out")
    told = [
        (one["name"], one["converter"], one["read"], one["kept"], one["dropped"])
        for one in json.loads((tmp_path / "out" / PREPARE_FILE).read_text())["sources"]
    ]
    assert told == [
        ("a.jsonl", "preference", 20, 20, {}), ("b.jsonl", "sharegpt", 12, 7, {"duplicate_pair": 5}),
    ]  # fmt: skip
    said = capsys.readouterr().err
    assert "detected preference in a.jsonl: 20 of the first 20" in said
    assert "detected sharegpt in b.jsonl: 12 of the first 12" in said
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| `b.jsonl` | `sharegpt` | 12 | 7 |" in card
    assert "--converter" not in card.split("## How it was made")[1].split("```")[1]


def test_a_source_that_comes_late_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 500)
    write(tmp_path / "a.jsonl", [preference(n) for n in range(200)])
    write(tmp_path / "z.jsonl", [{"text": "no pair"}] * 3)
    with pytest.raises(DataError, match="z.jsonl: no converter fits; the rows have `text`"):
        prepare(source=[str(tmp_path / "a.jsonl"), str(tmp_path / "z.jsonl")], output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


TIE = {"prompt": "p", "responses": ["a", "b"], "scores": [1, 1]}
GIVES_NOTHING = {
    "another shape": ([{"prompt": "p", "completion": "c"}], {}, "no converter fits"),
    "a format that does not fit": (
        [sharegpt(9)],
        {"converter": "preference"},
        r"b.jsonl: none of 1 rows .*`conversations`",
    ),
    "ties alone": ([TIE, {**TIE, "prompt": "q"}], {}, "b.jsonl: none of 2 rows can be used: tie 2"),
    "empty answers": ([{**preference(9), "chosen": ""}], {}, "b.jsonl: none of 1 rows can be used: empty_answer 1"),
    "single answers": (rated(9)[:1], {}, "b.jsonl: none of 1 rows can be used: unpaired 1"),
}


@pytest.mark.parametrize("kind", GIVES_NOTHING)
def test_a_source_that_gives_nothing_is_an_error_beside_one_that_gives(kind: str, tmp_path: Path) -> None:
    values, options, message = GIVES_NOTHING[kind]
    write(tmp_path / "a.jsonl", [preference(n) for n in range(5)])
    write(tmp_path / "b.jsonl", values)
    sources = [str(tmp_path / name) for name in ("a.jsonl", "b.jsonl")]
    with pytest.raises(DataError, match=message) as caught:
        prepare(source=sources, output_dir=tmp_path / "out", **options)
    assert caught.value.hint
    assert not (tmp_path / "out").exists()


def test_broken_files_among_many_of_a_source_are_named_and_do_not_stop_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in range(9):
        write(tmp_path / "in" / f"{n}.jsonl", [preference(n)])
    write(tmp_path / "in" / "broken.jsonl", [{"prompt": "p", "chosen": "c"}])
    write(tmp_path / "in" / "empty.jsonl", [{"prompt": "p", "chosen": "", "rejected": "r"}])
    manifest = prepare(source=str(tmp_path / "in"), output_dir=tmp_path / "out")
    assert manifest.funnel.dropped == {"empty_answer": 1, "missing_field": 1}
    said = capsys.readouterr().err
    assert "warning: broken.jsonl, empty.jsonl: no row of them can be used: empty_answer 1, missing_field 1" in said


def test_a_file_of_other_fields_stops_its_source(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.jsonl", [preference(n) for n in range(9)])
    write(tmp_path / "in" / "b.jsonl", [{"prompt": "p", "completion": "c"}])
    with pytest.raises(DataError, match="b.jsonl: no converter fits; the rows have `prompt`, `completion`"):
        prepare(source=str(tmp_path / "in"), output_dir=tmp_path / "out")


def test_scored_answers_come_together_in_one_file_and_alone_in_another(tmp_path: Path) -> None:
    alone = [
        {"prompt": f"question {n}", "response": f"{word} {n}", **dict.fromkeys(HELPSTEER, score)}
        for n in range(5, 8)
        for word, score in (("good", 4), ("bad", 2))
    ]
    write(tmp_path / "in" / "a.jsonl", [helpful(n) for n in range(5)])
    write(tmp_path / "in" / "b.jsonl", alone)
    manifest = prepare(source=str(tmp_path / "in"), output_dir=tmp_path / "out")
    assert [(one.converter, one.kept) for one in manifest.sources] == [("scored", 5), ("scored", 3)]
    assert pairs_of(tmp_path / "out") == [(f"question {n}", f"good {n}", f"bad {n}") for n in range(8)]


def test_a_source_of_repeats_alone_is_told_and_does_not_stop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.jsonl", [preference(n) for n in range(5)])
    prepare(source=[str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")], output_dir=tmp_path / "out")
    assert "warning: b.jsonl: 5 of 5 rows are dropped, most of them as `duplicate_pair` (5)" in capsys.readouterr().err


@pytest.mark.parametrize(("good", "told"), [(4, True), (5, False), (9, False)])
def test_more_than_half_lost_is_a_warning_with_the_next_step(
    good: int, told: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ties = [{"prompt": f"t {n}", "responses": ["a", "b"], "scores": [1, 1]} for n in range(5)]
    write(tmp_path / "a.jsonl", [*(helpful(n) for n in range(good)), *ties])
    prepare(source=str(tmp_path / "a.jsonl"), output_dir=tmp_path / "out", test_size=0)
    said = capsys.readouterr().err
    assert ("warning: a.jsonl: 5 of 9 rows are dropped, most of them as `tie` (5)" in said) is told
    assert ("hint: " in said) is told


def test_one_file_that_lost_more_than_half_is_told_among_many(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "in" / "a.jsonl", [preference(n) for n in range(90)])
    write(tmp_path / "in" / "b.jsonl", [preference(91), *({**preference(n), "chosen": " "} for n in range(92, 95))])
    write(tmp_path / "in" / "c.jsonl", [preference(96), *({**preference(n), "chosen": " "} for n in range(97, 99))])
    prepare(source=str(tmp_path / "in"), output_dir=tmp_path / "out")
    said = capsys.readouterr().err
    assert "warning: b.jsonl: 3 of 4 rows are dropped, most of them as `empty_answer` (3)" in said


def test_rows_of_another_shape_in_a_file_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.jsonl", [*(preference(n) for n in range(6)), *(sharegpt(n) for n in range(6, 9))])
    manifest = prepare(source=str(tmp_path / "a.jsonl"), output_dir=tmp_path / "out")
    assert manifest.funnel.dropped == {"missing_field": 3}
    said = capsys.readouterr().err
    assert "a.jsonl mixes shapes: 3 of its first 9 rows have conversations with two answers" in said


def test_two_shapes_that_fit_one_file_are_told_apart_by_another(tmp_path: Path) -> None:
    both = [{**preference(n), "instruction": "i"} for n in range(5, 8)]
    write(tmp_path / "a.jsonl", [alpaca(n) for n in range(5)])
    write(tmp_path / "b.jsonl", both)
    found = prepare(source=[str(tmp_path / "b.jsonl"), str(tmp_path / "a.jsonl")], output_dir=tmp_path / "out")
    assert {one.converter for one in found.sources} <= {"alpaca", "preference"}
    assert found.funnel.kept == 8


def test_a_file_that_is_named_twice_is_read_twice(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [preference(n) for n in range(5)])
    manifest = prepare(source=[str(tmp_path / "a.jsonl")] * 2, output_dir=tmp_path / "out", dedupe="none", test_size=0)
    assert [(one.read, one.kept) for one in manifest.sources] == [(5, 5), (5, 5)]


def test_the_first_rows_of_each_converter_are_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in" / "a.jsonl", [preference(0), preference(1)])
    write(tmp_path / "in" / "b.jsonl", [sharegpt(2), sharegpt(3)])
    assert prepare(source=str(tmp_path / "in"), output_dir=tmp_path / "out", explain=1) is None
    said = capsys.readouterr().err
    assert all(
        text in said for text in ("a.jsonl, `preference`", "prompt [user]: question 0", "prompt [user]: question 2")
    )
    assert "question 1" not in said


def test_a_manifest_without_counts_of_its_sources_is_read(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [preference(n) for n in range(5)])
    made = prepare(source=str(tmp_path / "a.jsonl"), output_dir=tmp_path / "out", test_size=0.05)
    old = json.loads((tmp_path / "out" / PREPARE_FILE).read_text())
    del old["published_split"]
    old["sources"] = [{key: one[key] for key in ("name", "sha256", "size")} for one in old["sources"]]
    (tmp_path / "old.json").write_text(json.dumps(old))
    read = PrepareManifest.read(tmp_path / "old.json")
    assert (read.sources[0].read, read.published_split, read.fingerprint) == (None, False, made.fingerprint)


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("me/pairs", "hf://datasets/me/pairs"),
        ("me/pairs.jsonl", "ls ."),
        ("s3://pairs/a.jsonl", "pip install s3fs"),
        ("foo://a.jsonl", "check the address"),
    ],
)
def test_a_source_that_cannot_be_found_has_a_hint(
    source: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(DataError) as caught:
        prepare(source=source, output_dir=tmp_path / "out")
    assert hint in str(caught.value.hint)
