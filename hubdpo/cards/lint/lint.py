"""A card looked over before the Hub sees it: what the Hub would refuse, and what it would take though it is wrong.

The Hub checks a card only when it is pushed, and only its front matter. Here the body is looked at too, and whether
both say what the files beside them are.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from hubdpo.artefacts.formats.bounded import read_text
from hubdpo.artefacts.formats.front_matter import FrontLoader, part, read_yaml
from hubdpo.artefacts.manifests.bundle import Kind
from hubdpo.artefacts.manifests.manifest import CARD_FILE
from hubdpo.cards.lint.body import lint_body
from hubdpo.cards.lint.data import lint_data
from hubdpo.cards.lint.fields import lint_fields
from hubdpo.cards.lint.finding import FileContent, Finding
from hubdpo.errors import ArtefactError

MOST_FINDINGS = 50


@dataclass(frozen=True)
class Beside:
    """What the card is beside: the other files of the repo, and what it is a card of.

    The value of a file is None where its content is not at hand; what would need it is then not compared.
    """

    kind: Kind
    files: Mapping[str, FileContent | None]


def require_sound_card(kind: Kind, files: Mapping[str, FileContent], *, beside: Iterable[str] = ()) -> None:
    """Raise ArtefactError, naming the field and what to do, for the first thing wrong with the card of a release.

    `beside` are files that the repo has of others, where links may lead as well.
    """
    content = files[CARD_FILE]
    text = content.decode("utf-8", "replace") if isinstance(content, bytes) else read_text(content)
    others = {name: None for name in beside if not name.endswith(".parquet")}
    for finding in lint_card(text, Beside(kind, {**others, **files})):
        raise ArtefactError(f"{CARD_FILE}: `{finding.field}` {finding.message}", hint=finding.hint)


def lint_card(text: str, beside: Beside) -> list[Finding]:
    """Return what is wrong with a card, front matter first; of more than MOST_FINDINGS, that there are more."""
    findings = _findings(text, beside)
    found = list(itertools.islice(findings, MOST_FINDINGS))
    if next(findings, None):
        found.append(Finding(CARD_FILE, f"has more to look at than these {MOST_FINDINGS} things", "begin with these"))
    return found


def _findings(text: str, beside: Beside) -> Iterator[Finding]:
    block, body = part(text)
    if block is None:
        yield Finding("front matter", "is missing", "begin the card with `---`, YAML, `---`")
        return
    try:
        front = read_yaml(block, _StrictLoader)
    except ValueError as problem:
        yield Finding("front matter", f"cannot be read as YAML: {problem}", "mend the YAML")
        return
    if not isinstance(front, dict):
        yield Finding("front matter", "is no mapping of names to values", "write `license: mit`, one field a line")
        return
    yield from _needed(front, beside)
    yield from lint_fields(front)
    yield from _licence_link(front, beside)
    if beside.kind == "dataset":
        yield from lint_data(front, beside.files)
    yield from lint_body(block, body, beside.files)


class _StrictLoader(FrontLoader):
    """YAML as the Hub reads it: a key that is given twice is an error, not the last one's word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"`{key.value}` is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _needed(front: dict[str, Any], beside: Beside) -> Iterator[Finding]:
    if beside.kind == "dataset":
        return
    if not front.get("license"):
        yield Finding("license", "is missing", "add `--license ID` once you know what the base allows")
    if not front.get("base_model"):
        yield Finding("base_model", "is missing, so the Hub does not know what the adapter belongs to", "name the base")
    if beside.kind == "adapter" and front.get("library_name") != "peft":
        yield Finding("library_name", "must be peft, or the Hub shows no way to load the adapter", "library_name: peft")


def _licence_link(front: dict[str, Any], beside: Beside) -> Iterator[Finding]:
    link = front.get("license_link")
    if link is None:
        return
    if not isinstance(link, str) or not (link in beside.files or link.startswith("https://")):
        yield Finding(
            "license_link", f"is neither a file beside the card nor an https address: {link}",
            "license_link: LICENSE, with that file",
        )  # fmt: skip
