"""What others published is read within limits: of size before a byte is read, of depth and number before it is used.

Whoever makes a repo chooses how large its JSON is and how deeply nested, so every reader of such a file, and of a card,
goes through here. An error names the file and the limit.
"""

from __future__ import annotations

import json
import math
import stat
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from hubdpo.errors import ArtefactError

JsonObject = dict[str, Any]
"""A parsed JSON object, whose values are of any kind until they are checked."""
MB = 1_000_000
LIMITS = {
    "README.md": 2 * MB,
    "hubdpo.json": 16 * MB,
    "release.json": 16 * MB,
    "prepare.json": 32 * MB,
    "metrics.jsonl": 64 * MB,
    "model.safetensors.index.json": 32 * MB,
    "tokenizer.json": 64 * MB,
    "vocab.json": 16 * MB,
    "merges.txt": 16 * MB,
    "vocab.txt": 16 * MB,
    "tokenizer.model": 16 * MB,
    "spiece.model": 16 * MB,
    "chat_template.jinja": MB,
}
"""Most bytes of a file, by its name. The largest tokenizers in use take 34 MB; 100,000 sources in prepare.json, 15."""
OTHERWISE = 4 * MB
OF_PYTHON = frozenset(
    {
        "config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json",
        "added_tokens.json", "chat_template.json", "processor_config.json", "preprocessor_config.json",
    }
)  # fmt: skip
"""Files that Python's json wrote and reads, Infinity among their numbers: Mamba's `time_step_limit` ends in it."""
MOST_VALUES = 4_000_000
"""Values of one JSON file: each takes up to 240 bytes of memory, and the largest tokenizers have 2 million."""
MOST_DEPTH = 100
MOST_DIGITS = 40
HINT = "tell whoever made it; hubdpo writes none such"


def limit_of(name: str) -> int:
    """Return the most bytes that are read of a file of this name, whatever folder it is in."""
    return LIMITS.get(PurePosixPath(name).name, OTHERWISE)


def check_size(name: str, size: int, *, of: str = "") -> None:
    """Raise ArtefactError for a file that is too large to be read. `of` says where it is."""
    if size > limit_of(name):
        raise ArtefactError(
            f"`{name}`{f' of {of}' if of else ''} has {size:,} bytes, and at most {limit_of(name):,} are read of it",
            hint=HINT,
        )


def read_bytes(path: Path, *, of: str = "") -> bytes:
    """Read a file as far as its limit. Raise ArtefactError for a larger one, or one that is no file; else OSError."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):  # a device never ends, and a pipe waits
        raise ArtefactError(f"`{path.name}`{f' of {of}' if of else ''} is no plain file", hint="put the file there")
    check_size(path.name, found.st_size, of=of)
    with path.open("rb") as stream:
        data = stream.read(limit_of(path.name) + 1)
    check_size(path.name, len(data), of=of)
    return data


def read_text(path: Path, *, of: str = "") -> str:
    """Read a text as far as its limit, what is not UTF-8 replaced. Raise what `read_bytes` raises."""
    return read_bytes(path, of=of).decode("utf-8", "replace")


def read_object(path: Path, *, of: str = "") -> JsonObject:
    """Read a JSON object. Raise ArtefactError, naming the file, for whatever else it is; OSError when it is not there.

    `of` names the folder or repo, where the name alone does not tell.
    """
    return parse_object(read_bytes(path, of=of), path.name, of=of)


def parse_object(data: bytes | str, name: str, *, of: str = "") -> JsonObject:
    """Return the JSON object in the bytes of the file `name`. Raise ArtefactError for whatever else they are."""
    where = f"`{name}`{f' of {of}' if of else ''}"
    check_size(name, len(data), of=of)
    try:
        value = parse_file(data, name)
    except ValueError as problem:
        raise ArtefactError(f"{where} cannot be read: {problem}", hint=HINT) from None
    if not isinstance(value, dict):
        raise ArtefactError(f"{where} is no JSON object", hint=HINT)
    return value


def parse_file(data: bytes | str, name: str) -> Any:
    """Return the JSON value that others wrote into the file `name`. Raise what `parse_json` raises."""
    return parse_json(data, constants=PurePosixPath(name).name in OF_PYTHON)


def parse_json(data: bytes | str, *, ours: bool = False, constants: bool = False) -> Any:
    """Return a JSON value. Raise ValueError, saying in one line what is wrong or which limit it is beyond.

    NaN and infinity are refused, as JSON has neither, unless `constants`, and of a key that is given twice the last
    counts, as for every reader of such files. With `ours` they are taken, and a key that is given twice is refused.
    """
    inner = check_count(data)
    hooks: dict[str, Any] = {"object_pairs_hook": _once} if ours else {}
    if not (ours or constants):
        hooks["parse_constant"] = _no_number
    try:
        value = json.loads(data, parse_int=_int, parse_float=_float, **hooks)
    except RecursionError:
        raise ValueError(f"it is nested more than {MOST_DEPTH} deep") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as problem:
        raise ValueError(f"it is not JSON: {problem}") from None
    if inner > MOST_DEPTH:  # fewer brackets cannot be nested deeper
        check_depth(value)
    return value


def check_count(data: bytes | str) -> int:
    """Return the number of lists and objects in JSON, at most. Raise ValueError for too many values."""
    comma, lists, objects = (",", "[", "{") if isinstance(data, str) else (b",", b"[", b"{")
    inner = data.count(lists) + data.count(objects)  # type: ignore[arg-type]
    if inner + data.count(comma) > MOST_VALUES:  # type: ignore[arg-type]
        raise ValueError(f"it has more than {MOST_VALUES:,} values")
    return inner


def check_depth(value: Any) -> None:
    """Raise ValueError for lists and objects within one another to more than MOST_DEPTH."""
    level: list[Any] = [[value]]
    for _ in range(MOST_DEPTH + 1):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    raise ValueError(f"it is nested more than {MOST_DEPTH} deep")


def _int(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"it has a number of {len(text):,} digits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"it has a number that is too large: {text[:MOST_DIGITS]}")
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"it has {name} in place of a number")


def _once(pairs: list[tuple[str, Any]]) -> JsonObject:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"it gives {twice[:80]!r} twice")
    return found


def shortened(text: str, most: int) -> str:
    """Return a text of at most so many characters, one that is longer with the number that it has."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"
