"""Count and find the pairs that two versions of a dataset do not share, by 64-bit hashes of their rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from hubdpo.artefacts.formats.parquet_footers import is_messages, is_objects, read_footer
from hubdpo.errors import ArtefactError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

Hashes = npt.NDArray[np.uint64]
MOST_HASHES = 2**24
"""Most hashes in memory. With more rows there are several passes, each over one share of the hash values."""


@dataclass(frozen=True)
class RowChanges:
    """Numbers of distinct pairs (prompt and both answers) and of distinct prompts, over all splits."""

    pairs_added: int = 0
    pairs_removed: int = 0
    pairs_kept: int = 0
    prompts_added: int = 0
    prompts_removed: int = 0
    prompts_kept: int = 0


def compare_rows(before: Sequence[Path], after: Sequence[Path]) -> RowChanges:
    """Compare two lists of Parquet files, in bounded memory."""
    rows = max(sum(map(_check, paths)) for paths in (before, after))
    passes = -(-max(rows, 1) // MOST_HASHES)
    counts = [0] * 6
    for share in range(passes):
        old, new = (_hashes(paths, share, passes) for paths in (before, after))
        numbers = [*_count(old[0], new[0]), *_count(old[1], new[1])]
        counts = [total + more for total, more in zip(counts, numbers, strict=True)]
    return RowChanges(*counts)


class Starts(dict[str, int]):
    """The number of the first row of each split, where all rows of a version are numbered in one go."""

    def place(self, row: int) -> tuple[str, int]:
        """Return the split of a row, and its number in there."""
        split = [name for name, start in self.items() if start <= row][-1]
        return split, row - self[split]


class RowPlaces(NamedTuple):
    """Rows that only one version has: those of one prompt, which changed, and the others."""

    before: Starts
    after: Starts
    changed: npt.NDArray[np.intp]
    """The row before and after, shaped (rows, 2)."""
    removed: npt.NDArray[np.intp]
    added: npt.NDArray[np.intp]


def find_rows(before: Mapping[str, Sequence[Path]], after: Mapping[str, Sequence[Path]]) -> RowPlaces | None:
    """Find the rows that differ, in the files of each split. Return None for more rows than fit into memory."""
    if max(sum(_check(path) for paths in side.values() for path in paths) for side in (before, after)) > MOST_HASHES:
        return None
    (pairs, prompts, starts), (new_pairs, new_prompts, new_starts) = _side(before), _side(after)
    removed, added = np.flatnonzero(~np.isin(pairs, new_pairs)), np.flatnonzero(~np.isin(new_pairs, pairs))
    _, first, second = np.intersect1d(prompts[removed], new_prompts[added], return_indices=True)
    changed = np.stack([removed[first], added[second]], axis=1)
    changed = changed[np.argsort(changed[:, 0])]
    return RowPlaces(starts, new_starts, changed, np.delete(removed, first), np.delete(added, second))


def _side(splits: Mapping[str, Sequence[Path]]) -> tuple[Hashes, Hashes, Starts]:
    """Return the hashes of all pairs and prompts in their order, and where the rows of each split begin."""
    parts: list[tuple[Hashes, Hashes]] = [(np.zeros(0, np.uint64),) * 2]
    starts = Starts()
    for split, paths in splits.items():
        starts[split] = sum(len(pairs) for pairs, _ in parts)
        parts += [hashes for path in paths for hashes in _hashes_of_rows(path)]
    pairs, prompts = (np.concatenate(part) for part in zip(*parts, strict=True))
    return pairs, prompts, starts


def _hashes(paths: Sequence[Path], share: int, passes: int) -> tuple[Hashes, Hashes]:
    """Return the distinct hashes of the pairs, and of the prompts, that fall into one share of the passes."""
    parts: tuple[list[Hashes], list[Hashes]] = ([], [])
    for path in paths:
        for hashes in _hashes_of_rows(path):
            for part, values in zip(parts, hashes, strict=True):
                part.append(np.unique(values[values % np.uint64(passes) == share]))
    pairs, prompts = (np.unique(np.concatenate(part)) if part else np.zeros(0, np.uint64) for part in parts)
    return pairs, prompts


def _hashes_of_rows(path: Path) -> Iterator[tuple[Hashes, Hashes]]:
    """Yield the hashes of pairs, and of prompts, of the rows of a file in their order."""
    import pyarrow.parquet as pq

    from hubdpo.artefacts.formats.messages import COLUMNS, TOOLS

    with pq.ParquetFile(path) as file:
        names = [name for name in (*COLUMNS, TOOLS) if name in file.schema_arrow.names]
        for batch in _batches(file, path, names):
            columns = _digests(batch)
            pairs = [_short(b"".join(row)) for row in zip(*columns, strict=True)]
            yield np.array(pairs, np.uint64), np.array([_short(prompt) for prompt in columns[0]], np.uint64)


def _digests(batch: pa.RecordBatch) -> list[Hashes]:
    """Return the digests of prompts, chosen and rejected answers, uint64 (rows, 2) each."""
    from hubdpo.artefacts.formats.messages import COLUMNS
    from hubdpo.data.clean.keys import digests
    from hubdpo.data.pairs.extras import by_column, example_of, pack
    from hubdpo.data.pairs.message_column import MessageColumn

    if not any(is_objects(field.type) for field in batch.schema):
        return [digests(MessageColumn.of(batch.column(name).to_pylist()), {}) for name in COLUMNS]
    examples = list(map(example_of, batch.to_pylist()))
    extras = by_column(list(map(pack, examples)))
    return [digests(MessageColumn.of([getattr(e, name) for e in examples]), extras[name]) for name in COLUMNS]


def _check(path: Path) -> int:
    """Return the number of rows. Raise ArtefactError for a file without pairs, DataError for a bomb."""
    from hubdpo.artefacts.formats.messages import COLUMNS
    from hubdpo.data.raw.expansion import check_footer

    with path.open("rb") as stream:
        rows, schema, metadata = read_footer(stream, str(path), hint="restore it, or run `hubdpo prepare` again")
    check_footer(metadata, path.stat().st_size, path.name)
    for name in COLUMNS:
        if name not in schema.names or not is_messages(schema.field(name).type):
            raise ArtefactError(
                f"`{path.name}` has no column `{name}` of messages, so its pairs cannot be compared",
                hint="compare datasets that hubdpo prepared",
            )
    return rows


def _batches(file: pq.ParquetFile, path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    from hubdpo.data.raw.expansion import parquet_batches

    with path.open("rb") as stream:
        for group in range(file.num_row_groups):
            yield from parquet_batches(file, group, stream, path.name, columns)


def _short(digest: bytes) -> int:
    from xxhash import xxh3_64_intdigest

    return int(xxh3_64_intdigest(digest))


def _count(old: Hashes, new: Hashes) -> tuple[int, int, int]:
    """Return the numbers of hashes only in `new`, only in `old`, and in both."""
    both = len(np.intersect1d(old, new, assume_unique=True))
    return len(new) - both, len(old) - both, both
