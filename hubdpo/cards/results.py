"""The results of a model card: table rows, and a sentence on their significance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hubdpo.artefacts.manifests.evaluation import Ranking
from hubdpo.artefacts.manifests.intervals import Accuracy, Interval
from hubdpo.artefacts.manifests.judged import Rate
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.console import counted

Row = tuple[str, ...]
LogLine = Mapping[str, Any]
"""A line of metrics.jsonl."""
NONE = "–"
CURVE = {
    "epoch": ".2f", "loss": ".4f", "eval_loss": ".4f", "eval_rewards/accuracies": ".3f", "eval_rewards/margins": "+.4f"
}  # fmt: skip
"""Columns of the table of evaluations after the step, with their formats."""
MOST_POINTS = 8
"""Rows of the table of evaluations."""
CHANCE = 0.05
"""Significance level of McNemar's test."""


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def result_rows(report: Ranking, *, beta: float | None) -> list[Row]:
    """Return (metric, base, adapter, difference); accuracies differ in percentage points.

    `beta` is None where no loss compared with the base: then there is no implicit reward.
    """
    margins = report.base_margin, report.adapter_margin, report.adapter_margin - report.base_margin
    base_margin, adapter_margin, change = (f"{margin:+.4f}" for margin in margins)
    rewards = around(f"{report.reward_margin:+.4f}", report.reward_interval)
    longer = interval(report.longer_answer_accuracy)
    rows = [
        (
            "log-likelihood accuracy, per token",
            interval(report.base_accuracy),
            interval(report.adapter_accuracy),
            gain(report),
        ),
        _shares("… summed over the answer", report.base_summed_accuracy, report.adapter_summed_accuracy),
        _shares("… length-balanced", report.balanced("base"), report.balanced("adapter")),
        ("mean margin, nats per token", base_margin, adapter_margin, around(change, report.margin_gain)),
        ("always picking the longer answer, a tie by half", longer, longer, ""),
    ]
    if beta is not None:
        rows[-1:-1] = [
            (f"DPO implicit-reward accuracy, β {beta:g}", NONE, interval(report.reward_accuracy), ""),
            ("mean reward margin", NONE, rewards, ""),
        ]
    return [row for row in rows if row is not None]


def verdict(report: Ranking) -> str:
    """Say whether the adapter differs significantly from its base; "" if the report has no test."""
    if report.mcnemar_p is None:
        return ""
    counts = (
        f"The adapter alone ranks {counted(report.only_adapter_right or 0, 'pair')} correctly, the base model alone "
        f"{counted(report.only_base_right or 0, 'pair')} (McNemar's exact test: p = {probability(report.mcnemar_p)})"
    )
    if report.mcnemar_p > CHANCE:
        return f"{counts}. The difference is not significant at the {CHANCE:.0%} level."
    return counts + "."


def start_verdict(report: Ranking) -> str:
    """Compare the adapter with the one that training started from; "" if that is not in the report."""
    start = report.start
    if start is None:
        return ""
    gain = 100 * (report.adapter_accuracy.value - start.accuracy.value)
    return (
        f"The adapter that training started from ranks {interval(start.accuracy)} of the pairs correctly per token, at "
        f"a mean margin of {start.margin:+.4f}; training changed the share by {gain:+.1f} pt. This adapter alone ranks "
        f"{counted(start.only_adapter_right, 'pair')} correctly, that one alone "
        f"{counted(start.only_start_right, 'pair')} (p = {probability(start.mcnemar_p)}). Rewards are relative to it."
    )


def probability(p: float) -> str:
    return f"{p:.3f}".rstrip("0").rstrip(".") if p >= 0.001 else f"{p:.0e}"


def interval(accuracy: Accuracy | Rate) -> str:
    return f"{percent(accuracy.value)} ({100 * accuracy.low:.1f}–{100 * accuracy.high:.1f})"


def gain(report: Ranking) -> str:
    """Return the difference of the accuracies per token in percentage points, with its interval where it is known."""
    if report.accuracy_gain is not None:
        return points(report.accuracy_gain)
    return f"{100 * (report.adapter_accuracy.value - report.base_accuracy.value):+.1f} pt"


def points(difference: Interval) -> str:
    """Return a difference of shares in percentage points, with its bounds."""
    return f"{100 * difference.value:+.1f} pt ({100 * difference.low:+.1f} to {100 * difference.high:+.1f})"


def around(text: str, bounds: Interval | None) -> str:
    """Add the bounds of an interval to its number, where they are known."""
    return f"{text} ({bounds.low:+.4f} to {bounds.high:+.4f})" if bounds is not None else text


def evaluated_pairs(run: RunManifest) -> str | None:
    """Return on which held-out pairs the training evaluated: `the first 8 of 42`, or `42`; None if it is not known."""
    if not run.test_pairs or (run.eval_pairs is None and "max_eval_pairs" not in run.config):
        return None
    return some_pairs(run.eval_pairs, of=run.test_pairs, most=run.config.get("max_eval_pairs"))


def set_pairs(run: RunManifest, name: str) -> str:
    """Return on which pairs of a further dataset they were."""
    one = run.evaluation_sets[name]
    of = one.dataset.test_pairs if one.split == "test" else one.dataset.train_pairs
    return some_pairs(one.pairs, of=of, most=run.config.get("max_eval_pairs"))


def some_pairs(count: int | None, *, of: int, most: object) -> str:
    """Return in words how many pairs of a split were measured, of which at most the first `most` were taken.

    `count` is None where it was not recorded; it is less than was taken where pairs were dropped for their length.
    """
    first = min(most, of) if isinstance(most, int) else of
    pool = f"the first {first:,} of {of:,}" if first < of else f"{of:,}"
    return pool if count in (None, first) else f"{count:,} of {pool}"


def curve_rows(log: Sequence[LogLine], *, taken: int | None = None) -> list[Row]:
    """Return (step, epoch, training loss, held-out loss, accuracy, margin) for evaluations in metrics.jsonl.

    At most MOST_POINTS evaluations are chosen, evenly spaced, always with the last one, and beside them that of the
    step whose adapter was `taken`. The row of the adapter, by default the last one, is in bold.
    """
    evaluations = [line for line in log if "eval_loss" in line]
    points = min(len(evaluations), MOST_POINTS)
    chosen = [evaluations[round(i * (len(evaluations) - 1) / max(points - 1, 1))] for i in range(points)]
    chosen = [line for line in evaluations if line in chosen or line["step"] == taken]
    adapter = taken or (chosen[-1]["step"] if chosen else None)
    rows: list[Row] = []
    for line in chosen:
        losses = [{"loss": before["loss"]} for before in log if "loss" in before and before["step"] <= line["step"]]
        values = {**line, **(losses[-1] if losses else {})}
        cells = (format(float(values[key]), form) if key in values else NONE for key, form in CURVE.items())
        row = (f"{line['step']:,}", *cells)
        rows.append(tuple(f"**{cell}**" for cell in row) if line["step"] == adapter else row)
    return rows


def _shares(metric: str, base: Accuracy | None, adapter: Accuracy | None) -> Row | None:
    if base is None or adapter is None:
        return None
    return metric, interval(base), interval(adapter), f"{100 * (adapter.value - base.value):+.1f} pt"
