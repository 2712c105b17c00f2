"""The tabs of a release: its card, its files, its versions."""

from __future__ import annotations

from hubdpo.view.hub.hosted import Hosted
from hubdpo.view.page import Tab
from hubdpo.view.release.card import card
from hubdpo.view.release.comparison import comparison
from hubdpo.view.release.files import blob, download, picture, tree
from hubdpo.view.release.sources import has_versions
from hubdpo.view.release.versions import versions
from hubdpo.view.thing import Thing

CARD = "card"


def has_card(thing: Thing) -> bool:
    return thing.has_card or isinstance(thing, Hosted)


def always(_: Thing) -> bool:
    return True


TABS: tuple[Tab, ...] = (
    Tab(CARD, "Card", card, has_card),
    Tab("tree", "Files", tree, always),
    Tab("blob", "", blob, always, "tree"),
    Tab("versions", "Versions", versions, has_versions),
    Tab("compare", "", comparison, has_versions, "versions"),
    Tab("image", "", picture, always),
    Tab("download", "", download, lambda thing: not isinstance(thing, Hosted)),
)
