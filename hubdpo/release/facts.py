"""What the manifests of a release or a folder say, and what differs between two of them in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from hubdpo import console
from hubdpo.artefacts.formats.bounded import check_size
from hubdpo.artefacts.manifests.evaluation import EvalReport
from hubdpo.artefacts.manifests.file_entries import FileEntry
from hubdpo.artefacts.manifests.manifest import EVAL_FILE, MERGE_FILE, PREPARE_FILE, RUN_FILE, Manifest
from hubdpo.artefacts.manifests.merge import AdapterRef, MergeManifest
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.artefacts.manifests.run import BaseRef, RunManifest
from hubdpo.errors import ArtefactError

Read = Callable[[str], bytes | None]
"""Gives the bytes of a file by its name, or None when there is none."""
M = TypeVar("M", bound=Manifest)
MANIFESTS = (PREPARE_FILE, RUN_FILE, EVAL_FILE, MERGE_FILE)
MOST_OPTIONS = 4
WEIGHTS = (".safetensors", ".parquet")


@dataclass(frozen=True)
class Facts:
    """None stands for a manifest that is not there, or that another version of hubdpo wrote in another form."""

    files: dict[str, FileEntry]
    prepare: PrepareManifest | None = None
    run: RunManifest | None = None
    evaluation: EvalReport | None = None
    merge: MergeManifest | None = None

    @property
    def config(self) -> dict[str, Any]:
        made = self.prepare or self.run or self.merge
        return made.config if made else {}

    @property
    def base(self) -> BaseRef | None:
        made = self.run or self.merge
        return made.base if made else None

    def content(self) -> dict[str, str]:
        """Return the hashes of the files that hold the data or the weights."""
        return {name: entry.sha256 for name, entry in self.files.items() if name.endswith(WEIGHTS)}


def read_facts(files: dict[str, FileEntry], read: Read, *, of: str) -> Facts:
    """Read the manifests among `files` of a release or folder `of`, with a warning for one that cannot be read."""

    def manifest(name: str, model: type[M]) -> M | None:
        if name not in files:
            return None
        try:
            check_size(name, files[name].size)
            data = read(name)
            return model.parse(data, name) if data is not None else None
        except ArtefactError as problem:
            console.warn(f"{of}: {problem.message}; what it says is left out")
            return None

    return Facts(
        files=files,
        prepare=manifest(PREPARE_FILE, PrepareManifest),
        run=manifest(RUN_FILE, RunManifest),
        evaluation=manifest(EVAL_FILE, EvalReport),
        merge=manifest(MERGE_FILE, MergeManifest),
    )


def changed_options(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the options that differ, sorted; None stands for one that is not there."""
    names = sorted({*before, *after})
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


def what_changed(before: Facts, after: Facts) -> str:
    """Say in one line, for a table cell of Markdown, what the later release has that the earlier has not."""
    said = [*_data(before, after), *_lineage(before, after), *_options(before, after), *_accuracy(before, after)]
    if before.content() == after.content():
        what = "data" if after.prepare else "weights"
        said = [f"the same {what}", *said]
    elif not said:
        said = ["other content"]
    return "; ".join(said).replace("|", "/").replace("\n", " ")


def _data(before: Facts, after: Facts) -> list[str]:
    if not before.prepare or not after.prepare:
        return []
    said = []
    old, new = before.prepare.splits, after.prepare.splits
    for split in [*new, *(split for split in old if split not in new)]:
        if old.get(split) != new.get(split):
            said.append(f"{split} {_number(old.get(split))} → {_number(new.get(split))} pairs")
    if [source.sha256 for source in before.prepare.sources] != [source.sha256 for source in after.prepare.sources]:
        said.append("other sources")
    return said


def _lineage(before: Facts, after: Facts) -> list[str]:
    said = []
    old, new = before.base, after.base
    if old and new and (old.name, old.revision) != (new.name, new.revision):
        said.append(f"base {_ref(old)} → {_ref(new)}")
    if before.merge and after.merge and before.merge.adapter.sha256 != after.merge.adapter.sha256:
        said.append(f"adapter {_adapter(before.merge.adapter)} → {_adapter(after.merge.adapter)}")
    if before.run and after.run and before.run.dataset.fingerprint != after.run.dataset.fingerprint:
        pairs = before.run.dataset.train_pairs, after.run.dataset.train_pairs
        said.append(f"other data, {pairs[0]:,} → {pairs[1]:,} training pairs")
    return said


def _options(before: Facts, after: Facts) -> list[str]:
    changed = changed_options(before.config, after.config)
    if len(changed) > MOST_OPTIONS:
        return [f"{len(changed)} options: {', '.join(f'`{name}`' for name in changed)}"]
    return [f"`{name}` {_value(old)} → {_value(new)}" for name, (old, new) in changed.items()]


def _accuracy(before: Facts, after: Facts) -> list[str]:
    if not before.evaluation or not after.evaluation:
        return []
    old, new = before.evaluation.adapter_accuracy.value, after.evaluation.adapter_accuracy.value
    return [] if old == new else [f"held-out accuracy {100 * old:.1f} % → {100 * new:.1f} %"]


def _number(value: int | None) -> str:
    return "no" if value is None else f"{value:,}"


def _ref(base: BaseRef) -> str:
    return f"`{base.name}`" + (f" at `{base.revision[:12]}`" if base.revision else "")


def _adapter(adapter: AdapterRef) -> str:
    return f"`{adapter.name}`" + (f" {adapter.version}" if adapter.version else f" (`{adapter.sha256[:12]}`)")


def _value(value: Any) -> str:
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.replace("`", "'").split())
    return text if len(text) <= 40 else text[:40] + "…"
