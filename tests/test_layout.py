"""Tables from which every value can be copied, however narrow the terminal is."""

from __future__ import annotations

import random

import pytest
from rich.cells import cell_len

from hubdpo import console
from hubdpo.layout import table_lines

SHA = "b4d0d4260bf800a68e8a2089a560f7f5a3171eb7f8d24a8a1e82702b901557ab"
WORDS = (
    "",
    "-",
    "12",
    "1,234,567",
    "+0.25",
    "run",
    "chosen and rejected",
    "你好，可以请教",
    SHA,
    f"USER/NAME@{SHA}",
    "x" * 90,
)


def drawn(seed: int) -> tuple[list[str], list[list[str]]]:
    draw = random.Random(seed)
    columns = ["", *draw.sample(("before", "after", "difference", "bytes of the file", "一二三"), draw.randint(1, 5))]
    return columns, [[f"row {n}", *draw.choices(WORDS, k=len(columns) - 1)] for n in range(draw.randint(0, 12))]


@pytest.mark.parametrize("seed", range(40))
def test_every_cell_is_found_whole_at_every_width(seed: int) -> None:
    columns, rows = drawn(seed)
    for width in range(40, 201, 5):
        lines = table_lines(columns, rows, width)
        place = 0
        for row in rows:
            place = next(n for n in range(place, len(lines)) if lines[n].startswith(row[0]))  # in their order
            for cell in row:
                assert any(cell in line for line in lines[place : place + len(row)])
        assert all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize("seed", range(40))
def test_what_stands_in_columns_fits_the_width(seed: int) -> None:
    columns, rows = drawn(seed)
    for width in range(40, 201, 20):
        heading, *lines = table_lines(columns, rows, width)
        whole = [line for line in lines if line.startswith("row") and line not in {row[0] for row in rows}]
        assert all(cell_len(line) <= width for line in whole) or heading == ""


def test_texts_are_aligned_left_and_numbers_right() -> None:
    assert table_lines(["file", "bytes", "state"], [["a", "1,200", "new"], ["bb", "7", "the same"]], 80) == [
        "file  bytes  state", "a     1,200  new", "bb        7  the same",
    ]  # fmt: skip


def test_a_row_that_does_not_fit_has_a_line_for_each_cell_with_the_name_of_its_column() -> None:
    rows = [["seed", "0", "1"], ["fingerprint", SHA, SHA[::-1]]]
    assert table_lines(["option", "before", "after"], rows, 80) == [
        "option  before  after", "seed         0      1", "fingerprint", f"  before  {SHA}", f"  after   {SHA[::-1]}",
    ]  # fmt: skip


def test_a_long_value_of_a_name_has_the_line_below_it() -> None:
    assert table_lines(["", "dataset"], [["rows", "12"], ["fingerprint", SHA]], 60) == [
        "      dataset", "rows       12", "fingerprint", f"  {SHA}",
    ]  # fmt: skip


def test_a_table_without_a_row_is_its_heading() -> None:
    assert table_lines(["file", "bytes"], [], 80) == ["file  bytes"]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_terminal_gets_the_lines_as_they_are(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    console.table(["", "found"], [("fingerprint", SHA), ("columns", "prompt, " * 30)])
    lines = [line.strip() for line in capsys.readouterr().err.splitlines()]
    assert any(line.endswith(SHA) for line in lines)
    assert any(line.endswith(("prompt, " * 30).strip()) for line in lines)
