"""How runs went: curves, what was logged last, and of several runs what differs and how they ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hubdpo.artefacts.manifests.evaluation import EvalReport
from hubdpo.cards.results import evaluated_pairs, interval, percent
from hubdpo.console import counted, duration
from hubdpo.loopback.http.wire import Answer
from hubdpo.view.page import Asked, Page, PageError
from hubdpo.view.plots import THEMES
from hubdpo.view.run.draw import picture
from hubdpo.view.run.log import SECONDS, STEP, Log
from hubdpo.view.run.options import differing
from hubdpo.view.run.panels import ACCURACY, KINDS, Panel, panel_of
from hubdpo.view.run.state import Run, look_again, runs_of
from hubdpo.view.thing import Thing

LINES = 20
"""Lines of the log on a page."""


def curves(asked: Asked, thing: Thing) -> Page | Answer:
    """Show the curves of the runs and the last lines of the log of one, or the picture that the next segment names."""
    runs = runs_of(thing)
    if len(asked.rest) > 1:
        return _plot(asked, runs)
    panels = {name: panel for name in KINDS if (panel := panel_of(name, runs)) is not None}
    values: dict[str, Any] = {
        "runs": runs, "pictures": [_picture(asked, name, panel, runs) for name, panel in panels.items()],
        "notes": dict.fromkeys(note for panel in panels.values() for note in panel.notes),
        "every": look_again(thing, runs),
        "table": None if len(runs) > 1 else _table(asked, runs[0].log),
        "damaged": sum(run.log.damaged for run in runs), "too_many": any(run.log.too_many for run in runs),
    }  # fmt: skip
    if len(runs) > 1:
        return Page("runs.html", "Runs", values | {"cells": list(map(_cells, runs)), "options": differing(runs)})
    return Page("curves.html", "Curves", values | {"run": runs[0], "facts": facts_of(runs[0])})


def _plot(asked: Asked, runs: Sequence[Run]) -> Answer:
    name = asked.rest[1]
    panel = panel_of(name, runs) if name in KINDS and len(asked.rest) == 2 else None
    if panel is None:
        raise PageError(404, "there is no such picture", "choose one of the tabs above")
    return picture(panel, asked.choice("theme", tuple(THEMES)) or "light")


def _picture(asked: Asked, name: str, panel: Panel, runs: Sequence[Run]) -> dict[str, str]:
    # another address once there is more to see, so that the browser asks for it
    lines = sum(run.log.count for run in runs)
    addresses = {
        theme: asked.link("curves", name, theme=theme, at=lines, revision=asked.text("revision")) for theme in THEMES
    }
    ends = [
        f"{curve.words} {number(curve.values[0])} at step {curve.steps[0]:,.0f}, "
        f"{number(curve.values[-1])} at step {curve.steps[-1]:,.0f}"
        for curve in panel.curves
        if curve.values
    ]
    return {"name": name, "title": panel.title, "words": f"{panel.title}: {'; '.join(ends)}", **addresses}


def facts_of(run: Run) -> list[tuple[str, str]]:
    """Return (value, what it is) of how far a run is and what came out."""
    manifest, report = run.manifest, run.snapshot.evaluation
    facts = [(run.steps, "steps")]
    if (seconds := run.seconds_left) is not None:
        facts.append((duration(seconds), "left"))
    if run.status == "complete" and manifest is not None and manifest.train_seconds is not None:
        facts.append((duration(manifest.train_seconds), "training time"))
    if (speed := run.tokens_per_second) is not None:
        facts.append((f"{speed:,.0f}", "tokens per second"))
    pairs = evaluated_pairs(manifest) if manifest is not None else None
    on = f" on {pairs} pairs" if pairs else ""
    for name, words in (("loss", "training loss"), ("eval_loss", f"held-out loss{on}")):
        if (last := run.log.last(name)) is not None:
            facts.append((f"{last:.4f}", words))
    if report is not None:
        facts += _measured(report)
    elif (last := run.log.last("eval_rewards/accuracies")) is not None:
        facts.append((f"{last:.1%}", f"held-out reward accuracy{on}"))
    return facts


def _measured(report: EvalReport) -> list[tuple[str, str]]:
    of = counted(report.pairs, "held-out pair")
    reward, original = report.reward_accuracy, report.original
    facts = [(percent(reward.value), f"reward accuracy on {of} (95 %: {reward.low:.1%} to {reward.high:.1%})")]
    for ranking, weights in ((report, ""), (original, " on the original weights")):
        if ranking is not None:
            words = f"ranked right per token{weights}; by the base {percent(ranking.base_accuracy.value)}"
            facts.append((percent(ranking.adapter_accuracy.value), words))
    return facts


def _cells(run: Run) -> list[str]:
    """Return the cells of the table of runs, after the options in which they differ."""
    report = run.snapshot.evaluation
    losses = [run.log.last(name) for name in ("loss", "eval_loss")]
    cells = [run.steps, *("" if loss is None else f"{loss:.4f}" for loss in losses)]
    if losses[1] is not None and run.manifest is not None and (pairs := evaluated_pairs(run.manifest)):
        cells[-1] += f" ({pairs} pairs)"
    if report is None:
        return [*cells, "", "", "", "", ""]
    ranked = map(interval, (report.adapter_accuracy, report.base_accuracy))
    return [*cells, interval(report.reward_accuracy), f"{report.reward_margin:+.4f}", *ranked, f"{report.pairs:,}"]


def _table(asked: Asked, log: Log) -> dict[str, object] | None:
    """Return lines of the log, the newest first: `kinds` are (value, label) of which `kind` is shown."""
    sets = [match[1] for name in log.names if (match := ACCURACY.fullmatch(name))]
    kinds = [("", "training", ""), ("held-out", "held-out", "eval_"), *((name, name, f"eval_{name}_") for name in sets)]
    kinds = [each for each in kinds if len(log.lines_with(f"{each[2]}loss"))]
    if not kinds:
        return None
    asked_for = asked.text("lines")
    kind, _, prefix = next((each for each in kinds if each[0] == asked_for), kinds[0])
    lines = log.lines_with(f"{prefix}loss")
    start, before, after = asked.rows(len(lines), LINES)
    numbers = [lines[-1 - at] for at in range(start, min(start + LINES, len(lines)))]
    shown_lines = [log.line(number) for number in numbers]
    there = {name for line in shown_lines for name in line}
    names = [
        name
        for name in log.names
        if name in there and (not prefix or name in (STEP, SECONDS, "epoch") or name.startswith(prefix))
    ]
    return {
        "kinds": [(value, label) for value, label, _ in kinds], "kind": kind,
        "names": [name.removeprefix(prefix) for name in names],
        "rows": [[number(line[name]) if name in line else "" for name in names] for line in shown_lines],
        "note": f"lines {start + 1:,} to {start + len(numbers):,} of {len(lines):,}, the newest first",
        "before": before, "after": after,
    }  # fmt: skip


def number(value: float) -> str:
    """Return a number as a table shows it: whole ones whole, others with five digits."""
    return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.5g}"
