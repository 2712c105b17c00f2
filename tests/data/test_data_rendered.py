"""Texts that a template has made of a conversation already, and system prompts that stand beside one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hubdpo import prepare
from hubdpo.config.map_option import parse_map
from hubdpo.data.converters import ConvertOptions
from hubdpo.data.converters.rendered_chats import any_rendered
from hubdpo.data.pairs.example import PreferenceExample, Rejection, change_names
from hubdpo.data.pairs.markers import markers
from hubdpo.data.pairs.message_column import MessageColumn
from hubdpo.errors import DataError
from tests.data.made import detect, find_converter, lines


def m(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


SYSTEM, USER, GOOD, BAD = m("system", "s"), m("user", "q"), m("assistant", "good"), m("assistant", "bad")
MORE = [m("user", "hi"), m("assistant", "hello"), USER]
CHATML = "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
SPOKEN = "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: q\n\nAssistant:"


def pairs_of(name: str, row: dict[str, Any], mapping: dict[str, str] | None = None) -> PreferenceExample:
    made = find_converter(name, mapping).bind(ConvertOptions())(row)
    return made if isinstance(made, PreferenceExample) else next(iter(made))  # type: ignore[arg-type, return-value]


def rows_of(prompt: Any, good: Any, bad: Any) -> list[tuple[str, dict[str, Any]]]:
    """The same in every format that takes text."""
    return [
        ("preference", {"prompt": prompt, "chosen": good, "rejected": bad}),
        ("alpaca", {"instruction": prompt, "chosen": good, "rejected": bad}),
        ("alpaca", {"query": prompt, "response": good, "rejected_response": bad}),
        ("stack-exchange-paired", {"question": prompt, "response_j": good, "response_k": bad}),
        ("scored", {"prompt": prompt, "responses": [bad, good], "ratings": [1, 2]}),
        ("ranked", {"prompt": prompt, "answers": [{"answer": bad, "rank": 2}, {"answer": good, "rank": 1}]}),
        ("voted", {"context": prompt, "response_1": bad, "response_2": good, "overall_preference": 2}),
    ]


@pytest.mark.parametrize(("name", "row"), rows_of(CHATML, "good<|im_end|>\n", "bad<|im_end|>"))
def test_chatml_is_taken_apart(name: str, row: dict[str, Any]) -> None:
    pair = pairs_of(name, row)
    assert (pair.prompt, pair.chosen, pair.rejected) == ([SYSTEM, USER], [GOOD], [BAD])
    assert change_names(pair.changes) == ["taken_out_of_template"]


@pytest.mark.parametrize(("name", "row"), rows_of(SPOKEN, " good", " bad"))
def test_a_transcript_is_taken_apart(name: str, row: dict[str, Any]) -> None:
    pair = pairs_of(name, row)
    assert (pair.prompt, pair.chosen, pair.rejected) == (MORE, [GOOD], [BAD])


@pytest.mark.parametrize(("name", "row"), rows_of("q", "good", "bad"))
@pytest.mark.parametrize(
    "column",
    ["system", "system_prompt", "systemPrompt", "System Message", "sys_prompt", "system-instruction", "系统提示"],
)
def test_a_system_prompt_beside_a_prompt_is_used(name: str, row: dict[str, Any], column: str) -> None:
    assert pairs_of(name, {**row, column: "s"}).prompt == [SYSTEM, USER]
    assert pairs_of(name, {**row, "system": "", "system_prompt": None, column: "s"}).prompt == [SYSTEM, USER]
    for message in (SYSTEM, [SYSTEM], ["s"]):
        assert pairs_of(name, {**row, column: message}).prompt == [SYSTEM, USER]
    assert pairs_of(name, {**row, column: ""}).prompt == [USER]
    for value in (["s", "s"], [SYSTEM, SYSTEM], USER):
        with pytest.raises(Rejection, match="wrong_type"):
            pairs_of(name, {**row, column: value})


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("implicit-prompt", {"chosen": [USER, GOOD], "rejected": [USER, BAD]}),
        ("hh-rlhf", {"chosen": "\n\nHuman: q\n\nAssistant: good", "rejected": "\n\nHuman: q\n\nAssistant: bad"}),
        ("sharegpt", {"conversations": [{"from": "human", "value": "q"}], "chosen": "good", "rejected": "bad"}),
        ("sharegpt", {"messages": [USER, GOOD], "rejected_response": "bad"}),
        ("openai", {"input": {"messages": [USER]}, "preferred_output": [GOOD], "non_preferred_output": [BAD]}),
        ("voted", {"conversation_a": [USER, GOOD], "conversation_b": [USER, BAD], "winner": "model_a"}),
    ],
)
def test_a_system_prompt_beside_messages_is_used(name: str, row: dict[str, Any]) -> None:
    pair = pairs_of(name, {**row, "system": "s"})
    assert (pair.prompt, pair.chosen, pair.rejected) == ([SYSTEM, USER], [GOOD], [BAD])


ASKED = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("end", "chosen"),
    [
        ("", "good"), ("<think>\n\n</think>\n\n", "good"), ("<think></think>", "good"), ("<think>\n", "<think>\ngood"),
        ("<think>", "<think>good"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("how", ["text", "closed", "messages", "whole"])
def test_thinking_that_a_prompt_asks_for_belongs_to_the_question_or_to_the_answer(
    end: str, chosen: str, how: str
) -> None:
    def given(text: str) -> Any:
        whole = {"text": text, "closed": f"{text}<|im_end|>\n", "messages": [m("assistant", text)]}
        return {**whole, "whole": f"{ASKED}{end if '</' not in end else ''}{text}<|im_end|>"}[how]

    pair = pairs_of("preference", {"prompt": ASKED + end, "chosen": given("good"), "rejected": given("bad")})
    assert (pair.prompt, pair.chosen) == ([USER], [m("assistant", chosen)])
    assert pair.rejected == [m("assistant", chosen.replace("good", "bad"))]


def test_an_answer_that_has_its_thinking_opened_already_is_left_alone() -> None:
    answer = "<think>\nso\n</think>\n\ngood"
    pair = pairs_of("preference", {"prompt": ASKED + "<think>\n", "chosen": answer, "rejected": "no\n</think>\n\nbad"})
    assert pair.chosen == [m("assistant", answer)]
    assert pair.rejected == [m("assistant", "<think>\nno\n</think>\n\nbad")]


def test_a_prompt_that_answers_itself_is_dropped_with_a_next_step(tmp_path: Path) -> None:
    values = [{"prompt": f"{ASKED}<think>\nit is {i}", "chosen": "good", "rejected": "bad"} for i in range(4)]
    (tmp_path / "raw.jsonl").write_bytes(lines(values))
    with pytest.raises(DataError, match="prompt_does_not_end_with_user 4") as caught:
        prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out")
    assert "begin both answers with them instead" in (caught.value.hint or "")


WHOLE = "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("end", ["", "<|im_end|>", "<|im_end|>\n<|endoftext|>"])
def test_whole_conversations_in_chatml_need_no_prompt(end: str) -> None:
    row = {"chosen": WHOLE + "good" + end, "rejected": WHOLE + "bad" + end}
    assert detect([row]) == "implicit-prompt"
    pair = pairs_of("implicit-prompt", row)
    assert (pair.prompt, pair.chosen, pair.rejected) == ([SYSTEM, USER], [GOOD], [BAD])
    assert change_names(pair.changes) == ["taken_out_of_template"]
    beside = pairs_of("implicit-prompt", {**row, "rejected": [SYSTEM, USER, BAD]})
    assert (beside.prompt, beside.rejected) == (pair.prompt, pair.rejected)


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("<s>[INST] q [/INST] {} </s>", "[INST]"),
        ("<|start_header_id|>user<|end_header_id|>\n\nq{}", "<|start_header_id|>"),
        ("<start_of_turn>user\nq<end_of_turn>{}", "<start_of_turn>"), ("<｜User｜>q<｜Assistant｜>{}", "<｜User｜>"),
    ],
)  # fmt: skip
def test_whole_conversations_of_other_templates_are_named(tmp_path: Path, text: str, mark: str) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines([{"chosen": text.format(i), "rejected": text} for i in range(3)]))
    with pytest.raises(DataError) as caught:
        prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out")
    assert f"hold whole conversations as a chat template wrote them (`{mark}`)" in caught.value.message
    assert "as a list of messages" in (caught.value.hint or "")


def test_a_map_takes_a_system_prompt_and_only_when_named() -> None:
    row = {"ask": "q", "yes": "good", "no": "bad", "system": "s", "who": "w"}
    mapping = parse_map("prompt=ask,chosen=yes,rejected=no,system=who")
    assert pairs_of("columns", row, mapping).prompt == [m("system", "w"), USER]
    assert pairs_of("columns", row, parse_map("prompt=ask,chosen=yes,rejected=no")).prompt == [USER]


@pytest.mark.parametrize(("own", "changed"), [("s", []), ("s ", []), ("other", ["system_column_left_out"])])
def test_a_conversations_own_system_turn_wins_and_it_is_counted(own: str, changed: list[str]) -> None:
    row = {"prompt": [m("system", own), USER], "chosen": "good", "rejected": "bad", "system": "s"}
    pair = pairs_of("preference", row)
    assert (pair.prompt[0]["content"], change_names(pair.changes)) == (own, changed)


def test_a_text_prompt_takes_the_system_turn_of_its_conversations() -> None:
    row = {"prompt": "q", "chosen": [SYSTEM, USER, GOOD], "rejected": [SYSTEM, USER, BAD]}
    pair = pairs_of("preference", row)
    assert (pair.prompt, pair.chosen, pair.rejected) == ([SYSTEM, USER], [GOOD], [BAD])
    for other in ([USER, BAD], [m("system", "t"), USER, BAD]):
        with pytest.raises(Rejection, match="histories_differ"):
            pairs_of("preference", {**row, "rejected": other})
        with pytest.raises(Rejection, match="histories_differ"):
            pairs_of("preference", {**row, "chosen": other, "rejected": row["chosen"]})


@pytest.mark.parametrize(
    ("prompt", "answer", "reason"),
    [
        ("<|im_start|>user\nq", "x", None),
        ("<|im_start|>user\nq<|im_end|> and<|im_start|>assistant\n", "x", "broken_template"),
        (SPOKEN, " x\n\nHuman: more", None), ("Human: a\n\nAssistant: b", "x", None), 
        ("other", CHATML + "x", "histories_differ"),
    ],
)  # fmt: skip
def test_what_is_not_whole_is_refused_or_left_to_the_checks(prompt: str, answer: str, reason: str | None) -> None:
    row = {"prompt": prompt, "chosen": answer, "rejected": "bad"}
    if reason is None:
        assert "<|im_" not in str(pairs_of("preference", row).chosen)
    else:
        with pytest.raises(Rejection, match=reason):
            pairs_of("preference", row)


@pytest.mark.parametrize("text", ["What is <|im_start|>?", "Human beings\n\nAssistant: x", "<b>", "How\n", ""])
def test_a_text_that_only_names_a_marker_is_not_rendered(text: str) -> None:
    assert not any_rendered(MessageColumn.single_turns(["x", text], "user"))
    assert pairs_of("preference", {"prompt": text, "chosen": "good", "rejected": "bad"}).prompt == [m("user", text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<|begin_of_text|>Below is <|eot_id|>", {"<|begin_of_text|>", "<|eot_id|>"}),
        ("[INST] a [/INST]", {"[INST]", "[/INST]"}),
        ("### Question: a\n### Answer:\n", {"### Question:", "### Answer:"}), ("x USER: a ASSISTANT: ", {"ASSISTANT:"}),
        ("<start_of_turn>user", {"<start_of_turn>"}), ("é<｜User｜>", {"<｜User｜>"}), ("<|user|>", {"<|user|>"}),
        ("Below is an instruction that", {"Below is an instruction"}), ("<image>\nq", {"<image>"}),
        ("a < b | c", set()), ("f_(x) T]", set()), ("# Question: a", set()),
        ("What does ### Answer: mean?", set()), ("", set()),
    ],
)  # fmt: skip
def test_marks_of_other_templates_are_found(text: str, expected: set[str]) -> None:
    for before in ([], ["x"], ["é" * 7]):
        column = MessageColumn.of([[m("user", part)] * 2 for part in [*before, text, "end"]])
        assert markers(column, answers=False) == {(len(before), marker) for marker in expected}


@pytest.mark.parametrize("before", range(6))
def test_marks_are_found_at_every_place(before: int) -> None:
    texts = ["x" * before, "<|user|>", "yy"]
    assert markers(MessageColumn.single_turns(texts, "user"), answers=False) == {(1, "<|user|>")}


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("alpaca", {"question": "q", "input": "i", "chosen": "good", "rejected": "bad"}),
        ("scored", {"instruction": "q", "input": "i", "responses": ["good", "bad"], "ratings": [2, 1]}),
        ("voted", {"instruction": "q", "input": "i", "response1": "good", "response2": "bad", "annotator1": 1}),
    ],
)
def test_an_input_beside_an_instruction_is_a_part_of_it(name: str, row: dict[str, Any]) -> None:
    assert pairs_of(name, row).prompt == [m("user", "q\ni")]
    with pytest.raises(Rejection, match="wrong_type"):
        pairs_of(name, {**row, "input": 3})


def test_marks_are_counted_and_named_in_output_manifest_and_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = [{"prompt": f"### Question: {i}\n### Answer:", "chosen": "yes</s>", "rejected": "no"} for i in range(9)]
    (tmp_path / "raw.jsonl").write_bytes(lines([*values, {"prompt": "q", "chosen": "a", "rejected": "b"}]))
    manifest = prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", test_size=0)
    assert manifest is not None
    found = {side: (one.rows, one.markers) for side, one in manifest.template_markers.items()}
    assert found == {"prompts": (9, {"### Answer:": 9, "### Question:": 9}), "answers": (9, {"</s>": 9})}
    told = capsys.readouterr().err
    assert "9 prompts hold marks of a chat template: `### Answer:` 9, `### Question:` 9" in told
    assert "9 answers contain marks of a chat template, as text: `</s>` (9)" in (tmp_path / "out/README.md").read_text()


def test_what_was_altered_in_halves_is_counted_in_their_pair(tmp_path: Path) -> None:
    values = [{"prompt": CHATML, "completion": text, "label": text == "good"} for text in ("good", "bad")]
    (tmp_path / "raw.jsonl").write_bytes(lines(values))
    manifest = prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", test_size=0)
    assert manifest is not None
    assert manifest.changed == {"taken_out_of_template": 1}
