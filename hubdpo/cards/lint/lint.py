"""Check a card before it is pushed: what the Hub would refuse, and mistakes that the Hub would accept.

The Hub checks only the front matter, when a card is pushed. `lint_card` also checks the body, and compares both with
the other files of the repo.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any

import yaml

from hubdpo.artefacts.formats.bounded import read_text
from hubdpo.artefacts.formats.front_matter import FrontLoader, part, read_yaml
from hubdpo.artefacts.manifests.bundle import Kind
from hubdpo.artefacts.manifests.manifest import CARD_FILE
from hubdpo.cards.lint.body import lint_body
from hubdpo.cards.lint.data import Files, lint_data
from hubdpo.cards.lint.fields import lint_fields
from hubdpo.cards.lint.finding import FileContent, Finding
from hubdpo.cards.render import Front
from hubdpo.errors import ArtefactError
from hubdpo.hub.transport import hub_address

MOST_FINDINGS = 50


def require_sound_card(kind: Kind, files: Mapping[str, FileContent], *, beside: Iterable[str] = ()) -> None:
    """Raise ArtefactError for the first problem of the card of a release.

    `beside` are other files of the repo, which links may lead to.
    """
    content = files[CARD_FILE]
    text = content.decode("utf-8", "replace") if isinstance(content, bytes) else read_text(content)
    others: dict[str, FileContent | None] = {name: None for name in beside if not name.endswith(".parquet")}
    for finding in lint_card(text, kind, {**others, **files}):
        raise ArtefactError(f"{CARD_FILE}: `{finding.field}` {finding.message}", hint=finding.hint)


def lint_card(text: str, kind: Kind, files: Files) -> list[Finding]:
    """Return the problems of a card, front matter first; after MOST_FINDINGS only a note that there are more."""
    every = _findings(text, kind, files)
    findings = list(itertools.islice(every, MOST_FINDINGS))
    if next(every, None):
        findings.append(Finding(CARD_FILE, f"has more than these {MOST_FINDINGS} problems", "fix these first"))
    return findings


def _findings(text: str, kind: Kind, files: Files) -> Iterator[Finding]:
    block, body = part(text)
    if block is None:
        yield Finding("front matter", "is missing", "start the card with `---`, YAML, `---`")
        return
    try:
        front = read_yaml(block, _StrictLoader)
    except ValueError as problem:
        yield Finding("front matter", f"cannot be read as YAML: {problem}", "fix the YAML")
        return
    if not isinstance(front, dict):
        yield Finding("front matter", "is not a mapping", "write one field a line, such as `license: mit`")
        return
    yield from _needed(front, kind)
    yield from lint_fields(front)
    yield from _licence_link(front, files)
    if kind == "dataset":
        yield from lint_data(front, files)
    yield from lint_body(block, body, files)


class _StrictLoader(FrontLoader):
    """Read YAML as the Hub does: a repeated key is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"`{key.value}` is repeated", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _needed(front: Front, kind: Kind) -> Iterator[Finding]:
    if kind == "dataset":
        return
    if not front.get("license"):
        yield Finding(
            "license", "is missing", "add `--license ID` once you know what the licence of the base model allows"
        )
    if not front.get("base_model"):
        yield Finding(
            "base_model", "is missing, so the Hub cannot link the model to its base model", "base_model: USER/NAME"
        )
    if kind == "adapter" and front.get("library_name") != "peft":
        yield Finding(
            "library_name", "must be `peft`: otherwise the Hub shows no code to load the adapter", "library_name: peft"
        )


def _licence_link(front: Front, files: Files) -> Iterator[Finding]:
    link = front.get("license_link")
    is_address = isinstance(link, str) and (link in files or link.startswith(("https://", hub_address())))
    if link is not None and not is_address:
        yield Finding(
            "license_link", f"is neither a file of the repo nor an https URL: {link}",
            "license_link: LICENSE, and add that file",
        )  # fmt: skip
