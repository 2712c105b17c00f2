"""Whether the front matter of a dataset card tells what the Parquet files beside it hold.

`load_dataset` believes the card: counts that are out of date make it raise NonMatchingSplitsSizesError.
"""

from __future__ import annotations

import fnmatch
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hubdpo.cards.finding import FileContent, Finding

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
    import pyarrow.parquet as pq

    told = {split.get("name"): split for split in info["splits"] if isinstance(split, dict)}
    if set(told) != set(splits):
        yield f"has the splits {_list(told)}, and the files {_list(splits)}"
        return
    held = {name: files[name] for names in splits.values() for name in names}
    if any(content is None for content in held.values()):
        return
    parquet = {name: pq.ParquetFile(_source(content)) for name, content in held.items() if content is not None}
    for split, names in splits.items():
        rows = sum(parquet[name].metadata.num_rows for name in names)
        if told[split].get("num_examples") != rows:
            yield f"says {told[split].get('num_examples')} rows of {split}, and the files have {rows}"
    schema = next(iter(parquet.values())).schema_arrow
    actual: list[dict[str, Any]] = [{"name": field.name, **_feature(field.type)} for field in schema]
    if info.get("features") != actual:
        names = [str(feature.get("name")) for feature in info.get("features") or [] if isinstance(feature, dict)]
        if names != schema.names:
            yield f"says the columns {_list(names)}, and the files have {_list(schema.names)}"
        else:
            yield "gives a column another type than the files have"
    size = sum(_size(content) for content in held.values() if content is not None)
    if info.get("dataset_size") != sum(split.get("num_bytes", 0) for split in told.values()):
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


def _source(content: FileContent) -> Any:
    return io.BytesIO(content) if isinstance(content, bytes) else Path(content)


def _size(content: FileContent) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _list(names: Any) -> str:
    return ", ".join(map(str, names)) or "none"
