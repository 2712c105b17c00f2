"""Report the outcome: its limits, `rejected.jsonl`, the table at the end, and remarks on what training will not see."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from hubdpo import console
from hubdpo.artefacts.folders import storage
from hubdpo.artefacts.manifests.manifest import REJECTED_FILE
from hubdpo.artefacts.manifests.prepare import EXTRAS, KINDS, Funnel, Markers, PrepareManifest
from hubdpo.config import PrepareConfig
from hubdpo.data.clean.decide import SPLITS, VERDICTS, Decision, Verdicts
from hubdpo.data.clean.keys import RowKeys
from hubdpo.data.clean.screen import MOST_NAMES, OTHERS
from hubdpo.data.clean.unread import MASKS, SHARES
from hubdpo.data.converters.prompts import SYSTEM
from hubdpo.data.pairs.messages import media_of, words_of
from hubdpo.data.prepare.dropped import BY_REQUEST, DroppedRow, next_step, reason_counts
from hubdpo.data.prepare.piece_writer import read_dropped
from hubdpo.data.prepare.rounds import Rounds, with_lines_before
from hubdpo.data.raw.pieces import Piece
from hubdpo.data.raw.raw_file import publishers
from hubdpo.data.raw.text.delimited import NULL_TEXT, OTHER_COLUMNS
from hubdpo.errors import DataError
from hubdpo.secrets import shown_name

MOST_MARKERS = 20
MOST_NAMED = 40
LOSSES = (
    ("the answers are learned without the tools that they may call", ("tools", "functions", "工具")),
    ("the answers are learned without it", (*SYSTEM, "sys", "persona")),
    ("earlier turns are not in the prompt", ("history", "histories", "历史")),
    ("it is not in the prompt", (
        "context", "contexts", "document", "documents", "docs", "passage", "passages", "knowledge", "background",
        "reference", "references", "evidence", "上下文", "背景", "知识", "文档", "参考", "资料",
    )),
    ("all rows weigh the same", ("weight", "weights")),
)  # fmt: skip
"""What is lost if a column is not used, by words of its name. Chinese words may be part of longer ones."""
LOSSES_BY_NAME = {
    "input": "it is not in the prompt", "instruction": "it is not in the prompt",
    "initial_reason_steps": "the answers begin in the middle",
}  # fmt: skip
"""The same, by the whole name."""
DESCRIPTIVE = frozenset((
    "id", "ids", "num", "number", "count", "n", "len", "length", "token", "tokens", "type", "name", "source", "model",
    "score", "url", "title", "has", "is", "hash", "index", "language", "lang", "version", "time", "date", "answer",
    "answers", "response", "output", "completion", "solution", "used", "hint",
))  # fmt: skip
"""Words in the names of columns that describe a row or belong to an answer, and get no warning."""
MEMBER_LOSSES = (
    ("an answer is learned whole, and nothing of a prompt", SHARES | MASKS),
    ("who speaks is lost", frozenset(("name", "speaker", "author", "sender"))),
)
"""What is lost if a member of messages is not used, by words of its name."""
CONSEQUENCES = {
    "template": "they stay as text, so the model's own template is laid over them",
    "speakers": "they stay as text, so that several turns are learned as one",
    "tool_calls": "they are learned as plain text, and the chat template gets no tools",
    "media": "what they stand for is missing: hubdpo trains text",
    "repeats": "it is learned as the beginning of the answer",
}
"""What training makes of markers in texts, by their kind."""
NEXT_STEPS = {
    "template": "take the marks out of the source, or give the rows as lists of messages",
    "speakers": "give the rows as lists of messages, a turn each",
    "tool_calls": "give calls as `tool_calls` of messages, and tools as a column, unless your model writes calls so",
    "repeats": "cut the prompt off the beginning of the answers",
    "media": "leave such rows out, or take the placeholders out where the text alone makes sense",
}
"""What to do about markers, by their kind."""


def write_rejected(
    path: str, pieces: list[Piece], rounds: Rounds, decision: Decision, keys: RowKeys, scratch: str
) -> None:
    """Write every dropped row with its source and line, in the order of the input."""
    stop = 0
    with storage.open_write(path) as out:
        for (piece, first, before), last in zip(with_lines_before(pieces, rounds.first), rounds.last, strict=True):
            start, stop = stop, stop + last.pairs
            results = rounds.of(first.number)
            streams = [read_dropped(scratch, result.number, result.suffix) for result in results]
            streams.append(_dropped_by_decision(keys["line"][start:stop], decision.verdict[start:stop]))
            for row in heapq.merge(*streams, key=lambda row: row["line"]):
                out.write(orjson.dumps({"source": piece.file.name, **row, "line": before + row["line"]}) + b"\n")


def _dropped_by_decision(lines: npt.NDArray[np.uint32], verdict: Verdicts) -> Iterator[DroppedRow]:
    for row in np.flatnonzero(verdict >= len(SPLITS)).tolist():
        yield {"line": int(lines[row]), "reason": VERDICTS[verdict[row]]}


def check_outcome(config: PrepareConfig, funnel: Funnel) -> None:
    """Raise DataError if no pair is kept, or if a larger share is dropped than `--max-reject` accepts."""
    if not funnel.adds_up():
        raise AssertionError(f"the funnel does not add up: {funnel}")
    reasons = reason_counts(funnel.dropped)
    if funnel.kept == 0:
        raise DataError(
            f"no row can be used of {funnel.read:,} read: {reasons or 'the files hold no rows'}",
            hint=next_step(Counter(funnel.dropped), config),
        )
    dropped = sum(funnel.dropped.values())
    lost = sum(count for reason, count in funnel.dropped.items() if reason not in BY_REQUEST)
    share = lost / (dropped + funnel.kept)
    if share > config.max_reject:
        raise DataError(
            f"{share:.1%} of the rows would be dropped, more than `--max-reject {config.max_reject:g}`: {reasons}",
            hint="fix the source, or raise `--max-reject`",
        )


def report_lists(rounds: Rounds) -> None:
    """Warn of texts that look like a list of one text. They stay as they are, for a list can be an answer."""
    texts = sum((result.listed for result in rounds.first), Counter[str]())
    for name, count in sorted(texts.items()):
        console.warn(f"{count:,} texts of `{name}` are a list of one text, as `['good']`: they stay as they are")
    if texts:
        console.hint("write the rows as .jsonl with the text alone, unless these lists are what the model shall say")


def report(manifest: PrepareManifest, *, dry_run: bool) -> None:
    """Show the funnel as a table, then remarks on the split, missing values, unused columns and markers."""
    funnel = manifest.funnel
    rows = [("read", f"{funnel.read:,}")]
    several = funnel.added - manifest.repeated
    rows += [("further pairs of rows with several answers", f"{several:,}")] if several else []
    rows += [("train pairs once more, by weight", f"{manifest.repeated:,}")] if manifest.repeated else []
    rows += [("second answers of a pair", f"{funnel.joined:,}")] if funnel.joined else []
    rows += [(f"put right: {repair}", f"{count:,}") for repair, count in manifest.repaired.items()]
    rows += [(f"dropped: {reason}", f"{count:,}") for reason, count in funnel.dropped.items()]
    rows += [("kept", f"{funnel.kept:,}"), *((f"  {split}", f"{n:,}") for split, n in manifest.splits.items())]
    rows += [(f"with {EXTRAS[kind]}", f"{count:,}") for kind, count in manifest.extras.items() if kind in EXTRAS]
    rows += [(f"changed: {change}", f"{count:,}") for change, count in manifest.changed.items()]
    rows += [(f"secrets: {kind}", f"{count:,}") for kind, count in manifest.secrets.items()]
    console.table(["rows", ""], rows)
    if manifest.max_length is not None and manifest.config["max_length"] == "auto":
        console.info(f"--max-length auto takes {manifest.max_length:,} tokens, which keeps 99 % of the pairs")
    _report_nulls(manifest)
    _report_split(manifest)
    report_remarks(manifest)
    if (told := manifest.told_languages) and (codes := " ".join(manifest.language)):
        console.info(f"the card names the language {codes}, told from {told.told} texts; `--language` states another")
    if funnel.dropped and not dry_run:
        console.info(f"each dropped row is named in {REJECTED_FILE}")


def _report_nulls(manifest: PrepareManifest) -> None:
    """Say that words such as `nan` in a CSV were read as missing values; warn if prompts or answers are missing."""
    columns = [repair.removeprefix(NULL_TEXT) for repair in manifest.repaired if repair.startswith(NULL_TEXT)]
    if not columns:
        return
    names = console.listed("other columns" if name == OTHER_COLUMNS else f"`{name}`" for name in columns)
    say = console.warn if manifest.funnel.dropped.get("missing_field") else console.info
    say(
        f"`nan`, `None`, `NULL` and the like in a CSV are missing values, as in pandas and `datasets`: found in "
        f"{names}; in .jsonl such a text stays one"
    )


def _report_split(manifest: PrepareManifest) -> None:
    only = next(iter(manifest.splits)) if len(manifest.splits) < 2 else None
    if not manifest.published_split:
        if only and manifest.config["test_size"] != 0:
            console.warn(f"too few prompts for two splits: all rows are in `{only}`")
        return
    names = {split: publishers(source.name for source in manifest.sources if source.split == split)
             for split in dict.fromkeys(source.split for source in manifest.sources)}  # fmt: skip
    test = " and ".join(
        f"{'the rows' if split == 'test' else 'test rows'} of {name}"
        for split, name in names.items()
        if "test" in (split or "")
    )
    others = ", or in that of their source" if manifest.config.get("sources") else ""
    others += f", but those of {names[None]} are drawn" if None in names else ""
    console.info(
        f"rows stay in the split they were published in{others}: `test` has {test or 'none'}, `train` the others; "
        "`--split none` draws a new split"
    )
    if shared := manifest.funnel.dropped.get("prompt_in_test"):
        console.warn(
            f"{shared:,} published train pairs have a prompt of the published test split, and were dropped from train"
        )
    if kept := manifest.shared_prompts:
        console.warn(
            f"{console.counted(kept, 'prompt')} of the published test split stay in train as well (`--on-leak keep`): "
            "results on the test split will be better than they should be"
        )
    if only:
        console.warn(f"nothing is left of the published {'test' if only == 'train' else 'train'} split")


def unused_columns(rounds: Rounds, used: Collection[str], *, scan: bool) -> dict[str, int]:
    """Count the rows that have a value in each column that was not used; those in `used` told the split."""
    total: Counter[str] = Counter()
    for result in rounds.first:
        for name, count in result.unused.items():
            if name in used:
                continue
            shown = shown_name(name, scan)
            total[shown if shown in total or len(total) < MOST_NAMES else OTHERS] += count
    return dict(sorted(total.items()))


def text_markers(rounds: Rounds) -> dict[str, Any]:
    """Count the prompts and answers that hold markers, as the fields `template_markers` and `text_markers`."""
    total = sum((result.markers for result in rounds.last), Counter[tuple[str, str, str]]())
    found: dict[str, dict[str, Markers]] = {}
    for kind, side in itertools.product(KINDS, ("prompts", "answers")):
        counts = {marker: count for (*where, marker), count in total.items() if where == [side, kind] and marker}
        if counts:
            most = sorted(counts, key=lambda marker: (-counts[marker], marker))[:MOST_MARKERS]
            markers = Markers(rows=total[side, kind, ""], markers={marker: counts[marker] for marker in most})
            found.setdefault(kind, {})[side] = markers
    return {"template_markers": found.pop("template", {}), "text_markers": found}


def report_remarks(manifest: PrepareManifest) -> None:
    """Report unused columns, markers in texts, and rows that DPO cannot use."""
    if manifest.unused_columns:
        names = (f"`{name}` ({count:,} rows)" for name, count in manifest.unused_columns.items())
        console.info(f"columns not used: {console.listed(names, MOST_NAMED)}")
        for name, count in manifest.unused_columns.items():
            if loss := _loss(name):
                kind = "member" if "[]." in name else "column"
                console.warn(f"{kind} `{name}` is not used, in {count:,} rows: {loss}")
    for kind, sides in {"template": manifest.template_markers, **manifest.text_markers}.items():
        for side, found in sides.items():
            # a marker in one line: it may hold line breaks
            counts = ", ".join(f"`{' '.join(marker.split())}` {count:,}" for marker, count in found.markers.items())
            console.warn(f"{found.rows:,} {side} hold {KINDS[kind]}: {counts}; {CONSEQUENCES[kind]}")
        if sides:
            console.hint(NEXT_STEPS[kind])
    if alone := manifest.funnel.dropped.get("unpaired"):
        console.warn(f"{alone:,} rows are alone: their prompt has one answer or one kind of label, and DPO needs two")


def _loss(name: str) -> str | None:
    """Return what is lost because a column, or member of messages, was not used; None if that is likely nothing."""
    last = name.rpartition("[].")[2].rpartition(".")[2]
    words = {"".join(words_of(last)), *words_of(last)}
    if "[]." in name:
        return next((loss for loss, terms in MEMBER_LOSSES if words & terms), None)
    if last.lower() in LOSSES_BY_NAME:
        return LOSSES_BY_NAME[last.lower()]
    if not words & DESCRIPTIVE:
        for loss, terms in LOSSES:
            if any(term in words or (not term.isascii() and term in last) for term in terms):
                return loss
    return f"hubdpo trains text, not {kind}" if (kind := media_of(last)) else None
