"""The prepare stage: raw preference data in, a dataset folder out, every row counted.

Three steps, each a list of independent tasks: stage (raw rows to Arrow rows and keys), decide (on the keys alone), and
write (Arrow rows to Parquet shards). What comes out depends on the input and the options, never on how many work.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from hubdpo import console
from hubdpo.artefacts.folders import storage
from hubdpo.artefacts.folders.scratch import entries
from hubdpo.artefacts.folders.workspace import Workspace, workspace
from hubdpo.artefacts.formats.kept_sections import Card, Section, join_card, kept_of
from hubdpo.artefacts.formats.messages import COLUMNS
from hubdpo.artefacts.manifests.file_entries import FileEntry
from hubdpo.artefacts.manifests.funnel import IN_MEMORY, Source
from hubdpo.artefacts.manifests.manifest import CARD_FILE, PREPARE_FILE, REJECTED_FILE, canonical_json, fingerprint
from hubdpo.artefacts.manifests.prepare import PrepareManifest, card_entry
from hubdpo.cards.dataset.card import TAKEN_OVER, render_dataset_card
from hubdpo.cards.dataset.plots import draw_dataset_plots
from hubdpo.cards.dataset.source_card import SourceCard, card_of_shape, card_text, source_card
from hubdpo.cards.lint.fields import lint_fields
from hubdpo.cards.render import template
from hubdpo.config import PrepareConfig
from hubdpo.config.takes import takes
from hubdpo.data.clean.decide import SPLITS, decide
from hubdpo.data.clean.keys import ROW_KEY
from hubdpo.data.clean.near_duplicates import PERMUTATIONS
from hubdpo.data.pairs.example import PreferenceExample
from hubdpo.data.prepare.accounts import accounts_of, judge
from hubdpo.data.prepare.convert_piece import Staged, Task, file_of, stage
from hubdpo.data.prepare.explain import explain
from hubdpo.data.prepare.folder import UNFINISHED, check_is_ours, remote_up_to_date, up_to_date
from hubdpo.data.prepare.remarks import text_markers, unused_columns
from hubdpo.data.prepare.report import check_outcome, make_funnel, tell, tell_listed, write_rejected
from hubdpo.data.prepare.rounds import Rounds, allowed, gathered, published_test, refuse, second_round
from hubdpo.data.prepare.rows_in_memory import RowSets, rows_in_memory, write_rows
from hubdpo.data.prepare.rules import Rules, make_rules, pinned_model
from hubdpo.data.prepare.shards import ShardTask, plan_shards, write_shard
from hubdpo.data.prepare.statistics import changed, shared_prompts, summary
from hubdpo.data.prepare.workers import Engine, engine_for
from hubdpo.data.raw.pieces import Piece, PieceReader, cut
from hubdpo.data.raw.raw_file import RawFile, listed
from hubdpo.data.raw.sources.find import find_sources
from hubdpo.data.raw.sources.state import check_unchanged, report_changes
from hubdpo.data.raw.sources.unpack import unpacked
from hubdpo.data.raw.split_names import has_published_split
from hubdpo.data.tokens.tokenizer import Model
from hubdpo.errors import ConfigError
from hubdpo.version import __version__

NOT_THE_DATA = {"source", "output_dir", "overwrite", "card", "engine", "num_proc", "dry_run", "explain", "model"}
SAMPLES = 2


def _rows_apart(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Take rows in memory out of the options: the config names them, and `prepare` gets them as an argument."""
    rows = rows_in_memory(options.get("source"))
    return (options, {}) if rows is None else ({**options, "source": [IN_MEMORY]}, {"rows": rows})


@takes(PrepareConfig, "source", "output_dir", resolve=_rows_apart)
def prepare(config: PrepareConfig, rows: RowSets | None = None) -> PrepareManifest | None:
    """Write a dataset folder from raw preference data, and return its manifest.

    `source` is a path, an address or a list of them, or rows in memory: a list of dicts, a `datasets.Dataset` or
    DatasetDict, a pandas or polars DataFrame, or a pyarrow Table.

    The folder is absent or complete at every moment, and equal sources and options give equal bytes. `dry_run` writes
    nothing; `explain` shows rows and returns None. Raise ConfigError, DataError, HubError or ArtefactError, with
    nothing written.
    """
    only_look = config.dry_run or config.explain > 0
    with workspace(config.output_dir, dry_run=only_look) as space:
        if not only_look:
            check_is_ours(config.output_dir)
        files = find_sources(config.source, space.scratch) if rows is None else write_rows(rows, space.scratch)
        with report_changes(files):
            return _prepared(config, space, files)


def _prepared(config: PrepareConfig, space: Workspace, files: list[RawFile]) -> PrepareManifest | None:
    model = pinned_model(config)
    settings = _settings(config, model)
    sources: list[Source] = []
    if not config.dry_run and not config.explain and _exists(config.output_dir):
        sources = list(map(RawFile.source, files))
        if (ready := _ready(config, _print(sources, settings))) is not None:
            check_unchanged(files)
            console.info(f"{config.output_dir} is up to date")
            return ready
    pieces = [
        piece for file in unpacked(files, space.scratch) for piece in cut(file, max_line_bytes=config.max_line_bytes)
    ]
    card = source_card(config.card, [file.name for file in files])
    rules = make_rules(config, pieces, model, space.scratch, attribution=card.attribution)
    if config.explain:
        _explain(config, pieces, rules)
        return None
    names = list(dict.fromkeys(rule.converter for rule in rules))
    if config.card is None and not card.body:
        _offer_card(names)
    _check_facts(config.license or card.license, config.language or card.language, card)
    with engine_for(config.engine, config.num_proc) as engine:
        tasks = [Task(number, piece, rule) for number, (piece, rule) in enumerate(zip(pieces, rules, strict=True))]
        results = engine.map(stage, tasks)
        hashed = [] if sources else [engine.later(RawFile.source, file) for file in files]
        first = list(_shown("preparing", allowed(pieces, results, config), pieces))
        published = _keeps_split(config, pieces)
        rounds = second_round(engine, first, rules, pieces, apart=published)
        keys = gathered(rounds, space, "keys", ROW_KEY, (-1,))
        near = None
        if config.dedupe == "near":
            near = gathered(rounds, space, "near", np.dtype("<u4"), (-1, 2, PERMUTATIONS))
        decision = decide(keys, config, near=near, published=published_test(rounds, pieces) if published else None)
        refuse(config, decision, keys, rounds, pieces)
        funnel = make_funnel(rounds, decision)
        check_outcome(config, funnel)
        accounts = accounts_of(pieces, rules, rounds, decision)
        judge(accounts, space.scratch, config)
        tell_listed(rounds)
        sources = sources or [result() for result in hashed]
        check_unchanged(files)  # nothing reads them from here on
        rows = {split: kept for code, split in enumerate(SPLITS) if len(kept := decision.kept(code))}
        if shared := shared_prompts(keys, rows):
            raise AssertionError(f"{shared} prompts are in both splits")
        manifest = PrepareManifest(
            hubdpo_version=__version__, converter=", ".join(names),
            detected=config.format is None and config.map is None,
            sources=[
                one.record(source, published=published) for one, source in zip(accounts, sources, strict=True)
            ],
            config=settings, funnel=funnel, secrets=_sum(part.secrets for part in rounds.last),
            repaired=_sum(part.repaired for part in rounds.first),
            unused_columns=unused_columns(rounds, scan=config.scan == "secrets"),
            **text_markers(rounds),
            changed=changed(keys, np.concatenate(list(rows.values()))), max_length=decision.max_length,
            splits={split: len(kept) for split, kept in rows.items()}, published_split=published,
            statistics={split: summary(keys, kept) for split, kept in rows.items()},
            license=config.license or card.license, language=config.language or card.language, 
            fingerprint=_print(sources, settings),
        )  # fmt: skip
        if not config.dry_run:
            rejected = storage.join(space.new, REJECTED_FILE)
            write_rejected(rejected, pieces, rounds, decision, keys, space.scratch)
            sections = _kept(config.output_dir)
            shards = _shards(space, rules[0].keep, rounds, keys, rows)
            del keys, near, decision, rows  # memory that would grow with the input while the shards are written
            manifest = _write(engine, space, manifest, card, rules[0].keep, shards, sections)
            space.publish()
    tell(manifest, dry_run=config.dry_run)
    return manifest


def _check_facts(licence: str | None, language: list[str], card: SourceCard) -> None:
    """Raise ConfigError for what the card would say and the Hub would refuse, before any work is done."""
    facts = {name: card.facts[name] for name in TAKEN_OVER if name in card.facts}
    for finding in lint_fields({**facts, "license": licence or "unknown", "language": language}):
        raise ConfigError(f"`{finding.field}` of the card {finding.message}", hint=finding.hint)


def _keeps_split(config: PrepareConfig, pieces: list[Piece]) -> bool:
    """Tell whether rows stay in the split that they were published in."""
    published = has_published_split(piece.split for piece in pieces)
    if published and config.test_size is not None:
        held = listed(list(dict.fromkeys(piece.file.name for piece in pieces if piece.split == "test")))
        console.warn(
            f"`--test-size` draws a new split: the published test rows ({held}) are split with all others; "
            "leave it out to keep them apart"
        )
    return published and config.test_size is None


def _offer_card(converters: list[str]) -> None:
    """Say which card would state the source of rows of this shape: only who has them knows where they come from."""
    offered = card_of_shape(converters)
    if offered is None:
        return
    columns = f" and keeps {', '.join(offered.attribution)} for attribution" if offered.attribution else ""
    console.info(
        f"nothing is claimed of the source; if these rows come from {offered.facts['source_datasets'][0]}, "
        f"`--card {offered.facts['format']}` states its licence ({offered.license}) and history{columns}"
    )


def _sum(counts: Iterable[Counter[str]]) -> dict[str, int]:
    return dict(sorted(sum(counts, Counter[str]()).items()))


def _settings(config: PrepareConfig, model: Model | None) -> dict[str, Any]:
    settings = config.model_dump(mode="json", exclude=NOT_THE_DATA)
    settings["card"] = card_text(config.card) if config.card else None
    settings["model"] = {"name": Path(model.name).name if model.revision is None else model.name,
                         "revision": model.revision, "tokenizer": model.digest} if model else None  # fmt: skip
    return settings


def _print(sources: list[Source], settings: dict[str, Any]) -> str:
    return fingerprint([__version__, [source.identity() for source in sources], settings])


def _exists(folder: str) -> bool:
    return storage.is_url(folder) or bool(entries(Path(folder)))


def _ready(config: PrepareConfig, print_: str) -> PrepareManifest | None:
    if storage.is_url(config.output_dir):
        return remote_up_to_date(config.output_dir, print_, overwrite=config.overwrite)
    return up_to_date(Path(config.output_dir), print_, overwrite=config.overwrite)


def _explain(config: PrepareConfig, pieces: list[Piece], rules: list[Rules]) -> None:
    """Show the first rows of the first file that each converter reads."""
    shown = {
        rule.converter: (piece.file.number, rule) for piece, rule in reversed(list(zip(pieces, rules, strict=True)))
    }
    for name, (number, rule) in sorted(shown.items(), key=lambda one: one[1][0]):
        own = [piece for piece in pieces if piece.file.number == number]
        if len(shown) > 1:
            console.info(f"══ {own[0].file.name}, `{name}`")
        readers = (PieceReader(piece, max_line_bytes=config.max_line_bytes) for piece in own)
        explain(itertools.islice(itertools.chain.from_iterable(readers), config.explain), rule)


def _shown(what: str, results: Iterable[Staged], pieces: list[Piece]) -> Iterator[Staged]:
    began, read = time.monotonic(), 0
    sizes = [max(piece.stop - piece.start, 1) for piece in pieces]
    with console.progress(what, sum(sizes)) as bar:
        for result, size in zip(results, sizes, strict=True):
            read += result.read
            speed = read / max(time.monotonic() - began, 1e-9)
            bar.update(bar.task_ids[0], advance=size, note=f"{read:,} rows, {speed:,.0f} rows/s")
            yield result


def _shards(
    space: Workspace, keep: list[str], rounds: Rounds, keys: Any, rows: dict[str, Any]
) -> dict[str, list[ShardTask]]:
    """Plan the shards of every split."""
    counts = [(file_of(space.scratch, part.number, "rows" + part.suffix), part.pairs) for part in rounds.last]
    folder = storage.join(space.new, "data")
    return {
        split: plan_shards(kept, keys["bytes"], counts, folder=folder, split=split, keep=keep)
        for split, kept in rows.items()
    }


def _write(
    engine: Engine,
    space: Workspace,
    manifest: PrepareManifest,
    card: SourceCard,
    keep: list[str],
    shards: dict[str, list[ShardTask]],
    sections: tuple[Section, ...],
) -> PrepareManifest:
    """Write shards, plots and card, and the manifest after all of them."""  # fmt: skip
    storage.make_folder(storage.join(space.new, "data"))
    tasks = [task for planned in shards.values() for task in planned]
    split_of = [split for split, planned in shards.items() for _ in planned]
    results = engine.map(write_shard, tasks)
    plots = draw_dataset_plots(manifest)  # while others write
    for name, picture in plots.items():
        storage.make_folder(storage.join(space.new, "plots"))
        _put(space, name, picture)
    template("dataset.md")
    split_bytes = dict.fromkeys(shards, 0)
    entries: dict[str, FileEntry] = {}
    for task, split, written in zip(tasks, split_of, results, strict=True):
        split_bytes[split] += written.bytes
        entries[f"data/{task.path.rsplit('/', 1)[1]}"] = FileEntry(sha256=written.sha256, size=written.size)
        storage.secure(task.path)
    entries |= {name: _entry(space, name) for name in plots}
    manifest = manifest.model_copy(update={"files": entries})
    text = render_dataset_card(
        manifest, card=card, samples=_samples(tasks[0].path), split_bytes=split_bytes, keep=keep,
        plots=sorted(plots),
    )  # fmt: skip
    _put(space, CARD_FILE, join_card(Card(text, sections)).encode())
    manifest = manifest.model_copy(update={"files": {**entries, CARD_FILE: card_entry(text)}})
    _put(space, PREPARE_FILE, canonical_json(manifest.model_dump(mode="json")).encode())
    if storage.is_url(space.new):
        storage.remove_file(storage.join(space.new, UNFINISHED))
    return manifest


def _kept(target: str) -> tuple[Section, ...]:
    """Return what people wrote in the card of the folder that is replaced."""
    return () if storage.is_url(target) else kept_of(Path(target) / CARD_FILE)


def _put(space: Workspace, name: str, data: bytes) -> None:
    with storage.open_write(storage.join(space.new, name)) as stream:
        stream.write(data)


def _entry(space: Workspace, name: str) -> FileEntry:
    place = storage.join(space.new, name)
    return FileEntry(sha256=storage.sha256(place), size=storage.size_of(place))


def _samples(path: str) -> list[PreferenceExample]:
    with storage.open_read(path) as stream:
        rows = pq.ParquetFile(stream).read_row_group(0, columns=list(COLUMNS)).slice(0, SAMPLES).to_pylist()
    return [PreferenceExample(**row) for row in rows]
