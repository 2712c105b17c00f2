"""The numbers of a dataset: what became of its rows, their sources and lengths, and how they were split."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hubdpo.artefacts.formats.messages import COLUMNS
from hubdpo.artefacts.manifests.prepare import EXTRAS, PrepareManifest
from hubdpo.loopback.http.wire import Answer
from hubdpo.view.dataset.dropped import manifest_of
from hubdpo.view.dataset.index import Index
from hubdpo.view.dataset.viewer import table_of
from hubdpo.view.page import Asked, Page, PageError
from hubdpo.view.plots import THEMES, Colours, draw_svg
from hubdpo.view.thing import Thing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WAIT_S = 0.3
"""How long the page waits until the prompts of all splits are counted; it is refreshed if that was too short."""
DASHES = ("-", "--", ":", "-.")


def numbers(asked: Asked, thing: Thing) -> Page | Answer:
    """Show the numbers, or the plot that the next segment of the address names."""
    manifest = manifest_of(thing)
    if len(asked.rest) > 1:
        return _plot(asked, manifest)
    table = table_of(thing)
    index = thing.keep("index", lambda: Index(table))
    index.wait(WAIT_S)
    plots = {
        theme: {name: asked.link("numbers", name, theme=theme, revision=asked.text("revision")) for name in DRAWN}
        for theme in THEMES
    }
    return Page(
        "numbers.html", "Numbers",
        {
            "manifest": manifest, "funnel": _funnel(manifest), "index": index, "plots": plots, "extras": EXTRAS,
            "lengths": _lengths(manifest), "problems": table.problems, "has_plots": bool(manifest.statistics),
        },
    )  # fmt: skip


def _funnel(manifest: PrepareManifest) -> list[tuple[str, int, str]]:
    """Return the steps from rows read to pairs kept: label, count, and `less` or `more` for what is taken or added."""
    funnel = manifest.funnel
    steps = [("read", funnel.read, "")]
    steps += [(f"dropped: {reason}", count, "less") for reason, count in funnel.dropped.items()]
    steps += [("joined: became the second answer of a pair", funnel.joined, "less")] if funnel.joined else []
    more = funnel.added - manifest.repeated
    steps += [("added: more pairs of rows with several answers", more, "more")] if more else []
    steps += [("added: written once more, by their weight", manifest.repeated, "more")] if manifest.repeated else []
    return [*steps, ("kept", funnel.kept, "")]


def _lengths(manifest: PrepareManifest) -> list[tuple[str, str, dict[str, Any]]]:
    """Return split, what is measured, and its percentiles."""
    found = []
    for split, statistics in manifest.statistics.items():
        for unit in ("characters", "tokens"):
            for side, spread in statistics.get(unit, {}).items():
                found.append((split, f"{unit} of {'prompt and longer answer' if side == 'pair' else side}", spread))
    return found


def _plot(asked: Asked, manifest: PrepareManifest) -> Answer:
    draw = DRAWN.get(asked.rest[1])
    if draw is None or len(asked.rest) > 2 or not manifest.statistics:
        raise PageError(404, "there is no such plot")
    return draw_svg(lambda figure, colours: draw(figure, colours, manifest.statistics), theme=asked.text("theme"))


def _draw_lengths(figure: Figure, colours: Colours, statistics: dict[str, Any]) -> None:
    axes = figure.subplots()
    for (split, facts), dash in zip(statistics.items(), DASHES, strict=False):
        for side in COLUMNS:
            histogram = facts["histograms"][side]
            shares = [count / facts["pairs"] for count in histogram["counts"]]
            label = side if len(statistics) == 1 else f"{side}, {split}"
            axes.stairs(shares, histogram["edges"], color=getattr(colours, side), linestyle=dash, label=label)
    axes.set(xscale="log", xlabel="characters", ylabel="share of the pairs")
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.xaxis.set_major_formatter(lambda count, _: f"{count:,.0f}")
    axes.legend(frameon=False, fontsize=9)


def _draw_turns(figure: Figure, colours: Colours, statistics: dict[str, Any]) -> None:
    axes = figure.subplots()
    width = 0.8 / len(statistics)
    for number, (split, facts) in enumerate(statistics.items()):
        counts = {int(turns): count / facts["pairs"] for turns, count in facts["turns"].items()}
        places = [turns - 0.4 + width * (number + 0.5) for turns in counts]
        axes.bar(places, list(counts.values()), width * 0.9, color=colours.series[number], label=split)
    axes.set(xlabel="messages in the prompt", ylabel="share of the pairs")
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.locator_params(axis="x", integer=True, min_n_ticks=1)
    axes.legend(frameon=False, fontsize=9)


DRAWN = {"lengths": _draw_lengths, "turns": _draw_turns}
