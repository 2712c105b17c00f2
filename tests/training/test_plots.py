"""The curves of a run as pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg

from hubdpo.cards.model.plots import curves, write_plots

LINES: list[dict[str, Any]] = [
    *({"step": step, "loss": 0.7, "logps/chosen": -9.0, "logps/rejected": -step} for step in range(9)),
    {"step": 8, "eval_loss": 0.6},
]


def test_the_legend_covers_no_curve() -> None:
    points = [(step, float(step)) for step in range(9)]
    figure = curves("logps", {f"{held}logps/{side}": points for side in "ab" for held in ("", "held-out ")})
    FigureCanvasAgg(figure).draw()
    axes = figure.axes[0]
    legend = axes.get_legend()
    assert legend is not None
    assert len({line.get_color() for line in axes.lines}) == 2
    assert not legend.get_window_extent().overlaps(axes.get_window_extent())
    assert legend.get_window_extent().y1 <= figure.bbox.y1


def test_what_was_logged_is_drawn_the_same_bytes_each_time(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    files = write_plots(tmp_path)
    assert [path.name for path in files] == ["loss.png", "logps.png"]
    before = [path.read_bytes() for path in files]
    assert [path.read_bytes() for path in write_plots(tmp_path)] == before
