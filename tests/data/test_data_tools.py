"""Tool calls, their results, tools and reasoning are kept as they are given, and nothing is invented beside them."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, load_dataset

from hubdpo import load_preferences, prepare
from hubdpo.artefacts.formats.messages import COLUMNS, MESSAGES
from hubdpo.artefacts.formats.parquet_footers import is_objects
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.data.converters.places import Place
from hubdpo.data.converters.prompts import tools_of
from hubdpo.data.pairs.calls import read_tools
from hubdpo.data.pairs.example import Rejection
from hubdpo.data.pairs.extras import change_inside, example_of, map_texts, whole
from hubdpo.data.pairs.messages import messages_of
from hubdpo.release.diff.rows import compare_rows
from tests.data.made import lines
from tests.data.made_tools import TOOL, base_with_tools, call, calls, row, say


def prepared(folder: Path, rows: list[dict[str, Any]], **options: Any) -> PrepareManifest:
    (folder / "raw.jsonl").write_bytes(lines(rows))
    options = {"test_size": 0, "scan": "none", **options}
    manifest = prepare(source=str(folder / "raw.jsonl"), output_dir=folder / "out", **options)
    assert manifest is not None
    return manifest


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return list(load_preferences(folder / "out")["train"])


def test_calls_results_and_tools_are_kept_as_they_are_given(tmp_path: Path) -> None:
    answers = {"chosen": [calls(call(), call("Nice"))], "rejected": [calls(call("Rome"), content="Let me look.")]}
    given = [row(1, tools=[TOOL]), {**row(2, tools=[TOOL]), **answers}]
    manifest = prepared(tmp_path, given)
    assert rows_of(tmp_path) == given
    assert manifest.extras == {"tools": 2, "tool_calls": 2, "other": 2}
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Of these pairs, 2 have tools, 2 have tool calls." in card
    assert "| `tools` | list of objects |" in card and '"tool_calls"' in card


HISTORY = row()["prompt"]
GOOD, POOR = say("assistant", "Six.", reasoning_content="06:10 is six."), say("assistant", "No")
WHOLE = [*HISTORY, GOOD], [*HISTORY, POOR]
CONVERSATIONS: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "two conversations": ([{"chosen": WHOLE[0], "rejected": WHOLE[1]}], {}),
    "a conversation and another answer": ([{"messages": WHOLE[0], "rejected": POOR}], {}),
    "messages and rejected messages": ([{"messages": WHOLE[0], "rejected_messages": WHOLE[1]}], {}),
    "voted": ([{"conversation_a": WHOLE[0], "conversation_b": WHOLE[1], "winner": "model_a"}], {}),
    "labelled": ([{"messages": WHOLE[0], "label": True}, {"messages": WHOLE[1], "label": False}], {}),
    "described": ([{"x": WHOLE[0], "y": WHOLE[1]}], {"chosen": "x", "rejected": "y"}),
    "described, one whole": ([{"x": WHOLE[0], "y": POOR}], {"chosen": "x", "rejected": "y"}),
    "described, history": ([{"h": HISTORY, "x": GOOD, "y": POOR}], {"history": "h", "chosen": "x", "rejected": "y"}),
    "described, one answer": (
        [{"talk": WHOLE[0], "ok": "y"}, {"talk": WHOLE[1], "ok": "n"}],
        {"answer": "talk", "label": "ok", "good": "y", "bad": "n"},
    ),
}


@pytest.mark.parametrize("shape", CONVERSATIONS)
def test_whole_conversations_keep_their_calls_and_results(shape: str, tmp_path: Path) -> None:
    given, options = CONVERSATIONS[shape]
    manifest = prepared(tmp_path, given, **options)
    (pair,) = rows_of(tmp_path)
    assert {name: pair[name] for name in COLUMNS} == {"prompt": HISTORY, "chosen": [GOOD], "rejected": [POOR]}
    assert manifest.extras == {"tool_calls": 1, "reasoning_content": 1, "other": 1}


def test_a_member_that_a_row_calls_extra_is_not_taken_for_one_that_was_read() -> None:
    assert messages_of([{**say("user", "q"), "extra": '{"tool_calls": 1}'}]) == [say("user", "q")]


def test_datasets_reads_the_folder_by_its_card_without_inventing_members(tmp_path: Path) -> None:
    given = [row(1, tools=[TOOL]), {"prompt": "q", "chosen": "a", "rejected": "b"}]
    prepared(tmp_path, given)
    read = list(load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache")))
    plain = {
        "prompt": [say("user", "q")], "chosen": [say("assistant", "a")], "rejected": [say("assistant", "b")],
    }  # fmt: skip
    assert read == [given[0], {**plain, "tools": None}] == rows_of(tmp_path)


def test_a_dataset_of_text_has_plain_messages(tmp_path: Path) -> None:
    manifest = prepared(tmp_path, [{"prompt": "q", "chosen": "a", "rejected": "b", "tools": []}])
    schema = pq.read_schema(tmp_path / "out" / "data" / "train-00000-of-00001.parquet")
    assert schema.names == ["prompt", "chosen", "rejected"] and schema.field("prompt").type.equals(MESSAGES)
    assert manifest.extras == {} and manifest.unused_columns == {}


def test_calls_without_tools_have_no_column_for_them(tmp_path: Path) -> None:
    prepared(tmp_path, [row()])
    schema = pq.read_schema(tmp_path / "out" / "data" / "train-00000-of-00001.parquet")
    assert schema.names == ["prompt", "chosen", "rejected"] and is_objects(schema.field("prompt").type)


def test_the_bytes_are_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    source = tmp_path / "raw"
    source.mkdir()
    plain = [{"prompt": f"p{i}", "chosen": "a", "rejected": "b", "note": "n"} for i in range(50)]
    (source / "a.jsonl").write_bytes(lines(plain))
    (source / "b.jsonl").write_bytes(lines([row(i, tools=[TOOL], note=i) for i in range(50)]))
    digests = []
    for workers in (1, 2):
        out = tmp_path / f"out{workers}"
        prepare(source=str(source), output_dir=out, num_proc=workers, test_size=0.2, keep=["note"])
        digests.append({p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(out.rglob("*.parquet"))})
    assert digests[0] == digests[1] and len(digests[0]) == 2
    both = [pair for split in load_preferences(tmp_path / "out1").values() for pair in split]
    assert len(both) == 100 and sum(pair["tools"] is None for pair in both) == 50
    assert {pair["note"] for pair in both} == {"n", *map(str, range(50))}


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (calls(call(id="7")), [calls(call(id="7"))]),
        ({"role": "assistant", "tool_calls": [call()]}, [calls(call())]),
        (calls(call(), content=""), [calls(call(), content="")]),
        ({"role": "assistant", "content": "x", "toolCalls": json.dumps([call()])}, [calls(call(), content="x")]),
        ({"role": "assistant", "content": "x", "tool_call": call()}, [calls(call(), content="x")]),
        (
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
            [calls({"type": "function", "function": {"name": "f", "arguments": "{}"}})],
        ),
        (
            {"from": "function_call", "value": '{"name": "f", "arguments": {"a": 1}}'},
            [calls({"type": "function", "function": {"name": "f", "arguments": {"a": 1}}})],
        ),
        (
            {"role": "tool_calls", "content": json.dumps([{"name": "f"}, {"name": "g", "parameters": {"b": 2}}])},
            [calls(*({"type": "function", "function": {"name": name, "arguments": arguments}}
                     for name, arguments in (("f", {}), ("g", {"b": 2}))))],
        ),
        ({"from": "observation", "value": "12"}, [say("tool", "12")]),
        ({"role": "tool-response", "content": "12", "toolCallId": "1"}, [say("tool", "12", tool_call_id="1")]),
        ({"role": "function", "content": "12", "name": "f"}, [say("tool", "12", name="f")]),
        ({"role": "user", "content": "q", "name": "Ann"}, [say("user", "q")]),
        (
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Wait."},
                {"type": "tool_use", "id": "9", "name": "f", "input": {"a": 1}},
            ]},
            [{"role": "assistant", "content": "Wait.", "reasoning_content": "hm", "tool_calls": [
                {"id": "9", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
            ]}],
        ),
        (
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "9", "content": [{"type": "text", "text": "12"}]},
                {"type": "tool_result", "content": "13"},
            ]},
            [say("tool", "12", tool_call_id="9"), say("tool", "13")],
        ),
        ({"role": "assistant", "content": "a", "thinking": "hm"}, [say("assistant", "a", reasoning_content="hm")]),
        ({"role": "assistant", "content": "a", "reasoning": "hm"}, [say("assistant", "a", reasoning_content="hm")]),
    ],
)  # fmt: skip
def test_calls_results_and_reasoning_are_read_in_many_spellings(given: Any, read: list[Any]) -> None:
    assert list(map(whole, messages_of([given]))) == read


def test_a_turn_for_each_call_is_one_turn_of_the_assistant() -> None:
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "I look."}]
    turns += [{"from": "tool_call", "value": json.dumps({"name": name, "arguments": {}})} for name in ("f", "g")]
    turns += [{"from": "tool_response", "value": answer} for answer in ("1", "2")]
    some = [{"type": "function", "function": {"name": name, "arguments": {}}} for name in ("f", "g")]
    expected = [say("user", "q"), calls(*some, content="I look."), say("tool", "1"), say("tool", "2")]
    assert list(map(whole, messages_of(turns))) == expected


@pytest.mark.parametrize(
    ("value", "tools"),
    [
        ([TOOL], [TOOL]), (json.dumps([TOOL]), [TOOL]), ([json.dumps(TOOL)], [TOOL]), (TOOL, [TOOL]),
        ([{"name": "f", "parameters": {}}], [{"type": "function", "function": {"name": "f", "parameters": {}}}]),
        ([{"type": "web_search"}], [{"type": "web_search"}]), ([], []), ("", []), (None, []), ("hammer", []),
        (["hammer"], []), (3, []), ("[]", []), ('{"a": 1}', []), ("[{}]", []), ([{"name": "f", "code": "pass"}], []),
        (str([TOOL]), [TOOL]), (f"array([{TOOL}], dtype=object)", [TOOL]),
    ],
)  # fmt: skip
def test_tools_are_read_from_lists_and_from_json(value: Any, tools: list[Any]) -> None:
    assert json.loads(read_tools(value) or "[]") == tools


@pytest.mark.parametrize("value", ['[{"name": "f"', [{"description": "d"}], '{"parameters": {}}', "[{f}]"])
def test_what_looks_like_tools_and_is_not_is_refused(value: Any) -> None:
    with pytest.raises(Rejection, match="unreadable_tools"):
        read_tools(value)


def test_a_column_that_was_called_the_tools_must_hold_tools() -> None:
    assert tools_of({"kit": [TOOL]}, Place.of("kit")) == [TOOL]
    assert tools_of({"kit": "[]"}, Place.of("kit")) is None
    assert tools_of({"kit": ""}, Place.of("kit")) is None and tools_of({}, Place.of("kit")) is None
    with pytest.raises(Rejection, match="unreadable_tools"):
        tools_of({"kit": "hammer"}, Place.of("kit"))


PAIR = {"chosen": "a", "rejected": "b"}
REQUEST = {"messages": [say("user", "q")], "tools": [TOOL]}
ANSWERS = {"preferred_output": [say("assistant", "a")], "non_preferred_output": [say("assistant", "b")]}


@pytest.mark.parametrize(
    "given",
    [
        {"prompt": "q", **PAIR, "tools": [TOOL]},
        {"prompt": "q", **PAIR, "functions": json.dumps([TOOL])},
        {"input": REQUEST, **ANSWERS},
        {"conversations": [{"from": "human", "value": "q"}], "tools": json.dumps([TOOL]),
         "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}},
        {"instruction": "q", **PAIR, "tools": [TOOL]},
        {"chosen": [say("user", "q"), say("assistant", "a")], "rejected": [say("user", "q"), say("assistant", "b")],
         "tools": [TOOL]},
        {"prompt": "q", "responses": ["a", "b"], "scores": [2, 1], "tools": [TOOL]},
        {"prompt": "q", "response_a": "a", "response_b": "b", "winner": "model_a", "tools": [TOOL]},
    ],
)  # fmt: skip
def test_every_format_reads_tools(given: dict[str, Any], tmp_path: Path) -> None:
    manifest = prepared(tmp_path, [given] * 20)
    pair = rows_of(tmp_path)[0]
    assert pair["tools"] == [TOOL] and pair["prompt"] == [say("user", "q")]
    assert manifest.unused_columns == {}


def test_a_column_that_holds_no_tools_is_none_or_not_used(tmp_path: Path) -> None:
    pair = {"prompt": "q", "chosen": "a", "rejected": "b"}
    given = [{**pair, "prompt": f"q{i}", "tools": tools} for i, tools in enumerate(["[]", "", None, "a hammer"])]
    manifest = prepared(tmp_path, [*given, {**pair, "functions": [{"name": "f", "code": "pass"}]}])
    assert (manifest.extras, manifest.unused_columns) == ({}, {"tools": 1, "functions": 1})


def test_single_answers_are_paired_with_their_calls(tmp_path: Path) -> None:
    shared = {"prompt": row()["prompt"], "tools": [TOOL]}
    given = [
        {**shared, "completion": [calls(call())], "label": True},
        {**shared, "completion": [calls(call("Nice"))], "label": False},
        {**shared, "tools": [], "completion": [say("assistant", "x")], "label": False},
    ]
    manifest = prepared(tmp_path, given)
    (pair,) = rows_of(tmp_path)
    assert (pair["chosen"], pair["rejected"], pair["tools"]) == ([calls(call())], [calls(call("Nice"))], [TOOL])
    assert manifest.funnel.dropped == {"unpaired": 1}  # a prompt with other tools is another prompt


def test_rows_that_differ_in_a_call_or_in_their_tools_are_different(tmp_path: Path) -> None:
    other = {"type": "function", "function": {"name": "moon"}}
    one = {"prompt": "q", "chosen": [calls(call())], "rejected": "No.", "tools": [TOOL]}
    given = [one, {**one, "chosen": [calls(call("Nice"))]}, {**one, "tools": [other]}, one]
    manifest = prepared(tmp_path, given)
    assert (manifest.funnel.kept, manifest.funnel.dropped) == (3, {"duplicate_pair": 1})


def test_answers_that_differ_in_their_calls_alone_are_a_preference(tmp_path: Path) -> None:
    given = [
        {"prompt": "q", "chosen": [calls(call())], "rejected": [calls(call("Nice"))]},
        {"prompt": "r", "chosen": [calls(call())], "rejected": [calls(call())]},
    ]
    assert prepared(tmp_path, given).funnel.dropped == {"identical_answers": 1}


def test_near_duplicates_are_told_apart_by_their_calls(tmp_path: Path) -> None:
    places = [" ".join(f"{word}{i}" for i in range(30)) for word in ("north", "south")]
    given = [{"prompt": "q", "chosen": [calls(call(place))], "rejected": "No.", "tools": [TOOL]} for place in places]
    assert prepared(tmp_path, given, dedupe="near").funnel.kept == 2
    assert prepared(tmp_path, [*given, given[0] | {"rejected": "No!"}], dedupe="near").funnel.kept == 2


def test_a_question_with_other_tools_is_in_the_same_split(tmp_path: Path) -> None:
    other = {"type": "function", "function": {"name": "wind", "parameters": {}}}
    given = [row(i, tools=tools) for i in range(60) for tools in ([TOOL], [other], [])]
    manifest = prepared(tmp_path, given, test_size=0.5)
    found = {
        split: {pair["prompt"][0]["content"] for pair in rows}
        for split, rows in load_preferences(tmp_path / "out").items()
    }
    assert len(found["test"]) > 10 and found["train"].isdisjoint(found["test"])
    assert manifest.funnel.kept == 180 and sum(s["distinct_prompts"] for s in manifest.statistics.values()) == 60


def test_credentials_in_calls_and_tools_are_found_and_redacted(tmp_path: Path) -> None:
    token = "hf_" + "a1B2" * 9
    secret = {**row(tools=[{**TOOL, "note": f"use {token}"}]), "chosen": [calls(call(token))]}
    assert prepared(tmp_path, [secret, row(1)], scan="secrets").funnel.dropped == {"secret_found": 1}
    manifest = prepared(tmp_path, [secret], scan="secrets", redact=True)
    (pair,) = rows_of(tmp_path)
    assert manifest.secrets == {"Hugging Face Token": 2} and token not in json.dumps(pair)
    arguments = pair["chosen"][0]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(arguments) == {"place": "[REDACTED Hugging Face Token]"}


def test_a_credential_that_only_its_name_tells_is_redacted_in_arguments(tmp_path: Path) -> None:
    key = "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYEXAMPLEKEY"
    arguments = json.dumps({"aws_secret_access_key": key})
    given = {**row(), "chosen": [calls({"type": "function", "function": {"name": "tide", "arguments": arguments}})]}
    assert prepared(tmp_path, [given], scan="secrets", redact=True).secrets == {"AWS Access Key": 1}
    ((called,),) = (message["tool_calls"] for message in rows_of(tmp_path)[0]["chosen"])
    assert json.loads(called["function"]["arguments"]) == {"aws_secret_access_key": "[REDACTED AWS Access Key]"}


def test_texts_are_changed_inside_of_json_in_text() -> None:
    value = {"a": ['{"b":"x"}', 1, None, "x", "{x", "[]"]}
    changed = map_texts(value, lambda text: change_inside(text, lambda inner: inner.replace("x", 'y"')))
    assert changed == {"a": ['{"b":"y\\""}', 1, None, 'y"', '{y"', "[]"]}
    assert (
        change_inside('{"b": [1,  2]}', str.upper) == '{"B":[1,2]}' and change_inside("[1,  2]", str.upper) == "[1,  2]"
    )


def test_a_prepared_dataset_can_be_prepared_again(tmp_path: Path) -> None:
    given = [row(1, tools=[TOOL]), row(2)]
    prepared(tmp_path, given)
    folder = str(tmp_path / "out" / "data")
    prepare(source=folder, output_dir=tmp_path / "again", test_size=0)
    prepare(source=load_preferences(tmp_path / "out"), output_dir=tmp_path / "memory", test_size=0)
    assert isinstance(load_preferences(tmp_path / "out")["train"], Dataset)
    for name in ("again", "memory"):
        assert list(load_preferences(tmp_path / name)["train"]) == [given[0], {**given[1], "tools": None}]


def test_members_that_arrow_invents_are_left_out_of_tools_and_calls(tmp_path: Path) -> None:
    other = {
        "type": "function",
        "function": {"name": "moon", "parameters": {"type": "object", "properties": {"day": 1}}},
    }
    tide = {**TOOL, "function": {**TOOL["function"], "parameters": {"type": "object", "properties": {"place": 1}}}}
    asked = [calls(call(arguments={"place": "Brest"})), calls(call(arguments={"day": 1}))]
    given = [row(i, tools=[tide, other], chosen=[answer]) for i, answer in enumerate(asked)]
    manifest = prepare(source=pa.Table.from_pylist(given), output_dir=tmp_path / "out", test_size=0)
    assert manifest is not None and manifest.repaired == {"nulls_of_arrow_in_tools": 2}
    assert rows_of(tmp_path) == given


def test_a_csv_of_tool_calls_is_one_of_tool_calls(tmp_path: Path) -> None:
    given = [row(1, tools=[TOOL]), row(2, tools=[TOOL], chosen=[calls(call())])]
    pandas.DataFrame(given).to_csv(tmp_path / "raw.csv", index=False)
    prepare(source=str(tmp_path / "raw.csv"), output_dir=tmp_path / "out", test_size=0)
    assert rows_of(tmp_path) == given


def test_versions_are_compared_with_their_calls(tmp_path: Path) -> None:
    paths = []
    for name, rows in {"old": [row(1), row(2)], "new": [row(1), row(2, chosen=[calls(call())])]}.items():
        (tmp_path / name).mkdir()
        prepared(tmp_path / name, rows)
        paths.append(sorted((tmp_path / name / "out" / "data").glob("*.parquet")))
    changes = compare_rows(*paths)
    assert (changes.pairs_added, changes.pairs_removed, changes.pairs_kept) == (1, 1, 1)
    assert (changes.prompts_kept, changes.prompts_added) == (2, 0)


def test_a_row_with_tools_and_the_same_row_without_differ_between_versions(tmp_path: Path) -> None:
    given = {"prompt": "q", "chosen": "a", "rejected": "b"}
    paths = []
    for name, rows in {"old": [given], "new": [{**given, "tools": [TOOL]}]}.items():
        (tmp_path / name).mkdir()
        prepared(tmp_path / name, rows)
        paths.append(sorted((tmp_path / name / "out" / "data").glob("*.parquet")))
    assert compare_rows(*paths).pairs_added == 1 and compare_rows(paths[0], paths[0]).pairs_kept == 1


def test_a_row_of_a_dataset_becomes_the_pair_that_it_was(tmp_path: Path) -> None:
    prepared(tmp_path, [row(1, tools=[TOOL])])
    example = example_of(rows_of(tmp_path)[0])
    assert [whole(message) for message in example.prompt] == row(1)["prompt"]
    assert json.loads(example.tools) == [TOOL] and example.chosen == [say("assistant", "At ten past six.")]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({**row(), "tools": '[{"name": '}, "unreadable_tools"),
        ({**row(), "chosen": [calls(call()), say("tool", "x")]}, "does_not_end_with_assistant"),
        ({**row(), "chosen": [calls({"function": 3})]}, "unreadable_tool_call"),
        ({**row(), "chosen": [calls(call(name="a\0"))]}, "null_character"),
        ({**row(), "tools": [{**TOOL, "note": "a\\\0"}]}, "null_character"),
        ({**row(), "chosen": [say("assistant", "", reasoning_content="hm")]}, "empty_answer"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_used_are_dropped_by_name(given: dict[str, Any], reason: str, tmp_path: Path) -> None:
    assert prepared(tmp_path, [given, row(1), row(2)]).funnel.dropped == {reason: 1}


def test_what_only_looks_like_a_nul_is_kept(tmp_path: Path) -> None:
    given = row(chosen=[calls(call(name="a\\u0000"))], tools=[{**TOOL, "note": "a\\u0000"}])
    prepared(tmp_path, [given])
    assert rows_of(tmp_path) == [given]


def test_turns_of_llama_factory_become_calls_and_results(tmp_path: Path) -> None:
    turn = {"name": "tide", "arguments": {"place": "Brest"}}
    given = {
        "conversations": [
            {"from": "human", "value": "q"}, {"from": "function_call", "value": json.dumps(turn)},
            {"from": "observation", "value": "06:10"},
        ],
        "chosen": {"from": "function_call", "value": json.dumps(turn)}, "rejected": {"from": "gpt", "value": "No."},
        "tools": json.dumps([{"name": "tide", "description": "", "parameters": {}}]),
    }  # fmt: skip
    prepared(tmp_path, [given])
    expected = calls({"type": "function", "function": turn})
    assert rows_of(tmp_path) == [{
        "prompt": [say("user", "q"), expected, say("tool", "06:10")], "chosen": [expected],
        "rejected": [say("assistant", "No.")],
        "tools": [{"type": "function", "function": {"name": "tide", "description": "", "parameters": {}}}],
    }]  # fmt: skip


def test_markers_in_calls_and_reasoning_are_counted(tmp_path: Path) -> None:
    given = row(
        chosen=[calls(call(name="<|eot_id|>"))], rejected=[say("assistant", "a", reasoning_content="<tool_call>x")]
    )
    manifest = prepared(tmp_path, [given, row(2, tools=[{**TOOL, "note": "<|eot_id|>"}])])
    assert manifest.template_markers["answers"].markers == {"<|eot_id|>": 1}
    assert manifest.text_markers["tool_calls"]["answers"].markers == {"<tool_call>": 1}


ODD: list[Any] = [
    None, "", 0, True, [], {}, [1], "x", "{", "{}", "[{}]", '{"name":"f"}', {"name": "f"}, {"name": 1}, [None], ["x"],
    {"function": {"name": "f", "arguments": "{bad"}}, {"function": {"name": "f", "arguments": [1]}}, "<|im_end|>", "\0",
    [{"type": "tool_use"}], [{"type": "tool_result", "content": [{"type": "text", "text": "a"}]}],
    [{"type": "thinking"}],
    json.loads('{"name":"f","arguments":' + '{"a":' * 260 + "1" + "}" * 261), '{"name":"f","arguments":' + "[" * 900,
    {"function": {"name": "f", "arguments": '{"a":' * 600 + "1" + "}" * 600}},
]  # fmt: skip
MEMBERS = (
    "content",
    "tool_calls",
    "function_call",
    "tool_call_id",
    "name",
    "reasoning_content",
    "thinking",
    "tool_use",
)


@pytest.mark.parametrize("options", [{}, {"scan": "secrets", "redact": True}, {"model": True}, {"dedupe": "near"}])
def test_odd_calls_and_tools_are_kept_or_counted(options: dict[str, Any], tmp_path: Path, tiny_base: Path) -> None:
    draw, given = random.Random(7), []
    for number in range(400):
        pair = row(number, tools=draw.choice([[TOOL], [TOOL], draw.choice(ODD)]))
        side = draw.choice(("prompt", "chosen", "rejected"))
        message = {"role": draw.choice(("assistant", "tool", "function_call")), "content": draw.choice(["a", *ODD])}
        message |= {draw.choice(MEMBERS): draw.choice(ODD) for _ in range(draw.randint(0, 2))}
        given.append({**pair, side: draw.choice([[*pair[side], message], [message], [message, *pair[side]]])})
    (tmp_path / "raw.jsonl").write_text("\n".join(map(json.dumps, given)))  # deeper than orjson writes
    if "model" in options:
        options = {"model": str(base_with_tools(tiny_base, tmp_path / "base")), "max_length": 400, "scan": "none"}
    manifest = prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", test_size=0, **options)
    assert manifest is not None and manifest.funnel.adds_up()
    assert len(rows_of(tmp_path)) == manifest.funnel.kept > 0


def test_an_answer_may_call_and_go_on(tmp_path: Path) -> None:
    given = row(chosen=[calls(call()), say("tool", ""), say("assistant", "Done.")])
    prepared(tmp_path, [given])
    assert rows_of(tmp_path) == [given]
