"""Read the YAML file of `--config`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from hubdpo.errors import ConfigError


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


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a flat YAML mapping. Raise ConfigError when the file is missing, is not YAML or is not a mapping."""
    hint = "write `beta: 0.1`, one option per line"
    try:
        loaded = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a safe loader
    except FileNotFoundError:
        raise ConfigError(f"config file not found: {path}", hint="check the path after `--config`") from None
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
