"""The generated pages say what the code says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pydantic

import hubdpo
from hubdpo.cli.command import MODELS
from tests.reference import commands, exit_codes
from tests.reference.pages import REFERENCE, pages

PACKAGE = Path(hubdpo.__file__).parent
PYDANTIC_IS_PINNED = f"pydantic=={pydantic.VERSION}\n" in (PACKAGE.parent / "constraints.txt").read_text(
    encoding="utf-8"
)
WITHOUT_SCHEMAS = {name for name in pages() if not name.startswith(("schemas/", "manifests"))}
"""Pages that do not depend on how a version of pydantic words its schemas."""


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


def test_every_key_that_a_command_prints_as_json_is_on_its_page() -> None:
    for name in commands.names():
        printed = _keys_of_results(name.replace("-", "_"))
        told = set(re.findall(r"`(\w+)`", commands.RESULTS[name]["json"]))
        assert printed - told == set(), name


def _keys_of_results(function: str) -> set[str]:
    """Return the keys of the dicts that a command, or a function of its module that it is made of, hands over."""
    for path in sorted((PACKAGE / "cli").glob("*.py")):
        bodies = {node.name: node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
        if function in bodies:
            own = [bodies[function]]
            if function == "serve_hub":
                own += [bodies[name] for name in ("_serve", "_collect_garbage", "_list_tokens", "_revoke")]
            calls = [
                node
                for body in own
                for node in ast.walk(body)
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "result"
            ]
            dicts = [call.args[1] for call in calls if len(call.args) > 1 and isinstance(call.args[1], ast.Dict)]
            return {str(key.value) for given in dicts for key in given.keys if isinstance(key, ast.Constant)}
    raise AssertionError(f"no function of the command line is called {function}")


def test_the_page_of_exit_codes_has_every_error() -> None:
    shown = exit_codes.page()
    assert [
        kind.__name__ for kind in exit_codes.classes() if f"| {kind.exit_code} | `{kind.__name__}`" not in shown
    ] == []
