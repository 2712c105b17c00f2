"""Every shape that people have, in its published schema: found, converted, and every row accounted for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hubdpo import load_preferences, prepare
from hubdpo.data.converters import CONVERTERS, ConvertOptions
from hubdpo.data.converters.vote_words import parse_labels
from hubdpo.data.pairs.example import PreferenceExample, Rejection
from hubdpo.errors import ConfigError, DataError
from tests.data.made import find_converter

FIXTURES = Path(__file__).parent / "fixtures"
GOOD = {
    "Air scatters short waves more than long ones.", "Seven minutes for a firm yolk.", "每天读一点，多听多说。",
    "Rhine, Nile and Amazon.", "A number above 1 with two divisors.", "Goethe did.", "1",
}  # fmt: skip
SHAPES: dict[str, tuple[str, int, int, int, dict[str, int]]] = {
    # file: converter, read, kept, joined, dropped
    "alpaca": ("alpaca", 6, 6, 0, {}),
    "alpaca-output": ("alpaca", 6, 6, 0, {}),
    "orca-dpo-pairs": ("alpaca", 6, 6, 0, {}),
    "distilabel-orca": ("alpaca", 7, 6, 0, {"tie": 1}),
    "chatbot-arena": ("voted", 10, 6, 0, {"histories_differ": 1, "tie": 3}),
    "kaggle-arena": ("voted", 8, 6, 0, {"missing_field": 1, "tie": 1}),
    "helpsteer2-preference": ("voted", 7, 6, 0, {"tie": 1}),
    "helpsteer3": ("voted", 7, 6, 0, {"tie": 1}),
    "pairwise-judge": ("voted", 9, 6, 0, {"tie": 1, "unknown_label": 1, "wrong_type": 1}),
    "shp": ("voted", 6, 6, 0, {}),
    "helpsteer2": ("scored", 15, 6, 6, {"tie": 2, "unpaired": 1}),
    "ultrafeedback": ("scored", 8, 6, 0, {"single_answer": 1, "tie": 1}),
    "scored-lists": ("scored", 7, 6, 0, {"lists_differ": 1}),
    "nectar": ("ranked", 6, 6, 0, {}),
    "nemo-rl-ranked": ("ranked", 6, 6, 0, {}),
    "kto": ("unpaired", 16, 6, 6, {"contradiction": 2, "duplicate_row": 1, "unpaired": 1}),
    "llamafactory-kto": ("unpaired", 12, 6, 6, {}),
    "preference": (
        "preference", 11, 6, 0, {"contradiction": 2, "duplicate_pair": 1, "identical_answers": 1, "malformed_line": 1}
    ),
    "implicit-prompt": ("implicit-prompt", 7, 6, 0, {"histories_differ": 1}),
    "hh-rlhf": ("hh-rlhf", 8, 6, 0, {"empty_answer": 1, "histories_differ": 1}),
    "stack-exchange-paired": ("stack-exchange-paired", 7, 6, 0, {"identical_answers": 1}),
    "sharegpt": ("sharegpt", 7, 6, 0, {"unknown_role": 1}),
    "openai": ("openai", 7, 7, 0, {}),
    "label-studio": ("label-studio", 8, 6, 0, {"missing_field": 1, "tie": 1}),
    "safe-rlhf": ("voted", 7, 6, 0, {"unknown_label": 1}),
    "summaries": ("voted", 6, 6, 0, {}),
    "auto-j": ("voted", 7, 6, 0, {"tie": 1}),
    "webgpt": ("voted", 7, 6, 0, {"tie": 1}),
    "judgebench": ("voted", 6, 6, 0, {}),
    "pandalm": ("voted", 7, 6, 0, {"tie": 1}),
    "mt-bench": ("voted", 7, 6, 0, {"tie": 1}),
    "swift": ("sharegpt", 6, 6, 0, {}),
    "swift-messages": ("sharegpt", 6, 6, 0, {}),
    "llamafactory-v1": ("implicit-prompt", 6, 6, 0, {}),
    "responses-and-scores": ("scored", 6, 6, 0, {}),
}  # fmt: skip


def make(tmp_path: Path, name: str, **options: Any) -> Any:
    return prepare(source=[str(FIXTURES / f"{name}.jsonl")], output_dir=tmp_path / "out", test_size=0, **options)


@pytest.mark.parametrize("name", SHAPES)
def test_each_published_schema_is_found_and_counted(tmp_path: Path, name: str) -> None:
    manifest = make(tmp_path, name)
    funnel = manifest.funnel
    found = (manifest.converter, funnel.read, funnel.kept, funnel.joined, funnel.dropped)
    assert found == SHAPES[name]
    assert funnel.adds_up()


@pytest.mark.parametrize("name", [name for name in SHAPES if name != "preference"])
def test_the_better_answer_is_chosen(tmp_path: Path, name: str) -> None:
    make(tmp_path, name)
    chosen = {row["chosen"][-1]["content"] for row in load_preferences(tmp_path / "out")["train"]}
    assert chosen <= GOOD


def test_no_fixture_is_left_out() -> None:
    assert {path.stem for path in FIXTURES.glob("*.jsonl")} == set(SHAPES)


@pytest.mark.parametrize(
    ("pairs", "kept", "added", "dropped"),
    [
        ("best-worst", 6, 0, {"single_answer": 1, "tie": 1}),
        ("adjacent", 12, 12, {"single_answer": 1, "tie": 7}),
        ("all", 30, 30, {"single_answer": 1, "tie": 7}),
    ],
)
def test_which_pairs_several_answers_give(
    tmp_path: Path, pairs: str, kept: int, added: int, dropped: dict[str, int]
) -> None:
    funnel = make(tmp_path, "ultrafeedback", pairs=pairs).funnel
    assert (funnel.kept, funnel.added, funnel.dropped) == (kept, added, dropped)
    assert funnel.adds_up()


def test_a_least_margin_leaves_slight_preferences_out(tmp_path: Path) -> None:
    assert make(tmp_path, "helpsteer3", min_margin=3).funnel.dropped == {"below_margin": 3, "tie": 1}


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ("best-worst", [(1, 2)]),
        ("adjacent", [(1, 0), (0, 3), (3, 2)]),
        ("all", [(1, 0), (1, 3), (1, 2), (0, 3), (0, 2), (3, 2)]),
    ],
)
def test_candidates_go_from_better_to_worse(pairs: Any, expected: list[tuple[int, int]]) -> None:
    assert list(ConvertOptions(pairs).candidates([5, 9, 1, 5])) == expected


def test_a_score_can_be_named(tmp_path: Path) -> None:
    by_verbosity = find_converter("scored").bind(ConvertOptions(score_field="b"))
    row = {"prompt": "q", "completions": [{"response": "x", "a": 9, "b": 1}, {"response": "y", "a": 1, "b": 9}]}
    (pair,) = by_verbosity(row)  # type: ignore[misc]
    assert isinstance(pair, PreferenceExample)
    assert pair.chosen[0]["content"] == "y"


def test_negative_scores_are_compared_by_value() -> None:
    row = {"prompt": "q", "responses": ["worst", "best", "middle"], "scores": [-9, -1, -5.5]}
    (pair,) = find_converter("scored").bind(ConvertOptions(min_margin=8))(row)  # type: ignore[misc]
    assert isinstance(pair, PreferenceExample)
    assert (pair.chosen[0]["content"], pair.rejected[0]["content"]) == ("best", "worst")
    (close,) = find_converter("scored").bind(ConvertOptions(min_margin=8.5))(row)  # type: ignore[misc]
    assert isinstance(close, Rejection)
    assert close.reason == "below_margin"


def test_a_vote_named_label_is_never_guessed(tmp_path: Path) -> None:
    (tmp_path / "raw.jsonl").write_text('{"prompt": "q", "response_a": "x", "response_b": "y", "label": 0}\n')
    with pytest.raises(DataError, match="nothing says which answer a vote of `label` prefers: its values are `0`"):
        prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out")


@pytest.mark.parametrize(("labels", "chosen"), [("first=0,second=1", "x"), ("first=1,second=0", "y")])
def test_the_meaning_of_a_vote_can_be_said(tmp_path: Path, labels: str, chosen: str) -> None:
    (tmp_path / "raw.jsonl").write_text('{"prompt": "q", "response_a": "x", "response_b": "y", "label": 0}\n')
    prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", labels=labels, test_size=0)
    assert load_preferences(tmp_path / "out")["train"][0]["chosen"][0]["content"] == chosen


@pytest.mark.parametrize("text", ["", "first=1", "first=1,second=1", "first=1,second=2,draw=0"])
def test_labels_must_name_both_sides(text: str) -> None:
    with pytest.raises(ConfigError, match="--labels"):
        parse_labels(text)


def test_both_meanings_of_the_lists_inside_the_kaggle_file() -> None:
    row = {
        "prompt": '["a", "b"]', "response_a": '["same", "x"]', "response_b": '["same", "y"]',
        "winner_model_a": 0, "winner_model_b": 1, "winner_tie": 0,
    }  # fmt: skip
    pair = find_converter("voted").bind(ConvertOptions())(row)
    assert isinstance(pair, PreferenceExample)
    assert [message["content"] for message in pair.prompt] == ["a", "same", "b"]
    assert pair.chosen[0]["content"] == "y"


@pytest.mark.parametrize(
    ("name", "row", "reason"),
    [
        ("scored", {"prompt": "q", "completions": [{"response": "x"}, {"response": "y"}]}, "unscored"),
        ("scored", {"prompt": "q", "responses": ["x", "y"], "ratings": ["high", "low"]}, "wrong_type"),
        ("scored", {"prompt": "q", "completions": "x"}, "wrong_type"),
        ("ranked", {"prompt": "q", "answers": [{"answer": "x", "rank": 1}, {"answer": "y"}]}, "unscored"),
        ("ranked", {"prompt": "q", "answers": [{"answer": "x", "rank": True}, {"answer": "y"}]}, "wrong_type"),
        ("voted", {"prompt": "q", "response_a": "x", "response_b": "y", "winner": "model_c"}, "unknown_label"),
        ("voted", {"prompt": "q", "response_a": "x", "response_b": "y", "winner": None}, "missing_field"),
        ("voted", {"prompt": "q", "human_ref_A": "x", "human_ref_B": "y", "labels": 2}, "unknown_label"),
        ("unpaired", {"prompt": "q", "completion": "x", "label": 3}, "unknown_label"),
        ("unpaired", {"messages": [{"role": "user", "content": "q"}], "label": True}, "does_not_end_with_assistant"),
        ("alpaca", {"instruction": "q", "output": ["x"]}, "wrong_type"),
        ("alpaca", {"instruction": "q", "chosen": "x", "rejected": "y", "history": [["only"]]}, "wrong_type"),
        ("openai", {"input": {"messages": "q"}, "preferred_output": [], "non_preferred_output": []}, "wrong_type"),
    ],
)  # fmt: skip
def test_a_row_that_is_not_of_its_shape_has_its_reason(name: str, row: dict[str, Any], reason: str) -> None:
    with pytest.raises(Rejection) as caught:
        list(find_converter(name).bind(ConvertOptions())(row))  # type: ignore[arg-type]  # a converter of several is lazy
    assert caught.value.reason == reason


def test_typed_parts_of_text_are_joined_and_others_refused() -> None:
    part = {"type": "text", "text": "one "}
    row = {"prompt": [{"role": "user", "content": [part, part]}], "chosen": "x", "rejected": "y"}
    pair = CONVERTERS["preference"].convert(row)
    assert isinstance(pair, PreferenceExample)
    assert pair.prompt[0]["content"] == "one one "
    row["prompt"][0]["content"].append({"type": "image"})  # type: ignore[index, union-attr]
    with pytest.raises(Rejection, match="images"):
        CONVERTERS["preference"].convert(row)


def test_rows_with_one_answer_among_rows_with_several_are_told(tmp_path: Path) -> None:
    lines = (FIXTURES / "ultrafeedback.jsonl").read_text() + (FIXTURES / "helpsteer2.jsonl").read_text()
    (tmp_path / "raw.jsonl").write_text(lines)
    manifest = prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", converter="scored")
    assert manifest is not None
    assert manifest.funnel.dropped["mixed_shapes"] == 15


def test_attribution_columns_are_kept_where_the_licence_asks(tmp_path: Path) -> None:
    make(tmp_path, "stack-exchange-paired", card="stack-exchange-paired")
    row = load_preferences(tmp_path / "out")["train"][0]
    assert row["metadata"].startswith('["https://example.org/q/')
    assert {"qid", "date"} <= row.keys()


def test_answers_that_happen_to_be_json_stay_text(tmp_path: Path) -> None:
    (tmp_path / "raw.jsonl").write_text('{"prompt": "q", "chosen": "[1, 2]", "rejected": "{\\"a\\": 1}"}\n')
    prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", test_size=0)
    assert load_preferences(tmp_path / "out")["train"][0]["chosen"][0]["content"] == "[1, 2]"
