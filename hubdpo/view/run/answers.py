"""The answers of base and adapter side by side: to held-out prompts, and to the prompts that every adapter gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from hubdpo.artefacts.manifests.answered import ANSWERED_FILE, Answered, Said, from_lines
from hubdpo.artefacts.manifests.evaluation import EvalReport
from hubdpo.artefacts.manifests.manifest import EVAL_FILE
from hubdpo.cards.model.judged import OUTCOMES
from hubdpo.console import counted
from hubdpo.view.dataset.turns import pair_of
from hubdpo.view.page import Asked, Page, PageError
from hubdpo.view.run.state import Run, chosen_run
from hubdpo.view.thing import Thing
from hubdpo.view.words import Piece, marked

ROWS = 10
"""Held-out prompts of a page."""
ONLY: Mapping[str, tuple[str, Callable[[Answered], bool]]] = {
    "differ": ("the answers differ", lambda each: each.base.text != each.adapter.text),
    "unended": ("an answer did not end", lambda each: not (each.base.ended and each.adapter.ended)),
    "refusal": ("an answer begins like a refusal", lambda each: each.base.refuses or each.adapter.refuses),
    "language": (
        "an answer is in another language",
        lambda each: any(_is_other(each, said) for said in (each.base, each.adapter)),
    ),
}
"""What the list of held-out prompts can be narrowed to, beside the outcomes of a judge."""


class Fixed(NamedTuple):
    """Both answers to a prompt that is text."""

    prompt: str
    base: list[Piece]
    adapter: list[Piece]
    outcome: str = ""


def answers(asked: Asked, thing: Thing) -> Page:
    """Show both answers to each prompt, with the words marked in which they differ.

    The held-out prompts are those of the last evaluation in a folder; a release has the ones that its card quotes.
    """
    run, runs = chosen_run(asked, thing)
    report = run.snapshot.evaluation
    if report is None:
        if run.is_live:
            raise PageError(404, "both are asked when the training ends", "")
        what = "cannot be read" if EVAL_FILE in run.snapshot.files else "is not there"
        raise PageError(
            404, f"{EVAL_FILE}, which holds the answers, {what}", f"hubdpo evaluate {run.folder or run.title}"
        )
    fixed = [Fixed(sample.prompt, *marked(sample.base, sample.adapter)) for sample in report.samples]
    values = {"run": run, "runs": runs, "answers": fixed, "quoted": _quoted(report), **_held_out(asked, run)}
    return Page("answers.html", "Answers", values)


def _held_out(asked: Asked, run: Run) -> dict[str, Any]:
    local = run.folder is not None and ANSWERED_FILE in run.snapshot.files
    all_of_them = from_lines(run.snapshot.read(ANSWERED_FILE)) if local else []
    outcomes = {each.verdict.outcome for each in all_of_them if each.verdict is not None}
    only = dict(ONLY) | {name: (OUTCOMES[name], _came_to(name)) for name in OUTCOMES if name in outcomes}
    chosen, text, is_one = asked.choice("only", tuple(only)), asked.text("q"), "row" in asked.query
    fits = [each for each in all_of_them if (not chosen or only[chosen][1](each)) and _has(each, text)]
    if is_one:
        fits = [each for each in all_of_them if each.row == asked.number("row", 0)]
        if not fits:
            raise PageError(404, f"row {asked.number('row', 0):,} was not answered", "")
    start, before, after = asked.rows(len(fits), ROWS)
    return {
        "shown": [_shown(each, text=text, whole=is_one) for each in fits[start : start + ROWS]],
        "has_held_out": bool(all_of_them), "is_one": is_one,
        "note": f"{counted(len(fits), 'prompt')} of {len(all_of_them):,}",
        "only": {name: f"{label} ({sum(map(fit, all_of_them)):,})" for name, (label, fit) in only.items()},
        "chosen": chosen, "before": before, "after": after,
        "address_of": lambda row: asked.link("answers", row=row, run=asked.text("run")),
    }  # fmt: skip


def _came_to(outcome: str) -> Callable[[Answered], bool]:
    return lambda each: each.verdict is not None and each.verdict.outcome == outcome


def _has(each: Answered, text: str) -> bool:
    held = [str(message.get("content") or "") for message in each.prompt] + [each.base.text, each.adapter.text]
    return not text or any(text.casefold() in part.casefold() for part in held)


def _is_other(each: Answered, said: Said) -> bool:
    return bool(each.language and said.language and each.language != said.language)


def _shown(each: Answered, *, text: str, whole: bool) -> dict[str, object]:
    """Return both answers to a held-out prompt, as a pair of turns, and what is told of each."""
    sides = [[{"role": "assistant", "content": said.text}] for said in (each.base, each.adapter)]
    row = {"prompt": each.prompt, "chosen": sides[0], "rejected": sides[1], "tools": each.tools}
    verdict = each.verdict
    return {
        "row": each.row, "pair": pair_of("test", each.row, row, text=text, whole=whole),
        "facts": {"base": _facts(each, each.base), "adapter": _facts(each, each.adapter)},
        "outcome": OUTCOMES[verdict.outcome] if verdict is not None else "",
        "said": list(filter(None, (verdict.base_first, verdict.adapter_first))) if verdict is not None else [],
        "is_same": each.base.text == each.adapter.text,
    }  # fmt: skip


def _facts(each: Answered, said: Said) -> list[str]:
    return [
        counted(said.tokens, "token"),
        *([] if said.ended else ["did not end"]),
        *(["begins like a refusal"] if said.refuses else []),
        *([f"{each.language} → {said.language}"] if _is_other(each, said) else []),
    ]


def _quoted(report: EvalReport) -> list[Fixed]:
    return [
        Fixed(
            quote.prompt, *marked(quote.base, quote.adapter), outcome=OUTCOMES[quote.outcome] if quote.outcome else ""
        )
        for quote in (report.quoted.quotes if report.quoted is not None else ())
    ]
