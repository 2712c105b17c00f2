"""Pictures of a dataset card, drawn from the manifest alone.

Drawn with Pillow: a plotting library takes longer to load than prepare takes for ten thousand rows.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hubdpo.artefacts.manifests.prepare import PrepareManifest

COLOURS = {"prompt": "#666666", "chosen": "#1b7f3b", "rejected": "#b3362b"}
SPLIT_COLOURS = {"train": "#2f5d8a", "test": "#c98a1b"}
PLOT = "plots/lengths.png"
INK, FAINT = "#222222", "#e4e4e4"
SIZE = 880, 300
TICKS = 5
"""Most gaps between the marks of an axis of shares."""

Point = tuple[float, float]


def draw_dataset_plots(manifest: PrepareManifest) -> dict[str, bytes]:
    """Return PNGs by their place in the folder: the spread of lengths, and of messages in a prompt."""
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(picture)
    draw.font = ImageFont.load_default(12)
    _draw_lengths(draw, manifest)
    _draw_turns(draw, manifest)
    png = io.BytesIO()
    picture.save(png, format="png", dpi=(110, 110))
    return {PLOT: png.getvalue()}


class _Axes:
    """A frame in pixels that marks shares from 0 to `top` on the left; `across` maps a value to 0 to 1."""

    def __init__(self, draw: Any, left: int, right: int, top: float, across: Callable[[float], float]) -> None:
        self.draw, self.left, self.right, self.upper, self.lower = draw, left, right, 34, SIZE[1] - 46
        self._top, self._across = top, across
        step = _step(top)
        for mark in range(int(top / step) + 1):
            y = self.y(mark * step)
            draw.line([(left, y), (right, y)], fill=FAINT)
            draw.text((left - 7, y), f"{mark * step:.4%}".rstrip("0%").rstrip(".") + " %", fill=INK, anchor="rm")

    def x(self, value: float) -> int:
        return round(self.left + self._across(value) * (self.right - self.left))

    def y(self, share: float) -> int:
        return round(self.lower - share / self._top * (self.lower - self.upper))

    def mark(self, value: float, label: str | None) -> None:
        x = self.x(value)
        self.draw.line([(x, self.lower), (x, self.lower + (6 if label else 3))], fill=INK)
        if label:
            self.draw.text((x, self.lower + 9), label, fill=INK, anchor="mt")

    def close(self, title: str, below: str, legend: dict[str, str]) -> None:
        """Draw the axis over what was drawn, name it, and say what the colours are."""
        self.draw.line([(self.left, self.lower), (self.right, self.lower)], fill=INK)
        self.draw.text((self.left, 10), title, fill=INK, anchor="lt")
        self.draw.text(((self.left + self.right) / 2, SIZE[1] - 6), below, fill=INK, anchor="mb")
        x = self.right
        for name, colour in reversed(legend.items()):
            self.draw.text((x, 10), name, fill=INK, anchor="rt")
            x -= int(self.draw.textlength(name)) + 16
            self.draw.rectangle([(x, 11), (x + 10, 19)], fill=colour)
            x -= 14


def _draw_lengths(draw: Any, manifest: PrepareManifest) -> None:
    """Draw a step for each bin of each side; the second split is dotted."""
    lines = []
    for place, facts in enumerate(manifest.statistics.values()):
        for side, colour in COLOURS.items():
            histogram = facts["histograms"][side]
            lines.append((histogram["edges"], [count / facts["pairs"] for count in histogram["counts"]], colour, place))
    low = math.log(
        min(next(edge for edge, share in zip(edges, shares, strict=False) if share) for edges, shares, *_ in lines)
    )
    high = math.log(max(edges[-1] for edges, *_ in lines))
    axes = _Axes(
        draw, 52, 520, max(max(shares) for _, shares, *_ in lines) * 1.06,
        lambda value: (math.log(value) - low) / (high - low),
    )  # fmt: skip
    for edges, shares, colour, place in lines:
        bins = [one for one in zip(edges, edges[1:], shares, strict=False) if math.log(one[0]) >= low]
        points: list[Point] = [(axes.x(bins[0][0]), axes.y(0))]
        for left, right, share in bins:
            points += [(axes.x(left), axes.y(share)), (axes.x(right), axes.y(share))]
        points.append((axes.x(edges[-1]), axes.y(0)))
        for dash in _dots(points) if place else [points]:
            draw.line(dash, fill=colour, width=2)
    for power in range(math.ceil(high / math.log(10)) + 1):
        for digit in range(1, 10):
            if low <= math.log(digit * 10**power) <= high:
                axes.mark(digit * 10**power, f"{10**power:,}" if digit == 1 else None)
    title = "share of the pairs" + (", test dotted" if len(manifest.splits) > 1 else "")
    axes.close(title, "characters", COLOURS)


def _draw_turns(draw: Any, manifest: PrepareManifest) -> None:
    shares = {
        split: {int(turns): count / facts["pairs"] for turns, count in facts["turns"].items()}
        for split, facts in manifest.statistics.items()
    }
    seen = {turns for bars in shares.values() for turns in bars}
    low, high = min(seen) - 0.6, max(seen) + 0.6
    axes = _Axes(
        draw, 590, 870, max(max(bars.values()) for bars in shares.values()) * 1.06,
        lambda value: (value - low) / (high - low),
    )  # fmt: skip
    width = 0.8 / len(shares)
    for place, (split, bars) in enumerate(shares.items()):
        for turns, share in bars.items():
            left = axes.x(turns - 0.4 + width * place)
            right = max(axes.x(turns - 0.4 + width * (place + 1)) - 1, left)
            draw.rectangle([(left, axes.y(share)), (right, axes.lower)], fill=SPLIT_COLOURS[split])
    every = math.ceil((high - low) / 12)
    for turns in range(math.ceil(low), math.floor(high) + 1):
        axes.mark(turns, f"{turns}" if turns % every == 0 or every == 1 else None)
    axes.close("", "messages in the prompt", {split: SPLIT_COLOURS[split] for split in shares})


def _step(top: float) -> float:
    """Return a round number that `top` holds at most TICKS times."""
    power = 10.0 ** math.floor(math.log10(top / TICKS))
    return power * next(factor for factor in (1, 2, 2.5, 5, 10) if power * factor * TICKS >= top)


def _dots(points: Sequence[Point], on: int = 2, off: int = 3) -> Iterator[list[Point]]:
    """Cut a path of level and upright lines into short pieces."""
    ahead = 0.0  # pixels until the next piece begins, from the start of a line
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        length = abs(x1 - x0) + abs(y1 - y0)
        at = ahead
        while at < length:
            ends = (at / length, min(at + on, length) / length)
            yield [(x0 + (x1 - x0) * end, y0 + (y1 - y0) * end) for end in ends]
            at += on + off
        ahead = at - length
