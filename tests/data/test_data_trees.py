"""Trees of messages: pairs of ranked replies, also where each message is a row of its own."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hubdpo import load_preferences, prepare
from hubdpo.data.raw.message_trees import MOST_DEPTH
from hubdpo.errors import DataError
from tests.data.made import lines
from tests.data.shapes.groups import nested, tree
from tests.data.shapes.shape import as_csv


def make(tmp_path: Path, name: str, data: bytes, **options: Any) -> Any:
    (tmp_path / name).write_bytes(data)
    return prepare(source=[str(tmp_path / name)], output_dir=tmp_path / "out", test_size=0, **options)


def texts(folder: Path) -> set[tuple[str, ...]]:
    return {
        tuple(turn["content"] for side in ("prompt", "chosen", "rejected") for turn in row[side])
        for row in load_preferences(folder)["train"]
    }


def message(number: int, parent: int | None, text: str = "", rank: int | None = None, **more: Any) -> dict[str, Any]:
    role = "prompter" if number % 2 == 0 else "assistant"
    up = None if parent is None else f"m{parent}"
    text = text or f"text {number}"
    return {"message_id": f"m{number}", "parent_id": up, "text": text, "role": role, "rank": rank, **more}


ROOT = message(0, None)
THREE = [ROOT, message(1, 0, "best", 0), message(3, 0, "middle", 1), message(5, 0, "worst", 2)]


def parquet(values: list[Any]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(values), sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("name", "data"), [("raw.jsonl", lines(THREE[::-1])), ("raw.parquet", parquet(THREE)), ("raw.csv", as_csv(THREE))]
)
@pytest.mark.parametrize(("pairs", "count"), [("best-worst", 1), ("adjacent", 2), ("best-each", 2), ("all", 3)])
def test_messages_of_any_order_and_kind_of_file_are_trees(
    tmp_path: Path, name: str, data: bytes, pairs: str, count: int
) -> None:
    manifest = make(tmp_path, name, data, pairs=pairs)
    assert (manifest.converter, manifest.funnel.read, manifest.funnel.kept) == ("oasst", 1, count)
    assert ("text 0", "best", "worst") in texts(tmp_path / "out") or pairs == "adjacent"


def test_a_root_that_is_the_row_itself_is_a_tree(tmp_path: Path) -> None:
    make(tmp_path, "raw.jsonl", lines([nested(THREE, ROOT)]))
    assert texts(tmp_path / "out") == {("text 0", "best", "worst")}


def test_what_replies_to_no_message_is_counted(tmp_path: Path) -> None:
    manifest = make(tmp_path, "raw.jsonl", lines([*THREE, message(7, 99), message(9, 7)]))
    assert manifest.funnel.dropped == {"orphan": 2}


def test_what_replies_to_itself_or_too_far_down_is_counted(tmp_path: Path) -> None:
    chain = [message(n, n - 1 if n else None) for n in range(MOST_DEPTH + 20)]
    circle = [message(1001, 1003), message(1003, 1001)]
    best = [message(2001, 0, "best", 0), message(2003, 0, "worst", 1)]
    manifest = make(tmp_path, "raw.jsonl", lines([*chain, *best, *circle]))
    assert manifest.funnel.dropped == {"orphan": 22}
    assert manifest.funnel.kept == 1


def test_deleted_messages_are_no_answers_and_a_tie_is_none(tmp_path: Path) -> None:
    rows = [
        *tree(0), message(0, None), message(1, 0, "deleted", 0, deleted=True), message(3, 0, "b", 1),
        message(5, 0, "c", 1),
    ]  # fmt: skip
    manifest = make(tmp_path, "raw.jsonl", lines(rows))
    assert manifest.funnel.dropped == {"tie": 1}
    assert "deleted" not in {text for some in texts(tmp_path / "out") for text in some}


def test_a_tree_without_two_ranked_answers_gives_nothing_and_is_counted(tmp_path: Path) -> None:
    manifest = make(tmp_path, "raw.jsonl", lines([*tree(0), message(0, None), message(1, 0, "a"), message(3, 0, "b")]))
    assert manifest.funnel.dropped == {"unscored": 1}
    manifest = make(tmp_path, "raw.jsonl", lines([*tree(0), message(0, None), message(1, 0, "a")]))
    assert manifest.funnel.dropped == {"single_answer": 1}


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (lines([*THREE, THREE[1]]), "1 messages with the `message_id` of another"),
        (lines(THREE) + b"{broken\n", "a message of raw.jsonl cannot be read: line 5: malformed_line"),
    ],
)
def test_messages_that_cannot_be_put_together_are_refused(tmp_path: Path, data: bytes, told: str) -> None:
    with pytest.raises(DataError, match=told):
        make(tmp_path, "raw.jsonl", data)


def test_rows_that_mention_the_columns_of_messages_stay_rows(tmp_path: Path) -> None:
    rows = [{"prompt": "message_id parent_id text role", "chosen": "a", "rejected": "b"}]
    assert make(tmp_path, "raw.jsonl", lines(rows)).converter == "preference"
