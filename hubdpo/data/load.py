"""Load prepared preferences, from a folder or from the Hub, verified or pinned."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from hubdpo.cards.citations import citation_of
from hubdpo.data.prepared import read_dataset_folder
from hubdpo.errors import ArtefactError
from hubdpo.hub.client import download, resolve
from hubdpo.hub.reference import looks_like_folder, parse_ref
from hubdpo.manifest import DatasetRef

if TYPE_CHECKING:
    from datasets import DatasetDict


def load_preferences(ref: str | Path, *, revision: str | None = None) -> DatasetDict:
    """Load the splits of a dataset folder, or of `USER/NAME[@REVISION]` on the Hub.

    Every file is compared with the manifest. Raise ArtefactError when one differs, HubError when the Hub has no such
    dataset or revision.
    """
    return load_with_reference(ref, revision=revision)[0]


def load_with_reference(ref: str | Path, *, revision: str | None = None) -> tuple[DatasetDict, DatasetRef]:
    """Load the splits, and say exactly which data they are."""
    folder, repo_id, sha = _find(str(ref), revision)
    manifest = read_dataset_folder(folder)
    if "train" not in manifest.splits:
        raise ArtefactError(f"`{ref}` has no train split", hint="hubdpo prepare SOURCE -o DIR --test-size 0.05")
    reference = DatasetRef(
        name=repo_id or folder.resolve().name,
        repo_id=repo_id,
        revision=sha,
        fingerprint=manifest.fingerprint,
        license=manifest.license,
        language=manifest.language,
        citation=citation_of(folder),
        train_pairs=manifest.splits["train"],
        test_pairs=manifest.splits.get("test", 0),
    )
    return _read(folder, list(manifest.splits)), reference


def _find(ref: str, revision: str | None) -> tuple[Path, str | None, str | None]:
    if Path(ref).is_dir():
        return Path(ref), None, None
    if Path(ref).is_file():
        hint = f"hubdpo prepare {shlex.quote(ref)} -o DIR"
        raise ArtefactError(f"`{ref}` is a file, not a dataset folder", hint=hint)
    if looks_like_folder(ref):
        raise ArtefactError(f"dataset folder not found: {ref}", hint=f"hubdpo prepare SOURCE -o {shlex.quote(ref)}")
    repo_id, wanted = parse_ref(ref).at(revision)
    sha = resolve(repo_id, wanted, repo_type="dataset")
    return download(repo_id, sha, repo_type="dataset"), repo_id, sha


def _read(folder: Path, splits: list[str]) -> DatasetDict:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Dataset, DatasetDict

    def split(name: str) -> Dataset:
        shards = sorted((folder / "data").glob(f"{name}-*.parquet"))
        return Dataset(pa.concat_tables([pq.read_table(shard, memory_map=True) for shard in shards]))

    return DatasetDict({name: split(name) for name in splits})
