"""What a run was told, what it used, and what it warned of."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from hubdpo.artefacts.folders.run_folder import train_again
from hubdpo.artefacts.manifests.run import BaseRef, DatasetRef, RunManifest
from hubdpo.cards.commands import train_command
from hubdpo.cards.model.adopted import known_and_unknown
from hubdpo.config import TrainConfig
from hubdpo.config.base import Config, flag_of
from hubdpo.console import duration
from hubdpo.view.page import Asked, Page
from hubdpo.view.run.log import SECONDS, STEP, Log
from hubdpo.view.run.panels import moves_losses
from hubdpo.view.run.state import Run, chosen_run, manifest_of
from hubdpo.view.thing import Thing

UNKNOWN = "not known"
OTHERS = "Other options"
"""Those that this version does not know."""
READ_BY_NOTES = (STEP, "loss", "eval_loss", "eval_rewards/accuracies", "rewards/accuracies", "logps/chosen",
                 "logps/rejected")  # fmt: skip


class Option(NamedTuple):
    flag: str
    value: str
    default: str | None
    """None where it is the value itself."""
    help: str


def options(asked: Asked, thing: Thing) -> Page:
    """Show the options of a run by group, those that are not the defaults first, and what else made it what it is."""
    run, runs = chosen_run(asked, thing)
    manifest = manifest_of(run)
    groups = grouped(manifest)
    return Page(
        "options.html", "Options",
        {
            "run": run, "runs": runs, "manifest": manifest,
            "changed": [option for of in groups.values() for option in of if option.default is not None],
            "groups": groups, "facts": _facts(run, manifest), "warned": warned(run, manifest),
            "base": named(manifest.base), "data": named(manifest.dataset),
            "data_address": _address_of_data(asked, manifest), "command": _command(run, manifest),
            "unknown": known_and_unknown(manifest)[1] if manifest.adopted is not None else [],
            "changes": [
                (change.step, flag_of(name), shown(before), shown(after))
                for change in manifest.changes for name, (before, after) in change.values.items()
            ],
        },
    )  # fmt: skip


def _command(run: Run, manifest: RunManifest) -> str | None:
    """Return the command that trains such a run, None where only another machine knows where its base is."""
    if manifest.adopted is None and manifest.base.repo_id is not None:
        return train_command(manifest)
    return train_again(run.folder, manifest).removesuffix(" --resume") if run.folder is not None else None


def grouped(manifest: RunManifest) -> dict[str, list[Option]]:
    """Return the options by the heading of their group in `--help`."""
    fields = TrainConfig.model_fields
    groups: dict[str, list[Option]] = {
        str(model.panel): [] for model in TrainConfig.__mro__ if issubclass(model, Config) and model.panel
    }
    for name, value in manifest.config.items():
        field = fields.get(name)
        default = field.get_default(call_default_factory=True) if field is not None else None
        is_default = field is None or value == default or shown(value) == shown(default)
        option = Option(
            flag_of(name), shown(value), None if is_default else shown(default), (field and field.description) or ""
        )
        groups.setdefault((name in fields and TrainConfig.panel_of(name)) or OTHERS, []).append(option)
    return {panel: of for panel, of in groups.items() if of}


def shown(value: object) -> str:
    """Return a value as people write it on a command line."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if isinstance(value, list) and all(isinstance(item, (str, int, float)) for item in value):
        return ", ".join(map(str, value)) or "none"
    return json.dumps(value, ensure_ascii=False, sort_keys=True) if isinstance(value, (list, dict)) else str(value)


def differing(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """Return (name, value in each run) of the options in which runs differ, and of base and data where they do."""
    columns: dict[str, list[str]] = {}
    for at, run in enumerate(runs):
        manifest = run.manifest
        values: dict[str, object] = {}
        if manifest is not None:
            values = {flag_of(name): value for name, value in manifest.config.items()}
            values |= {"base": named(manifest.base), "data": named(manifest.dataset), "device": manifest.device}
        for name, value in values.items():
            columns.setdefault(name, ["?"] * len(runs))[at] = shown(value)
    return [(name, values) for name, values in columns.items() if len(set(values)) > 1]


def named(ref: BaseRef | DatasetRef | None) -> str:
    if ref is None:
        return UNKNOWN
    return f"{ref.repo_id}@{ref.revision[:12]}" if ref.repo_id and ref.revision else ref.repo_id or ref.name


def _address_of_data(asked: Asked, manifest: RunManifest) -> str | None:
    """Return where the Hub that shows this page has the dataset, None in a server of one thing."""
    data = manifest.dataset
    return f"/datasets/{data.repo_id}" if asked.base and data is not None and data.repo_id else None


def _facts(run: Run, manifest: RunManifest) -> list[tuple[str, str]]:
    facts = [(manifest.device or UNKNOWN, "device")]
    if manifest.dataset is not None:
        facts.append((f"{manifest.dataset.train_pairs:,}", "pairs to train on"))
        facts.append((f"{manifest.dataset.test_pairs:,}", "held-out pairs"))
    if manifest.train_seconds is not None:
        facts.append((duration(manifest.train_seconds), "training time"))
    if (speed := run.tokens_per_second) is not None:
        facts.append((f"{speed:,.0f}", "tokens per second"))
    if manifest.peak_memory_bytes is not None:
        facts.append((f"{manifest.peak_memory_bytes / 1e9:,.2f} GB", "most memory"))
    if manifest.sharding is not None:
        facts.append((manifest.sharding, "sharded"))
    return facts


def warned(run: Run, manifest: RunManifest) -> list[tuple[str, str, str]]:
    """Return (kind, text, hint) of what the run said, and as `note` what its record and metrics tell.

    Runs of earlier versions did not say the latter.
    """
    known = {entry.text for entry in run.journal}
    return [*run.journal, *(("note", text, "") for text in _from_the_record(run, manifest) if text not in known)]


def _from_the_record(run: Run, manifest: RunManifest) -> Iterator[str]:
    from hubdpo.data.tokens.tokenize import Account
    from hubdpo.model.generation import stops_elsewhere

    if manifest.stock_forward is not None:
        yield f"the run took TRL's own forward pass: {manifest.stock_forward}"
    if sentence := stops_elsewhere(manifest):
        yield sentence
    yield from Account(Counter(manifest.tokenization)).remarks()
    yield from run.thing.keep(
        f"notes {run.log.count} {run.log.last(SECONDS)}", lambda: _from_the_metrics(run.log, manifest)
    )


def _from_the_metrics(log: Log, manifest: RunManifest) -> list[str]:
    from hubdpo.training.run.advice import explain_metrics

    losses, rate = manifest.config.get("loss_type"), manifest.config.get("learning_rate")
    if not isinstance(losses, list) or not isinstance(rate, (int, float)):
        return []
    return explain_metrics(
        _lines(log, until=manifest.chosen.step if manifest.chosen else None), losses=losses,
        moved=moves_losses(manifest.config), learning_rate=rate,
        test_pairs=manifest.test_pairs if manifest.eval_pairs is None else manifest.eval_pairs,
    )  # fmt: skip


def _lines(log: Log, until: int | None) -> list[dict[str, float]]:
    """Return the lines of the log with those metrics alone that notes are about."""
    lines: dict[int, dict[str, float]] = {}
    for name in READ_BY_NOTES:
        for number, value in zip(*(each.tolist() for each in log.column(name)), strict=True):
            lines.setdefault(number, {})[name] = value
    return [line for _, line in sorted(lines.items()) if until is None or line[STEP] <= until]
