"""`label-studio`: pairwise comparison tasks as Label Studio exports them (JSON)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from hubdpo.data.converters.contract import Converter, ConvertOptions
from hubdpo.data.converters.formats.voted import PROMPTS
from hubdpo.data.converters.prompts import SYSTEM, read_prompt_of
from hubdpo.data.converters.vote_columns import check_margin, winner_first
from hubdpo.data.converters.vote_words import Sides
from hubdpo.data.pairs.example import PreferenceExample, Rejection, Row
from hubdpo.data.pairs.messages import first_of

SIGN = {"left": 1, "right": -1}
READS = ("data", ("annotations", "completions"), SYSTEM)


def detect(row: Row) -> bool:
    return isinstance(row.get("data"), dict) and next(_comparisons(row), None) is not None


def convert(row: Row, how: ConvertOptions) -> PreferenceExample:
    """Convert a task; the majority of its annotators decides."""
    votes: Counter[Sides] = Counter()
    for sides, vote in _comparisons(row):
        votes[sides] += vote
    if not votes or not isinstance(row.get("data"), dict):
        raise Rejection("missing_field")
    if len(votes) > 1:
        raise Rejection("wrong_type")
    (((left, right), total),) = votes.items()
    majority = check_margin(float(total), how)
    data = row["data"]
    return winner_first(majority, read_prompt_of(data, PROMPTS).pair(data.get(left), data.get(right)))


def _comparisons(row: Row) -> Iterator[tuple[Sides, int]]:
    """Yield the two members of the task's `data`, and the vote, of each annotation that was not cancelled."""
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
                yield (names[0], names[1]), SIGN.get(value["selected"], 0)


LABEL_STUDIO = Converter("label-studio", "annotated comparisons", detect, convert, READS, options=("min_margin",))
