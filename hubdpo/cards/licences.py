"""Which licence a release states: the base's own for an adapter, never a guess."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hubdpo.errors import LicenceError
from hubdpo.manifest import BaseRef

RESTRICTED = re.compile(r"(^|-)(nc|nd)(-|$)")
SHARE_ALIKE = re.compile(r"(^|-)sa(-|$)|^(a|l)?gpl")


@dataclass(frozen=True)
class Licence:
    """The licence fields of a model card; `name` and `link` go with the id `other`."""

    id: str
    name: str | None = None
    link: str | None = None


def adapter_licence(base: BaseRef, data_licence: str | None, given: str | None) -> Licence:
    """Return what the card states. `given` is the publisher's own word and settles every doubt.

    Raise LicenceError when the base states none, or the data forbid commercial use or derivatives.
    """
    if given:
        return Licence(given)
    if not base.license:
        raise LicenceError(
            f"the card of `{base.name}` states no licence", hint="add `--license ID` once you know what it allows"
        )
    if data_licence and RESTRICTED.search(data_licence):
        raise LicenceError(
            f"the training data are `{data_licence}`, which forbids some uses of what is made from them",
            hint=f"add `--license {data_licence}` to pass the limits on, or train on other data",
        )
    return Licence(base.license, base.license_name, base.license_link)


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
