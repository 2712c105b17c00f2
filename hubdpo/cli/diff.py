"""`hubdpo diff`"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from hubdpo import console
from hubdpo.artefacts.folders.named import RELEASED, check_named
from hubdpo.cli.command import DOWNLOADED, command

if TYPE_CHECKING:
    from hubdpo.release.diff.diff import Change, Diff

REF = "USER/NAME[@vX.Y.Z]|DIR"
MAX_MODULES = 12


@command(stopped=DOWNLOADED)
def diff(
    before: Annotated[str, typer.Argument(help="A release, or a folder.", metavar=REF)],
    after: Annotated[str, typer.Argument(help="Another of the same kind.", metavar=REF)],
) -> None:
    """Compare two datasets, adapters or merged models: data, options, base, metrics, weights and files."""
    for ref, other in ((before, after), (after, before)):
        check_named(ref, RELEASED, besides=other)
    from hubdpo.release.diff.diff import diff as run

    changes = run(before, after)
    _show(changes)
    console.result(f"{before} → {after}: {changes.summary}", changes.as_dict(), identifier=changes.summary)


def _show(diff: Diff) -> None:
    _table("data", diff.data)
    if diff.rows is not None:
        rows = diff.rows
        console.table(
            ["distinct", "removed", "added", "in both"],
            [
                ("pairs", f"{rows.pairs_removed:,}", f"{rows.pairs_added:,}", f"{rows.pairs_kept:,}"),
                ("prompts", f"{rows.prompts_removed:,}", f"{rows.prompts_added:,}", f"{rows.prompts_kept:,}"),
            ],
        )
    elif diff.kind == "dataset":
        console.info("the rows are identical")
    _table("option", diff.config)
    _table("made from", diff.lineage)
    if diff.metrics and all(change.before == change.after for change in diff.metrics.values()):
        console.info("the metrics are identical")
    else:
        _table("held out", diff.metrics)
    if diff.metrics and diff.same_test_data is False:
        console.warn("the two were measured on different test data, so their metrics cannot be compared")
    if diff.metrics and diff.same_weights is False:
        console.warn("one was measured on a quantised base and the other was not, so their metrics cannot be compared")
    _show_weights(diff)
    _table("file, bytes", diff.files)
    console.info(f"{diff.same_files} file{'s are' if diff.same_files != 1 else ' is'} identical")


def _show_weights(diff: Diff) -> None:
    if diff.weights is None:
        if diff.kind != "dataset":
            console.info(diff.weights_differ or "the weights are identical")
        return
    total, modules = diff.weights.total, diff.weights.modules
    changed_most = sorted(modules, key=lambda name: -modules[name].difference)[:MAX_MODULES]
    rows = [("all", total), *((_short(name), modules[name]) for name in changed_most)]
    ranks = f"rank {_list(diff.weights.rank_before)} → {_list(diff.weights.rank_after)}, "
    console.table(
        ["norm of the LoRA update" if diff.kind == "adapter" else "norm", "before", "after", "difference", "relative"],
        [(name, *map(_cell, (norm.before, norm.after, norm.difference, norm.relative))) for name, norm in rows],
        title=f"{ranks * (diff.kind == 'adapter')}cosine {_cell(total.cosine)}; the {len(changed_most)} of "
        f"{len(modules)} modules that changed most",
    )


def _table(heading: str, changes: dict[str, Change]) -> None:
    if not changes:
        return
    rows = []
    for name, change in changes.items():
        difference = "" if change.difference is None else f"{change.difference:+,.4g}"
        if change.low is not None and change.high is not None:
            difference += f" ({change.low:+.3f} to {change.high:+.3f})"
        label = name.replace("_", " ") if heading == "held out" else name
        rows.append((label, *map(_cell, (change.before, change.after)), difference))
    console.table([heading, "before", "after", "difference"], rows)


def _cell(value: object) -> str:
    if isinstance(value, dict) and "value" in value:
        return f"{value['value']:.4f} ({value['low']:.3f} to {value['high']:.3f})"
    if value is None:
        return "-"
    if isinstance(value, list):
        return _list(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _list(values: Sequence[object]) -> str:
    return ", ".join(map(str, values)) or "-"


def _short(name: str) -> str:
    return name.removeprefix("base_model.model.").removeprefix("model.")
