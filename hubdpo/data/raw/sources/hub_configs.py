"""The configurations that the card of a Hub data set declares: which files are rows of one set, and of which split.

The form of `configs` in the card is that of `datasets` ("Structure your repository" in the documentation of the Hub).
"""

from __future__ import annotations

import glob
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubdpo import console
from hubdpo.artefacts.formats.bounded import read_text, shortened
from hubdpo.artefacts.formats.front_matter import fields, part
from hubdpo.data.raw.split_names import Split, split_of
from hubdpo.errors import DataError
from hubdpo.hub.reference import DATASETS, RepoRef

CARD_FILE = "README.md"


@dataclass(frozen=True)
class HubConfig:
    """One of the sets in a repo: globs of its files, each with the split that it is declared to be."""

    name: str
    files: tuple[tuple[str, Split | None], ...]
    default: bool

    def patterns(self) -> list[str]:
        """Return what to download; `**/` stands for no folder as well."""
        return [form for pattern, _ in self.files for form in (pattern, pattern.replace("**/", ""))]

    def splits(self, folder: Path) -> dict[str, Split | None]:
        """Return the files of a downloaded repo that belong to it, each with its split."""
        found: dict[str, Split | None] = {}
        for pattern, split in self.files:
            for name in sorted(glob.glob(pattern, root_dir=folder, recursive=True)):  # noqa: PTH207 - gives relative names
                if (folder / name).is_file():
                    found.setdefault(Path(name).as_posix(), split)
        return found


def read_configs(card: Path) -> list[HubConfig]:
    """Return what a card declares; nothing for a repo without a card, or with one that cannot be read."""
    text = read_text(card) if card.is_file() else ""
    front = fields(text)
    if not front and (block := part(text).front) is not None and block.strip():
        console.warn(f"the front matter of {card.name} cannot be read, so no configuration is known from it")
    declared = front.get("configs")
    return [
        HubConfig(str(one["config_name"]), tuple(_files(one)), bool(one.get("default")))
        for one in (declared if isinstance(declared, list) else [])
        if isinstance(one, dict) and one.get("config_name")
    ]


def choose(configs: list[HubConfig], repo: RepoRef, path: str) -> tuple[HubConfig | None, str]:
    """Return the configuration to read, None for all files, and the path that is left of an address.

    As in `load_dataset`, one of several is taken when it is named, or when it is the default. Raise DataError when
    nothing tells which.
    """
    if path:
        named = next((one for one in configs if one.name == path), None)
        return named, "" if named else path
    if len(configs) < 2:
        return (configs[0] if configs else None), ""
    defaults = [one for one in configs if one.default] or [one for one in configs if one.name == "default"]
    others = [one for one in configs if one not in defaults]
    if len(defaults) == 1:
        console.info(
            f"`{repo.repo_id}` has {len(configs)} configurations, and `{defaults[0].name}` is the default; not read: "
            + ", ".join(_address(one, repo) for one in others)
        )
        return defaults[0], ""
    raise DataError(
        f"`{repo.repo_id}` has {len(configs)} configurations, which are different sets: "
        f"{', '.join(f'`{one.name}`' for one in configs)}",
        hint="name one, or several: " + " ".join(_address(one, repo) for one in configs),
    )


def declared_splits(configs: Iterable[HubConfig], folder: Path) -> dict[str, Split | None]:
    """Return the split of each file of a downloaded repo for which all configurations that have it declare the same."""
    found: dict[str, set[Split | None]] = {}
    for config in configs:
        for name, split in config.splits(folder).items():
            found.setdefault(name, set()).add(split)
    return {name: next(iter(splits)) for name, splits in found.items() if len(splits) == 1}


def _address(config: HubConfig, repo: RepoRef) -> str:
    return shlex.quote(f"{DATASETS}{repo}/{config.name}")


def _files(config: dict[str, Any]) -> Iterator[tuple[str, Split | None]]:
    folder = str(config.get("data_dir") or "").strip("/")
    declared = config.get("data_files") or "**"
    if isinstance(declared, dict):
        declared = [{"split": split, "path": path} for split, path in declared.items()]
    for one in declared if isinstance(declared, list) else [declared]:
        entry = one if isinstance(one, dict) else {"path": one}
        paths = entry.get("path") or []
        for path in paths if isinstance(paths, list) else [paths]:
            pattern = (f"{folder}/{path}" if folder else str(path)).removeprefix("./")
            if pattern.startswith("/") or ".." in pattern.split("/"):
                console.warn(f"the card names `{shortened(pattern, 100)}`, which leads out of the repo and is not read")
                continue
            pattern = re.sub(r"(\*\*/)+", "**/", pattern)  # many walk the same folders again and again
            yield pattern, split_of(str(entry.get("split") or "")) or split_of(pattern)
