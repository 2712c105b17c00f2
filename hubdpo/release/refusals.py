"""Refuse to publish links that leave the folder, and rows that hold credentials."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hubdpo import console
from hubdpo.artefacts.manifests.manifest import PREPARE_FILE
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.errors import ArtefactError
from hubdpo.secrets import find_secrets

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_AT_ONCE = 1024


def check_links(folder: Path) -> None:
    """Raise ArtefactError for a link that leaves the folder: its target was not made here."""
    root = folder.resolve()
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise ArtefactError(
                f"`{path.relative_to(folder)}` is a link to outside of the folder",
                hint="copy its target into the folder, or remove the link",
            )


def check_rows(folder: Path) -> None:
    """Raise ArtefactError for a row that holds a credential, unless `prepare` scanned the rows already.

    The message names the file, the row and the kind of credential, never its value.
    """
    manifest = PrepareManifest.read(folder / PREPARE_FILE)
    if manifest.config.get("scan") == "secrets":
        return
    import pyarrow.parquet as pq

    with console.progress("looking for credentials", sum(manifest.splits.values())) as bar:
        for name in manifest.files:
            if not name.endswith(".parquet"):
                continue
            first = 0
            with pq.ParquetFile(folder / name) as file:
                for batch in file.iter_batches(batch_size=ROWS_AT_ONCE):
                    _check_batch(batch, name, first)
                    first += batch.num_rows
                    bar.advance(bar.task_ids[0], batch.num_rows)


def _check_batch(batch: pa.RecordBatch, name: str, first: int) -> None:
    for row, text in _texts(batch):
        if secrets := find_secrets(text):
            raise ArtefactError(
                f"row {first + row + 1:,} of `{name}` holds a {secrets[0].kind}",
                hint="hubdpo prepare ... --scan secrets [--redact]; or `--secrets keep` if it is not a credential",
            )


def _texts(batch: pa.RecordBatch) -> Iterator[tuple[int, str]]:
    """Yield the row number and the text of every text in a batch: plain columns, and fields of listed messages."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for column in batch.columns:
        rows = range(len(column))
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            rows, column = pc.list_parent_indices(column).to_pylist(), pc.list_flatten(column)
        fields = column.flatten() if pa.types.is_struct(column.type) else [column]
        for field in fields:
            if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
                yield from ((row, text) for row, text in zip(rows, field.to_pylist(), strict=True) if text)
