"""From what people name (files, folders, globs, stdin, Hub and fsspec addresses) to files of a kind that is read."""

from __future__ import annotations

import shlex
import shutil
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem

from hubdpo import console
from hubdpo.artefacts.folders import storage
from hubdpo.artefacts.folders.walk import files_below, matching
from hubdpo.data.raw.raw_file import ENDINGS, KINDS, PACKED, READS, STDIN, TABLES, RawFile, listed
from hubdpo.data.raw.sources.hub_configs import CARD_FILE, choose, declared_splits, read_configs
from hubdpo.data.raw.sources.kinds import BLOCK, NOT_ROWS, _unknown, refuse_binary, refuse_selection
from hubdpo.data.raw.sources.state import let_clock_tick, state_of
from hubdpo.data.raw.split_names import Split, is_split_name, split_of
from hubdpo.data.raw.text.json_values import is_utf8
from hubdpo.errors import DataError
from hubdpo.hub.client import download, resolve_address
from hubdpo.hub.reference import DATASETS
from hubdpo.secrets import known_secrets


def find_sources(sources: list[str], scratch: str) -> list[RawFile]:
    """Give the files behind files, folders, globs, `-` and addresses, in the order given and by name.

    Raise DataError when a source is missing, empty, of an unknown kind or not to be read. stdin is kept in `scratch`.
    """
    found = [replace(file, argument=source) for source in sources for file in _expand(source, scratch)]
    files = [
        replace(file, number=number, state=state_of(file.original, file.name)) for number, file in enumerate(found)
    ]
    let_clock_tick([file.state for file in files])
    for file in files:
        _check(file)
    return files


def _expand(source: str, scratch: str) -> list[RawFile]:
    if source in ("-", "/dev/stdin"):
        place = storage.join(scratch, "stdin.jsonl")
        with storage.open_write(place) as stream:
            shutil.copyfileobj(sys.stdin.buffer, stream, BLOCK)
        return [RawFile(place, STDIN, place)]
    if source.startswith(DATASETS):
        return _from_hub(source)
    if storage.is_url(source):
        return _from_url(source)
    path = Path(source)
    if path.is_dir():
        return _in_folder(path, source)
    if path.exists():
        return [_named(path)]
    matches = matching(source)
    if not matches:
        raise DataError(f"source not found: {source}", hint="check the path, or quote the glob")
    return [_named(Path(match)) for match in matches if Path(match).is_file()]


def _named(path: Path) -> RawFile:
    """Give a file that was named itself; the folder it is in tells its split only when it is called as one."""
    parent = path.parent.name
    return _local(path, path.name, split_of(f"{parent}/{path.name}" if is_split_name(parent) else path.name))


def _local(path: Path, name: str, split: Split | None) -> RawFile:
    return RawFile(str(path), name, str(path), split)


def _in_folder(folder: Path, source: str) -> list[RawFile]:
    known = [path for path in files_below(folder) if path.name.lower().endswith(ENDINGS)]
    found = [path for path in known if path.name not in NOT_ROWS and not _is_cache(path) and not _is_lock(path)]
    if passed := [path.relative_to(folder).as_posix() for path in known if path not in found]:
        console.info(f"passed over in {source}, as no rows of its own: {listed(passed)}")
    if not found:
        raise DataError(f"the folder holds no file to read: {source}", hint=READS)
    names = [path.relative_to(folder).as_posix() for path in found]
    above = f"{folder.name}/" if is_split_name(folder.name) else ""
    return [_local(path, name, split_of(above + name)) for path, name in zip(found, names, strict=True)]


def _is_cache(path: Path) -> bool:
    """Tell whether a file is what `datasets` keeps of an earlier `map` beside the rows."""
    return path.name.startswith("cache-") and path.suffix == ".arrow" and (path.parent / "dataset_info.json").exists()


def _is_lock(path: Path) -> bool:
    """Tell whether this is the mark that Emacs puts beside a file which has unsaved changes."""
    return path.name.startswith(".#") and path.is_symlink()


def _holds_rows(name: str) -> bool:
    return name.lower().endswith(ENDINGS) and name not in NOT_ROWS


def _from_url(url: str) -> list[RawFile]:
    system, path = storage.filesystem(url)
    pattern = storage.join(path, "**") if system.isdir(path) else path
    found = sorted(name for name in system.glob(pattern) if system.isfile(name))
    if system.isdir(path):
        if isinstance(system, LocalFileSystem):  # which passes over what may not be listed
            files_below(Path(path))
        found = [name for name in found if _holds_rows(name.rsplit("/", 1)[-1])]
    if not found:
        raise DataError(f"source not found: {url}", hint="check the address, or quote the glob")
    addresses = [(str(system.unstrip_protocol(name)), name.removeprefix(path).lstrip("/")) for name in found]
    return [
        RawFile(address, Path(address).name, address, split_of(inside or Path(address).name))
        for address, inside in addresses
    ]


def _from_hub(source: str) -> list[RawFile]:
    from huggingface_hub.utils import filter_repo_objects

    repo, path = resolve_address(source)
    get = partial(download, repo.repo_id, str(repo.revision), repo_type="dataset")
    configs = read_configs(get(allow_patterns=[CARD_FILE]) / CARD_FILE)
    config, inside = choose(configs, repo, path)
    if config is not None:
        patterns = config.patterns()
    else:
        patterns = [inside, f"{inside}/*"] if inside else [f"*{ending}" for ending in ENDINGS]
    folder = get(allow_patterns=patterns)
    found = _in_folder(folder, source)
    if config is not None:
        splits = config.splits(folder)
        wanted = [file for file in found if file.name in splits]
    else:
        splits = declared_splits(configs, folder)
        # the cache's folder may hold other files of the same commit, from other downloads
        wanted = list(filter_repo_objects(found, allow_patterns=patterns, key=lambda file: file.name))
    if not wanted:
        raise DataError(f"source not found: {source}", hint="check the path against the files of the repo")
    address = f"{DATASETS}{repo}/{path}" if path else f"{DATASETS}{repo}"
    return [
        replace(file, name=f"{DATASETS}{repo}/{file.name}", split=splits.get(file.name) or file.split, address=address)
        for file in wanted
    ]


def _check(file: RawFile) -> None:
    if not is_utf8(f"{file.name}{file.argument}".encode(errors="surrogateescape")):
        raise DataError(
            f"the name of a source is not UTF-8, and names are recorded: {ascii(file.argument or file.name)}",
            hint="rename it",
        )
    if found := known_secrets(file.name):
        raise DataError(
            f"the name of a source holds a {found[0].kind}, and names are recorded",
            hint="rename the file, and revoke the credential",
        )
    if file.kind not in KINDS:
        raise _unknown(file)
    if file.kind in TABLES and file.path.lower().endswith(PACKED):
        command = "gunzip" if file.path.lower().endswith(".gz") else "unzstd"
        raise DataError(
            f"tables are compressed inside; unpack {file.name} first", hint=f"{command} {shlex.quote(file.typed)}"
        )
    if storage.size_of(file.path) == 0:
        raise DataError(f"the file is empty: {file.name}", hint="check how it was written")
    if file.kind == ".arrow" and not storage.is_url(file.path):
        refuse_selection(Path(file.path))
    if file.kind not in TABLES and not file.path.lower().endswith(PACKED):
        refuse_binary(file)
