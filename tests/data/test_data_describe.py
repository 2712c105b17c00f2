"""Descriptions that the detector writes: they read what the format reads, or mark what a person must say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hubdpo import load_preferences, prepare
from tests.data.made import lines

ASKED = [{"role": "user", "content": "Q"}]
GOOD, BAD = ([{"role": "assistant", "content": text}] for text in ("good", "bad"))
CALL = [{"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "tide"}}]}]
TOOL = {"type": "function", "function": {"name": "tide"}}
SHAPES: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "preference": (
        [{"prompt": "Q", "chosen": "good", "rejected": "bad", "system": "S"}],
        {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected", "system": "system"},
    ),
    "preference with tools": (
        [{"prompt": ASKED, "chosen": CALL, "rejected": BAD, "tools": [TOOL]}],
        {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected", "tools": "tools"},
    ),
    "an instruction and its input": (
        [{"instruction": "Q", "input": "more", "chosen": "good", "rejected": "bad", "history": [["a", "b"]]}],
        {"prompt": ["instruction", "input"], "chosen": "chosen", "rejected": "rejected", "history": "history"},
    ),
    "two outputs": (
        [{"instruction": "Q", "output": ["good", "bad"]}],
        {"prompt": "instruction", "chosen": "output.0", "rejected": "output.1"},
    ),
    "openai": (
        [{"input": {"messages": ASKED}, "preferred_output": GOOD, "non_preferred_output": BAD}],
        {"prompt": "input.messages", "chosen": "preferred_output", "rejected": "non_preferred_output"},
    ),
    "whole conversations": (
        [{"chosen": ASKED + GOOD, "rejected": ASKED + BAD}],
        {"chosen": "chosen", "rejected": "rejected"},
    ),
    "transcripts": (
        [{"chosen": "\n\nHuman: Q\n\nAssistant: good", "rejected": "\n\nHuman: Q\n\nAssistant: bad"}],
        {"chosen": "chosen", "rejected": "rejected"},
    ),
    "a conversation and two answers": (
        [{"conversations": [{"from": "human", "value": "Q"}], "chosen": {"from": "gpt", "value": "good"},
          "rejected": {"from": "gpt", "value": "bad"}}],
        {"prompt": "conversations", "chosen": "chosen", "rejected": "rejected"},
    ),
    "a conversation and another answer": (
        [{"messages": ASKED + GOOD, "rejected_response": "bad"}],
        {"chosen": "messages", "rejected": "rejected_response"},
    ),
    "scored objects": (
        [{"instruction": "Q", "completions": [{"response": "bad", "overall_score": 1}, {"response": "good",
          "overall_score": 8}]}],
        {"prompt": "instruction", "answers": "completions[].response", "scores": "completions[].overall_score"},
    ),
    "scored texts": (
        [{"prompt": "Q", "responses": ["bad", "good"], "scores": [1, 2]}],
        {"prompt": "prompt", "answers": "responses", "scores": "scores"},
    ),
    "ranked texts": (
        [{"prompt": "Q", "answers": ["bad", "good"], "ranks": [2, 1]}],
        {"prompt": "prompt", "answers": "answers", "ranks": "ranks"},
    ),
    "one scored answer a row": (
        [{"prompt": "Q", "response": text, "helpfulness": n, "correctness": 1, "coherence": 1, "complexity": 1,
          "verbosity": 1} for n, text in enumerate(("bad", "good"))],
        {"prompt": "prompt", "answer": "response", "scores": "helpfulness"},
    ),
    "a vote in words": (
        [{"prompt": "Q", "response_a": "good", "response_b": "bad", "winner": "A"}],
        {"prompt": "prompt", "answers": ["response_a", "response_b"], "vote": "winner"},
    ),
    "a vote in published numbers": (
        [{"history": "Q", "human_ref_A": "bad", "human_ref_B": "good", "labels": 0},
         {"history": "Q2", "human_ref_A": "good", "human_ref_B": "bad", "labels": 1}],
        {"prompt": "history", "answers": ["human_ref_A", "human_ref_B"], "vote": "labels", "first": "1", "second": "0"},
    ),
    "strengths": (
        [{"prompt": "Q", "response_1": "good", "response_2": "bad", "preference_strength": -2},
         {"prompt": "R", "response_1": "bad", "response_2": "good", "preference_strength": 1}],
        {"converter": "voted"},
    ),
    "labelled answers": (
        [{"prompt": "Q", "completion": "good", "label": True}, {"prompt": "Q", "completion": "bad", "label": False}],
        {"prompt": "prompt", "answer": "completion", "label": "label", "good": "true", "bad": "false"},
    ),
    "annotated tasks": (
        [{"data": {"prompt": "Q", "answer1": "good", "answer2": "bad"}, "annotations": [
            {"result": [{"type": "pairwise", "to_name": "answer1,answer2", "value": {"selected": "left"}}]}]}],
        {"converter": "label-studio"},
    ),
}  # fmt: skip


def described(source: Path, capsys: pytest.CaptureFixture[str], **options: Any) -> tuple[dict[str, Any], str]:
    """Return the keys that `--describe` prints, and its text."""
    capsys.readouterr()
    prepare(source=source, describe=True, **options)
    text = capsys.readouterr().out
    return yaml.safe_load(text), text


@pytest.mark.parametrize("name", SHAPES)
def test_a_detected_format_is_described_by_its_columns(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, keys = SHAPES[name]
    source = tmp_path / "raw.jsonl"
    source.write_bytes(lines(rows * 2))
    made, _ = described(source, capsys)
    assert made == {"source": str(source), **keys}
    prepare(source=source, output_dir=tmp_path / "detected", test_size=0)
    prepare(**made, output_dir=tmp_path / "described", test_size=0)
    assert load_preferences(tmp_path / "detected")["train"][:] == load_preferences(tmp_path / "described")["train"][:]


def test_the_first_rows_are_shown_as_they_will_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": f"Q{n}\nmore", "chosen": "x" * 99, "rejected": "bad"} for n in range(5)]
    (tmp_path / "raw.jsonl").write_bytes(lines([*rows[:1], {"prompt": "Q", "chosen": None, "rejected": "bad"}, *rows]))
    _, text = described(tmp_path / "raw.jsonl", capsys)
    shown = [line for line in text.splitlines() if line.startswith("#")]
    assert shown[0] == f"# [user] Q0 more -> chosen: [assistant] {'x' * 60}… | rejected: [assistant] bad"
    assert shown[1] == "# dropped: missing_field"
    assert len(shown) == 3


def test_prepare_itself_shows_what_it_detected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines([{"instruction": "Q", "output": ["good", "bad"]}]))
    prepare(source=tmp_path / "raw.jsonl", output_dir=tmp_path / "out", test_size=0)
    told = capsys.readouterr().err
    assert "\n  prompt: instruction\n  chosen: output.0\n  rejected: output.1\n  # [user] Q -> chosen:" in told


UNKNOWN: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"one": "x", "other one": "y"}, {"prompt": "...", "chosen": "...", "rejected": "..."}),
    ({"a": "x", "b": "y"}, {"prompt": "...", "answers": ["a", "b"], "vote": "..."}),
    ({"request": "Q", "good": "x", "bad": "y"}, {"prompt": "request", "chosen": "good", "rejected": "bad"}),
    (
        {"request": "Q", "reply_1": "x", "reply_2": "y", "verdict": 7},
        {"prompt": "request", "answers": ["reply_1", "reply_2"], "vote": "verdict", "first": "...", "second": "..."},
    ),
]


@pytest.mark.parametrize(("row", "keys"), UNKNOWN)
def test_what_is_not_known_is_marked(
    row: dict[str, Any], keys: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines([row] * 3))
    made, text = described(tmp_path / "raw.jsonl", capsys)
    assert made == {"source": str(tmp_path / "raw.jsonl"), **keys}
    assert text.count("# needed") == list(keys.values()).count("...")


def test_files_of_different_shapes_are_described_one_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "a.jsonl").write_bytes(lines([{"prompt": "Q", "chosen": "good", "rejected": "bad"}]))
    (raw / "b.jsonl").write_bytes(lines([{"instruction": "R", "output": ["good", "bad"]}]))
    made, _ = described(raw, capsys)
    assert [(Path(item["path"]).name, item["prompt"]) for item in made["sources"]] == [
        ("a.jsonl", "prompt"),
        ("b.jsonl", "instruction"),
    ]
    manifest = prepare(**made, output_dir=tmp_path / "out", test_size=0)
    assert manifest.funnel.kept == 2


def test_of_several_descriptions_each_names_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines([{"prompt": "Q", "chosen": "good", "rejected": "bad"}]))
    (tmp_path / "b.jsonl").write_bytes(lines([{"instruction": "R", "output": ["good", "bad"]}]))
    prepare(source=[tmp_path / "a.jsonl", tmp_path / "b.jsonl"], output_dir=tmp_path / "out", test_size=0)
    told = capsys.readouterr().err
    assert "\na.jsonl:\n  prompt: prompt\n" in told and "\nb.jsonl:\n  prompt: instruction\n" in told


def test_of_two_formats_the_one_that_uses_more_comes_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = [{"response": "bad", "score": 1}, {"response": "good", "score": 2}]
    row = {"prompt": "Q", "completions": answers, "completion": "good", "label": True}
    (tmp_path / "raw.jsonl").write_bytes(lines([row, {**row, "completion": "bad", "label": False}]))
    made, text = described(tmp_path / "raw.jsonl", capsys)
    assert made["answer"] == "completion" and "# or:\n# prompt: prompt\n# answers: completions[].response" in text


def test_a_description_that_was_given_is_shown_with_its_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "raw.jsonl").write_bytes(lines([{"q": {"t": "Q"}, "a": "x", "b": "y", "v": 2}]))
    options: dict[str, Any] = {"prompt": "q.t", "answers": ["a", "b"], "vote": "v", "first": 1, "second": 2}
    made, text = described(tmp_path / "raw.jsonl", capsys, **options)
    assert made == {"source": str(tmp_path / "raw.jsonl"), **options, "first": "1", "second": "2"}
    assert "# [user] Q -> chosen: [assistant] y | rejected: [assistant] x" in text
