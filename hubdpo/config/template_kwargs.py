"""`--chat-template-kwargs`: what a chat template is given beside the messages, as TRL names it."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BeforeValidator

from hubdpo.config.base import Unfit

HELP = """Defaults for the chat template, such as enable_thinking=false or '{"enable_thinking": false}'."""
METAVAR = "JSON|NAME=VALUE"
_HINT = "--chat-template-kwargs enable_thinking=false"


def read_template_kwargs(value: Any) -> Any:
    """Read a JSON object, or NAME=VALUE parted by commas, each value JSON or a word; Python and YAML give a mapping."""
    if isinstance(value, str):
        value = _from_json(value) if value.lstrip().startswith("{") else dict(map(_pair, value.split(",")))
    if isinstance(value, dict):
        for name in value:
            if not str(name).isidentifier():
                raise Unfit(f"`{name}` is no name of a variable", hint=_HINT)
    return value or None


TemplateKwargs = Annotated[dict[str, Any] | None, BeforeValidator(read_template_kwargs)]


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise Unfit("this is no JSON object", hint=_HINT) from None


def _pair(part: str) -> tuple[str, Any]:
    name, equals, value = part.partition("=")
    if not equals:
        raise Unfit(f"`{part}` is no NAME=VALUE", hint=_HINT)
    try:
        return name.strip(), json.loads(value)
    except ValueError:
        return name.strip(), value.strip()
