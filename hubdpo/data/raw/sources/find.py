"""Find the files behind the sources that a user names: files, folders, globs, stdin, Hub and fsspec addresses."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem

from hubdpo import console
from hubdpo.artefacts.folders import storage
from hubdpo.artefacts.folders.model_files import ADAPTER_CONFIG, CONFIG
from hubdpo.artefacts.folders.named import A_WHAT, folder_of, raw_instead, what_is
from hubdpo.artefacts.folders.walk import files_below, matching
from hubdpo.artefacts.formats.bounded import read_object
from hubdpo.config.repo_id import is_repo_id
from hubdpo.data.raw.raw_file import ENDINGS, READS, STDIN, TABLES, RawFile
from hubdpo.data.raw.rows import BLOCK
from hubdpo.data.raw.sources.hub_configs import CARD_FILE, HubConfig, choose_config, common_splits, read_configs
from hubdpo.data.raw.sources.kinds import check_kind
from hubdpo.data.raw.sources.state import let_clock_tick, state_of
from hubdpo.data.raw.split_names import is_split_name, split_of
from hubdpo.data.raw.text.encodings import is_utf8
from hubdpo.errors import DataError, HubdpoError, HubError, Instead
from hubdpo.hub.client import download, exists, resolve, resolve_address
from hubdpo.hub.failures import translate_errors
from hubdpo.hub.reference import DATASETS, HUB
from hubdpo.hub.transport import PUBLIC_HUB, hub_address
from hubdpo.secrets import known_secrets

NOT_ROWS = frozenset({
    "prepare.json", "hubdpo.json", "release.json", "rejected.jsonl", "dataset_info.json", "dataset_infos.json",
    "dataset_dict.json", "state.json",
})  # fmt: skip
"""Files that hubdpo and `datasets` write beside the rows."""

MOST_PARTS = 8
"""Words that a name with spaces may have."""
_PAGE = re.compile(
    r"(?P<hub>https?://[^/]+)/datasets/(?P<repo>[^/?#]+/[^/?#]+)"
    r"(?:/viewer[^?#]*|/(?:blob|tree)/(?P<revision>[^/?#]+)(?P<path>/[^?#]+)?)?/?(?:[?#].*)?"
)
"""The address of a page of a dataset, or of a file of it, in a browser."""


def find_sources(
    sources: Sequence[str], scratch: str, encoding: str | None = None, *, described: int = 0, first: int = 0
) -> list[RawFile]:
    """Return the files of all sources, in the order of the sources, and by name within each.

    `encoding` is that of text without a byte order mark, if it is not UTF-8; `described` is the index of the
    description of all these sources, and `first` the number of the first file. stdin is copied to the folder `scratch`.
    Raise DataError if a source is missing, empty, unreadable or of an unknown kind.
    """
    _check_spaces(sources)
    found = [
        replace(file, argument=source, encoding=None if file.kind in TABLES else encoding, described=described)
        for source in sources
        for file in _expand(source, scratch)
    ]
    files = [
        replace(file, number=number, state=state_of(file.original, file.name))
        for number, file in enumerate(found, first)
    ]
    let_clock_tick([file.state for file in files])
    for file in files:
        _check_name(file)
        check_kind(file)
    return files


def _expand(source: str, scratch: str) -> list[RawFile]:
    if source in ("-", "/dev/stdin"):
        copy = storage.join(scratch, "stdin.jsonl")
        with storage.open_write(copy) as stream:
            shutil.copyfileobj(sys.stdin.buffer, stream, BLOCK)
        return [RawFile(copy, STDIN, copy)]
    if source.startswith(DATASETS):
        return _from_hub(source)
    if source.startswith(HUB):
        return _from_other_repo(source)
    if meant := _address_of_page(source):
        raise DataError(f"`{source}` is a page of the Hub, not a file", hint=Instead(source, meant))
    if storage.is_url(source):
        return _from_url(source)
    if not source.strip():
        raise DataError("a source has no name", hint="name a file or a folder; `.` is the folder that you are in")
    path = Path(source)
    if any(config.name == path.name for config in read_configs(path.parent / CARD_FILE)):  # as on the Hub
        return _from_dataset(path.parent, source, path.name)
    if path.is_dir() or (path.name in (CONFIG, ADAPTER_CONFIG) and path.is_file()):
        _refuse_model(path, source)
    if path.is_dir():
        return _from_dataset(path, source)
    if path.exists():
        return [_from_path(path)]
    matches = matching(source)
    if not matches:
        if is_repo_id(source.partition("@")[0]) and not source.lower().endswith(ENDINGS):
            raise DataError(
                f"source not found: {source}; a dataset on the Hub has `{DATASETS}` before its name",
                hint=Instead(source, f"{DATASETS}{source}"),
            )
        raise DataError(f"source not found: {source}", hint=_raw_or_list(source))
    return [_from_path(Path(match)) for match in matches if Path(match).is_file()]


def _address_of_page(source: str) -> str | None:
    page = _PAGE.fullmatch(source)
    if page is None or page["hub"] not in (PUBLIC_HUB, "https://hf.co", hub_address()):
        return None
    revision = f"@{page['revision']}" if page["revision"] not in (None, "main") else ""
    return f"{DATASETS}{page['repo']}{revision}{page['path'] or ''}"


def _check_spaces(sources: Sequence[str]) -> None:
    """Raise DataError for sources that are the parts of one name with spaces, which was not in quotes."""
    for first, source in enumerate(sources):
        parts = sources[first : first + MOST_PARTS] if not os.path.lexists(source) else []
        for number in range(2, len(parts) + 1):
            if os.path.lexists(name := " ".join(parts[:number])):
                problem = f"source not found: {source}; the name `{name}` has spaces, so it needs quotes"
                raise DataError(problem, hint=Instead(name, name))


def _refuse_model(path: Path, source: str) -> None:
    """Raise DataError for a folder that holds a run or a model, and for the configuration of one."""
    what = what_is(path if path.is_dir() else path.parent)
    is_other = what == "model" and not _is_config(path / CONFIG if path.is_dir() else path)
    if what is None or what == "dataset" or is_other:
        return
    problem = f"`{source}` is {A_WHAT[what]}" if path.is_dir() else f"`{source}` is a file of {A_WHAT[what]}"
    raise DataError(f"{problem}, not raw data", hint=_raw_or_list(source))


def _is_config(path: Path) -> bool:
    try:
        return not {"architectures", "model_type"}.isdisjoint(read_object(path))
    except HubdpoError:
        return False


def _raw_or_list(source: str) -> str:
    return raw_instead(source) or f"ls {shlex.quote(str(folder_of(Path(source))))}"


def _from_path(path: Path) -> RawFile:
    """Return a file that was named itself; its folder gives the split only if it is named after one."""
    parent = path.parent.name
    split = split_of(f"{parent}/{path.name}" if is_split_name(parent) else path.name)
    return RawFile(str(path), path.name, str(path), split)


def _from_folder(folder: Path, source: str) -> list[RawFile]:
    paths = [path for path in files_below(folder) if path.name.lower().endswith(ENDINGS)]
    known = {path.relative_to(folder).as_posix(): path for path in paths}
    found = {name: path for name, path in known.items() if _holds_rows(path)}
    if skipped := [name for name in known if name not in found]:
        console.info(f"skipped in {source}, because they hold no rows of their own: {console.listed(skipped)}")
    if not found:
        raise DataError(f"the folder holds no file to read: {source}", hint=READS)
    above = f"{folder.name}/" if is_split_name(folder.name) else ""
    return [RawFile(str(path), name, str(path), split_of(above + name)) for name, path in found.items()]


def _from_dataset(folder: Path, source: str, config_name: str = "") -> list[RawFile]:
    configs = read_configs(folder / CARD_FILE)
    config = choose_config(configs, str(folder), config_name)
    found = _from_folder(folder, source)
    wanted = _declared(found, folder, configs, config)
    if config is not None and not wanted:
        console.warn(f"{source} has no file that its {CARD_FILE} declares, so all its files are read")
        return found
    names = {file.name for file in wanted}
    if config is not None and (others := [file.name for file in found if file.name not in names]):
        console.info(f"not read of {source}, as `{config.name}` does not declare them: {console.listed(others)}")
    return wanted


def _declared(found: list[RawFile], folder: Path, configs: list[HubConfig], config: HubConfig | None) -> list[RawFile]:
    splits = common_splits(configs, folder) if config is None else config.splits(folder)
    wanted = [file for file in found if config is None or file.name in splits]
    return [replace(file, split=splits.get(file.name) or file.split) for file in wanted]


def _holds_rows(path: Path) -> bool:
    """Return whether a file may hold rows of its own: no cached `map` of `datasets`, no link that Emacs locks with."""
    is_cache = path.match("cache-*.arrow") and (path.parent / "dataset_info.json").exists()
    is_lock = path.name.startswith(".#") and path.is_symlink()
    return path.name not in NOT_ROWS and not is_cache and not is_lock


def _from_url(url: str) -> list[RawFile]:
    system, path = storage.filesystem(url)
    is_folder = system.isdir(path)
    pattern = storage.join(path, "**") if is_folder else path
    try:
        found = sorted(name for name in system.glob(pattern) if system.isfile(name))
    except FileNotFoundError:  # a bucket, or a repo of the Hub, that does not exist
        found = []
    if is_folder:
        if isinstance(system, LocalFileSystem):  # its glob skips folders that may not be listed; this one raises
            files_below(Path(path))
        base_names = {name: name.rsplit("/", 1)[-1] for name in found}
        found = [name for name, base in base_names.items() if base.lower().endswith(ENDINGS) and base not in NOT_ROWS]
    if not found:
        raise DataError(f"source not found: {url}", hint="check the address, or quote the glob")
    files = []
    for name in found:
        address = str(system.unstrip_protocol(name))
        inside, base = name.removeprefix(path).lstrip("/"), Path(address).name
        files.append(RawFile(address, base, address, split_of(inside or base)))
    return files


def _from_hub(source: str) -> list[RawFile]:
    from huggingface_hub.utils import filter_repo_objects

    repo, path = resolve_address(source)
    get = partial(download, repo.repo_id, str(repo.revision), repo_type="dataset")
    configs = read_configs(get(allow_patterns=[CARD_FILE]) / CARD_FILE)
    config = choose_config(configs, f"{DATASETS}{repo}", path)
    if config is not None:
        patterns = config.patterns()
    else:
        patterns = [path, f"{path}/*"] if path else [f"*{ending}" for ending in ENDINGS]
    folder = get(allow_patterns=patterns)
    wanted = _declared(_from_folder(folder, source), folder, configs, config)
    if config is None:  # the cached folder may hold other files of the same commit, from earlier downloads
        wanted = list(filter_repo_objects(wanted, allow_patterns=patterns, key=lambda file: file.name))
    if not wanted:
        raise DataError(f"source not found: {source}", hint="check the path against the files of the repo")
    address = f"{DATASETS}{repo}/{path}" if path else f"{DATASETS}{repo}"
    return [replace(file, name=f"{DATASETS}{repo}/{file.name}", address=address) for file in wanted]


def _from_other_repo(source: str) -> list[RawFile]:
    """Return the files of a repo that is not a dataset. Raise HubError if there is none, or if a dataset was meant."""
    from huggingface_hub.utils import parse_hf_uri

    with translate_errors(source):
        uri = parse_hf_uri(source)
        if uri.type != "model":
            return _from_url(source)
        address = source.removeprefix(HUB).removeprefix("models/")  # fsspec knows no `models/`
        if not exists(uri.id, "model") and exists(uri.id, "dataset"):
            raise HubError(f"`{uri.id}` is a dataset", hint=Instead(source, f"{DATASETS}{address}"))
        resolve(uri.id, uri.revision)
        return _from_url(HUB + address)


def _check_name(file: RawFile) -> None:
    """Raise DataError for a name that cannot or must not be recorded."""
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
