"""The checks of a converted row: the exact one of a pair, and the fast one of a batch."""

from __future__ import annotations

from typing import Any

import pytest

from hubdpo.artefacts.formats.messages import COLUMNS
from hubdpo.data.clean.rows import clean, suspects
from hubdpo.data.pairs.example import PreferenceExample, Rejection
from hubdpo.data.pairs.message_column import MessageColumn

CODES = {"s": "system", "u": "user", "a": "assistant", "t": "tool", "r": "robot"}


def conversation(turns: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


def turns(codes: str) -> list[dict[str, str]]:
    """Return a message for each letter: `sua` is a system, a user and an assistant message."""
    return conversation([(CODES[code], f"text {i}") for i, code in enumerate(codes)])


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("u", None), ("su", None), ("uau", None), ("suau", None), ("uat", None), ("uatt", None), ("uattau", None),
        ("", "empty_prompt"), ("s", "prompt_does_not_end_with_user"), ("ua", "prompt_does_not_end_with_user"),
        ("ssu", "not_alternating"), ("uasu", "not_alternating"), ("usu", "not_alternating"), ("uu", "not_alternating"),
        ("saau", "does_not_start_with_user"), ("au", "does_not_start_with_user"), ("tu", "does_not_start_with_user"),
        ("ut", "not_alternating"), ("uaau", "not_alternating"), ("ru", "unknown_role"),
    ],
)  # fmt: skip
def test_the_roles_of_a_prompt_are_in_order(prompt: str, reason: str | None) -> None:
    example = PreferenceExample(turns(prompt), turns("a"), conversation([("assistant", "another")]))
    columns = [MessageColumn.of([getattr(example, name)]) for name in COLUMNS]
    found = None
    try:
        clean(example)
    except Rejection as rejection:
        found = rejection.reason
    assert found == reason
    assert suspects(*columns).tolist() == ([] if reason is None else [0])


@pytest.mark.parametrize(
    ("answer", "reason"),
    [("a", None), ("aua", None), ("ata", None), ("atta", None), ("at", "does_not_end_with_assistant"),
     ("u", "does_not_end_with_assistant"), ("aa", "not_alternating"), ("asa", "not_alternating")],
)  # fmt: skip
def test_the_roles_of_an_answer_are_in_order(answer: str, reason: str | None) -> None:
    example = PreferenceExample(turns("u"), turns(answer), conversation([("assistant", "another")]))
    if reason is None:
        assert clean(example) == 0
        return
    with pytest.raises(Rejection) as caught:
        clean(example)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "prompt",
    [
        [], [("user", "q")], [("user", "")], [("user", " \n")], [("system", "s")], [("system", ""), ("user", "q")],
        [("user", "q"), ("assistant", "a")], [("user", "q"), ("user", "q")], [("assistant", "a"), ("user", "q")],
        [("user", "q"), ("system", "s"), ("user", "q")], [("user", "q"), ("assistant", "f"), ("tool", "t")],
        [("robot", "q")], [("user", "nul\0")], [("tool", "t")], [("system", "s"), ("system", "s"), ("user", "q")],
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "chosen",
    [
        [], [("assistant", "good")], [("assistant", " good")], [("assistant", "\ngood")], [("assistant", "")],
        [("user", "q")], [("assistant", "a"), ("user", "q")], [("assistant", "f"), ("tool", "t"), ("assistant", "g")],
        [("assistant", "bad ")], [("robot", "x")], [("assistant", "x\0")], [("assistant", "a"), ("assistant", "b")],
    ],
)  # fmt: skip
def test_suspects_misses_no_row_that_clean_changes_or_refuses(prompt: Any, chosen: Any) -> None:
    fine = PreferenceExample(
        conversation([("user", "q")]), conversation([("assistant", "x")]), conversation([("assistant", "y")])
    )
    example = PreferenceExample(conversation(prompt), conversation(chosen), conversation([("assistant", "bad")]))
    before = [list(map(dict, getattr(example, name))) for name in COLUMNS]
    batch = [fine, example, fine]
    flagged = suspects(*(MessageColumn.of([getattr(one, name) for one in batch]) for name in COLUMNS)).tolist()
    try:
        wrong = bool(clean(example)) or [getattr(example, name) for name in COLUMNS] != before
    except Rejection:
        wrong = True
    assert 1 in flagged or not wrong
