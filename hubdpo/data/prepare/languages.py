"""Find the languages of a dataset, where nobody states them, from pairs that were drawn from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hubdpo.artefacts.manifests.prepare import ToldLanguages
from hubdpo.data.language import Told, tell, teller
from hubdpo.data.pairs.example import PreferenceExample

LEAST_TEXTS, LEAST_SHARE = 3, 0.02
"""Texts that a language needs to be named, and its share of those that were told: py3langid is wrong about 1 in 200."""
LEAST_TOLD = 0.2
"""Share of the texts that must be told for any language to be named: the rest of a dataset of code says nothing."""


def tell_languages(pairs: Sequence[PreferenceExample], split: str) -> ToldLanguages | None:
    """Tell the languages of pairs that were drawn from a split; None where py3langid is missing."""
    if (by := teller()) is None:
        return None
    # a weight writes a pair several times, and prompts repeat: each text counts once
    texts = dict.fromkeys(message["content"] for pair in pairs for message in (pair.prompt[-1], pair.chosen[-1]))
    told = [found for text in texts if (found := tell(text))]
    member = _member_of_group(told)
    counts = Counter(member[found.group] for found in told)
    return ToldLanguages(by=by, split=split, pairs=len(pairs), texts=len(texts), languages=counts)


def _member_of_group(told: Sequence[Told]) -> dict[str, str]:
    """Return, by group of languages that are hardly told apart, the one that most of its texts are likest."""
    members = Counter(told)
    return {found.group: found.likeliest for found, _ in reversed(members.most_common())}


def named_languages(told: ToldLanguages | None) -> list[str]:
    """Return the languages that a card may name, the most frequent first; none where too little text could be told."""
    if told is None or told.told < LEAST_TOLD * told.texts:
        return []
    least = max(LEAST_TEXTS, LEAST_SHARE * told.told)
    return [code for code, texts in told.ranked if texts >= least]
