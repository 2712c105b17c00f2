"""Train or test, by a hash of the prompt: a prompt is never in both, and rows do not move when data is added."""

from __future__ import annotations

import hashlib
import unicodedata

from hubdpo.data.preference import Message


def prompt_key(prompt: list[Message]) -> bytes:
    """Return 8 bytes that are equal for prompts that differ in spacing, case or Unicode form alone."""
    digest = hashlib.blake2b(digest_size=8)
    for message in prompt:
        text = " ".join(unicodedata.normalize("NFKC", message["content"]).casefold().split())
        digest.update(f"{message['role']}\0{text}\1".encode("utf-8", "surrogatepass"))
    return digest.digest()


def is_test(key: bytes, test_size: float, seed: int) -> bool:
    """Tell whether the prompt of this key is held out; the share of held-out prompts tends to `test_size`."""
    draw = hashlib.blake2b(key, digest_size=8, salt=seed.to_bytes(8, "little")).digest()
    return int.from_bytes(draw, "little") < test_size * 2**64
