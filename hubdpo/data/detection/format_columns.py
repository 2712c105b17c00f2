"""What each format reads in rows, as the columns of a description; None where one is not found or cannot say it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from hubdpo.data.converters.formats import conversations, preference, scored, unpaired, voted
from hubdpo.data.converters.prompts import WITH_INPUT
from hubdpo.data.converters.vote_columns import vote_column
from hubdpo.data.pairs.example import Row
from hubdpo.data.pairs.messages import first_of

Keys = dict[str, Any]
"""The keys of a description with their values, as in YAML."""


def _named(rows: Sequence[Row], names: Sequence[str]) -> str | None:
    return next((name for name in names if any(row.get(name) is not None for row in rows)), None)


def _prompt(rows: Sequence[Row], names: Sequence[str]) -> Any:
    name = _named(rows, names)
    if name in WITH_INPUT and any(row.get("input") for row in rows):
        return [name, "input"]
    if name and any(isinstance(value := row.get(name), dict) and "full_text" in value for row in rows):
        return f"{name}.full_text"
    return name


def _pair(rows: Sequence[Row], names: preference.Names) -> Keys:
    prompts, chosen, rejected = names
    return {"prompt": _prompt(rows, prompts), "chosen": _named(rows, chosen), "rejected": _named(rows, rejected)}


def _alpaca(rows: Sequence[Row]) -> Keys:
    if all(first_of(row, preference.ALPACA_CHOSEN) is None for row in rows):
        return {"prompt": _prompt(rows, preference.INSTRUCTIONS), "chosen": "output.0", "rejected": "output.1"}
    return _pair(rows, (preference.INSTRUCTIONS, preference.ALPACA_CHOSEN, preference.REJECTED))


def _whole(rows: Sequence[Row]) -> Keys:
    return {"chosen": _named(rows, conversations.CHOSEN), "rejected": _named(rows, conversations.REJECTED)}


def _sharegpt(rows: Sequence[Row]) -> Keys:
    turns = _named(rows, conversations.CONVERSATIONS)
    chosen, rejected = _named(rows, conversations.CHOSEN_ANSWER), _named(rows, conversations.OTHER_ANSWER)
    if chosen is None:
        return {"chosen": turns, "rejected": rejected}
    return {"prompt": turns, "chosen": chosen, "rejected": rejected}


def _list(rows: Sequence[Row], lists: scored.ScoredList, prompts: Sequence[str], points: str) -> Keys | None:
    """Describe lists of answers, with `points` of each: `scores` or `ranks`."""
    prompt, name = {"prompt": _prompt(rows, prompts)}, _named(rows, lists.answers)
    if name is None:
        return {**prompt, "answer": "response", "scores": scored.HELPSTEER[0]} if points == "scores" else None
    items = [item for row in rows for item in (row.get(name) or []) if isinstance(item, dict)]
    if not items:
        return {**prompt, "answers": name, points: _named(rows, lists.score_lists)}
    text, score = _named(items, lists.texts), _named(items, lists.scores)
    return None if None in (text, score) else {**prompt, "answers": f"{name}[].{text}", points: f"{name}[].{score}"}


def _voted(rows: Sequence[Row]) -> Keys | None:
    sides, vote = voted.answer_columns(rows[0]), vote_column(rows[0])
    if sides is None or sides[0].startswith("conversation"):
        return None
    return {"prompt": _prompt(rows, voted.PROMPTS), "answers": [*sides], "vote": vote}


def _unpaired(rows: Sequence[Row]) -> Keys:
    label = unpaired.label_column(rows[0])
    if turns := _named(rows, unpaired.CONVERSATIONS):
        return {"answer": turns, "label": label}
    answer = _named(rows, unpaired.ANSWERS)
    return {"prompt": _prompt(rows, unpaired.PROMPTS), "answer": answer, "label": label}


_OPENAI = dict(zip(("chosen", "rejected"), preference.OPENAI_ANSWERS, strict=True))
COLUMNS: dict[str, Callable[[Sequence[Row]], Keys | None]] = {
    "preference": lambda rows: _pair(rows, (("prompt",), preference.CHOSEN, preference.REJECTED)),
    "stack-exchange-paired": lambda rows: _pair(rows, preference.STACK_EXCHANGE),
    "alpaca": _alpaca,
    "openai": lambda rows: {"prompt": "input.messages", **_OPENAI},
    "implicit-prompt": _whole,
    "hh-rlhf": _whole,
    "sharegpt": _sharegpt,
    "scored": partial(_list, lists=scored.LISTS, prompts=scored.PROMPTS, points="scores"),
    "ranked": partial(_list, lists=scored.RANKED_LISTS, prompts=scored.RANKED_PROMPTS, points="ranks"),
    "voted": _voted,
    "unpaired": _unpaired,
}
