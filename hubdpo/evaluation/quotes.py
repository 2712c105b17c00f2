"""Draw the answers that a card quotes, where the publisher consents: by chance, free of credentials, and short."""

from __future__ import annotations

import random
from collections.abc import Sequence

from hubdpo.artefacts.formats.bounded import shortened
from hubdpo.artefacts.manifests.answered import Answered
from hubdpo.artefacts.manifests.quoted import Quote, Quoted
from hubdpo.evaluation.answers import SEED
from hubdpo.evaluation.judge.comparison import in_words
from hubdpo.secrets import find_secrets, redact

QUOTES = 4
LONGEST = 1_500
"""Characters of a prompt or an answer that are quoted."""


def quotes_of(answered: Sequence[Answered], weights: str | None) -> Quoted:
    """Return a few of the answers, drawn with a fixed seed, in the order of the rows."""
    drawn = random.Random(SEED).sample(range(len(answered)), min(QUOTES, len(answered)))
    quotes = [
        Quote(
            prompt=_quoted(in_words(each)), base=_quoted(each.base.text), adapter=_quoted(each.adapter.text),
            outcome=each.verdict.outcome if each.verdict is not None else None,
        )
        for each in (answered[place] for place in sorted(drawn))
    ]  # fmt: skip
    return Quoted(of=len(answered), seed=SEED, weights=weights, quotes=quotes)


def _quoted(text: str) -> str:
    return shortened(redact(text, find_secrets(text)), LONGEST)
