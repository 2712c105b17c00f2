"""Tell the language of a text, where it is long enough, with py3langid (Lui and Baldwin 2012; 139 languages).

The languages of a dataset, where nobody states them, are told from pairs that were drawn from it.
"""

from __future__ import annotations

import functools
import importlib.metadata
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hubdpo import console
from hubdpo.artefacts.manifests.prepare import ToldLanguages
from hubdpo.cards.lint.fields import is_language
from hubdpo.data.pairs.example import PreferenceExample

LEAST_LETTERS = 20
"""Letters that a text needs; an ideograph counts as three."""
MOST_CHARACTERS = 4_000
"""Characters of a text that are looked at."""
MOST_SIGNS = 0.06
"""Signs of code and formulas for each letter from which a text is none of a language: 19 of 20 functions of Python have
more, and 1 of 100 answers in prose."""
SURE = 0.9
"""Least probability of a language, with those that are hardly told from it."""
ALIKE = ("zh wuu yue", "en pcm", "no nn", "hr bs sr", "id ms", "ar ary arz", "ku sdh", "uz uzs", "es ext an", "he hbo")
"""Languages that count as the first of their group: short texts of one are taken for another."""
_GROUP = {code: group.split()[0] for group in ALIKE for code in group.split()}
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+", re.DOTALL)
_SIGNS = re.compile(r"[{}\[\]()<>=;_\\|/*+#$&@^~]")
_WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
NO_LANGUAGE = "zxx"
LEAST_TEXTS, LEAST_SHARE = 3, 0.02
"""Texts that a language needs to be named, and its share of those that were told: py3langid is wrong about 1 in 200."""
LEAST_TOLD = 0.2
"""Share of the texts that must be told for any language to be named: the rest of a dataset of code says nothing."""

CODES = {
    "english": "en", "chinese": "zh", "mandarin": "zh", "spanish": "es", "french": "fr", "german": "de",
    "portuguese": "pt", "italian": "it", "dutch": "nl", "russian": "ru", "ukrainian": "uk", "polish": "pl",
    "japanese": "ja", "korean": "ko", "arabic": "ar", "persian": "fa", "turkish": "tr", "hindi": "hi", "bengali": "bn",
    "vietnamese": "vi", "thai": "th", "indonesian": "id", "cn": "zh", "jp": "ja", "kr": "ko",
}  # fmt: skip
"""Codes of languages that people call otherwise."""


class Told(NamedTuple):
    """The language of a text as ISO 639 codes: that of its group, and the likeliest of the group."""

    group: str
    likeliest: str


@functools.cache
def _ranking() -> Callable[[str], list[tuple[str, float]]] | None:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        console.warn("the languages of texts are not told: py3langid, which tells them, is not installed")
        console.hint('pip install "py3langid>=0.4"')
        return None
    rank: Callable[[str], list[tuple[str, float]]] = LanguageIdentifier.from_model_file(
        MODEL_FILE, norm_probs=True
    ).rank
    return rank


def teller() -> str | None:
    """Load what tells languages, which takes half a second, and return its name and version; None if it is missing."""
    return f"py3langid {importlib.metadata.version('py3langid')}" if _ranking() else None


def code_of(language: str) -> str | None:
    """Return the ISO 639 code that was meant by the name of a language, or by a code; None if that is not known."""
    plain = language.strip().lower()
    return CODES.get(plain) or (plain if is_language(plain) else None)


def language_of(text: str) -> str | None:
    """Return the ISO 639 code of a text's language; None where it cannot be told, as of code or of a few words."""
    found = tell(text)
    return found.group if found else None


def tell(text: str) -> Told | None:
    """Tell the language of a text among those that are like it; None where it cannot be told."""
    prose = _CODE.sub(" ", text[:MOST_CHARACTERS])
    letters = sum(map(str.isalpha, prose)) + 2 * len(_WIDE.findall(prose))
    if letters < LEAST_LETTERS or len(_SIGNS.findall(prose)) > MOST_SIGNS * letters or (rank := _ranking()) is None:
        return None
    ranked = rank(prose)
    shares: dict[str, float] = {}
    for code, share in ranked:
        group = _GROUP.get(code, code)
        shares[group] = shares.get(group, 0.0) + float(share)
    best = max(shares, key=lambda code: shares[code])
    if shares[best] < SURE or best == NO_LANGUAGE:
        return None
    return Told(best, next(code for code, _ in ranked if _GROUP.get(code, code) == best))


def tell_languages(pairs: Sequence[PreferenceExample], split: str) -> ToldLanguages | None:
    """Tell the languages of pairs that were drawn from a split; None where py3langid is missing."""
    if (by := teller()) is None:
        return None
    # a weight writes a pair several times, and prompts repeat: each text counts once
    texts = dict.fromkeys(message["content"] for pair in pairs for message in (pair.prompt[-1], pair.chosen[-1]))
    told = [found for text in texts if (found := tell(text))]
    # by group of languages that are hardly told apart, the one that most of its texts are likest
    member = {found.group: found.likeliest for found, _ in reversed(Counter(told).most_common())}
    counts = Counter(member[found.group] for found in told)
    return ToldLanguages(by=by, split=split, pairs=len(pairs), texts=len(texts), languages=counts)


def named_languages(told: ToldLanguages | None) -> list[str]:
    """Return the languages that a card may name, the most frequent first; none where too little text could be told."""
    if told is None or told.told < LEAST_TOLD * told.texts:
        return []
    least = max(LEAST_TEXTS, LEAST_SHARE * told.told)
    return [code for code, texts in told.ranked if texts >= least]
