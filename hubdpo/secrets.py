"""Find credentials in text, and redact them in everything that is printed or written."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

KINDS = (
    "AWSKeyDetector", "AzureStorageKeyDetector", "BasicAuthDetector", "DiscordBotTokenDetector", "GitHubTokenDetector",
    "GitLabTokenDetector", "JwtTokenDetector", "MailchimpDetector", "PypiTokenDetector", "SendGridDetector",
    "SlackDetector", "SquareOAuthDetector", "StripeDetector", "TelegramBotTokenDetector", "TwilioKeyDetector",
)  # fmt: skip
"""Detectors of detect-secrets that recognise a credential by its form; those based on entropy flag ordinary text.

The detectors for npm and OpenAI are left out, because they take time with the square of the line length.
"""

OWN = {
    "Hugging Face Token": re.compile(r"\bhf_[A-Za-z0-9]{30,}"),
    "OpenAI or Anthropic Key": re.compile(r"\bsk-[A-Za-z0-9_-]{32,}"),
    "OpenAI Token": re.compile(r"sk-[A-Za-z0-9_-]{20,250}T3BlbkFJ[A-Za-z0-9]{20}"),
    "Google API Key": re.compile(r"\bAIza[A-Za-z0-9_-]{35}"),
    "GitHub Fine-grained Token": re.compile(r"\bgithub_pat_\w{22,}"),
    "GitHub Token": re.compile(r"\bgh[opusr]_[A-Za-z0-9]{36}"),
    "GitLab Token": re.compile(r"\bgl[a-z]{2,5}-[A-Za-z0-9_-]{20,}"),
    "npm Token": re.compile(r"\bnpm_[A-Za-z0-9]{36}|(?<=/:_authToken=)(?:npm_\S+|[A-Fa-f0-9-]{36})"),
    "PyPI Token": re.compile(r"\bpypi-[A-Za-z0-9_-]{60,}"),
    "AWS Access Key": re.compile(r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b"),
    "Slack Token": re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
    "Stripe Access Key": re.compile(r"\b[rs]k_live_[A-Za-z0-9]{24,}"),
    "SendGrid API Key": re.compile(r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"),
    "JSON Web Token": re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"),
    "Private Key": re.compile(
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:(?:(?!-----BEGIN)[\s\S])*?-----END [A-Z ]*PRIVATE KEY-----)?"
    ),
    "Basic Auth Credentials": re.compile(r"(?<=://)[^\s:/@\"]+:[^\s:/@\"]+(?=@)"),
}
"""Kinds with a fixed prefix, which are fast to find and need no library."""

_TOKEN_RUN = re.compile(r"[A-Za-z0-9_+/=.-]{20}")
_HINTS = ("://", "PRIVATE KEY", "_authToken", "xox")
_ESCAPE = re.compile(r'\\+["nrt]')
"""White space or a quote in JSON, which may be inside other JSON."""


@dataclass(frozen=True)
class Secret:
    """A credential in a text: its kind, and its characters `start` to `stop`."""

    kind: str
    start: int
    stop: int


def find_secrets(text: str) -> list[Secret]:
    """Return the likely credentials of a text, in order; of two that overlap, the one that starts first."""
    # every kind has a long run of token characters or one of a few words; checking that first is ten times as fast
    if not any(word in text for word in _HINTS) and _TOKEN_RUN.search(text) is None:
        return []
    texts = _with_unescaped(text)
    return _in_order([secret for some in texts for secret in (*_own(some), *_detected(some))])


def known_secrets(text: str) -> list[Secret]:
    """Return the credentials of the kinds in OWN, without importing a library."""
    return _in_order([secret for some in _with_unescaped(text) for secret in _own(some)])


def redact(text: str, secrets: list[Secret]) -> str:
    """Replace each credential by its kind."""
    for secret in reversed(secrets):
        text = f"{text[: secret.start]}[REDACTED {secret.kind}]{text[secret.stop :]}"
    return text


def cleaned(text: str) -> str:
    """Replace credentials of the kinds in OWN, so that the text can be printed."""
    return redact(text, known_secrets(text))


def _with_unescaped(text: str) -> list[str]:
    """Return a text, and if it has escapes, as JSON has, the same with as many spaces or quotes in their place.

    Otherwise the `n` of an escaped line break would seem to be the beginning of a credential.
    """
    if "\\" not in text:
        return [text]
    plain = _ESCAPE.sub(lambda escape: ('"' if escape[0][-1] == '"' else " ") * len(escape[0]), text)
    return [text] if plain == text else [text, plain]


def _in_order(secrets: list[Secret]) -> list[Secret]:
    kept: list[Secret] = []
    for secret in sorted(secrets, key=lambda secret: (secret.start, -secret.stop)):
        if not kept or secret.start >= kept[-1].stop:
            kept.append(secret)
    return kept


def _own(text: str) -> Iterator[Secret]:
    for kind, pattern in OWN.items():
        for match in pattern.finditer(text):
            yield Secret(kind, *match.span())


def _detected(text: str) -> Iterator[Secret]:
    for kind, analyze in _detectors():
        for value in filter(None, dict.fromkeys(analyze(text))):
            for match in re.finditer(re.escape(value), text):
                yield Secret(kind, *match.span())


@functools.cache
def _detectors() -> tuple[tuple[str, Callable[[str], Iterator[str]]], ...]:
    # slow to import, and needed for scans only
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

    kinds: list[Any] = list(get_mapping_from_secret_type_to_class().values())
    known = {kind.__name__: kind for kind in kinds}
    return tuple((str(known[name].secret_type), known[name]().analyze_string) for name in KINDS)


LONGEST_NAME = 80


def shown_name(name: str, scan: bool) -> str:
    """Return the name of a column or field for a report, cut to LONGEST_NAME characters and redacted."""
    return (redact(name, find_secrets(name)) if scan else cleaned(name))[:LONGEST_NAME]
