"""Read the `configs` of a dataset card, in the form of `datasets`: which files belong together, and to which split."""

from __future__ import annotations

import glob
import os
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
from hubdpo.hub.reference import DATASETS

CARD_FILE = "README.md"


@dataclass(frozen=True)
class HubConfig:
    """A configuration: globs of its files, each with its declared split."""

    name: str
    files: tuple[tuple[str, Split | None], ...]
    default: bool

    def patterns(self) -> list[str]:
        """Return the patterns to download: on the Hub `**/` needs a folder, in a card it does not, so both forms."""
        return [form for pattern, _ in self.files for form in (pattern, pattern.replace("**/", ""))]

    def splits(self, folder: Path) -> dict[str, Split | None]:
        """Return the split of each file of the configuration, by its path in a downloaded repo."""
        splits: dict[str, Split | None] = {}
        for pattern, split in self.files:
            for name in sorted(glob.glob(pattern, root_dir=folder, recursive=True)):  # noqa: PTH207 - gives relative names
                if (folder / name).is_file():
                    splits.setdefault(Path(name).as_posix(), split)
        return splits


def read_configs(card: Path) -> list[HubConfig]:
    """Return the configurations of a card; none if the repo has no card, or one that cannot be read."""
    text = read_text(card) if os.access(card, os.R_OK) and card.is_file() else ""
    front = fields(text)
    if not front and (block := part(text).front) is not None and block.strip():
        console.warn(f"the front matter of {card.name} cannot be read, so its configurations are unknown")
    declared = front.get("configs")
    return [
        HubConfig(str(entry["config_name"]), tuple(_files(entry)), bool(entry.get("default")))
        for entry in (declared if isinstance(declared, list) else [])
        if isinstance(entry, dict) and entry.get("config_name")
    ]


def choose_config(configs: list[HubConfig], address: str, path: str) -> HubConfig | None:
    """Return the configuration to read, as `load_dataset` would, or None for all files. Raise DataError if unclear."""
    if path:
        return next((config for config in configs if config.name == path), None)
    if len(configs) < 2:
        return configs[0] if configs else None
    defaults = [config for config in configs if config.default]
    defaults = defaults or [config for config in configs if config.name == "default"]
    if len(defaults) == 1:
        others = ", ".join(_address(config, address) for config in configs if config not in defaults)
        console.info(
            f"`{_name(address)}` has {len(configs)} configurations, and `{defaults[0].name}` is the default; "
            f"not read: {others}"
        )
        return defaults[0]
    raise DataError(
        f"`{_name(address)}` has {len(configs)} configurations, which are different datasets: "
        f"{', '.join(f'`{config.name}`' for config in configs)}",
        hint="name one, or several: " + " ".join(_address(config, address) for config in configs),
    )


def common_splits(configs: Iterable[HubConfig], folder: Path) -> dict[str, Split | None]:
    """Return the split of each file of a downloaded repo on which all its configurations agree."""
    declared: dict[str, set[Split | None]] = {}
    for config in configs:
        for name, split in config.splits(folder).items():
            declared.setdefault(name, set()).add(split)
    return {name: next(iter(splits)) for name, splits in declared.items() if len(splits) == 1}


def _address(config: HubConfig, address: str) -> str:
    return shlex.quote(f"{address}/{config.name}")


def _name(address: str) -> str:
    return address.removeprefix(DATASETS).partition("@")[0] if address.startswith(DATASETS) else Path(address).name


def _files(config: dict[str, Any]) -> Iterator[tuple[str, Split | None]]:
    """Yield the (glob, split) of a configuration; `data_files` may be a path, a list, or a dict by split."""
    folder = str(config.get("data_dir") or "").strip("/")
    declared = config.get("data_files") or "**"
    if isinstance(declared, dict):
        declared = [{"split": split, "path": path} for split, path in declared.items()]
    for item in declared if isinstance(declared, list) else [declared]:
        entry = item if isinstance(item, dict) else {"path": item}
        paths = entry.get("path") or []
        for path in paths if isinstance(paths, list) else [paths]:
            pattern = (f"{folder}/{path}" if folder else str(path)).removeprefix("./")
            if pattern.startswith("/") or ".." in pattern.split("/"):
                console.warn(f"the card names `{shortened(pattern, 100)}`, which is outside the repo and is not read")
                continue
            pattern = re.sub(r"(\*\*/)+", "**/", pattern)  # each repetition would walk the same folders again
            yield pattern, split_of(str(entry.get("split") or "")) or split_of(pattern)
