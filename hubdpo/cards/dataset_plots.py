"""Pictures of a dataset card, drawn from the manifest alone: lengths and turns, a curve or bar a split."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from hubdpo.manifest import PrepareManifest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {"prompt": "#666666", "chosen": "#1b7f3b", "rejected": "#b3362b"}
SPLIT_COLOURS = {"train": "#2f5d8a", "test": "#c98a1b"}
LENGTHS, TURNS = "plots/lengths.png", "plots/turns.png"


def draw_dataset_plots(manifest: PrepareManifest) -> dict[str, bytes]:
    """Return PNGs by their place in the folder: the spread of lengths, and of messages in a prompt."""
    return {LENGTHS: _png(_lengths(manifest)), TURNS: _png(_turns(manifest))}


def _lengths(manifest: PrepareManifest) -> Figure:
    figure, axes = _axes()
    for side, colour in COLOURS.items():
        histograms = [facts["histograms"][side] for facts in manifest.statistics.values()]
        for histogram, style in zip(histograms, ("-", ":"), strict=False):
            total = max(sum(histogram["counts"]), 1)
            shares = [count / total for count in histogram["counts"]]
            # a step for each bin, closed to the right
            axes.step(histogram["edges"], [*shares, shares[-1]], where="post", color=colour, linestyle=style,
                      label=side if style == "-" else None)  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("characters")
    axes.set_ylabel("share of the pairs")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    if len(manifest.splits) > 1:
        axes.set_title("lengths, train (line) and test (dots)", loc="left", fontsize=9)
    return figure


def _turns(manifest: PrepareManifest) -> Figure:
    figure, axes = _axes()
    width = 0.8 / len(manifest.statistics)
    for place, (split, facts) in enumerate(manifest.statistics.items()):
        turns = [int(count) for count in facts["turns"]]
        shares = [count / facts["pairs"] for count in facts["turns"].values()]
        axes.bar([t + width * (place - (len(manifest.statistics) - 1) / 2) for t in turns], shares, width,
                 color=SPLIT_COLOURS[split], label=split)  # fmt: skip
    axes.set_xlabel("messages in the prompt")
    axes.set_ylabel("share of the pairs")
    axes.legend(frameon=False)
    return figure


def _axes() -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4, 2.7), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _png(figure: Figure) -> bytes:
    picture = io.BytesIO()
    # no version of the drawing library in the file: the same data give the same bytes
    figure.savefig(picture, format="png", dpi=110, metadata={"Software": None})
    return picture.getvalue()
