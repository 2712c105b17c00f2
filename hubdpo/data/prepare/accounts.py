"""Count the rows of each source file and of all, and warn of sources that lost most of their rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hubdpo import console
from hubdpo.artefacts.manifests.prepare import Funnel, Source
from hubdpo.config import PrepareConfig
from hubdpo.data.clean.decide import SPLITS, Decision, count_verdicts
from hubdpo.data.prepare.dropped import BY_REQUEST, main_reason, next_step, reason_counts
from hubdpo.data.prepare.piece_writer import read_dropped
from hubdpo.data.prepare.rounds import Rounds
from hubdpo.data.prepare.rules import Rules
from hubdpo.data.prepare.splits import SplitPlan
from hubdpo.data.raw.pieces import Piece
from hubdpo.data.raw.raw_file import RawFile
from hubdpo.errors import DataError

MOST_DROPPED = 0.5
"""Share of dropped rows above which a source gets a warning."""
FEW_ROWS = 4
"""Fewest rows of a file that gets a warning of its own: of fewer, one or two are more than half."""


@dataclass
class Account:
    """Counts of one file. `converted` counts pairs and single answers before any is dropped as a repeat."""

    file: RawFile
    converter: str
    pieces: list[int] = field(default_factory=list)
    splits: dict[str, None] = field(default_factory=dict)
    read: int = 0
    extra_pairs: int = 0
    converted: int = 0
    pairs: Counter[str] = field(default_factory=Counter)
    """Pairs that are kept in each split."""
    repeats: int = 0
    """Pairs among these that the weight of their source has written once more."""
    dropped: Counter[str] = field(default_factory=Counter)

    def record(self, source: Source) -> Source:
        """Return the manifest's entry of the file."""
        return source.model_copy(update={
            "converter": self.converter, "split": ", ".join(self.splits) or None,
            "address": self.file.address,
            "read": self.read, "kept": self.pairs.total(), "repeated": self.repeats,
            "pairs": dict(self.pairs), "dropped": dict(sorted(self.dropped.items())),
        })  # fmt: skip


def accounts_of(
    pieces: list[Piece], rules: list[Rules], rounds: Rounds, decision: Decision, plan: SplitPlan
) -> list[Account]:
    """Return the account of every file, in their order."""
    accounts: dict[int, Account] = {}
    stop = 0
    for piece, rule, first, last in zip(pieces, rules, rounds.first, rounds.last, strict=True):
        account = accounts.setdefault(piece.file.number, Account(piece.file, rule.converter))
        start, stop = stop, stop + last.pairs
        decided = count_verdicts(decision.verdict[start:stop])
        account.pieces.append(first.number)
        account.splits |= dict.fromkeys(plan.names(piece, first))
        account.read += first.read
        account.extra_pairs += first.extra_pairs
        written = decision.written(slice(start, stop))
        account.pairs.update(written)
        account.repeats += sum(written.values()) - sum(decided.pop(split, 0) for split in SPLITS)
        # single answers that are in no pair were dropped in the second round
        paired = first.single_answers - last.dropped.total() if rule.single else 0
        account.converted += max(paired, last.pairs)
        for result in rounds.of(first.number):
            account.dropped.update(result.dropped)
        account.dropped.update(decided)
    return list(accounts.values())


def make_funnel(accounts: list[Account]) -> Funnel:
    """Add up the accounts of all files."""
    read, kept = sum(account.read for account in accounts), sum(account.pairs.total() for account in accounts)
    extra, dropped = sum(account.extra_pairs for account in accounts), _dropped(accounts)
    # of single answers, two rows make one pair; a few answers to one prompt may also make more pairs than rows
    repeated = sum(account.repeats for account in accounts)
    difference = kept + dropped.total() - read - extra - repeated
    return Funnel(
        read=read, kept=kept, dropped=dict(sorted(dropped.items())),
        added=extra + repeated + max(difference, 0), joined=max(-difference, 0),
    )  # fmt: skip


def check_sources(accounts: list[Account], scratch: str, config: PrepareConfig) -> None:
    """Warn of each source that lost most of its rows. Raise DataError for a source of which no row can be used."""
    sources: dict[str, list[Account]] = {}
    for account in accounts:
        sources.setdefault(account.file.argument, []).append(account)
    for files in sources.values():
        useless = [account for account in files if not account.converted]
        if len(useless) == len(files):
            raise _nothing_to_use(useless, scratch, config)
        if useless:
            them = "it" if len(useless) == 1 else "them"
            console.warn(f"{_names(useless)}: no row of {them} can be used: {reason_counts(_dropped(useless))}")
            console.hint(next_step(_dropped(useless), config))
    for files in sources.values():
        _warn_of_drops([account for account in files if account.converted], config)


def _nothing_to_use(files: list[Account], scratch: str, config: PrepareConfig) -> DataError:
    dropped = _dropped(files)
    rows = (row for account in files for number in account.pieces for row in read_dropped(scratch, number))
    fields = next((row["fields"] for row in rows), {})
    have = f"; its rows have {', '.join(f'`{name}`' for name in fields)}" if fields else ""
    return DataError(
        f"{_names(files)}: none of {sum(account.read for account in files):,} rows can be used: "
        f"{reason_counts(dropped) or 'it holds no rows'}{have}",
        hint=f"{next_step(dropped, config)}; or leave the source out",
    )


def _warn_of_drops(files: list[Account], config: PrepareConfig) -> None:
    """Warn of a source that lost most of its rows, or else of its files that did."""
    if not _lost_most(files):
        files = [account for account in files if account.read >= FEW_ROWS and _lost_most([account])]
    if not files:
        return
    dropped = _lost(files)
    reason = main_reason(dropped)
    console.warn(
        f"{_names(files)}: {dropped.total():,} of {_rows(files):,} rows are dropped, "
        f"most of them as `{reason}` ({dropped[reason]:,})"
    )
    console.hint(next_step(dropped, config))


def _lost_most(files: list[Account]) -> bool:
    return _lost(files).total() > MOST_DROPPED * _rows(files)


def _dropped(files: list[Account]) -> Counter[str]:
    return sum((account.dropped for account in files), Counter[str]())


def _lost(files: list[Account]) -> Counter[str]:
    """Return what was dropped although nobody asked for it."""
    return Counter({reason: count for reason, count in _dropped(files).items() if reason not in BY_REQUEST})


def _rows(files: list[Account]) -> int:
    """Count rows; a row with several answers counts once for each of its pairs."""
    return sum(account.read + account.extra_pairs for account in files)


def _names(files: list[Account]) -> str:
    return console.listed(account.file.name for account in files)
