"""What prepare tells of the rows it left out: `rejected.jsonl`, the funnel, and the table at the end."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from hubdpo import console
from hubdpo.config import PrepareConfig
from hubdpo.data import storage
from hubdpo.data.converters import voted
from hubdpo.data.decide import REASONS, UNDECIDED, Decision
from hubdpo.data.losses import POLICIES
from hubdpo.data.readers import Piece
from hubdpo.data.stage import Staged, read_losses
from hubdpo.errors import DataError
from hubdpo.manifest import REJECTED_FILE, Funnel, PrepareManifest


@dataclass(frozen=True)
class Round:
    """What one step over all pieces left behind, and the suffix of its files."""

    staged: list[Staged]
    suffix: str = ""


def make_funnel(first: Round, second: Round | None, decision: Decision) -> Funnel:
    """Add up both rounds."""
    rounds = [first, *([second] if second else [])]
    dropped = decision.dropped()
    for round_ in rounds:
        for part in round_.staged:
            dropped.update(part.dropped)
    kept = int(np.count_nonzero(decision.verdict < 2))
    read = sum(part.read for part in first.staged)
    made = read + sum(part.made for part in first.staged)
    # pairs of rows with one answer each: two rows or more give one pair, or few rows give many
    difference = kept + dropped.total() - made
    return Funnel(
        read=read, kept=kept, dropped=dict(sorted(dropped.items())),
        added=sum(part.made for part in first.staged) + max(difference, 0), joined=max(-difference, 0),
    )  # fmt: skip


def write_rejected(
    path: str, pieces: list[Piece], first: Round, second: Round | None, decision: Decision, keys: Any, scratch: str
) -> None:
    """Write every loss with its source and line, in the order of the input."""
    last = second or first
    with storage.open_write(path) as out:
        before: dict[str, int] = {}
        at = 0
        for piece, part, late in zip(pieces, first.staged, last.staged, strict=True):
            base = before.get(piece.file.path, 0)
            rows = slice(at, at + late.pairs)
            at = rows.stop
            streams: list[Iterable[dict[str, Any]]] = [
                read_losses(scratch, part.number, round_.suffix) for round_ in (first, *([second] if second else []))
            ]
            streams.append(_decided(keys["line"][rows], decision.verdict[rows]))
            for loss in heapq.merge(*streams, key=lambda loss: loss["line"]):
                where = {"source": piece.file.name, "line": base + loss.pop("line")}
                out.write(orjson.dumps({**where, **loss}) + b"\n")
            before[piece.file.path] = base + part.lines


def _decided(lines: Any, verdict: Any) -> Iterator[dict[str, Any]]:
    for row in np.flatnonzero((verdict >= 2) & (verdict != UNDECIDED)).tolist():
        yield {"line": int(lines[row]), "reason": REASONS[verdict[row] - 2]}


def check_outcome(config: PrepareConfig, funnel: Funnel) -> None:
    """Raise DataError when nothing is left, or more is lost than `--max-reject` accepts."""
    if not funnel.adds_up():
        raise AssertionError(f"the funnel does not add up: {funnel}")
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in funnel.dropped.items())
    if funnel.kept == 0:
        raise DataError(
            f"no row can be used of {funnel.read:,} read: {reasons or 'the files hold no rows'}",
            hint=voted.LABELS_HINT
            if "unknown_label" in funnel.dropped
            else "look at a row with `--explain 3`, and name its format with `--format` or `--map`",
        )
    lost = sum(funnel.dropped.values())
    if lost / (lost + funnel.kept) > config.max_reject:
        raise DataError(
            f"{lost / (lost + funnel.kept):.1%} of the rows would be dropped, more than "
            f"`--max-reject {config.max_reject:g}`: {reasons}",
            hint="mend the source, or raise `--max-reject`",
        )


def forbidden_loss(pieces: list[Piece], staged: Iterable[Staged], config: PrepareConfig) -> Iterator[Staged]:
    """Pass results on, and raise DataError, with its place, at the first row that may not be dropped."""
    before: Counter[str] = Counter()
    for piece, part in zip(pieces, staged, strict=True):
        if part.first_loss is not None:
            line, reason = part.first_loss
            raise loss_error(piece, before[piece.file.path] + line, reason, config)
        before[piece.file.path] += part.lines
        yield part


def loss_error(piece: Piece, line: int, reason: str, config: PrepareConfig) -> DataError:
    option = "--strict" if config.strict else f"--{POLICIES[reason].replace('_', '-')} error"
    return DataError(
        f"{piece.file.name}, line {line}: {reason}",
        hint=f"mend the row, or leave `{option}` out to drop and count such rows",
    )


def tell(manifest: PrepareManifest, *, dry_run: bool) -> None:
    """Show the funnel and what comes after it."""
    funnel = manifest.funnel
    rows = [("read", f"{funnel.read:,}")]
    rows += [("further pairs of rows with several answers", f"{funnel.added:,}")] if funnel.added else []
    rows += [("second answers of a pair", f"{funnel.joined:,}")] if funnel.joined else []
    rows += [(f"dropped: {reason}", f"{count:,}") for reason, count in funnel.dropped.items()]
    rows += [("kept", f"{funnel.kept:,}"), *((f"  {split}", f"{n:,}") for split, n in manifest.splits.items())]
    rows += [(f"changed: {what}", f"{count:,}") for what, count in manifest.changed.items()]
    rows += [(f"secrets: {kind}", f"{count:,}") for kind, count in manifest.secrets.items()]
    console.table(["rows", ""], rows)
    if manifest.max_length is not None and manifest.config["max_length"] == "auto":
        console.info(f"--max-length auto takes {manifest.max_length:,} tokens, which keeps 99 % of the pairs")
    if manifest.config["test_size"] > 0 and len(manifest.splits) < 2:
        console.warn(f"too few prompts for two splits: all rows are in `{next(iter(manifest.splits))}`")
    if funnel.dropped and not dry_run:
        console.info(f"each dropped row is named in {REJECTED_FILE}")
