"""Which licence a release states: the base's own for an adapter, never a guess."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from hubdpo import console
from hubdpo.artefacts.formats.bounded import read_text
from hubdpo.artefacts.formats.front_matter import fields, part
from hubdpo.artefacts.manifests.manifest import CARD_FILE
from hubdpo.artefacts.manifests.run import BaseRef
from hubdpo.errors import LicenceError

RESTRICTED = re.compile(r"(^|-)(nc|nd)(-|$)")
SHARE_ALIKE = re.compile(r"(^|-)sa(-|$)|^(a|l)?gpl")
LICENCE_FILES = ("LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE", "NOTICE.md", "NOTICE.txt")
"""Files of a base that go with what is made from it."""


@dataclass(frozen=True)
class Licence:
    """The licence fields of a model card; `name` and `link` go with the id `other`."""

    id: str
    name: str | None = None
    link: str | None = None
    given: bool = False
    """Whether the publisher gave it; else it is the base's."""


def licence_of(folder: Path) -> dict[str, str | None]:
    """Return the licence fields of a model's card, None for each that it does not state; nothing is guessed.

    Warns of a card whose fields cannot be read.
    """
    card = folder / CARD_FILE
    text = read_text(card, of=folder.name) if card.exists() else ""
    found = fields(text)
    if not found and part(text).front is not None:
        console.warn(f"the front matter of {folder.name}/{CARD_FILE} cannot be read, so no licence is known from it")
    values = {name: found.get(name) for name in ("license", "license_name", "license_link")}
    if isinstance(values["license"], list) and len(values["license"]) == 1:
        values["license"] = values["license"][0]
    return {name: value if isinstance(value, str) else None for name, value in values.items()}


def adapter_licence(
    base: BaseRef, data_licence: str | None, given: str | None, *, name: str | None = None, link: str | None = None
) -> Licence:
    """Return what the card states. `given`, with `name` and `link`, is the publisher's own word and settles all doubt.

    A link inside the base's repo is written out as an address of its commit. Raise LicenceError when the base states
    none, or the data forbid commercial use or derivatives, or it is `other` and nobody says which.
    """
    if given:
        return _named(Licence(given, name, link, given=True), base)
    if not base.license or base.license == "unknown":
        raise LicenceError(
            f"the card of `{base.name}` states no licence", hint="add `--license ID` once you know what it allows"
        )
    if data_licence and RESTRICTED.search(data_licence):
        raise LicenceError(
            f"the training data are `{data_licence}`, which forbids some uses of what is made from them",
            hint=f"add `--license {data_licence}` to pass the limits on, or train on other data",
        )
    return _named(Licence(base.license, name or base.license_name, link or base.license_link), base)


def _named(licence: Licence, base: BaseRef) -> Licence:
    if licence.id != "other":
        return Licence(licence.id, given=licence.given)
    if not licence.name or not licence.link:
        raise LicenceError(
            f"the licence of `{base.name}` is `other`, and {'its name' if not licence.name else 'where it stands'} "
            "is not known",
            hint="add `--license-name NAME --license-link ADDRESS`",
        )
    link = licence.link
    if "://" not in link:
        link = f"https://huggingface.co/{base.repo_id}/blob/{base.revision}/{link.lstrip('./')}"
    return Licence("other", licence.name, link, given=licence.given)


def data_remark(data_licence: str | None) -> str:
    """Say in one sentence what the data's licence means for the weights."""
    if not data_licence:
        return "The training data state no licence."
    if SHARE_ALIKE.search(data_licence):
        return (
            f"The training data are `{data_licence}`. Whether share-alike reaches weights is unsettled; it is stated "
            "here so that you can decide."
        )
    return f"The training data are `{data_licence}`."
