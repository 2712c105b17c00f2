"""Encode whole conversations, where the text beside an added token depends on it."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from hubdpo.data.pairs.example import Rejection

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

NAMES = range(0xF0000, 0xFFFFE)
"""A plane of private use: what stands in for control tokens."""


class WholeText:
    """Encodes rendered text with a tokenizer, or with a twin of it in which control tokens are spelt otherwise.

    In the twin their usual text is text, and all else is as in the tokenizer: what an added token takes of the text
    beside it, and where a blank is put.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, control: re.Pattern[str]) -> None:
        self._tokenizer = tokenizer
        self._control = control

    @functools.lru_cache(maxsize=2)  # noqa: B019 (a prompt is encoded with each of its answers; encoders live long)
    def ids(self, text: str) -> list[int]:
        """Return the ids of a text; do not change the list."""
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def ids_with(self, rendered: str, mark: str, spelt: list[str]) -> list[int]:
        """Return the ids of a text in which slots, a number between two `mark`, stand for text that is no token.

        Raise Rejection if the tokenizer is in Python, or a text has characters of the plane that the twin needs.
        """
        twin = self._twin
        if twin is None or any(ord(letter) in NAMES for letter in rendered):
            raise Rejection("special_text")
        backend, names, ids = twin
        text = self._control.sub(lambda match: names[match[0]], rendered)
        text = re.sub(f"{mark}([0-9]+){mark}", lambda match: spelt[int(match[1])], text)
        return [ids.get(id_, id_) for id_ in backend.encode(text, add_special_tokens=False).ids]

    @functools.cached_property
    def _twin(self) -> tuple[Tokenizer, dict[str, str], dict[int, int]] | None:
        """Return the twin, its names of the control tokens, and the tokenizer's id for each id that is another."""
        from tokenizers import AddedToken, Tokenizer

        original = getattr(self._tokenizer, "backend_tokenizer", None)
        if original is None:
            return None
        twin = Tokenizer(original.model)
        twin.normalizer, twin.pre_tokenizer = original.normalizer, original.pre_tokenizer
        names: dict[str, str] = {}
        ids: dict[int, int] = {}
        for id_, token in sorted(original.get_added_tokens_decoder().items()):
            name = chr(NAMES[len(names)]) if self._control.fullmatch(token.content) else token.content
            if name != token.content:
                names[token.content] = name
            flags = {flag: getattr(token, flag) for flag in ("single_word", "lstrip", "rstrip", "normalized")}
            twin.add_tokens([AddedToken(name, special=False, **flags)])
            if (other := twin.token_to_id(name)) is not None:
                ids[other] = id_
        return twin, names, ids
