"""Texts that hurt: half of a surrogate pair, every kind of white space, and what a search could go over again."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hubdpo import load_preferences, prepare
from hubdpo.data.clean.screen import Screen
from hubdpo.data.converters import CONVERTERS, ConvertOptions
from hubdpo.data.converters.cells import parse_messages_cell, single_text_list
from hubdpo.data.converters.rendered_chats import any_rendered, is_rendered, parse_chat
from hubdpo.data.converters.vote_words import normalize, parse_vote
from hubdpo.data.pairs.example import Rejection
from hubdpo.data.pairs.markers import markers
from hubdpo.data.pairs.message_column import SPACES, MessageColumn
from hubdpo.data.raw.text.json_lines import parse
from hubdpo.errors import DataError
from tests.data.made import find_converter, lines, rows

HALF = "\\ud83d"
"""Half of an emoji, as JSON escapes it; no text of UTF-8 can hold it."""


@pytest.mark.parametrize(
    "text",
    [
        f'[{{"role": "user", "content": "hi {HALF}"}}]', f"[{{'role': 'user', 'content': 'hi {HALF}'}}]",
        f'[{{"role": "user", "content": "hi", "na{HALF}me": 1}}]', f'{{"role": "user", "content": "{HALF}"}}',
        json.dumps(f'[{{"role": "user", "content": "{HALF}"}}]'), f"array([{{'role': 'user', 'content': '{HALF}'}}])",
        f'{{"messages": [{{"role": "user", "content": "{HALF}"}}]}}',
    ],
)  # fmt: skip
def test_messages_with_half_of_a_surrogate_pair_cannot_be_read(text: str) -> None:
    with pytest.raises(Rejection, match="unreadable_messages"):
        parse_messages_cell(text)


def csv_of(path: Path, texts: list[str], rejected: str = "bad") -> str:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(
            [["prompt", "chosen", "rejected"], *([f"q{i}", text, rejected] for i, text in enumerate(texts))]
        )
    return str(path)


@pytest.mark.parametrize("place", [0, 7])
def test_half_of_a_surrogate_pair_costs_its_row_in_a_column_of_lists(tmp_path: Path, place: int) -> None:
    texts = [json.dumps([f"good {i}"]) for i in range(30)]
    texts[place] = f'["a {HALF}"]'
    source = csv_of(tmp_path / "raw.csv", texts, rejected='["bad"]')
    manifest = prepare(source=source, output_dir=tmp_path / "out", test_size=0)
    assert manifest is not None
    assert (manifest.funnel.kept, manifest.funnel.dropped) == (29, {"unreadable_messages": 1})
    kept = load_preferences(tmp_path / "out")["train"]
    assert kept[10]["chosen"][0]["content"].startswith("good 1")


def test_a_list_with_half_of_a_surrogate_pair_is_text_among_texts(tmp_path: Path) -> None:
    texts = ["It escapes to:", f'["{HALF}"]', "yes"]
    prepare(source=csv_of(tmp_path / "raw.csv", texts), output_dir=tmp_path / "out", test_size=0)
    kept = load_preferences(tmp_path / "out")["train"]
    assert [row["chosen"][0]["content"] for row in kept] == texts


@pytest.mark.parametrize(
    "literal", ["b'x'", "{1, 2}", "1j", "...", "0x" + "f" * 40, "{(1, 2): 3}"], ids=lambda text: text[:6]
)
def test_what_json_could_not_hold_is_no_message(literal: str) -> None:
    with pytest.raises(Rejection, match="unreadable_messages"):
        parse_messages_cell(f"[{{'role': 'user', 'content': 'q', 'more': {literal}}}]")


@pytest.mark.parametrize("place", ["na\udcffme.jsonl", "fol\udcffder/raw.jsonl"])
def test_a_source_whose_name_is_not_utf8_is_refused(tmp_path: Path, place: str) -> None:
    path = tmp_path / place
    try:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(lines(rows(3)))
    except OSError:
        pytest.skip("this file system takes no such name")
    source = path if path.parent == tmp_path else path.parent
    with pytest.raises(DataError, match=r"not UTF-8, and names are recorded: .*\\udcff"):
        prepare(source=str(source), output_dir=tmp_path / "out")


def test_members_of_messages_may_be_named_by_numbers() -> None:
    assert parse_messages_cell("[{'role': 'user', 'content': 'q', 1: (2,)}]") == [
        {"role": "user", "content": "q", "1": [2]}
    ]


each_space = pytest.mark.parametrize("space", SPACES, ids=lambda space: f"U+{ord(space):04X}")
CHATML = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"


def test_spaces_are_all_that_strip_takes_away() -> None:
    assert [chr(code) for code in range(0x110000) if not chr(code).strip()] == list(SPACES)


@each_space
def test_a_rendered_text_is_told_with_any_space_around_it(space: str) -> None:
    answers = f"good<|im_end|>{space}", f"good<|im_end|>{space}<|endoftext|>{space}"
    for text in (space + CHATML, f"{space}Human: q\n\nAssistant:", f"\n\n{space}Human: q\n\nAssistant:", *answers):
        assert is_rendered(text)
        assert any_rendered(MessageColumn.single_turns(["x", text, "y"], "user"))
        if text not in answers:
            assert [turn["role"] for turn in parse_chat(text)] == ["user", "assistant"]
            assert parse_chat(text)[0]["content"] == "q"


@each_space
def test_rows_with_any_space_at_their_ends_are_the_same_alone_and_among_others(space: str) -> None:
    converter = CONVERTERS["preference"]
    assert converter.convert_many is not None
    texts = "q", CHATML, "Human: q\n\nAssistant:", "q<|im_end|>", "Human: q", "x\n\nAssistant: y"
    for text in (f"{before}{text}{after}" for text in texts for before in ("", space) for after in ("", space)):
        for row in ({"prompt": text, "chosen": "a", "rejected": "b"}, {"prompt": "q", "chosen": text, "rejected": "b"}):
            try:
                alone: Any = converter.convert(row)
            except Rejection:
                alone = None
            if (many := converter.convert_many([row])) is not None:
                assert alone is not None
                assert [column.row(0) for column in many] == [alone.prompt, alone.chosen, alone.rejected]
                assert not alone.changes


BEGIN_PROMPT = ["### Question:", "Below is an instruction", "<s>", "<image>", "<video>", "<audio>"]
BEGIN_ANSWER = ["### Answer:", "<s>", "<image>", "Assistant:", "ASSISTANT：", "助手:", "助理：", "机器人:"]
ENDS = [
    "### Answer", "### Response", "### Assistant", "### Output", "### Answer:", "Assistant:", "助手：", "</s>",
    "<image>", "<video>", "<audio>",
]  # fmt: skip
ASKERS = ["User:", "USER：", "Human:", "HUMAN:", "用户：", "人类:"]


@each_space
def test_marks_at_the_ends_of_texts_are_found_beside_any_space(space: str) -> None:
    def found(text: str, *, answers: bool) -> set[str]:
        column = MessageColumn.single_turns(["x", text, "y"], "user")
        return {marker for row, marker in markers(column, answers=answers) if row == 1}

    for before in ("", space):
        assert all(mark in found(f"{before}{mark} q", answers=False) for mark in BEGIN_PROMPT if mark != "<image>")
        assert all(mark in found(f"{before}{mark} q", answers=True) for mark in BEGIN_ANSWER)
        assert all({mark, "AI:"} == found(f"{before}{mark} a\nAI: b", answers=False) for mark in ASKERS)
        assert all(mark in found(f"q\n{mark}{before}", answers=False) for mark in ENDS)
        assert "</s>" in found(f"q</s>{before}", answers=True)


@each_space
def test_messages_in_a_cell_are_read_with_any_space_around_them(space: str) -> None:
    message = {"role": "user", "content": "q", "kept": True}
    for text in (json.dumps([message]), str([message]), json.dumps(json.dumps([message]))):
        for cell in (space + text, text + space):
            row = Screen(find_converter("preference").columns_read(ConvertOptions())).one(
                {"prompt": cell, "chosen": "a", "rejected": "b"}
            )
            assert row["prompt"] == [message]


def conversation() -> str:
    """Return one that was encoded twice and then cut off: each quote in it has three backslashes."""
    said = " ".join(f'say "w{number}"' for number in range(10_000))
    return json.dumps(json.dumps([{"role": "user", "content": said}]))[:100_000]


def read(text: str) -> None:
    for way in (parse_messages_cell, single_text_list):
        way(text)


def marked(text: str) -> None:
    for answers in (True, False):
        markers(MessageColumn.single_turns([text], "user"), answers=answers)


LIST = '[{"role": "user", "content": '
HOSTILE: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "cut off, encoded twice": (read, conversation()),
    "never closed, escaped quotes": (read, LIST + '\\"' * 40_000),
    "never closed, ends in a backslash": (read, LIST + "'" + "\\'" * 30_000 + "\\"),
    "newlines before no dtype": (read, LIST + "x" + "\n" * 60_000 + "x"),
    "spaces in an object that is not closed": (read, LIST + '"x"}' + " " * 200_000 + "x"),
    "commas in a list of one text": (read, "array(['x']" + ", " * 100_000),
    "a vote of spaces": (lambda text: parse_vote(text, ("r_a", "r_b"), None), "the first" + " " * 20_000 + "is better"),
    "a vote of digits": (lambda text: parse_vote(normalize(text), ("r_a", "r_b"), None), "9" * 100_000),
    "placeholders": (marked, "<image>" * 60_000),
    "marks that begin": (marked, "![<|<img>[/INST<function=" * 8_000),
    "names of speakers": (marked, "User: AI " * 20_000),
    "NaN beside a text that is not closed": (
        lambda text: parse(1, text), b'{"a": NaN, "b": "' + b'\\"' * 40_000,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_take_time_by_their_length(name: str) -> None:
    work, text = HOSTILE[name]
    began = time.process_time()
    try:
        work(text)
    except Rejection as rejection:
        assert rejection.reason in ("unreadable_messages", "unknown_label")
    assert time.process_time() - began < 2


def test_numbers_have_one_spelling_up_to_thirty_digits() -> None:
    assert normalize("+" + "1" * 30 + ".0") == "1" * 30
    assert normalize("+" + "1" * 31) == "+" + "1" * 31
    assert normalize("9" * 5000) == "9" * 5000
