"""What the curves of runs show: a panel for each metric, thinned to what a picture can hold."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.view.run.log import SPEED, Series
from hubdpo.view.run.state import Run

POINTS = 600
"""Stretches of steps of a long curve, of which each is drawn by its lowest and its highest value."""
MEAN = "Strong lines are means over the last 2 % of the logged steps (five or more), pale ones each of these."
OVERLAID = "Colours are those of the table; lines with points are of held-out pairs."
DASHED = "Log-probabilities of rejected answers are dashed."
SMOOTHED_FROM = 60
"""Steps of a curve from which its running mean is drawn over it."""
START_AT_LN_2 = frozenset({"sigmoid", "sigmoid_norm", "robust", "aot", "aot_unpaired"})
"""Losses that are ln 2 where both answers have the same reward (trl/trainer/dpo_trainer.py)."""
ACCURACY = re.compile(r"eval_([\w.-]{1,40})_rewards/accuracies", re.ASCII)
"""Of no other metric: the names of further evaluation sets are those that have it."""


@dataclass(frozen=True)
class Kind:
    """A panel: `keys` are metrics of training, which have a held-out one of the same name; `mark` is a level."""

    title: str
    keys: tuple[str, ...]
    held_out: bool = True
    mark: tuple[float, str] | None = None


KINDS = {
    "loss": Kind("Loss", ("loss",)),
    "accuracy": Kind("Reward accuracy", ("rewards/accuracies",), mark=(0.5, "chance, 0.5")),
    "margin": Kind("Reward margin", ("rewards/margins",), mark=(0.0, "0")),
    "logps": Kind("Log-probability of an answer, nats", ("logps/chosen", "logps/rejected")),
    "rate": Kind("Learning rate", ("learning_rate",), held_out=False),
    "norm": Kind("Gradient norm", ("grad_norm",), held_out=False),
    "speed": Kind("Tokens per second", (SPEED,), held_out=False),
}
SMOOTHED = ("loss", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected", "grad_norm", SPEED)


@dataclass(frozen=True)
class Curve:
    """Points of a curve. `colour` is a number of the palette; `mean` is the running mean over so many steps."""

    label: str
    colour: int
    held_out: bool
    steps: tuple[float, ...]
    values: tuple[float, ...]
    mean: tuple[float, ...] = ()
    dashed: bool = False
    words: str = field(default="", compare=False)
    """What it is called where nobody sees the picture."""


@dataclass(frozen=True)
class Panel:
    """What a picture shows, all of it: equal panels are equal pictures."""

    title: str
    curves: tuple[Curve, ...]
    mark: tuple[float, str] | None
    chosen: int | None
    """The step whose adapter was taken."""
    notes: tuple[str, ...] = field(default=(), compare=False)
    """Sentences on how the curves were made, for the caption."""


def panel_of(name: str, runs: Sequence[Run]) -> Panel | None:
    """Return a panel of one run, or of several over each other; None where nothing of it was logged."""
    kind, alone = KINDS[name], len(runs) == 1
    curves: list[Curve] = []
    notes: dict[str, None] = {}
    for number, run in enumerate(runs):
        for at, key in enumerate(kind.keys):
            word = key.partition("/")[2] if len(kind.keys) > 1 else ""
            for place, (label, logged) in enumerate(_logged(run, key, kind.held_out)):
                series = run.log.series(logged)
                if not len(series.steps):
                    continue
                held_out = logged != key
                drawn = _drawn(series, smoothed=not held_out and key in SMOOTHED, notes=notes)
                # the table of several runs is their legend
                name_of = " ".join(filter(None, [word, label])) if alone else ""
                colour = _colour(len(kind.keys), at, place) if alone else number
                words = " ".join(filter(None, [run.title if not alone else "", word, label]))
                curves.append(Curve(name_of, colour, held_out, *drawn, dashed=not alone and at > 0, words=words))
    if not curves:
        return None
    if not alone:
        notes |= dict.fromkeys((OVERLAID, DASHED) if len(kind.keys) > 1 else (OVERLAID,))
    chosen = runs[0].manifest.chosen.step if alone and runs[0].manifest and runs[0].manifest.chosen else None
    mark = kind.mark
    if name == "loss" and all(_starts_at_ln_2(run.manifest) for run in runs):
        mark = (math.log(2), "ln 2")
    return Panel(kind.title, tuple(curves), mark, chosen, tuple(notes))


def _colour(keys: int, at: int, place: int) -> int:
    """Return the colour of a curve of one run: chosen and rejected are green and red, as on all pages."""
    return (2, 5)[at] if keys == 2 else (0, 1, 3, 6, 7)[place % 5]


def _logged(run: Run, key: str, held_out: bool) -> list[tuple[str, str]]:
    """Return (label, name in the log) of a metric: of training, of the test split, and of further sets."""
    if not held_out:
        return [("", key)]
    sets = [match[1] for name in run.log.names if (match := ACCURACY.fullmatch(name))]
    return [("training", key), ("held-out", f"eval_{key}"), *((name, f"eval_{name}_{key}") for name in sets)]


def moves_losses(config: Mapping[str, object]) -> bool:
    """Tell from the options of a run whether weights or margins move the losses, as TrainConfig does."""
    return any(config.get(name) for name in ("margin_columns", "weight_column", "use_weighting", "loss_weights"))


def _starts_at_ln_2(manifest: RunManifest | None) -> bool:
    """Tell whether the loss is ln 2 where the adapter does not tell the answers apart."""
    config = manifest.config if manifest is not None else {}
    losses = config.get("loss_type", [])
    return not moves_losses(config) and isinstance(losses, list) and len(losses) == 1 and losses[0] in START_AT_LN_2


Points = tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]


def _drawn(series: Series, *, smoothed: bool, notes: dict[str, None]) -> Points:
    """Return steps, values and running means that are drawn; notes get a sentence on what is not."""
    steps, values = series
    if not (fine := np.isfinite(values) & np.isfinite(steps)).all():
        notes[f"Values that are not finite are left out: {(~fine).sum():,}."] = None
        steps, values = steps[fine], values[fine]
    mean = np.zeros(0)
    if smoothed and len(values) >= SMOOTHED_FROM:
        window = max(len(values) // 50, 5)
        mean = _running_mean(values, window)
        notes[MEAN] = None
    if len(values) > 2 * POINTS:
        notes[
            f"Of {len(values):,} logged steps, the lowest and the highest value in each of {POINTS:,} stretches is "
            "drawn."
        ] = None
        kept = _extremes(values)
        steps, values, mean = steps[kept], values[kept], mean[kept] if len(mean) else mean
    return tuple(steps.tolist()), tuple(values.tolist()), tuple(mean.tolist())


def _running_mean(values: npt.NDArray[np.float64], window: int) -> npt.NDArray[np.float64]:
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    means: npt.NDArray[np.float64] = (sums[ends] - sums[starts]) / (ends - starts)
    return means


def _extremes(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the places of the lowest and highest value of each of POINTS stretches, and both ends, in order."""
    edges = np.linspace(0, len(values), POINTS + 1).astype(np.int64)
    places = {0, len(values) - 1}
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        stretch = values[start:stop]
        places |= {start + int(stretch.argmin()), start + int(stretch.argmax())}
    return np.array(sorted(places))
