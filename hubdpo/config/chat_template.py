"""`--chat-template`, a Jinja file or the name of a format whose template comes with hubdpo, and its variables."""

from __future__ import annotations

import difflib
import hashlib
import json
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator

from hubdpo.config.base import Cli, Unfit, Values
from hubdpo.config.name_values import json_object

SHIPPED = Path(__file__).with_name("chat_templates")
NAMES = tuple(sorted(path.stem for path in SHIPPED.glob("*.jinja")))
HELP = f"Chat template for a base without one, or in place of its own: a Jinja file, or {', '.join(NAMES)}."
KWARGS_HELP = """Variables for the chat template, such as enable_thinking=false or '{"enable_thinking": false}'."""
_KWARGS_HINT = "--chat-template-kwargs enable_thinking=false"
MOST_BYTES = 2**20
_HASH = "sha256:"
_IN_A_RELEASE = "chat_template.jinja"


def read_chat_template(value: object) -> object:
    """Return the name of a format or the path of a file, as text. Raise Unfit where it is neither."""
    if value is None or value in NAMES:
        return value
    path = Path(str(value))
    if len(str(value)) > 1000 or not path.is_file():
        near = difflib.get_close_matches(str(value), NAMES, n=1) or ["chatml"]
        raise Unfit(
            f"`{value}` is neither a Jinja file nor a format ({', '.join(NAMES)})", hint=f"--chat-template {near[0]}"
        )
    source_of(str(path))
    return str(path)


ChatTemplate = Annotated[
    str | None, BeforeValidator(read_chat_template), Cli(metavar="FILE|NAME", call_type=str | Path | None)
]


def source_of(value: str) -> str:
    """Return the Jinja source of a format or a file; a source is kept. Raise Unfit for a file that is none."""
    if value in NAMES:
        return (SHIPPED / f"{value}.jinja").read_text(encoding="utf-8")
    if "{{" in value or "{%" in value:
        return value
    with Path(value).open("rb") as stream:
        data = stream.read(MOST_BYTES + 1)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if len(data) > MOST_BYTES or "{" not in text:
        raise Unfit(f"`{value}` is no chat template", hint="give a Jinja file of at most 1 MB, in UTF-8")
    return text


def recorded(value: str | None) -> str | None:
    """Return what manifests have: the name of a format, or the hash of a file in place of its path."""
    if value is None or value in NAMES:
        return value
    return _HASH + hashlib.sha256(source_of(value).encode()).hexdigest()[:16]


def to_type(value: str) -> str:
    """Return what to type for a recorded template: its name, or the file that a release has."""
    return _IN_A_RELEASE if value.startswith(_HASH) else value


def read_template_kwargs(value: object) -> object:
    """Parse a JSON object, or NAME=VALUE pairs separated by commas, each value JSON or a word. A mapping is kept."""
    if isinstance(value, str):
        is_json = value.lstrip().startswith("{")
        value = json_object(value, hint=_KWARGS_HINT) if is_json else dict(map(_pair, value.split(",")))
    if isinstance(value, dict):
        for name in value:
            if not str(name).isidentifier():
                raise Unfit(f"`{name}` is not a variable name", hint=_KWARGS_HINT)
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise Unfit("it holds a value that JSON cannot, and options are recorded", hint=_KWARGS_HINT) from None
    return value or None


TemplateKwargs = Annotated[Values | None, BeforeValidator(read_template_kwargs), Cli(metavar="JSON|NAME=VALUE")]


def _pair(part: str) -> tuple[str, object]:
    name, equals, value = part.partition("=")
    if not equals:
        raise Unfit(f"`{part}` is not NAME=VALUE", hint=_KWARGS_HINT)
    try:
        return name.strip(), json.loads(value)
    except ValueError:
        return name.strip(), value.strip()
