"""`evaluation/answered.jsonl` of a run: held-out prompts with the answers of base and adapter, for those who read them.

The file is of the last evaluation, while `answers.jsonl` beside it keeps whatever was answered before. Both stay here,
since they hold rows of the dataset.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ValidationError

from hubdpo.artefacts.formats.bounded import check_size
from hubdpo.artefacts.manifests.manifest import EVALUATION_FOLDER, Count
from hubdpo.errors import ArtefactError

ANSWERED_FILE = f"{EVALUATION_FOLDER}/answered.jsonl"


class Said(BaseModel):
    """An answer, and what is told of it: whether it begins like a refusal, and its language where that is sure."""

    text: str
    tokens: Count
    ended: bool
    refuses: bool = False
    language: str | None = None


Outcome = Literal["adapter", "base", "tie", "equal", "order", "unparsed", "refused"]
"""Whose answer a judge finds better, a tie (also of equal answers, or because the order decides), or why it is open."""


class Verdict(BaseModel):
    """What came of a judge's comparison in both orders, and what it said in each; "" where it was not asked."""

    outcome: Outcome
    base_first: str = ""
    adapter_first: str = ""


class Answered(BaseModel):
    """A prompt, its row of the held-out split, and both answers."""

    row: Count
    prompt: list[dict[str, Any]]
    """Chat messages, as the dataset has them."""
    tools: list[Any] = []
    language: str | None = None
    """Of what the user said last."""
    base: Said
    adapter: Said
    verdict: Verdict | None = None
    """None without a judge."""


def to_lines(prompts: Iterable[Answered]) -> bytes:
    return b"".join(orjson.dumps(each.model_dump()) + b"\n" for each in prompts)


def from_lines(data: bytes) -> list[Answered]:
    """Read the lines of the file. Raise ArtefactError for anything that hubdpo does not write."""
    check_size(ANSWERED_FILE, len(data))
    found = []
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            found.append(Answered.model_validate(orjson.loads(line)))
        except (ValidationError, ValueError):
            raise ArtefactError(
                f"`{ANSWERED_FILE}`, line {number:,}: these are not two answers to a prompt", hint="evaluate again"
            ) from None
    return found
