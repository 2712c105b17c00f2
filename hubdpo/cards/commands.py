"""The commands on a card that reproduce a dataset or a training run."""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from hubdpo.artefacts.manifests.prepare import PrepareManifest, split_in_memory
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.cards.fences import visible
from hubdpo.config import PrepareConfig, TrainConfig
from hubdpo.config.chat_template import to_type
from hubdpo.config.flags import Options, changed_options, flags, quoted

MOST_SOURCES = 10
HUB_DATASETS = "hf://datasets/"
OWN_CARD = "card.md"
CONFIG = "prepare.yaml"


def prepare_command(manifest: PrepareManifest, *, shipped_cards: Mapping[str, str]) -> str:
    """Return the `hubdpo prepare` command of a dataset folder, or the Python call if the rows came from memory.

    `shipped_cards` maps the names of shipped cards to their text: any other card is the user's own, OWN_CARD. Sources
    that have descriptions of their own are in CONFIG.
    """
    config = manifest.options
    card, model, described = (config.pop(name, None) for name in ("card", "model", "sources"))
    if not described and config.get("map") is None and "," not in manifest.converter:
        config["converter"] = manifest.converter
    if model:
        config["model"] = model["name"] + (f"@{model['revision']}" if model["revision"] else "")
    if config.get("chat_template"):
        config["chat_template"] = to_type(config["chat_template"])
    if card:
        config["card"] = next((name for name, text in shipped_cards.items() if text == card), OWN_CARD)
    if any(split_in_memory(source.name) is not None for source in manifest.sources):
        options = [f"{name}={value!r}" for name, value in changed_options(config, PrepareConfig)]
        return visible(f"prepare({', '.join(['rows', repr('data'), *options])})").replace("\n", " ")
    sources = f"--config {CONFIG}" if described else " ".join(map(quoted, sources_of(manifest)))
    return _lines([f"hubdpo prepare {sources} -o data", *flags(config, PrepareConfig)])


def config_file(manifest: PrepareManifest) -> str:
    """Return the text of CONFIG: the sources with their descriptions, "" if they have none of their own."""
    addresses = {source.name: source.address or source.name for source in manifest.sources}
    items = []
    for item in manifest.options.get("sources") or ():
        paths = list(dict.fromkeys(addresses.get(name, name) for name in item["path"]))
        keys = {name: value for name, value in item.items() if name != "path"}
        paths = paths if len(paths) <= MOST_SOURCES else ["SOURCES"]
        items.append({"path": paths if len(paths) > 1 else paths[0], **keys})
    return yaml.safe_dump({"sources": items}, allow_unicode=True, sort_keys=False, width=10**6) if items else ""


def sources_of(manifest: PrepareManifest) -> list[str]:
    """Return the sources to name in the command: at most MOST_SOURCES files or Hub addresses, their repo, or SOURCES.

    A Hub address is preferred to its file, which does not tell the configuration and so the split.
    """
    names = list(dict.fromkeys(source.address or source.name for source in manifest.sources))
    if len(names) <= MOST_SOURCES:
        return names
    if any(source.address for source in manifest.sources):
        return ["SOURCES"]  # the repo may have other files than these
    repos = {"/".join(name.split("/")[:5]) for name in names}  # hf://datasets/USER/NAME@COMMIT
    if len(repos) == 1 and names[0].startswith(HUB_DATASETS):
        return [*repos]
    return ["SOURCES"]


def train_command(run: RunManifest) -> str:
    """Return the `hubdpo train` commands of a run, with base model and data pinned to their commits."""
    start = [
        f"hubdpo train --model-name-or-path {run.base.repo_id} --model-revision {run.base.revision}",
        *([f"--adapter {quoted(run.started_from.place)}"] if run.started_from is not None else []),
        f"--dataset {quoted(run.dataset.place if run.dataset is not None else 'DIR')} --output-dir run",
    ]
    return "\n".join(
        _lines([*start, *flags(config, TrainConfig), *(["--resume --extend"] if number else [])]) + remark
        for number, (config, remark) in enumerate(_starts(run))
    )


def adopt_command(run: RunManifest) -> str:
    """Return the `hubdpo adopt` command that makes the run folder of an adapter of another tool."""
    if run.adopted is None:
        raise ValueError("the run is hubdpo's own")
    base = f"{run.base.repo_id or run.base.name}{f'@{run.base.revision}' if run.base.revision else ''}"
    parts = [f"hubdpo adopt {quoted(run.adopted.source.place)} --base {quoted(base)}"]
    parts += [f"--dataset {quoted(run.dataset.place)}"] if run.dataset is not None else []
    return _lines([*parts, "--output-dir run"])


def _starts(run: RunManifest) -> list[tuple[Options, str]]:
    """Return the options of the first start and of each extension of the run, and a comment on where it had stopped."""
    template = run.options.get("chat_template")
    starts: list[tuple[Options, str]] = [({**run.options, "chat_template": template and to_type(template)}, "")]
    for change in reversed(run.changes):
        planned = change.values.get("planned_steps")
        if planned is None:
            continue
        before = {name: old for name, (old, _) in change.values.items() if name in ("max_steps", "num_train_epochs")}
        remark = "" if change.step == planned[0] else f"  # stopped after step {change.step:,}"
        starts.insert(0, ({**starts[0][0], **before}, remark))
    return starts


def _lines(parts: list[str]) -> str:
    """Join options into lines of at most 100 characters."""
    first, *rest = map(visible, parts)
    lines = [first]
    for part in rest:
        if len(lines[-1]) + len(part) < 100:
            lines[-1] += f" {part}"
        else:
            lines.append(part)
    return " \\\n  ".join(lines)
