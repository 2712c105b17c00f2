"""Argilla's exports, lists of answers, and ids in a ranking: beyond what the table of published shapes shows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hubdpo.data.converters import CONVERTERS, ConvertOptions
from hubdpo.data.pairs.example import PreferenceExample, Rejection
from tests.data.made import detect


def pairs(name: str, row: dict[str, Any], **options: Any) -> list[Any]:
    """Return (chosen, rejected) or the reason of each pair of a row."""
    converted: Any = CONVERTERS[name].convert(row, ConvertOptions(**options))
    return [
        item.reason if isinstance(item, Rejection) else (item.chosen[0]["content"], item.rejected[0]["content"])
        for item in ([converted] if isinstance(converted, PreferenceExample) else converted)
    ]


THREE = {"prompt": "q", "response-1": "a", "response-2": "b", "response-3": "c"}


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"ranking.responses": [["response-2", "response-3", "response-1"]]}, [("b", "a")]),
        ({"mine.responses": [["response-2", "response-3", "response-1"]]}, [("b", "a")]),
        (  # two of three annotators agree
            {
                "ranking.responses": [
                    ["response-1", "response-2", "response-3"], ["response-3", "response-2", "response-1"],
                    ["response-3", "response-2", "response-1"],
                ]
            },
            [("c", "a")],
        ),
        (  # what was thrown away does not count
            {
                "ranking.responses": [
                    ["response-1", "response-2", "response-3"], ["response-3", "response-2", "response-1"],
                ],
                "ranking.responses.status": ["discarded", "submitted"],
            },
            [("c", "a")],
        ),
        (  # a suggestion counts only where nobody answered
            {
                "ranking.responses": [["response-1", "response-2", "response-3"]],
                "ranking.suggestion": ["response-3", "response-2", "response-1"],
            },
            [("a", "c")],
        ),
        (
            {
                "ranking": [
                    {"user_id": "u", "value": [{"rank": 2, "value": "response-1"}, {"rank": 1, "value": "response-3"}]}
                ]
            },
            [("c", "a")],
        ),
        (
            {f"response-{n}-rating.responses": [rating] for n, rating in ((1, 3), (2, 5), (3, 1))},
            [("b", "c")],
        ),
        (  # other questions are no judgement of the answers
            {
                "ranking.responses": [["response-2", "response-3", "response-1"]], "why.responses": ["it is short"],
                "topics.responses": [["math"]],
            },
            [("b", "a")],
        ),
    ],
)  # fmt: skip
def test_annotations_of_argilla_are_put_together(columns: dict[str, Any], expected: list[Any]) -> None:
    row = {**THREE, **columns}
    assert CONVERTERS["argilla"].detect(row)
    assert pairs("argilla", row) == expected


RECORD = {"fields": {"prompt": "q", "response-1": "a", "response-2": "b"}}
RANKING = [{"rank": 2, "value": "response-1"}, {"rank": 1, "value": "response-2"}]


@pytest.mark.parametrize(
    "held",
    [
        {"responses": [{"user_id": "u", "status": "submitted", "values": {"mine": {"value": RANKING}}}]},
        {  # what was thrown away does not count
            "responses": [
                {"status": "discarded", "values": {"rating-1": {"value": 9}}},
                {"status": "submitted", "values": {"rating-1": {"value": 1}, "rating-2": {"value": 4}}},
            ]
        },
        {"responses": [], "suggestions": [{"question_name": "mine", "type": "model", "value": RANKING}]},
        {"responses": {}, "suggestions": {"mine": {"value": RANKING}}},
    ],
)
def test_records_of_argilla_list_what_each_annotator_answered(held: dict[str, Any]) -> None:
    assert CONVERTERS["argilla"].detect({**RECORD, **held})
    assert pairs("argilla", {**RECORD, **held}) == [("b", "a")]


@pytest.mark.parametrize(
    ("names", "judged"),
    [
        (("generation-0", "generation-1"), {"rating-0.suggestion": 2, "rating-1.suggestion": 5, "rationale-0.x": "y"}),
        (("generations-1", "generations-2"), {"generations-1-rating.responses": [1], "rating-2.responses": [2]}),
    ],
)
def test_generations_of_distilabel_are_answers(names: tuple[str, str], judged: dict[str, Any]) -> None:
    row = {"instruction": "q", names[0]: "a", names[1]: "b", **judged}
    assert CONVERTERS["argilla"].detect(row)
    assert pairs("argilla", row) == [("b", "a")]


def test_scored_outputs_of_lmflow_are_answers() -> None:
    row = {"input": "q", "output": [{"text": "a", "score": 1.0}, {"text": "b", "score": 2.0}]}
    assert CONVERTERS["scored"].detect(row)
    assert pairs("scored", row) == [("b", "a")]


def test_a_choice_between_two_answers_is_a_vote() -> None:
    two = {name: value for name, value in THREE.items() if name != "response-3"}
    votes = {"better.responses": ["response-2", "response-1", "response-2"]}
    assert pairs("argilla", {**two, **votes}) == [("b", "a")]
    assert pairs("argilla", {**two, "better.responses": ["tie"]}) == ["tie"]


def test_answers_that_nobody_judged_are_no_pair() -> None:
    with pytest.raises(Rejection, match="unscored"):
        pairs("argilla", {**THREE, "ranking.responses": None, "ranking.suggestion": None})


LISTS = {"prompt": "q", "chosen": ["a", "b"], "rejected": ["c", "d", "e"]}


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("best-worst", [("a", "c"), ("b", "d"), "left_over"]),
        ("all", [(one, other) for one in "ab" for other in "cde"]),
    ],
)
def test_better_and_worse_answers_are_paired_in_order_or_all(how: str, expected: list[Any]) -> None:
    assert pairs("answer-lists", LISTS, pairs=how) == expected
    assert pairs("answer-lists", {**LISTS, "chosen": "a"}, pairs="all") == [("a", "c"), ("a", "d"), ("a", "e")]


def test_a_list_of_one_text_in_each_column_is_a_plain_pair() -> None:
    assert detect([{"prompt": "q", "chosen": ["a"], "rejected": ["b"]}]) == "preference"


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"responses": [{"id": 7, "text": "a"}, {"id": 8, "text": "b"}], "ranking": [8, 7]}, [("b", "a")]),
        ({"responses": {"x": "a", "y": "b", "z": "c"}, "ranking": ["y", "x", "z"]}, [("b", "c")]),
    ],
)
def test_a_ranking_lists_the_ids_of_the_answers_best_first(columns: dict[str, Any], expected: list[Any]) -> None:
    assert CONVERTERS["ranked"].detect({"prompt": "q", **columns})
    assert pairs("ranked", {"prompt": "q", **columns}) == expected


def test_a_ranking_of_other_ids_is_no_preference() -> None:
    with pytest.raises(Rejection, match="lists_differ"):
        pairs("ranked", {"prompt": "q", "responses": {"x": "a", "y": "b"}, "ranking": ["x", "z"]})


def test_numbers_that_may_be_places_or_ranks_are_not_guessed() -> None:
    assert not CONVERTERS["ranked"].detect({"prompt": "q", "responses": ["a", "b", "c"], "ranking": [2, 3, 1]})


def test_a_rated_summary_can_be_compared_by_another_axis() -> None:
    row = {"info": {"post": "q"}, "summary": {"text": "a", "axes": {"overall": 2, "accuracy": 7}}}
    scored: Any = CONVERTERS["scored"].convert(row, ConvertOptions(score_field="accuracy"))
    assert (scored.prompt[0]["content"], scored.score) == ("q", 7)


def test_tools_inside_a_conversation_object_are_kept() -> None:
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    row = {
        side: {"system": "s", "tools": tools, "messages": [{"role": "user", "content": "q"}, said]}
        for side in ("chosen", "rejected")
        for said in [{"role": "assistant", "content": side}]
    }
    pair: Any = CONVERTERS["implicit-prompt"].bind(ConvertOptions())(row)
    assert [message["content"] for message in pair.prompt] == ["s", "q"]
    assert json.loads(pair.tools) == tools
