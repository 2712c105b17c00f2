"""`label-studio`: pairwise comparison tasks as Label Studio exports them (JSON)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from hubdpo.data.converters.contract import Converter
from hubdpo.data.converters.formats.voted import PROMPTS
from hubdpo.data.converters.pairing import ConvertOptions
from hubdpo.data.converters.prompts import SYSTEM, read_prompt_of
from hubdpo.data.converters.vote_columns import check_margin, winner_first
from hubdpo.data.pairs.example import PreferenceExample, Rejection, Row
from hubdpo.data.pairs.messages import first_of

SIGN = {"left": 1, "right": -1}


class Comparison(NamedTuple):
    """One annotator's choice between two members of the task's `data`."""

    left: str
    right: str
    selected: str


def detect(row: Row) -> bool:
    return isinstance(row.get("data"), dict) and next(_comparisons(row), None) is not None


def convert(row: Row, how: ConvertOptions) -> PreferenceExample:
    """Convert a task; the majority of its annotators decides."""
    votes: Counter[tuple[str, str]] = Counter()
    for comparison in _comparisons(row):
        votes[comparison.left, comparison.right] += SIGN.get(comparison.selected, 0)
    if not votes or not isinstance(row.get("data"), dict):
        raise Rejection("missing_field")
    if len(votes) > 1:
        raise Rejection("wrong_type")
    (((left, right), total),) = votes.items()
    vote = check_margin(float(total), how)
    data = row["data"]
    return winner_first(vote, read_prompt_of(data, PROMPTS).pair(data.get(left), data.get(right)))


def _comparisons(row: Row) -> Iterator[Comparison]:
    """Yield the comparisons of all annotations that were not cancelled."""
    annotations = first_of(row, ("annotations", "completions"))
    for annotation in annotations if isinstance(annotations, list) else []:
        if not isinstance(annotation, dict) or annotation.get("was_cancelled"):
            continue
        results = annotation.get("result")
        for result in results if isinstance(results, list) else []:
            if not isinstance(result, dict) or result.get("type") != "pairwise":
                continue
            value, names = result.get("value"), str(result.get("to_name")).split(",")
            if isinstance(value, dict) and isinstance(value.get("selected"), str) and len(names) == 2:
                yield Comparison(names[0], names[1], value["selected"])


CONVERTER = Converter(
    "label-studio",
    "annotated comparisons",
    detect,
    convert,
    reads=("data", ("annotations", "completions"), SYSTEM),
    options=("min_margin",),
)
