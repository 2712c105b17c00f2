"""The card: Markdown as a page, its front matter as tags and tables."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import quote

from hubdpo.artefacts.formats.bounded import shortened
from hubdpo.artefacts.formats.front_matter import fields, part
from hubdpo.artefacts.manifests.manifest import CARD_FILE
from hubdpo.view.hub.hosted import Hosted
from hubdpo.view.markdown import MOST_CHARACTERS
from hubdpo.view.page import Asked, Page
from hubdpo.view.release.places import file_link, formatted
from hubdpo.view.thing import Thing

TAGGED = {
    "license": "licence", "language": "language", "base_model": "base model", "datasets": "dataset",
    "library_name": "library", "pipeline_tag": "task", "task_categories": "task", "size_categories": "size", "tags": "",
}  # fmt: skip
MOST_TAGS, LONGEST_TAG, MOST_RESULTS = 60, 80, 200


LINKED = {"base model": ("model", ""), "dataset": ("dataset", "/datasets")}
"""Tags that name a repo: its kind, and how its address begins."""


class Tag(NamedTuple):
    kind: str
    value: str
    address: str | None = None
    """The page of the repo that the tag names, where the Hub has it."""


def card(asked: Asked, thing: Thing) -> Page:
    if not thing.has_card:
        return Page("card.html", "Card", {"body": None, "tags": [], "results": [], "source": None, "is_cut": False})
    text = thing.snapshot.text(CARD_FILE)
    about = fields(text)
    shown = formatted(asked, thing, part(text).body)
    return Page(
        "card.html", "Card",
        {
            "body": shown.html, "is_cut": shown.is_cut, "most": MOST_CHARACTERS,
            "tags": [_linked(tag, thing) for tag in tags(about)],
            "results": results(about), "source": file_link(asked, thing, "blob", CARD_FILE),
        },
    )  # fmt: skip


def tags(about: dict[str, Any]) -> list[Tag]:
    """Return the tags of front matter, each value once."""
    found: dict[str, Tag] = {}
    for name, kind in TAGGED.items():
        value = about.get(name)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str | int) and (word := shortened(str(one), LONGEST_TAG)):
                word = word.encode(errors="replace").decode()  # YAML can hold half a character
                found.setdefault(word, Tag(kind, word))
    return list(found.values())[:MOST_TAGS]


def _linked(tag: Tag, thing: Thing) -> Tag:
    if not isinstance(thing, Hosted) or tag.kind not in LINKED:
        return tag
    kind, prefix = LINKED[tag.kind]
    address = f"{prefix}/{quote(tag.value)}" if thing.hub.may_read(thing.user, kind, tag.value) else None
    return tag._replace(address=address)


def results(about: dict[str, Any]) -> list[dict[str, str]]:
    """Return a row for each metric in `model-index`; what does not have its form is left out."""
    rows: list[dict[str, str]] = []
    for model in _objects(about.get("model-index")):
        for result in _objects(model.get("results")):
            task, data = _object(result.get("task")), _object(result.get("dataset"))
            for metric in _objects(result.get("metrics")):
                name = metric.get("name") or metric.get("type")
                rows.append(
                    {
                        "task": _word(task.get("name") or task.get("type")),
                        "dataset": _word(data.get("name") or data.get("type")), "metric": _word(name),
                        "value": _word(metric.get("value")), "verified": "yes" * (metric.get("verified") is True),
                    }
                )  # fmt: skip
    return rows[:MOST_RESULTS]


def _objects(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _word(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else shortened(str(value), LONGEST_TAG)
