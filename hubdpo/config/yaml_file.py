"""Read the YAML file of `--config`."""

from __future__ import annotations

import difflib
import shlex
from pathlib import Path
from typing import Any

import yaml

from hubdpo import console
from hubdpo.errors import ConfigError, Instead

RAW = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow")
"""Endings of raw data, which nobody gives to options."""


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


def _not_yaml(path: Path, text: str, problem: yaml.MarkedYAMLError) -> ConfigError:
    """Return the error for a file that is no YAML, with its line and what is wrong there."""
    mark = problem.problem_mark or problem.context_mark
    number = mark.line + 1 if mark is not None else 1
    line = "".join(text.splitlines()[number - 1 : number])
    why = "it begins with white space, and options do not" if line[:1].isspace() else problem.problem or problem.context
    return ConfigError(
        f"config file cannot be read: {path}, line {number}: {why}", hint=f"sed -n {number}p {shlex.quote(str(path))}"
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a flat YAML mapping. Raise ConfigError when the file is missing, is not YAML or is not a mapping."""
    hint = "write `beta: 0.1`, one option per line"
    if path.suffix.lower() in RAW:
        name = shlex.quote(str(path))
        raise ConfigError(
            f"`{path}` is named like raw data, and `--config` takes a YAML file of options",
            hint=f"hubdpo prepare {name} -o {shlex.quote(f'{path.stem}-data')}",
        )
    try:
        text = path.read_text(encoding="utf-8")
        loaded = yaml.load(text, _Loader)  # noqa: S506 - a safe loader
    except FileNotFoundError:
        near = _beside(path)
        hint = Instead(str(path), near) if near else f"ls {shlex.quote(str(path.parent))}"
        raise ConfigError(f"config file not found: {path}", hint=hint) from None
    except _Twice as problem:
        raise ConfigError(f"{problem} of `{path}`", hint="keep one of them") from None
    except IsADirectoryError:
        near = _beside(path)
        raise ConfigError(
            f"`{path}` is a folder, and `--config` takes a YAML file of options",
            hint=Instead(str(path), near) if near else "leave `--config` out",
        ) from None
    except yaml.MarkedYAMLError as problem:
        raise _not_yaml(path, text, problem) from None
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError) as problem:
        # PyYAML raises ValueError for an impossible date, and the last three for a tag on a wrong value (`!!bool x`)
        raise ConfigError(f"config file cannot be read: {path}: {' '.join(str(problem).split())}", hint=hint) from None
    if loaded is None:
        console.warn(f"`{path}` has no options")
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"config file must map option names to values: {path}", hint=hint)
    return loaded
