"""Load the tokenizer of a folder without running any of its code, and try its chat template within limits.

A normalizer that replaces each letter by ten, ten times in a row, takes all memory at the first text, and Rust then
ends the process. Normalizers already run on the added tokens while the tokenizer loads, so how much longer they make
texts is computed from `tokenizer.json` before.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hubdpo.artefacts.folders.model_files import CONFIG, OTHER_TOKENIZER_FILES, TOKENIZER_FILES
from hubdpo.artefacts.formats.bounded import JsonObject, parse_json, read_bytes
from hubdpo.errors import HubdpoError, UnsupportedBase
from hubdpo.hub.client import called
from hubdpo.model.tokenizer.chat_template import templates_of, with_template_kwargs
from hubdpo.model.tokenizer.own_template import template_for
from hubdpo.model.tokenizer.rendering import bounded, check_template
from hubdpo.model.untrusted import AGAIN, check_counts, check_files, one_line_errors

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

READ_FILES = (
    *TOKENIZER_FILES, *OTHER_TOKENIZER_FILES, CONFIG, "processor_config.json", "preprocessor_config.json",
)  # fmt: skip
"""Files that transformers may read to make a tokenizer."""
TOKENIZER = "tokenizer.json"
MOST_GROWTH = 256
"""How many times longer a text may become. Real tokenizers replace a blank by one character."""
_MAY_GROW = re.compile(rb':\s*"(?:Replace|Prepend|Precompiled)"|\\u00[2-7]')
"""Names of the steps that make texts longer, and escapes of ASCII letters, which could spell such a name."""


def read_tokenizer(
    folder: Path, template_kwargs: Mapping[str, object] | None = None, *, template: str | None = None,
    error: type[HubdpoError] = UnsupportedBase,
) -> PreTrainedTokenizerBase:  # fmt: skip
    """Return the tokenizer of a folder, with `template_kwargs` as the defaults of its chat template.

    `template` is a value of `--chat-template`, in place of the folder's own.

    Raise `error` when the files make no tokenizer, ask to run code, or have a chat template beyond a limit; ConfigError
    for a default that the template does not read.
    """
    from transformers import AutoTokenizer

    check_files(folder, READ_FILES, error)
    if not isinstance(template_kwargs or {}, Mapping):
        raise error(f"`chat_template_kwargs` of `{called(folder)}` is not an object", hint=AGAIN)
    with one_line_errors(folder, "the tokenizer", error):
        check_counts(folder)
        check_tokenizer_growth(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        if not isinstance(longest := tokenizer.model_max_length, (int, float)):
            raise ValueError(
                f"`model_max_length` of tokenizer_config.json is {repr(longest)[:80]}, and it must be a number"
            )
        if template is not None:
            tokenizer.chat_template = template_for(template, tokenizer)
        if not all(isinstance(source, str) for source in templates_of(tokenizer).values()):
            raise TypeError("its chat template is not text")
    tokenizer = bounded(lambda: with_template_kwargs(tokenizer, template_kwargs, called(folder)), tokenizer, error)
    for source in templates_of(tokenizer).values():
        check_template(tokenizer, source, error)
    return tokenizer


def check_tokenizer_growth(folder: Path) -> None:
    """Raise ValueError for a tokenizer.json whose normalizer or decoder lets texts grow beyond MOST_GROWTH."""
    if not (folder / TOKENIZER).is_file():
        return
    data = read_bytes(folder / TOKENIZER)
    if _MAY_GROW.search(data) is None:  # true of most tokenizers, and parsing 11 MB takes half a second
        return
    tokenizer = parse_json(data)
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        growth = _growth(tokenizer.get(part) if isinstance(tokenizer, dict) else None)
        if growth > MOST_GROWTH:
            raise ValueError(f"the {part} of {TOKENIZER} makes texts {growth:,.0f} times longer, {MOST_GROWTH} at most")


def _growth(step: object) -> float:
    """Return how many times longer a step, or a sequence of steps, may make a text. Factors of steps multiply."""
    if isinstance(step, list):
        return math.prod(map(_growth, step))
    if not isinstance(step, dict):
        return 1.0
    product = math.prod(_growth(step.get(name)) for name in ("normalizers", "pretokenizers", "decoders"))
    if step.get("type") in ("Replace", "Prepend"):
        pattern = step.get("pattern")
        replaced = pattern.get("String") if isinstance(pattern, dict) else None
        added = str(step.get("content") or step.get("prepend") or "")
        # a regular expression may match the empty text before every character
        product *= max(1.0, len(added) / len(replaced)) if isinstance(replaced, str) and replaced else 1 + len(added)
    if step.get("type") == "Precompiled":
        product *= _longest_in_charsmap(step.get("precompiled_charsmap"))
    return product


def _longest_in_charsmap(charsmap: object) -> int:
    """Return the length of the longest text that SentencePiece's map puts in place of one character, at least 1.

    The map is base64 of the size of a trie in bytes (u32, little-endian), the trie, and the texts, each ended by NUL.
    """
    if not isinstance(charsmap, str):
        return 1
    try:
        data = base64.b64decode(charsmap)
    except ValueError as problem:
        raise ValueError(f"a charsmap of {TOKENIZER} is not base64: {problem}") from None
    texts = data[4 + int.from_bytes(data[:4], "little") :]
    return max(1, *(len(text.decode("utf-8", "replace")) for text in texts.split(b"\0")))


def count_tokens(tokenizer: JsonObject) -> int | None:
    """Return the number of ids of a parsed tokenizer.json, added tokens included; None for an unknown kind of model."""
    model, added = tokenizer.get("model"), tokenizer.get("added_tokens")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocabulary, dict | list):
        return None
    ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else [len(vocabulary) - 1]
    ids += [token.get("id") for token in (added if isinstance(added, list) else []) if isinstance(token, dict)]
    return 1 + max((token_id for token_id in ids if isinstance(token_id, int)), default=-1)
