"""Descriptions with mistakes: each is refused by name, with a step that leads on."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from hubdpo import prepare
from hubdpo.config import PrepareConfig
from hubdpo.data.prepare.prepare import prepare as run_prepare
from hubdpo.errors import ConfigError, DataError
from tests.data.made import lines

ITEM = "sources:\n- path: raw.jsonl\n  "
TOP = "source: raw.jsonl\n"
TURNS = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
TWO = [{"q": f"Q{n}", "one": "good", "two": "bad", "best": n % 2} for n in range(4)]
WRITTEN = {
    "a word in a list": (f"{TOP}prompt: q\nanswers: [a, yes]\nvote: v\n", "answers", '(?<!answers: )"yes"$'),
    "a number in a list": (f"{TOP}prompt: q\nanswers: [1, 2]\nvote: v\n", "answers", 'quotes: "1"$'),
    "a date": (f"{TOP}prompt: 2024-01-01\nchosen: a\nrejected: b\n", "prompt", 'prompt: "2024-01-01"'),
    "a number in an item": (f"{ITEM}name: 2024\n", "item 1 of `sources`: option `name`", 'quotes: name: "2024"'),
    "a word in an item": (f"{ITEM}chosen: yes\n  rejected: b\n", "option `chosen`", 'chosen: "yes"'),
    "source in an item": ("sources:\n- source: raw.jsonl\n", "unknown option: `source`", "did you mean `path`"),
    "labels in an item": (f"{ITEM}labels: first=1,second=2\n", "unknown option: `labels`", "did you mean `first`"),
    "an unknown key": (f"{ITEM}zzz: 1\n", "unknown option: `zzz`", "the keys are: path, prompt, .*max_rows"),
    "no path in a list": ("sources:\n- path: []\n", "option `path`", "path: VALUE"),
    "an old name": (f"{TOP}format: voted\n", "option `format` in `.*` is now `converter`", "^converter: voted$"),
    "an old name in an item": (f"{ITEM}format: voted\n", "1 of `sources`: .*`format` is now", "^converter: voted$"),
    "an empty path": ("sources:\n- path: ''\n", "option `path` is not valid: it is empty", "leave `path` out"),
    "an empty name": (f"{ITEM}name: ' '\n", "option `name` is not valid: it is empty", "leave `name` out"),
    "an empty split": (f"{TOP}split: ''\n", "option `split` in .* is not valid: it is empty", "leave `split` out"),
    "an answer twice": (f"{TOP}prompt: q\nanswers: [a, a]\nvote: v\n", "`a` is named twice, in `answers`\n", "COLUMN"),
    "both sides": (f"{TOP}prompt: q\nchosen: a\nrejected: a\n", "twice, in `chosen` and `rejected`", "rejected: COL"),
    "the prompt as an answer": (f"{TOP}prompt: a\nchosen: a\nrejected: b\n", "in `prompt` and `chosen`", "chosen: COL"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message", "hint"), WRITTEN.values(), ids=WRITTEN)
def test_a_mistake_in_a_config_file_is_named(tmp_path: Path, text: str, message: str, hint: str) -> None:
    (tmp_path / "data.yaml").write_text(f"output_dir: out\n{text}")
    with pytest.raises(ConfigError, match=message) as caught:
        PrepareConfig.build({}, file=tmp_path / "data.yaml")
    assert re.search(hint, str(caught.value.hint))


READ: dict[str, tuple[dict[str, Any], str, str]] = {
    "columns in one text": (
        {"prompt": "q", "answers": "one, two", "vote": "best", "first": 0, "second": 1},
        "no row has a column `one, two`",
        "--answers one --answers two",
    ),
    "one column with a text": (
        {"prompt": "q", "answers": "one", "vote": "best", "first": 0},
        "`one`, the one column of `answers`, holds no lists",
        "name a column for each answer: --answers one --answers ...",
    ),
    "no prompt": ({"chosen": "one", "rejected": "two"}, "not_a_transcript 4", "name the column of the prompt"),
}


@pytest.mark.parametrize(("options", "message", "hint"), READ.values(), ids=READ)
def test_a_mistake_that_the_rows_show_is_named(
    tmp_path: Path, options: dict[str, Any], message: str, hint: str
) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines(TWO))
    with pytest.raises(DataError, match=message) as caught:
        prepare(source=tmp_path / "raw.jsonl", output_dir=tmp_path / "out", **options)
    assert hint in str(caught.value.hint)


def test_a_source_without_a_name_is_not_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines([{"prompt": "Q", "chosen": "good", "rejected": "bad"}]))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="a source has no name"):
        prepare(source="", output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_answers_without_an_order_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`answers` is a set, which has no order"):
        prepare(TWO, tmp_path / "out", prompt="q", answers={"one", "two"}, vote="best", first=0, second=1)


def test_rows_in_memory_do_not_go_with_sources(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="both rows in memory and `sources` are given"):
        prepare(TWO, tmp_path / "out", sources=[{"path": "raw.jsonl"}])


def test_paths_of_a_source_may_be_paths(tmp_path: Path) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines(TWO))
    source = {"path": [tmp_path / "raw.jsonl"], "prompt": "q", "chosen": "one", "rejected": "two"}
    assert prepare(sources=(source,), output_dir=tmp_path / "out").funnel.kept == 4


VOTED = {"prompt": "q", "answers": ["one", "two"], "vote": "best"}


@pytest.mark.parametrize("in_list", [False, True])
def test_values_that_no_vote_has_are_told_as_they_are_given(tmp_path: Path, in_list: bool) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines(TWO))
    path, source = str(tmp_path / "raw.jsonl"), {**VOTED, "first": 7, "second": 8}
    given = {"sources": [{"path": path, **source}]} if in_list else {"source": path, **source}
    with pytest.raises(DataError, match="the description names no value of `best`: its values are `0`, `1`") as caught:
        run_prepare(PrepareConfig.build({"output_dir": str(tmp_path / "out"), **given}))
    hint = str(caught.value.hint)
    assert hint.endswith("first: '...', second: '...'" if in_list else "--first ... --second ...")
    assert hint.startswith(f"in the item of `{path}`: " if in_list else "look up")


def test_values_that_are_left_open_are_told_as_they_are_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines(TWO))
    options = {"source": str(tmp_path / "raw.jsonl"), "output_dir": str(tmp_path / "out"), **VOTED}
    run_prepare(PrepareConfig.build({**options, "first": 0, "second": 8}))
    said = capsys.readouterr().err
    assert "hint: say what they mean: --first 0 --second 8 --... 1" in said
    assert "the description names `8`, which none" in said


def speakers(*names: str) -> dict[str, str]:
    """Return the answers of a row whose messages are by these, in turn."""
    said = [{"who": name, "says": "words"} for name in names]
    return {
        "good": json.dumps([*said, {"who": "agent", "says": "yes"}]),
        "bad": json.dumps([*said, {"who": "agent", "says": "no"}]),
    }


SPEAKERS = [
    ("custmer=user,agent=assistant", "names `custmer`", "--roles customer=user,agent=assistant"),
    ("x=user,y=assistant", "names `x`, `y`, .* are `customer`, `agent`", "--roles customer=...,agent=..."),
    ("Agent=assistant", "names `Agent`", "--roles agent=assistant,customer=..."),
]


@pytest.mark.parametrize(("roles", "message", "hint"), SPEAKERS, ids=[row[0] for row in SPEAKERS])
def test_a_speaker_whom_no_row_has_is_named(tmp_path: Path, roles: str, message: str, hint: str) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines([speakers("customer")] * 4))
    options = {"chosen": "good", "rejected": "bad", "role_key": "who", "content_key": "says", "roles": roles}
    with pytest.raises(DataError, match=message) as caught:
        prepare(tmp_path / "raw.jsonl", tmp_path / "out", **options)
    assert hint in str(caught.value.hint)


def test_known_speakers_need_no_roles(tmp_path: Path) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines([{"good": TURNS, "bad": TURNS[:1]}] * 4))
    with pytest.raises(DataError, match="names `boss`, by whom .* are `user`, `assistant`") as caught:
        prepare(tmp_path / "raw.jsonl", tmp_path / "out", chosen="good", rejected="bad", roles="boss=user")
    assert "leave `--roles` out" in str(caught.value.hint).replace("`roles`", "`--roles`")


def test_a_speaker_who_may_come_later_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines([{**speakers("customer"), "n": n} for n in range(4)]))
    prepare(
        tmp_path / "raw.jsonl",
        tmp_path / "out",
        chosen="good",
        rejected="bad",
        role_key="who",
        content_key="says",
        roles="customer=user,agent=assistant,manager=system",
    )
    assert "names `manager`, by whom no message of the first rows is" in capsys.readouterr().err
