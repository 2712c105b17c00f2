"""The prepare stage: raw preference data in, a dataset folder out, every row counted."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hubdpo import __version__, console
from hubdpo.cards.dataset_card import card_for, render_dataset_card
from hubdpo.config import PrepareConfig
from hubdpo.data.clean import clean, pair_key
from hubdpo.data.converters import CONVERTERS, NAMES, columns
from hubdpo.data.detect import MOST_ROWS, detect
from hubdpo.data.folder import replaced_folder, up_to_date
from hubdpo.data.preference import PreferenceExample, Rejection
from hubdpo.data.readers import RawFile, RawRow, digest_text, open_sources, read_rows
from hubdpo.data.shards import SplitWriter
from hubdpo.data.split import is_test, prompt_key
from hubdpo.data.statistics import SplitStatistics
from hubdpo.errors import ConfigError, DataError
from hubdpo.manifest import CARD_FILE, PREPARE_FILE, REJECTED_FILE, Funnel, PrepareManifest, file_entry, fingerprint

NOT_THE_DATA = {"source", "output_dir", "overwrite", "card"}
READ_BY_TRL = {"messages", "completion", "label", "image", "images", "prompt", "chosen", "rejected"}
SAMPLES = 2


def prepare(config: PrepareConfig | None = None, **options: Any) -> PrepareManifest:
    """Write a dataset folder and return its manifest; call with a PrepareConfig or with its options.

    The folder is absent or complete at every moment, and the same sources and options give the same bytes. Raise
    ConfigError, DataError or ArtefactError with nothing written.
    """
    config = PrepareConfig.given(config, options)
    _check_options(config)
    with open_sources(config.source) as files:
        sources = [file.source() for file in files]
        settings = config.model_dump(mode="json", exclude=NOT_THE_DATA)
        settings["card"] = digest_text(config.card) if config.card else None
        print_ = fingerprint([__version__, [source.model_dump() for source in sources], settings])
        if (ready := up_to_date(config.output_dir, print_, overwrite=config.overwrite)) is not None:
            console.info(f"{config.output_dir} is up to date")
            return ready
        name, convert = _converter(config, files)
        card = card_for(name, config.card)
        with replaced_folder(config.output_dir) as folder:
            road = _run(config, files, convert, folder)
            funnel = Funnel(read=road.read, kept=road.kept, dropped=dict(sorted(road.dropped.items())))
            _check_outcome(config, funnel)
            shards = sorted((folder / "data").glob("*.parquet"))
            manifest = PrepareManifest(
                hubdpo_version=__version__,
                converter=name,
                detected=config.format is None,
                sources=sources,
                config=settings,
                funnel=funnel,
                changed=dict(sorted(road.changed.items())),
                splits={split: statistics.pairs for split, statistics in road.statistics.items()},
                statistics={split: statistics.summary() for split, statistics in road.statistics.items()},
                license=config.license or card.license,
                language=config.language or card.language,
                files={path.relative_to(folder).as_posix(): file_entry(path) for path in shards},
                fingerprint=print_,
            )
            text = render_dataset_card(manifest, card=card, samples=road.samples, split_bytes=road.split_bytes)
            (folder / CARD_FILE).write_text(text, encoding="utf-8")
            manifest = manifest.model_copy(
                update={"files": {**manifest.files, CARD_FILE: file_entry(folder / CARD_FILE)}}
            )
            manifest.write(folder / PREPARE_FILE)
    _tell(manifest)
    return manifest


@dataclass
class _Road:
    """What happened to the rows on their way."""

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    statistics: dict[str, SplitStatistics] = field(default_factory=dict)
    split_bytes: dict[str, int] = field(default_factory=dict)
    samples: list[PreferenceExample] = field(default_factory=list)


def _run(
    config: PrepareConfig, files: list[RawFile], convert: Callable[[dict[str, Any]], PreferenceExample], folder: Path
) -> _Road:
    road = _Road()
    seen: set[bytes] = set()
    (folder / "data").mkdir()
    with ExitStack() as stack:
        rejected = stack.enter_context((folder / REJECTED_FILE).open("w", encoding="utf-8"))
        writers = {split: SplitWriter(folder / "data", split, config.keep) for split in ("train", "test")}
        for writer in writers.values():
            stack.callback(writer.abandon)
        statistics = {split: SplitStatistics() for split in writers}
        for row in _rows(config, files):
            road.read += 1
            try:
                example, changes = _example(row, convert)
                if config.dedupe == "exact" and (key := pair_key(example)) in seen:
                    raise Rejection("duplicate_pair")
            except Rejection as reason:
                road.dropped[reason.reason] += 1
                rejected.write(_reject_line(row, reason.reason))
                continue
            if config.dedupe == "exact":
                seen.add(key)
            prompt = prompt_key(example.prompt)
            split = "test" if is_test(prompt, config.test_size, config.seed) else "train"
            writers[split].add(example, row.value or {})
            statistics[split].add(example, prompt)
            road.kept += 1
            road.changed.update(changes)
            if len(road.samples) < SAMPLES:
                road.samples.append(example)
        for split, writer in writers.items():
            writer.close()
            if statistics[split].pairs:
                road.statistics[split] = statistics[split]
                road.split_bytes[split] = writer.bytes
    return road


def _rows(config: PrepareConfig, files: list[RawFile]) -> Iterator[RawRow]:
    with console.progress("preparing", None) as bar:
        for row in itertools.chain.from_iterable(
            read_rows(file, max_line_bytes=config.max_line_bytes) for file in files
        ):
            bar.advance(bar.task_ids[0])
            yield row


def _example(
    row: RawRow, convert: Callable[[dict[str, Any]], PreferenceExample]
) -> tuple[PreferenceExample, list[str]]:
    if row.value is None:
        raise Rejection(row.problem or "malformed_line")
    return clean(convert(row.value))


def _reject_line(row: RawRow, reason: str) -> str:
    """Say where a dropped row is, and its shape; its text stays in the source."""
    shape = {key: _shape(value) for key, value in list((row.value or {}).items())[:20]}
    return (
        json.dumps({"source": row.file, "line": row.line, "reason": reason, "fields": shape}, ensure_ascii=False) + "\n"
    )


def _shape(value: Any) -> str:
    size = f" of {len(value)}" if isinstance(value, (str, list, dict)) else ""
    return f"{type(value).__name__}{size}"


def _converter(
    config: PrepareConfig, files: list[RawFile]
) -> tuple[str, Callable[[dict[str, Any]], PreferenceExample]]:
    if config.map is not None:
        mapping = columns.parse_map(config.map)
        first = next(_parsed_rows(config, files), {})
        if missing := [column for column in mapping.values() if column not in first]:
            raise DataError(
                f"no column `{missing[0]}` in the first row, which has {', '.join(f'`{key}`' for key in first)}",
                hint=columns.HINT,
            )
        return "columns", columns.converter(mapping)
    name = config.format or detect(itertools.islice(_parsed_rows(config, files), MOST_ROWS))
    return name, CONVERTERS[name].convert


def _parsed_rows(config: PrepareConfig, files: Iterable[RawFile]) -> Iterator[dict[str, Any]]:
    for file in files:
        for row in read_rows(file, max_line_bytes=config.max_line_bytes):
            if row.value is not None:
                yield row.value


def _check_options(config: PrepareConfig) -> None:
    if config.format is not None and config.format not in NAMES:
        import difflib

        near = difflib.get_close_matches(config.format, NAMES, n=1)
        raise ConfigError(
            f"unknown format: {config.format}",
            hint=f"did you mean `--format {near[0]}`?" if near else f"the formats are: {', '.join(NAMES)}",
        )
    if (config.format == "columns") != (config.map is not None) and config.format is not None:
        raise ConfigError("`--format columns` and `--map` belong together", hint=f"--format columns {columns.HINT}")
    if clash := sorted(READ_BY_TRL & set(config.keep)):
        raise ConfigError(
            f"`--keep {clash[0]}` would change how trainers read the rows", hint="rename the column in the source"
        )
    if config.card is not None and not config.card.is_file():
        raise ConfigError(f"card not found: {config.card}", hint="give a Markdown file with a YAML front matter")


def _check_outcome(config: PrepareConfig, funnel: Funnel) -> None:
    if not funnel.adds_up():
        raise AssertionError(f"the funnel does not add up: {funnel}")
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in funnel.dropped.items())
    if funnel.kept == 0:
        raise DataError(
            f"no row can be used of {funnel.read:,} read: {reasons or 'the files hold no rows'}",
            hint="look at a row, and name its format with `--format` or `--map`",
        )
    share = 1 - funnel.kept / funnel.read
    if share > config.max_reject:
        raise DataError(
            f"{share:.1%} of the rows would be dropped, more than `--max-reject {config.max_reject:g}`: {reasons}",
            hint="mend the source, or raise `--max-reject`",
        )


def _tell(manifest: PrepareManifest) -> None:
    funnel = manifest.funnel
    rows = [("read", f"{funnel.read:,}"), *((f"dropped: {k}", f"{v:,}") for k, v in funnel.dropped.items())]
    rows += [("kept", f"{funnel.kept:,}"), *((f"  {split}", f"{n:,}") for split, n in manifest.splits.items())]
    rows += [(f"changed: {k}", f"{v:,}") for k, v in manifest.changed.items()]
    console.table(["rows", ""], rows)
    if manifest.config["test_size"] > 0 and len(manifest.splits) < 2:
        console.warn(f"too few prompts for two splits: all rows are in `{next(iter(manifest.splits))}`")
    if funnel.dropped:
        console.info(f"each dropped row is named in {REJECTED_FILE}")
