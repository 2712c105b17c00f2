"""Report the outcome: its limits, `rejected.jsonl`, and the table at the end."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import orjson

from hubdpo import console
from hubdpo.artefacts.folders import storage
from hubdpo.artefacts.manifests.manifest import REJECTED_FILE
from hubdpo.artefacts.manifests.prepare import Funnel, PrepareManifest
from hubdpo.config import PrepareConfig
from hubdpo.data.clean.decide import SPLITS, VERDICTS, Decision, Verdicts
from hubdpo.data.clean.keys import RowKeys
from hubdpo.data.prepare.dropped import DroppedRow, next_step
from hubdpo.data.prepare.piece_writer import read_dropped
from hubdpo.data.prepare.remarks import tell_remarks
from hubdpo.data.prepare.rounds import Rounds
from hubdpo.data.raw.pieces import Piece
from hubdpo.data.raw.raw_file import listed, publishers
from hubdpo.data.raw.text.delimited import NULL_TEXT, OTHER_COLUMNS
from hubdpo.errors import DataError


def write_rejected(
    path: str, pieces: list[Piece], rounds: Rounds, decision: Decision, keys: RowKeys, scratch: str
) -> None:
    """Write every dropped row with its source and line, in the order of the input."""
    lines_before: Counter[int] = Counter()
    stop = 0
    with storage.open_write(path) as out:
        for piece, first, last in zip(pieces, rounds.first, rounds.last, strict=True):
            start, stop = stop, stop + last.pairs
            results = rounds.of(first.number)
            streams = [read_dropped(scratch, result.number, result.suffix) for result in results]
            streams.append(_dropped_by_decision(keys["line"][start:stop], decision.verdict[start:stop]))
            for row in heapq.merge(*streams, key=lambda row: row["line"]):
                line = lines_before[piece.file.number] + row["line"]
                out.write(orjson.dumps({"source": piece.file.name, **row, "line": line}) + b"\n")
            lines_before[piece.file.number] += first.lines


def _dropped_by_decision(lines: npt.NDArray[np.uint32], verdict: Verdicts) -> Iterator[DroppedRow]:
    for row in np.flatnonzero(verdict >= len(SPLITS)).tolist():
        yield {"line": int(lines[row]), "reason": VERDICTS[verdict[row]]}


def check_outcome(config: PrepareConfig, funnel: Funnel) -> None:
    """Raise DataError if no pair is kept, or if a larger share is dropped than `--max-reject` accepts."""
    if not funnel.adds_up():
        raise AssertionError(f"the funnel does not add up: {funnel}")
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in funnel.dropped.items())
    if funnel.kept == 0:
        raise DataError(
            f"no row can be used of {funnel.read:,} read: {reasons or 'the files hold no rows'}",
            hint=next_step(Counter(funnel.dropped), config),
        )
    dropped = sum(funnel.dropped.values())
    share = dropped / (dropped + funnel.kept)
    if share > config.max_reject:
        raise DataError(
            f"{share:.1%} of the rows would be dropped, more than `--max-reject {config.max_reject:g}`: {reasons}",
            hint="fix the source, or raise `--max-reject`",
        )


def tell_listed(rounds: Rounds) -> None:
    """Warn of texts that look like a list of one text. They stay as they are, for a list can be an answer."""
    texts = sum((result.listed for result in rounds.first), Counter[str]())
    for name, count in sorted(texts.items()):
        console.warn(f"{count:,} texts of `{name}` are a list of one text, as `['good']`: they stay as they are")
    if texts:
        console.hint("write the rows as .jsonl with the text alone, unless these lists are what the model shall say")


def tell(manifest: PrepareManifest, *, dry_run: bool) -> None:
    """Show the funnel as a table, then remarks on the split, missing values, unused columns and markers."""
    funnel = manifest.funnel
    rows = [("read", f"{funnel.read:,}")]
    rows += [("further pairs of rows with several answers", f"{funnel.added:,}")] if funnel.added else []
    rows += [("second answers of a pair", f"{funnel.joined:,}")] if funnel.joined else []
    rows += [(f"put right: {repair}", f"{count:,}") for repair, count in manifest.repaired.items()]
    rows += [(f"dropped: {reason}", f"{count:,}") for reason, count in funnel.dropped.items()]
    rows += [("kept", f"{funnel.kept:,}"), *((f"  {split}", f"{n:,}") for split, n in manifest.splits.items())]
    rows += [(f"changed: {change}", f"{count:,}") for change, count in manifest.changed.items()]
    rows += [(f"secrets: {kind}", f"{count:,}") for kind, count in manifest.secrets.items()]
    console.table(["rows", ""], rows)
    if manifest.max_length is not None and manifest.config["max_length"] == "auto":
        console.info(f"--max-length auto takes {manifest.max_length:,} tokens, which keeps 99 % of the pairs")
    _tell_nulls(manifest)
    _tell_split(manifest)
    tell_remarks(manifest)
    if funnel.dropped and not dry_run:
        console.info(f"each dropped row is named in {REJECTED_FILE}")


def _tell_nulls(manifest: PrepareManifest) -> None:
    """Say that words such as `nan` in a CSV were read as missing values; warn if prompts or answers are missing."""
    columns = [repair.removeprefix(NULL_TEXT) for repair in manifest.repaired if repair.startswith(NULL_TEXT)]
    if not columns:
        return
    names = listed(["other columns" if name == OTHER_COLUMNS else f"`{name}`" for name in columns])
    report = console.warn if manifest.funnel.dropped.get("missing_field") else console.info
    report(
        f"`nan`, `None`, `NULL` and the like in a CSV are missing values, as in pandas and `datasets`: found in "
        f"{names}; in .jsonl such a text stays one"
    )


def _tell_split(manifest: PrepareManifest) -> None:
    only = next(iter(manifest.splits)) if len(manifest.splits) < 2 else None
    if not manifest.published_split:
        if only and manifest.config["test_size"] != 0:
            console.warn(f"too few prompts for two splits: all rows are in `{only}`")
        return
    test = publishers(source.name for source in manifest.sources if "test" in (source.split or ""))
    console.info(
        f"rows stay in the split they were published in: `test` holds the test rows ({test}), `train` all else; "
        "`--test-size SHARE` draws a new split"
    )
    if shared := manifest.funnel.dropped.get("prompt_in_test"):
        console.warn(
            f"{shared:,} published train pairs have a prompt of the published test split, and were dropped from train"
        )
    if only:
        console.warn(f"nothing is left of the published {'test' if only == 'train' else 'train'} split")
