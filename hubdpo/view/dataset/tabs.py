"""The tabs of a dataset."""

from __future__ import annotations

from hubdpo.view.dataset.dropped import dropped
from hubdpo.view.dataset.numbers import numbers
from hubdpo.view.dataset.viewer import viewer
from hubdpo.view.page import Tab
from hubdpo.view.thing import Thing


def is_dataset(thing: Thing) -> bool:
    return thing.kind == "dataset"


TABS = (
    Tab("viewer", "Pairs", viewer, is_dataset),
    Tab("dropped", "Dropped rows", dropped, is_dataset),
    Tab("numbers", "Numbers", numbers, is_dataset),
)
