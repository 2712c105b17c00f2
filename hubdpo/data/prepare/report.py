"""What prepare tells of the rows it left out: `rejected.jsonl`, the funnel, and the table at the end."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import orjson

from hubdpo import console
from hubdpo.artefacts.folders import storage
from hubdpo.artefacts.manifests.funnel import Funnel
from hubdpo.artefacts.manifests.manifest import REJECTED_FILE
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.config import PrepareConfig
from hubdpo.data.clean.decide import SPLITS, UNDECIDED, VERDICTS, Decision, count_verdicts
from hubdpo.data.prepare.convert_piece import read_losses
from hubdpo.data.prepare.dropped import next_step
from hubdpo.data.prepare.remarks import tell_remarks
from hubdpo.data.prepare.rounds import Rounds
from hubdpo.data.raw.pieces import Piece
from hubdpo.data.raw.raw_file import listed
from hubdpo.data.raw.text.delimited import NULL_TEXT, OTHER_COLUMNS
from hubdpo.errors import DataError


def make_funnel(rounds: Rounds, decision: Decision) -> Funnel:
    """Add up both rounds."""
    dropped = count_verdicts(decision.verdict)
    kept = sum(dropped.pop(split, 0) for split in SPLITS)
    for part in rounds.all:
        dropped.update(part.dropped)
    read = sum(part.read for part in rounds.first)
    made = read + sum(part.made for part in rounds.first)
    # pairs of rows with one answer each: two rows or more give one pair, or few rows give many
    difference = kept + dropped.total() - made
    return Funnel(
        read=read, kept=kept, dropped=dict(sorted(dropped.items())),
        added=sum(part.made for part in rounds.first) + max(difference, 0), joined=max(-difference, 0),
    )  # fmt: skip


def write_rejected(path: str, pieces: list[Piece], rounds: Rounds, decision: Decision, keys: Any, scratch: str) -> None:
    """Write every loss with its source and line, in the order of the input."""
    with storage.open_write(path) as out:
        before: dict[int, int] = {}
        at = 0
        for piece, part, late in zip(pieces, rounds.first, rounds.last, strict=True):
            base = before.get(piece.file.number, 0)
            rows = slice(at, at + late.pairs)
            at = rows.stop
            streams: list[Iterable[dict[str, Any]]] = [
                read_losses(scratch, one.number, one.suffix) for one in rounds.of(part.number)
            ]
            streams.append(_decided(keys["line"][rows], decision.verdict[rows]))
            for loss in heapq.merge(*streams, key=lambda loss: loss["line"]):
                where = {"source": piece.file.name, "line": base + loss.pop("line")}
                out.write(orjson.dumps({**where, **loss}) + b"\n")
            before[piece.file.number] = base + part.lines


def _decided(lines: Any, verdict: Any) -> Iterator[dict[str, Any]]:
    for row in np.flatnonzero((verdict >= len(SPLITS)) & (verdict != UNDECIDED)).tolist():
        yield {"line": int(lines[row]), "reason": VERDICTS[verdict[row]]}


def check_outcome(config: PrepareConfig, funnel: Funnel) -> None:
    """Raise DataError when nothing is left, or more is lost than `--max-reject` accepts."""
    if not funnel.adds_up():
        raise AssertionError(f"the funnel does not add up: {funnel}")
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in funnel.dropped.items())
    if funnel.kept == 0:
        raise DataError(
            f"no row can be used of {funnel.read:,} read: {reasons or 'the files hold no rows'}",
            hint=next_step(Counter(funnel.dropped), config),
        )
    lost = sum(funnel.dropped.values())
    if lost / (lost + funnel.kept) > config.max_reject:
        raise DataError(
            f"{lost / (lost + funnel.kept):.1%} of the rows would be dropped, more than "
            f"`--max-reject {config.max_reject:g}`: {reasons}",
            hint="mend the source, or raise `--max-reject`",
        )


def tell_listed(rounds: Rounds) -> None:
    """Say which texts may be lists of one text; a list can be an answer, so they stay as they are."""
    found = sum((part.listed for part in rounds.first), Counter[str]())
    for name, count in sorted(found.items()):
        console.warn(f"{count:,} texts of `{name}` are a list of one text, as `['good']`: they stay as they are")
    if found:
        console.hint("write the rows as .jsonl with the text alone, unless these lists are what the model shall say")


def tell(manifest: PrepareManifest, *, dry_run: bool) -> None:
    """Show the funnel and what comes after it."""
    funnel = manifest.funnel
    rows = [("read", f"{funnel.read:,}")]
    rows += [("further pairs of rows with several answers", f"{funnel.added:,}")] if funnel.added else []
    rows += [("second answers of a pair", f"{funnel.joined:,}")] if funnel.joined else []
    rows += [(f"put right: {what}", f"{count:,}") for what, count in manifest.repaired.items()]
    rows += [(f"dropped: {reason}", f"{count:,}") for reason, count in funnel.dropped.items()]
    rows += [("kept", f"{funnel.kept:,}"), *((f"  {split}", f"{n:,}") for split, n in manifest.splits.items())]
    rows += [(f"changed: {what}", f"{count:,}") for what, count in manifest.changed.items()]
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
    """Say that a CSV cannot hold every word as a text, and warn where prompts or answers may be lost by it."""
    found = [what.removeprefix(NULL_TEXT) for what in manifest.repaired if what.startswith(NULL_TEXT)]
    if not found:
        return
    names = listed(["other columns" if name == OTHER_COLUMNS else f"`{name}`" for name in found])
    say = console.warn if manifest.funnel.dropped.get("missing_field") else console.info
    say(
        f"`nan`, `None`, `NULL` and the like in a CSV are missing values, as in pandas and `datasets`: found in "
        f"{names}; in .jsonl such a text stays one"
    )


def _tell_split(manifest: PrepareManifest) -> None:
    only = next(iter(manifest.splits)) if len(manifest.splits) < 2 else None
    if not manifest.published_split:
        if only and manifest.config["test_size"] != 0:
            console.warn(f"too few prompts for two splits: all rows are in `{only}`")
        return
    held = [source.name for source in manifest.sources if "test" in (source.split or "")]
    console.info(
        f"rows stay in the split they were published in: `test` holds the test rows of {listed(held)}, `train` all "
        "else; `--test-size SHARE` draws a new split"
    )
    if shared := manifest.funnel.dropped.get("prompt_in_test"):
        console.warn(
            f"{shared:,} published train pairs have a prompt of the published test split, and were dropped from train"
        )
    if only:
        console.warn(f"nothing is left of the published {'test' if only == 'train' else 'train'} split")
