"""The answers of base and adapter to the prompts that hubdpo gives every adapter, side by side."""

from __future__ import annotations

from typing import NamedTuple

from hubdpo.artefacts.manifests.manifest import EVAL_FILE
from hubdpo.view.page import Asked, Page, PageError
from hubdpo.view.run.state import chosen_run
from hubdpo.view.thing import Thing
from hubdpo.view.words import Piece, marked


class Answered(NamedTuple):
    prompt: str
    base: list[Piece]
    adapter: list[Piece]

    @property
    def is_same(self) -> bool:
        return self.base == self.adapter


def answers(asked: Asked, thing: Thing) -> Page:
    """Show both answers to each prompt, with the words marked in which they differ."""
    run, runs = chosen_run(asked, thing)
    report = run.snapshot.evaluation
    if report is None:
        if run.is_live:
            raise PageError(404, "both are asked when the training ends", "")
        what = "cannot be read" if EVAL_FILE in run.snapshot.files else "is not there"
        raise PageError(
            404, f"{EVAL_FILE}, which holds the answers, {what}", f"hubdpo evaluate {run.folder or run.title}"
        )
    asked_for = [Answered(sample.prompt, *marked(sample.base, sample.adapter)) for sample in report.samples]
    return Page("answers.html", "Answers", {"run": run, "runs": runs, "answers": asked_for})
