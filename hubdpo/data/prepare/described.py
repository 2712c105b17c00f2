"""The sources of a run with their descriptions, compiled once."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import yaml

from hubdpo import console
from hubdpo.config import PrepareConfig
from hubdpo.config.base import flag_of
from hubdpo.config.description import MEANINGS, Description, SourceConfig
from hubdpo.config.map_option import HINT, columns_of_map, parse_map
from hubdpo.config.spelling import respell
from hubdpo.data.clean.decide import SourceOfRows
from hubdpo.data.converters import CONVERTERS, NAMES, Converter, ConvertOptions
from hubdpo.data.converters.columns import Columns
from hubdpo.data.converters.formats.described import NAME, converter
from hubdpo.data.converters.places import as_list
from hubdpo.data.converters.vote_words import normalize, parse_labels
from hubdpo.data.detection.format_columns import Keys
from hubdpo.data.detection.keys import in_hint
from hubdpo.data.raw.pieces import Piece, cut
from hubdpo.data.raw.raw_file import RawFile
from hubdpo.data.raw.sources.find import find_sources
from hubdpo.errors import ConfigError, DataError


@dataclass(frozen=True)
class DescribedSource:
    """Paths that are read alike, with the columns that their description names, and the options for converters."""

    source: SourceConfig
    columns: Columns | None
    """None if a converter is given or detected."""
    how: ConvertOptions
    mapping: dict[str, str] | None = None
    """The columns as `--map` names them, if it does."""

    def converter(self, name: str) -> Converter:
        """Return the converter of the described columns, or the one of that name."""
        return converter(self.columns) if self.columns is not None else CONVERTERS[name]

    def cut(self, file: RawFile, max_line_bytes: int) -> list[Piece]:
        """Return the pieces of a file of the source."""
        columns = {place.column for place in self.columns.places} if self.columns is not None else set[str]()
        return cut(file, max_line_bytes=max_line_bytes, rows=self.source.rows, columns=columns)


def described_sources(config: PrepareConfig) -> list[DescribedSource]:
    """Compile `sources`, or the one description that the options give all paths. Raise ConfigError."""
    mapping = parse_map(config.map) if config.map is not None else None
    described = []
    for source in config.sources or [_of_options(config)]:
        labels = parse_labels(config.labels) if config.labels is not None else source.meanings(normalize)
        how = ConvertOptions(config.pairs, config.min_margin, config.score_field, labels)
        columns = Columns.of(source) if source.names_columns else None
        described.append(DescribedSource(source, columns, how, mapping))
    return described


def check_converters(config: PrepareConfig, described: Sequence[DescribedSource]) -> None:
    """Raise ConfigError for a converter that is unknown, or that does not go with the other options."""
    for source in described:
        name = source.source.converter
        if name is not None and name not in NAMES:
            near = difflib.get_close_matches(name, NAMES, n=1)
            hint = f"did you mean `--converter {near[0]}`?" if near else f"the converters are: {', '.join(NAMES)}"
            with in_item(config, source):
                raise ConfigError(f"unknown converter: {name}", hint=hint)
        if source.columns is None and NAME in (name, config.converter):
            raise ConfigError(f"`--converter {NAME}` needs the columns", hint=f"--converter {NAME} {HINT}")
    if config.converter not in (None, NAME) and config.map is not None:
        raise ConfigError(
            "`--map` is read by `--converter columns` alone", hint=f"leave `--converter {config.converter}` out"
        )


def find_described(described: Sequence[DescribedSource], scratch: str) -> list[RawFile]:
    """Return the files of all sources, each with the index of its description."""
    files: list[RawFile] = []
    for index, some in enumerate(described):
        encoding = some.source.encoding
        files += find_sources(some.source.path, scratch, encoding, described=index, first=len(files))
    return files


def source_of_rows(
    described: Sequence[DescribedSource], pieces: Sequence[Piece], counts: Sequence[int]
) -> SourceOfRows | None:
    """Return the source of each row, by the number of rows of each piece; None if no source has a limit or weight."""
    sources = [some.source for some in described]
    if all(source.max_rows is None and source.weight == 1 for source in sources):
        return None
    return SourceOfRows(sources, np.repeat(np.array([piece.file.described for piece in pieces], np.int32), counts))


def _of_options(config: PrepareConfig) -> SourceConfig:
    values = {name: getattr(config, name) for name in Description.model_fields}
    values |= columns_of_map(config.map) if config.map is not None else {}
    named = config.converter if config.converter != NAME else None
    return SourceConfig.model_construct(**values, path=config.source, converter=named)


@contextmanager
def in_item(config: PrepareConfig, described: DescribedSource) -> Iterator[None]:
    """Spell the options in warnings, errors and their hints as the source was described.

    They are keys of its item if there is a list of `sources`, and `--first 1 --second 2` for `--labels` if the values
    of the vote were given like that.
    """
    if config.sources:
        form, where = _flow, f"in the item of `{', '.join(described.source.path)}`: "
    elif config.labels is None and any(getattr(described.source, name) for name in MEANINGS):
        form, where = _flags, ""
    else:
        yield
        return

    def spelled(text: str, *, is_hint: bool = False) -> str:
        return where + in_hint(text, form) if is_hint else text.replace("`--labels`", "the description")

    outer = console.spell.get()
    before = console.spell.set(lambda text, *, is_hint=False: outer(spelled(text, is_hint=is_hint), is_hint=is_hint))
    try:
        yield
    except (ConfigError, DataError) as problem:
        respell(problem, spelled)
        raise
    finally:
        console.spell.reset(before)


def _flow(keys: Keys) -> str:
    """Return keys as YAML in one line."""
    return yaml.safe_dump(keys, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6).strip()[1:-1]


def _flags(keys: Keys) -> str:
    """Return keys as options, each value of a list as one."""
    return " ".join(
        f"{flag_of(key)} {shlex.quote(str(value))}" for key, held in keys.items() for value in as_list(held)
    )
