"""Credentials in text: their kind and place, never their value, in whatever is printed or written."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

KINDS = (
    "AWSKeyDetector", "AzureStorageKeyDetector", "BasicAuthDetector", "DiscordBotTokenDetector", "GitHubTokenDetector",
    "GitLabTokenDetector", "JwtTokenDetector", "MailchimpDetector", "NpmDetector", "OpenAIDetector",
    "PypiTokenDetector", "SendGridDetector", "SlackDetector", "SquareOAuthDetector", "StripeDetector",
    "TelegramBotTokenDetector", "TwilioKeyDetector",
)  # fmt: skip
"""Detectors of detect-secrets that know a credential by its form; those that guess from entropy find ordinary text."""

OWN = {
    "Hugging Face Token": re.compile(r"\bhf_[A-Za-z0-9]{30,}"),
    "OpenAI or Anthropic Key": re.compile(r"\bsk-[A-Za-z0-9_-]{32,}"),
    "Google API Key": re.compile(r"\bAIza[A-Za-z0-9_-]{35}"),
    "GitHub Fine-grained Token": re.compile(r"\bgithub_pat_\w{22,}"),
    "Private Key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:[\s\S]*?-----END [A-Z ]*PRIVATE KEY-----)?"),
}
"""Kinds that detect-secrets does not know, or knows by a part alone."""


@dataclass(frozen=True)
class Secret:
    """A credential in a text: its kind, and the characters `start` to `stop`."""

    kind: str
    start: int
    stop: int


def find_secrets(text: str) -> list[Secret]:
    """Return what looks like a credential, in order; where two kinds overlap, the one that begins first."""
    found = sorted(_all(text), key=lambda secret: (secret.start, -secret.stop))
    kept: list[Secret] = []
    for secret in found:
        if not kept or secret.start >= kept[-1].stop:
            kept.append(secret)
    return kept


def redact(text: str, secrets: list[Secret]) -> str:
    """Replace each credential by its kind."""
    for secret in reversed(secrets):
        text = f"{text[: secret.start]}[REDACTED {secret.kind}]{text[secret.stop :]}"
    return text


def _all(text: str) -> Iterator[Secret]:
    for kind, pattern in OWN.items():
        for match in pattern.finditer(text):
            yield Secret(kind, *match.span())
    for kind, analyze in _detectors():
        for value in analyze(text):
            at = text.find(value)
            while value and at >= 0:
                yield Secret(kind, at, at + len(value))
                at = text.find(value, at + len(value))


@functools.cache
def _detectors() -> tuple[tuple[str, Callable[[str], Iterator[str]]], ...]:
    # slow to import, and needed only where something is scanned
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

    kinds: list[Any] = list(get_mapping_from_secret_type_to_class().values())
    known = {kind.__name__: kind for kind in kinds}
    return tuple((str(known[name].secret_type), known[name]().analyze_string) for name in KINDS)
