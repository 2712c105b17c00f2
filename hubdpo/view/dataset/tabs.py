"""The tabs of a dataset."""

from __future__ import annotations

from hubdpo.view.dataset.viewer import viewer
from hubdpo.view.page import Tab
from hubdpo.view.thing import Thing


def is_dataset(thing: Thing) -> bool:
    return thing.kind == "dataset"


TABS = (Tab("viewer", "Pairs", viewer, is_dataset),)
