"""Prompts with several answers: which pairs they make, and the ids by which rows with the same texts are found."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from hubdpo import load_preferences, prepare
from hubdpo.artefacts.formats.messages import COLUMNS, IDS
from hubdpo.data.converters import ConvertOptions
from hubdpo.data.pairs.example import single_turn
from hubdpo.errors import ConfigError
from tests.data.made import contents, lines, rows


def scored(count: int, answers: int = 4) -> list[dict[str, Any]]:
    return [
        {
            "prompt": f"question {i}", "responses": [f"answer {i}, {j}" for j in range(answers)],
            "scores": [(j * 2 + i) % 7 for j in range(answers)], "tag": f"t{i}",
        }
        for i in range(count)
    ]  # fmt: skip


def labelled() -> list[dict[str, Any]]:
    good = [{"prompt": "q", "completion": f"good {i}", "label": True} for i in range(2)]
    bad = [{"prompt": "q", "completion": f"bad {i}", "label": False} for i in range(3)]
    return [*good, *bad]


def prepared(tmp_path: Path, *files: list[Any], **options: Any) -> list[dict[str, Any]]:
    sources = []
    for number, values in enumerate(files):
        (tmp_path / f"raw{number}.jsonl").write_bytes(lines(values))
        sources.append(str(tmp_path / f"raw{number}.jsonl"))
    prepare(source=sources, output_dir=tmp_path / "out", **{"test_size": 0, **options})
    return load_preferences(tmp_path / "out")["train"].to_list()


def text(messages: list[dict[str, str]]) -> str:
    return messages[0]["content"]


@pytest.mark.parametrize(
    ("pairs", "made"),
    [
        ("best-worst", [(2, 1)]), ("best-each", [(2, 0), (2, 3), (2, 1)]), ("adjacent", [(2, 0), (0, 3), (3, 1)]),
        ("all", [(2, 0), (2, 3), (2, 1), (0, 3), (0, 1), (3, 1)]),
    ],
)  # fmt: skip
def test_the_pairs_of_several_scores(pairs: Any, made: list[tuple[int, int]]) -> None:
    assert list(ConvertOptions(pairs).candidates([2.0, 1.0, 3.0, 2.0])) == made


@pytest.mark.parametrize(
    ("pairs", "made"),
    [
        ("best-worst", {(0, 0), (1, 1)}), ("adjacent", {(0, 0), (1, 1)}), ("best-each", {(0, 0), (0, 1), (0, 2)}),
        ("all", set(itertools.product(range(2), range(3)))),
    ],
)  # fmt: skip
def test_the_pairs_of_labelled_answers(pairs: str, made: set[tuple[int, int]], tmp_path: Path) -> None:
    found = prepared(tmp_path, labelled(), pairs=pairs)
    assert {(text(row["chosen"]), text(row["rejected"])) for row in found} == {
        (f"good {good}", f"bad {bad}") for good, bad in made
    }


@pytest.mark.parametrize("make", [lambda: scored(30), labelled], ids=["a row", "rows of one answer"])
def test_equal_texts_have_equal_ids_and_others_have_others(make: Any, tmp_path: Path) -> None:
    found = prepared(tmp_path, make(), pairs="all")
    by_side = {side: {(text(row[side]), row[f"{side}_id"]) for row in found} for side in COLUMNS}
    answers = by_side["chosen"] | by_side["rejected"]
    for pairs in (by_side["prompt"], answers):
        assert len(pairs) == len({written for written, _ in pairs}) == len({name for _, name in pairs})
    assert all(re.fullmatch("[0-9a-f]{16}", row[name]) for row in found for name in IDS)
    assert len(answers) < 2 * len(found)


def test_ids_are_those_of_any_other_run_and_file(tmp_path: Path) -> None:
    """A file of plain pairs is converted as columns, and gets the ids that the same texts have in the other file."""
    (tmp_path / "one").mkdir()
    plain = [{"prompt": row["prompt"], "chosen": row["responses"][0], "rejected": "another"} for row in scored(40)]
    alone = prepared(tmp_path / "one", scored(40), pairs="all")
    both = prepared(tmp_path, plain, scored(40), pairs="all")
    ids = {text(row[side]): row[f"{side}_id"] for row in alone for side in COLUMNS}
    assert all(ids.get(text(row[side]), row[f"{side}_id"]) == row[f"{side}_id"] for row in both for side in COLUMNS)
    assert sum(text(row["rejected"]) == "another" for row in both) == 40
    assert ids["question 0"] == "6d1728f0b9366a74"


def test_an_id_depends_on_roles_and_on_every_message(tmp_path: Path) -> None:
    ask, say = single_turn("user", "a"), single_turn("assistant", "b")
    prompts = [
        ask,
        [*single_turn("system", "a"), *ask],
        [*ask, *say, *ask],
        [*ask, *single_turn("assistant", "c"), *ask],
    ]
    values = [{"prompt": prompt, "responses": ["x", "y"], "scores": [1, 0]} for prompt in prompts]
    assert len({row["prompt_id"] for row in prepared(tmp_path, values)}) == len(prompts)


def test_the_ids_are_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    for number in (0, 1):
        (tmp_path / f"{number}.jsonl").write_bytes(lines([scored(60), labelled()][number]))
    for workers in (1, 2):
        prepare(
            source=[str(tmp_path / "0.jsonl"), str(tmp_path / "1.jsonl")], output_dir=tmp_path / f"out{workers}",
            pairs="all", num_proc=workers, keep=["tag"],
        )  # fmt: skip
    assert contents(tmp_path / "out1") == contents(tmp_path / "out2")


def test_manifest_and_card_say_what_the_columns_are(tmp_path: Path) -> None:
    found = prepared(tmp_path, scored(5), keep=["tag"])
    assert list(found[0]) == [*COLUMNS, *IDS, "tag"]
    columns = json.loads((tmp_path / "out" / "prepare.json").read_text())["columns"]
    assert set(columns) == {*IDS, "tag"}
    card = (tmp_path / "out" / "README.md").read_text()
    for name, meaning in columns.items():
        assert f"| `{name}` | text | {meaning} |" in card
        assert f"- name: {name}\n    dtype: string" in card


def test_pairs_of_two_answers_have_no_ids(tmp_path: Path) -> None:
    found = prepared(tmp_path, [{**row, "prompt_id": "kept"} for row in rows(5)], keep=["prompt_id"])
    assert list(found[0]) == [*COLUMNS, "prompt_id"]
    assert found[0]["prompt_id"] == "kept"


def test_a_kept_column_may_not_be_called_as_an_id(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`--keep chosen_id`: prompts may have several answers") as refused:
        prepared(tmp_path, [{**row, "chosen_id": "1"} for row in scored(3)], keep=["chosen_id"])
    assert refused.value.hint == "rename the column in the source, or leave it out"
