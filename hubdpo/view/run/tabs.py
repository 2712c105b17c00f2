"""The tabs of a run, or of several that are drawn over each other."""

from __future__ import annotations

from hubdpo.view.page import Tab
from hubdpo.view.run.answers import answers
from hubdpo.view.run.curves import curves
from hubdpo.view.run.options import options
from hubdpo.view.run.pairs import pairs
from hubdpo.view.thing import Thing


def is_run(thing: Thing) -> bool:
    return thing.kind == "run"


TABS = (
    Tab("curves", "Curves", curves, is_run),
    Tab("pairs", "Held-out pairs", pairs, is_run),
    Tab("answers", "Answers", answers, is_run),
    Tab("options", "Options and warnings", options, is_run),
)
