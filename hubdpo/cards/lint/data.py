"""Compare `configs` and `dataset_info` of a dataset card with the Parquet files of the repo.

`load_dataset` relies on the card: with outdated counts it raises NonMatchingSplitsSizesError.
"""

from __future__ import annotations

import fnmatch
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hubdpo.artefacts.formats.bounded import shortened
from hubdpo.artefacts.formats.parquet_footers import is_objects, read_footer
from hubdpo.cards.lint.finding import FileContent, Finding
from hubdpo.cards.render import Front
from hubdpo.errors import ArtefactError

if TYPE_CHECKING:
    import pyarrow as pa

Files = Mapping[str, FileContent | None]
"""The files of a repo by path; None if the content is not available: the card is then not compared with it."""
MOST_ROWS = 2**53
AGAIN = "write it again with `hubdpo prepare`"


def lint_data(front: Front, files: Files) -> Iterator[Finding]:
    """Yield the problems of `configs` and `dataset_info`."""
    if "configs" not in front:
        yield Finding("configs", "is missing, so the Hub guesses the splits from the file names", AGAIN)
        return
    problem, splits = _splits(front["configs"], files)
    if problem:
        yield Finding("configs", problem, AGAIN)
        return
    unused = [
        name for name in files if name.endswith(".parquet") and not any(name in names for names in splits.values())
    ]
    if unused:
        yield Finding("configs", f"has no split for `{sorted(unused)[0]}`", AGAIN)
    if "dataset_info" not in front:
        return
    info = front["dataset_info"]
    if not isinstance(info, dict) or not isinstance(info.get("splits"), list):
        yield Finding("dataset_info", "must have `features` and `splits`", AGAIN)
        return
    for message in _differences(info, splits, files):
        yield Finding("dataset_info", message, AGAIN)


def _splits(configs: object, files: Files) -> tuple[str | None, dict[str, list[str]]]:
    if not isinstance(configs, list) or not configs:
        return "must be a list", {}
    splits: dict[str, list[str]] = {}
    for config in configs:
        if not isinstance(config, dict) or not isinstance(config.get("config_name"), str):
            return "has an entry without a `config_name`", {}
        entries = config.get("data_files")
        if not isinstance(entries, list):
            return f"has no `data_files` for `{config['config_name']}`", {}
        for entry in entries:
            if not isinstance(entry, dict) or not {"split", "path"} <= entry.keys():
                return f"has `data_files` of `{config['config_name']}` without `split` and `path`", {}
            paths = entry["path"] if isinstance(entry["path"], list) else [entry["path"]]
            names = [name for name in files if any(fnmatch.fnmatch(name, str(path)) for path in paths)]
            if not names:
                return f"names missing files: {_list(paths)}", {}
            splits.setdefault(str(entry["split"]), []).extend(names)
    return None, splits


def _differences(info: Front, splits: Mapping[str, list[str]], files: Files) -> Iterator[str]:
    try:
        stated = split_rows(info) or {}
    except ValueError as problem:
        yield f"is malformed: {problem}"
        return
    if set(stated) != set(splits):
        yield f"has the splits {_list(stated)}, `configs` has {_list(splits)}"
        return
    contents = {name: files[name] for names in splits.values() for name in names}
    if not contents or not all(name.endswith(".parquet") for name in contents) or None in contents.values():
        return
    counts: dict[str, int] = {}
    schemas = []
    for name, content in contents.items():
        with content.open("rb") if isinstance(content, Path) else io.BytesIO(content or b"") as stream:
            try:
                counts[name], schema, _ = read_footer(stream, name, hint=AGAIN)
            except ArtefactError as problem:
                yield f"cannot be compared: {problem.message}"
                return
        schemas.append(schema)
    for split, names in splits.items():
        rows = sum(counts[name] for name in names)
        if stated[split] != rows:
            yield f"has {stated[split]} rows of {split}, the files have {rows}"
    schema = schemas[0]
    actual: list[Front] = [{"name": field.name, **_feature(field.type)} for field in schema]
    if info.get("features") != actual:
        names = column_names(info)
        if names != schema.names:
            yield f"has the columns {_list(names)}, the files have {_list(schema.names)}"
        else:
            yield "has another type for a column than the files"
    size = sum(c.stat().st_size if isinstance(c, Path) else len(c) for c in contents.values() if c is not None)
    sizes = [split.get("num_bytes", 0) for split in info["splits"]]
    if not all(isinstance(size_, int) for size_ in sizes) or info.get("dataset_size") != sum(sizes):
        yield "has a `dataset_size` that is not the sum of its splits"
    if not isinstance(info.get("download_size"), int) or info["download_size"] < size:
        yield f"has a `download_size` below the {size} bytes of the files"


def _feature(kind: pa.DataType) -> Front:
    """Return an Arrow type in the form that `datasets` writes to a card."""
    import pyarrow.types as types

    if is_objects(kind):
        return {"list": "json"}
    if types.is_list(kind) or types.is_large_list(kind):
        inner = _feature(kind.value_type)
        return {"list": inner.get("struct", inner.get("dtype", inner))}
    if types.is_struct(kind):
        return {"struct": [{"name": part.name, **_feature(part.type)} for part in kind]}
    names = {"double": "float64", "float": "float32", "large_string": "string"}
    return {"dtype": names.get(str(kind), str(kind))}


def _list(names: Iterable[object]) -> str:
    return ", ".join(map(str, names)) or "none"


def split_rows(info: object) -> dict[str, int] | None:
    """Return the number of rows of each split, None if `dataset_info` has no splits.

    Raise ValueError, naming the field, for a malformed `dataset_info`.
    """
    if isinstance(info, list) and len(info) == 1:
        info = info[0]
    if info is None or (isinstance(info, list) and info):  # several configurations: none is the default
        return None
    if not isinstance(info, Mapping):
        raise ValueError("`dataset_info` is not a mapping")
    splits = info.get("splits")
    if splits is None:
        return None
    if not isinstance(splits, list):
        raise ValueError(f"`dataset_info.splits` is not a list: {_cut(splits)}")
    rows_of: dict[str, int] = {}
    for number, split in enumerate(splits):
        field = f"dataset_info.splits[{number}]"
        if not isinstance(split, Mapping):
            raise ValueError(f"`{field}` is not a mapping with a `name`: {_cut(split)}")
        for key in ("name", "num_examples"):
            if key not in split:
                raise ValueError(f"`{field}.{key}` is missing")
        name, rows = split["name"], split["num_examples"]
        if not isinstance(name, str):
            raise ValueError(f"`{field}.name` is not text: {_cut(name)}")
        if name in rows_of:
            raise ValueError(f"`{field}.name` is repeated: {_cut(name)}")
        if not isinstance(rows, int) or isinstance(rows, bool) or not 0 <= rows <= MOST_ROWS:
            raise ValueError(f"`{field}.num_examples` is not a number of rows: {_cut(rows)}")
        rows_of[name] = rows
    return rows_of


def column_names(info: Front) -> list[str]:
    """Return the names of the features of `dataset_info`, without those that are malformed."""
    features = info.get("features")
    listed = features if isinstance(features, list) else []
    return [str(feature.get("name")) for feature in listed if isinstance(feature, dict)]


def _cut(value: object) -> str:
    return shortened(repr(value), 60)
