"""What each format reads in rows, as the columns of a description; None where columns cannot say it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hubdpo.data.converters.formats import conversations, preference, scored, unpaired, voted
from hubdpo.data.converters.prompts import WITH_INPUT
from hubdpo.data.converters.vote_columns import vote_column
from hubdpo.data.pairs.example import Row
from hubdpo.data.pairs.messages import first_of

Keys = dict[str, Any]
"""The keys of a description with their values, as in YAML."""


def _named(rows: Sequence[Row], names: Sequence[str]) -> str | None:
    """Return the first of these columns that has a value in a row."""
    return next((name for name in names if any(row.get(name) is not None for row in rows)), None)


def _prompt(rows: Sequence[Row], names: Sequence[str]) -> Any:
    name = _named(rows, names)
    if name in WITH_INPUT and any(row.get("input") for row in rows):
        return [name, "input"]
    if name and any(isinstance(value := row.get(name), dict) and "full_text" in value for row in rows):
        return f"{name}.full_text"
    return name


def _complete(keys: Keys) -> Keys | None:
    """Return the keys, or None if a column was not found."""
    missing = any(value is None or (isinstance(value, list) and None in value) for value in keys.values())
    return None if missing else keys


def _pair(rows: Sequence[Row], names: preference.Names) -> Keys | None:
    prompts, chosen, rejected = names
    keys = {"prompt": _prompt(rows, prompts), "chosen": _named(rows, chosen), "rejected": _named(rows, rejected)}
    return _complete(keys)


def _alpaca(rows: Sequence[Row]) -> Keys | None:
    if all(first_of(row, preference.ALPACA_CHOSEN) is None for row in rows):
        return _complete(
            {"prompt": _prompt(rows, preference.INSTRUCTIONS), "chosen": "output.0", "rejected": "output.1"}
        )
    return _pair(rows, (preference.INSTRUCTIONS, preference.ALPACA_CHOSEN, preference.REJECTED))


def _whole(rows: Sequence[Row]) -> Keys | None:
    return _complete({"chosen": _named(rows, conversations.CHOSEN), "rejected": _named(rows, conversations.REJECTED)})


def _sharegpt(rows: Sequence[Row]) -> Keys | None:
    turns = _named(rows, conversations.CONVERSATIONS)
    chosen, rejected = _named(rows, conversations.CHOSEN_ANSWER), _named(rows, conversations.OTHER_ANSWER)
    if chosen is None:
        return _complete({"chosen": turns, "rejected": rejected})
    return _complete({"prompt": turns, "chosen": chosen, "rejected": rejected})


def _list(lists: scored.ScoredList, prompts: Sequence[str], points: str) -> Callable[[Sequence[Row]], Keys | None]:
    """Return the description of a list of answers, with `points` of each: `scores` or `ranks`."""

    def keys(rows: Sequence[Row]) -> Keys | None:
        if (name := _named(rows, lists.answers)) is None:
            single = {"answer": "response", "scores": scored.HELPSTEER[0]}
            return _complete({"prompt": _prompt(rows, prompts), **single}) if points == "scores" else None
        items = [item for row in rows for item in (row.get(name) or []) if isinstance(item, dict)]
        if not items:
            of_answers = {"answers": name, points: _named(rows, lists.score_lists)}
            return _complete({"prompt": _prompt(rows, prompts), **of_answers})
        text, score = _named(items, lists.texts), _named(items, lists.scores)
        if text is None or score is None:
            return None
        return _complete({"prompt": _prompt(rows, prompts), "answers": f"{name}[].{text}", points: f"{name}[].{score}"})

    return keys


def _voted(rows: Sequence[Row]) -> Keys | None:
    sides, vote = voted.answer_columns(rows[0]), vote_column(rows[0])
    if sides is None or vote is None or sides[0].startswith("conversation"):
        return None
    return _complete({"prompt": _prompt(rows, voted.PROMPTS), "answers": [*sides], "vote": vote})


def _unpaired(rows: Sequence[Row]) -> Keys | None:
    label = unpaired.label_column(rows[0])
    if turns := _named(rows, unpaired.CONVERSATIONS):
        return _complete({"answer": turns, "label": label})
    answer = _named(rows, unpaired.ANSWERS)
    return _complete({"prompt": _prompt(rows, unpaired.PROMPTS), "answer": answer, "label": label})


_OPENAI = dict(zip(("chosen", "rejected"), preference.OPENAI_ANSWERS, strict=True))
COLUMNS: dict[str, Callable[[Sequence[Row]], Keys | None]] = {
    "preference": lambda rows: _pair(rows, (("prompt",), preference.CHOSEN, preference.REJECTED)),
    "stack-exchange-paired": lambda rows: _pair(rows, preference.STACK_EXCHANGE),
    "alpaca": _alpaca,
    "openai": lambda rows: {"prompt": "input.messages", **_OPENAI},
    "implicit-prompt": _whole,
    "hh-rlhf": _whole,
    "sharegpt": _sharegpt,
    "scored": _list(scored.LISTS, scored.PROMPTS, "scores"),
    "ranked": _list(scored.RANKED_LISTS, scored.RANKED_PROMPTS, "ranks"),
    "voted": _voted,
    "unpaired": _unpaired,
}
