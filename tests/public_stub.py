"""Write hubdpo/__init__.pyi, the signatures that editors and type checkers read: `python -m tests.public_stub`."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ForwardRef, Literal, Union, get_args, get_origin

import hubdpo
from hubdpo import _MODULES
from hubdpo import __all__ as PUBLIC

STUB = Path(hubdpo.__file__).with_name("__init__.pyi")
HEADER = """# written by `python -m tests.public_stub` from the config models
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
"""


def stub() -> str:
    """Return the text of the stub: the options of the functions that have a config, and the other functions as imports.

    A call with a config is left out: with overloads, a type checker answers every mistake with all of both signatures.
    """
    imports, functions = [], []
    for name in PUBLIC:
        if name == "__version__":
            imports.append("from hubdpo.version import __version__ as __version__")
            continue
        function = getattr(hubdpo, name)
        if not hasattr(function, "__signature__"):
            imports.append(f"from {_MODULES[name]} import {name} as {name}")
            continue
        annotation = function.__wrapped__.__annotations__["return"]
        returns = annotation.removesuffix(" | None")
        imports.append(f"from {inspect.getmodule(function.__wrapped__).__dict__[returns].__module__} import {returns}")
        # None stands for `explain` alone: a caller need not rule it out
        functions.append(f"def {name}({_parameters(function)}) -> {annotation.replace('None', 'Any')}: ...\n")
    return _formatted("\n".join([HEADER, *sorted(set(imports)), *functions]))


def _parameters(function: Callable[..., Any]) -> str:
    parameters, star = [], False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            parameters.append("*")
            star = True
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        parameters.append(f"{parameter.name}: {_type(parameter.annotation)}{default}")
    return ", ".join(parameters)


def _type(annotation: Any) -> str:
    """Spell a type as source: `int | Literal["auto"] | None`."""
    if annotation in (None, NoneType):
        return "None"
    if isinstance(annotation, ForwardRef):
        return annotation.__forward_arg__
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return " | ".join(map(_type, arguments))
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    name = getattr(origin or annotation, "__name__", "Any")
    return f"{name}[{', '.join(map(_type, arguments))}]" if arguments else name


def _formatted(text: str) -> str:
    for command in (["check", "--select", "I,F401", "--fix", "--quiet"], ["format", "--quiet"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(STUB), "-"],
            input=text, capture_output=True, text=True, cwd=STUB.parents[1],
        )  # fmt: skip
        text = done.stdout
    return text


if __name__ == "__main__":
    STUB.write_text(stub(), encoding="utf-8")
