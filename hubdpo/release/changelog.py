"""The list of releases in a card: one line for each version, newest first, that says what changed by their manifests.

It depends on this release and on the tags of lower versions alone, which never move, so a repeated push makes the same
card. Lines that the card of the release before already has are taken over unchanged.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from hubdpo.artefacts.folders.kinds import published_files
from hubdpo.artefacts.formats.kept_sections import split_card
from hubdpo.artefacts.manifests.manifest import CARD_FILE, FileEntry
from hubdpo.artefacts.manifests.merge import MergeManifest
from hubdpo.artefacts.manifests.run import AdapterRef, BaseRef, DatasetRef
from hubdpo.errors import ArtefactError
from hubdpo.hub.snapshot import FolderSnapshot, Snapshot
from hubdpo.hub.versions import is_higher, newest_first
from hubdpo.release.remote import Remote
from hubdpo.release.snapshot import ReleaseSnapshot

FIRST, THIS, FOREIGN = "first release", "this release", "not by hubdpo"
_ROW = re.compile(r"\| (v\d+\.\d+\.\d+) \| ([^|]*) \| ([^|]*) \|")
MOST_OPTIONS = 4
WEIGHTS = (".safetensors", ".parquet")
Options = dict[str, Any]


class Row(NamedTuple):
    tag: str
    date: str
    change: str


def changes(remote: Remote, tags: dict[str, str], release: ReleaseSnapshot) -> str:
    """Write the section for a release: itself, and every release of a lower version."""
    lower = [tag for tag in newest_first(tags) if is_higher(release.tag, tag)]
    known = rows_in_card(remote.at(tags[lower[0]])) if lower else {}
    rows = [Row(release.tag, THIS, _change(remote, tags, release, lower))]
    for number, tag in enumerate(lower, start=1):
        row = known.get(tag)
        date = row.date if row and row.date != THIS else remote.date(tags[tag])
        rows.append(
            Row(tag, date, row.change if row else _change(remote, tags, _release(remote, tags, tag), lower[number:]))
        )
    lines = ["## Changes", "", "| version | date | what changed |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {row.tag} | {row.date} | {row.change} |" for row in rows)])


def _release(remote: Remote, tags: dict[str, str], tag: str) -> Snapshot | None:
    """Return the release that a tag names, or None for a tag that hubdpo did not make."""
    snapshot = remote.at(tags[tag])
    return snapshot if snapshot.bundle is not None and tag == f"v{snapshot.bundle.version}" else None


def _change(remote: Remote, tags: dict[str, str], release: Snapshot | None, lower: list[str]) -> str:
    """Compare a release with the newest of the `lower` tags that hubdpo made."""
    if release is None:
        return FOREIGN
    before = next((found for tag in lower if (found := _release(remote, tags, tag)) is not None), None)
    return what_changed(before, release) if before else FIRST


def rows_in_card(snapshot: Snapshot) -> dict[str, Row]:
    """Return the lines of the releases that a card lists, by tag."""
    try:
        section = split_card(snapshot.text(CARD_FILE)).changes if CARD_FILE in snapshot.files else None
    except ArtefactError:  # a card that hubdpo did not write
        section = None
    return {match[1]: Row(*match.groups()) for match in _ROW.finditer(section or "")}


def listed_files(snapshot: Snapshot) -> dict[str, FileEntry]:
    """Return the files of a release by size and hash; of a folder, those that a release would take."""
    if isinstance(snapshot, FolderSnapshot):
        return snapshot.entries(published_files(snapshot.folder))
    return snapshot.bundle.files if snapshot.bundle else {}


def content_hashes(snapshot: Snapshot) -> dict[str, str]:
    """Return the SHA-256 of the files that hold the data or the weights."""
    return {name: entry.sha256 for name, entry in listed_files(snapshot).items() if name.endswith(WEIGHTS)}


def config_of(snapshot: Snapshot) -> Options:
    if snapshot.prepare:
        return snapshot.prepare.options  # an option that has another name now has not changed
    manifest = snapshot.run or snapshot.merge
    return manifest.config if manifest else {}


def base_of(snapshot: Snapshot) -> BaseRef | None:
    manifest = snapshot.run or snapshot.merge
    return manifest.base if manifest else None


def changed_options(before: Options, after: Options) -> dict[str, tuple[Any, Any]]:
    """Return the options that differ, by name; the value is None where an option is missing."""
    names = sorted({*before, *after})
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


def what_changed(before: Snapshot, after: Snapshot) -> str:
    """Describe in one line, for a cell of a Markdown table, what changed from one release to the next."""
    parts = [*_data(before, after), *_lineage(before, after), *_options(before, after), *_accuracy(before, after)]
    if content_hashes(before) == content_hashes(after):
        content = "data" if after.prepare else "weights"
        parts = [f"the same {content}", *parts]
    elif not parts:
        parts = ["other content"]
    return "; ".join(parts).replace("|", "/").replace("\n", " ")


def _data(before: Snapshot, after: Snapshot) -> list[str]:
    if not before.prepare or not after.prepare:
        return []
    parts = []
    old, new = before.prepare.splits, after.prepare.splits
    for split in [*new, *(split for split in old if split not in new)]:
        if old.get(split) != new.get(split):
            parts.append(f"{split} {_number(old.get(split))} → {_number(new.get(split))} pairs")
    if [source.sha256 for source in before.prepare.sources] != [source.sha256 for source in after.prepare.sources]:
        parts.append("other sources")
    return parts


def _lineage(before: Snapshot, after: Snapshot) -> list[str]:
    parts = []
    old, new = base_of(before), base_of(after)
    if old and new and (old.name, old.revision) != (new.name, new.revision):
        parts.append(f"base {_ref(old)} → {_ref(new)}")
    if before.merge and after.merge and before.merge.contents != after.merge.contents:
        parts.append(f"adapter {_adapters(before.merge)} → {_adapters(after.merge)}")
    if before.run and after.run and _sha(before.run.started_from) != _sha(after.run.started_from):
        start = after.run.started_from
        parts.append(f"started from {_adapter(start)}" if start else "started from the base alone")
    if before.run and after.run and _print(before.run.dataset) != _print(after.run.dataset):
        pairs = [_number(data.train_pairs) if data else "unknown" for data in (before.run.dataset, after.run.dataset)]
        parts.append(f"other data, {pairs[0]} → {pairs[1]} training pairs")
    return parts


def _options(before: Snapshot, after: Snapshot) -> list[str]:
    changed = changed_options(config_of(before), config_of(after))
    if len(changed) > MOST_OPTIONS:
        return [f"{len(changed)} options: {', '.join(f'`{name}`' for name in changed)}"]
    values = {name: (_value(old), _value(new)) for name, (old, new) in changed.items()}
    # long values, as the descriptions of sources, may differ only behind what is shown
    return [f"`{name}` {old} → {new}" if old != new else f"other `{name}`" for name, (old, new) in values.items()]


def _accuracy(before: Snapshot, after: Snapshot) -> list[str]:
    if not before.evaluation or not after.evaluation or not _measured_alike(before, after):
        return []
    old, new = before.evaluation.adapter_accuracy.value, after.evaluation.adapter_accuracy.value
    return [] if old == new else [f"held-out accuracy {100 * old:.1f} % → {100 * new:.1f} %"]


def _measured_alike(before: Snapshot, after: Snapshot) -> bool:
    """Tell whether two reports are of the same data and of the same state of the base, as far as they say."""
    old, new = map(measured_on, (before, after))
    return old.data == new.data and (None in (old.weights, new.weights) or old.weights == new.weights)


class MeasuredOn(NamedTuple):
    """What a report is of: the fingerprint of its data, and how the base was loaded. None where it does not say."""

    data: str | None
    weights: str | None


def measured_on(snapshot: Snapshot) -> MeasuredOn:
    """Return what a report is of; by default its data are those of the training."""
    report, run = snapshot.evaluation, snapshot.run
    data = (report.dataset if report is not None else None) or (run.dataset if run is not None else None)
    weights = report.weights if report is not None else None
    return MeasuredOn(data.fingerprint if data is not None else None, weights and weights.partition(",")[0])


def _number(value: int | None) -> str:
    return "no" if value is None else f"{value:,}"


def _ref(base: BaseRef) -> str:
    return f"`{base.name}`" + (f" at `{base.revision[:12]}`" if base.revision else "")


def _adapter(adapter: AdapterRef) -> str:
    return f"`{adapter.name}`" + (f" {adapter.version}" if adapter.version else f" (`{adapter.sha256[:12]}`)")


def _print(data: DatasetRef | None) -> str | None:
    return data.fingerprint if data is not None else None


def _adapters(merge: MergeManifest) -> str:
    if len(merge.parts) == 1:
        return _adapter(merge.adapter)
    return " + ".join(f"{part.weight:g} × {_adapter(part.adapter)}" for part in merge.parts)


def _sha(adapter: AdapterRef | None) -> str | None:
    return adapter.sha256 if adapter is not None else None


def _value(value: object) -> str:
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.replace("`", "'").split())
    return text if len(text) <= 40 else text[:40] + "…"
