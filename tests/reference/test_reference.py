"""The generated pages say what the code says."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path

import pydantic

import hubdpo
from hubdpo.artefacts.manifests.bundle import Release
from hubdpo.cli.command import MODELS
from hubdpo.model.export.export import Exported
from hubdpo.release.diff.diff import Diff
from hubdpo.release.inspect import Inspection
from hubdpo.release.list import Listed
from hubdpo.release.verify.verify import Verified
from tests.reference import commands, exit_codes
from tests.reference.pages import REFERENCE, pages

PACKAGE = Path(hubdpo.__file__).parent
PYDANTIC_IS_PINNED = f"pydantic=={pydantic.VERSION}\n" in (PACKAGE.parent / "constraints.txt").read_text(
    encoding="utf-8"
)
WITHOUT_SCHEMAS = {name for name in pages() if not name.startswith(("schemas/", "manifests"))}
"""Pages that do not depend on how a version of pydantic words its schemas."""
PARTS = {
    "serve-hub": ["_serve", "_collect_garbage", "_list_tokens", "_revoke"], "doctor": ["_device", "_hub"],
    "demo": ["_say_how_to_go_on", "main"],
}  # fmt: skip
"""Further functions that make what a command prints with `--json`."""
MODULES = [*sorted((PACKAGE / "cli").glob("*.py")), PACKAGE / "demo" / "road.py", PACKAGE / "demo" / "reader.py"]
PARSED = [node for path in MODULES for node in ast.parse(path.read_text()).body]
FUNCTIONS = {node.name: node for node in PARSED if isinstance(node, ast.FunctionDef)}
OF_OBJECTS: dict[str, set[str]] = {
    "push": {
        str(ast.literal_eval(item))
        for node in ast.walk(FUNCTIONS["push"])
        if isinstance(node, ast.Set)
        for item in node.elts
    },
    "verify": set(Verified.model_fields) - set(Release.model_fields),
    "versions": {field.name for field in fields(Listed)},
    "diff": {field.name for field in fields(Diff)},
    "inspect": set(Inspection("", "dataset", None, {}, []).as_dict()),
    "export": {field.name for field in fields(Exported)},
}
"""Keys of the objects that a command prints, beside those of a manifest."""


def test_the_generated_pages_are_fresh() -> None:
    made = {name: text for name, text in pages().items() if name in WITHOUT_SCHEMAS or PYDANTIC_IS_PINNED}
    stale = [name for name, text in made.items() if not _is(REFERENCE / name, text)]
    assert stale == [], "make reference"


def _is(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


def test_no_page_is_left_of_a_command_that_is_gone() -> None:
    assert {path.stem for path in (REFERENCE / "commands").glob("*.md")} == {*commands.names(), "index"}


def test_a_page_names_every_option_of_its_command() -> None:
    for name in commands.names():
        page = commands.page(name)
        for parameter in commands.COMMANDS[name].params:
            flags = [*parameter.opts, *parameter.secondary_opts] if parameter.param_type_name == "option" else []
            assert [flag for flag in flags if f"`{flag}`" not in page] == [], name


def test_a_page_names_every_key_of_its_config_model() -> None:
    for name, model in MODELS.items():
        page = commands.page(name.replace("_", "-"))
        for key in model.model_fields:
            cli = model.cli(key)
            shown = key if cli.file_only else cli.metavar if cli.argument else "--" + key.replace("_", "-")
            assert f"`{shown}`".replace("|", "\\|") in page, (name, key)


def test_every_option_has_a_description() -> None:
    for name in commands.names():
        for parameter in commands.COMMANDS[name].params:
            assert parameter.help, (name, parameter.name)
    for name, model in MODELS.items():
        assert [key for key, field in model.model_fields.items() if not field.description] == [], name


def test_the_page_of_a_command_has_the_keys_that_it_prints_as_json_and_no_others() -> None:
    for name in commands.names():
        told = set(re.findall(r"`(\w+)`", commands.RESULTS[name]["json"]))
        assert told == _keys_in_functions(name) | OF_OBJECTS.get(name, set()), name


def _keys_in_functions(name: str) -> set[str]:
    """Return the keys of the dicts in the function of a command, and in those of its module that make its result."""
    others, keys = PARTS.get(name, []), set[str]()
    for function in [name.replace("-", "_"), *others]:
        body = FUNCTIONS[function]
        keys |= {
            str(key.value)
            for node in ast.walk(body)
            if isinstance(node, ast.Dict)
            for key in node.keys
            if isinstance(key, ast.Constant) and str(key.value).isidentifier()
        }
    return keys


def test_the_page_of_exit_codes_has_every_error() -> None:
    shown = exit_codes.page()
    assert [
        kind.__name__ for kind in exit_codes.classes() if f"| {kind.exit_code} | `{kind.__name__}`" not in shown
    ] == []
