"""The ids of calls, tools and reasoning are those of the text that the base's own template renders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from hubdpo import prepare
from hubdpo.data.pairs.example import PreferenceExample, Rejection
from hubdpo.data.pairs.extras import example_of, packed
from hubdpo.data.tokens.encoder import ChatEncoder
from hubdpo.data.tokens.members import left_out_by
from hubdpo.data.tokens.pair import encode_pair, shortened
from hubdpo.data.tokens.tokenize import PairTokenizer
from hubdpo.model.tokenizer.load import read_tokenizer
from tests.data.made import lines
from tests.data.made_tools import TEMPLATE, TOOL, base_with_tools, call, calls, row, say
from tests.data.test_data_templates import make_tokenizer

WITH_TOOLS = ("qwen2_5", "qwen3", "qwen3_instruct_2507", "qwen3_5_think", TEMPLATE)
PLAIN = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""Qwen2's template: it shows no tools, and refuses null for a content."""
LOOK = calls(call("Brest <3 名"), call("Nice"), content="Let me look.\n")


def as_rendered(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return messages with the arguments of calls as objects, as a server gives them to a template."""
    copy: list[dict[str, Any]] = orjson.loads(orjson.dumps(messages))
    for message in copy:
        for some in message.get("tool_calls", []):
            if isinstance(some["function"]["arguments"], str):
                some["function"]["arguments"] = json.loads(some["function"]["arguments"])
    return copy


def ids_of(tokenizer: Any, messages: list[dict[str, Any]], tools: list[Any] | None, *, ask: bool = False) -> list[int]:
    text = tokenizer.apply_chat_template(as_rendered(messages), tools=tools, tokenize=False, add_generation_prompt=ask)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


@pytest.mark.parametrize("tools", [None, [TOOL]])
@pytest.mark.parametrize(
    "answers",
    [
        ([say("assistant", "At six.")], [say("assistant", "No.")]),
        ([LOOK], [calls(call())]),
        ([calls(call(arguments={"x": 1}))], [say("assistant", "I do not know.")]),
    ],
)
@pytest.mark.parametrize("template", WITH_TOOLS)
def test_the_ids_are_those_of_the_rendered_text(template: str, answers: Any, tools: list[Any] | None) -> None:
    tokenizer = make_tokenizer(template)
    prompt = row()["prompt"]
    held = [list(map(packed, messages)) for messages in (prompt, *answers)]
    pair = encode_pair(
        ChatEncoder(tokenizer),
        example_of({"prompt": prompt, "chosen": answers[0], "rejected": answers[1], "tools": tools}),
    )
    for answer, side in zip(answers, (pair.chosen, pair.rejected), strict=True):
        assert pair.prompt + side.ids == ids_of(tokenizer, [*prompt, *answer], tools) or side.context == ()
        assert (pair.prompt + side.scored)[: len(pair.prompt)] == pair.prompt
        assert pair.prompt + side.ids == ids_of(tokenizer, [*prompt, *answer], tools)
    assert ChatEncoder(tokenizer).prompt(held[0], json.dumps(tools) if tools else "") == ids_of(
        tokenizer, prompt, tools, ask=True
    )


@pytest.mark.parametrize("template", WITH_TOOLS)
def test_a_call_and_its_result_inside_an_answer_are_told_apart(template: str) -> None:
    tokenizer = make_tokenizer(template)
    answer = [calls(call()), say("tool", "06:10"), say("assistant", "At ten past six.")]
    pair = encode_pair(
        ChatEncoder(tokenizer),
        PreferenceExample(
            [say("user", "q")], list(map(packed, answer)), [say("assistant", "No.")], tools=json.dumps([TOOL])
        ),
    )
    said, heard = tokenizer.decode(pair.chosen.scored), tokenizer.decode(pair.chosen.ids)
    assert "06:10" in heard and "06:10" not in said
    assert "Brest" in said and "At ten past six." in said


def test_reasoning_is_rendered_by_the_template() -> None:
    tokenizer = make_tokenizer("qwen3")
    answer = [say("assistant", "Six.", reasoning_content="It is six.")]
    pair = encode_pair(
        ChatEncoder(tokenizer),
        example_of({"prompt": [say("user", "q")], "chosen": answer, "rejected": [say("assistant", "No.")]}),
    )
    assert "<think>\nIt is six.\n</think>\n\nSix.<|im_end|>" in tokenizer.decode(pair.chosen.ids)


def test_control_tokens_in_arguments_and_tools_stay_text() -> None:
    tokenizer = make_tokenizer("qwen2_5")
    encoder = ChatEncoder(tokenizer)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    hidden = '{"place": "<\\u007cim_end|>"}'  # spells the token once it is parsed
    spelt = calls({"type": "function", "function": {"name": "f", "arguments": hidden}})
    tool = {"type": "function", "function": {"name": "f", "description": "ends with <|im_end|>"}}
    plain = encoder.answered([say("user", "q")], [packed(calls(call("x")))], json.dumps([TOOL]))
    found = encoder.answered([say("user", "q")], [packed(spelt)], json.dumps([tool]))
    assert found.ids.count(end) == plain.ids.count(end) == 1
    assert '"place": "<|im_end|>"' in tokenizer.decode(found.ids)
    prompts = [encoder.prompt([say("user", "q")], json.dumps([some])) for some in (tool, TOOL)]
    assert prompts[0].count(end) == prompts[1].count(end)
    tool_turn = [say("user", "q"), packed(calls(call())), say("tool", '{"a":  "<|im_end|>"}')]
    assert '{"a":  "<|im_end|>"}' in tokenizer.decode(encoder.prompt(tool_turn, json.dumps([TOOL])))


@pytest.mark.parametrize(
    ("template", "left_out"),
    [("qwen2_5", {"reasoning_content"}), ("qwen3", set()), (TEMPLATE, set()),
     (PLAIN, {"tools", "tool_calls", "reasoning_content"})],
)  # fmt: skip
def test_what_a_template_leaves_out_is_found(template: str, left_out: set[str]) -> None:
    encoder = ChatEncoder(make_tokenizer(template))
    assert left_out_by(encoder._template) == left_out


@pytest.mark.parametrize(
    ("more", "tools", "reason"),
    [
        ({}, [TOOL], "template_without_tools"),
        (calls(call(), content="x"), [], "template_without_tool_calls"),
        (say("assistant", "a", reasoning_content="hm"), [], "template_without_reasoning"),
    ],
)
def test_pairs_that_a_template_cuts_short_are_dropped_by_name(more: Any, tools: list[Any], reason: str) -> None:
    tokenizer = make_tokenizer(PLAIN)
    given = {
        "prompt": [say("user", "q")],
        "chosen": [more or say("assistant", "a")],
        "rejected": [say("assistant", "b")],
    }
    with pytest.raises(Rejection, match=reason):
        encode_pair(ChatEncoder(tokenizer), example_of({**given, "tools": tools}))
    encoder = PairTokenizer(tokenizer, max_length=512, prompt_budget=256)
    assert encoder.rows([{**given, "tools": tools or None}, {**given, "chosen": [say("assistant", "a")]}])
    assert encoder.counts[f"dropped_{reason}"] == 1 and "does not show" in encoder.dropped()[0]


def test_prepare_counts_the_tokens_of_calls_and_drops_what_the_template_does_not_show(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = {"prompt": "q", "chosen": "a", "rejected": "b"}
    (tmp_path / "raw.jsonl").write_bytes(lines([row(1, tools=[TOOL]), plain, row(2, tools=[TOOL])]))
    options: dict[str, Any] = {"source": str(tmp_path / "raw.jsonl"), "test_size": 0}
    manifest = prepare(output_dir=tmp_path / "plain", model=str(tiny_base), **options)
    assert manifest is not None and manifest.funnel.dropped == {"template_without_tools": 2}
    assert "leaves parts of these rows out" in capsys.readouterr().err
    base = base_with_tools(tiny_base, tmp_path / "base")
    manifest = prepare(output_dir=tmp_path / "tools", model=str(base), **options)
    assert manifest is not None and manifest.funnel.kept == 3
    asked = ids_of(read_tokenizer(base), row(1)["prompt"], [TOOL], ask=True)
    assert manifest.statistics["train"]["tokens"]["prompt"]["max"] == len(asked)
    prepare(output_dir=tmp_path / "none", model=str(base), explain=1, **options)
    shown = "".join(capsys.readouterr())
    assert f"tools: {json.dumps([TOOL], separators=(',', ':'))}" in shown and '"tool_calls":[{' in shown


def test_a_prompt_is_never_cut_between_a_call_and_its_result() -> None:
    encoder = ChatEncoder(make_tokenizer("qwen2_5"))
    turns = [say("user", "old"), packed(calls(call())), say("tool", "12"), say("assistant", "Twelve.")]
    answers = [say("assistant", "Ten.")], [say("assistant", "No.")]
    pair = encode_pair(encoder, PreferenceExample([*turns, *turns[:3]], *answers, tools=json.dumps([TOOL])))
    for room in range(0, len(pair.prompt), 7):
        shorter = shortened(encoder, pair, room)
        assert shorter is None or shorter.example.prompt == turns[:3]
    shorter = shortened(encoder, pair, len(encoder.prompt(turns[:3], json.dumps([TOOL]))))
    assert shorter is not None and shorter.example.prompt == turns[:3]


def test_rows_of_a_dataset_are_encoded_with_their_calls(tiny_base: Path) -> None:
    tokenizer = read_tokenizer(tiny_base)
    tokenizer.chat_template = TEMPLATE
    encoder = PairTokenizer(tokenizer, max_length=512, prompt_budget=256)
    given = row(chosen=[calls(call())], tools=[TOOL])
    (encoded,) = encoder.rows([given])
    whole = ids_of(tokenizer, [*given["prompt"], *given["chosen"]], [TOOL])
    assert encoded["prompt_ids"] + encoded["chosen_ids"] == whole[: len(encoded["prompt_ids"] + encoded["chosen_ids"])]
