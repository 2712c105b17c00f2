"""Screen raw rows before they are converted, with the same result for one row and for many.

Messages written into text cells are parsed, images, video and sound stop the run, scores and ranks beside the answers
must agree with the preference, and values that no converter reads are counted.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import Any

from hubdpo.data.clean.unread import could_hold_media, media_in, unread_members
from hubdpo.data.converters.cells import ARRAYS, BEGINS, OPENERS, parse_messages_cell, single_text_list
from hubdpo.data.converters.contract import ConvertOptions
from hubdpo.data.converters.prompts import SYSTEM, TOOLS, Reads, columns_called, names_in
from hubdpo.data.pairs.calls import is_no_tools, is_tools
from hubdpo.data.pairs.example import UNLISTED, NotText, Rejection, Row, number_of

SIDES = ("chosen", "rejected")
AVERAGES = frozenset(("overall", "avg", "average", "mean", "final"))
SCORE = frozenset(("score", "rating", "reward"))
SCORES = SCORE | AVERAGES | {"total", "model", "rm"}
"""Words in the names of score columns such as `chosen_avg_rating`: one of SCORE, and no others than SCORES."""
RANK = frozenset(("rank", "ranking"))
RANKS = RANK | AVERAGES
"""The same for ranks, 1 the best. `position` is none of them: it may be where an answer was displayed."""
MOST_NAMES = 256
"""Unused columns that are counted by name; rows whose keys are data would have as many columns as rows."""
OTHERS = "…"
NUMBERS = (int, float)
Compared = tuple[str, str, int]
"""Columns of scores or ranks for the better and the worse answer, and a sign: 1 for scores, -1 for ranks."""
_WORDS = re.compile(r"[\s_\-]+")


@dataclass
class Screened:
    """Rows to convert with their indices in the input, and the reason of each row that is refused, by its index.

    `listed` counts, by column, texts that look like a list of one text, such as `['good']`, and stay as they are.
    """

    indices: list[int]
    rows: list[Row]
    refused: dict[int, str] = field(default_factory=dict)
    listed: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Screen:
    """The checks for the rows of one format.

    Attributes:
        reads: columns that the converter reads.
        keep: columns that are kept beside the pair.
        how: options of the converter; `min_margin` applies to scores beside the answers.
        sides: words for the better and the worse answer in column names, if the format has them.
        lists: columns that hold nothing but lists, so that `['good']` in them is a list.
        answers: columns of answers. A list in one of them is read as such only if the others hold lists as well:
            notation must not show which answer is better.
    """

    reads: Reads = ()
    keep: tuple[str, ...] = ()
    how: ConvertOptions = field(default_factory=ConvertOptions)
    sides: tuple[str, str] | None = SIDES
    lists: frozenset[str] = frozenset()
    answers: frozenset[str] = frozenset()

    def reading(self, place: str, keys: tuple[str, ...]) -> Screen:
        """Return the screen for rows of these columns of which something else is read as well, such as `meta.split`."""
        column = place if place in keys else place.partition(".")[0]
        if _columns(self.reads, keys).get(column) == set():
            return self  # all of it is read
        return replace(self, reads=(*self.reads, place if place in keys else ".".join(place.split(".")[:2])))

    def one(self, row: Row) -> Row:
        """Return a row as the converter gets it. Raise Rejection if it is refused."""
        screened = self.look([row], Counter())
        if screened.refused:
            raise Rejection(screened.refused[0])
        return screened.rows[0]

    def look(self, rows: Sequence[Row], unused: Counter[str]) -> Screened:
        """Screen rows, and count values that nobody reads in `unused`, by column. Raise NotText for media."""
        whole = Screened(list(range(len(rows))), list(rows))
        for keys, indices in _alike(rows).items():
            self._screen_alike(keys, indices, whole, unused)
        if whole.refused:
            whole.indices = [i for i in whole.indices if i not in whole.refused]
            whole.rows = [whole.rows[i] for i in whole.indices]
            whole.refused = dict(sorted(whole.refused.items()))
        return whole

    def _screen_alike(self, keys: tuple[str, ...], indices: list[int], whole: Screened, unused: Counter[str]) -> None:
        rows = whole.rows
        systems = columns_called(keys, SYSTEM) if SYSTEM in self.reads else ()
        tools = columns_called(keys, TOOLS) if TOOLS in self.reads else ()
        read = _columns(self.reads, keys)
        compared = self.compared_columns(keys)
        scores = {name for better, worse, _ in compared for name in (better, worse)}
        for name in keys:
            values = [rows[i][name] for i in indices]
            kinds = set(map(type, values))
            if name in tools:  # the first that looks like tools is read
                read_in = [next((other for other in tools if is_tools(rows[i][other])), None) for i in indices]
                others = zip(values, read_in, strict=True)
                values = [value for value, other in others if other != name and not is_no_tools(value)]
            elif (members := read.get(name)) is not None or name in systems:
                if str in kinds:
                    kinds |= self._open(name, indices, values, whole)
                if members:
                    self._members(name, members, values, unused)
                elif dict in kinds or list in kinds:
                    _count(unused, unread_members(name, values))
                continue
            if could_hold_media(name, values, kinds):
                for value in values:
                    if kind := media_in(name, value):
                        raise NotText(kind, f"column `{name}`")
            if name not in scores and name not in self.keep and (count := _filled(values)):
                _count(unused, {name: count})
        for columns in compared:
            # the least margin is one of scores, where there are any
            how = self.how if columns[2] > 0 or len(compared) == 1 else replace(self.how, min_margin=0.0)
            self._compare(columns, how, indices, whole, unused)
        self._contested(keys, indices, rows, unused)
        for index in indices if len(systems) > 1 else ():  # system prompts that differ from the one that is read
            said = [(name, value) for name in systems if (value := rows[index][name])]
            _count(unused, {name: 1 for name, value in said if value != said[0][1] and name not in self.keep})

    def _open(self, name: str, indices: list[int], values: list[Any], whole: Screened) -> set[type]:
        """Parse messages and lists in text cells, in the rows and in `values`; return the types of what was parsed."""
        kinds = set[type]()
        begins = [value[:1] in OPENERS or value[:2] in ARRAYS if value.__class__ is str else False for value in values]
        for at in compress(range(len(values)), begins):
            index, value = indices[at], values[at]
            if not BEGINS.match(value):
                continue
            try:
                held = parse_messages_cell(value)
                held = self._listed(name, value, whole, index) if held is value else held
            except Rejection as rejection:
                whole.refused.setdefault(index, rejection.reason)
                continue
            if held is not value:
                whole.rows[index] = {**whole.rows[index], name: held}
                values[at] = held
                kinds.add(type(held))
        return kinds

    def _listed(self, name: str, value: str, whole: Screened, index: int) -> Any:
        """Return the list in a cell of a list column. In another column it stays text, and is counted."""
        row = whole.rows[index]
        # in a column of answers only if the others are lists as well, and no text that an answer is to be
        others = (row.get(other) for other in self.answers) if name in self.answers else ()
        written = name in self.lists and all(
            not other or isinstance(other, (list, dict)) or _is_list(other) for other in others
        )
        try:
            texts = single_text_list(value)
        except Rejection:
            if written:
                raise
            return value
        if texts is not None and not written:
            whole.listed[name] += len(texts)
        return Written(texts) if texts is not None and written else value

    def _members(self, name: str, members: set[str], values: list[Any], unused: Counter[str]) -> None:
        for member in sorted(members):
            held = [value.get(member) for value in values if isinstance(value, dict)]
            _count(unused, unread_members(f"{name}.{member}", held))
        for value in values:
            for member, held in value.items() if isinstance(value, dict) else ():
                if (
                    member in members
                    or not _filled([held])
                    or (member in TOOLS and TOOLS in self.reads and is_tools(held))
                ):
                    continue
                if kind := media_in(member, held):
                    raise NotText(kind, f"column `{name}.{member}`")
                _count(unused, {f"{name}.{member}": 1})

    def compared_columns(self, keys: tuple[str, ...]) -> list[Compared]:
        """Return the columns such as `score_chosen` and `score_rejected`, or `chosen_rank` and `rejected_rank`."""
        if self.sides is None:
            return []
        better, worse = self.sides
        found: dict[int, Compared] = {}
        for name in keys:
            words = set(_WORDS.split(name.lower().replace(better.lower(), "")))  # what else the name says
            other = name.replace(better, worse)
            if other == name or other not in keys:
                continue
            for some, most, sign in ((SCORE, SCORES, 1), (RANK, RANKS, -1)):
                if words & some and words <= most | {""}:
                    found.setdefault(sign, (name, other, sign))
        return list(found.values())

    def _compare(
        self, columns: Compared, how: ConvertOptions, indices: list[int], whole: Screened, unused: Counter[str]
    ) -> None:
        one, other, sign = columns
        for index in indices:
            row = whole.rows[index]
            better, worse = row[one], row[other]
            if type(better) in NUMBERS and type(worse) in NUMBERS:
                margin = sign * (better - worse)
                if margin > 0 and margin >= how.min_margin:
                    continue  # nearly always
            try:
                margin = sign * (number_of(better) - number_of(worse))
            except Rejection:
                _count(unused, {name: 1 for name in (one, other) if _filled([row[name]])})
                continue
            if reason := "inverted" if margin < 0 else how.too_close(margin):
                whole.refused.setdefault(index, reason)

    def _contested(self, keys: tuple[str, ...], indices: list[int], rows: list[Row], unused: Counter[str]) -> None:
        """Count alternative columns that were not read because another one was."""
        for group in self.reads:
            if isinstance(group, str) or group in (SYSTEM, TOOLS):
                continue
            ways = [(way,) if isinstance(way, str) else way for way in group]
            ways = [way for way in ways if way[0] in keys]
            if len(ways) < 2:
                continue
            for index in indices:
                row = rows[index]
                said = [way for way in ways if row[way[0]] is not None]
                # `response_1` is the first answer in some sets and the second in others
                taken = next((way for way in said if all(name in row for name in way)), next(iter(said), ()))
                others = (name for way in ways for name in way if name not in taken and name not in self.keep)
                _count(unused, {name: 1 for name in others if _filled([row.get(name)])})


class Written(list[str]):
    """A list of one text or of none that was written as text."""


def unlisted(row: Row | None) -> int:
    """Return the bit UNLISTED if a text of the row was taken out of a list, else 0."""
    return UNLISTED if row and any(value.__class__ is Written and value for value in row.values()) else 0


def opened_row(row: Row) -> Row:
    """Return a row with the messages in its text cells parsed, for detection."""
    new = dict(row)
    for name, value in row.items():
        if isinstance(value, str) and BEGINS.match(value):
            with suppress(Rejection):
                new[name] = parse_messages_cell(value)
    return new


def list_columns(rows: Iterable[Row], reads: Reads, answers: frozenset[str] = frozenset()) -> dict[str, str]:
    """Return the columns that hold nothing but lists in these rows, with the first list that is written as text.

    Such as `['good']`, a list of one text or of none; the text is "" if all are real lists. Either all or none of
    `answers` are returned.
    """
    found: dict[str, str] = {}
    others: set[str] = set()
    for row in rows:
        systems = columns_called(tuple(row), SYSTEM) if SYSTEM in reads else ()
        for name in {*_columns(reads, tuple(row)), *systems}:
            value = row.get(name)
            if isinstance(value, str) and _is_list(value):
                found[name] = found.get(name) or value
            elif isinstance(value, (list, dict)):
                found.setdefault(name, "")
            elif value:
                others.add(name)
    if others & answers:
        others |= answers
    return {name: found[name] for name in sorted(found) if name not in others}


def _is_list(text: object) -> bool:
    """Whether a text is a list of one text or of none, or holds messages that cannot be parsed."""
    try:
        return (
            isinstance(text, str)
            and BEGINS.match(text) is not None
            and (parse_messages_cell(text) is not text or single_text_list(text) is not None)
        )
    except Rejection:
        return True


@functools.lru_cache(maxsize=4096)
def _columns(reads: Reads, keys: tuple[str, ...]) -> dict[str, set[str]]:
    """Return the columns that are read, each with its members if only these are. A column of `keys` is not split."""
    names: dict[str, set[str]] = {}
    for name in names_in(reads):
        if name.startswith("*"):
            names |= {key: set() for key in keys if key.endswith(name[1:])}
            continue
        column, _, member = (name, "", "") if name in keys else name.partition(".")
        names.setdefault(column, set()).update({member} - {""})
    return names


def _alike(rows: Sequence[Row]) -> dict[tuple[str, ...], list[int]]:
    """Group the indices of rows that have the same columns."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(tuple(row), []).append(index)
    return groups


def _filled(values: Sequence[object]) -> int:
    """Count the values that are not None and no empty text, list or object."""
    return sum(map(bool, values)) + values.count(0)


def _count(unused: Counter[str], found: Mapping[str, int]) -> None:
    for name, count in found.items():
        unused[name if name in unused or len(unused) < MOST_NAMES else OTHERS] += count
