"""Does a tokenizer make more of a text than the text is? Told from tokenizer.json before it is loaded.

A normalizer that replaces each letter by ten, ten times over, takes all memory at the first text, and Rust ends the
process there. It runs while the tokenizer is loaded already, on the added tokens.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

from hubdpo.artefacts.formats.bounded import parse_json, read_bytes

TOKENIZER = "tokenizer.json"
MOST_GROWTH = 256
"""How many times longer a text may become. Real tokenizers replace a blank by one character."""

_MAY_GROW = re.compile(rb':\s*"(?:Replace|Prepend|Precompiled)"|\\u00[2-7]')
"""What names a step that makes texts longer, or could spell such a name by escapes of ASCII, which nobody writes."""


def check_tokenizer_growth(folder: Path) -> None:
    """Raise ValueError for a tokenizer.json whose normalizer or decoder lets texts grow beyond MOST_GROWTH."""
    if not (folder / TOKENIZER).is_file():
        return
    data = read_bytes(folder / TOKENIZER)
    if _MAY_GROW.search(data) is None:  # most have no such step, and 11 MB take half a second to parse
        return
    made = parse_json(data)
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        grown = _growth(made.get(part) if isinstance(made, dict) else None)
        if grown > MOST_GROWTH:
            raise ValueError(f"the {part} of {TOKENIZER} makes texts {grown:,.0f} times longer, {MOST_GROWTH} at most")


def _growth(step: Any) -> float:
    if isinstance(step, list):
        product = 1.0
        for one in step:
            product *= _growth(one)
        return product
    if not isinstance(step, dict):
        return 1.0
    product = 1.0
    for name in ("normalizers", "pretokenizers", "decoders"):
        product *= _growth(step.get(name))
    if step.get("type") in ("Replace", "Prepend"):
        pattern = step.get("pattern")
        replaced = pattern.get("String") if isinstance(pattern, dict) else None
        put_in = str(step.get("content") or step.get("prepend") or "")
        # a regular expression may match nothing, before every character
        product *= max(1.0, len(put_in) / len(replaced)) if isinstance(replaced, str) and replaced else 1 + len(put_in)
    if step.get("type") == "Precompiled":
        product *= _longest_in_charsmap(step.get("precompiled_charsmap"))
    return product


def _longest_in_charsmap(told: Any) -> int:
    """Return the characters of the longest text that SentencePiece's map puts in place of one, at least 1.

    The map is base64 of the size of a trie in bytes (u32, little-endian), the trie, and the texts, each ended by NUL.
    """
    if not isinstance(told, str):
        return 1
    try:
        data = base64.b64decode(told)
    except ValueError as problem:
        raise ValueError(f"a charsmap of {TOKENIZER} is no base64: {problem}") from None
    texts = data[4 + int.from_bytes(data[:4], "little") :]
    return max(1, *(len(text.decode("utf-8", "replace")) for text in texts.split(b"\0")))
