"""Datasets for the tests of the pages: with several row groups and shards, tools, and texts that try to be markup."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from hubdpo.artefacts.formats.messages import COLUMNS, TOOLS, schema
from hubdpo.artefacts.manifests.manifest import PREPARE_FILE, file_entry
from hubdpo.artefacts.manifests.prepare import Funnel, PrepareManifest, Source
from hubdpo.hub.snapshot import FolderSnapshot
from hubdpo.view.thing import Thing

Row = dict[str, Any]
HOSTILE = (
    "<script>window.hurt = 1</script>", "<img src=x onerror='window.hurt = 1'>", "</script><svg onload=alert(1)>",
    "\"><iframe src='https://example.org/'></iframe>", "<!-- <b>", "{{ 7 * 7 }}", "&lt;b&gt;", "]]><style>*{}</style>",
    "\u202eright to left", "é\u0301" * 40, "a" * 400, "<mark class=differs>", "</div></article></main>", "\x00\x07",
    "javascript:alert(1)", "<a href='javascript:alert(1)'>x</a>", "${7*7}", "'; DROP TABLE pairs; --", "🦆" * 30,
    "<template><form action=//example.org>",
)  # fmt: skip
"""Texts that must never become elements."""


def pair(prompt: str, chosen: str, rejected: str, **more: Any) -> Row:
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    texts = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    return {name: [{"role": roles[name], "content": texts[name]}] for name in COLUMNS} | more


def made_up(count: int, seed: int = 0) -> list[Row]:
    """Return pairs whose texts are words of a small vocabulary, each with a number of its own."""
    chance = random.Random(seed)
    words = [
        "ocean",
        "river",
        "tea",
        "lamp",
        "Élan",
        "straße",
        "你好",
        "quokka",
        "(x)",
        'say "hi"',
        "a\\b",
        "<b>",
        "ÖDE",
    ]

    def text() -> str:
        return " ".join(chance.choices(words, k=chance.randint(0, 12)))

    return [pair(f"{number} {text()}", f"{text()} c{number}", f"{text()} r{number}") for number in range(count)]


def write_dataset(
    folder: Path, splits: dict[str, Sequence[Row]], *, rows_per_group: int = 7, rows_per_shard: int = 25,
    sources: Iterable[Source] = (), dropped: Sequence[dict[str, Any]] = (),
) -> Path:  # fmt: skip
    """Write rows as `prepare` does, in small row groups and shards."""
    (folder / "data").mkdir(parents=True)
    rows = [row for of_split in splits.values() for row in of_split]
    objects = any(
        TOOLS in row or len(message) > 2 for row in rows for name in COLUMNS for message in row[name] or () if message
    )
    texts = sorted({name for row in rows for name in row if name not in (*COLUMNS, TOOLS)})
    kind = schema(texts, objects=objects, tools=objects)
    for split, of_split in splits.items():
        shards = -(-len(of_split) // rows_per_shard) or 1
        for shard in range(shards):
            path = folder / "data" / f"{split}-{shard:05d}-of-{shards:05d}.parquet"
            held = of_split[shard * rows_per_shard : (shard + 1) * rows_per_shard]
            table = pa.table({name: _column(name, held, objects) for name in kind.names}, kind)
            pq.write_table(table, path, row_group_size=rows_per_group)
    reasons: dict[str, int] = {}
    for row in dropped:
        reasons[row["reason"]] = reasons.get(row["reason"], 0) + 1
    if dropped:
        (folder / "rejected.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in dropped))
    kept = {split: len(of_split) for split, of_split in splits.items()}
    PrepareManifest(
        hubdpo_version="0.4.0", converter="preference", detected=True, sources=list(sources), config={},
        funnel=Funnel(read=len(rows) + len(dropped), kept=len(rows), dropped=reasons), splits=kept,
        fingerprint="0" * 64,
        files={path.relative_to(folder).as_posix(): file_entry(path) for path in (folder / "data").iterdir()},
    ).write(folder / PREPARE_FILE)  # fmt: skip
    return folder


def _column(name: str, rows: Sequence[Row], objects: bool) -> Any:
    values = [row.get(name) for row in rows]
    if objects and name in (*COLUMNS, TOOLS):
        dumped = [None if value is None else [orjson.dumps(item).decode() for item in value] for value in values]
        return pa.array(dumped, pa.list_(pa.string())).cast(pa.list_(pa.json_()))
    return pa.array(values, schema([name] if name not in COLUMNS else []).field(name).type)


def thing_of(folder: Path) -> Thing:
    return Thing(FolderSnapshot(folder, all_files=True), folder.name)
