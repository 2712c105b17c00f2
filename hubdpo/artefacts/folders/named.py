"""Tell what a user named on this machine, before anything else is imported or opened, and what was probably meant."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from hubdpo.artefacts.folders.model_files import ADAPTER_CONFIG, CONFIG
from hubdpo.artefacts.formats.bounded import read_object
from hubdpo.artefacts.manifests.manifest import MERGE_FILE, PREPARE_FILE, RUN_FILE, SWEEP_FILE
from hubdpo.config.flags import quoted
from hubdpo.config.repo_id import looks_like_folder
from hubdpo.errors import ArtefactError, Instead

MARKS = {
    RUN_FILE: "run", SWEEP_FILE: "sweep", PREPARE_FILE: "dataset", MERGE_FILE: "merged model",
    ADAPTER_CONFIG: "adapter", CONFIG: "model",
}  # fmt: skip
"""The file by which each kind of folder is known; the first that is there decides."""
A_WHAT = {what: f"{'an' if what == 'adapter' else 'a'} {what}" for what in MARKS.values()}
RAW_NAME = re.compile(r"\.(jsonl?|ndjson|csv|tsv|parquet|arrow|xlsx|txt|ya?ml)(\.(gz|zst|bz2|xz))?$", re.IGNORECASE)
_ENDING = re.compile(r"(?<=.)\.[a-z][a-z0-9]*(\.(gz|zst|bz2|xz))?$", re.IGNORECASE)
"""The ending of a file's name; `.1-8b` is none, as in `llama-3.1-8b`."""
EXAMPLE_BASE = "Qwen/Qwen2-7B-Instruct"
RELEASED = ("run", "merged model", "dataset", "sweep")
"""The kinds of folders that are published; of a sweep, its best run."""
ANY = (*RELEASED, "adapter", "model")
"""All kinds, those first that stages write."""
MOST_LOOKED_AT = 1000
"""Entries of a folder among which what was meant is looked for."""


def what_is(folder: Path) -> str | None:
    """Return the kind of a folder, None for one that no stage wrote or reads, or whose files this user may not see."""
    return next((what for name, what in MARKS.items() if is_file(folder / name)), None)


def is_file(word: str | Path) -> bool:
    """Tell whether any word is a file here; one that is too long for a name, or may not be seen, is none.

    Path.is_file raises for these, and a prompt is longer than a name.
    """
    return os.path.isfile(word)  # noqa: PTH113


def is_folder(word: str | Path) -> bool:
    """Tell whether any word is a folder here, like `is_file`."""
    return os.path.isdir(word)  # noqa: PTH112


def check_named(ref: str | Path, wanted: Sequence[str], *, besides: str | None = None) -> None:
    """Raise ArtefactError if `ref` is a file, is not there, or is a folder of another kind than those `wanted`.

    A name on the Hub, which a Path never is, passes, and a folder that may hold what is wanted: what opens it says what
    it lacks. The hint is an `Instead`, see `meant`; a folder that is named `besides` is not meant, and tells the kind.
    """
    is_path = isinstance(ref, Path)
    ref, path = str(ref), Path(ref)
    if path.is_dir():
        what = what_is(path)
        holds_adapter = what in ("run", "sweep", "adapter") and not {"run", "adapter"}.isdisjoint(wanted)
        if what is None or what in wanted or holds_adapter:
            return
        problem = f"`{ref}` is {A_WHAT[what]}, not {_any_of(wanted)}"
    elif path.is_file():
        problem = f"`{ref}` is {'raw data' if wanted == ('dataset',) else 'a file'}, not {_any_of(wanted)}"
    elif not is_path and not looks_like_folder(ref):
        return
    elif "dataset" in wanted and RAW_NAME.search(ref):
        problem = f"`{ref}` is not there, and is named like raw data, not like a dataset folder"
    else:
        problem = f"{'dataset ' * (wanted == ('dataset',))}folder not found: {ref}"
    kind = what_is(Path(besides)) if besides is not None else None
    raise ArtefactError(problem, hint=meant(ref, wanted if kind is None else (kind,), besides=besides))


def meant(ref: str, wanted: Sequence[str], *, besides: str | None = None) -> Instead:
    """Return what to give in place of `ref`: what is here, of the first kind that is `wanted`, or what makes one."""
    path = Path(ref)
    is_file, is_data = path.is_file(), path.is_dir() and what_is(path) == "dataset"
    if not (is_file and "dataset" in wanted):
        here = [each for each in beside(path, wanted) if besides is None or not _is_same(each, besides)]
        if here:
            return Instead(ref, here[0])
        if besides is not None or wanted == ("adapter",):  # which another tool makes
            return Instead(ref, "USER/NAME")
    made = "data" if "dataset" in wanted else "run"
    name = unused(made, path) if path.exists() or RAW_NAME.search(ref) else ref
    if made == "data":
        known = ref if is_file or RAW_NAME.search(ref) else "SOURCE"
        raw = ref if is_file else next(iter(raw_beside(path)), known)
        return Instead(ref, name, after=f"hubdpo prepare {quoted(raw)} -o {quoted(name)}")
    data = ref if is_data else next(iter(beside(path, ("dataset",))), "DATASET")
    train = f"hubdpo train --model-name-or-path {EXAMPLE_BASE} --dataset {quoted(data)} -o {quoted(name)}"
    return Instead(ref, name, after=train)


def beside(path: Path, wanted: Sequence[str]) -> list[str]:
    """Return the folders of these kinds beside a path: the nearest by name, then by kind, as `wanted`, and by age.

    A run that is not finished is of no use to another command, and is left out.
    """
    found = [
        (wanted.index(kind), depth, -folder.stat().st_mtime, name)
        for depth, folder, name in _folders(path)
        if (kind := what_is(folder)) in wanted and not _is_same(folder, path) and not _is_unfinished(folder)
    ]  # fmt: skip
    names = [name for *_, name in sorted(found)]
    near = difflib.get_close_matches(path.name, names, n=1)
    return [_spelled(path, name) for name in (*near, *(name for name in names if name not in near))]


def near_folder(ref: str, wanted: Sequence[str] = ANY) -> Instead | None:
    """Return the folder of a kind that is `wanted` whose name is nearly `ref`, in the folder that `ref` says."""
    path = Path(ref)
    if not path.parent.is_dir():
        return None
    here = {Path(each).name: each for each in reversed(beside(path, wanted))}
    near = difflib.get_close_matches(path.name, here, n=1)
    return Instead(ref, here[near[0]]) if near else None


def raw_beside(path: Path) -> list[str]:
    """Return the files of raw data beside a path whose names are near to its own, then the only one there is."""
    rows = [each.name for each in _raw_entries(path)]
    stems = {name.partition(".")[0]: name for name in rows}  # endings are alike, and would make all names near
    near = [stems[stem] for stem in difflib.get_close_matches(path.name.partition(".")[0], stems, n=1)]
    return [_spelled(path, name) for name in near or (rows if len(rows) == 1 else [])]


def raw_here() -> list[str]:
    """Return the files of raw data in the folder that the user is in, the newest first."""
    return [each.name for each in sorted(_raw_entries(Path()), key=lambda each: -each.stat().st_mtime)]


def _raw_entries(path: Path) -> list[os.DirEntry[str]]:
    """Return the entries beside a path that are named like raw data, and not like what the stages write."""
    no_rows = re.compile(r"\.(txt|ya?ml)$|^(prepare|run|eval)", re.IGNORECASE)
    files = [each for each in _entries(path) if is_file(each.path) and RAW_NAME.search(each.name)]
    return [each for each in files if not no_rows.search(each.name)]


def raw_instead(ref: str) -> Instead | None:
    """Return the raw data that is here in place of a file that is not there or cannot be read, None where none is."""
    found = next((name for name in raw_beside(Path(ref)) if not _is_same(name, ref)), None)
    return None if found is None else Instead(ref, found)


def base_instead(ref: str) -> Instead:
    """Return a base in place of a model that is none: one that is here, or an example on the Hub."""
    return Instead(ref, next(iter(beside(Path(ref), ("model", "merged model"))), EXAMPLE_BASE))


def unused(name: str, beside: Path) -> str:
    """Return `name` if there is no such path yet, else with the name of the file that it is made of."""
    return name if not os.path.lexists(name) else free(f"{beside.name.partition('.')[0] or 'my'}-{name}")


def free(path: str) -> str:
    """Return a path to write to: this one if it is not there yet, else one like it."""
    return another(path) if os.path.lexists(path) else path


def another(path: str) -> str:
    """Return a path like this one that is not there yet: `run-2` for `run`, `rows-2.jsonl.gz` for `rows.jsonl.gz`.

    It is in the folder that the user is in where that of the path is not there, or takes no files of this user.
    """
    path = path.rstrip("/") or path
    folder, slash, name = path.rpartition("/")
    if slash and "://" not in path:
        place = folder or slash
        if not is_folder(place) or not os.access(place, os.W_OK | os.X_OK):
            folder = slash = ""
    ending = _ENDING.search(name)
    stem = name[: ending.start()] if ending else name
    names = (name, *(f"{stem}-{number}{ending[0] if ending else ''}" for number in range(2, 1000)))
    others = (f"{folder}{slash}{each}" for each in names)
    return next((each for each in others if each != path and not os.path.lexists(each)), path)


def _is_unfinished(folder: Path) -> bool:
    try:
        return read_object(folder / RUN_FILE).get("status") == "running"
    except (OSError, ArtefactError):  # it is no run, or a damaged one, of which another command tells more
        return False


def _is_same(one: str | Path, other: str | Path) -> bool:
    return os.path.normpath(one) == os.path.normpath(other)


def _entries(path: Path) -> list[os.DirEntry[str]]:
    """Return what is beside a path, or here if its folder is not there."""
    try:
        with os.scandir(folder_of(path)) as entries:
            return list(islice(entries, MOST_LOOKED_AT))
    except OSError:
        return []


def _folders(path: Path) -> Iterator[tuple[int, Path, str]]:
    """Yield the folders beside a path, then those in folders there that no stage made, with their depth and name."""
    here = [each for each in _entries(path) if is_folder(each.path)]
    yield from ((0, Path(each.path), each.name) for each in here)
    others = (each for each in here if not each.name.startswith(".") and what_is(Path(each.path)) is None)
    inside = ((each, inner) for each in others for inner in _entries(Path(each.path) / "_"))
    for each, inner in islice(inside, MOST_LOOKED_AT):
        if is_folder(inner.path):
            yield 1, Path(inner.path), f"{each.name}/{inner.name}"


def _spelled(path: Path, name: str) -> str:
    """Return another name in the folder of a path, as the path was written."""
    return str(folder_of(path) / name)


def folder_of(path: Path) -> Path:
    """Return the folder of a path, or the one that the user is in if that is not there."""
    return path.parent if path.parent.is_dir() else Path()


def _any_of(wanted: Sequence[str]) -> str:
    if len(wanted) == len(ANY):
        return "a folder"
    *others, last = (A_WHAT[what] for what in wanted if what != "sweep")
    return f"{', '.join(others)} or {last}" if others else last
