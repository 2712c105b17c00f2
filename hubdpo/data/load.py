"""Load the splits of a prepared dataset, from a folder or from the Hub, and check its files."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from hubdpo.artefacts.folders.kinds import read_dataset_folder
from hubdpo.artefacts.folders.named import check_named, meant, unused
from hubdpo.artefacts.folders.walk import files_below
from hubdpo.artefacts.formats.messages import COLUMNS
from hubdpo.artefacts.manifests.manifest import CARD_FILE, PREPARE_FILE, RUN_FILE
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.artefacts.manifests.run import DatasetRef
from hubdpo.cards.model.card import citation_of
from hubdpo.config.takes import plain
from hubdpo.data.pairs.extras import example_of, whole
from hubdpo.data.raw.raw_file import ENDINGS
from hubdpo.errors import ArtefactError, Instead
from hubdpo.hub.open import open_snapshot
from hubdpo.hub.reference import checked_name
from hubdpo.hub.snapshot import Snapshot

if TYPE_CHECKING:
    from datasets import DatasetDict

AT_ONCE = 512
"""Rows that are in memory together where a split is streamed."""


@dataclass(frozen=True)
class Split:
    """A split of a prepared dataset, whose files were compared with the manifest and are not in memory."""

    name: str
    shards: tuple[Path, ...]
    """Its Parquet files, in order."""
    digests: tuple[str, ...]
    """SHA-256 of each shard."""
    pairs: int

    def batches(self, columns: Sequence[str], limit: int | None = None) -> Iterator[list[dict[str, Any]]]:
        """Yield a few hundred rows at a time, up to the row `limit`; tools are among the columns if there are any."""
        import pyarrow.parquet as pq

        left = self.pairs if limit is None else min(limit, self.pairs)
        for shard in self.shards:
            with pq.ParquetFile(shard) as file:
                for batch in file.iter_batches(AT_ONCE, columns=list(columns), use_threads=False):
                    if left <= 0:
                        return
                    yield batch.slice(0, left).to_pylist()
                    left -= batch.num_rows

    def hashes(self, limit: int | None = None) -> Iterator[bytes]:
        """Yield a hash of each pair, as its messages say: datasets have two types of columns for them."""
        for batch in self.batches(COLUMNS, limit):
            for row in batch:
                example = example_of(row)
                messages = [list(map(whole, side)) for side in (example.prompt, example.chosen, example.rejected)]
                yield hashlib.sha256(orjson.dumps(messages, option=orjson.OPT_SORT_KEYS)).digest()

    def count_in(self, others: Sequence[Split], limit: int | None = None) -> list[int]:
        """Count the distinct pairs of each other split, of its first `limit` rows, that this one has, in one walk."""
        pairs = [frozenset(other.hashes(limit)) for other in others]
        known = frozenset[bytes]().union(*pairs).intersection(self.hashes() if pairs else ())
        return [len(known & each) for each in pairs]


@plain
def load_preferences(ref: str | Path, *, revision: str | None = None) -> DatasetDict:
    """Load the splits of a dataset folder, or of `USER/NAME[@REVISION]` on the Hub.

    Every file is compared with the manifest. Raise ArtefactError if one differs, HubError if the Hub has no such
    dataset or revision.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Dataset, DatasetDict

    splits, _ = open_dataset(ref, revision=revision, trains=True)
    return DatasetDict(
        {
            name: Dataset(pa.concat_tables([pq.read_table(shard, memory_map=True) for shard in split.shards]))
            for name, split in splits.items()
        }
    )


def open_dataset(
    ref: str | Path, *, revision: str | None = None, trains: bool = True
) -> tuple[dict[str, Split], DatasetRef]:
    """Check all files of a dataset, as `load_preferences` does, and return its splits without reading them.

    The second value is what a run records of the dataset. A dataset that `trains` needs a train split.
    """
    ref = checked_name("ref", ref)
    snapshot, folder = _fetched(ref, revision)
    manifest = read_dataset_folder(folder)
    if trains:
        _require_train(manifest, ref)
    return {name: _split(folder, manifest, name) for name in manifest.splits}, _reference(snapshot, folder, manifest)


def reference_to(ref: str) -> tuple[DatasetRef, str]:
    """Return what a run records of a dataset, and its name with the commit, without reading its rows."""
    snapshot, folder = _fetched(ref, only=[PREPARE_FILE, CARD_FILE])
    reference = _reference(snapshot, folder, PrepareManifest.read(folder / PREPARE_FILE))
    return reference, reference.place if reference.repo_id else ref


def _reference(snapshot: Snapshot, folder: Path, manifest: PrepareManifest) -> DatasetRef:
    return DatasetRef(
        name=snapshot.name if snapshot.commit else folder.resolve().name,
        repo_id=snapshot.name if snapshot.commit else None,
        revision=snapshot.commit,
        fingerprint=manifest.fingerprint,
        license=manifest.license,
        language=manifest.language,
        citation=citation_of(folder),
        train_pairs=manifest.splits.get("train", 0),
        test_pairs=manifest.splits.get("test", 0),
    )


def _split(folder: Path, manifest: PrepareManifest, name: str) -> Split:
    shards = sorted((folder / "data").glob(f"{name}-*.parquet"))
    digests = [manifest.files[shard.relative_to(folder).as_posix()].sha256 for shard in shards]
    return Split(name, tuple(shards), tuple(digests), manifest.splits[name])


def look_at_dataset(ref: str, *, trains: bool = True) -> tuple[PrepareManifest, str]:
    """Return the manifest of a dataset and its name with the commit, without reading or downloading anything else.

    Raises what `load_preferences` raises, except for errors in the data.
    """
    snapshot, folder = _fetched(ref, only=[PREPARE_FILE])
    manifest = PrepareManifest.read(folder / PREPARE_FILE)
    ref = f"{snapshot.name}@{snapshot.commit}" if snapshot.commit else ref
    if trains:
        _require_train(manifest, ref)
    return manifest, ref


def _fetched(ref: str, revision: str | None = None, only: list[str] | None = None) -> tuple[Snapshot, Path]:
    """Fetch a dataset. Raise ArtefactError for anything else, with the command that makes a dataset of it."""
    check_named(ref, ("dataset",))
    snapshot = open_snapshot(ref, revision, repo_type=None if Path(ref).is_dir() else "dataset")
    folder = snapshot.fetch(only)
    if (folder / PREPARE_FILE).is_file():
        return snapshot, folder
    if (folder / RUN_FILE).is_file():
        raise ArtefactError(f"`{ref}` is a run, not a dataset", hint=meant(ref, ("dataset",)))
    name, hint = unused("data", Path(ref)), meant(ref, ("dataset",))
    source = f"hf://datasets/{ref}" if snapshot.commit else shlex.quote(ref)
    if snapshot.commit or any(path.name.lower().endswith(ENDINGS) for path in files_below(folder)):
        hint = Instead(ref, name, after=f"hubdpo prepare {source} -o {shlex.quote(name)}")
    raise ArtefactError(f"`{ref}` was not made by `hubdpo prepare`: it has no {PREPARE_FILE}", hint=hint)


def _require_train(manifest: PrepareManifest, ref: str) -> None:
    if "train" not in manifest.splits:
        raise ArtefactError(f"`{ref}` has no train split", hint="hubdpo prepare SOURCE -o DIR --test-size 0")
