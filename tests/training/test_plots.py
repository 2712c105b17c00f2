"""The curves of a run as pictures."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from hubdpo.cards.model.plots import draw, write_plots

LINES: list[dict[str, Any]] = [
    *({"step": step, "loss": 0.7, "logps/chosen": -9.0, "logps/rejected": -step} for step in range(9)),
    {"step": 8, "eval_loss": 0.6},
]


def test_the_legends_cover_no_curve() -> None:
    points = [(step, float(step)) for step in range(9)]
    logps = {f"{held}logps/{side}": points for side in "ab" for held in ("", "held-out ")}
    figure = draw({"loss": {"loss": points}, "margins": {"margins": points}, "logps": logps})
    FigureCanvasAgg(figure).draw()
    drawn = [axes for axes in figure.axes if axes.lines]
    assert [axes.get_ylabel() for axes in drawn] == ["loss", "margins", "logps"]
    assert len({line.get_color() for line in drawn[-1].lines}) == 2
    boxes = [axes.get_window_extent() for axes in drawn]
    for axes in drawn:
        legend = axes.get_legend()
        assert legend is not None
        extent = legend.get_window_extent()
        assert not any(extent.overlaps(box) for box in boxes)
        assert extent.y1 <= figure.bbox.y1


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_ticks_are_whole_steps(steps: int) -> None:
    figure = draw({"loss": {"loss": [(step, 0.7) for step in range(1, steps + 1)]}})
    assert all(tick.is_integer() for tick in figure.axes[0].get_xticks())


@pytest.mark.parametrize(
    ("panel", "first", "levels"),
    [
        ("loss", 0.69, [math.log(2)]),
        ("loss", 2.5, []),
        ("accuracies", 0.9, [0.5]),
        ("margins", 1.0, [0.0]),
        ("logps", -9, []),
    ],
)
def test_a_line_shows_where_answers_are_not_told_apart(panel: str, first: float, levels: list[float]) -> None:
    axes = draw({panel: {panel: [(1, first), (2, first)]}}).axes[0]
    assert [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == "--"] == levels


def test_what_was_logged_is_drawn_the_same_bytes_each_time(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    path = write_plots(tmp_path)
    assert path == tmp_path / "plots" / "curves.png"
    before = path.read_bytes()
    (tmp_path / "plots" / "loss.png").write_bytes(b"as hubdpo 0.2 drew it")
    write_plots(tmp_path)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == {"curves.png": before}


def test_a_run_without_metrics_has_no_plot(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "epoch": 0.1}\n')
    assert write_plots(tmp_path) is None
    assert not (tmp_path / "plots").exists()
