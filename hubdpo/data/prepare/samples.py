"""Draw some pairs of a split, by a seed, and choose those that a card shows: none that should not be read aloud."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate

import pyarrow.parquet as pq

from hubdpo.artefacts.folders import storage
from hubdpo.artefacts.formats.messages import COLUMNS, TOOLS
from hubdpo.data.pairs.example import PreferenceExample
from hubdpo.data.pairs.extras import example_of
from hubdpo.secrets import find_secrets

GROUPS, PAIRS = 16, 200
"""How many row groups are read, and how many pairs of them are drawn: time does not grow with the dataset."""
SHOWN = 2
COARSE = re.compile(
    r"\b(?:(?:mother)?fuck|shit|bitch|cunt|whore|slut|porn|nigg|faggot|retard|rape|rapist|suicid|kill (?:your|my)self"
    r"|fick|fotze|hure|schei(?:ß|ss)|putain|salope|encul|nique|puta|mierda|joder|coño|maric[oó]n|caralho|foder"
    r"|cazzo|puttana|stronz|vaffancul|бля|хуй|пизд|еба[тлн])"
    r"|操你|傻逼|他妈的|婊子|强奸|自杀|レイプ|自殺|씨발|강간|자살",
    re.IGNORECASE,
)
"""Words that a card does not quote, and beginnings of such words, in a few languages."""
MAIL = re.compile(r"[\w.+-]+@[\w-]+\.\w")
NUMBER = re.compile(r"\+?\(?\d(?:[ ().-]{0,2}\d){8,14}(?!\d)")
"""A number of 9 to 15 digits, in groups or not, as telephone numbers are written (ITU-T E.164)."""


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


def choose_samples(drawn: Iterable[PreferenceExample]) -> tuple[list[PreferenceExample], Counter[str]]:
    """Return the first SHOWN pairs that differ and are fit to be shown, and count those passed over, by reason."""
    samples: list[PreferenceExample] = []
    passed_over: Counter[str] = Counter()
    for example in drawn:
        if reason := _unfit(example):
            passed_over[reason] += 1
        elif example not in samples:  # a weight writes one pair several times
            samples.append(example)
        if len(samples) == SHOWN:
            break
    return samples, passed_over


def _unfit(example: PreferenceExample) -> str | None:
    messages = [*example.prompt, *example.chosen, *example.rejected]
    text = "\n".join([example.tools, *(value for message in messages for value in message.values())])
    if find_secrets(text):
        return "with a credential"
    if MAIL.search(text) or NUMBER.search(text):
        return "with what may be a telephone number or an e-mail address"
    return "with coarse words" if COARSE.search(text) else None
