"""Load the splits of a prepared dataset, from a folder or from the Hub, and check its files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from hubdpo.artefacts.folders.kinds import read_dataset_folder
from hubdpo.artefacts.folders.walk import files_below
from hubdpo.artefacts.manifests.manifest import PREPARE_FILE, RUN_FILE
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.artefacts.manifests.run import DatasetRef
from hubdpo.cards.model.card import citation_of
from hubdpo.config.takes import plain
from hubdpo.data.raw.raw_file import ENDINGS
from hubdpo.errors import ArtefactError
from hubdpo.hub.open import open_snapshot
from hubdpo.hub.reference import checked_name, looks_like_folder
from hubdpo.hub.snapshot import Snapshot

if TYPE_CHECKING:
    from datasets import DatasetDict

RAW_NAME = re.compile(r"\.(jsonl?|ndjson|csv|tsv|parquet|arrow|xlsx|txt|ya?ml)(\.(gz|zst|bz2|xz))?$", re.IGNORECASE)


@plain
def load_preferences(ref: str | Path, *, revision: str | None = None) -> DatasetDict:
    """Load the splits of a dataset folder, or of `USER/NAME[@REVISION]` on the Hub.

    Every file is compared with the manifest. Raise ArtefactError if one differs, HubError if the Hub has no such
    dataset or revision.
    """
    return load_with_reference(ref, revision=revision)[0]


def load_with_reference(
    ref: str | Path, *, revision: str | None = None, trains: bool = True
) -> tuple[DatasetDict, DatasetRef]:
    """Load the splits, with the reference that a run records: repo, commit, fingerprint and licence.

    A dataset that `trains` needs a train split.
    """
    ref = checked_name("ref", ref)
    snapshot = _open(ref, revision)
    folder = snapshot.fetch()
    _check_prepared(snapshot, folder, ref)
    manifest = read_dataset_folder(folder)
    if trains:
        _require_train(manifest, ref)
    reference = DatasetRef(
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
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Dataset, DatasetDict

    splits = DatasetDict()
    for split in manifest.splits:
        shards = sorted((folder / "data").glob(f"{split}-*.parquet"))
        splits[split] = Dataset(pa.concat_tables([pq.read_table(shard, memory_map=True) for shard in shards]))
    return splits, reference


def look_at_dataset(ref: str, *, trains: bool = True) -> tuple[PrepareManifest, str]:
    """Return the manifest of a dataset and its name with the commit, without reading or downloading anything else.

    Raises what `load_preferences` raises, except for errors in the data.
    """
    snapshot = _open(ref)
    folder = snapshot.fetch([PREPARE_FILE])
    _check_prepared(snapshot, folder, ref)
    manifest = PrepareManifest.read(folder / PREPARE_FILE)
    ref = f"{snapshot.name}@{snapshot.commit}" if snapshot.commit else ref
    if trains:
        _require_train(manifest, ref)
    return manifest, ref


def _check_prepared(snapshot: Snapshot, folder: Path, ref: str) -> None:
    """Raise ArtefactError, with the command that makes a dataset of it, for anything else than a dataset."""
    if (folder / PREPARE_FILE).is_file():
        return
    if (folder / RUN_FILE).is_file():
        raise ArtefactError(f"`{ref}` is a run, not a dataset", hint="give the dataset that `hubdpo prepare` made")
    source = f"hf://datasets/{ref}"
    if not snapshot.commit:
        has_rows = any(path.name.lower().endswith(ENDINGS) for path in files_below(folder))
        source = shlex.quote(ref) if has_rows else "SOURCE"
    raise ArtefactError(
        f"`{ref}` was not made by `hubdpo prepare`: it has no {PREPARE_FILE}",
        hint=f"hubdpo prepare {source} -o data, then give `data`",
    )


def _require_train(manifest: PrepareManifest, ref: str) -> None:
    if "train" not in manifest.splits:
        raise ArtefactError(f"`{ref}` has no train split", hint="hubdpo prepare SOURCE -o DIR --test-size 0")


def _open(ref: str, revision: str | None = None) -> Snapshot:
    """Open a dataset, a folder or a repo. Raise ArtefactError for raw data, and for a folder that does not exist."""
    if Path(ref).is_dir():
        return open_snapshot(ref, revision)
    if Path(ref).is_file() or RAW_NAME.search(ref):
        state = "is raw data" if Path(ref).is_file() else "is not there, and is named like raw data"
        raise ArtefactError(
            f"`{ref}` {state}, not a dataset folder",
            hint=f"hubdpo prepare {shlex.quote(ref)} -o data, then give `data`",
        )
    if looks_like_folder(ref):
        raise ArtefactError(f"dataset folder not found: {ref}", hint=f"hubdpo prepare SOURCE -o {shlex.quote(ref)}")
    return open_snapshot(ref, revision, repo_type="dataset")
