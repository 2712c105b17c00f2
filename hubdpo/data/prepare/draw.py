"""Draw some pairs of a split, by a seed: those that the card shows, and those whose language is told."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import accumulate

import pyarrow.parquet as pq

from hubdpo.artefacts.folders import storage
from hubdpo.artefacts.formats.messages import COLUMNS, TOOLS
from hubdpo.data.pairs.example import PreferenceExample
from hubdpo.data.pairs.extras import example_of

GROUPS, PAIRS = 16, 200
"""How many row groups are read, and how many pairs of them are drawn: time does not grow with the dataset."""


def draw_pairs(shards: Sequence[str], seed: int) -> list[PreferenceExample]:
    """Return at most PAIRS pairs of these Parquet files in random order. They depend on the rows and the seed alone."""
    chance = random.Random(seed)
    groups: list[tuple[str, int, int]] = []  # path, number and rows of each
    for path in shards:
        with storage.open_read(path) as stream:
            facts = pq.ParquetFile(stream).metadata
            groups += [(path, number, facts.row_group(number).num_rows) for number in range(facts.num_row_groups)]
    read = chance.sample(groups, min(GROUPS, len(groups)))
    ends = list(accumulate(rows for _, _, rows in read))
    wanted = chance.sample(range(ends[-1]), min(PAIRS, ends[-1]))
    found: dict[int, PreferenceExample] = {}
    for (path, number, rows), end in zip(read, ends, strict=True):
        if own := [at for at in wanted if end - rows <= at < end]:
            with storage.open_read(path) as stream:
                file = pq.ParquetFile(stream)
                columns = [name for name in (*COLUMNS, TOOLS) if name in file.schema_arrow.names]
                table = file.read_row_group(number, columns=columns)
            found |= {at: example_of(table.slice(at - (end - rows), 1).to_pylist()[0]) for at in own}
    return [found[at] for at in wanted]
