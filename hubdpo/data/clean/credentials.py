"""Redact credentials in the texts of a pair."""

from __future__ import annotations

from collections import Counter

from hubdpo.artefacts.formats.messages import Message
from hubdpo.data.pairs.example import PreferenceExample
from hubdpo.secrets import find_secrets, redact


def redact_credentials(example: PreferenceExample, kept: list[str | None]) -> Counter[str]:
    """Replace each credential in `example` and `kept` by its kind, in place, and count them by kind."""
    found: Counter[str] = Counter()

    def clear(text: str) -> str:
        secrets = find_secrets(text)
        found.update(secret.kind for secret in secrets)
        return redact(text, secrets)

    def cleared(messages: list[Message]) -> list[Message]:
        return [{**message, "content": clear(message["content"])} for message in messages]

    example.prompt, example.chosen, example.rejected = map(cleared, (example.prompt, example.chosen, example.rejected))
    kept[:] = [text and clear(text) for text in kept]
    return found
