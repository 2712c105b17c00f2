"""Every raw format, good rows and bad ones."""

from __future__ import annotations

from typing import Any

import pytest

from hubdpo.config.map_option import parse_map
from hubdpo.data.clean.rows import clean
from hubdpo.data.converters import CONVERTERS
from hubdpo.data.pairs.example import Rejection, change_names
from hubdpo.errors import ConfigError, DataError
from tests.data.made import detect, find_converter


def m(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


USER, GOOD, BAD = m("user", "q"), m("assistant", "good"), m("assistant", "bad")
HH = "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: q\n\nAssistant: "
HUMAN, ALIEN = {"from": "human", "value": "q"}, {"from": "alien", "value": "q"}
ROWS: dict[str, list[dict[str, Any]]] = {
    "preference": [
        {"prompt": "q", "chosen": "good", "rejected": "bad"},
        {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": "q", "chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"prompt": [USER], "chosen": "good", "rejected": [BAD]},
    ],
    "implicit-prompt": [{"chosen": [USER, GOOD], "rejected": [USER, BAD]}],
    "stack-exchange-paired": [{"question": "q", "response_j": "good", "response_k": "bad", "qid": 1}],
    "sharegpt": [
        {"conversations": [HUMAN], "chosen": {"from": "gpt", "value": "good"}, "rejected": "bad"}
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "row"), [(name, row) for name, rows in ROWS.items() for row in rows])
def test_a_good_row_becomes_one_question_and_two_answers(name: str, row: dict[str, Any]) -> None:
    example = CONVERTERS[name].convert(row)
    assert (example.prompt, example.chosen, example.rejected) == ([USER], [GOOD], [BAD])


@pytest.mark.parametrize("name", ROWS)
def test_each_format_is_told_from_the_others(name: str) -> None:
    assert detect(ROWS[name]) == name


def test_a_transcript_is_split_at_its_turns() -> None:
    example = CONVERTERS["hh-rlhf"].convert({"chosen": HH + "good", "rejected": HH + "bad"})
    assert example.prompt == [m("user", "hi"), m("assistant", "hello"), USER]
    assert (example.chosen, example.rejected) == ([GOOD], [BAD])


def test_a_marker_inside_a_line_is_text() -> None:
    text = HH.replace("hi", "what does Human: mean?")
    example = CONVERTERS["hh-rlhf"].convert({"chosen": text + "good", "rejected": text + "bad"})
    assert example.prompt[0]["content"] == "what does Human: mean?"


def test_a_transcript_that_begins_another_is_no_problem() -> None:
    example = CONVERTERS["hh-rlhf"].convert({"chosen": HH + "good", "rejected": HH + "good and more"})
    assert example.rejected == [m("assistant", "good and more")]


def test_the_implicit_prompt_is_never_split_inside_a_message() -> None:
    row = {"chosen": [USER, m("assistant", "same start a")], "rejected": [USER, m("assistant", "same start b")]}
    assert CONVERTERS["implicit-prompt"].convert(row).prompt == [USER]


@pytest.mark.parametrize("shorter", ["chosen", "rejected"])
def test_an_assistant_turn_that_both_answers_share_is_no_prompt(shorter: str) -> None:
    answer = m("assistant", "a")
    row = dict.fromkeys(("chosen", "rejected"), [USER, answer, m("user", "and then?"), m("assistant", "b")])
    example = CONVERTERS["implicit-prompt"].convert({**row, shorter: [USER, answer]})
    assert example.prompt == [USER]
    assert getattr(example, shorter) == [answer]


def test_sharegpt_roles_and_system_are_mapped() -> None:
    row = {
        "system": "s",
        "conversations": [HUMAN, {"from": "gpt", "value": "f"}, {"from": "tool", "value": "o"}],
        "chosen": "good", "rejected": "bad",
    }  # fmt: skip
    roles = [message["role"] for message in CONVERTERS["sharegpt"].convert(row).prompt]
    assert roles == ["system", "user", "assistant", "tool"]


@pytest.mark.parametrize(
    ("name", "row", "reason"),
    [
        ("preference", {"prompt": "q", "chosen": "good"}, "missing_field"),
        ("preference", {"prompt": "q", "chosen": None, "rejected": "bad"}, "missing_field"),
        ("preference", {"prompt": "q", "chosen": True, "rejected": "bad"}, "wrong_type"),
        ("preference", {"prompt": "q", "chosen": [{"role": "assistant"}], "rejected": "bad"}, "wrong_type"),
        ("preference", {"prompt": "q", "chosen": [m("user", "x"), GOOD], "rejected": "bad"}, "histories_differ"),
        ("preference", {"prompt": "q", "chosen": "", "rejected": "bad"}, "empty_answer"),
        ("preference", {"prompt": " \n", "chosen": "good", "rejected": "bad"}, "empty_prompt"),
        ("preference", {"prompt": [], "chosen": "good", "rejected": "bad"}, "empty_prompt"),
        ("preference", {"prompt": "q", "chosen": "same ", "rejected": "same"}, "identical_answers"),
        ("preference", {"prompt": [m("robot", "q")], "chosen": "good", "rejected": "bad"}, "unknown_role"),
        ("preference", {"prompt": [USER, GOOD], "chosen": "good", "rejected": "bad"}, "prompt_does_not_end_with_user"),
        ("preference", {"prompt": [USER, USER], "chosen": "good", "rejected": "bad"}, "not_alternating"),
        ("preference", {"prompt": [GOOD, USER], "chosen": "good", "rejected": "bad"}, "does_not_start_with_user"),
        ("preference", {"prompt": "q", "chosen": "nul\0", "rejected": "bad"}, "null_character"),
        ("preference", {"prompt": "q", "chosen": [GOOD, USER], "rejected": "bad"}, "does_not_end_with_assistant"),
        ("implicit-prompt", {"chosen": [USER, GOOD], "rejected": [m("user", "x"), BAD]}, "histories_differ"),
        ("implicit-prompt", {"chosen": [USER, GOOD], "rejected": [USER, GOOD]}, "identical_answers"),
        ("hh-rlhf", {"chosen": HH + "good", "rejected": HH.replace("hi", "ho") + "bad"}, "histories_differ"),
        ("hh-rlhf", {"chosen": "no turns", "rejected": HH + "bad"}, "not_a_transcript"),
        ("hh-rlhf", {"chosen": HH + "a\n\nHuman: b", "rejected": HH + "bad"}, "does_not_end_with_assistant"),
        ("hh-rlhf", {"chosen": HH, "rejected": HH + "bad"}, "empty_answer"),
        ("stack-exchange-paired", {"question": "q", "response_j": "good", "response_k": 3}, "wrong_type"),
        ("sharegpt", {"conversations": [ALIEN], "chosen": "a", "rejected": "b"}, "unknown_role"),
        ("sharegpt", {"conversations": "q", "chosen": "a", "rejected": "b"}, "wrong_type"),
    ],
)  # fmt: skip
def test_a_bad_row_has_its_reason(name: str, row: dict[str, Any], reason: str) -> None:
    with pytest.raises(Rejection) as caught:
        clean(CONVERTERS[name].convert(row))
    assert caught.value.reason == reason


def test_leading_newlines_of_an_answer_go_and_are_told() -> None:
    row = {"prompt": "q", "chosen": "\n\ngood", "rejected": "bad"}
    example = CONVERTERS["preference"].convert(row)
    changes = clean(example)
    assert example.chosen == [GOOD]
    assert change_names(changes) == ["stripped_leading_newlines"]


def test_columns_are_named_by_hand() -> None:
    convert = find_converter("columns", parse_map("prompt=ask, chosen=yes ,rejected=no")).convert
    assert convert({"ask": "q", "yes": "good", "no": "bad"}).chosen == [GOOD]


@pytest.mark.parametrize("text", ["", "prompt=a", "prompt=a,chosen=b,rejected=", "prompt=a,chosen=b,reject=c"])
def test_a_map_must_name_all_three(text: str) -> None:
    with pytest.raises(ConfigError, match="--map"):
        parse_map(text)


def test_two_formats_that_fit_are_an_error_that_names_both() -> None:
    both = {**ROWS["preference"][0], **ROWS["stack-exchange-paired"][0]}
    with pytest.raises(DataError, match="preference.*stack-exchange-paired") as caught:
        detect([both])
    assert caught.value.hint == "--converter preference or --converter stack-exchange-paired"


def test_broken_rows_do_not_hide_the_format() -> None:
    assert detect([{"x": 1}, *ROWS["preference"]]) == "preference"
