"""Every published shape we know of is read right, or refused with what a person must say; none is silently wrong."""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import operator
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from hubdpo import load_preferences, prepare
from hubdpo.data.converters import CONVERTERS, ConvertOptions
from hubdpo.data.pairs.example import PreferenceExample, Rejection, ScoredAnswer
from hubdpo.errors import HubdpoError
from tests.data.shapes.groups import GROUPS
from tests.data.shapes.pairs import PAIRS
from tests.data.shapes.shape import COUNT, Pair, Shape, as_csv
from tests.data.shapes.votes import VOTES

SHAPES: dict[str, Shape] = {**PAIRS, **VOTES, **GROUPS}
READ = [name for name, shape in SHAPES.items() if not shape.told]
REFUSED = [name for name, shape in SHAPES.items() if shape.told]
ASKED = [name for name, shape in SHAPES.items() if shape.options]


def make(tmp_path: Path, shape: Shape, **options: Any) -> Any:
    (tmp_path / shape.name).write_bytes(shape.data())
    return prepare(source=[str(tmp_path / shape.name)], output_dir=tmp_path / "out", test_size=0, **options)


def pairs(folder: Path) -> list[Pair]:
    columns = ("prompt", "chosen", "rejected")
    return [
        tuple([(turn["role"], turn["content"]) for turn in row[column]] for column in columns)  # type: ignore[misc]
        for row in load_preferences(folder)["train"]
    ]


def json_rows(shape: Shape) -> list[Any]:
    found = [shape.row(n) for n in range(COUNT)]
    return [row for some in found for row in (some if isinstance(some, list) else [some])]


def expected(shape: Shape) -> list[Pair]:
    found = [shape.pair(n) for n in range(COUNT - sum(shape.lost.values()))]
    return [pair for some in found for pair in (some if isinstance(some, list) else [some])]


def test_every_converter_reads_a_published_shape() -> None:
    rows = [row for name in READ for row in json_rows(SHAPES[name])]
    assert {name for name, converter in CONVERTERS.items() if any(map(converter.detect, rows))} == {*CONVERTERS}


@pytest.mark.parametrize("name", READ)
def test_the_better_answer_prompt_and_system_come_out(tmp_path: Path, name: str) -> None:
    shape = SHAPES[name]
    manifest = make(tmp_path, shape, **shape.options, **shape.chosen)
    assert sorted(pairs(tmp_path / "out")) == sorted(expected(shape))
    assert manifest.funnel.dropped == shape.lost
    assert manifest.funnel.adds_up()


@pytest.mark.parametrize("name", ASKED)
def test_what_only_a_person_knows_is_asked_for_by_the_option(tmp_path: Path, name: str) -> None:
    shape = SHAPES[name]
    with pytest.raises(HubdpoError) as caught:
        make(tmp_path, shape)
    for part in [shape.asked] if shape.asked else shape.options.values():
        assert part in str(caught.value.hint)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_pair_of_texts_is_refused_by_name(tmp_path: Path, name: str) -> None:
    shape = SHAPES[name]
    with pytest.raises(HubdpoError) as caught:
        make(tmp_path, shape)
    assert all(part in f"{caught.value} {caught.value.hint}" for part in shape.told)
    assert not (tmp_path / "out").exists()


JUNK: list[Any] = [
    None, "", 0, -1, 1.5, True, [], {}, [None], [1], ["a", "b"], {"a": 1}, {"role": "user"}, [[1]], [{}], "[1",
    {"rank": "x", "value": ["response-1"]}, [{"value": [], "rank": {}}], [{"id": [1], "text": "x"}, {"id": {}}],
    [{"role": "user", "content": "x"}], 10**400, {"value": [[]]}, "{'selected': 3}",
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths to all values inside a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in items:
        yield (*path, key)
        yield from places(member, (*path, key))


def spoiled(row: Any, random: Random) -> Any:
    """Return a row in which something is missing or replaced."""
    row = copy.deepcopy(row)
    for _ in range(random.randint(1, 3)):
        if found := list(places(row)):
            *before, last = random.choice(found)
            owner = functools.reduce(operator.getitem, before, row)
            if random.random() < 0.25:
                owner.pop(last)
            else:
                owner[last] = copy.deepcopy(random.choice(JUNK))
    return row


@pytest.mark.parametrize("seed", range(4))
def test_spoiled_rows_are_pairs_or_rejections(seed: int) -> None:
    random = Random(seed)
    rows = [row for shape in SHAPES.values() for row in json_rows(shape)]
    converters = [(converter.detect, converter.bind(ConvertOptions("all"))) for converter in CONVERTERS.values()]
    for _ in range(1500):
        row = spoiled(random.choice(rows), random)
        for detect, convert in converters:
            detect(row)
            with contextlib.suppress(Rejection):
                converted = convert(row)
                assert isinstance(converted, (PreferenceExample, ScoredAnswer)) or list(converted) is not None


def as_text(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (list, dict)) else value


NOT_IN_CSV = {
    "openai", "lmflow-paired-conversation", "label-studio", "label-studio-choices",  # refused
    "answers-as-objects", "rm-bench", "reward-bench-2",  # an answer may well be a list or an object: there is a warning
    "openassistant-trees",
}  # fmt: skip


@pytest.mark.parametrize("write", [str, as_text])
@pytest.mark.parametrize("name", [name for name in READ if name not in NOT_IN_CSV])
def test_the_same_pairs_come_out_of_a_csv(tmp_path: Path, name: str, write: Callable[[Any], Any]) -> None:
    shape = SHAPES[name]
    rows = [{key: write(v) if isinstance(v, (list, dict)) else v for key, v in row.items()} for row in json_rows(shape)]
    (tmp_path / "raw.csv").write_bytes(as_csv(rows))
    prepare(
        source=[str(tmp_path / "raw.csv")], output_dir=tmp_path / "out", test_size=0, **shape.options, **shape.chosen
    )
    assert sorted(pairs(tmp_path / "out")) == sorted(expected(shape))


@pytest.mark.parametrize("name", ["answers-as-objects", "rm-bench"])
def test_notation_in_the_answers_of_a_csv_is_warned_of(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{key: as_text(value) for key, value in row.items()} for row in json_rows(SHAPES[name])]
    (tmp_path / "raw.csv").write_bytes(as_csv(rows))
    prepare(source=[str(tmp_path / "raw.csv")], output_dir=tmp_path / "out", test_size=0)
    assert "they are learned with their b" in capsys.readouterr().err
