"""`label-studio`: tasks of a pairwise comparison, as Label Studio exports them (JSON)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from hubdpo.data.converters.asking import Reads, ask_row
from hubdpo.data.converters.choice import Choice
from hubdpo.data.converters.verdicts import Vote
from hubdpo.data.converters.voted import PROMPTS, checked, decided
from hubdpo.data.pairs.example import PreferenceExample, Rejection
from hubdpo.data.pairs.messages import first_of

READS: Reads = ("data", ("annotations", "completions"))
SELECTED = {"left": 1, "right": -1}


def detect(row: dict[str, Any]) -> bool:
    return isinstance(row.get("data"), dict) and next(_selections(row), None) is not None


def convert(row: dict[str, Any], how: Choice) -> PreferenceExample:
    """Convert a task; where several people compared, most of them decide."""
    votes: Counter[tuple[str, str]] = Counter()
    for sides, selected in _selections(row):
        votes[sides] += SELECTED.get(selected, 0)
    if not votes or not isinstance(row.get("data"), dict):
        raise Rejection("missing_field")
    if len(votes) > 1:
        raise Rejection("wrong_type")
    ((first, second), total) = next(iter(votes.items()))
    vote = checked(Vote(float(total)), how)
    data = row["data"]
    return decided(vote, ask_row(data, PROMPTS).pair(data.get(first), data.get(second)))


def _selections(row: dict[str, Any]) -> Iterator[tuple[tuple[str, str], str]]:
    """Give ((first, second), selected) of each comparison that was not cancelled."""
    tasks = first_of(row, ("annotations", "completions"))
    for task in tasks if isinstance(tasks, list) else []:
        if not isinstance(task, dict) or task.get("was_cancelled") or not isinstance(task.get("result"), list):
            continue
        for result in task["result"]:
            if not isinstance(result, dict) or result.get("type") != "pairwise":
                continue
            value, names = result.get("value"), str(result.get("to_name")).split(",")
            if isinstance(value, dict) and isinstance(value.get("selected"), str) and len(names) == 2:
                yield (names[0], names[1]), value["selected"]
