"""Draw the pairs that a dataset card shows: at random, with a seed, and none that should not be read aloud."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow.parquet as pq

from hubdpo.artefacts.folders import storage
from hubdpo.data.pairs.example import PreferenceExample
from hubdpo.data.pairs.extras import example_of
from hubdpo.secrets import find_secrets

SHOWN = 2
GROUPS, ROWS = 4, 16
"""How many row groups are read, and how many rows of each are looked at: time does not grow with the dataset."""
COARSE = re.compile(
    r"\b(?:(?:mother)?fuck|shit|bitch|cunt|whore|slut|porn|nigg|faggot|retard|rape|rapist|suicid|kill (?:your|my)self)",
    re.IGNORECASE,
)
"""Words that a card does not quote, and beginnings of such words."""


@dataclass(frozen=True)
class Samples:
    """Pairs for the card, and how many of those drawn before them were passed over, by reason."""

    pairs: list[PreferenceExample]
    passed_over: Counter[str] = field(default_factory=Counter)


def draw_samples(shards: Sequence[str], seed: int) -> Samples:
    """Return SHOWN pairs of these Parquet files that differ. They depend on the rows and the seed alone."""
    samples = Samples([])
    for example in _drawn(shards, random.Random(seed)):
        if reason := _unfit(example):
            samples.passed_over[reason] += 1
        elif example not in samples.pairs:  # a weight writes one pair several times
            samples.pairs.append(example)
        if len(samples.pairs) == SHOWN:
            break
    return samples


def _drawn(shards: Sequence[str], chance: random.Random) -> Iterator[PreferenceExample]:
    """Yield pairs of a few row groups, each group in an order of its own."""
    groups = []
    for path in shards:
        with storage.open_read(path) as stream:
            groups += [(path, number) for number in range(pq.ParquetFile(stream).num_row_groups)]
    for path, number in chance.sample(groups, min(GROUPS, len(groups))):
        with storage.open_read(path) as stream:
            table = pq.ParquetFile(stream).read_row_group(number)
        for at in chance.sample(range(table.num_rows), min(ROWS, table.num_rows)):
            yield example_of(table.slice(at, 1).to_pylist()[0])


def _unfit(example: PreferenceExample) -> str | None:
    """Return why a pair is not shown, None if it may be."""
    messages = [*example.prompt, *example.chosen, *example.rejected]
    text = "\n".join([example.tools, *(value for message in messages for value in message.values())])
    if find_secrets(text):
        return "with a credential"
    return "with coarse words" if COARSE.search(text) else None
