"""Draw the plots of a dataset card from the manifest.

Pillow draws them in 0.03 s. Importing matplotlib and drawing with it would take 0.7 s, about as long as `prepare` takes
for ten thousand rows.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hubdpo.artefacts.manifests.prepare import PrepareManifest

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

COLOURS = {"prompt": "#888888", "chosen": "#0072b2", "rejected": "#e69f00"}
"""Chosen and rejected can be told apart with every kind of colour vision (Okabe and Ito 2008)."""
SPLIT_COLOURS = {"train": "#009e73", "test": "#cc79a7"}
PLOT = "plots/lengths.png"
INK, FAINT = "#222222", "#e4e4e4"
SIZE = 880, 300
SCALE = 2
"""Pixels of the file for each pixel of SIZE, at which the card shows it: enough for sharp screens."""
TICKS = 5
"""Most intervals between the ticks of the vertical axis."""

Point = tuple[float, float]


def draw_dataset_plots(manifest: PrepareManifest) -> dict[str, bytes]:
    """Return PNGs by their path in the dataset folder: histograms of text lengths and of messages in a prompt."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (SCALE * SIZE[0], SCALE * SIZE[1]), "white")
    draw = _Sharp(ImageDraw.Draw(image))
    draw.on.font = ImageFont.load_default(12 * SCALE)
    _draw_lengths(draw, manifest)
    _draw_turns(draw, manifest)
    png = io.BytesIO()
    image.save(png, format="png", dpi=(110 * SCALE, 110 * SCALE))
    return {PLOT: png.getvalue()}


class _Sharp:
    """Draws in pixels of SIZE on a picture with SCALE times as many."""

    def __init__(self, on: ImageDraw) -> None:
        self.on = on

    def line(self, points: Sequence[Point], *, fill: str, width: int = 1) -> None:
        self.on.line([(x * SCALE, y * SCALE) for x, y in points], fill=fill, width=width * SCALE)

    def rectangle(self, points: Sequence[Point], *, fill: str) -> None:
        self.on.rectangle([(x * SCALE, y * SCALE) for x, y in points], fill=fill)

    def text(self, at: Point, text: str, *, fill: str, anchor: str) -> None:
        self.on.text((at[0] * SCALE, at[1] * SCALE), text, fill=fill, anchor=anchor)

    def textlength(self, text: str) -> float:
        return self.on.textlength(text) / SCALE


class _Axes:
    """Axes in pixels: shares from 0 to `top` upwards; `scale` maps a value on the horizontal axis to 0 to 1."""

    def __init__(self, draw: _Sharp, left: int, right: int, top: float, scale: Callable[[float], float]) -> None:
        self.draw, self.left, self.right, self.upper, self.lower = draw, left, right, 34, SIZE[1] - 46
        self._top, self._scale = top, scale
        step = _step(top)
        for number in range(int(top / step) + 1):
            y = self.y(number * step)
            draw.line([(left, y), (right, y)], fill=FAINT)
            draw.text((left - 7, y), f"{number * step:.4%}".rstrip("0%").rstrip(".") + " %", fill=INK, anchor="rm")

    def x(self, value: float) -> int:
        return round(self.left + self._scale(value) * (self.right - self.left))

    def y(self, share: float) -> int:
        return round(self.lower - share / self._top * (self.lower - self.upper))

    def tick(self, value: float, label: str | None) -> None:
        x = self.x(value)
        self.draw.line([(x, self.lower), (x, self.lower + (6 if label else 3))], fill=INK)
        if label:
            self.draw.text((x, self.lower + 9), label, fill=INK, anchor="mt")

    def finish(self, title: str, label: str, legend: dict[str, str]) -> None:
        """Draw the horizontal axis over the data, the title, the axis label and the legend."""
        self.draw.line([(self.left, self.lower), (self.right, self.lower)], fill=INK)
        self.draw.text((self.left, 10), title, fill=INK, anchor="lt")
        self.draw.text(((self.left + self.right) / 2, SIZE[1] - 6), label, fill=INK, anchor="mb")
        x = self.right
        for name, colour in reversed(legend.items()):
            self.draw.text((x, 10), name, fill=INK, anchor="rt")
            x -= int(self.draw.textlength(name)) + 16
            self.draw.rectangle([(x, 11), (x + 10, 19)], fill=colour)
            x -= 14


def _draw_lengths(draw: _Sharp, manifest: PrepareManifest) -> None:
    """Draw the lengths of prompts, chosen and rejected answers as outlines, on a logarithmic scale of characters.

    Only the largest split is drawn: the table above the picture has the lengths of all, and six outlines are a tangle.
    """
    split, statistics = max(manifest.statistics.items(), key=lambda item: item[1]["pairs"])
    outlines = []
    for side, colour in COLOURS.items():
        histogram = statistics["histograms"][side]
        shares = [count / statistics["pairs"] for count in histogram["counts"]]
        outlines.append((histogram["edges"], shares, colour))
    first = (next(edge for edge, share in zip(edges, shares, strict=False) if share) for edges, shares, _ in outlines)
    low, high = math.log(min(first)), math.log(max(edges[-1] for edges, _, _ in outlines))
    axes = _Axes(
        draw, 52, 520, max(max(shares) for _, shares, _ in outlines) * 1.06,
        lambda value: (math.log(value) - low) / (high - low),
    )  # fmt: skip
    for edges, shares, colour in outlines:
        bins = [bin_ for bin_ in zip(edges, edges[1:], shares, strict=False) if math.log(bin_[0]) >= low]
        points: list[Point] = [(axes.x(bins[0][0]), axes.y(0))]
        for left, right, share in bins:
            points += [(axes.x(left), axes.y(share)), (axes.x(right), axes.y(share))]
        points.append((axes.x(edges[-1]), axes.y(0)))
        draw.line(points, fill=colour, width=2)
    for power in range(math.ceil(high / math.log(10)) + 1):
        for digit in range(1, 10):
            if low <= math.log(digit * 10**power) <= high:
                axes.tick(digit * 10**power, f"{10**power:,}" if digit == 1 else None)
    axes.finish(f"share of the {split} pairs", "characters", COLOURS)


def _draw_turns(draw: _Sharp, manifest: PrepareManifest) -> None:
    """Draw a bar for each number of messages in a prompt, with the splits side by side."""
    shares = {
        split: {int(turns): count / statistics["pairs"] for turns, count in statistics["turns"].items()}
        for split, statistics in manifest.statistics.items()
    }
    seen = {turns for bars in shares.values() for turns in bars}
    low, high = min(seen) - 0.6, max(seen) + 0.6
    axes = _Axes(
        draw, 590, 870, max(max(bars.values()) for bars in shares.values()) * 1.06,
        lambda value: (value - low) / (high - low),
    )  # fmt: skip
    width = 0.8 / len(shares)
    for number, (split, bars) in enumerate(shares.items()):
        for turns, share in bars.items():
            left = axes.x(turns - 0.4 + width * number)
            right = max(axes.x(turns - 0.4 + width * (number + 1)) - 1, left)
            draw.rectangle([(left, axes.y(share)), (right, axes.lower)], fill=SPLIT_COLOURS[split])
    every = math.ceil((high - low) / 12)
    for turns in range(math.ceil(low), math.floor(high) + 1):
        axes.tick(turns, f"{turns}" if turns % every == 0 or every == 1 else None)
    axes.finish("", "messages in the prompt", {split: SPLIT_COLOURS[split] for split in shares})


def _step(top: float) -> float:
    """Return a round distance between ticks, with at most TICKS of it up to `top`."""
    power = 10.0 ** math.floor(math.log10(top / TICKS))
    return power * next(factor for factor in (1, 2, 2.5, 5, 10) if power * factor * TICKS >= top)
