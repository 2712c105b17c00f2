"""The page of the functions of `import hubdpo`, from their signatures and docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import hubdpo
from tests.reference import commands
from tests.reference.markdown import prose, table

HEAD = """# Python

`import hubdpo` has a function for each command that makes or checks something. Functions are imported at their first
use; editors and type checkers read their signatures in `hubdpo/__init__.pyi`. Options have the names and defaults of
the [commands](commands/index.md), with `_` for `-`. A path may be text or a `Path`.

```python
import hubdpo

print(hubdpo.__version__)
```

Progress and warnings go to stderr, in a notebook to the output of the cell. A function raises a `HubdpoError`, with
the attributes `message` and `hint`, for everything that a user can cause or meet: see [Exit codes](exit-codes.md) for
the classes. Interrupted work that can be continued raises `hubdpo.errors.Stopped`, a `KeyboardInterrupt`, whose
`hint` is the command for it.
"""


def page() -> str:
    """Return the page."""
    names = [name for name in hubdpo.__all__ if name != "__version__"]
    rows = [(f"[`hubdpo.{name}`](#hubdpo{name})", prose(_paragraphs(name)[0])) for name in names]
    return "\n\n".join([HEAD.rstrip(), table(["function", "what it does"], rows), *map(_section, names)]) + "\n"


def _section(name: str) -> str:
    return "\n\n".join(_parts(name))


def _parts(name: str) -> Iterator[str]:
    function = getattr(hubdpo, name)
    signature = inspect.signature(function)
    has_model = commands.model_of(name) is not None
    returns = inspect.signature(getattr(function, "__wrapped__", function)).return_annotation
    yield f"## hubdpo.{name}"
    parameters = [p for p in signature.parameters.values() if not has_model or p.kind is p.POSITIONAL_OR_KEYWORD]
    shown = [_parameter(p) for p in parameters] if not has_model else [p.name for p in parameters]
    if has_model:
        shown.append("**options")
    elif any(p.kind is p.KEYWORD_ONLY for p in parameters):
        shown.insert(next(i for i, p in enumerate(parameters) if p.kind is p.KEYWORD_ONLY), "*")
    yield f"```text\nhubdpo.{name}({', '.join(shown)}) -> {returns}\n```"
    yield from map(prose, _paragraphs(name))
    if has_model:
        yield f"The options are those of [`hubdpo {name}`](commands/{name}.md), or `config=` takes all of them at once."


def _parameter(parameter: inspect.Parameter) -> str:
    default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
    return f"{parameter.name}: {parameter.annotation}{default}"


def _paragraphs(name: str) -> list[str]:
    """Return the paragraphs of a docstring, without the list of options."""
    text = re.split(r"^Options, or one ", inspect.getdoc(getattr(hubdpo, name)) or "", flags=re.MULTILINE)[0]
    return [" ".join(part.split()) for part in text.strip().split("\n\n")]
