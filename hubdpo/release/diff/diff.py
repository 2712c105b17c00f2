"""What differs between two releases, two folders, or a folder and a release."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hubdpo.artefacts.folders.kinds import folder_kind
from hubdpo.artefacts.folders.model_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from hubdpo.artefacts.formats.bounded import read_object
from hubdpo.artefacts.manifests.bundle import A_KIND, Bundle, Kind
from hubdpo.artefacts.manifests.evaluation import EvalReport, Ranking
from hubdpo.artefacts.manifests.intervals import Accuracy
from hubdpo.artefacts.manifests.manifest import (
    BUNDLE_FILE,
    EVAL_FILE,
    MERGE_FILE,
    PREPARE_FILE,
    RUN_FILE,
    FileEntry,
    verify_files,
)
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.config.takes import plain
from hubdpo.errors import ArtefactError, ConfigError
from hubdpo.hub.open import open_snapshot
from hubdpo.hub.reference import checked_name
from hubdpo.hub.snapshot import FolderSnapshot, Snapshot
from hubdpo.release.changelog import (
    Options,
    base_of,
    changed_options,
    config_of,
    content_hashes,
    listed_files,
    measured_on,
    what_changed,
)
from hubdpo.release.diff.rows import RowChanges, compare_rows
from hubdpo.release.diff.weights import WeightChanges, compare_tensors, compare_weights
from hubdpo.release.foreign import adopting_it

MANIFESTS = (PREPARE_FILE, RUN_FILE, EVAL_FILE, MERGE_FILE)
PARQUET, SAFETENSORS = ".parquet", ".safetensors"


@dataclass(frozen=True)
class Change:
    """A number before and after; `low` and `high` are the 95 % interval of the difference, where there is one."""

    before: object
    after: object
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
    same_weights: bool | None = None
    """Whether the metrics are of the same state of the base: quantised as in training, or its original weights."""
    weights: WeightChanges | None = None
    """None where the weights are identical, of datasets, and where `weights_differ` says why nothing is measured."""
    weights_differ: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@plain
def diff(before: str | Path, after: str | Path) -> Diff:
    """Compare two releases or folders of the same kind, each given as a folder or `USER/NAME[@REVISION]`.

    Manifests are read first; rows and weights are downloaded only where their hashes differ. Raise ConfigError for two
    different kinds, ArtefactError for anything but a folder or release of hubdpo, HubError when the Hub has no such
    repo or revision.
    """
    before, after = checked_name("before", before), checked_name("after", after)
    old, new = open_release(before), open_release(after)
    if _kind(old) != _kind(new):
        raise ConfigError(
            f"`{before}` holds {A_KIND[_kind(old)]}, and `{after}` {A_KIND[_kind(new)]}",
            hint="compare two of the same kind",
        )
    return compare(old, new)


def compare(old: Snapshot, new: Snapshot, *, contents: bool = True) -> Diff:
    """Compare two folders or releases of the same kind, whose manifests are verified; `contents` are rows and weights.

    Without `contents` there are neither `rows` nor `weights`.
    """
    kind = _kind(old)
    files, same = _files(listed_files(old), listed_files(new))
    measured = contents and content_hashes(old) != content_hashes(new)
    differ = _unmeasured(old, new) if kind == "adapter" and measured else None
    return Diff(
        before=_name(old),
        after=_name(new),
        kind=kind,
        summary=what_changed(old, new),
        files=files,
        same_files=same,
        data=_data(old, new),
        rows=_rows(old, new) if kind == "dataset" and measured else None,
        config=_options(config_of(old), config_of(new)),
        lineage=_options(_origin(old), _origin(new)),
        metrics=_metrics(old.evaluation, new.evaluation) if old.evaluation and new.evaluation else {},
        same_test_data=_same(measured_on(old).data, measured_on(new).data),
        same_weights=_same(measured_on(old).weights, measured_on(new).weights),
        weights=_weights(old, new, kind) if kind != "dataset" and measured and differ is None else None,
        weights_differ=differ,
    )


def open_release(ref: str) -> Snapshot:
    """Open a folder or a release, and verify the release's manifests. Raise ArtefactError for any other repo."""
    snapshot = open_snapshot(ref)
    if snapshot.commit is None:
        folder_kind(Path(ref))
    else:
        verify_release(snapshot)
    return snapshot


def verify_release(snapshot: Snapshot) -> None:
    """Read the list of files of a release, and verify its manifests. Raise ArtefactError for any other repo."""
    if BUNDLE_FILE not in snapshot.files:
        hint = adopting_it(snapshot) or f"hubdpo versions {snapshot.name}"
        raise ArtefactError(f"`{snapshot.ref}` is no release of hubdpo", hint=hint)
    snapshot.bundle = Bundle.parse(snapshot.read(BUNDLE_FILE), BUNDLE_FILE)
    _verified(snapshot, list(MANIFESTS))


def _verified(snapshot: Snapshot, names: list[str]) -> Path:
    """Return a folder that has these files; those of a release are compared with their hashes."""
    folder = snapshot.fetch(names)
    if snapshot.commit is not None:
        listed = listed_files(snapshot)
        verify_files(folder, {name: listed[name] for name in names if name in listed}, hint="try again")
    return folder


def _kind(snapshot: Snapshot) -> Kind:
    if isinstance(snapshot, FolderSnapshot):
        return folder_kind(snapshot.folder)
    assert snapshot.bundle is not None
    return snapshot.bundle.kind


def _name(snapshot: Snapshot) -> str:
    return f"{snapshot.name}@{snapshot.revision or snapshot.commit[:12]}" if snapshot.commit else snapshot.ref


def _with_ending(snapshot: Snapshot, ending: str) -> list[str]:
    return sorted(name for name in listed_files(snapshot) if name.endswith(ending))


def _files(old: dict[str, FileEntry], new: dict[str, FileEntry]) -> tuple[dict[str, Change], int]:
    names = sorted({*old, *new})
    changed = {
        name: _change(old[name].size if name in old else None, new[name].size if name in new else None)
        for name in names
        if old.get(name) != new.get(name)
    }
    return changed, len(names) - len(changed)


def _data(old: Snapshot, new: Snapshot) -> dict[str, Change]:
    """Return what the funnels and splits count, changed or not, and the fingerprints."""
    if not old.prepare or not new.prepare:
        return {}
    before, after = _counts(old.prepare), _counts(new.prepare)
    return {name: _change(before.get(name), after.get(name)) for name in {**before, **after}}


def _counts(prepare: PrepareManifest) -> Options:
    counts: Options = {"rows read": prepare.funnel.read}
    counts |= {f"dropped: {reason}": number for reason, number in prepare.funnel.dropped.items()}
    counts |= {f"split {name}": number for name, number in prepare.splits.items()}
    return counts | {"sources": sorted(source.name for source in prepare.sources), "fingerprint": prepare.fingerprint}


def _rows(old: Snapshot, new: Snapshot) -> RowChanges:
    before, after = (_with_ending(side, PARQUET) for side in (old, new))
    old_folder, new_folder = _verified(old, before), _verified(new, after)
    return compare_rows([old_folder / name for name in before], [new_folder / name for name in after])


def _options(old: Options, new: Options) -> dict[str, Change]:
    return {name: Change(*values) for name, values in changed_options(old, new).items()}


def _origin(snapshot: Snapshot) -> Options:
    """Return base, data and versions of a release, as far as its manifests tell them."""
    run, merge = snapshot.run, snapshot.merge
    origin: Options = {}
    if base := base_of(snapshot):
        origin |= {"base": base.name, "base revision": base.revision}
    if run:
        if data := run.dataset:
            origin |= {"dataset": data.name, "dataset revision": data.revision, "dataset fingerprint": data.fingerprint}
            origin |= {"training pairs": data.train_pairs}
        origin |= {"steps": run.steps, "device": run.device}
        if run.adopted is not None:
            origin |= {"trained by": run.adopted.words, "adopted from": run.adopted.source.place}
        origin |= run.versions
        if start := run.started_from:
            origin |= {"started from": start.name, "started from version": start.version}
            origin |= {"started from revision": start.revision, "started from weights": start.sha256}
        origin |= {"rounds": len(run.rounds)}
    if merge:
        for number, part in enumerate(merge.parts, start=1):
            one, word = part.adapter, "adapter" if number == 1 else f"adapter {number}"
            origin |= {word: one.name, f"{word} version": one.version, f"{word} weights": one.sha256}
            origin |= {f"{word} weighs": part.weight} if len(merge.parts) > 1 else {}
        origin |= {"largest difference from the adapter": merge.check.largest_difference}
    if manifest := run or snapshot.prepare or merge:
        origin["hubdpo"] = manifest.hubdpo_version
    return origin


def _same(old: str | None, new: str | None) -> bool | None:
    """Tell whether two facts are the same; None where one of them is not known."""
    return None if old is None or new is None else old == new


def _metrics(old: EvalReport, new: EvalReport) -> dict[str, Change]:
    """Return every number of the reports. The interval of a difference of accuracies takes the pairs as independent."""
    found = _numbers(old, new)
    if old.original is not None and new.original is not None:
        found |= {f"{name}, original weights": each for name, each in _numbers(old.original, new.original).items()}
    return found


def _numbers(old: Ranking, new: Ranking) -> dict[str, Change]:
    found = {}
    for name in Ranking.model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if isinstance(before, Accuracy) and isinstance(after, Accuracy):
            rise = after.minus(before)
            found[name] = Change(before.model_dump(), after.model_dump(), rise.value, rise.low, rise.high)
        elif isinstance(before, (int, float)) and isinstance(after, (int, float)):
            found[name] = _change(before, after)
    return found


def _change(before: object, after: object) -> Change:
    if isinstance(before, (int, float)) and isinstance(after, (int, float)):
        return Change(before, after, after - before)
    return Change(before, after)


def _unmeasured(old: Snapshot, new: Snapshot) -> str | None:
    """Return why two adapters that differ have no distance: the update of DoRA depends on the weights of the base."""
    configs = [read_object(_verified(side, [ADAPTER_CONFIG]) / ADAPTER_CONFIG) for side in (old, new)]
    if any(config.get("use_dora") is True for config in configs):
        return "the weights differ; by how much is not measured for DoRA, whose update depends on the base"
    return None


def _weights(old: Snapshot, new: Snapshot, kind: Kind) -> WeightChanges:
    if kind == "merged":
        return compare_tensors(*(_verified(side, _with_ending(side, SAFETENSORS)) for side in (old, new)))
    return compare_weights(*(_verified(side, [ADAPTER_CONFIG, ADAPTER_WEIGHTS]) for side in (old, new)))
