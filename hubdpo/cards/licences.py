"""Choose the licence of a release: the one of the base model or the one the publisher gives, never a guess."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from hubdpo import console
from hubdpo.artefacts.formats.bounded import read_text
from hubdpo.artefacts.formats.front_matter import fields, part
from hubdpo.artefacts.manifests.manifest import CARD_FILE
from hubdpo.artefacts.manifests.merge import MergeManifest
from hubdpo.artefacts.manifests.run import Adopted, BaseRef, StartRef
from hubdpo.cards.fences import one_line
from hubdpo.errors import LicenceError
from hubdpo.hub.transport import hub_address

RESTRICTED = re.compile(r"(^|-)(nc|nd)(-|$)")
SHARE_ALIKE = re.compile(r"(^|-)sa(-|$)|^(a|l)?gpl")


@dataclass(frozen=True)
class Licence:
    """The licence fields of a model card; `name` and `link` are set if the id is `other`."""

    id: str
    name: str | None = None
    link: str | None = None
    given: bool = False
    """Whether the publisher gave the licence; otherwise it is the one of the base model."""

    def front_matter(self) -> dict[str, str]:
        """Return the licence fields of the card's front matter."""
        values = {"license": self.id, "license_name": self.name, "license_link": self.link}
        return {field: value for field, value in values.items() if value}


def licence_of(folder: Path) -> dict[str, str | None]:
    """Read the licence fields of a model card; a field is None if the card does not have it.

    Warn if the front matter cannot be read.
    """
    card = folder / CARD_FILE
    text = read_text(card, of=folder.name) if card.exists() else ""
    front = fields(text)
    if not front and part(text).front is not None:
        console.warn(f"the front matter of {folder.name}/{CARD_FILE} cannot be read, so its licence is unknown")
    values = {name: front.get(name) for name in ("license", "license_name", "license_link")}
    if isinstance(values["license"], list) and len(values["license"]) == 1:
        values["license"] = values["license"][0]
    return {name: value if isinstance(value, str) else None for name, value in values.items()}


def adapter_licence(
    base: BaseRef, data_licence: str | None, given: str | None, *, name: str | None = None, link: str | None = None,
    start: StartRef | None = None, adopted: Adopted | None = None,
) -> Licence:  # fmt: skip
    """Return the licence of an adapter: `given` by the publisher (with `name` and `link`), or the one of its base.

    A relative link becomes a URL in the base's repo, at its commit. Raise LicenceError if the base model's licence is
    unknown, the licence of the data, or of the adapter to `start` from or its data, or of one that was `adopted`,
    forbids commercial use or derivatives, an adopted one states another licence than its base, or an `other` licence
    has no name or link.
    """
    if given:
        return _with_link(Licence(given, name, link, given=True), base)
    if not base.license or base.license == "unknown":
        raise LicenceError(
            f"the card of `{base.name}` states no licence", hint="add `--license ID` once you know what it allows"
        )
    if data_licence and RESTRICTED.search(data_licence):
        raise LicenceError(
            f"the training data have the licence `{data_licence}`, which restricts models trained on them",
            hint=f"add `--license {data_licence}` to publish under the same restrictions, or train on other data",
        )
    own = [(f"the adapter `{adopted.source.name}`, which was adopted,", adopted.license)] if adopted is not None else []
    for what, licence in [*own, *_before(start)]:
        if licence and RESTRICTED.search(licence):
            raise LicenceError(
                f"{what} has the licence `{licence}`, which restricts models made from it",
                hint=f"add `--license {licence}` to publish under the same restrictions, or take another adapter",
            )
    if adopted is not None and adopted.license and adopted.license.casefold() != base.license.casefold():
        raise LicenceError(
            f"the card of the adapter `{adopted.source.name}` states the licence `{one_line(adopted.license)}`, and "
            f"that of its base `{base.license}`",
            hint="add `--license ID` with the one that you publish it under"
            + ("; LLaMA-Factory writes `other` into every card" if adopted.license == "other" else ""),
        )
    return _with_link(Licence(base.license, name or base.license_name, link or base.license_link), base)


def merged_licence(
    merge: MergeManifest, base: BaseRef, given: str | None, *, name: str | None = None, link: str | None = None
) -> Licence:
    """Return the licence of a merged model, by the rule for each adapter. Raise what `adapter_licence` raises."""
    licences = [
        adapter_licence(
            base, part.dataset.license if part.dataset else None, given, name=name, link=link,
            start=part.started_from, adopted=part.adopted,
        )
        for part in merge.parts
    ]  # fmt: skip
    return licences[0]


def _before(start: StartRef | None) -> list[tuple[str, str | None]]:
    """Return what training started from and was trained on before, with the licence of each."""
    if start is None:
        return []
    before = [one.dataset for one in start.rounds if one.dataset is not None]
    data = [(f"`{one.name}`, on which it was trained before,", one.license) for one in before]
    return [(f"the adapter `{start.name}`, from which training started,", start.license), *data]


def _with_link(licence: Licence, base: BaseRef) -> Licence:
    if licence.id != "other":
        return Licence(licence.id, given=licence.given)
    if not licence.name or not licence.link:
        raise LicenceError(
            f"the licence of `{base.name}` is `other`, without a {'link' if licence.name else 'name'}",
            hint="add `--license-name NAME --license-link URL`",
        )
    link = licence.link
    if "://" not in link:
        link = f"{hub_address()}/{base.repo_id}/blob/{base.revision}/{link.lstrip('./')}"
    return Licence("other", licence.name, link, given=licence.given)


def data_remark(data_licence: str | None, start: StartRef | None = None, adopted: Adopted | None = None) -> str:
    """Return a sentence or two for the card about the licence of the training data, and of the adapter before."""
    if adopted is not None:
        states = f"states the licence `{one_line(adopted.license)}`" if adopted.license else "states no licence"
        return f"{data_remark(data_licence, start)} The adapter's own card, before it was adopted, {states}."
    if start is not None:
        states = f"has the licence `{one_line(start.license)}`" if start.license else "states no licence"
        return f"{data_remark(data_licence)} The adapter that training started from {states}."
    if not data_licence:
        return "The licence of the training data is not stated."
    if SHARE_ALIKE.search(data_licence):
        return (
            f"The licence of the training data is `{data_licence}`. Whether its share-alike terms extend to "
            "model weights is an open question."
        )
    return f"The licence of the training data is `{data_licence}`."
