"""`hubdpo diff`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hubdpo import console
from hubdpo.cli._options import FormatOption, JsonOption, QuietOption, choose_format, errors_end_here

if TYPE_CHECKING:
    from hubdpo.release.diff.diff import Change, Diff

REF = "USER/NAME[@vX.Y.Z]|DIR"
MOST_MODULES = 12


def register(app: typer.Typer) -> None:
    @app.command()
    def diff(
        before: Annotated[str, typer.Argument(help="A release, or a folder.", metavar=REF)],
        after: Annotated[str, typer.Argument(help="Another of the same kind.", metavar=REF)],
        format: FormatOption = None,
        json: JsonOption = False,
        quiet: QuietOption = False,
    ) -> None:
        """Compare two datasets, adapters or merged models: data, options, base, metrics, weights and files."""
        choose_format(format, json=json, quiet=quiet)
        with errors_end_here():
            from hubdpo.release.diff.diff import diff as run

            found = run(before, after)
            _show(found)
            console.result(f"{before} → {after}: {found.summary}", found.as_dict(), identifier=found.summary)


def _show(found: Diff) -> None:
    _table("data", found.data)
    if found.rows is not None:
        rows = found.rows
        console.table(
            ["distinct", "removed", "added", "in both"],
            [
                ("pairs", f"{rows.pairs_removed:,}", f"{rows.pairs_added:,}", f"{rows.pairs_kept:,}"),
                ("prompts", f"{rows.prompts_removed:,}", f"{rows.prompts_added:,}", f"{rows.prompts_kept:,}"),
            ],
        )
    elif found.kind == "dataset":
        console.info("the rows are the same")
    _table("option", found.config)
    _table("made from", found.lineage)
    _table("held out", found.metrics)
    if found.metrics and found.same_test_data is False:
        console.warn("the two were measured on different data, so their numbers do not tell which is better")
    _show_weights(found)
    _table("file, bytes", found.files)
    console.info(f"{found.same_files} file{'s are' if found.same_files != 1 else ' is'} the same")


def _show_weights(found: Diff) -> None:
    if found.weights is None:
        if found.kind != "dataset":
            console.info("the weights are the same")
        return
    total, modules = found.weights.total, found.weights.modules
    furthest = sorted(modules, key=lambda name: -modules[name].difference)[:MOST_MODULES]
    rows = [("all", total), *((_short(name), modules[name]) for name in furthest)]
    ranks = f"rank {_list(found.weights.rank_before)} → {_list(found.weights.rank_after)}, "
    console.table(
        ["norm of what LoRA adds" if found.kind == "adapter" else "norm", "before", "after", "difference", "relative"],
        [(name, *map(_cell, (one.before, one.after, one.difference, one.relative))) for name, one in rows],
        title=f"{ranks * (found.kind == 'adapter')}cosine {_cell(total.cosine)}; the {len(furthest)} of {len(modules)} "
        "that moved most",
    )


def _table(what: str, changes: dict[str, Change]) -> None:
    if not changes:
        return
    rows = []
    for name, change in changes.items():
        told = "" if change.difference is None else f"{change.difference:+,.4g}"
        if change.low is not None and change.high is not None:
            told += f" ({change.low:+.3f} to {change.high:+.3f})"
        rows.append(
            (name.replace("_", " ") if what == "held out" else name, *map(_cell, (change.before, change.after)), told)
        )
    console.table([what, "before", "after", "difference"], rows)


def _cell(value: Any) -> str:
    if isinstance(value, dict) and "value" in value:
        return f"{value['value']:.4f} ({value['low']:.3f} to {value['high']:.3f})"
    if value is None:
        return "-"
    if isinstance(value, list):
        return _list(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _list(values: list[Any]) -> str:
    return ", ".join(map(str, values)) or "-"


def _short(name: str) -> str:
    return name.removeprefix("base_model.model.").removeprefix("model.")
