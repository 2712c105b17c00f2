"""Read the footers of a dataset's Parquet files: rows, columns, and whether DPO can train on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hubdpo.artefacts.formats.bounded import shortened
from hubdpo.artefacts.formats.parquet_footers import read_footer, wrong_column
from hubdpo.artefacts.manifests.manifest import PREPARE_FILE
from hubdpo.cards.lint.finding import Finding
from hubdpo.errors import ArtefactError, HubError
from hubdpo.hub.failures import translate_errors
from hubdpo.hub.snapshot import Snapshot

MOST_FOOTERS = 200
MOST_WHERE_KNOWN = 20
"""Footers to read of a repo whose card states its rows: each footer takes two requests."""
LONGEST_NAME = 200


@dataclass
class Footers:
    """Rows and columns by the footers, both None unless all footers were read."""

    rows: dict[str, int] | None = None
    columns: list[str] | None = None
    share: str | None = None
    findings: list[Finding] = field(default_factory=list)


def read_footers(snapshot: Snapshot, about: Mapping[str, Any], *, known: bool) -> Footers:
    """Read footers and report what is wrong. `about` is the card's front matter, `known` whether it states the rows."""
    parquet = parquet_files(snapshot)
    names = parquet[: MOST_WHERE_KNOWN if known and snapshot.repo_type is not None else MOST_FOOTERS]
    prepared = PREPARE_FILE in snapshot.files
    rows: dict[str, int] = {}
    columns: list[str] | None = None
    wrong: dict[str, str] = {}
    footers = Footers(share=f"{len(names):,} of {len(parquet):,}" if parquet else None)
    for number, name in enumerate(names):
        try:
            with translate_errors(snapshot.ref), snapshot.open(name) as stream:
                count, schema = read_footer(stream, name, hint="tell its owner, or write it again")
        except ArtefactError as problem:
            footers.findings.append(Finding(name, problem.message.removeprefix(f"`{name}` "), problem.hint))
            continue
        except HubError as problem:  # a cached repo can be inspected without a network
            footers.findings.append(Finding(name, f"cannot be read: {problem.message}", problem.hint))
            footers.share = f"{number:,} of {len(parquet):,}"
            break
        split = next((word for word in ("train", "test", "validation") if word in name.rpartition("/")[2]), name)
        rows[split] = rows.get(split, 0) + count
        columns = [shortened(column, LONGEST_NAME) for column in schema.names]
        if (reason := wrong_column(schema, prepared=prepared)) is not None:
            wrong[name] = reason
    if not footers.findings and len(names) == len(parquet):
        footers.rows, footers.columns = rows or None, columns
    configs = about.get("configs")
    several = isinstance(configs, list) and len(configs) > 1  # one of several configurations may hold the pairs
    if wrong and (prepared or not several or len(wrong) == len(names)):
        name, reason = next(iter(wrong.items()))
        message = f"of `{shortened(name, LONGEST_NAME)}` cannot be trained on: {reason}"
        footers.findings.append(Finding("columns", message, "hubdpo prepare"))
    return footers


def parquet_files(snapshot: Snapshot) -> list[str]:
    return sorted(name for name in snapshot.files if name.endswith(".parquet"))
