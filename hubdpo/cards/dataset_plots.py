"""Pictures of a dataset card, drawn from the manifest alone."""

from __future__ import annotations

import io
from typing import Any

from hubdpo.manifest import PrepareManifest

COLOURS = {"prompt": "#666666", "chosen": "#1b7f3b", "rejected": "#b3362b"}
SPLIT_COLOURS = {"train": "#2f5d8a", "test": "#c98a1b"}
PLOT = "plots/lengths.png"


def draw_dataset_plots(manifest: PrepareManifest) -> dict[str, bytes]:
    """Return PNGs by their place in the folder: the spread of lengths, and of messages in a prompt."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2.7))
    lengths, turns = figure.subplots(1, 2, width_ratios=(3, 2))
    figure.subplots_adjust(left=0.07, right=0.99, bottom=0.19, top=0.91, wspace=0.2)
    _draw_lengths(lengths, manifest)
    _draw_turns(turns, manifest)
    for axes in (lengths, turns):
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, fontsize=8)
    picture = io.BytesIO()
    # no version of the drawing library in the file: the same data give the same bytes
    figure.savefig(picture, format="png", dpi=110, metadata={"Software": None})
    return {PLOT: picture.getvalue()}


def _draw_lengths(axes: Any, manifest: PrepareManifest) -> None:
    for facts, style in zip(manifest.statistics.values(), ("-", ":"), strict=False):
        for side, colour in COLOURS.items():
            histogram = facts["histograms"][side]
            shares = [count / facts["pairs"] for count in histogram["counts"]]
            # a step for each bin, closed to the right
            axes.step(histogram["edges"], [*shares, shares[-1]], where="post", color=colour, linestyle=style,
                      label=side if style == "-" else None)  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("characters")
    axes.set_title("share of the pairs" + (", test dotted" if len(manifest.splits) > 1 else ""), loc="left", fontsize=9)


def _draw_turns(axes: Any, manifest: PrepareManifest) -> None:
    width = 0.8 / len(manifest.statistics)
    for place, (split, facts) in enumerate(manifest.statistics.items()):
        places = [int(turns) + width * (place - (len(manifest.statistics) - 1) / 2) for turns in facts["turns"]]
        shares = [count / facts["pairs"] for count in facts["turns"].values()]
        axes.bar(places, shares, width, color=SPLIT_COLOURS[split], label=split)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("messages in the prompt")
