"""Choose the pairs that a dataset card shows, of those that were drawn: none that should not be read aloud."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from hubdpo.data.pairs.example import PreferenceExample
from hubdpo.secrets import find_secrets

SHOWN = 2
COARSE = re.compile(
    r"\b(?:(?:mother)?fuck|shit|bitch|cunt|whore|slut|porn|nigg|faggot|retard|rape|rapist|suicid|kill (?:your|my)self"
    r"|fick|fotze|hure|schei(?:ß|ss)|putain|salope|encul|nique|puta|mierda|joder|coño|maric[oó]n|caralho|foder"
    r"|cazzo|puttana|stronz|vaffancul|бля|хуй|пизд|еба[тлн])"
    r"|操你|傻逼|他妈的|婊子|强奸|自杀|レイプ|自殺|씨발|강간|자살",
    re.IGNORECASE,
)
"""Words that a card does not quote, and beginnings of such words, in a few languages."""
MAIL = re.compile(r"[\w.+-]+@[\w-]+\.\w")
NUMBER = re.compile(r"\+?\(?\d(?:[ ().-]{0,2}\d){8,14}(?!\d)")
"""A number of 9 to 15 digits, in groups or not, as telephone numbers are written (ITU-T E.164)."""


@dataclass(frozen=True)
class Samples:
    """Pairs for the card, and how many of those drawn before them were passed over, by reason."""

    pairs: list[PreferenceExample]
    passed_over: Counter[str] = field(default_factory=Counter)


def choose_samples(drawn: Iterable[PreferenceExample]) -> Samples:
    """Return the first SHOWN pairs of those that were drawn that differ and are fit to be shown."""
    samples = Samples([])
    for example in drawn:
        if reason := _unfit(example):
            samples.passed_over[reason] += 1
        elif example not in samples.pairs:  # a weight writes one pair several times
            samples.pairs.append(example)
        if len(samples.pairs) == SHOWN:
            break
    return samples


def _unfit(example: PreferenceExample) -> str | None:
    """Return why a pair is not shown, None if it may be."""
    messages = [*example.prompt, *example.chosen, *example.rejected]
    text = "\n".join([example.tools, *(value for message in messages for value in message.values())])
    if find_secrets(text):
        return "with a credential"
    if MAIL.search(text) or NUMBER.search(text):
        return "with what may be a telephone number or an e-mail address"
    return "with coarse words" if COARSE.search(text) else None
