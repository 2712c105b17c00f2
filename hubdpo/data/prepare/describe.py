"""Print the descriptions of sources as YAML to paste, with the first rows as they will be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from hubdpo import console
from hubdpo.artefacts.formats.messages import Message
from hubdpo.config import PrepareConfig
from hubdpo.config.description import OPEN, Description
from hubdpo.data.converters.contract import Convert
from hubdpo.data.detection.describe import as_yaml, describe
from hubdpo.data.detection.format_columns import Keys
from hubdpo.data.detection.keys import compiled, is_open, plain_keys
from hubdpo.data.detection.suggest import suggest
from hubdpo.data.pairs.example import PreferenceExample, Rejection, Row, ScoredAnswer
from hubdpo.data.pairs.extras import CALLS, dumped, members_of
from hubdpo.data.prepare.looks import LookedAt, converters_of
from hubdpo.data.raw.inner_rows import items_in
from hubdpo.errors import DataError
from hubdpo.secrets import find_secrets, redact

OF_SOURCE = {*Description.model_fields, "source", "sources", "converter", "map", "labels"}
"""Options that a description says by itself."""
OF_THE_RUN = {"describe", "dry_run", "explain", "engine", "num_proc"}
"""Options of one run."""
UNKNOWN: Keys = {"prompt": OPEN, "chosen": OPEN, "rejected": OPEN}
GUESSED = "a guess from the names: check in these rows that the better answer is chosen"
FILL_IN = (
    "write these lines to data.yaml, fill in what is marked `# needed`, check the rest, then: "
    "hubdpo prepare --config data.yaml -o data"
)
MOST_ROWS = 3
LONGEST = 60
"""Characters that are shown of a message."""


@dataclass(frozen=True)
class Found:
    """The description of the rows of a file, with the first rows as they will be read."""

    file: LookedAt
    keys: Keys
    rows: list[str]
    others: tuple[Keys, ...] = ()
    """Descriptions that fit as well."""

    @property
    def lines(self) -> list[str]:
        others = [line for keys in self.others for line in ("# or:", *(f"# {line}" for line in as_yaml(keys)))]
        return [*as_yaml(self.keys), *others, *(f"# {row}" for row in self.rows)]


def describe_files(config: PrepareConfig, files: Sequence[LookedAt]) -> None:
    """Write the description of all files to stdout: keys of a config file, or its list of `sources` if they differ."""
    found: list[Found] = []
    for file in files:
        try:
            (name,) = converters_of(config, [file])
            found.append(_found(file, name))
        except DataError as problem:
            console.warn(problem.message)
            console.hint(FILL_IN if file.seen.fields and not file.seen.fitting else problem.hint or FILL_IN)
            found.append(_candidates(config, file))
    items = _items([replace(one, keys={**one.keys, **_given(config, one.file)}) for one in found])
    options = config.model_dump(exclude_unset=True, exclude=OF_SOURCE | OF_THE_RUN)
    lines = as_yaml(options)
    if len(items) == 1 and not config.sources:
        lines += [*as_yaml({"source": items[0][0]}), *items[0][1].lines]
    else:
        lines.append("sources:")
        for path, one in items:
            lines += [f"- {as_yaml({'path': path})[0]}", *(f"  {line}" for line in one.lines)]
    text = "\n".join(lines)
    console.result(text, {**options, "sources": [{"path": path, **one.keys} for path, one in items]}, identifier=text)


def report_detected(files: Sequence[LookedAt], formats: Sequence[str]) -> None:
    """Show how the rows of detected formats are read: each description once, if there are several with a file."""
    if console.output.is_quiet:
        return
    shown: list[Found] = []
    for file, name in zip(files, formats, strict=True):
        if file.described.columns is None and file.described.source.converter is None and file.rows:
            found = _found(file, name)
            if all(found.keys != other.keys for other in shown):
                shown.append(found)
    for found in shown:
        place = [f"{found.file.seen.name}:"] if len(shown) > 1 else []
        console.show(*place, *(f"  {line}" for line in found.lines))


def _found(file: LookedAt, name: str) -> Found:
    """Return the description of a file that the converter `name` reads: the one given, or else what was detected."""
    source, how = file.described.source, file.described.how
    if file.described.columns is not None or source.converter is not None:
        keys = plain_keys(source.model_dump(exclude_defaults=True, exclude={"path"}))
    else:
        keys = describe(name, file.seen.examples, how)
    convert = file.described.converter(name).bind(how)
    return Found(file, keys, [_as_read(convert, row) for row in file.rows[:MOST_ROWS]])


def _candidates(config: PrepareConfig, file: LookedAt) -> Found:
    """Return the descriptions of the formats that fit, or what is known if none does."""
    rows, how = file.seen.examples, file.described.how
    if file.seen.fitting:
        keys, *others = (describe(name, rows, how) for name in file.seen.by_use)
        return Found(file, keys, [], tuple(others))
    guess = suggest(rows).keys or UNKNOWN
    keys = {**guess, **_given(config, file)}
    if any(map(is_open, keys.values())):
        return Found(file, keys, [*_first_row(file.rows)])
    if "rows" in guess:
        rows = [item for row in rows for item in items_in(row, guess["rows"]) or ()]
    convert = compiled(keys, how)
    return Found(file, keys, [GUESSED, *(_as_read(convert, row) for row in rows[:MOST_ROWS])])


def _first_row(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the columns of the first row, cut, and what a list of messages in it needs."""
    for name, value in (rows[0] if rows else {}).items():
        text = " ".join(str(value).split())
        yield f"{name}: {_cut(redact(text, find_secrets(text)))}"
        first = value[0] if isinstance(value, list) and value else None
        if isinstance(first, dict) and sum(isinstance(held, str) for held in first.values()) > 1:
            yield f"  if `{name}` is a conversation: role_key, content_key and roles name its keys and speakers"


def _given(config: PrepareConfig, file: LookedAt) -> Keys:
    """Return what was said of a source: what its votes mean, where its rows are, how many to keep."""
    given = file.described.source.model_dump(exclude_defaults=True, exclude={"path", "converter"})
    for value, meaning in (file.described.how.labels or {}).items() if config.labels is not None else ():
        given[meaning] = [*given.get(meaning, []), value]
    return plain_keys(given)


def _items(found: list[Found]) -> list[tuple[str, Found]]:
    """Return the paths to name in the description, each with its keys: a source if all its files are alike."""
    items: list[tuple[str, Found]] = []
    for argument, group in groupby(found, lambda one: one.file.pieces[0].file.argument):
        alike = list(group)
        if argument and all(one.keys == alike[0].keys for one in alike):
            items.append((argument, alike[0]))
        else:
            items += [(one.file.pieces[0].file.typed, one) for one in alike]
    return items


def _as_read(convert: Convert, row: Row) -> str:
    """Return a row as prepare reads it, in one line."""
    try:
        made = convert(row)
        if isinstance(made, ScoredAnswer):
            return f"{_said(made.prompt)} -> score {made.score:g}: {_said(made.answer)}"
        pairs = [made] if isinstance(made, PreferenceExample) else list(made)
        first = next(pair for pair in pairs if isinstance(pair, PreferenceExample))
    except Rejection as rejection:
        return f"dropped: {rejection.reason}"
    except StopIteration:
        return "dropped: no two answers with a preference"
    more = f" (and {len(pairs) - 1} more)" if len(pairs) > 1 else ""
    return f"{_said(first.prompt)} -> chosen: {_said(first.chosen)} | rejected: {_said(first.rejected)}{more}"


def _said(messages: Sequence[Message]) -> str:
    """Return messages in one line, cut; credentials are hidden."""
    texts = []
    for message in messages:
        text = " ".join(message["content"].split())
        text = redact(text, find_secrets(text))
        calls = f"calls {dumped(called)}" if (called := members_of(message).get(CALLS)) else ""
        calls = redact(calls, find_secrets(calls))
        texts.append(f"[{message['role']}] {_cut(text)}{' ' if text and calls else ''}{_cut(calls)}")
    return " ".join(texts)


def _cut(text: str) -> str:
    return f"{text[:LONGEST]}{'…' if len(text) > LONGEST else ''}"
