"""What differs between two releases, two folders, or a folder and a release."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hubdpo.artefacts.folders.kinds import folder_kind, published_files
from hubdpo.artefacts.formats.bounded import read_bytes
from hubdpo.artefacts.manifests.accuracy import Accuracy
from hubdpo.artefacts.manifests.bundle import Bundle, Kind
from hubdpo.artefacts.manifests.evaluation import EvalReport
from hubdpo.artefacts.manifests.file_entries import FileEntry, file_entry, verify_files
from hubdpo.artefacts.manifests.manifest import BUNDLE_FILE
from hubdpo.errors import ArtefactError, ConfigError
from hubdpo.hub.client import download, resolve
from hubdpo.hub.failures import no_folder
from hubdpo.hub.open import find_type
from hubdpo.hub.reference import parse_unless_folder
from hubdpo.release.diff.rows import RowChanges, compare_rows
from hubdpo.release.diff.weights import CONFIG, WEIGHTS, WeightChanges, compare_tensors, compare_weights
from hubdpo.release.facts import MANIFESTS, Facts, changed_options, read_facts, what_changed

PARQUET, SAFETENSORS = ".parquet", ".safetensors"
A_KIND = {"dataset": "a dataset", "adapter": "an adapter", "merged": "a merged model"}


@dataclass(frozen=True)
class Side:
    """One of the two. `fetch` gives a folder that has the files of the given names, downloaded when they must be."""

    name: str
    kind: Kind
    facts: Facts
    fetch: Callable[[list[str]], Path]
    commit: str | None = None

    def files(self, ending: str) -> list[str]:
        return sorted(name for name in self.facts.files if name.endswith(ending))


@dataclass(frozen=True)
class Change:
    """A number before and after; `low` and `high` are the 95 % interval of the difference, where there is one."""

    before: Any
    after: Any
    difference: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Diff:
    """Everything that differs. A part is None, or empty, where there is nothing to compare."""

    before: str
    after: str
    kind: Kind
    summary: str
    files: dict[str, Change]
    """Bytes of every file that was added (None before), removed (None after) or changed."""
    same_files: int
    data: dict[str, Change] = field(default_factory=dict)
    rows: RowChanges | None = None
    config: dict[str, Change] = field(default_factory=dict)
    lineage: dict[str, Change] = field(default_factory=dict)
    metrics: dict[str, Change] = field(default_factory=dict)
    same_test_data: bool | None = None
    weights: WeightChanges | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def diff(before: str, after: str) -> Diff:
    """Compare two of the same kind, each a folder or `USER/NAME[@REVISION]`.

    Manifests are read first; rows and weights are downloaded only where their hashes differ. Raise ConfigError when one
    is a dataset and the other is not, ArtefactError when one is no folder or release of hubdpo, HubError when the Hub
    has no such repo or revision.
    """
    one, other = open_side(before), open_side(after)
    if one.kind != other.kind:
        raise ConfigError(
            f"`{before}` holds {A_KIND[one.kind]}, and `{after}` {A_KIND[other.kind]}",
            hint="compare two of the same kind",
        )
    old, new = one.facts, other.facts
    files, same = _files(old.files, new.files)
    return Diff(
        before=one.name,
        after=other.name,
        kind=one.kind,
        summary=what_changed(old, new),
        files=files,
        same_files=same,
        data=_data(old, new),
        rows=_rows(one, other) if one.kind == "dataset" else None,
        config=_options(old.config, new.config),
        lineage=_lineage(old, new),
        metrics=_metrics(old.evaluation, new.evaluation) if old.evaluation and new.evaluation else {},
        same_test_data=old.run.dataset.fingerprint == new.run.dataset.fingerprint if old.run and new.run else None,
        weights=_weights(one, other) if one.kind != "dataset" else None,
    )


def open_side(ref: str) -> Side:
    """Read the manifests of a folder or a release."""
    if Path(ref).is_dir():
        folder = Path(ref)
        entries = {name: file_entry(folder / name) for name in published_files(folder)}
        facts = read_facts(entries, lambda name: read_bytes(folder / name), of=ref)
        return Side(ref, folder_kind(folder), facts, lambda names: folder)
    repo_id, revision = parse_unless_folder(ref)
    with no_folder(ref):
        repo_type = find_type(repo_id)
        sha = resolve(repo_id, revision, repo_type=repo_type)

    def fetch(names: list[str]) -> Path:
        place = download(repo_id, sha, repo_type=repo_type, allow_patterns=names)
        verify_files(place, {name: bundle.files[name] for name in names if name in bundle.files}, hint="try again")
        return place

    place = download(repo_id, sha, repo_type=repo_type, allow_patterns=[BUNDLE_FILE])
    if not (place / BUNDLE_FILE).is_file():
        raise ArtefactError(f"`{ref}` is no release of hubdpo", hint=f"hubdpo versions {repo_id}")
    bundle = Bundle.read(place / BUNDLE_FILE)
    facts = read_facts(bundle.files, lambda name: read_bytes(fetch(list(MANIFESTS)) / name), of=ref)
    return Side(f"{repo_id}@{revision or sha[:12]}", bundle.kind, facts, fetch, sha)


def _files(old: dict[str, FileEntry], new: dict[str, FileEntry]) -> tuple[dict[str, Change], int]:
    names = sorted({*old, *new})
    changed = {
        name: Change(old[name].size if name in old else None, new[name].size if name in new else None)
        for name in names
        if old.get(name) != new.get(name)
    }
    return changed, len(names) - len(changed)


def _data(old: Facts, new: Facts) -> dict[str, Change]:
    """Return what the funnels and splits count, changed or not, and the fingerprints."""
    if not old.prepare or not new.prepare:
        return {}
    counts = []
    for prepare in (old.prepare, new.prepare):
        found: dict[str, Any] = {"rows read": prepare.funnel.read}
        found |= {f"dropped: {reason}": number for reason, number in prepare.funnel.dropped.items()}
        found |= {f"split {name}": number for name, number in prepare.splits.items()}
        found |= {"sources": sorted(source.name for source in prepare.sources), "fingerprint": prepare.fingerprint}
        counts.append(found)
    return {name: _change(counts[0].get(name), counts[1].get(name)) for name in {**counts[0], **counts[1]}}


def _rows(one: Side, other: Side) -> RowChanges | None:
    if one.facts.content() == other.facts.content():
        return None
    old, new = ([side.fetch(side.files(PARQUET)) / name for name in side.files(PARQUET)] for side in (one, other))
    return compare_rows(old, new)


def _options(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Change]:
    return {name: Change(*values) for name, values in changed_options(old, new).items()}


def _lineage(old: Facts, new: Facts) -> dict[str, Change]:
    """Return base, data and versions, where they differ."""
    sides: list[dict[str, Any]] = []
    for facts in (old, new):
        found: dict[str, Any] = {}
        if facts.base:
            found |= {"base": facts.base.name, "base revision": facts.base.revision}
        if facts.run:
            data = facts.run.dataset
            found |= {"dataset": data.name, "dataset revision": data.revision, "dataset fingerprint": data.fingerprint}
            found |= {"training pairs": data.train_pairs, "steps": facts.run.steps, "device": facts.run.device}
            found |= facts.run.versions
        if facts.merge:
            one = facts.merge.adapter
            found |= {"adapter": one.name, "adapter version": one.version, "adapter weights": one.sha256}
            found |= {"largest difference from the adapter": facts.merge.check.largest_difference}
        if made := facts.run or facts.prepare or facts.merge:
            found["hubdpo"] = made.hubdpo_version
        sides.append(found)
    return _options(*sides)


def _metrics(old: EvalReport, new: EvalReport) -> dict[str, Change]:
    """Return every number of the reports. The interval of a difference of accuracies takes the pairs as independent."""
    found = {}
    for name in EvalReport.model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if isinstance(before, Accuracy) and isinstance(after, Accuracy):
            found[name] = Change(before.model_dump(), after.model_dump(), *after.minus(before))
        elif isinstance(before, (int, float)) and isinstance(after, (int, float)) and name != "schema_version":
            found[name] = _change(before, after)
    return found


def _change(before: Any, after: Any) -> Change:
    both = isinstance(before, (int, float)) and isinstance(after, (int, float))
    return Change(before, after, after - before if both else None)


def _weights(one: Side, other: Side) -> WeightChanges | None:
    if one.facts.content() == other.facts.content():
        return None
    if one.kind == "merged":
        return compare_tensors(*(side.fetch(side.files(SAFETENSORS)) for side in (one, other)))
    names = [CONFIG, WEIGHTS]
    return compare_weights(one.fetch(names), other.fetch(names))
