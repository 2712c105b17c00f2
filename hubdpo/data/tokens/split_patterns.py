"""Regular expressions that cut text as the pre-tokenizers of byte-level BPE do, for tiktoken.

Each covers every character: tiktoken would drop what its expression leaves out. A test compares them with the
pre-tokenizers on every code point.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
"""A part of `tokenizer.json`."""
_ENGLISH = "'s|'t|'re|'ve|'m|'ll|'d"
_OTHERS = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD = rf"(?i:{_ENGLISH})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+"
_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"

QWEN2 = rf"{_WORD}|\p{{N}}|{_OTHERS}"
"""Qwen2, Qwen2.5 and Qwen3."""
LLAMA3 = rf"{_WORD}|\p{{N}}{{1,3}}|{_OTHERS}"
"""Llama 3, GLM 4, OLMo 2, SmolLM3 and others that took the expression of tiktoken's cl100k_base."""
QWEN35 = QWEN2.replace(r"\p{L}+", r"[\p{L}\p{M}]+").replace(r"[^\s\p{L}\p{N}]", r"[^\s\p{L}\p{M}\p{N}]")
"""Qwen3.5, which keeps marks with their letters."""


def _by_case(ending: str, digits: str) -> str:
    first = r"[^\r\n\p{L}\p{N}]?"
    words = rf"{first}[{_UPPER}]*[{_LOWER}]+{ending}|{first}[{_UPPER}]+[{_LOWER}]*{ending}"
    return rf"{words}|{digits}|" + _OTHERS.replace(r"[\r\n]*", r"[\r\n/]*", 1)


O200K = _by_case(f"(?i:{_ENGLISH})?", r"\p{N}{1,3}")
"""gpt-oss and Llama 4, which took the expression of tiktoken's o200k_base."""
TEKKEN = _by_case("", r"\p{N}")
"""Mistral Nemo and later."""
SPLITS = frozenset({QWEN2, LLAMA3, QWEN35, O200K, TEKKEN})
"""Expressions of a `Split`, which means the same in tiktoken."""
GPT2 = rf"{_ENGLISH}| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|\s+(?!\S)|\s+"
"""What `ByteLevel` cuts by itself: GPT-2, GPT-NeoX, Phi-2, OLMo (Radford et al. 2019)."""
SINGLE_DIGITS = rf"{_ENGLISH}|\p{{N}}| ?\p{{L}}+| ?[^\s\p{{L}}\p{{N}}]+|\s+(?![^\s\p{{N}}])|\s+"
"""`Digits` before `ByteLevel`: StarCoder, SmolLM2, Granite. A digit ends white space as the end of the text does."""


def pattern_of(pre_tokenizer: Json | None) -> str | None:
    """Return the expression that cuts as a pre-tokenizer of byte-level BPE does, None if none here is known to."""
    steps = (pre_tokenizer or {}).get("pretokenizers") or [pre_tokenizer or {}]
    *first, letters = steps
    if letters.get("type") != "ByteLevel" or letters.get("add_prefix_space"):
        return None
    if letters.get("use_regex", True):
        if not first:
            return GPT2
        return SINGLE_DIGITS if first == [{"type": "Digits", "individual_digits": True}] else None
    split = first[0] if len(first) == 1 else {}
    pattern = (split.get("pattern") or {}).get("Regex")
    isolates = (split.get("behavior"), split.get("invert")) in (("Isolated", False), ("Removed", True))
    return pattern if split.get("type") == "Split" and isolates and pattern in SPLITS else None
