"""Read the YAML file of `--config`."""

from __future__ import annotations

import difflib
import shlex
from pathlib import Path
from typing import Any

import yaml

from hubdpo.errors import ConfigError, Instead


class _Twice(ValueError):
    """A key stands twice in a mapping."""


class _Loader(yaml.SafeLoader):
    """Refuses a mapping with a key twice, of which YAML would use the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    message = f"`{key.value}` is given twice, the second time in line {key.start_mark.line + 1}"
                    raise _Twice(message)
                seen.add((key.tag, key.value))
        return node


def _beside(path: Path) -> str | None:
    """Return the YAML file beside a path whose name is nearest, or the only one."""
    stems = {each.stem: each.name for each in path.parent.glob("*.y*ml")} if path.parent.is_dir() else {}
    near = difflib.get_close_matches(path.stem, stems, n=1) or (list(stems) if len(stems) == 1 else [])
    return str(path.with_name(stems[near[0]])) if near else None


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a flat YAML mapping. Raise ConfigError when the file is missing, is not YAML or is not a mapping."""
    hint = "write `beta: 0.1`, one option per line"
    try:
        loaded = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a safe loader
    except FileNotFoundError:
        near = _beside(path)
        hint = Instead(str(path), near) if near else f"ls {shlex.quote(str(path.parent))}"
        raise ConfigError(f"config file not found: {path}", hint=hint) from None
    except _Twice as problem:
        raise ConfigError(f"{problem} of `{path}`", hint="keep one of them") from None
    except (yaml.YAMLError, ValueError, IsADirectoryError, LookupError, AttributeError, TypeError) as problem:
        # PyYAML raises ValueError for an impossible date, and the last three for a tag on a wrong value (`!!bool x`)
        raise ConfigError(f"config file cannot be read: {path}: {' '.join(str(problem).split())}", hint=hint) from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"config file must map option names to values: {path}", hint=hint)
    return loaded
