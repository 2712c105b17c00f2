"""Look at the Parquet files of a dataset by their footers: how many rows, which columns, and whether DPO takes them."""

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
"""Of a repo that tells its rows: each footer is two requests."""
LONGEST_NAME = 200


@dataclass
class Seen:
    """What the footers tell; `rows` and `columns` are None unless all of them were read."""

    rows: dict[str, int] | None = None
    columns: list[str] | None = None
    share: str | None = None
    findings: list[Finding] = field(default_factory=list)


def look_at_parquet(snapshot: Snapshot, about: Mapping[str, Any], *, known: bool) -> Seen:
    """Read footers, and say what is wrong; `about` is the front matter of the card, `known` that it tells the rows."""
    every = parquet_files(snapshot)
    names = every[: MOST_WHERE_KNOWN if known and snapshot.repo_type is not None else MOST_FOOTERS]
    prepared = PREPARE_FILE in snapshot.files
    rows: dict[str, int] = {}
    columns: list[str] | None = None
    wrong: dict[str, str] = {}
    seen = Seen(share=f"{len(names):,} of {len(every):,}" if every else None)
    for number, name in enumerate(names):
        try:
            with translate_errors(snapshot.ref), snapshot.open(name) as stream:
                count, schema = read_footer(stream, name, hint="tell its owner, or write it again")
        except ArtefactError as problem:
            seen.findings.append(Finding(name, problem.message.removeprefix(f"`{name}` "), problem.hint))
            continue
        except HubError as problem:  # a cached repo, for one, is inspected without a network as well
            seen.findings.append(Finding(name, f"cannot be looked at: {problem.message}", problem.hint))
            seen.share = f"{number:,} of {len(every):,}"
            break
        split = next((word for word in ("train", "test", "validation") if word in name.rpartition("/")[2]), name)
        rows[split] = rows.get(split, 0) + count
        columns = [shortened(column, LONGEST_NAME) for column in schema.names]
        if (told := wrong_column(schema, prepared=prepared)) is not None:
            wrong[name] = told
    if not seen.findings and len(names) == len(every):
        seen.rows, seen.columns = rows or None, columns
    configs = about.get("configs")
    several = isinstance(configs, list) and len(configs) > 1  # one of several sets may be the pairs
    if wrong and (prepared or not several or len(wrong) == len(names)):
        name, told = next(iter(wrong.items()))
        message = f"of `{shortened(name, LONGEST_NAME)}` are not what DPO trains on: {told}"
        seen.findings.append(Finding("columns", message, "hubdpo prepare"))
    return seen


def parquet_files(snapshot: Snapshot) -> list[str]:
    return sorted(name for name in snapshot.files if name.endswith(".parquet"))
