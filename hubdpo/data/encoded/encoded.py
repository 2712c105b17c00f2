"""The tokenised pairs of a split: from the cache, or encoded once by several processes and put there for all."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from hubdpo import console
from hubdpo.artefacts.folders.cache import cache_folder, why_not_cached
from hubdpo.artefacts.folders.scratch import beside, empty, held, sweep
from hubdpo.data.encoded.encoding import Encoding, encode, parts_of
from hubdpo.data.encoded.rows import TokenRows
from hubdpo.data.encoded.store import read, write
from hubdpo.data.load import Split
from hubdpo.data.prepare.workers import cores, engine_for
from hubdpo.data.tokens.tokenize import Account
from hubdpo.data.tokens.tokenizer import encoder_of
from hubdpo.errors import ArtefactError, MachineError
from hubdpo.machine.refusals import machine_error

FEWER = "--dataset-num-proc 1"
DAMAGE = (ValueError, OSError, ArtefactError)
"""What `read` raises for a folder that is damaged, or is not there."""
ELSEWHERE = "free some space, or export HUBDPO_CACHE=DIR on another disk"


class EncodedSplit(NamedTuple):
    """The pairs of a split that are kept, and what became of all of its rows."""

    rows: TokenRows
    account: Account


def encoded(split: Split, encoding: Encoding, *, limit: int | None = None, num_proc: int | None = None) -> EncodedSplit:
    """Return the tokenised pairs of the first `limit` rows of a split, which no process holds as Python objects.

    Raise DataError for a chat template that cannot be split into turns, MachineError if a worker dies or no disk has
    room.
    """
    limit = split.pairs if limit is None else min(limit, split.pairs)
    place = cache_folder("tokens") / encoding.key(split, limit)[:32]
    make = partial(_made, split, encoding, limit, num_proc)
    if place.is_dir():
        try:
            found = EncodedSplit(*read(place))
            console.info(f"tokens    {console.counted(len(found.rows), 'pair')} of `{split.name}` from {place}")
            return found
        except DAMAGE as problem:
            why = str(problem).splitlines()[0]
            console.warn(f"the tokens in {place} are damaged, and are made again: {why}")
    try:
        return _made_in_cache(place, make)
    except Exception as problem:
        why = why_not_cached(problem, place.parent)
        console.warn(f"the tokens of `{split.name}` cannot be kept for later runs: {why}")
    try:
        with tempfile.TemporaryDirectory(prefix="hubdpo-tokens-") as folder:
            # what is mapped stays until the process ends, without a name
            return make(Path(folder) / "new")
    except OSError as problem:
        if (refusal := machine_error(problem, [tempfile.gettempdir()])) is None:
            raise
        hint = refusal.hint if (refusal.hint or "").startswith("ulimit") else ELSEWHERE
        raise MachineError(f"no disk takes the tokens of `{split.name}`: {refusal.message}", hint=hint) from None


def _made_in_cache(place: Path, make: Callable[[Path], EncodedSplit]) -> EncodedSplit:
    """Encode into the cache, or wait for another process that does."""
    place.parent.mkdir(parents=True, exist_ok=True)
    sweep(place.parent)
    scratch = beside(place)
    with held(scratch, place, waits=True):
        try:
            with suppress(*DAMAGE):
                return EncodedSplit(*read(place))
            empty(scratch)
            made = make(scratch / "new")
            if place.exists():
                shutil.rmtree(place)
            (scratch / "new").rename(place)
            return made
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _made(split: Split, encoding: Encoding, limit: int, num_proc: int | None, folder: Path) -> EncodedSplit:
    parts = list(parts_of(split, encoding, limit))
    encoder = encoder_of(encoding.model)  # before workers are forked, which then need not load it
    workers = min(num_proc or cores(), max(len(parts), 1))
    with (
        engine_for("local", workers, fewer=FEWER) as engine,
        console.progress(f"tokenising `{split.name}`", limit) as bar,
    ):

        def results() -> Iterator[tuple[TokenRows, Counter[str]]]:
            for part, result in zip(parts, engine.map(encode, parts), strict=True):
                yield result
                bar.update(bar.task_ids[0], advance=part.stop - part.first)

        write(folder, results(), encoder.end_of_turn)
    return EncodedSplit(*read(folder, trusted=True))
