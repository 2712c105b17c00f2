"""Reading and searching the pairs: whatever the row groups and the state of the index, the rows of a plain search."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from hubdpo.artefacts.formats.messages import COLUMNS
from hubdpo.artefacts.manifests.prepare import Source
from hubdpo.errors import ArtefactError
from hubdpo.view.dataset import index as index_room
from hubdpo.view.dataset import search
from hubdpo.view.dataset.index import Index
from hubdpo.view.dataset.search import Wanted, find, needle_of, sources_of
from hubdpo.view.dataset.table import Table
from hubdpo.view.dataset.texts import flags_of, has_flags, needed_flags, read_texts
from tests.view.made_datasets import Row, made_up, pair, thing_of, write_dataset

TOOL = {"type": "function", "function": {"name": "f", "description": "does", "parameters": {}}}


def plain(rows: list[Row], wanted: Wanted) -> list[int]:
    """Search without an index."""
    found = []
    for number, row in enumerate(rows):
        texts = {name: [message["content"] for message in row[name]] for name in COLUMNS}
        sizes = {name: sum(map(len, texts[name])) for name in COLUMNS}
        longer = "chosen" if sizes["chosen"] > sizes["rejected"] else "rejected"
        longer = "same" if sizes["chosen"] == sizes["rejected"] else longer
        total = sum(sizes.values())
        fits = wanted.least is None or total >= wanted.least
        fits = fits and (wanted.most is None or total <= wanted.most)
        fits = fits and wanted.longer in (None, longer) and (wanted.places is None or number in wanted.places)
        lower = wanted.text.lower()
        if fits and any(lower in text.lower() for of_side in texts.values() for text in of_side):
            found.append(number)
    return found


def all_pages(table: Table, index: Index, wanted: Wanted, *, count: int, backwards: bool = False) -> list[int]:
    rows: list[int] = []
    at: int | None = table.splits["train"] if backwards else 0
    while at is not None:
        found = find(table, index, "train", wanted, start=at, count=count, backwards=backwards)
        rows = found.rows + rows if backwards else rows + found.rows
        at = found.at
    return rows


@pytest.fixture(scope="module", params=["text", "json"])
def rows(request: pytest.FixtureRequest) -> list[Row]:
    made = made_up(120)
    if request.param == "json":
        made[3] |= {"tools": [TOOL]}
    return made


@pytest.fixture(scope="module")
def table(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Table:
    return Table(
        thing_of(write_dataset(tmp_path_factory.mktemp("data") / "d", {"test": rows[:5], "train": rows})).snapshot
    )


WANTED = [
    Wanted(text="tea"), Wanted(text="TEA lamp"), Wanted(text="élan"), Wanted(text="ÉLAN"), Wanted(text="你好"),
    Wanted(text='say "hi"'), Wanted(text="a\\b"), Wanted(text="17"), Wanted(text="c17"), Wanted(text="nowhere"),
    Wanted(text="<b>"), Wanted(text="e"), Wanted(text="öde ("), Wanted(least=40), Wanted(most=60),
    Wanted(least=30, most=80, longer="rejected"), Wanted(longer="same"), Wanted(text="river", longer="chosen"),
    Wanted(text="tea", places=range(20, 55)), Wanted(places=range(119, 120)), Wanted(places=range(10, 11)),
    Wanted(places=range(0)),
]  # fmt: skip


@pytest.mark.parametrize("wanted", WANTED, ids=str)
@pytest.mark.parametrize("known", [0, 3, 99])
def test_a_search_finds_what_a_plain_search_finds(rows: list[Row], table: Table, wanted: Wanted, known: int) -> None:
    index = Index(table)
    assert index.wait(60)
    of_train = index.splits["train"]
    of_train.groups = min(known, len(of_train.flags))
    of_train.flags[of_train.groups :] = 0  # nothing may be concluded from what is not known yet
    for count in (3, 1000):
        assert all_pages(table, index, wanted, count=count) == plain(rows, wanted)
        assert all_pages(table, index, wanted, count=count, backwards=True) == plain(rows, wanted)
    assert find(table, index, "train", wanted, start=9, count=3).total == len(plain(rows, wanted))


def test_a_search_that_takes_long_stops_and_goes_on(
    rows: list[Row], table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "BUDGET_S", 0.0)
    index = Index(table)
    index.wait(60)
    first = find(table, index, "train", Wanted(text="c17"), start=0, count=20)
    assert first.total is None
    assert (first.rows, first.at) != ([], None) and first.at is not None and first.looked_at < len(rows)
    assert all_pages(table, index, Wanted(text="tea"), count=20) == plain(rows, Wanted(text="tea"))


def test_rows_are_read_in_the_order_that_is_asked_for(rows: list[Row], table: Table) -> None:
    assert table.splits == {"train": 120, "test": 5}
    numbers = [119, 0, 24, 25, 26, 7, 6]
    found = table.rows("train", numbers)
    texts = [str(row["chosen"]) for row in found]
    assert all(f"c{number}" in text for number, text in zip(numbers, texts, strict=True))


def test_one_index_is_made_at_a_time_and_others_are_searched_meanwhile(rows: list[Row], table: Table) -> None:
    with index_room._gathering:
        index = Index(table)
        assert not index.wait(0.2) and index.splits["train"].groups == 0
        assert all_pages(table, index, Wanted(text="tea"), count=7) == plain(rows, Wanted(text="tea"))
    assert index.wait(60)


def test_prompts_of_several_splits_are_counted(tmp_path: Path) -> None:
    train, same = made_up(40), pair("the same", "a", "b")
    turns = [{"role": "user", "content": "the "}, {"role": "user", "content": "same"}]
    said, told = ({"prompt": [{"role": role, "content": "only"}]} for role in ("user", "system"))
    table = Table(
        thing_of(
            write_dataset(
                tmp_path / "d",
                {"train": [*train, same, same, same | told], "test": [same, same | {"prompt": turns}, same | said]},
            )
        ).snapshot
    )
    index = Index(table)
    assert index.wait(60) and index.shared_prompts == 1


def test_a_text_that_only_two_rows_together_have_is_in_neither(tmp_path: Path) -> None:
    rows = [pair("xab", "ab", "b"), pair("cdx", "cd", "c")]
    table = Table(thing_of(write_dataset(tmp_path / "d", {"train": rows})).snapshot)
    assert all_pages(table, Index(table), Wanted(text="bc"), count=5) == []
    assert all_pages(table, Index(table), Wanted(text="cd"), count=5) == [1]


def test_what_a_group_has_is_never_denied() -> None:
    import pyarrow as pa

    chance = random.Random(0)
    for _ in range(50):
        texts = ["".join(chance.choices("abcÄÖ你 \n", k=chance.randint(0, 40))) for _ in range(5)]
        kind = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
        column = pa.array([[{"role": "user", "content": text}] for text in texts], kind)
        group = read_texts(pa.table(dict.fromkeys(COLUMNS, column)))
        flags = np.stack([flags_of(group)])
        text = chance.choice(texts)
        start = chance.randint(0, len(text))
        part = text[start : start + chance.randint(0, 9)]
        assert has_flags(flags, needed_flags(needle_of(part)))[0]


def test_another_text_is_denied_nearly_always() -> None:
    import pyarrow as pa

    kind = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    column = pa.array([[{"role": "user", "content": "tea with the queen of the river " * 100}]], kind)
    flags = np.stack([flags_of(read_texts(pa.table(dict.fromkeys(COLUMNS, column))))])
    assert not has_flags(flags, needed_flags(b"quokka"))[0]


@pytest.mark.parametrize(
    ("text", "needle"),
    [
        ("Tea", b"tea"), ("Élan vital", b"lan vital"), ("ÄÖ", b""), ('say "hi"', b"say "), ("你好", "你好".encode()),
        ("a\\b", b"a"), ("x\ny", b"x"), ("", b""), ("(a.c)*", b"(a.c)*"), ("]^-é", b"]^-"),
    ],
)  # fmt: skip
def test_the_part_that_is_looked_for_by_its_bytes(text: str, needle: bytes) -> None:
    assert needle_of(text) == needle


def test_sources_follow_each_other() -> None:
    def source(name: str, **pairs: int) -> Source:
        return Source(name=name, sha256="", size=0, pairs=pairs)

    sources = [source("a", train=3, test=1), source("b", test=2), source("a", train=4)]
    assert list(sources_of(sources, "train")) == [("a", range(3)), ("a (2)", range(3, 7))]
    assert list(sources_of(sources, "test")) == [("a", range(1)), ("b", range(1, 3))]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "d", {"train": made_up(60), "test": made_up(9)})
    shard = folder / "data" / "train-00001-of-00003.parquet"
    shard.write_bytes(b"PAR1" + bytes(100))
    table = Table(thing_of(folder).snapshot)
    assert table.splits == {"test": 9}
    assert "data/train-00001-of-00003.parquet" in table.problems["train"]
    shard.unlink()
    table = Table(thing_of(folder).snapshot)
    assert table.splits == {"test": 9} and "is missing, which prepare.json lists" in table.problems["train"]


def test_a_page_that_was_damaged_later_is_named(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "d", {"train": made_up(20)})
    table = Table(thing_of(folder).snapshot)
    assert table.splits == {"train": 20}
    shard = folder / "data" / "train-00000-of-00001.parquet"
    content = bytearray(shard.read_bytes())
    content[4:200] = bytes(196)
    shard.write_bytes(content)
    with pytest.raises(ArtefactError, match="`data/train-00000-of-00001.parquet` is damaged"):
        table.rows("train", [0])
    index = Index(table)
    assert not index.wait(60) and "is damaged" in index.problem
