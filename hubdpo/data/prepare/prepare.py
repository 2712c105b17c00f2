"""The prepare stage: turn raw preference data into a dataset folder, and account for every row.

Three steps: convert (raw rows to Arrow rows and row keys, a task for each piece), decide (on the row keys alone), and
write (Arrow rows to Parquet, a task for each shard). The output depends on the sources and options, and never on the
number of workers.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hubdpo import console
from hubdpo.artefacts.folders import storage
from hubdpo.artefacts.folders.workspace import Workspace, workspace
from hubdpo.artefacts.formats.kept_sections import kept_of
from hubdpo.artefacts.formats.messages import TOOLS, schema
from hubdpo.artefacts.manifests.manifest import CARD_FILE, REJECTED_FILE, fingerprint
from hubdpo.artefacts.manifests.prepare import IN_MEMORY, PrepareManifest, Source
from hubdpo.cards.dataset.card import TAKEN_OVER
from hubdpo.cards.dataset.source_card import SourceCard, card_of_shape, card_text, source_card
from hubdpo.cards.lint.fields import lint_fields, near_licence
from hubdpo.config import PrepareConfig
from hubdpo.config.chat_template import recorded
from hubdpo.config.description import Description
from hubdpo.config.takes import takes
from hubdpo.data.clean.decide import SPLITS, decide
from hubdpo.data.clean.keys import ROW_KEY
from hubdpo.data.clean.near_duplicates import PERMUTATIONS
from hubdpo.data.language import code_of
from hubdpo.data.pairs.example import CHANGES
from hubdpo.data.pairs.extras import KINDS
from hubdpo.data.prepare.accounts import accounts_of, check_sources, make_funnel
from hubdpo.data.prepare.convert_piece import Task, convert_piece
from hubdpo.data.prepare.describe import describe_files
from hubdpo.data.prepare.described import (
    DescribedSource,
    check_converters,
    described_sources,
    find_described,
    source_of_rows,
)
from hubdpo.data.prepare.explain import explain_files
from hubdpo.data.prepare.folder import check_is_no_source, check_is_ours, may_hold_files, up_to_date
from hubdpo.data.prepare.looks import look_at_files
from hubdpo.data.prepare.piece_writer import PieceResult, scratch_file
from hubdpo.data.prepare.report import check_outcome, report, report_lists, text_markers, unused_columns, write_rejected
from hubdpo.data.prepare.rounds import check_decision, gather, second_round, stop_at_errors
from hubdpo.data.prepare.rows_in_memory import RowSets, rows_in_memory, write_rows
from hubdpo.data.prepare.rules import make_rules, pinned_model
from hubdpo.data.prepare.shards import plan_shards
from hubdpo.data.prepare.splits import plan_splits
from hubdpo.data.prepare.statistics import count_bits, shared_prompts, summary
from hubdpo.data.prepare.workers import engine_for
from hubdpo.data.prepare.write_folder import write_folder
from hubdpo.data.raw.message_trees import as_trees
from hubdpo.data.raw.pieces import Piece
from hubdpo.data.raw.raw_file import STDIN, RawFile
from hubdpo.data.raw.sources.state import check_unchanged, report_changes
from hubdpo.data.raw.sources.unpack import unpacked
from hubdpo.data.tokens.tokenizer import Model
from hubdpo.errors import ConfigError
from hubdpo.version import __version__

UNRECORDED = {
    "source",
    "output_dir",
    "overwrite",
    "card",
    "engine",
    "num_proc",
    "dry_run",
    "explain",
    "describe",
    "model",
}
"""Options that the output does not depend on, or that the settings record in another form."""


def _rows_apart(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Take rows in memory out of the options: the config names them, and `prepare` gets them as an argument."""
    rows = rows_in_memory(options.get("source"))
    if rows is not None and options.get("sources"):
        raise ConfigError("both rows in memory and `sources` are given", hint="leave one out: `sources` reads files")
    return (options, {}) if rows is None else ({**options, "source": [IN_MEMORY]}, {"rows": rows})


@takes(PrepareConfig, "source", "output_dir", resolve=_rows_apart)
def prepare(config: PrepareConfig, rows: RowSets | None = None) -> PrepareManifest | None:
    """Write a dataset folder from raw preference data, and return its manifest.

    `source` is a path, an address or a list of them, or rows in memory: a list of dicts, a `datasets.Dataset` or
    DatasetDict, a pandas or polars DataFrame, or a pyarrow Table.

    The folder is absent or complete at every moment, and equal sources and options give equal bytes. `dry_run` writes
    nothing; `explain` and `describe` print what they find and return None. Raise ConfigError, DataError, HubError or
    ArtefactError, with nothing written.
    """
    only_look = config.dry_run or config.stops_early
    with workspace(config.output_dir, dry_run=only_look) as space:
        if not only_look:
            check_is_ours(config.output_dir)
        described = described_sources(config)
        check_converters(config, described)
        files = find_described(described, space.scratch) if rows is None else write_rows(rows, space.scratch)
        if rows is None and not config.stops_early:
            check_is_no_source(config.output_dir, [file for file in files if file.name != STDIN])
        with report_changes(files):
            return _prepare(config, space, described, files)


def _prepare(
    config: PrepareConfig, space: Workspace, described: list[DescribedSource], files: list[RawFile]
) -> PrepareManifest | None:
    # 1. Is the folder up to date? That depends on the bytes of the sources and on the settings alone.
    model = pinned_model(config)
    settings = _settings(config, model, files)
    sources: list[Source] = []
    if not config.dry_run and not config.stops_early and may_hold_files(config.output_dir):
        sources = list(map(RawFile.source, files))
        wanted = fingerprint_of(sources, settings)
        if (ready := up_to_date(config.output_dir, wanted, sources, overwrite=config.overwrite)) is not None:
            check_unchanged(files)
            console.info(f"{config.output_dir} is up to date")
            return ready

    # 2. Cut the files into pieces, and choose the rules of each from the first rows.
    most = config.max_line_bytes
    plain = as_trees(unpacked(files, space.scratch), space.scratch, most)
    pieces = [piece for file in plain for piece in described[file.described].cut(file, most)]
    card = source_card(config.card, [file.name for file in files])
    looked = look_at_files(config, described, pieces)
    if config.describe:
        describe_files(config, looked)
        return None
    rules = make_rules(config, looked, pieces, model, space.scratch, attribution=card.attribution)
    if config.explain:
        explain_files(config, pieces, rules)
        return None
    converters = list(dict.fromkeys(rule.converter for rule in rules))
    if config.card is None and not card.body:
        _offer_card(converters)
    _check_facts(config, card)

    with engine_for(config.engine, config.num_proc) as engine:
        # 3. Convert and clean every piece, then pair up single answers. Sources are hashed meanwhile.
        tasks = [Task(number, piece, rule) for number, (piece, rule) in enumerate(zip(pieces, rules, strict=True))]
        results = engine.map(convert_piece, tasks)
        hashes = [] if sources else [engine.later(RawFile.source, file) for file in files]
        first = list(_with_progress("preparing", stop_at_errors(pieces, results, config), pieces))
        plan = plan_splits(config, pieces, rules, first)
        rounds = second_round(engine, first, rules, pieces, plan)

        # 4. Decide on the row keys alone which pairs to drop, and the split of the others.
        keys = gather(rounds, space, "keys", ROW_KEY)
        near = gather(rounds, space, "near", np.dtype("<u4"), 2, PERMUTATIONS) if config.dedupe == "near" else None
        counts = [result.pairs for result in rounds.last]
        decision = decide(
            keys, config, near=near, asked=plan.asked(keys, range(len(pieces)), counts),
            shares=plan.shares_of_rows(counts), sources=source_of_rows(described, pieces, counts),
        )  # fmt: skip

        # 5. Check the outcome: what may not be dropped, sources of no use, sources that changed.
        check_decision(config, decision, keys, rounds, pieces)
        accounts = accounts_of(pieces, rules, rounds, decision, plan)
        funnel = make_funnel(accounts)
        check_outcome(config, funnel)
        check_sources(accounts, space.scratch, config)
        report_lists(rounds)
        sources = sources or [result() for result in hashes]
        check_unchanged(files)  # no source is read from here on
        rows = {split: kept for code, split in enumerate(SPLITS) if len(kept := decision.kept(code))}
        if (shared := shared_prompts(keys, rows)) and not (plan.published and config.on_leak == "keep"):
            raise AssertionError(f"{shared} prompts are in both splits")

        # 6. Describe it in the manifest.
        columns, extras = rules[0].columns(), count_bits(keys["extras"], rows, KINDS)
        manifest = PrepareManifest(
            hubdpo_version=__version__,
            converter=", ".join(converters),
            detected=any(some.columns is None and some.source.converter is None for some in described),
            sources=[account.record(s) for account, s in zip(accounts, sources, strict=True)],
            config=settings,
            funnel=funnel,
            secrets=_total(result.secrets for result in rounds.last),
            repaired=_total(result.repaired for result in rounds.first),
            columns=columns,
            unused_columns=unused_columns(rounds, plan.columns, scan=config.scan == "secrets"),
            **text_markers(rounds),
            changed=dict(sorted(count_bits(keys["changes"], rows, CHANGES).items())),
            extras=extras,
            max_length=decision.max_length,
            splits={split: len(kept) for split, kept in rows.items()},
            published_split=plan.published,
            shared_prompts=shared,
            statistics={split: summary(keys, kept) for split, kept in rows.items()},
            license=config.license or card.license,
            language=config.language or card.language,
            fingerprint=fingerprint_of(sources, settings),
        )

        # 7. Write the folder, and put it in place.
        if not config.dry_run:
            write_rejected(storage.join(space.new, REJECTED_FILE), pieces, rounds, decision, keys, space.scratch)
            held = schema(list(columns), objects=bool(extras), tools=TOOLS in extras)
            written = [(scratch_file(space.scratch, r.number, "rows" + r.suffix), r.pairs) for r in rounds.last]
            shards = {
                split: plan_shards(kept, keys["bytes"], written, storage.join(space.new, "data", split), held)
                for split, kept in rows.items()
            }
            del keys, near, decision, rows  # memory that would grow with the input while the shards are written
            sections = () if storage.is_url(config.output_dir) else kept_of(Path(config.output_dir) / CARD_FILE)
            manifest = write_folder(engine, space, manifest, card, shards, sections)
            space.publish()
    report(manifest, dry_run=config.dry_run)
    return manifest


def _check_facts(config: PrepareConfig, card: SourceCard) -> None:
    """Raise ConfigError, before any work is done, for metadata of the card that the Hub would refuse."""
    facts = {name: card.facts[name] for name in TAKEN_OVER if name in card.facts}
    licence = config.license or card.license or "unknown"
    for finding in lint_fields({**facts, "license": licence, "language": config.language or card.language}):
        hint: str | None = finding.hint
        if finding.field == "license" and config.license:
            near = near_licence(config.license)
            hint = f"did you mean `--license {near}`?" if near else "--license unknown, or the id of another licence"
        elif finding.field == "language" and config.language:
            codes = [code for language in config.language if (code := code_of(language))]
            hint = " ".join(f"--language {code}" for code in codes) or "leave `--language` out"
        raise ConfigError(f"`{finding.field}` of the card {finding.message}", hint=hint)


def _offer_card(converters: list[str]) -> None:
    """Suggest a shipped card for rows of this shape. Only the user knows whether they come from that source."""
    offered = card_of_shape(converters)
    if offered is None:
        return
    columns = f" and keeps {', '.join(offered.attribution)} for attribution" if offered.attribution else ""
    console.info(
        f"nothing is claimed of the source; if these rows come from {offered.facts['source_datasets'][0]}, "
        f"`--card {offered.facts['format']}` states its licence ({offered.license}) and history{columns}"
    )


def _total(counts: Iterable[Counter[str]]) -> dict[str, int]:
    return dict(sorted(sum(counts, Counter[str]()).items()))


def _settings(config: PrepareConfig, model: Model | None, files: list[RawFile]) -> dict[str, Any]:
    """Return the options that the output depends on, as the manifest records them."""
    fields = {name: type(config).model_fields[name] for name in ("sources", *Description.model_fields)}
    unset = {n for n, field in fields.items() if getattr(config, n) == field.get_default(call_default_factory=True)}
    settings = config.model_dump(mode="json", exclude=UNRECORDED | unset)
    for index, source in enumerate(config.sources):
        names = [file.name for file in files if file.described == index]  # never a path of this machine
        settings["sources"][index] = {**source.model_dump(mode="json", exclude_defaults=True), "path": names}
    settings["card"] = card_text(config.card) if config.card else None
    if (template := settings.pop("chat_template")) is not None:
        settings["chat_template"] = recorded(template)
    settings["model"] = None
    if model is not None:
        name = Path(model.name).name if model.revision is None else model.name  # never a path of this machine
        of_folder = {"files": model.files} if model.files is not None else {}
        settings["model"] = {"name": name, "revision": model.revision, "tokenizer": model.digest, **of_folder}
    return settings


def fingerprint_of(sources: list[Source], settings: dict[str, Any]) -> str:
    """Return the fingerprint of a dataset folder: equal for equal sources, settings and versions of hubdpo."""
    return fingerprint([__version__, [source.identity() for source in sources], settings])


def _with_progress(label: str, results: Iterable[PieceResult], pieces: list[Piece]) -> Iterator[PieceResult]:
    """Show how many bytes are done, and how many rows a second."""
    began, read = time.monotonic(), 0
    sizes = [max(piece.stop - piece.start, 1) for piece in pieces]
    with console.progress(label, sum(sizes)) as bar:
        for result, size in zip(results, sizes, strict=True):
            read += result.read
            speed = read / max(time.monotonic() - began, 1e-9)
            bar.update(bar.task_ids[0], advance=size, note=f"{read:,} rows, {speed:,.0f} rows/s")
            yield result
