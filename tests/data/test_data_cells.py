"""Messages in every spelling: as text in a cell, with other keys, with what text cannot hold."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hubdpo import load_preferences, prepare
from hubdpo.config.map_option import parse_map
from hubdpo.data.clean.screen import Screen
from hubdpo.data.clean.unread import media_in
from hubdpo.data.converters import CONVERTERS, ConvertOptions
from hubdpo.data.converters.cells import parse_messages_cell, single_text_list
from hubdpo.data.pairs.example import NotText, PreferenceExample, Rejection
from hubdpo.data.pairs.messages import messages_of
from hubdpo.errors import DataError
from tests.data.made import find_converter, lines

USER, GOOD = {"role": "user", "content": "q"}, {"role": "assistant", "content": "good\nï} {'"}
BAD = {"role": "assistant", "content": "bad"}
CALL = {"id": "1", "type": "function", "function": {"name": "tide", "arguments": "{}"}}
PAIR = PreferenceExample([USER], [GOOD], [BAD])


def as_json(value: Any) -> str:
    return json.dumps(value)


def as_python(value: Any) -> str:
    return str(value)


def as_numpy(value: Any) -> str:
    return str(np.array(value, dtype=object)) if isinstance(value, list) else str(value)


def as_array(value: Any) -> str:
    """As pandas writes a cell that holds an array, with `...` nowhere: of few items."""
    return repr(np.array(value, dtype=object)) if isinstance(value, list) else str({"messages": np.array([value])})


def as_json_twice(value: Any) -> str:
    return json.dumps(json.dumps(value))


def as_json_in_python(value: Any) -> str:
    return repr(json.dumps(value))


def as_tuple(value: Any) -> str:
    return str(tuple(value)) if isinstance(value, list) else str(value)


WRITERS = [as_json, as_python, as_numpy, as_array, as_json_twice, as_json_in_python, as_tuple]


def read(name: str, row: dict[str, Any], mapping: dict[str, str] | None = None) -> Any:
    row = Screen(find_converter(name, mapping).columns_read(ConvertOptions())).one(row)
    return find_converter(name, mapping).bind(ConvertOptions())(row)


TEXTS: dict[str, dict[str, Any]] = {
    "preference": {"prompt": [USER], "chosen": [GOOD], "rejected": [USER, BAD]},
    "implicit-prompt": {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
    "alpaca": {"instruction": "q", "chosen": [GOOD], "rejected": BAD},
    "sharegpt": {"messages": [USER, GOOD], "rejected_messages": [USER, BAD]},
    "stack-exchange-paired": {"question": "q", "response_j": [GOOD], "response_k": [BAD]},
    "openai": {"input": [USER], "preferred_output": [GOOD], "non_preferred_output": [BAD]},
    "voted": {"prompt": [USER], "response_a": [GOOD], "response_b": [BAD], "winner": "model_a"},
    "columns": {"ask": [USER], "yes": [GOOD], "no": BAD},
}


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("name", TEXTS)
def test_messages_written_as_text_are_messages_in_every_format(name: str, write: Any) -> None:
    mapping = parse_map("prompt=ask,chosen=yes,rejected=no") if name == "columns" else None
    row = {key: write(value) if isinstance(value, (list, dict)) else value for key, value in TEXTS[name].items()}
    assert read(name, row, mapping) == PAIR


@pytest.mark.parametrize(
    "text",
    [
        '[{"role": "user", "content": "cut',
        "[{'content': 'x', 'role': 'user'} {",
        "{'role': 'user', 'content': open('x')}",
        "array([{'role': 'user', 'content': 'x'}, ...,\n       {'role': 'user', 'content': 'y'}], dtype=object)",
        "[{'role': 'user', 'content': 'x'}, ..., {'role': 'user', 'content': 'y'}]",
        "array([{'role': 'user', 'content': 'cut",
        "np.array([{'role': 'user', 'content': 'cut",
        "[array([{'role': 'user', 'content': 'x'}], dtype=object)]",
        "[[{'role': 'user', 'content': 'x'}]]",
        "[{'role': 'user', 'content': 'x'}, {'role': 'admin', 'content': 'y'}]",
        "({'role': 'user', 'content': 'cut",
        '{"messages": [{"role": "user", "content": "cut',
        '"[{\\"role\\": \\"user\\", \\"content\\": \\"cut',
        json.dumps('[{"role": "user", "content": "cut'),
        '\'[{"role": "user", "content": "cut',
    ],
)
def test_messages_that_cannot_be_read_are_refused_by_name(text: str) -> None:
    with pytest.raises(Rejection, match="unreadable_messages"):
        parse_messages_cell(text)


@pytest.mark.parametrize(
    "text",
    ['{"role": "admin", "content": "x"}', "[1, 2]", '{"a": 1}', "[{", "[link](x)", "{'role' is a word", '[{"role": 3}]',
     '[{"name": "x"}]', '{"role": "user"}', "[" * 3000 + '{"x":"role":', "array([1, 2])",
     "array(['a', 'b'], dtype=object)", '"hello"', "'[1, 2]'", '"[a] is cited" he said', '"{\\"a\\": 1}"',
     "(aside) yes",
     "(1, 2)", "array of things", "np.array([[1]])"],
)  # fmt: skip
def test_text_that_only_looks_like_it_stays_text(text: str) -> None:
    assert parse_messages_cell(text) is text


def test_an_object_of_messages_is_opened_and_one_with_more_refused() -> None:
    assert parse_messages_cell(json.dumps({"messages": [USER], "tools": []})) == [USER]
    with pytest.raises(Rejection, match="unreadable_messages"):
        parse_messages_cell(json.dumps({"messages": [USER], "tools": [CALL]}))


def test_one_message_is_a_prompt() -> None:
    assert read("preference", {"prompt": json.dumps(USER), "chosen": GOOD, "rejected": str([BAD])}) == PAIR


def test_rejected_messages_may_be_the_answer_alone() -> None:
    assert read("sharegpt", {"messages": [USER, GOOD], "rejected_messages": [BAD]}) == PAIR


def test_a_csv_of_conversations_is_one_of_conversations(tmp_path: Path) -> None:
    cell = json.dumps([USER, GOOD]).replace('"', '""')
    other = json.dumps([USER, BAD]).replace('"', '""')
    (tmp_path / "raw.csv").write_text(f'chosen,rejected\n"{cell}","{other}"\n')
    prepare(source=str(tmp_path / "raw.csv"), output_dir=tmp_path / "out", test_size=0)
    assert load_preferences(tmp_path / "out")["train"][0]["chosen"] == [GOOD]


@pytest.mark.parametrize(
    "message",
    [
        {"from": "human", "value": "q"}, {"from": "human", "content": "q"}, {"role": "user", "text": "q"},
        {"role": "User", "value": "q"}, {"role": "user", "content": [{"type": "text", "value": "q"}], "loss_weight": 0},
        {"role": "user", "content": [{"type": "input_text", "text": "q"}]},
    ],
)  # fmt: skip
def test_messages_have_many_keys(message: dict[str, Any]) -> None:
    assert messages_of([message]) == [USER]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"role": "assistant", "content": "Let me look.", "tool_calls": [1]}, "unreadable_tool_call"),
        ({"role": "assistant", "content": "", "function_call": {"arguments": "{}"}}, "unreadable_tool_call"),
        ({"role": "assistant", "content": "a", "tool_calls_made": "3"}, "unreadable_tool_call"),
        ({"from": "function_call", "value": "f()"}, "unreadable_tool_call"),
        ({"role": "assistant", "content": [{"type": "tool_use", "input": {}}]}, "unreadable_tool_call"),
        ({"role": "user", "content": [{"type": "tool_result", "content": {"a": 1}}]}, "unreadable_tool_call"),
        ({"role": "assistant", "content": "a", "reasoning_content": ["hm"]}, "reasoning_content"),
        ({"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}]}, "reasoning_content"),
        ({"role": "user", "content": "q", "images": ["a.png"]}, "images"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": "a"}]}, "images"),
        ({"role": "user", "content": [{"type": "video"}]}, "videos"),
        ({"role": "user", "content": [{"type": "input_audio"}]}, "audio"),
        ({"role": "user", "content": None}, "wrong_type"),
    ],
)  # fmt: skip
def test_what_text_cannot_hold_has_a_reason_of_its_own(message: dict[str, Any], reason: str) -> None:
    with pytest.raises(Rejection) as caught:
        messages_of([USER, message])
    assert caught.value.reason == reason


def test_the_developer_speaks_as_the_system() -> None:
    assert messages_of([{"role": "developer", "content": "Be brief"}, USER]) == [
        {"role": "system", "content": "Be brief"}, USER,
    ]  # fmt: skip


def test_a_role_that_is_unknown_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {
        "prompt": [{"from": "narrator", "value": "x"}, USER],
        "chosen": [GOOD],
        "rejected": "bad",
        "of": {"role": "x"},
    }
    (tmp_path / "raw.jsonl").write_bytes(lines([row, {**row, "prompt": [USER]}, row, row]))
    prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", test_size=0)
    lost = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()]
    assert [(loss["reason"], loss["detail"]) for loss in lost] == [("unknown_role", "narrator")] * 3
    assert "a role is one of system, user" in capsys.readouterr().err


def test_empty_members_are_none() -> None:
    message = {**GOOD, "tool_calls": [], "reasoning_content": "", "images": None, "name": None}
    assert messages_of([message]) == [GOOD]


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("images", ["a.png"], "image"), ("image", "http://x.org/a", "image"), ("image_path", "a b/c.JPG?x=1", "image"),
        ("video_path", "v_12", "video"), ("audio", {"path": "a.wav", "array": None}, "audio"), ("img", b"12", "image"),
        ("jpg_0", b"\xff\xd8\xff", "image"), ("x", b"\x89PNG1", "image"),
        ("x", {"bytes": b"12", "path": "a.mp4"}, "video"),
        ("image", "data:image/png;base64,AA", "image"), ("x", {"array": [0.1], "sampling_rate": 8}, "audio"),
        ("images", "['a.png', 'b.png']", "image"), ("photos", [{"url": "x"}], "image"),
        ("images", [], None), ("image", "", None), ("image", None, None), ("image", "a red cat", None),
        ("image_prompt", "sunset", None), ("image_caption", "sunset", None), ("has_image", False, None),
        ("has_image", "yes", None), ("image_id", 3, None), ("x", "a.png", None), ("x", {"url": "y"}, None),
        ("imageUrl", "http://x.org/a", "image"), ("screenshotPath", "a", "image"), ("image2", "a", "image"),
        ("图片", "a.png", "image"), ("x", b"1234", None), ("image", "none", None),
    ],
)  # fmt: skip
def test_pictures_are_told_by_name_and_value(name: str, value: Any, kind: str | None) -> None:
    assert media_in(name, value) == kind


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "<image>q", "chosen": "a", "rejected": "b", "images": ["a.png"]},
        {"instruction": "q", "chosen": "a", "rejected": "b", "video_path": "v/1.mp4"},
        {"input": {"messages": [USER], "images": ["a.png"]}, "preferred_output": [GOOD], "non_preferred_output": [BAD]},
        {"prompt": [{"role": "user", "content": [{"type": "image"}]}], "chosen": "a", "rejected": "b"},
    ],
)
@pytest.mark.parametrize("few", [0, 40])
def test_rows_with_pictures_stop_the_run_and_name_the_place(
    tmp_path: Path, row: dict[str, Any], few: int, capsys: pytest.CaptureFixture[str]
) -> None:
    text = {key: value for key, value in row.items() if key not in ("images", "video_path")}
    (tmp_path / "raw.jsonl").write_bytes(lines([*[text] * few, row]))
    is_text = "images" not in text.get("input", {}) and not isinstance(text.get("prompt", ""), list)
    count = (
        rf"{1 if is_text else few + 1} of {few + 1} rows looked at in raw.jsonl have (images|videos) \((column|part)"
    )
    with pytest.raises(DataError, match=f"{count}.*hubdpo trains on text only"):
        prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match="hubdpo trains on text only"):
        prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", explain=99)


def test_every_format_takes_pictures_for_none_of_its_text() -> None:
    with pytest.raises(NotText):
        Screen(CONVERTERS["scored"].reads).one({"prompt": "q", "image": "a.png"})
    mapping = {"prompt": "image", "chosen": "a", "rejected": "b"}
    assert set(find_converter("columns", mapping).reads) == {"image", "a", "b"}


@pytest.mark.parametrize(
    "text",
    [
        "[{'content': 'a long answer that a spreadsheet cut",
        '[{"rol',
        "[OrderedDict([('role', 'assistant'), ('content', 'good')])]",
        "[Message(role='assistant', content='good')]",
        "[{“role”: “assistant”, “content”: “good”}]",
    ],
)
def test_a_list_of_messages_that_cannot_be_read_is_never_an_answer(text: str) -> None:
    with pytest.raises(Rejection, match="unreadable_messages"):
        parse_messages_cell(text)


@pytest.mark.parametrize("text", ['[{"content": "x"}]', '[{"value": 1}]', "[1, 2]", "[x](y)", '[{"name": "An', "['a']"])
def test_a_list_of_other_things_is_an_answer(text: str) -> None:
    assert parse_messages_cell(text) == text


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("['good']", ["good"]), ('["good"]', ["good"]), ('[ "a\\n\\"b" ]', ['a\n"b']), ("['it\\'s']", ["it's"]),
        ("[]", []),
        ("array(['good'], dtype=object)", ["good"]), ("array(['good'], dtype='<U4')", ["good"]), (" [ ]\n", []),
        ("array([], dtype=object)", []), ('"[\\"good\\"]"', ["good"]), ("[\"it's\"]", ["it's"]),
        ("['a', 'b']", None), ("['a' 'b']", None), ("[1]", None), ("['a'] is a list", None), ("[['a']]", None),
        ("['a'", None),
        ("('a')", None), ("[a]", None), ("x", None),
    ],
)  # fmt: skip
def test_lists_of_one_text_are_told(text: str, held: list[str] | None) -> None:
    assert single_text_list(text) == held


def csv_of(path: Path, rows: list[dict[str, str]]) -> str:
    with path.open("w", newline="") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return str(path)


def one_text_rows(write: Any) -> list[dict[str, Any]]:
    return [{"prompt": f"q{i}", "chosen": write([f"good {i}"]), "rejected": write([f"bad {i}"])} for i in range(3)]


@pytest.mark.parametrize("write", [as_json, as_python, as_array, as_json_twice, None])
def test_a_column_of_lists_of_one_text_holds_these_texts(
    tmp_path: Path, write: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = one_text_rows(write or (lambda value: value))
    if write:
        source = csv_of(tmp_path / "raw.csv", rows)
    else:
        (tmp_path / "raw.jsonl").write_bytes(lines(rows))
        source = str(tmp_path / "raw.jsonl")
    manifest = prepare(source=source, output_dir=tmp_path / "out", test_size=0)
    assert manifest is not None
    assert manifest.changed == ({"text_taken_out_of_list": 3} if write else {})
    kept = load_preferences(tmp_path / "out")["train"]
    assert [row["chosen"][0]["content"] for row in kept] == [f"good {i}" for i in range(3)]
    assert [row["rejected"][0]["content"] for row in kept] == [f"bad {i}" for i in range(3)]
    told = "`chosen`, `rejected` hold lists of one text each, written as text" in capsys.readouterr().err
    assert told is bool(write)


@pytest.mark.parametrize("name", ["system", "systemPrompt"])
@pytest.mark.parametrize("value", [["Be brief"], "['Be brief']", "[]", []])
def test_a_system_prompt_may_be_a_list_of_one_text(tmp_path: Path, name: str, value: Any) -> None:
    rows = [{"prompt": f"q{i}", name: value, "chosen": "a", "rejected": "b"} for i in range(3)]
    (tmp_path / "raw.jsonl").write_bytes(lines(rows))
    prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", test_size=0)
    prompt = load_preferences(tmp_path / "out")["train"][0]["prompt"]
    assert [message["content"] for message in prompt] == (["Be brief", "q0"] if len(value) in (1, 12) else ["q0"])


@pytest.mark.parametrize("other", ["a text", "['a', 'b']", "[1, 2]"])
def test_a_list_of_one_text_among_other_answers_stays_and_is_told(
    tmp_path: Path, other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*one_text_rows(as_python), {"prompt": "q", "chosen": other, "rejected": "['bad']"}]
    prepare(source=csv_of(tmp_path / "raw.csv", rows), output_dir=tmp_path / "out", test_size=0)
    kept = load_preferences(tmp_path / "out")["train"]
    assert [row["chosen"][0]["content"] for row in kept] == ["['good 0']", "['good 1']", "['good 2']", other]
    assert kept[3]["rejected"][0]["content"] == "['bad']"
    told = capsys.readouterr().err
    assert "3 texts of `chosen` are a list of one text" in told
    assert "4 texts of `rejected` are a list of one text" in told


@pytest.mark.parametrize("name", ["preference", "alpaca", "columns"])
@pytest.mark.parametrize("other", ["The capital is {}.", "{}", '["{}", "no"]'])
@pytest.mark.parametrize(("table", "workers"), [(True, 1), (False, 1), (False, 2)])
def test_a_list_that_one_answer_alone_is_stays_the_text_that_was_asked_for(
    tmp_path: Path, name: str, other: str, table: bool, workers: int
) -> None:
    cities = [f"City {i}" for i in range(40)]
    prompt = {"alpaca": "query", "columns": "ask"}.get(name, "prompt")
    rows = [
        {prompt: f"Give a JSON list: {city}", "chosen": as_json([city]), "rejected": other.replace("{}", city)}
        for city in cities
    ]
    source = tmp_path / "raw.jsonl"
    source.write_bytes(lines(rows))
    mapping = "prompt=ask,chosen=chosen,rejected=rejected" if name == "columns" else None
    manifest = prepare(
        source=csv_of(tmp_path / "raw.csv", rows) if table else str(source), output_dir=tmp_path / "out", test_size=0,
        map=mapping, num_proc=workers,
    )  # fmt: skip
    assert manifest is not None
    assert (manifest.funnel.kept, manifest.changed) == (40, {})
    kept = load_preferences(tmp_path / "out")["train"]
    assert {row["chosen"][0]["content"] for row in kept} == {as_json([city]) for city in cities}


def test_a_row_whose_other_answer_is_no_list_keeps_its_own_though_the_first_rows_had_lists_alone(
    tmp_path: Path,
) -> None:
    rows = [
        {"prompt": f"q{i}", "chosen": as_json([f"good {i}"]), "rejected": as_json([f"bad {i}"])} for i in range(1500)
    ]
    rows[1400]["rejected"] = "bad"
    (tmp_path / "raw.jsonl").write_bytes(lines(rows))
    manifest = prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", test_size=0)
    assert manifest is not None
    assert manifest.changed == {"text_taken_out_of_list": 1499}
    kept = load_preferences(tmp_path / "out")["train"]
    assert [row["chosen"][0]["content"] for row in kept][1399:1401] == ["good 1399", '["good 1400"]']


def test_nothing_printed_as_a_list_is_no_answer_among_messages(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{i}", "chosen": str([GOOD]), "rejected": str([BAD] if i else [])} for i in range(3)]
    manifest = prepare(source=csv_of(tmp_path / "raw.csv", rows), output_dir=tmp_path / "out", test_size=0)
    assert manifest is not None
    assert (manifest.funnel.kept, manifest.funnel.dropped) == (2, {"empty_answer": 1})


def test_turns_that_a_battle_has_in_lists_are_not_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"prompt": as_json(turns), "response_a": as_json([f"a{i}" for i in turns]), "response_b": as_json(turns[::-1]),
         "winner_model_a": "1", "winner_model_b": "0", "winner_tie": "0"}
        for turns in (["p"], ["q"], ["r", "s"])
    ]  # fmt: skip
    prepare(source=csv_of(tmp_path / "raw.csv", rows), output_dir=tmp_path / "out", test_size=0)
    assert "list of one text" not in capsys.readouterr().err
    assert load_preferences(tmp_path / "out")["train"][0]["prompt"] == [{"role": "user", "content": "p"}]


@pytest.mark.parametrize(
    ("chosen", "warned"),
    [
        ("['a {n}', 'b']", True),
        ('["a {n}", "b"]', True),
        ("[{n}, 2]", False),
        ("['a {n}'] it is", False),
        ("['a {n}']", False),
    ],
)
def test_answers_that_are_lists_of_several_texts_are_told(
    tmp_path: Path, chosen: str, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": f"q{n}", "chosen": chosen.format(n=n), "rejected": "bad"} for n in range(3)]
    (tmp_path / "raw.jsonl").write_bytes(lines(rows))
    manifest = prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", test_size=0)
    assert manifest is not None
    assert manifest.funnel.kept == 3
    assert ("`chosen` holds lists of several texts" in capsys.readouterr().err) == warned
