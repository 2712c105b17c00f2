"""What each source gave: counted, recorded, and judged, for a source must not be lost among others."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hubdpo import console
from hubdpo.artefacts.manifests.funnel import Source
from hubdpo.config import PrepareConfig
from hubdpo.data.clean.decide import SPLITS, Decision, count_verdicts
from hubdpo.data.prepare.convert_piece import read_losses
from hubdpo.data.prepare.dropped import main_reason, next_step
from hubdpo.data.prepare.rounds import Rounds
from hubdpo.data.prepare.rules import Rules
from hubdpo.data.raw.pieces import Piece
from hubdpo.data.raw.raw_file import RawFile, listed
from hubdpo.errors import DataError

MOST_LOST = 0.5
"""Share of a source's rows whose loss is told as a warning."""
FEW_ROWS = 4
"""A file among others that has fewer rows loses more than half of them with one or two."""


@dataclass
class Account:
    """The rows of one file; `converted` counts the pairs, or halves of them, that they gave, repeats too."""

    file: RawFile
    converter: str
    pieces: list[int] = field(default_factory=list)
    splits: dict[str, None] = field(default_factory=dict)
    read: int = 0
    made: int = 0
    converted: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def record(self, source: Source, *, published: bool) -> Source:
        """Return the manifest's entry of the file."""
        return source.model_copy(update={
            "converter": self.converter, "split": ", ".join(self.splits) if published else None,
            "address": self.file.address,
            "read": self.read, "kept": self.kept, "dropped": dict(sorted(self.dropped.items())),
        })  # fmt: skip


def accounts_of(pieces: list[Piece], rules: list[Rules], rounds: Rounds, decision: Decision) -> list[Account]:
    """Count what every file gave, in their order."""
    found: dict[int, Account] = {}
    at = 0
    for piece, rule, first, last in zip(pieces, rules, rounds.first, rounds.last, strict=True):
        one = found.setdefault(piece.file.number, Account(piece.file, rule.converter))
        verdict = decision.verdict[at : at + last.pairs]
        at += last.pairs
        decided = count_verdicts(verdict)
        one.pieces.append(first.number)
        one.splits[piece.split or "train"] = None
        one.read += first.read
        one.made += first.made
        one.kept += sum(decided.pop(split, 0) for split in SPLITS)
        # of halves, what no pair took is a loss of the second round
        one.converted += max(first.rated - last.dropped.total(), last.pairs) if rule.single else last.pairs
        for part in rounds.of(first.number):
            one.dropped.update(part.dropped)
        one.dropped.update(decided)
    return list(found.values())


def judge(accounts: list[Account], scratch: str, config: PrepareConfig) -> None:
    """Warn of each source that lost more than half of its rows. Raise DataError for one that gives nothing at all.

    A file that gives nothing among others of its source that do is told by a warning.
    """
    sources: dict[str, list[Account]] = {}
    for one in accounts:
        sources.setdefault(one.file.argument, []).append(one)
    for files in sources.values():
        nothing = [one for one in files if not one.converted]
        if len(nothing) == len(files):
            raise _gives_nothing(nothing, scratch, config)
        if nothing:
            dropped = sum((one.dropped for one in nothing), Counter[str]())
            them = "it" if len(nothing) == 1 else "them"
            console.warn(
                f"{listed([one.file.name for one in nothing])}: no row of {them} can be used: {_told(dropped)}"
            )
            console.hint(next_step(dropped, config))
    for files in sources.values():
        _tell_losses([one for one in files if one.converted], config)


def _gives_nothing(files: list[Account], scratch: str, config: PrepareConfig) -> DataError:
    dropped = sum((one.dropped for one in files), Counter[str]())
    fields: dict[str, str] = next(
        (loss["fields"] for one in files for n in one.pieces for loss in read_losses(scratch, n)), {}
    )
    have = f"; its rows have {', '.join(f'`{name}`' for name in fields)}" if fields else ""
    return DataError(
        f"{listed([one.file.name for one in files])}: none of {sum(one.read for one in files):,} rows can be used: "
        f"{_told(dropped) or 'it holds no rows'}{have}",
        hint=f"{next_step(dropped, config)}; or leave the source out",
    )


def _tell_losses(files: list[Account], config: PrepareConfig) -> None:
    """Warn of a source that lost more than half, or of its files that did."""
    told = files if _lost_most(files) else [one for one in files if one.read >= FEW_ROWS and _lost_most([one])]
    if not told:
        return
    lost, rows = _losses(told)
    reason = main_reason(lost)
    console.warn(
        f"{listed([one.file.name for one in told])}: {lost.total():,} of {rows:,} rows are lost, "
        f"most of them as `{reason}` ({lost[reason]:,})"
    )
    console.hint(next_step(lost, config))


def _lost_most(files: list[Account]) -> bool:
    lost, rows = _losses(files)
    return lost.total() > MOST_LOST * rows


def _losses(files: list[Account]) -> tuple[Counter[str], int]:
    """Return the losses by reason, and the number of rows, each pair of a row counted."""
    return sum((one.dropped for one in files), Counter[str]()), sum(one.read + one.made for one in files)


def _told(dropped: Counter[str]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in sorted(dropped.items()))
