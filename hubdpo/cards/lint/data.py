"""Whether the front matter of a dataset card tells what the Parquet files beside it hold.

`load_dataset` believes the card: counts that are out of date make it raise NonMatchingSplitsSizesError.
"""

from __future__ import annotations

import fnmatch
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from hubdpo.artefacts.formats.parquet_footers import read_footer
from hubdpo.cards.lint.finding import FileContent, Finding
from hubdpo.cards.lint.told_splits import told_splits
from hubdpo.errors import ArtefactError

AGAIN = "hubdpo prepare writes it anew"


def lint_data(front: Mapping[str, Any], files: Mapping[str, FileContent | None]) -> Iterator[Finding]:
    """Give what is wrong with `configs` and `dataset_info`."""
    if "configs" not in front:
        yield Finding("configs", "is missing, so the splits are guessed from the names of the files", AGAIN)
        return
    problem, splits = _splits(front["configs"], files)
    if problem:
        yield Finding("configs", problem, AGAIN)
        return
    unused = [name for name in files if name.endswith(".parquet") and not any(name in held for held in splits.values())]
    if unused:
        yield Finding("configs", f"has `{sorted(unused)[0]}` in no split", AGAIN)
    if "dataset_info" not in front:
        return
    info = front["dataset_info"]
    if not isinstance(info, dict) or not isinstance(info.get("splits"), list):
        yield Finding("dataset_info", "must hold `features` and `splits`", AGAIN)
        return
    for message in _differences(info, splits, files):
        yield Finding("dataset_info", message, AGAIN)


def _splits(configs: Any, files: Mapping[str, FileContent | None]) -> tuple[str | None, dict[str, list[str]]]:
    """Return what is wrong, or the files of each split of the first config."""
    if not isinstance(configs, list) or not configs:
        return "must be a list", {}
    found: dict[str, list[str]] = {}
    for config in configs:
        if not isinstance(config, dict) or not isinstance(config.get("config_name"), str):
            return "has an entry without a `config_name`", {}
        entries = config.get("data_files")
        if not isinstance(entries, list):
            return f"names no `data_files` for `{config['config_name']}`", {}
        for entry in entries:
            if not isinstance(entry, dict) or not {"split", "path"} <= entry.keys():
                return f"has data_files of `{config['config_name']}` without `split` and `path`", {}
            paths = entry["path"] if isinstance(entry["path"], list) else [entry["path"]]
            held = [name for name in files if any(fnmatch.fnmatch(name, str(path)) for path in paths)]
            if not held:
                return f"names files that are not there: {', '.join(map(str, paths))}", {}
            found.setdefault(str(entry["split"]), []).extend(held)
    return None, found


def _differences(
    info: Mapping[str, Any], splits: Mapping[str, list[str]], files: Mapping[str, FileContent | None]
) -> Iterator[str]:
    try:
        told = told_splits(info) or {}
    except ValueError as problem:
        yield f"is wrong: {problem}"
        return
    if set(told) != set(splits):
        yield f"has the splits {_list(told)}, and the files {_list(splits)}"
        return
    held = {name: files[name] for names in splits.values() for name in names}
    if not held or not all(name.endswith(".parquet") for name in held) or None in held.values():
        return
    counts: dict[str, int] = {}
    schemas = []
    for name, content in held.items():
        with _opened(content) as stream:
            try:
                counts[name], schema = read_footer(stream, name, hint=AGAIN)
            except ArtefactError as problem:
                yield f"cannot be compared: {problem.message}"
                return
        schemas.append(schema)
    for split, names in splits.items():
        rows = sum(counts[name] for name in names)
        if told[split] != rows:
            yield f"says {told[split]} rows of {split}, and the files have {rows}"
    schema = schemas[0]
    actual: list[dict[str, Any]] = [{"name": field.name, **_feature(field.type)} for field in schema]
    if info.get("features") != actual:
        features = info.get("features")
        listed = features if isinstance(features, list) else []
        names = [str(feature.get("name")) for feature in listed if isinstance(feature, dict)]
        if names != schema.names:
            yield f"says the columns {_list(names)}, and the files have {_list(schema.names)}"
        else:
            yield "gives a column another type than the files have"
    size = sum(_size(content) for content in held.values() if content is not None)
    sizes = [split.get("num_bytes", 0) for split in info["splits"]]
    if not all(isinstance(one, int) for one in sizes) or info.get("dataset_size") != sum(sizes):
        yield "has a `dataset_size` that is not the sum of its splits"
    if not isinstance(info.get("download_size"), int) or info["download_size"] < size:
        yield f"has a `download_size` below the {size} bytes of its files"


def _feature(kind: Any) -> dict[str, Any]:
    """Write an Arrow type as `datasets` writes it in a card."""
    import pyarrow.types as types

    if types.is_list(kind) or types.is_large_list(kind):
        inner = _feature(kind.value_type)
        return {"list": inner.get("struct", inner.get("dtype", inner))}
    if types.is_struct(kind):
        return {"struct": [{"name": part.name, **_feature(part.type)} for part in kind]}
    names = {"double": "float64", "float": "float32", "large_string": "string"}
    return {"dtype": names.get(str(kind), str(kind))}


def _opened(content: FileContent | None) -> IO[bytes]:
    return content.open("rb") if isinstance(content, Path) else io.BytesIO(content or b"")


def _size(content: FileContent) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _list(names: Any) -> str:
    return ", ".join(map(str, names)) or "none"
