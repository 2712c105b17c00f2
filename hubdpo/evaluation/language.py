"""Tell the language of a text, where the text is long enough, with py3langid (Lui and Baldwin 2012; 139 languages)."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

from hubdpo import console

LEAST_LETTERS = 20
"""Letters that a text needs; an ideograph counts as three."""
MOST_CHARACTERS = 4_000
"""Characters of a text that are looked at."""
SURE = 0.9
"""Least probability of a language, with those that are hardly told from it."""
ALIKE = ("zh wuu yue", "en pcm", "no nn", "hr bs sr", "id ms", "ar ary arz", "ku sdh", "uz uzs", "es ext an", "he hbo")
"""Languages that count as the first of their group: short texts of one are taken for another."""
_GROUP = {code: group.split()[0] for group in ALIKE for code in group.split()}
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+", re.DOTALL)
_WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
NO_LANGUAGE = "zxx"


@functools.cache
def _ranking() -> Callable[[str], list[tuple[str, float]]] | None:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        console.warn("the languages of the answers are not compared: py3langid, which tells them, is not installed")
        console.hint('pip install "py3langid>=0.4"')
        return None
    rank: Callable[[str], list[tuple[str, float]]] = LanguageIdentifier.from_model_file(
        MODEL_FILE, norm_probs=True
    ).rank
    return rank


def language_of(text: str) -> str | None:
    """Return the ISO 639 code of a text's language; None where it cannot be told, as of code or of a few words."""
    prose = _CODE.sub(" ", text[:MOST_CHARACTERS])
    letters = sum(map(str.isalpha, prose)) + 2 * len(_WIDE.findall(prose))
    if letters < LEAST_LETTERS or (rank := _ranking()) is None:
        return None
    shares: dict[str, float] = {}
    for code, share in rank(prose):
        group = _GROUP.get(code, code)
        shares[group] = shares.get(group, 0.0) + float(share)
    best = max(shares, key=lambda code: shares[code])
    return best if shares[best] >= SURE and best != NO_LANGUAGE else None
